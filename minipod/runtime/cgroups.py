# SPDX-License-Identifier: GPL-3.0-or-later
"""Cgroups on v2, on v1, and on both side by side.

A pod has one cgroup, made in every hierarchy in use, and below it one for the sandbox and one for each run of a
container. As under a kubelet it is ``<parent>/pod<uid>``, ``<parent>/burstable/pod<uid>`` or
``<parent>/besteffort/pod<uid>``, by the pod's class. On v2 processes live only in the leaves. Killing and emptiness
go through the cgroup2 hierarchy where one is mounted, even a bare one beside v1 controllers, because it has
``cgroup.kill`` and ``cgroup.events``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import select
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minipod.api import QOS_CLASSES
from minipod.native import cgroup_device
from minipod.plan.context import Facts, Hierarchy
from minipod.plan.defaults import DEVICE_RULES
from minipod.plan.slots import class_cgroup
from minipod.plan.steps import MakeCgroup
from minipod.runtime import devices

_DEVICE_PROGRAM = devices.program(DEVICE_RULES)


@dataclass(frozen=True, slots=True)
class Used:
    """What processes have used: nanoseconds of cpu since their cgroup was made, and bytes of memory now."""

    cpu: int
    memory: int


class Cgroups:
    """The cgroups below *parent*, which is relative to each hierarchy's mount point.

    Args:
        shims: the ``cgroup.procs`` of the cgroup for shims; empty leaves them in the agent's.
        renew: makes that cgroup again when it is gone.
    """

    def __init__(
        self,
        facts: Facts,
        parent: str,
        shims: str = "",
        renew: Callable[[], object] = lambda: None,
    ) -> None:
        self.facts = facts
        self._shims = shims
        self._renew = renew
        self.parent = parent.strip("/")
        self._waiting: set[tuple[str, asyncio.Event]] = set()  # by directory: see _wait_empty

    # ---- making ----

    def expect_moves(self) -> None:
        """Start the wait that the next move of a process between v1 cgroups would begin with; call it in a thread.

        Every move takes a lock whose first taker waits 5 to 20 ms for RCU; those who follow soon after do not. So we
        write our own pid into our own cgroup, which moves nothing, while the pod's plan is still being made.
        """
        for hierarchy in self.facts.hierarchies:
            if hierarchy.version == 1:
                own = _own_cgroup(hierarchy.controllers[0])
                with contextlib.suppress(OSError):
                    _write(f"{hierarchy.directory}{own}/cgroup.procs", str(os.getpid()))
                return

    def place_shim(self, pid: int) -> None:
        """Move a shim to where shims belong, so that it does not count as a process of the agent's service."""
        if self._shims:
            _write(self._shims, str(pid))

    def create(self, step: MakeCgroup) -> None:
        """Make the cgroup of *step* in every hierarchy and set its limits.

        Raises:
            OSError: with the path that failed.
        """
        if self._shims and not os.path.exists(self._shims):
            self._renew()
        for hierarchy in self.facts.hierarchies:
            self._mkdir(hierarchy, step.path)
        for write in step.writes:
            home = self.facts.controls(write.controller)
            if home is None:
                continue
            try:
                _write(f"{home.directory}/{step.path}/{write.file}", write.value)
            except FileNotFoundError:
                if not write.optional:
                    raise
        if step.devices:
            self._restrict_devices(step.path, step.more_devices)

    def _mkdir(self, hierarchy: Hierarchy, path: str) -> None:
        above = path.rpartition("/")[0]
        directory, parent = f"{hierarchy.directory}/{path}", f"{hierarchy.directory}/{above}"
        if os.path.isdir(directory):
            return  # controllers were handed down to it before it was made
        if above:
            self._mkdir(hierarchy, above)
        if hierarchy.version == 2 and hierarchy.controllers:
            self._enable(parent, hierarchy.controllers)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
            # Despite our umask: language runtimes read their limits there, as whatever user they are.
            os.chmod(directory, 0o755)

    @staticmethod
    def _enable(directory: str, controllers: tuple[str, ...]) -> None:
        """Hand *controllers* down to the children of a cgroup2 directory."""
        control = f"{directory}/cgroup.subtree_control"
        have = set(_read(control).split())
        available = set(_read(f"{directory}/cgroup.controllers").split())
        wanted = [f"+{name}" for name in controllers if name in available and name not in have]
        if wanted:
            _write(control, " ".join(wanted))

    def _restrict_devices(self, path: str, more: tuple[devices.Rule, ...]) -> None:
        if home := self.facts.controls("devices"):
            _write(f"{home.directory}/{path}/devices.deny", "a")
            for line in devices.v1_lines(DEVICE_RULES + more):
                _write(f"{home.directory}/{path}/devices.allow", line)
        elif home := self.facts.cgroup2:
            fd = self.open(path)
            try:
                program = devices.program(DEVICE_RULES + more) if more else _DEVICE_PROGRAM
                cgroup_device(fd, program)
            finally:
                os.close(fd)

    def open(self, path: str) -> int:
        """Return an fd of *path* in the cgroup2 hierarchy, for ``CLONE_INTO_CGROUP``."""
        home = self.facts.cgroup2
        if home is None:
            raise FileNotFoundError(errno.ENOENT, "no cgroup2 hierarchy is mounted", path)
        return os.open(f"{home.directory}/{path}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    # ---- looking ----

    def pods(self) -> dict[str, set[str]]:
        """Return the cgroups of pods by the pods' uids, over all classes and hierarchies."""
        result: dict[str, set[str]] = {}
        above = dict.fromkeys(class_cgroup(self.parent, quality) for quality in QOS_CLASSES)
        for hierarchy, directory in itertools.product(self.facts.hierarchies, above):
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(f"{hierarchy.directory}/{directory}"):
                    if entry.name.startswith("pod") and entry.is_dir():
                        uid = entry.name.removeprefix("pod")
                        result.setdefault(uid, set()).add(f"{directory}/{entry.name}")
        return result

    def processes(self, path: str) -> set[int]:
        """Return the pids in *path* and below, as the hierarchies tell."""
        result: set[int] = set()
        for hierarchy in self.facts.hierarchies:
            for directory in _tree(f"{hierarchy.directory}/{path}"):
                with contextlib.suppress(FileNotFoundError):
                    result.update(map(int, _read(f"{directory}/cgroup.procs").split()))
        return result

    def memory_usage(self, path: str) -> int:
        """Return the bytes of memory that *path* and all below it are charged for; 0 where nothing counts them."""
        home = self.facts.controls("memory")
        if home is None:
            return 0
        file = "memory.current" if home.version == 2 else "memory.usage_in_bytes"
        return int(_read(f"{home.directory}/{path}/{file}"))

    def usage(self, path: str) -> Used:
        """Return what *path* and all below it have used; zeros for what nothing counts, or that is gone.

        Memory is the working set, as the kubelet's: without the file cache that was not used lately.
        """
        cpu = memory = 0
        with contextlib.suppress(OSError):
            if (home := self.facts.controls("cpuacct")) and home.version == 1:
                cpu = int(_read(f"{home.directory}/{path}/cpuacct.usage"))
            elif home := self.facts.cgroup2:
                # Every cgroup2 has it, with or without controllers.
                cpu = _counts(f"{home.directory}/{path}/cpu.stat")["usage_usec"] * 1000
        with contextlib.suppress(OSError):
            memory = self.memory_usage(path)
            if home := self.facts.controls("memory"):
                inactive = "inactive_file" if home.version == 2 else "total_inactive_file"
                memory -= _counts(f"{home.directory}/{path}/memory.stat")[inactive]
        return Used(cpu, max(0, memory))

    def oom_kills(self, path: str) -> int:
        """Return how many processes of *path* the kernel killed for want of memory."""
        home = self.facts.controls("memory")
        if home is None:
            return 0
        file = "memory.events" if home.version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError):
            for line in _read(f"{home.directory}/{path}/{file}").splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        return 0

    # ---- ending ----

    async def kill(self, path: str) -> None:
        """Kill every process in *path* and below; returns when none is left.

        Processes that a hostile pod forks meanwhile are caught too: ``cgroup.kill`` is atomic, and without it
        we go round until the cgroup is empty.
        """
        home = self.facts.cgroup2
        kill = f"{home.directory}/{path}/cgroup.kill" if home else ""
        if home and os.path.exists(kill):
            with contextlib.suppress(FileNotFoundError):
                _write(kill, "1")
            await self._wait_empty(f"{home.directory}/{path}")
        while pids := self.processes(path):
            self._kill_all(path, pids)
            await asyncio.sleep(
                0.01
            )  # cgroup v1 alone has no event for "empty" that a plain process can wait for

    def _kill_all(self, path: str, pids: set[int]) -> None:
        with contextlib.ExitStack() as stack:
            held: dict[int, int] = {}
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    held[pid] = os.pidfd_open(pid)
                    stack.callback(os.close, held[pid])
            # Asked again once we hold the pidfds: a pid that is still listed is the process that we hold.
            for pid in self.processes(path) & held.keys():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held[pid], signal.SIGKILL)

    async def _wait_empty(self, directory: str) -> None:
        """Wait until ``populated 0``; the file raises POLLPRI on each change (cgroup-v2.rst).

        Not on its removal: the kernel holds changes back for some 10 ms, and forgets them with the cgroup. So
        :meth:`remove` tells whoever waits here.
        """
        loop = asyncio.get_running_loop()
        try:
            fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        watcher = select.epoll()
        changed = asyncio.Event()
        waiting = directory, changed
        self._waiting.add(waiting)
        try:
            watcher.register(fd, select.EPOLLPRI)
            loop.add_reader(watcher.fileno(), changed.set)
            while b"populated 0" not in os.pread(fd, 4096, 0):
                await changed.wait()
                changed.clear()
                watcher.poll(0)
        except OSError as error:
            if error.errno != errno.ENODEV:  # the cgroup is gone, and so are its processes
                raise
        finally:
            self._waiting.discard(waiting)
            loop.remove_reader(watcher.fileno())
            watcher.close()
            os.close(fd)

    async def remove(self, path: str) -> None:
        """Remove *path* and all below it from every hierarchy; it holds no process any more."""
        for hierarchy in self.facts.hierarchies:
            for directory in reversed(list(_tree(f"{hierarchy.directory}/{path}"))):
                await _rmdir(directory)
                for waited, changed in self._waiting:
                    if waited == directory:
                        changed.set()

    def remove_empty(self, path: str) -> None:
        """Remove *path*, unless there is something in it."""
        for hierarchy in self.facts.hierarchies:
            with contextlib.suppress(OSError):
                os.rmdir(f"{hierarchy.directory}/{path}")

    def remove_empty_classes(self) -> None:
        """Remove the classes' cgroups that no pod is in."""
        for quality in QOS_CLASSES:
            if (path := class_cgroup(self.parent, quality)) != self.parent:
                self.remove_empty(path)

    def remove_parent(self) -> None:
        """Remove the parent itself, and the classes' cgroups in it, when no pod is left."""
        self.remove_empty_classes()
        self.remove_empty(self.parent)


async def _rmdir(directory: str) -> None:
    # A process that was just reaped may still be counted for an instant: EBUSY.
    for attempt in range(200):
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or attempt == 199:
                raise
            await asyncio.sleep(0.005)


def _tree(directory: str) -> Iterator[str]:
    """Yield *directory* and every cgroup below it, parents first."""
    for current, _, _ in os.walk(directory):
        yield current


def _own_cgroup(controller: str) -> str:
    """Return this process's cgroup in the v1 hierarchy of *controller* (``cgroups(7)``)."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return "/"


def _counts(path: str) -> dict[str, int]:
    """Return the numbers of a file like ``cpu.stat`` by name."""
    pairs = (line.split() for line in _read(path).splitlines())
    return {name: int(value) for name, value in pairs}


def _read(path: str) -> str:
    return Path(path).read_text()


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(
            error.errno, f"{os.strerror(error.errno or 0)}, writing {value!r}", path
        ) from error
    finally:
        os.close(fd)
