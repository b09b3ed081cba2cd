# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of one pod's worker share: the pod, its record, its shim, and the ways to tell the world."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace

import msgspec

from minipod.api import Container, Member, Pod, member, to_dict
from minipod.errors import MinipodError
from minipod.plan import PodContext, container_cgroup, pod_cgroup
from minipod.pods import claims, resolve
from minipod.pods.order import TERMINAL
from minipod.pods.ports import Tools
from minipod.pods.record import ContainerRecord, PodRecord
from minipod.pods.timeline import StartLog, Timeline
from minipod.runtime.runtime import Origin
from minipod.runtime.shim import Shim

log = logging.getLogger(__name__)


class PodCore:
    """One pod, as its worker's parts see it.

    Attributes:
        pod, record: what should be; both change only on the agent's event loop.
        tools: what all workers share.
        shim: the connection to the sandbox's shim, while there is one.
        wake: set when the worker has to look again.
        timeline: how long the steps of its starts took.
    """

    def __init__(self, pod: Pod, record: PodRecord, tools: Tools) -> None:
        self.pod = pod
        self.record = record
        self.tools = tools
        self.shim: Shim | None = None
        self.wake = asyncio.Event()
        self._context: PodContext | None = None
        self._changed = asyncio.Event()
        self._background: set[asyncio.Future[None]] = set()
        self._saved: dict[str, object] = {}
        self.timeline = Timeline(tools.traces, lambda: self.directory, tools.runtime.facts.boot)

    @property
    def name(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.pod.metadata.namespace}/{self.pod.metadata.name}"

    @property
    def uid(self) -> str:
        """Return the pod's uid."""
        return self.pod.metadata.uid

    @property
    def deleting(self) -> bool:
        """Whether the pod is being deleted."""
        return self.record.delete_by is not None

    @property
    def rebooted(self) -> bool:
        """Whether the machine was started anew since the present or last sandbox was made: nothing of it is left."""
        return self.record.boot not in ("", self.tools.runtime.facts.boot)

    def now(self) -> float:
        """Return the time of day, in seconds since the epoch."""
        return self.tools.wall()

    def spec(self, name: str) -> Container:
        """Return what the manifest says of container *name*."""
        return member(self.pod, name).container

    def member(self, name: str) -> Member:
        """Return container *name* with its place in the pod."""
        return member(self.pod, name)

    def with_resources(self, which: str = "allocated") -> Pod:
        """Return the pod with the resources that its containers were granted (or ``applied``: that they have).

        It is the pod itself where these are what the spec says.
        """
        differs = {
            record.name: resources
            for record in self.record.containers
            if (resources := getattr(record, which)) is not None
            and resources != self.spec(record.name).resources
        }
        if not differs:
            return self.pod
        result = msgspec.convert(msgspec.to_builtins(self.pod), Pod)
        for name, resources in differs.items():
            member(result, name).container.resources = resources
        return result

    # ---- telling ----

    def save(self) -> None:
        """Write pod and record when they differ from what was written last."""
        now = {"pod": to_dict(self.pod), "record": msgspec.to_builtins(self.record)}
        now["pod"].get("metadata", {}).pop("resourceVersion", None)
        if now != self._saved:
            self._saved = now
            self.tools.store.save(self.pod, self.record)
            if self.pod.status.phase in TERMINAL:
                self.tools.storage.look_again()
        self.tell()

    def tell(self) -> None:
        """Wake those who wait for a change of the record."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until the pod's record changes."""
        await self._changed.wait()

    def event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Tell that something happened to the pod, or to one of its containers; *kind* is Normal or Warning."""
        path = member(self.pod, container).event_path if container else ""
        try:
            self.tools.store.event(self.pod, kind, reason, message, path)
        except MinipodError as error:
            # A full disk, say: what is told about a pod must not keep it from being deleted.
            log.warning("pod %s: event %s: %s (%s)", self.name, reason, message, error)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run *work* beside the worker; it ends on its own."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # ---- names and places ----

    def context(self) -> PodContext:
        """Return the decisions about the present sandbox; found anew by an agent that has come back.

        Raises:
            MinipodError: a host path has vanished, say.
        """
        if self._context is None:
            record = self.record
            found = resolve.pod_context(
                self.tools.config,
                self.tools.cgroup_parent,
                self.pod,
                record.sandbox,
                record.address,
                self.tools.demands.total(),
            )
            placed = claims.place(self.tools.storage, self.pod)
            self._context = replace(
                found,
                places=placed.places,
                devices=placed.devices,
                users=None if self.pod.spec.host_users else self.tools.user_ids.of(self.uid),
            )
        return self._context

    def forget_context(self) -> None:
        """Decide anew when asked next: for another sandbox."""
        self._context = None

    def origin(self, whose: str, start: StartLog | None = None) -> Origin:
        """Return the words for a failure in the plan of *whose* part, and who notes its times."""
        watch = start if start and start.is_on else None
        return Origin(f"pod {self.name}, {whose}", self.record.lines, self.record.source, watch)

    @property
    def directory(self) -> str:
        """Return the pod's persistent directory."""
        return resolve.pod_directories(self.tools.config, self.pod)[0]

    @property
    def log_dir(self) -> str:
        """Return the directory of the pod's logs, ``<container>/<attempt>.log`` below it."""
        return resolve.pod_directories(self.tools.config, self.pod)[1]

    @property
    def run_dir(self) -> str:
        """Return the volatile directory of the present or last sandbox."""
        return resolve.run_dir(self.tools.config, self.uid, self.record.sandbox)

    @property
    def cgroup(self) -> str:
        """Return the pod's cgroup, relative to each hierarchy."""
        return pod_cgroup(self.tools.cgroup_parent, self.pod)

    def cgroup_of(self, record: ContainerRecord) -> str:
        """Return the cgroup of a container's present or last run."""
        return container_cgroup(self.cgroup, record.name, record.attempt)
