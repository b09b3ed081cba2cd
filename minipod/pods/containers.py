# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers of one pod: how each is started, how its end is heard, and whether there is another run.

Every change is written to the record before the act that it announces, so that an agent which comes back finds either
the act or the announcement.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeGuard

from minipod.api import Container, EphemeralContainer, default_container, member, members
from minipod.errors import MinipodError
from minipod.images import Image
from minipod.plan import (
    ContainerContext,
    PodContext,
    compile_container,
    container_dir,
    process_key,
)
from minipod.plan.volumes import SubPathError
from minipod.pods import backoff, environment, order, propagation, pulling, resolve
from minipod.pods.core import PodCore
from minipod.pods.errors import CannotCreate, ConfigError
from minipod.pods.execs import Execs
from minipod.pods.messages import Messages
from minipod.pods.pulling import NoImage
from minipod.pods.record import ContainerRecord, Ended, User
from minipod.pods.status import container_id, exit_of
from minipod.runtime.runtime import remove_tree
from minipod.runtime.shim import Process, Shim

log = logging.getLogger(__name__)

PULL_SHOWN = 1.0  # seconds for which a failed pull is shown as such, before it is shown as waiting for the next


def _is_ephemeral(container: Container) -> TypeGuard[EphemeralContainer]:
    return isinstance(container, EphemeralContainer)


