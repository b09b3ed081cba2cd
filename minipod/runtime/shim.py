# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's side of a shim: starting one, finding one again, asking it to launch, signal and forget.

A shim outlives the agent. Its socket is bound by the agent before the shim exists and inherited by it, so a later
agent that finds the path can tell by connecting whether a shim lives: a dead one's socket refuses.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from minipod.native import executable, ffi, lib, spawn
from minipod.plan.steps import Launch
from minipod.runtime.pack import pack, sealed_memfd

SOCKET = "shim.sock"
# Seconds. A shim answers in microseconds: one that says nothing for so long is held (SIGSTOP) or broken.
ANSWER_TIMEOUT = 10.0
_LATE = 1.0  # seconds
_NAME = "minipod-shim"
T = TypeVar("T")
_KEPT_PLANS = 16  # of commands: a pod has few probes
_MESSAGE_SIZE = ffi.sizeof("struct mp_msg")
_MARKS_SIZE = 8 * lib.MP_MAX_MARKS


@dataclass(frozen=True, slots=True)
class Process:
    """What a shim knows of a process.

    Attributes:
        key: ``sandbox``, ``<container>/<attempt>``, ``exec/<n>``.
        state: ``starting``, ``running`` or ``exited``.
        pid: in the host's PID namespace.
        status: the wait status once it has exited.
        started, finished: seconds since the epoch.
        fds: what its plan sent up, in order; owned by the receiver.
        marks: of a timed launch: when it was asked for, begun, each step over, exec'ed (CLOCK_MONOTONIC, ns).
    """

    key: str
    state: str
    pid: int
    status: int
    started: float
    finished: float
    fds: tuple[int, ...] = field(default=(), compare=False)
    marks: tuple[int, ...] = field(default=(), compare=False)


class LaunchFailed(Exception):
    """A launch failed in the shim or in the clone.

    Attributes:
        step: index in the launch's steps; -1 when the clone was killed, -2 when the shim refused.
        errno: why.
        detail: the element of a list step, or the wait status of a killed clone.
        marks: of a timed launch, as :class:`Process` has them, until it failed.
    """

    def __init__(self, step: int, errno: int, detail: int, marks: tuple[int, ...] = ()) -> None:
        super().__init__(f"step {step}: {os.strerror(errno)}")
        self.step = step
        self.errno = errno
        self.detail = detail
        self.marks = marks


async def in_time(ask: Callable[[], Awaitable[T]], seconds: float = ANSWER_TIMEOUT) -> T:
    """Return a shim's answer to a request that *ask* makes, and that may be made again.

    Raises:
        TimeoutError: it said nothing for *seconds*, in which we were there to hear it. Where we were not, because we
            had been stopped or had much to do on a slow machine, its answer may have been there all the time.
        OSError: it is gone, or cannot do it.
    """
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time()
        try:
            async with asyncio.timeout(seconds):
                return await ask()
        except TimeoutError:
            if loop.time() - asked <= seconds + _LATE:
                raise


class Executables:
    """The shim and the pause executable as sealed memory files, made once per agent (CVE-2019-5736).

    All shims and pause processes share their pages, and nothing that happens to the files of an upgraded package,
    or inside a container, can change what runs.
    """

    def __init__(self) -> None:
        self.shim = sealed_memfd("minipod-shim", executable("minipod-shim").read_bytes())
        self.pause = sealed_memfd("minipod-pause", executable("minipod-pause").read_bytes())


