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

from minipod.api import EphemeralContainer, Pod, PodCondition
from minipod.api.resize import resized
from minipod.errors import MinipodError
from minipod.plan import ContainerContext, PodContext
from minipod.plan.resources import unmet
from minipod.plan.security import lacking
from minipod.pods import eviction, order, recovery
from minipod.pods.care import Care
from minipod.pods.conditions import set_condition
from minipod.pods.containers import Containers
from minipod.pods.core import PodCore
from minipod.pods.ports import Tools
from minipod.pods.record import ContainerRecord, Failure, PodRecord
from minipod.pods.resize import Resizer
from minipod.pods.sandbox import Sandbox
from minipod.pods.status import phase, pod_status
from minipod.pods.stopping import MINIMUM_GRACE, Stopping
from minipod.pods.times import timestamp
from minipod.pods.update import differs, take_over
from minipod.pods.volumefiles import VolumeFiles
from minipod.pods.volumeimages import VolumeImages
from minipod.runtime.runtime import remove_tree
from minipod.runtime.shim import Process, Shim

log = logging.getLogger(__name__)

SANDBOX_RETRY = 10.0
START_ANNOTATION = "minipod.dev/start-milliseconds"


class PodWorker:
    """Runs one pod. Everything here happens on the agent's event loop."""

    def __init__(
        self, pod: Pod, record: PodRecord, tools: Tools, *, asked: float | None = None
    ) -> None:
        self.core = PodCore(pod, record, tools)
        self._containers = Containers(self.core)
        self._sandbox = Sandbox(self.core, self._containers, asked)
        self._files = VolumeFiles(self.core)
        self._images = VolumeImages(self.core)
        self._files_placed = True
        self._stopping = Stopping(self.core)
        self._care = Care(self.core, self._containers, self._stopping)
        self._resizer = Resizer(self.core, self._stopping.ask)
        self._measuring: asyncio.Task[None] | None = None
        self._asked = asked  # time.monotonic() of the request, until the pod has started once
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
        if self._measuring is None:
            self._measuring = core.spawn(eviction.watch(core, self.fail))
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
        self._care.close()
        self.core.timeline.flush()
        if self.core.shim:
            self.core.shim.close()

    def object_changed(self, kind: str, name: str) -> None:
        """Look again: an object that the pod may refer to has changed, come or gone."""
        self._containers.object_changed()
        self.core.wake.set()

    def update(self, new: Pod, source: str, lines: dict[str, int]) -> str:
        """Take over what a manifest says now; return whether that makes the pod ``configured`` or ``unchanged``.

        *new* is checked (``check_pod_update``); *source* and *lines* tell where it is written.
        """
        written = self.record.lines.keys() | lines.keys()
        if not differs(self.pod, new, written):
            return "unchanged"
        take_over(self.core, self._stopping, new, written)
        self.record.source, self.record.lines = source, lines
        self.core.wake.set()
        self.publish()
        return "configured"

    def _next_due(self) -> float | None:
        """Return when there is something to do even if nothing happens."""
        if self._is_over() and not self.core.deleting:
            return None
        due = [self._stopping.next_due()]
        if not self._is_leaving():
            due += [order.deadline(self.pod), self._files.next_try, self._resizer.next_due()]
            due.append(self._images.next_try)
            if self._files_placed:
                up = self.record.sandbox_up
                due.append(self._containers.next_due() if up else self._sandbox.next_try)
        return min((when for when in due if when is not None), default=None)

    async def _sleep(self, until: float | None) -> None:
        timeout = None if until is None else max(0.0, until - self.core.now())
        # Not wait_for, which may swallow a cancellation that comes together with the event (Python 3.11).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.core.wake.wait()

    def _is_over(self) -> bool:
        return phase(self.pod, self.record) in order.TERMINAL

    def _is_leaving(self) -> bool:
        """Whether nothing is started any more: the pod is being deleted, or comes to its end by itself."""
        return self.core.deleting or order.is_ending(self.pod, self.record)

    async def _sync(self) -> None:
        await self._sandbox.settle_loss()
        self._check_deadline()
        if self.core.deleting:
            await self._sync_delete()
        elif order.is_ending(self.pod, self.record):
            await self._sync_end()
        else:
            self._files_placed = self.record.sandbox_up or self._volumes_ready()
            if not self.record.sandbox_up and self._files_placed:
                await self._sandbox.make()
            if self.record.sandbox_up:
                self._files_placed = await self._files.place()
                if self._files_placed:
                    self._containers.start_due()
                self._resizer.go_on()
                self._stopping.go_on()

    def _volumes_ready(self) -> bool:
        """Whether what the sandbox's volumes are made of is there; both look, so that all is told that is not."""
        return all((self._images.ready(), self._files.ready()))

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
        await self._images.close()
        if self.record.sandbox_up or self.core.shim:
            self.publish()  # the address is remembered in the status
            self.record.sandbox_up = False
            await self._sandbox.remove()
            await remove_tree(f"{self.core.directory}/containers")

    def resize(self, patch: object) -> None:
        """Change the resources of the pod's containers; *patch* is that of Kubernetes' ``resize`` subresource.

        Raises:
            UsageError: the patch breaks a rule.
            MinipodError: the pod has ended, or is leaving.
        """
        if self._is_leaving():
            raise MinipodError(f"pod {self.name} is at its end", "resize a pod that runs")
        self._resizer.want(resized(self.pod, patch))
        if self.record.sandbox_up:
            self._resizer.go_on()
        self.publish()

    # ---- the end of a pod that is not deleted ----

    def fail(self, reason: str, message: str, grace: float | None = None) -> None:
        """Stop the pod, which then has Failed with *reason*; *grace* in seconds, None: the pod's own."""
        if self.record.failure is None and not self._is_over():
            seconds = self.pod.spec.termination_grace_period_seconds if grace is None else grace
            self.record.failure = Failure(reason, message, self.core.now() + seconds)
            self.core.event("Warning" if reason == "Evicted" else "Normal", reason, message)
            self.core.wake.set()

    def _check_deadline(self) -> None:
        deadline = order.deadline(self.pod)
        if deadline is not None and self.core.now() >= deadline and not self.core.deleting:
            self.fail(
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            )

    async def _sync_end(self) -> None:
        """Nothing is started any more: stop what still runs, and take down the sandbox when nothing does."""
        self._containers.give_up()
        live = order.live(self.record)
        if live and self.core.shim is not None:
            failure = self.record.failure
            if failure is None and self.record.stop_by is None:
                seconds = self.pod.spec.termination_grace_period_seconds
                self.record.stop_by = self.core.now() + seconds
            by = failure.by if failure else self.record.stop_by
            assert by is not None, "set just above"
            self._stop_all(live, by)
        if not order.live(self.record):
            await self._take_down()

    def _stop_all(self, live: list[ContainerRecord], by: float) -> None:
        for record in live:
            self._stopping.ask(record, by)
        self.core.save()  # before the act
        self._stopping.go_on()

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
        by = self.record.delete_by
        assert by is not None, "only called for a pod that is being deleted"
        live = order.live(self.record)
        at_once = self.pod.metadata.deletion_grace_period_seconds == 0
        for record in live:
            self._stopping.ask(record, by)
        if not live or at_once or self.core.shim is None or self._stopping.is_overdue():
            await self._end()
            return
        self._stopping.go_on()

    async def _end(self) -> None:
        """Remove everything: this is where a pod leaves nothing behind."""
        core = self.core
        self._care.close()
        core.timeline.close()
        await self._images.close()
        run_parent = f"{core.tools.config.run_dir}/pods/{core.uid}"
        await self._sandbox.end()
        for path in (run_parent, core.directory, core.log_dir):
            await remove_tree(path)
        # Now that the disk has what room the pod took.
        self._sandbox.release_address()
        core.tools.user_ids.release(core.uid)
        core.tools.store.remove(self.pod)
        self.gone.set()
        core.tell()

    def set_condition(self, type_: str, status: str, reason: str = "", message: str = "") -> None:
        """Set a condition that others than minipod answer for: a readiness gate, say."""
        wanted = PodCondition(type_, status, reason or None, message or None)
        set_condition(self.pod, wanted, self.core.now())
        self.publish()

    def image_came(self) -> None:
        """An image has come into the store."""
        self._containers.image_came()
        self.core.wake.set()

    # ---- coming back ----

    async def recover(self) -> None:
        """Find out what became of the pod while no agent ran. Nothing that lives is disturbed."""
        await recovery.recover(self.core, self._sandbox, self._containers)

    # ---- looking into it ----

    def add_ephemeral(self, container: EphemeralContainer) -> None:
        """Add a container, checked, to the pod.

        Raises:
            MinipodError: the pod has ended, or is going.
        """
        if self._is_leaving():
            what = "is being deleted" if self.core.deleting else "has ended"
            raise MinipodError(
                f"pod {self.name} {what}: no container can be added",
                "its containers' output is shown by minipod logs",
            )
        self.pod.spec.ephemeral_containers.append(container)
        self._containers.add(container.name)
        self.publish()
        self.core.wake.set()

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
