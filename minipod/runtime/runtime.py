# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes the host steps of a plan, one handler per step, and takes a sandbox down again.

Everything that a plan makes is named after the pod (its uid), so that taking it down needs no memory of what was made:
it removes what is there, and is right after any crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from minipod.config import HELPER_ENV
from minipod.errors import MinipodError
from minipod.network import Network, PodLink
from minipod.plan import steps as s
from minipod.plan.context import Facts
from minipod.runtime import failure, ownership
from minipod.runtime.cgroups import Cgroups
from minipod.runtime.hostmounts import unmount_below
from minipod.runtime.shim import Executables, LaunchFailed, Process, Shim, end_shims, in_time

_SHUTDOWN_TIMEOUT = 5.0  # seconds; the pod is killed by then, and the shim has only to reap it


class Watch(Protocol):
    """Is told how long steps take; times are of ``CLOCK_MONOTONIC``, in ns."""

    def step(self, step: s.Step, began: int) -> None:
        """A host step that began then is over, whether it did what it should or not."""

    def launched(self, launch: s.Launch, marks: Sequence[int]) -> None:
        """A launch has been answered; *marks* are those of :class:`~minipod.runtime.shim.Process`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose plan runs and where it was written, for the words of a failure; and who wants to know its times."""

    whose: str
    lines: Mapping[str, int]
    source: str
    watch: Watch | None = None


class Runtime:
    """What executes plans: one per agent."""

    def __init__(
        self, facts: Facts, cgroups: Cgroups, network: Network, executables: Executables
    ) -> None:
        self.facts = facts
        self.cgroups = cgroups
        self.network = network
        self._executables = executables

    # ---- doing ----

    async def make_sandbox(
        self, steps: Sequence[s.Step], origin: Origin, on_shim: Callable[[Shim], None]
    ) -> tuple[Shim, Process]:
        """Execute a sandbox's plan; *on_shim* is told of the shim as soon as it runs.

        Raises:
            StepFailed: a step failed. What was made until then stays: take it down with :meth:`remove_sandbox`.
        """
        shim: Shim | None = None
        pause: Process | None = None
        # The packet filter learns of the pod while its namespaces are made: nft takes as long as all of that.
        joins = next((step for step in steps if isinstance(step, s.AttachNetwork)), None)
        admitted = asyncio.ensure_future(self._admit(joins))
        try:
            for step in steps:
                with _named(step, origin):
                    if isinstance(step, s.StartShim):
                        shim = Shim.start(
                            step.run_dir, step.label, self._executables, self.cgroups.place_shim
                        )
                        on_shim(shim)
                    elif isinstance(step, s.Launch):
                        assert shim is not None, "a plan starts its shim before it launches"
                        pause = await self._launch(shim, step, origin)
                    elif isinstance(step, s.AttachNetwork):
                        assert pause is not None, "a plan attaches what it has launched"
                        await self._attach(step, pause, admitted)
                    elif isinstance(step, s.GiveToGroup):
                        await asyncio.to_thread(_give_to_group, step)  # a volume may be large
                    else:
                        self._host_step(step)
        finally:
            admitted.cancel()
            await asyncio.gather(admitted, return_exceptions=True)
        assert shim is not None and pause is not None, "a sandbox's plan has a shim and a launch"
        return shim, pause

    async def start_container(self, shim: Shim, steps: Sequence[s.Step], origin: Origin) -> Process:
        """Execute the plan of one run of a container.

        Raises:
            StepFailed: a step failed.
        """
        process: Process | None = None
        for step in steps:
            with _named(step, origin):
                if isinstance(step, s.Launch):
                    process = await self._launch(shim, step, origin)
                else:
                    self._host_step(step)
        assert process is not None, "a container's plan ends in its launch"
        return process

    async def execute(
        self, shim: Shim, launch: s.Launch, fds: Sequence[int], origin: Origin
    ) -> Process:
        """Launch a command in a running container; *fds* are its stdin, stdout and stderr, or none for a terminal."""
        return await self._launch(shim, launch, origin, fds)

    async def _launch(
        self, shim: Shim, launch: s.Launch, origin: Origin, fds: Sequence[int] = ()
    ) -> Process:
        with contextlib.ExitStack() as stack:
            sent = list(fds)
            if launch.into_cgroup:
                cgroup = self.cgroups.open(launch.into_cgroup)
                stack.callback(os.close, cgroup)
                sent.append(cgroup)
            watch = origin.watch
            try:
                process = await shim.launch(launch, sent, timed=watch is not None)
                if watch is not None:
                    watch.launched(launch, process.marks)
                return process
            except LaunchFailed as error:
                if watch is not None:
                    watch.launched(launch, error.marks)
                raise failure.launch_failed(
                    launch, error, origin.whose, origin.lines, origin.source
                ) from error

    async def _admit(self, step: s.AttachNetwork | None) -> None:
        if step is not None:
            await self.network.admit(_pod_link(step))

    async def _attach(
        self, step: s.AttachNetwork, pause: Process, admitted: asyncio.Future[None]
    ) -> None:
        netns, netlink = pause.fds
        try:
            await admitted
            await self.network.attach(_pod_link(step), netns, netlink)
        finally:
            for fd in pause.fds:
                os.close(fd)

    def _host_step(self, step: s.Step) -> None:
        match step:
            case s.MakeDirectory():
                _make_directory(step)
            case s.MakeHostPath():
                _make_host_path(step)
            case s.MakeCgroup():
                self.cgroups.create(step)
            case _:
                raise AssertionError(f"no handler for {type(step).__name__}")

    # ---- undoing ----

    async def remove_sandbox(
        self, run_dir: str, cgroup: str, shim: Shim | None, link: PodLink | None
    ) -> None:
        """End whatever is left of a pod's sandbox and remove it from the host: right after a crash, too.

        Volumes, logs and container directories stay; see :func:`remove_tree` for those.
        """
        await self.cgroups.kill(cgroup)
        if shim is None:
            with contextlib.suppress(OSError):
                shim = Shim.connect(run_dir)
        if shim is None or not await _shut_down(shim):
            await end_shims(run_dir)
        if link is not None:
            await self.network.detach(link)
        await self.cgroups.remove(cgroup)
        await remove_tree(run_dir)


