# SPDX-License-Identifier: GPL-3.0-or-later
"""A shim of a test's own, driven directly over its socket: no agent, no pods, plans of the test's making.

A :class:`Kit` runs in a directory of its own, with either build of the executables. When a test is over, the shim
must be able to shut down, must exit with 0 (a sanitizer would see to it that it does not), and must have written
nothing to its stderr; whatever else it left is killed by pid and is an error of that test.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minipod.native import executable, ffi, lib, spawn
from minipod.plan import steps as s
from minipod.runtime.pack import pack, sealed_memfd
from minipod.runtime.shim import SOCKET, LaunchFailed, Process, Shim
from tests.patience import patience

LIMIT = patience(60)  # seconds until a wait is taken for a hang
STDIN, STDOUT, STDERR = 0, 1, 2  # slots of the plans below
ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
SH = "/bin/sh"
MESSAGE_SIZE = ffi.sizeof("struct mp_msg")
CRI_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Build:
    """A pair of executables: ``static`` as they are installed, ``sanitized`` with ASan and UBSan."""

    name: str
    shim: Path
    pause: Path

    @classmethod
    def static(cls) -> Build:
        return cls("static", executable("minipod-shim"), executable("minipod-pause"))

    @classmethod
    def sanitized(cls, directory: Path) -> Build:
        return cls("sanitized", directory / "minipod-shim", directory / "minipod-pause")


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw(s.NamespaceStep):
    """A step that the typed ones cannot say."""

    what: s.Record

    def describe(self) -> str:
        return f"raw {self.what.op}"

    def record(self) -> s.Record:
        return self.what


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log in the CRI format."""

    time: str
    stream: str
    tag: str
    text: bytes


def read_log(path: Path | str) -> list[Line]:
    """Parse a CRI log strictly: every line must be whole and in form."""
    data = Path(path).read_bytes()
    assert not data or data.endswith(b"\n"), "the log ends in half a line"
    lines = []
    for raw in data.split(b"\n")[:-1]:
        match = CRI_LINE.fullmatch(raw)
        assert match, f"not a CRI line: {raw[:200]!r}"
        time, stream, tag, text = match.groups()
        lines.append(Line(time.decode(), stream.decode(), tag.decode(), text))
    return lines


def joined(lines: Sequence[Line], stream: str = "stdout") -> bytes:
    """Return what was written to *stream*: the text of its lines, parts put together again."""
    return b"".join(
        line.text + (b"\n" if line.tag == "F" else b"") for line in lines if line.stream == stream
    )


def finish(*command: str, terminal: bool = False) -> tuple[s.Step, ...]:
    """The last steps of a plan: stdio, close the rest, become *command* (an absolute path first)."""
    return (
        s.SetStdio(slots=(STDIN, STDOUT, STDERR), terminal=terminal),
        s.CloseRange(),
        s.Exec(candidates=(command[0],), argv=command, env=ENV),
    )


def shell(script: str) -> tuple[s.Step, ...]:
    """A whole plan: a shell that runs *script*, in the host's namespaces."""
    return (s.Harden(), s.NewSession(), *finish(SH, "-c", script))


def private() -> tuple[s.Step, ...]:
    """First steps of a plan that mounts: throw-away namespaces."""
    return (
        s.Harden(),
        s.Unshare(namespaces=("mnt", "uts", "ipc", "net", "cgroup")),
        s.MakePrivate(),
    )


def plan(key: str, steps: Sequence[s.Step], **options: Any) -> s.Launch:
    """Return the launch of *steps*; its kind is CONTAINER unless *options* say otherwise."""
    return s.Launch(key=key, kind=options.pop("kind", "CONTAINER"), steps=tuple(steps), **options)  # type: ignore[arg-type]


def message(kind: str | int, serial: int = 1, key: str | bytes = "", status: int = 0) -> bytes:
    """Return a request in wire form."""
    request = ffi.new("struct mp_msg *")
    request.type = getattr(lib, f"MP_{kind}") if isinstance(kind, str) else kind
    request.serial = serial
    request.status = status
    request.key = key.encode() if isinstance(key, str) else key
    return bytes(ffi.buffer(request))


@dataclass(frozen=True, slots=True)
class Reply:
    """A message of the shim, as it came."""

    type: int
    serial: int
    status: int
    step: int
    key: str
    state: int
    fds: tuple[int, ...] = ()


