# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's verbs that look into a pod: debug adds a container to it, attach connects with one that runs.

And files opens a container's root.
"""

from __future__ import annotations

import os
from typing import Any

from minipod.agent.server import Call, Handler
from minipod.api import defaulted, load_ephemeral, member
from minipod.errors import MinipodError, UsageError
from minipod.plan import process_key
from minipod.plan.command import argv
from minipod.plan.privileges import working_dir
from minipod.pods import pulling
from minipod.pods.manager import PodManager
from minipod.pods.order import LIVE
from minipod.runtime.podroot import process_root


class Debug:
    """Answers requests that look into pods with containers of their own."""

    def __init__(self, manager: PodManager) -> None:
        self._manager = manager

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that are answered here."""
        return {"debug": self.debug, "attach": self.attach, "files": self.files}

    async def debug(self, call: Call) -> dict[str, Any]:
        """Add the container that ``container`` describes, an EphemeralContainer as JSON.

        It is what Kubernetes' ``pods/ephemeralcontainers`` takes.
        """
        worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
        container = load_ephemeral(call.text("container"), "container", worker.pod)
        # At once, so that whoever asks hears what is wrong; by its policy it is got when it starts.
        policy = "Never" if container.image_pull_policy == "Never" else "IfNotPresent"
        image = await pulling.get_image(worker.core, container.image, policy)
        load_ephemeral(call.text("container"), "container", worker.pod)  # nobody was as fast
        if not argv(container, image.config.entrypoint, image.config.cmd, {}):
            raise UsageError(
                f"image {container.image} does not say what to execute", "name it: -- COMMAND"
            )
        worker.add_ephemeral(container)
        return {"pod": worker.name, "container": container.name}

    async def attach(self, call: Call) -> dict[str, Any]:
        """Copy what a container writes to the two pipes that came along, until it ends; send what feeds its stdin."""
        worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
        if len(call.fds) != 2:
            raise UsageError("an attach needs two pipes")
        record, _, _, shim = worker.running(call.request.get("container"))
        container = member(worker.pod, record.name).container
        if not call.request.get("container"):
            await call.note(defaulted(worker.pod))
        wants_stdin = bool(call.request.get("stdin"))
        if wants_stdin and not container.stdin:
            raise UsageError(
                f"container {record.name} of pod {worker.name} has no stdin",
                "set stdin: true in its manifest, or attach without -i",
            )
        key = process_key(record.name, record.attempt)
        attempt = record.attempt
        feed = await shim.attach(key, *call.fds)
        for fd in call.fds:
            os.close(fd)
        call.fds.clear()
        try:
            if wants_stdin and container.stdin_once:
                await shim.end_stdin(key)
            passed = [feed] if feed >= 0 and (wants_stdin or container.tty) else []
            await call.event({"started": True, "tty": container.tty}, passed)
        finally:
            if feed >= 0:
                os.close(feed)
        while record.attempt == attempt and record.state in LIVE and not worker.gone.is_set():
            await worker.changed()
        ended = record.ended
        return {"exitCode": ended.exit_code if ended else 137}

    async def files(self, call: Call) -> dict[str, Any]:
        """Send an fd of a running container's root, and who its user is, for ``minipod cp``.

        What is in there is hostile: see ``runtime/copying.py``. The agent itself touches none of it.
        """
        worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
        record, run, context, shim = worker.running(call.request.get("container"))
        if not call.request.get("container"):
            await call.note(defaulted(worker.pod))
        user = {
            "uid": context.outside(run.uid),
            "gid": context.outside(run.gid),
            "groups": [context.outside(group) for group in run.groups],
            "cwd": working_dir(member(worker.pod, record.name).container, run),
        }
        key = process_key(record.name, record.attempt)
        try:
            async with process_root(shim, key) as root:
                await call.event(user, [root])
        except OSError as error:
            raise MinipodError(f"container {record.name} of pod {worker.name}: {error}") from error
        return {}
