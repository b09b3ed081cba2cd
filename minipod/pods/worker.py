# SPDX-License-Identifier: GPL-3.0-or-later
"""One pod's life, as one task: look at what should be and what is, do the next thing, sleep until something happens.

The worker is level-driven, like a kubelet's: events (a process ended, a delete, a timer) only change the record
and wake it; what follows is decided in :meth:`PodWorker._sync` from the record alone. That is what makes it the
same whether the agent has been running all the time or has just come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from minipod.api import Pod
from minipod.errors import MinipodError
from minipod.plan import ContainerContext, PodContext, process_key
from minipod.plan.resources import unmet
from minipod.plan.security import lacking
from minipod.pods import recovery
from minipod.pods.containers import Containers
from minipod.pods.core import PodCore
from minipod.pods.ports import Tools
from minipod.pods.record import ContainerRecord, PodRecord
from minipod.pods.sandbox import Sandbox
from minipod.pods.signals import parse_signal
from minipod.pods.status import TERMINAL, phase, pod_status, timestamp
from minipod.pods.volumefiles import VolumeFiles
from minipod.runtime.runtime import remove_tree
from minipod.runtime.shim import Process, Shim

log = logging.getLogger(__name__)

MINIMUM_GRACE = 2.0  # the kubelet's minimumGracePeriodInSeconds, unless the grace period is 0
SANDBOX_RETRY = 10.0
START_ANNOTATION = "minipod.dev/start-milliseconds"


class PodWorker:
    """Runs one pod. Everything here happens on the agent's event loop."""

    def __init__(
        self, pod: Pod, record: PodRecord, tools: Tools, *, asked: float | None = None
    ) -> None:
        self.core = PodCore(pod, record, tools)
        self._containers = Containers(self.core)
        self._sandbox = Sandbox(self.core, self._containers)
        self._files = VolumeFiles(self.core)
        self._files_placed = True
        self._asked = asked  # time.monotonic() of the request, until the pod has started once
        self._signalled: set[str] = set()
        self.gone = asyncio.Event()

    @property
    def pod(self) -> Pod:
        """Return the pod."""
        return self.core.pod

    @property
    def record(self) -> PodRecord:
        """Return what is kept about the pod beside its object."""
        return self.core.record

    @property
    def name(self) -> str:
        """Return ``namespace/name``."""
        return self.core.name

    @property
    def log_dir(self) -> str:
        """Return the directory of the pod's logs, ``<container>/<attempt>.log`` below it."""
        return self.core.log_dir

    # ---- the task ----

    async def run(self) -> None:
        """Live until the pod is deleted and gone."""
        core = self.core
        while not self.gone.is_set():
            core.wake.clear()
            retry = None
            try:
                await self._sync()
            except MinipodError as error:
                core.event("Warning", "FailedSync", str(error))
                self._sandbox.next_try = retry = core.now() + SANDBOX_RETRY
            if self.gone.is_set():
                break
            self.publish()
            await self._sleep(self._next_due() if retry is None else retry)

    def stop(self) -> None:
        """Let go of the pod, which goes on; the agent is ending."""
        if self.core.shim:
            self.core.shim.close()

    def object_changed(self, kind: str, name: str) -> None:
        """Look again: an object that the pod may refer to has changed, come or gone."""
        self._containers.object_changed()
        self.core.wake.set()

    def _next_due(self) -> float | None:
        """Return when there is something to do even if nothing happens."""
        if self.record.delete_by is not None:
            return self.record.delete_by
        if self._is_over():
            return None
        if not self._files_placed:
            return self._files.next_try
        if not self.record.sandbox_up:
            return self._sandbox.next_try
        due = (self._files.next_try, self._containers.next_due())
        return min((time for time in due if time is not None), default=None)

    async def _sleep(self, until: float | None) -> None:
        timeout = None if until is None else max(0.0, until - self.core.now())
        # Not wait_for, which may swallow a cancellation that comes together with the event (Python 3.11).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.core.wake.wait()

    def _is_over(self) -> bool:
        return phase(self.pod, self.record) in TERMINAL

    async def _sync(self) -> None:
        await self._sandbox.settle_loss()
        if self.record.delete_by is not None:
            await self._sync_delete()
        elif self._is_over():
            await self._take_down()
        else:
            self._files_placed = self.record.sandbox_up or self._files.ready()
            if not self.record.sandbox_up and self._files_placed:
                await self._sandbox.make()
            if self.record.sandbox_up:
                self._files_placed = await self._files.place()
                if self._files_placed:
                    self._containers.start_due()

    def publish(self) -> None:
        """Compute the status and, when the pod has changed, save it; that tells the watchers."""
        tools = self.core.tools
        host_ip = tools.runtime.network.host_ip()
        facts = tools.runtime.facts
        notes = [*tools.notes, *unmet(self.pod, facts), *lacking(self.pod, facts)]
        self.pod.status = pod_status(
            self.pod, self.record, host_ip=host_ip, notes=notes, now=self.core.now()
        )
        begun = all(c.attempt >= 0 and c.state != "starting" for c in self.record.containers)
        if self._asked is not None and begun:
            elapsed = (time.monotonic() - self._asked) * 1000
            self.pod.metadata.annotations[START_ANNOTATION] = f"{elapsed:.1f}"
            self._asked = None
        self.core.save()

    async def changed(self) -> None:
        """Wait until the pod's record changes."""
        await self.core.changed()

    async def _take_down(self) -> None:
        """The pod is over: give back all it holds but its object, its logs and its volumes."""
        if self.record.sandbox_up or self.core.shim:
            self.publish()  # the address is remembered in the status
            self.record.sandbox_up = False
            await self._sandbox.remove()
            await remove_tree(f"{self.core.directory}/containers")

    # ---- deletion ----

    def delete(self, grace: float | None) -> None:
        """Begin to delete the pod, or shorten the time of a deletion that is under way; *grace* in seconds."""
        meta = self.pod.metadata
        seconds = self.pod.spec.termination_grace_period_seconds if grace is None else grace
        if seconds > 0:
            seconds = max(MINIMUM_GRACE, seconds)
        by = self.core.now() + seconds
        if self.record.delete_by is None or by < self.record.delete_by:
            self.record.delete_by = by
            meta.deletion_grace_period_seconds = int(seconds)
            meta.deletion_timestamp = timestamp(by)
        self.core.wake.set()
        try:
            self.publish()
        except MinipodError as error:
            # On a full disk it goes on unsaved: it is how the disk gets room again.
            log.warning("pod %s: the deletion could not be saved: %s", self.name, error)

    async def _sync_delete(self) -> None:
        assert self.record.delete_by is not None, "only called for a pod that is being deleted"
        live = [c for c in self.record.containers if c.state in ("running", "starting")]
        shim = self.core.shim
        if not live or shim is None or self.core.now() >= self.record.delete_by:
            await self._end()
            return
        for container in live:
            # One that is just being started gets its signal when it runs: before that it could not handle it.
            key = process_key(container.name, container.attempt)
            if container.state == "running" and key not in self._signalled:
                self._signalled.add(key)
                words = f"Stopping container {container.name}"
                self.core.event("Normal", "Killing", words, container.name)
                # Not waited for: a shim that is held must not hold up the end of the grace period.
                self.core.spawn(_send(shim, key, self._stop_signal(container)))

    def _stop_signal(self, record: ContainerRecord) -> int:
        image = self.core.tools.images.get(self.core.spec(record.name).image)
        return parse_signal(image.config.stop_signal if image else "")

    async def _end(self) -> None:
        """Remove everything: this is where a pod leaves nothing behind."""
        core = self.core
        run_parent = f"{core.tools.config.run_dir}/pods/{core.uid}"
        await self._sandbox.end()
        for path in (run_parent, core.directory, core.log_dir):
            await remove_tree(path)
        # Now that the disk has what room the pod took.
        self._sandbox.release_address()
        core.tools.store.remove(self.pod)
        self.gone.set()
        core.tell()

    # ---- coming back ----

    async def recover(self) -> None:
        """Find out what became of the pod while no agent ran. Nothing that lives is disturbed."""
        await recovery.recover(self.core, self._sandbox, self._containers)

    # ---- commands in running containers ----

    def running(
        self, name: str | None
    ) -> tuple[ContainerRecord, ContainerContext, PodContext, Shim]:
        """Return what an exec into container *name* (None: the default one) needs.

        Raises:
            NotFound: the pod has no such container.
            MinipodError: it does not run.
        """
        return self._containers.running(name)

    def next_exec(self) -> tuple[int, asyncio.Future[Process]]:
        """Return a number for a command, and the future of its end."""
        return self._containers.execs.next()


async def _send(shim: Shim, key: str, number: int) -> None:
    with contextlib.suppress(OSError):
        await shim.signal(key, number)
