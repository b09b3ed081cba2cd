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
import re
import signal
import time
from collections.abc import Coroutine
from functools import partial

import msgspec

from minipod.api import Pod, to_dict
from minipod.errors import MinipodError, NotFound
from minipod.network import pod_link
from minipod.plan import (
    SANDBOX_KEY,
    ContainerContext,
    PodContext,
    compile_container,
    compile_sandbox,
    container_cgroup,
    container_dir,
    process_key,
)
from minipod.pods import backoff, resolve
from minipod.pods.ports import Tools
from minipod.pods.record import ContainerRecord, Ended, PodRecord
from minipod.pods.status import (
    TERMINAL,
    container_id,
    exit_of,
    phase,
    pod_status,
    restarts,
    timestamp,
)
from minipod.runtime.runtime import Origin, remove_tree
from minipod.runtime.shim import ANSWER_TIMEOUT, Process, Shim, end_shims, read_exit_records

log = logging.getLogger(__name__)

MINIMUM_GRACE = 2.0  # the kubelet's minimumGracePeriodInSeconds, unless the grace period is 0
SANDBOX_RETRY = 10.0
SANDBOX_TIMEOUT = 60.0  # seconds; it takes milliseconds, unless something in it is held
START_ANNOTATION = "minipod.dev/start-milliseconds"