class RawAgent:
    """The other end of a shim's socket without any of the manners of :class:`minipod.runtime.shim.Shim`."""

    def __init__(self, run_dir: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{directory}/{SOCKET}")
        finally:
            os.close(directory)
        self.sock.setblocking(False)

    async def __aenter__(self) -> RawAgent:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.sock.close()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)

    async def receive(self) -> Reply | None:
        """Return the next message, or None when the shim has hung up."""
        async with asyncio.timeout(LIMIT):
            await readable(self.sock.fileno())
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, MESSAGE_SIZE, 16)
        except ConnectionResetError:
            return None
        if not data:
            return None
        assert len(data) == MESSAGE_SIZE
        m = ffi.from_buffer("struct mp_msg *", data)
        key = ffi.string(m.key).decode()
        return Reply(m.type, m.serial, m.status, m.step, key, m.state, tuple(fds))

    async def ask(self, data: bytes, fds: Sequence[int] = ()) -> Reply | None:
        self.send(data, fds)
        return await self.receive()

    async def launch(self, body: bytes, key: str = "p/0", serial: int = 1) -> Reply | None:
        """Send *body* as a plan and return the answer."""
        fd = sealed_memfd("plan", body)
        try:
            return await self.ask(message("LAUNCH", serial, key), (fd,))
        finally:
            os.close(fd)


