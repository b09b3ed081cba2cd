# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of one pod: made, watched, lost, and taken down again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from minipod.errors import MinipodError
from minipod.plan import SANDBOX_KEY, compile_sandbox
from minipod.pods import backoff, claims, hostports, resolve
from minipod.pods.containers import Containers
from minipod.pods.core import PodCore
from minipod.pods.timeline import StartLog
from minipod.runtime.shim import Process, Shim

CLAIMS_LOOK = 300.0  # seconds; for nothing but safety, as every change of a claim is heard
SANDBOX_TIMEOUT = 60.0  # seconds; it takes milliseconds, unless something in it is held


class Sandbox:
    """Makes a pod's sandbox and takes it down.

    Attributes:
        next_try: when it is to be made again, after it could not be.
        asked: ``time.monotonic()`` of the request that brought the pod, until its first sandbox is made.
    """

    def __init__(self, core: PodCore, containers: Containers, asked: float | None = None) -> None:
        self._core = core
        self._containers = containers
        self._lost = ""  # why the sandbox is gone, until that has been dealt with
        self.next_try = 0.0
        self.asked = asked

    # ---- making ----

    async def make(self) -> None:
        """Make the sandbox, unless it is not yet time to try again."""
        core, record = self._core, self._core.record
        if self._must_wait() or core.now() < self.next_try:
            return
        record.sandbox += 1
        start = core.timeline.begin("", record.sandbox, record.sandbox)
        began = self._tell_acceptance(start)
        record.boot = core.tools.runtime.facts.boot
        pool = core.tools.pool
        pool.release(core.uid)  # what an agent that died in the middle of this may have taken
        record.address = "" if core.pod.spec.host_network else pool.allocate(core.uid)
        pod = core.with_resources()
        core.tools.demands.enter(pod)
        core.forget_context()
        try:
            images = resolve.volume_images(core.pod, core.tools.images)
            record.volume_images = {name: image.id for name, image in images.items()}
            self._containers.rewind()
            core.save()
            context = resolve.with_images(core.context(), images)
            for words in context.warnings:
                core.event("Warning", "DNSConfigForming", words)
            servers = await claims.connect_nfs(core.tools.storage, core.pod)
            context = replace(context, nfs=servers)
            steps = compile_sandbox(pod, context, core.tools.runtime.facts)
            start.add(
                "prepare",
                "take an address, find volumes, write the record, compile the plan",
                began,
            )
            async with asyncio.timeout(SANDBOX_TIMEOUT):
                _, pause = await core.tools.runtime.make_sandbox(
                    steps, core.origin("sandbox", start), self.adopt
                )
        except (MinipodError, TimeoutError) as error:
            record.sandbox_failures += 1
            words = str(error) or f"not done after {SANDBOX_TIMEOUT:.0f} s"
            failed = isinstance(error, claims.MountFailed)
            core.event("Warning", "FailedMount" if failed else "FailedCreatePodSandBox", words)
            await self.remove()
            delay = min(backoff.MAXIMUM, backoff.INITIAL * 2 ** (record.sandbox_failures - 1))
            self.next_try = core.now() + delay
            return
        self._containers.messages.attach(pause.pid)
        record.sandbox_up = True
        record.sandbox_failures = 0

    def _tell_acceptance(self, start: StartLog) -> int:
        """Note how long the request took that brought the pod, with its first sandbox; return the time."""
        now = time.monotonic_ns()
        if self.asked is not None:
            start.add("accept", "read, check and store the manifest", int(self.asked * 1e9), now)
            self.asked = None
        return now

    def _must_wait(self) -> bool:
        """Whether the pod's claims are not ready; their changes wake the worker."""
        core, record = self._core, self._core.record
        waited, record.waits_for = record.waits_for, claims.unmet(core.tools.storage, core.pod)
        if record.waits_for:
            self.next_try = core.now() + CLAIMS_LOOK
            if record.waits_for != waited:
                core.event("Warning", "FailedScheduling", record.waits_for)
        elif waited:
            self.next_try = 0.0
        return bool(record.waits_for)

    def adopt(self, shim: Shim) -> None:
        """Take *shim* for the present sandbox's."""
        self._core.shim = shim
        self.listen(shim)
        self._core.spawn(self._watch(shim))

    def listen(self, shim: Shim) -> None:
        """Hear what *shim* tells."""
        shim.on_exit = self._on_exit
        shim.on_started = self._containers.on_started
        shim.on_failed = self._containers.on_failed

    async def _watch(self, shim: Shim) -> None:
        await shim.closed.wait()
        if self._core.shim is shim:
            self.lose("its shim is gone")

    def _on_exit(self, process: Process) -> None:
        if process.key == SANDBOX_KEY:
            self.lose("its pause process ended")
        else:
            self._containers.on_exit(process)

    # ---- losing ----

    def lose(self, why: str) -> None:
        """Note that the sandbox is gone; :meth:`settle_loss` does the rest."""
        self._lost = why
        self._core.wake.set()

    async def settle_loss(self) -> None:
        """If the sandbox has died, and all containers with it: whether there is another is for the restart policy."""
        core = self._core
        if core.record.sandbox_up and core.shim is None:
            self._lost = self._lost or "it could not be taken down before"
        why, self._lost = self._lost, ""
        if not why or not core.record.sandbox_up or core.deleting:
            return
        words = f"Pod sandbox changed, it will be killed and re-created: {why}"
        core.event("Normal", "SandboxChanged", words)
        await self.remove()
        for record in core.record.containers:
            if record.state in ("running", "starting"):
                self._containers.lost(record)

    # ---- taking down ----

    async def remove(self) -> None:
        """Take down whatever there is of the sandbox; the pod's volumes and logs stay."""
        await self.end()
        self.release_address()

    def release_address(self) -> None:
        """Give the address back."""
        # The record may not know of it: see make().
        self._core.tools.pool.release(self._core.uid)
        self._core.record.address = ""

    async def end(self) -> None:
        """End all that runs in the sandbox, and remove it from the host."""
        core, record = self._core, self._core.record
        await self._containers.cancel_starts()
        shim, core.shim = core.shim, None
        link = hostports.link_of(core.tools.config, core.pod, record.address)
        if record.sandbox >= 0:
            await core.tools.runtime.remove_sandbox(core.run_dir, core.cgroup, shim, link)
            core.tools.demands.leave(core.uid)
        self._containers.messages.close()
        record.sandbox_up = False