class PodWorker:
    """Runs one pod. Everything here happens on the agent's event loop."""

    def __init__(
        self, pod: Pod, record: PodRecord, tools: Tools, *, asked: float | None = None
    ) -> None:
        self.pod = pod
        self.record = record
        self._tools = tools
        self._asked = asked  # time.monotonic() of the request, until the pod has started once
        self._shim: Shim | None = None
        self._context: PodContext | None = None
        self._runs: dict[str, ContainerContext] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._next_sandbox = 0.0
        self._exec_number = time.time_ns()
        self._exec_ends: dict[str, asyncio.Future[Process]] = {}
        self._lost = ""  # why the sandbox is gone, until _sync has dealt with it
        self._signalled: set[str] = set()
        self._background: set[asyncio.Future[None]] = set()
        self._saved: dict[str, object] = {}
        self.gone = asyncio.Event()
        for container in pod.spec.containers:
            if not any(c.name == container.name for c in record.containers):
                record.containers.append(ContainerRecord(container.name))

    @property
    def name(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.pod.metadata.namespace}/{self.pod.metadata.name}"

    @property
    def log_dir(self) -> str:
        """Return the directory of the pod's logs, ``<container>/<attempt>.log`` below it."""
        return resolve.pod_directories(self._tools.config, self.pod)[1]

    # ---- the task ----

    async def run(self) -> None:
        """Live until the pod is deleted and gone."""
        while not self.gone.is_set():
            self._wake.clear()
            retry = None
            try:
                await self._sync()
            except MinipodError as error:
                self._event("Warning", "FailedSync", str(error))
                self._next_sandbox = retry = self._now() + SANDBOX_RETRY
            if self.gone.is_set():
                break
            self.publish()
            await self._sleep(self._next_due() if retry is None else retry)

    def stop(self) -> None:
        """Let go of the pod, which goes on; the agent is ending."""
        if self._shim:
            self._shim.close()

    def _now(self) -> float:
        return self._tools.wall()

    def _next_due(self) -> float | None:
        """Return when there is something to do even if nothing happens."""
        if self.record.delete_by is not None:
            return self.record.delete_by
        if self._is_over():
            return None
        if not self.record.sandbox_up:
            return self._next_sandbox
        due = [
            c.next_start
            for c in self.record.containers
            if c.state == "waiting" and c.next_start is not None and c.name not in self._starting
        ]
        return min(due, default=None)

    async def _sleep(self, until: float | None) -> None:
        timeout = None if until is None else max(0.0, until - self._now())
        # Not wait_for, which may swallow a cancellation that comes together with the event (Python 3.11).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    def _is_over(self) -> bool:
        return phase(self.pod, self.record) in TERMINAL

    async def _sync(self) -> None:
        if self.record.sandbox_up and self._shim is None:
            self._lost = self._lost or "it could not be taken down before"
        if self._lost:
            await self._lose_sandbox()
        if self.record.delete_by is not None:
            await self._sync_delete()
        elif self._is_over():
            await self._take_down()
        else:
            if not self.record.sandbox_up:
                await self._make_sandbox()
            if self.record.sandbox_up:
                self._start_due()

    def publish(self) -> None:
        """Compute the status and, when the pod has changed, save it; that tells the watchers."""
        host_ip = self._tools.runtime.network.host_ip()
        self.pod.status = pod_status(
            self.pod, self.record, host_ip=host_ip, notes=self._tools.notes, now=self._now()
        )
        begun = all(c.attempt >= 0 and c.state != "starting" for c in self.record.containers)
        if self._asked is not None and begun:
            elapsed = (time.monotonic() - self._asked) * 1000
            self.pod.metadata.annotations[START_ANNOTATION] = f"{elapsed:.1f}"
            self._asked = None
        self.save()

    def save(self) -> None:
        """Write pod and record when they differ from what was written last."""
        now = {"pod": to_dict(self.pod), "record": msgspec.to_builtins(self.record)}
        now["pod"].get("metadata", {}).pop("resourceVersion", None)
        if now != self._saved:
            self._saved = now
            self._tools.store.save(self.pod, self.record)
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until the pod's record changes."""
        await self._changed.wait()

    def _event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        path = f"spec.containers{{{container}}}" if container else ""
        try:
            self._tools.store.event(self.pod, kind, reason, message, path)
        except MinipodError as error:
            # A full disk, say: what is told about a pod must not keep it from being deleted.
            log.warning("pod %s: event %s: %s (%s)", self.name, reason, message, error)

    # ---- sandbox ----

    async def _make_sandbox(self) -> None:
        if self._now() < self._next_sandbox:
            return
        record = self.record
        uid = self.pod.metadata.uid
        record.sandbox += 1
        self._tools.pool.release(
            uid
        )  # what an agent that died in the middle of this may have taken
        record.address = "" if self.pod.spec.host_network else self._tools.pool.allocate(uid)
        self._context = None
        try:
            self.save()
            steps = compile_sandbox(self.pod, self._sandbox_context(), self._tools.runtime.facts)
            async with asyncio.timeout(SANDBOX_TIMEOUT):
                await self._tools.runtime.make_sandbox(
                    steps, self._origin("sandbox"), self._adopt_shim
                )
        except (MinipodError, TimeoutError) as error:
            record.sandbox_failures += 1
            words = str(error) or f"not done after {SANDBOX_TIMEOUT:.0f} s"
            self._event("Warning", "FailedCreatePodSandBox", words)
            await self._remove_sandbox()
            delay = min(backoff.MAXIMUM, backoff.INITIAL * 2 ** (record.sandbox_failures - 1))
            self._next_sandbox = self._now() + delay
            return
        record.sandbox_up = True
        record.sandbox_failures = 0

    def _sandbox_context(self) -> PodContext:
        """Return the decisions about the present sandbox; found anew by an agent that has come back."""
        if self._context is None:
            config, parent = self._tools.config, self._tools.cgroup_parent
            record = self.record
            self._context = resolve.pod_context(
                config, parent, self.pod, record.sandbox, record.address
            )
        return self._context

    def _origin(self, whose: str) -> Origin:
        return Origin(f"pod {self.name}, {whose}", self.record.lines, self.record.source)

    def _adopt_shim(self, shim: Shim) -> None:
        self._shim = shim
        self._listen(shim)
        self._spawn(self._watch_shim(shim))

    def _listen(self, shim: Shim) -> None:
        shim.on_exit = self._on_exit
        shim.on_started = self._on_started
        shim.on_failed = self._on_failed

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _watch_shim(self, shim: Shim) -> None:
        await shim.closed.wait()
        if self._shim is shim:
            self._lose("its shim is gone")

    def _lose(self, why: str) -> None:
        self._lost = why
        self._wake.set()

    async def _lose_sandbox(self) -> None:
        """The sandbox has died, and all containers with it: whether there is another is for the restart policy."""
        why, self._lost = self._lost, ""
        if not self.record.sandbox_up or self.record.delete_by is not None:
            return
        self._event(
            "Normal",
            "SandboxChanged",
            f"Pod sandbox changed, it will be killed and re-created: {why}",
        )
        await self._remove_sandbox()
        for container in self.record.containers:
            if container.state in ("running", "starting"):
                self._ended(container, self._killed_with_sandbox(container))

    def _killed_with_sandbox(self, container: ContainerRecord) -> Ended:
        now = self._now()
        return Ended(
            137, "Error", container.started or now, now, signal.SIGKILL, "its sandbox was gone"
        )

    async def _remove_sandbox(self) -> None:
        """Take down whatever there is of the sandbox; the pod's volumes and logs stay."""
        await self._end_sandbox()
        self._release_address()

    def _release_address(self) -> None:
        self._tools.pool.release(
            self.pod.metadata.uid
        )  # the record may not know of it: see _make_sandbox
        self.record.address = ""

    async def _end_sandbox(self) -> None:
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        self._starting.clear()
        shim, self._shim = self._shim, None
        record = self.record
        config, uid = self._tools.config, self.pod.metadata.uid
        link = pod_link(config, uid, record.address) if record.address else None
        if record.sandbox >= 0:
            directory = resolve.run_dir(config, uid, record.sandbox)
            cgroup = f"{self._tools.cgroup_parent}/pod{uid}"
            await self._tools.runtime.remove_sandbox(directory, cgroup, shim, link)
        record.sandbox_up = False

    async def _take_down(self) -> None:
        """The pod is over: give back all it holds but its object, its logs and its volumes."""
        if self.record.sandbox_up or self._shim:
            self.publish()  # the address is remembered in the status
            self.record.sandbox_up = False
            await self._remove_sandbox()
            directory, _ = resolve.pod_directories(self._tools.config, self.pod)
            await remove_tree(f"{directory}/containers")

    # ---- containers ----

    def _start_due(self) -> None:
        now = self._now()
        for container in self.record.containers:
            due = container.next_start is not None and container.next_start <= now
            if container.state == "waiting" and due and container.name not in self._starting:
                task = asyncio.ensure_future(self._start(container))
                self._starting[container.name] = task
                task.add_done_callback(partial(self._start_done, container.name))

    def _start_done(self, name: str, task: asyncio.Task[None]) -> None:
        self._starting.pop(name, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("pod %s: starting container %s", self.name, name, exc_info=error)
            self._event("Warning", "Failed", f"Error: internal error: {error!r}", name)
            record, now = self.record.container(name), self._now()
            if record.state == "starting":
                self._ended(record, Ended(128, "StartError", now, now, 0, repr(error)))
            elif record.state == "waiting":
                record.next_start = now + backoff.INITIAL
        self._wake.set()

    async def _start(self, record: ContainerRecord) -> None:
        container = next(c for c in self.pod.spec.containers if c.name == record.name)
        try:
            image = resolve.find_image(self._tools.images, container)
        except NotFound as error:
            self._wait_for_image(record, error)
            return
        shim = self._shim
        assert shim is not None, "a container starts in a sandbox"
        await self._discard_previous(record, shim)
        if self.record.delete_by is not None:
            return
        now = self._now()
        if record.ended:
            ended = record.ended.finished
            record.backoff, record.backoff_updated = backoff.after_start(
                record.backoff, record.backoff_updated, ended, now
            )
        record.attempt += 1
        record.state, record.reason, record.message = "starting", "ContainerCreating", ""
        record.started, record.next_start, record.image_id = now, None, image.id
        self.save()  # before the act: an agent that dies now finds the attempt in the shim, or makes it again
        try:
            run = resolve.container_context(image, container, record.attempt, self._tools.seccomp())
            self._runs[record.name] = run
            steps = compile_container(
                self.pod, container, self._sandbox_context(), run, self._tools.runtime.facts
            )
            present = f"Container image {container.image!r} already present on machine"
            self._event("Normal", "Pulled", present, record.name)
            self._event("Normal", "Created", f"Created container: {record.name}", record.name)
            process = await self._tools.runtime.start_container(
                shim, steps, self._origin(f"container {record.name}")
            )
        except MinipodError as error:
            if record.state == "starting":
                self._event("Warning", "Failed", f"Error: {error}", record.name)
                now = self._now()
                # What containerd answers when a container could not be started: StartError, 128.
                self._ended(record, Ended(128, "StartError", now, now, 0, str(error)))
            return
        self._on_started(process)

    async def _discard_previous(self, record: ContainerRecord, shim: Shim) -> None:
        """Remove what the last run left: its writable layer, its cgroup, the shim's record of it."""
        if record.attempt < 0:
            return
        directory, _ = resolve.pod_directories(self._tools.config, self.pod)
        await shim.forget(process_key(record.name, record.attempt))
        await remove_tree(container_dir(directory, record.name, record.attempt))
        cgroup = self._cgroup_of(record)
        await self._tools.runtime.cgroups.kill(cgroup)
        await self._tools.runtime.cgroups.remove(cgroup)

    def _cgroup_of(self, record: ContainerRecord) -> str:
        pod = f"{self._tools.cgroup_parent}/pod{self.pod.metadata.uid}"
        return container_cgroup(pod, record.name, record.attempt)

    def _wait_for_image(self, record: ContainerRecord, error: NotFound) -> None:
        record.reason, record.message = "ErrImageNeverPull", str(error)
        record.next_start = self._now() + backoff.INITIAL
        self._event("Warning", "ErrImageNeverPull", str(error), record.name)

    def _find(self, key: str) -> ContainerRecord | None:
        """Return the record of the present run that a shim's key names."""
        return next(
            (c for c in self.record.containers if process_key(c.name, c.attempt) == key), None
        )

    def _on_started(self, process: Process) -> None:
        record = self._find(process.key)
        if record is None or record.state != "starting":
            return
        record.state, record.pid, record.started = "running", process.pid, process.started
        self._event("Normal", "Started", f"Started container {record.name}", record.name)
        self._wake.set()

    def _on_failed(self, process: Process) -> None:
        """A launch that an earlier agent asked for has failed: the next one will say why."""
        record = self._find(process.key)
        if record is not None and record.state == "starting" and record.name not in self._starting:
            self._start_over(record)
            self._wake.set()

    def _start_over(self, record: ContainerRecord) -> None:
        """A run was announced and never came to be: it is not counted."""
        record.attempt -= 1
        record.state, record.next_start = "waiting", self._now()

    def _on_exit(self, process: Process) -> None:
        """The shim says that a process has ended: the pause process, a container, or a command in one."""
        if process.key == SANDBOX_KEY:
            self._lose("its pause process ended")
            return
        if waiting := self._exec_ends.pop(process.key, None):
            if not waiting.done():
                waiting.set_result(process)
            return
        record = self._find(process.key)
        if record is None or record.state not in ("running", "starting"):
            return
        code, number = exit_of(process.status)
        reason = "Completed" if code == 0 else "Error"
        if code == 137 and self._tools.runtime.cgroups.oom_kills(self._cgroup_of(record)) > 0:
            reason = "OOMKilled"
        if self.pod.spec.share_process_namespace or self.pod.spec.host_pid:
            # Its other processes do not end with it, as they would with a PID namespace of their own.
            self._spawn(self._tools.runtime.cgroups.kill(self._cgroup_of(record)))
        self._ended(record, Ended(code, reason, process.started, process.finished, number))
        self._wake.set()

    def _ended(self, record: ContainerRecord, ended: Ended) -> None:
        """Take down how a run ended, and decide whether and when there is another."""
        ended.container_id = container_id(self.pod.metadata.uid, record.name, record.attempt)
        record.ended, record.pid = ended, 0
        if self.record.delete_by is not None or not restarts(self.pod, ended.exit_code):
            record.state, record.next_start = "ended", None
            return
        wait = backoff.delay(record.backoff, record.backoff_updated, ended.finished)
        record.state = "waiting"
        record.next_start = ended.finished + wait
        record.reason = "CrashLoopBackOff" if wait else "ContainerCreating"
        record.message = ""
        if wait:
            meta = self.pod.metadata
            record.message = (
                f"back-off {wait:.0f}s restarting failed container={record.name} "
                f"pod={meta.name}_{meta.namespace}({meta.uid})"
            )
            self._event(
                "Warning",
                "BackOff",
                f"Back-off restarting failed container {record.name}",
                record.name,
            )

    # ---- deletion ----

    def delete(self, grace: float | None) -> None:
        """Begin to delete the pod, or shorten the time of a deletion that is under way; *grace* in seconds."""
        meta = self.pod.metadata
        seconds = self.pod.spec.termination_grace_period_seconds if grace is None else grace
        if seconds > 0:
            seconds = max(MINIMUM_GRACE, seconds)
        by = self._now() + seconds
        if self.record.delete_by is None or by < self.record.delete_by:
            self.record.delete_by = by
            meta.deletion_grace_period_seconds = int(seconds)
            meta.deletion_timestamp = timestamp(by)
        self._wake.set()
        try:
            self.publish()
        except MinipodError as error:
            # On a full disk it goes on unsaved: it is how the disk gets room again.
            log.warning("pod %s: the deletion could not be saved: %s", self.name, error)

    async def _sync_delete(self) -> None:
        assert self.record.delete_by is not None, "only called for a pod that is being deleted"
        live = [c for c in self.record.containers if c.state in ("running", "starting")]
        if not live or self._shim is None or self._now() >= self.record.delete_by:
            await self._end()
            return
        for container in live:
            # One that is just being started gets its signal when it runs: before that it could not handle it.
            key = process_key(container.name, container.attempt)
            if container.state == "running" and key not in self._signalled:
                self._signalled.add(key)
                self._event(
                    "Normal", "Killing", f"Stopping container {container.name}", container.name
                )
                # Not waited for: a shim that is held must not hold up the end of the grace period.
                self._spawn(_send(self._shim, key, self._stop_signal(container)))

    def _stop_signal(self, record: ContainerRecord) -> int:
        container = next(c for c in self.pod.spec.containers if c.name == record.name)
        image = self._tools.images.get(container.image)
        return parse_signal(image.config.stop_signal if image else "")

    async def _end(self) -> None:
        """Remove everything: this is where a pod leaves nothing behind."""
        directory, logs = resolve.pod_directories(self._tools.config, self.pod)
        run_parent = f"{self._tools.config.run_dir}/pods/{self.pod.metadata.uid}"
        await self._end_sandbox()
        for path in (run_parent, directory, logs):
            await remove_tree(path)
        # Now that the disk has what room the pod took.
        self._release_address()
        self._tools.store.remove(self.pod)
        self.gone.set()
        self._changed.set()

    # ---- coming back ----

    async def recover(self) -> None:
        """Find out what became of the pod while no agent ran. Nothing that lives is disturbed."""
        record = self.record
        if record.sandbox < 0:
            return
        config, uid = self._tools.config, self.pod.metadata.uid
        directory = resolve.run_dir(config, uid, record.sandbox)
        try:
            shim = Shim.connect(directory)
        except OSError:
            await self._recover_dead(directory)
            return
        self._listen(shim)  # before the question: what ends right after its answer is told but once
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                entries = {process.key: process for process in await shim.state()}
        except OSError:  # it was just ending, or it is held
            shim.close()
            await end_shims(directory)
            await self._recover_dead(directory)
            return
        pause = entries.get(SANDBOX_KEY)
        if pause is None or pause.state != "running":
            self._shim = shim
            self._take_exits(entries)
            await self._recover_dead(directory)
            return
        self._adopt_shim(shim)
        if not record.sandbox_up:
            # The agent died between making the sandbox and saying so; its network may be half made.
            await self._remove_sandbox()
            return
        for container in record.containers:
            if container.state not in ("running", "starting"):
                continue
            process = entries.get(process_key(container.name, container.attempt))
            if process is None and container.state == "starting":
                self._start_over(container)
            elif process is None:
                self._ended(container, self._killed_with_sandbox(container))
            elif process.state == "exited":
                container.state = "running"
                self._on_exit(process)
            elif container.state == "starting" and process.state == "running":
                self._on_started(process)

    def _take_exits(self, entries: dict[str, Process]) -> None:
        for container in self.record.containers:
            process = entries.get(process_key(container.name, container.attempt))
            if process and process.state == "exited" and container.state in ("running", "starting"):
                self._on_exit(process)

    async def _recover_dead(self, directory: str) -> None:
        """The sandbox is gone (a killed shim, a reboot): learn how containers ended, and clean up after it."""
        self._take_exits(read_exit_records(directory))
        if self.record.sandbox_up:
            self._lost = "it was gone when the agent came back"
            await self._lose_sandbox()
        else:
            await self._remove_sandbox()
        for container in self.record.containers:
            if container.state in ("running", "starting"):
                self._ended(container, self._killed_with_sandbox(container))

    # ---- commands in running containers ----

    def running(
        self, name: str | None
    ) -> tuple[ContainerRecord, ContainerContext, PodContext, Shim]:
        """Return what an exec into container *name* (None: the first) needs.

        Raises:
            NotFound: the pod has no such container.
            MinipodError: it does not run.
        """
        names = [c.name for c in self.pod.spec.containers]
        if name is not None and name not in names:
            raise NotFound(
                f"pod {self.name} has no container {name}", f"it has: {', '.join(names)}"
            )
        record = self.record.container(name or names[0])
        if record.state != "running" or self._shim is None:
            raise MinipodError(
                f"container {record.name} of pod {self.name} is not running",
                f"see minipod describe pod {self.pod.metadata.name}",
            )
        if record.name not in self._runs:
            container = next(c for c in self.pod.spec.containers if c.name == record.name)
            image = resolve.find_image(self._tools.images, container)
            self._runs[record.name] = resolve.container_context(
                image, container, record.attempt, self._tools.seccomp()
            )
        return record, self._runs[record.name], self._sandbox_context(), self._shim

    def next_exec(self) -> tuple[int, asyncio.Future[Process]]:
        """Return a number for a command, and the future of its end."""
        self._exec_number += 1
        future: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._exec_ends[f"exec/{self._exec_number}"] = future
        return self._exec_number, future


async def _send(shim: Shim, key: str, number: int) -> None:
    with contextlib.suppress(OSError):
        await shim.signal(key, number)


_REAL_TIME = re.compile(r"RTM(?:IN\+|AX-)([0-9]{1,2})")


def parse_signal(name: str) -> int:
    """Return the number of an image's ``StopSignal``: "SIGQUIT", "QUIT", "3", "SIGRTMIN+3".

    What means no signal is SIGTERM, as nothing is: an image is hostile input.
    """
    short = name.upper().removeprefix("SIG")
    if re.fullmatch("[0-9]{1,2}", name):
        number = int(name)
    elif match := _REAL_TIME.fullmatch(short):
        offset = int(match[1])
        number = signal.SIGRTMIN + offset if "+" in short else signal.SIGRTMAX - offset
    else:
        number = signal.Signals.__members__.get(f"SIG{short}", signal.SIGTERM)
    return int(number) if 0 < number <= signal.SIGRTMAX else int(signal.SIGTERM)