@dataclass(slots=True)
class Kit:
    """One shim and what a test needs around it.

    Attributes:
        base: a directory for the test's own files; its ``run`` is the shim's.
        shim: the agent's side; another may be put in its place (:meth:`reconnect`).
        pid: the shim's.
    """

    base: Path
    build: Build
    shim: Shim = field(init=False)
    pid: int = field(init=False)
    _pidfd: int = field(init=False)
    _stderr: Path = field(init=False)
    _exits: dict[str, asyncio.Future[Process]] = field(init=False, default_factory=dict)

    @property
    def run_dir(self) -> Path:
        return self.base / "run"

    async def start(self) -> None:
        """Start the shim as the agent would, but with a stderr that is looked at, and as a child that is waited for."""
        (self.run_dir / "exits").mkdir(parents=True, mode=0o700)
        self._stderr = self.base / "shim.stderr"
        with contextlib.ExitStack() as stack:

            def opened(path: Path | str, flags: int) -> int:
                fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, fd)
                return fd

            run_dir = opened(self.run_dir, os.O_RDONLY | os.O_DIRECTORY)
            records = opened(self.run_dir / "exits", os.O_RDONLY | os.O_DIRECTORY)
            null = opened("/dev/null", os.O_RDWR)
            stderr = opened(self._stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            memfds = [
                sealed_memfd(path.name, path.read_bytes())
                for path in (self.build.shim, self.build.pause)
            ]
            for fd in memfds:
                stack.callback(os.close, fd)
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            listener.bind(f"/proc/self/fd/{run_dir}/{SOCKET}")
            listener.listen(4)
            fds = (null, null, stderr, listener.fileno(), records, memfds[1])
            self.pid, self._pidfd = spawn(memfds[0], fds, "minipod-shim", "test/shim")
        await self.reconnect().state()  # answered when it is set up

    def reconnect(self) -> Shim:
        """Connect as a new agent; the shim lets go of the one before."""
        self.shim = Shim.connect(str(self.run_dir))
        self.shim.on_exit = self._on_exit
        return self.shim

    def _exit_of(self, key: str) -> asyncio.Future[Process]:
        return self._exits.setdefault(key, asyncio.get_running_loop().create_future())

    def _on_exit(self, process: Process) -> None:
        future = self._exit_of(process.key)
        if not future.done():
            future.set_result(process)

    async def launch(
        self, steps: Sequence[s.Step], key: str = "p/0", *, send: Sequence[int] = (), **options: Any
    ) -> Process:
        """Launch *steps* and return when it is exec'ed; *send* are the fds for slots 0, 1 …

        Without a *stdio* in *options*, stdout and stderr go to :meth:`log`.
        """
        options = {"stdio": "LOG", "stdio_slots": (STDIN, STDOUT, STDERR)} | options
        if options["stdio"] in ("LOG", "TTY_LOG"):
            options.setdefault("log_path", str(self.log_path(key)))
        async with asyncio.timeout(LIMIT):
            timed = options.pop("timed", False)
            return await self.shim.launch(plan(key, steps, **options), send, timed=timed)

    async def failure(
        self, steps: Sequence[s.Step], key: str = "p/0", **options: Any
    ) -> LaunchFailed:
        """Launch *steps*, which must fail, and return how."""
        try:
            process = await self.launch(steps, key, **options)
        except LaunchFailed as error:
            return error
        raise AssertionError(f"did not fail: {process}")

    async def exit(self, key: str = "p/0") -> Process:
        """Return how *key* ended, once it has."""
        async with asyncio.timeout(LIMIT):
            return await self._exit_of(key)

    def forget_exits(self) -> None:
        """Forget how processes ended, so that their keys can be used again."""
        self._exits.clear()

    async def run(self, steps: Sequence[s.Step], key: str = "p/0", **options: Any) -> str:
        """Launch *steps*, expect exit code 0, and return what was written to stdout."""
        await self.launch(steps, key, **options)
        ended = await self.exit(key)
        lines = read_log(options.get("log_path", self.log_path(key)))
        assert ended.status == 0, (ended, joined(lines, "stderr"), joined(lines))
        return joined(lines).decode(errors="surrogateescape")

    def log_path(self, key: str = "p/0") -> Path:
        return self.base / (key.replace("/", ".") + ".log")

    async def entry(self, key: str) -> Process | None:
        """Return what the shim says of *key*."""
        async with asyncio.timeout(LIMIT):
            entries = {process.key: process for process in await self.shim.state()}
        return entries.get(key)

    def fifo(self, name: str = "gate") -> Gate:
        """Return a gate that a plan can be stopped at."""
        return Gate(self.base / name)

    def fds(self) -> int:
        """Return how many fds the shim has."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def fds_are(self, number: int) -> None:
        """Wait until the shim has *number* fds; it answers some requests before it has closed all of theirs."""
        await until(lambda: True if self.fds() == number else None)

    def descendants(self) -> list[int]:
        """Return the pids of all processes below the shim, parents first."""
        found = [self.pid]
        for pid in found:
            found += children(pid)
        return found[1:]

    async def shutdown(self) -> int:
        """Ask the shim to end, and return its wait status."""
        async with asyncio.timeout(LIMIT):
            await self.shim.shutdown()
        return await self.ended()

    async def ended(self) -> int:
        """Wait for the shim's own end and return its wait status."""
        async with asyncio.timeout(LIMIT):
            await readable(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        self._pidfd = -1
        return status

    async def stop(self) -> list[str]:
        """End the shim if it still runs; return what should not have been."""
        complaints = []
        if self._pidfd >= 0:
            try:
                if self.shim.closed.is_set():
                    self.reconnect()
                if status := await self.shutdown():
                    complaints.append(f"the shim ended with wait status {status}")
            except (TimeoutError, OSError) as error:
                complaints.append(f"the shim does not shut down: {error!r}")
                self._kill_all()
        self.shim.close()
        if text := self._stderr.read_text(errors="replace"):
            complaints.append(f"stderr of the shim:\n{text}")
        return complaints

    def _kill_all(self) -> None:
        for pid in (self.pid, *self.descendants()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        self._pidfd = -1


class Gate:
    """A FIFO: an ``OpenFile`` of it stops a plan there until :meth:`release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    def step(self, slot: int = 30) -> s.OpenFile:
        return s.OpenFile(slot=slot, path=str(self.path))

    async def release(self) -> None:
        """Let the child that stands at the gate, or comes to it soon, go on."""
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                except OSError:  # ENXIO: it is not there yet
                    await asyncio.sleep(0.002)
                    continue
                return

    async def reached(self, pid: int) -> None:
        """Wait until process *pid* stands at the gate: its open(2) of the FIFO waits for the other end."""

        def stands() -> bool | None:
            # the kernel function that it sleeps in (proc(5)); the first may be inlined in the second
            function = Path(f"/proc/{pid}/wchan").read_text()
            return True if function in ("wait_for_partner", "fifo_open") else None

        await until(stands)


def children(pid: int) -> list[int]:
    """Return the pids of the children of *pid*; none when it is gone."""
    try:
        return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


async def until(condition: Any) -> Any:
    """Return the first value of *condition* that is not None."""
    async with asyncio.timeout(LIMIT):
        while (value := condition()) is None:
            await asyncio.sleep(0.002)
    return value


async def readable(fd: int) -> None:
    """Wait until there is something to read from *fd*."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


async def asleep(pid: int) -> None:
    """Wait until *pid* sleeps as sleep(1) does: a launch is answered in the midst of exec, when fds are closed."""
    await until(lambda: True if "nanosleep" in Path(f"/proc/{pid}/wchan").read_text() else None)


def status_field(pid: int, name: str) -> str:
    """Return a field of ``/proc/<pid>/status``."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split(":", 1)[1].strip()
    raise LookupError(name)


def is_gone(pid: int) -> bool:
    """Whether *pid* is neither a process nor a zombie."""
    return not Path(f"/proc/{pid}").exists()


@contextlib.asynccontextmanager
async def running_kit(base: Path, build: Build) -> AsyncIterator[Kit]:
    """A kit for one test; its complaints are the test's errors."""
    kit = Kit(base, build)
    await kit.start()
    complaints: list[str] = []
    try:
        yield kit
    finally:
        complaints = await kit.stop()
        if complaints:
            print("\n".join(complaints))
    assert not complaints


def packed(key: str, steps: Sequence[s.Step], **options: Any) -> bytearray:
    """Return a plan in wire form, to be tampered with."""
    return bytearray(pack(plan(key, steps, **options)))