async def _shut_down(shim: Shim) -> bool:
    """End a shim; whether it did."""
    try:
        await in_time(shim.shutdown, _SHUTDOWN_TIMEOUT)
        return True
    except TimeoutError:
        return False
    finally:
        shim.close()


def _pod_link(step: s.AttachNetwork) -> PodLink:
    return PodLink(
        owner=step.owner,
        address=step.address,
        prefix_len=step.prefix_len,
        gateway=step.gateway,
        host_ifname=step.host_ifname,
        mac=step.mac,
        ports=step.ports,
    )


@contextlib.contextmanager
def _named(step: s.Step, origin: Origin) -> Iterator[None]:
    """Turn an OSError of a host step into words; everything else has its words already. Time it."""
    began = time.monotonic_ns()
    try:
        yield
    except MinipodError:
        raise
    except OSError as error:
        raise failure.host_step_failed(
            step, error, origin.whose, origin.lines, origin.source
        ) from error
    finally:
        if origin.watch is not None:
            origin.watch.step(step, began)


def _give_to_group(step: s.GiveToGroup) -> None:
    ownership.give_to_group(step.path, step.gid, on_root_mismatch=step.on_root_mismatch)


def _make_directory(step: s.MakeDirectory) -> None:
    os.makedirs(step.path, mode=0o700, exist_ok=True)
    if step.owner:
        os.chown(step.path, step.owner, step.owner)
    os.chmod(step.path, step.mode)


def _make_host_path(step: s.MakeHostPath) -> None:
    """Make what is not there, with the kubelet's modes and not those that our umask would leave."""
    if step.directory:
        missing = [step.path.rstrip("/")]
        while missing[-1] and not os.path.lexists(missing[-1]):
            missing.append(os.path.dirname(missing[-1]))
        for path in reversed(missing[:-1]):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
                os.chmod(path, 0o755)
        return
    # As Kubernetes: the parent directory must be there (hostPath, FileOrCreate).
    with contextlib.suppress(FileExistsError):
        fd = os.open(step.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o644)
        finally:
            os.close(fd)


def host_path_type(path: str) -> str:
    """Return what *path* is on the host, as a key of ``steps.FILE_TYPES``; "" when it is not there."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return ""
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFREG: "file",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "char",
        stat.S_IFBLK: "block",
    }
    return kinds.get(stat.S_IFMT(mode), "")


async def remove_tree(path: str) -> None:
    """Remove a directory of ours with all that a hostile container may have put into it.

    ``rm`` walks by fd, never follows symbolic links, is not recursive in memory, and does not leave the filesystem.
    """
    if not os.path.lexists(path):
        return
    await unmount_below(path)
    remover = await asyncio.create_subprocess_exec(
        *("rm", "-rf", "--one-file-system", "--", path),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        env=HELPER_ENV,
    )
    _, stderr = await remover.communicate()
    if remover.returncode:
        raise OSError(5, stderr.decode(errors="replace").strip(), path)