class Shim:
    """A connection to one shim. Closing it harms nothing that runs.

    Attributes:
        on_exit: called with each :class:`Process` that has exited.
        on_started: called with a process whose launch an earlier agent asked for.
        on_failed: called when such a launch has failed; nothing of the process is left.
        closed: set when the shim is gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        # Not from 0: the answer to a launch that an earlier agent asked for must not look like one to us.
        self._serial = secrets.randbits(30)
        self._waiting: dict[int, asyncio.Future[list[Process]]] = {}
        self._entries: dict[int, list[Process]] = {}
        self._plans: dict[int, tuple[Launch, bytes]] = {}
        self.on_exit: Callable[[Process], None] = lambda process: None
        self.on_started: Callable[[Process], None] = lambda process: None
        self.on_failed: Callable[[Process], None] = lambda process: None
        self.closed = asyncio.Event()
        self._loop.add_reader(sock.fileno(), self._readable)

    @classmethod
    def start(
        cls,
        run_dir: str,
        label: str,
        executables: Executables,
        place: Callable[[int], None] = lambda pid: None,
    ) -> Shim:
        """Start a shim that listens on ``<run_dir>/shim.sock`` and keeps exit records in ``<run_dir>/exits``.

        *place* is called with its pid before it is asked for anything.

        Raises:
            OSError: the socket, the directory or the process could not be made.
        """
        directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        records = null = -1
        try:
            records = os.open(
                "exits", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory
            )
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                # Through the directory's fd: a path in /run may be longer than sun_path (unix(7)).
                listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
                listener.listen(4)
                fds = (null, null, null, listener.fileno(), records, executables.pause)
                # The directory as well: it is how a shim is found whose socket was taken away.
                pid, pidfd = spawn(executables.shim, fds, _NAME, f"{label} {run_dir}")
            _reap_later(pidfd)
            place(pid)
            return cls(_connect(directory))
        finally:
            for fd in (directory, records, null):
                if fd >= 0:
                    os.close(fd)

    @classmethod
    def connect(cls, run_dir: str) -> Shim:
        """Find the shim of *run_dir* again.

        Raises:
            OSError: there is none: ``ENOENT`` (never was) or ``ECONNREFUSED`` (it died).
        """
        directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return cls(_connect(directory))
        finally:
            os.close(directory)

    def close(self) -> None:
        """Let go of the shim, which goes on."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        self.closed.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the shim is gone"))
        self._waiting.clear()

    # ---- requests ----

    async def launch(self, launch: Launch, fds: Sequence[int], *, timed: bool = False) -> Process:
        """Launch a plan; *fds* are what ``launch.fds`` names. Returns when the program has been exec'ed.

        With *timed* the answer has marks.

        Raises:
            LaunchFailed: a step failed, or the shim refused.
            OSError: the shim is gone.
        """
        plan = sealed_memfd("plan", self._packed(launch, timed))
        try:
            return (await self._request("LAUNCH", launch.key, fds=(plan, *fds)))[0]
        finally:
            os.close(plan)

    def _packed(self, launch: Launch, timed: bool = False) -> bytes:
        """Return *launch* in wire form; that of a command which is executed again and again is kept."""
        if launch.kind != "EXEC":
            return pack(launch, timed=timed)
        kept = self._plans.pop(id(launch.steps), None)
        # An id is used again, so what is kept holds on to its steps. All but the key is in the wire form.
        if kept is None or replace(kept[0], key=launch.key) != launch:
            kept = launch, pack(launch)
        self._plans[id(launch.steps)] = kept
        if len(self._plans) > _KEPT_PLANS:
            del self._plans[next(iter(self._plans))]
        return kept[1]

    async def signal(self, key: str, signal: int) -> bool:
        """Send *signal* to a process by its pidfd; whether it was still there."""
        try:
            await self._request("SIGNAL", key, status=signal)
        except ProcessLookupError:
            return False
        return True

    async def attach(self, key: str, stdout: int, stderr: int) -> int:
        """Have all that a container writes from now on copied to two pipes, until it ends or they are not read.

        Returns:
            The fd that feeds the container's stdin, which is the master if it has a terminal; -1 if there is none.

        Raises:
            ProcessLookupError: it does not run.
            OSError: too many are attached, or the shim is gone.
        """
        answers = await self._request("ATTACH", key, fds=(stdout, stderr))
        return answers[0].fds[0] if answers else -1

    async def end_stdin(self, key: str) -> None:
        """Let go of a container's stdin: it ends with whoever is attached to it."""
        await self._request("END_STDIN", key)

    async def state(self) -> list[Process]:
        """Return all processes that the shim knows."""
        return await self._request("STATE", "")

    async def forget(self, key: str) -> None:
        """Drop the record of a process that has exited; none is fine."""
        try:
            await self._request("FORGET", key)
        except ProcessLookupError:
            return

    async def shutdown(self) -> None:
        """Kill all that is left in the pod and end the shim; returns when all is reaped."""
        try:
            await self._request("SHUTDOWN", "")
        except ConnectionError:
            return

    async def _request(
        self, kind: str, key: str, *, status: int = 0, fds: Sequence[int] = ()
    ) -> list[Process]:
        self._serial += 1
        message = ffi.new("struct mp_msg *")
        message.type = getattr(lib, f"MP_{kind}")
        message.serial = self._serial
        message.status = status
        message.key = key.encode()
        future: asyncio.Future[list[Process]] = self._loop.create_future()
        self._waiting[self._serial] = future
        self._entries[self._serial] = []
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([bytes(ffi.buffer(message))], ancillary, socket.MSG_NOSIGNAL)
            return await future
        except OSError as error:
            if error.errno == 9:  # our own socket was closed under us: the shim is gone
                raise ConnectionResetError("the shim is gone") from error
            raise
        finally:
            self._waiting.pop(message.serial, None)
            self._entries.pop(message.serial, None)

    # ---- answers and events ----

    def _readable(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(
                    _MESSAGE_SIZE + _MARKS_SIZE,
                    socket.CMSG_SPACE(16 * 4),
                    socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
                )
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            if len(data) < _MESSAGE_SIZE:
                self.close()
                return
            fds = array.array("i")
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
            marks = memoryview(data)[_MESSAGE_SIZE : len(data) - len(data) % 8].cast("Q")
            self._handle(ffi.from_buffer("struct mp_msg *", data), tuple(fds), tuple(marks))

    def _handle(self, message: Any, fds: tuple[int, ...], marks: tuple[int, ...]) -> None:
        kind = message.type
        process = _process(message, fds, marks)
        if kind == lib.MP_EXITED:
            self.on_exit(process)
            return
        if kind == lib.MP_ENTRY:
            self._entries.get(message.serial, []).append(process)
            return
        future = self._waiting.get(message.serial)
        if future is None or future.done():
            for fd in fds:
                os.close(fd)
            if kind == lib.MP_LAUNCHED:
                self.on_started(process)
            elif kind == lib.MP_FAILED:
                self.on_failed(process)
            return
        if kind == lib.MP_LAUNCHED:
            future.set_result([process])
        elif kind == lib.MP_FAILED:
            future.set_exception(LaunchFailed(message.step, message.status, message.detail, marks))
        elif kind == lib.MP_ERROR:
            future.set_exception(OSError(message.status, os.strerror(message.status)))
        else:
            future.set_result([process] if fds else self._entries.get(message.serial, []))


_STATES = {lib.MP_STARTING: "starting", lib.MP_RUNNING: "running", lib.MP_EXITED_STATE: "exited"}


def _process(message: Any, fds: tuple[int, ...], marks: tuple[int, ...]) -> Process:
    return Process(
        key=ffi.string(message.key).decode(),
        state=_STATES.get(message.state, ""),
        pid=message.pid,
        status=message.status,
        started=message.started_ns / 1e9,
        finished=message.finished_ns / 1e9,
        fds=fds,
        marks=marks,
    )


def _connect(directory: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{SOCKET}")
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _reap_later(pidfd: int) -> None:
    """Collect our child's exit status when it ends, so that it does not stay a zombie while this agent lives."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)

    loop.add_reader(pidfd, ended)


def reap_orphans() -> None:
    """Collect what a killed shim has left to us, its subreaper; to be called at SIGCHLD.

    Each pod's processes are in sessions of their own. Children that are in ours are somebody else's to wait for.
    """
    ours = os.getsid(0)
    for pid in _children():
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            if os.getsid(pid) != ours:
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    # Those that the kernel gives us go to the first thread (exit.c, find_new_reaper).
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except (
        FileNotFoundError
    ):  # a kernel without CONFIG_PROC_CHILDREN: they stay zombies until we end
        return []


async def end_shims(directory: str) -> None:
    """Kill the shims whose run directory is *directory* or lies below it, and wait for their end.

    For those that cannot be talked to: they are held, or their socket was taken away.
    """
    for pidfd in _find_shims(directory):
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(pidfd, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(pidfd)
        finally:
            os.close(pidfd)


def shim_pods(directory: str) -> set[str]:
    """Return the names below *directory* under which living shims have their run directories."""
    places = (_run_dir_of(pid) for pid in filter(str.isdigit, os.listdir("/proc")))
    start = f"{directory}/"
    return {place.removeprefix(start).split("/")[0] for place in places if place.startswith(start)}


def _find_shims(directory: str) -> Iterator[int]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            pidfd = os.pidfd_open(int(pid))
        except OSError:
            continue
        # Read once we hold the pidfd: what is still there then is the process that we hold.
        if f"{_run_dir_of(pid)}/".startswith(f"{directory}/"):
            yield pidfd
        else:
            os.close(pidfd)


def _run_dir_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(8192).split(b"\0")
    except OSError:
        return ""
    if len(words) < 2 or words[0] != _NAME.encode():
        return ""
    return os.fsdecode(words[1].partition(b" ")[2])


def read_exit_records(run_dir: str) -> dict[str, Process]:
    """Return the exit records of a shim, dead or alive, by key."""
    result: dict[str, Process] = {}
    try:
        names = os.listdir(f"{run_dir}/exits")
    except FileNotFoundError:
        return result
    for name in names:
        if name.startswith("."):
            continue
        with open(f"{run_dir}/exits/{name}") as file:
            words = file.read().split()
        if len(words) == 4:
            key = "/".join(name.rsplit(".", 1)) if name != "sandbox" else name
            pid, status, started, finished = map(int, words)
            result[key] = Process(key, "exited", pid, status, started / 1e9, finished / 1e9)
    return result