class Containers:
    """Starts a pod's containers and hears of their ends.

    Attributes:
        execs: the commands that run in them.
        messages: where they leave their last words.
        on_running: called when a run has begun.
        on_found: called for a run that an agent finds which comes back.
        on_over: called when a run has ended, with ``record.ended`` set, before it is decided what follows.
    """

    def __init__(self, core: PodCore) -> None:
        self._core = core
        self._runs: dict[str, ContainerContext] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._pull_failures: dict[str, str] = {}
        self.execs = Execs()
        self.messages = Messages()
        self.on_running: Callable[[ContainerRecord], None] = lambda record: None
        self.on_found: Callable[[ContainerRecord], None] = lambda record: None
        self.on_over: Callable[[ContainerRecord], None] = lambda record: None
        known = {record.name: record for record in core.record.containers}
        core.record.containers = [
            known.get(member.name) or ContainerRecord(member.name) for member in members(core.pod)
        ]

    # ---- starting ----

    def start_due(self) -> None:
        """Start every container whose turn and time have come; they start side by side."""
        now = self._core.now()
        for record in order.startable(self._core.pod, self._core.record):
            due = record.next_start is not None and record.next_start <= now
            if record.state == "waiting" and due and record.name not in self._starting:
                task = asyncio.ensure_future(self._start(record))
                self._starting[record.name] = task
                task.add_done_callback(partial(self._start_done, record.name))

    def next_due(self) -> float | None:
        """Return when the next container is to be started, if one is."""
        due = [
            record.next_start
            for record in order.startable(self._core.pod, self._core.record)
            if record.state == "waiting"
            and record.next_start is not None
            and record.name not in self._starting
        ]
        return min(due, default=None)

    async def cancel_starts(self) -> None:
        """Give up the starts that are under way: their sandbox is going."""
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        self._starting.clear()

    def is_starting(self, name: str) -> bool:
        """Whether this agent is just starting container *name*."""
        return name in self._starting

    def _start_done(self, name: str, task: asyncio.Task[None]) -> None:
        self._starting.pop(name, None)
        core = self._core
        if not task.cancelled() and (error := task.exception()):
            log.error("pod %s: starting container %s", core.name, name, exc_info=error)
            core.event("Warning", "Failed", f"Error: internal error: {error!r}", name)
            record, now = core.record.container(name), core.now()
            if record.state == "starting":
                self.ended(record, Ended(128, "StartError", now, now, 0, repr(error)))
            elif record.state == "waiting":
                record.next_start = now + backoff.INITIAL
        core.wake.set()

    async def _start(self, record: ContainerRecord) -> None:
        core = self._core
        pod = core.with_resources()
        container = member(pod, record.name).container
        start = core.timeline.begin(record.name, record.attempt + 1, core.record.sandbox)
        try:
            with start.span("image", f"image {container.image}"):
                image = await self._get_image(record, container)
        except NoImage as error:
            core.timeline.drop(start)
            self._wait_for_image(record, container, error)
            return
        if core.deleting or order.is_ending(core.pod, core.record):
            return
        shim = core.shim
        assert shim is not None, "a container starts in a sandbox"
        began = time.monotonic_ns()
        await self._discard_previous(record, shim)
        try:
            env = await environment.gather(core, container)
        except MinipodError as error:
            self._cannot_create(record, error)
            return
        if core.deleting or order.is_ending(core.pod, core.record):
            return
        try:
            target = self._target(container)
            run = resolve.container_context(
                pod, container, image, record.attempt + 1, core.tools.filters, env
            )
            run = replace(run, target=target)
            facts = core.tools.runtime.facts
            propagation.check(pod, container, core.context())
            steps = compile_container(pod, container, core.context(), run, facts)
        except SubPathError as error:
            self._cannot_create(record, ConfigError(error.what, error.remedy))
            return
        except MinipodError as error:
            self._cannot_create(record, error)
            return
        self._runs[record.name] = run
        now = core.now()
        if record.ended:
            ended = record.ended.finished
            record.backoff, record.backoff_updated = backoff.after_start(
                record.backoff, record.backoff_updated, ended, now
            )
        record.attempt += 1
        record.state, record.reason, record.message = "starting", "ContainerCreating", ""
        record.started, record.next_start, record.image_id = now, None, image.id
        record.applied, record.renew = record.allocated, False
        record.user = User(run.uid, run.gid, list(run.groups))
        record.sandbox, record.pulls, record.next_pull = core.record.sandbox, 0, 0.0
        core.tools.images.touch(image)
        core.save()  # before the act: an agent that dies now finds the attempt in the shim, or makes it again
        # What a launch has left that was announced before and never came to be.
        self.messages.discard(record)
        start.add("prepare", "find users and variables, compile the plan, write the record", began)
        try:
            core.event("Normal", "Created", f"Created container: {record.name}", record.name)
            process = await core.tools.runtime.start_container(
                shim, steps, core.origin(f"container {record.name}", start)
            )
        except MinipodError as error:
            if record.state == "starting":
                core.event("Warning", "Failed", f"Error: {error}", record.name)
                now = core.now()
                # What containerd answers when a container could not be started: StartError, 128.
                self.ended(record, Ended(128, "StartError", now, now, 0, str(error)))
            return
        self.on_started(process)

    def add(self, name: str) -> None:
        """Take on a container that was added to the pod."""
        self._core.record.containers.append(ContainerRecord(name))

    def _target(self, container: Container) -> str:
        """Return the run whose processes an ephemeral container shares, as the shim calls it; or "".

        Raises:
            ConfigError: its target does not run.
        """
        name = container.target_container_name if _is_ephemeral(container) else ""
        if not name:
            return ""
        record = self._core.record.container(name)
        if record.state != "running":
            raise ConfigError(f"target container {name} is not running")
        return process_key(record.name, record.attempt)

    async def _discard_previous(self, record: ContainerRecord, shim: Shim) -> None:
        """Remove what the last run left: its writable layer, its cgroup, the shim's record of it."""
        if record.attempt < 0:
            return
        core = self._core
        self.messages.discard(record)
        await shim.forget(process_key(record.name, record.attempt))
        await remove_tree(container_dir(core.directory, record.name, record.attempt))
        cgroup = core.cgroup_of(record)
        await core.tools.runtime.cgroups.kill(cgroup)
        await core.tools.runtime.cgroups.remove(cgroup)

    async def _get_image(self, record: ContainerRecord, container: Container) -> Image:
        """Return the image of a container's next run, pulled if need be and if it is time for that.

        Raises:
            NoImage: it is not there.
        """
        core, policy = self._core, container.image_pull_policy
        if core.now() < record.next_pull and pulling.at_hand(core, container.image, policy) is None:
            raise NoImage(pulling.BACK_OFF, pulling.back_off_words(container.image))
        return await pulling.get_image(core, container.image, policy, record.name)

    def _wait_for_image(
        self, record: ContainerRecord, container: Container, error: NoImage
    ) -> None:
        """The image is not there: say so as a kubelet does, and try again.

        While a kubelet would wait to pull again, the store is looked at every 10 s: it costs nothing.
        """
        core, now, image = self._core, self._core.now(), container.image
        record.next_start = now + backoff.INITIAL
        if error.waiting == pulling.FAILED and now >= record.next_pull:
            delay = min(backoff.MAXIMUM, backoff.INITIAL * 2**record.pulls)
            record.pulls, record.next_pull = record.pulls + 1, now + delay
            record.next_start = now + PULL_SHOWN
            self._pull_failures[record.name] = f": {pulling.FAILED}: {error.what}"
        elif error.waiting in (pulling.FAILED, pulling.BACK_OFF):
            why = self._pull_failures.get(record.name, "")
            error = NoImage(pulling.BACK_OFF, pulling.back_off_words(image) + why)
            record.next_start = min(record.next_pull, record.next_start)
        record.reason, record.message = error.waiting, error.what
        pulling.tell(core, image, error, record.name)
        core.event("Warning", "Failed", f"Error: {record.reason}", record.name)
        core.wake.set()

    def image_came(self) -> None:
        """An image has come into the store: it may be what some container waits for."""
        for record in self._core.record.containers:
            if record.state == "waiting" and record.reason in pulling.REASONS:
                record.next_start = self._core.now()
                self._core.wake.set()

    def object_changed(self) -> None:
        """Try at once what waited for an object: this may be the one."""
        for record in self._core.record.containers:
            if record.state == "waiting" and record.reason == ConfigError.waiting:
                record.next_start = self._core.now()

    def _cannot_create(self, record: ContainerRecord, error: MinipodError) -> None:
        """A container cannot be made as things are; it is no run of it, and will be tried again."""
        kind = error if isinstance(error, CannotCreate) else CannotCreate
        # The kubelet's own words where it has some; else what to do, too.
        words = error.what if isinstance(error, ConfigError) else str(error)
        record.reason, record.message = kind.waiting, words
        record.next_start = self._core.now() + backoff.INITIAL
        self._core.event("Warning", "Failed", f"Error: {words}", record.name)

    # ---- what the shim tells ----

    def find(self, key: str) -> ContainerRecord | None:
        """Return the record of the present run that a shim's key names."""
        records = self._core.record.containers
        return next((r for r in records if process_key(r.name, r.attempt) == key), None)

    def on_started(self, process: Process) -> None:
        """A container's program runs."""
        record = self.find(process.key)
        if record is None or record.state != "starting":
            return
        record.state, record.pid, record.started = "running", process.pid, process.started
        self._core.event("Normal", "Started", f"Started container {record.name}", record.name)
        found = self._core.member(record.name)
        if found.kind == "init" and not found.is_sidecar:
            self._core.timeline.of(record.name).open("run")
        self.on_running(record)
        self._core.wake.set()

    def on_failed(self, process: Process) -> None:
        """A launch that an earlier agent asked for has failed: the next one will say why."""
        record = self.find(process.key)
        if record is not None and record.state == "starting" and not self.is_starting(record.name):
            self.start_over(record)
            self._core.wake.set()

    def start_over(self, record: ContainerRecord) -> None:
        """A run was announced and never came to be: it is not counted."""
        record.attempt -= 1
        record.state, record.next_start = "waiting", self._core.now()
        record.hooking = False

    def on_exit(self, process: Process) -> None:
        """A container has ended, or a command in one."""
        if self.execs.ended(process):
            return
        record = self.find(process.key)
        if record is None or record.state not in ("running", "starting"):
            return
        core = self._core
        code, number = exit_of(process.status)
        reason = "Completed" if code == 0 else "Error"
        if code == 137 and core.tools.runtime.cgroups.oom_kills(core.cgroup_of(record)) > 0:
            reason = "OOMKilled"
        spec, container = core.pod.spec, core.spec(record.name)
        shares = _is_ephemeral(container) and container.target_container_name
        if spec.share_process_namespace or spec.host_pid or shares:
            # Its other processes do not end with it, as they would with a PID namespace of their own.
            core.spawn(core.tools.runtime.cgroups.kill(core.cgroup_of(record)))
        path = f"{core.log_dir}/{record.name}/{record.attempt}.log"
        message = self.messages.read(container, record, path, code)
        self.ended(record, Ended(code, reason, process.started, process.finished, number, message))
        core.wake.set()

    def lost(self, record: ContainerRecord) -> None:
        """A container has ended with its sandbox, and nobody knows how."""
        now = self._core.now()
        began = record.started or now
        ended = Ended(137, "Error", began, now, signal.SIGKILL, "its sandbox was gone")
        if self._core.rebooted:
            # What containerd answers for containers that ran when the machine went down.
            ended = Ended(255, "Unknown", began, now, 0, "the machine was rebooted")
        self.ended(record, ended)

    def ended(self, record: ContainerRecord, ended: Ended) -> None:
        """Take down how a run ended, and decide whether and when there is another."""
        core = self._core
        ended.container_id = container_id(core.uid, record.name, record.attempt)
        record.previous, record.ended, record.pid = record.ended, ended, 0
        record.stop_by, record.stop_why = None, ""
        core.timeline.of(record.name).close("run", "the init container runs to its end")
        self.on_over(record)
        found = core.member(record.name)
        again = record.renew or order.restarts(core.pod, found, ended.exit_code)
        if core.deleting or not again or order.is_ending(core.pod, core.record):
            record.state, record.next_start = "ended", None
            return
        wait = backoff.delay(record.backoff, record.backoff_updated, ended.finished)
        if record.renew:
            wait = 0.0  # it did not fail
        record.state = "waiting"
        record.next_start = ended.finished + wait
        record.reason = "CrashLoopBackOff" if wait else ""
        record.message = ""
        if wait:
            meta = core.pod.metadata
            record.message = (
                f"back-off {wait:.0f}s restarting failed container={record.name} "
                f"pod={meta.name}_{meta.namespace}({meta.uid})"
            )
            words = f"Back-off restarting failed container {record.name}"
            core.event("Warning", "BackOff", words, record.name)

    def give_up(self) -> None:
        """Nothing is started any more: what waited for another run has had its last."""
        for record in self._core.record.containers:
            if record.state == "waiting":
                record.next_start = None
                if record.ended is not None:
                    record.state = "ended"

    def rewind(self) -> None:
        """There is a new sandbox: init containers do their work again."""
        for found, record in order.pairs(self._core.pod, self._core.record):
            if found.kind == "init" and record.state == "ended" and record.ended is not None:
                finished = record.ended.finished
                wait = backoff.delay(record.backoff, record.backoff_updated, finished)
                record.state, record.reason, record.message = "waiting", "", ""
                record.next_start = finished + wait

    # ---- commands in running containers ----

    def running(
        self, name: str | None
    ) -> tuple[ContainerRecord, ContainerContext, PodContext, Shim]:
        """Return what an exec into container *name* (None: the default one) needs.

        Raises:
            NotFound: the pod has no such container.
            MinipodError: it does not run.
        """
        core = self._core
        container = member(core.pod, name or default_container(core.pod)).container
        record = core.record.container(container.name)
        if not record.is_up or core.shim is None:
            raise MinipodError(
                f"container {record.name} of pod {core.name} is not running",
                f"see minipod describe pod {core.pod.metadata.name}",
            )
        if record.name not in self._runs:
            # What it runs: its tag may mean another one by now.
            images = core.tools.images
            image = images.get(record.image_id) or resolve.find_image(images, container)
            self._runs[record.name] = resolve.container_context(
                core.pod,
                container,
                image,
                record.attempt,
                core.tools.filters,
                environment.remembered(core, container),
            )
        return record, self._runs[record.name], core.context(), core.shim
