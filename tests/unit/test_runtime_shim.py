# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's side of the shim's socket, against a shim that is played here."""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from minipod.native import ffi, lib
from minipod.plan import steps as s
from minipod.runtime import shim as module
from minipod.runtime.pack import pack
from minipod.runtime.shim import LaunchFailed, Process, Shim, in_time, read_exit_records
from tests.unit.test_plan_checker import V1, container, pod

SIZE = ffi.sizeof("struct mp_msg")
LAUNCH = container(pod(), V1)


class Played:
    """The other end: reads requests and answers as the test wants."""

    def __init__(self, run_dir: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(run_dir / module.SOCKET))
        self._listener.listen(1)
        self.shim = Shim.connect(str(run_dir))
        self._sock, _ = self._listener.accept()
        self._sock.setblocking(False)

    async def request(self) -> tuple[Any, list[int]]:
        """Return the next request and its fds."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._sock.fileno())
        data, ancillary, _, _ = self._sock.recvmsg(SIZE, socket.CMSG_SPACE(16 * 4))
        assert len(data) == SIZE
        fds = array.array("i")
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        message = ffi.new("struct mp_msg *")
        ffi.buffer(message)[:] = data
        return message, list(fds)

    def tell(self, kind: str, fds: Sequence[int] = (), **fields: Any) -> None:
        """Send a message."""
        message = ffi.new("struct mp_msg *")
        message.type = getattr(lib, f"MP_{kind}")
        for name, value in fields.items():
            setattr(message, name, value)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._sock.sendmsg([bytes(ffi.buffer(message))], rights)

    def raw(self, data: bytes) -> None:
        """Send bytes that may be no message."""
        self._sock.send(data)

    def hang_up(self) -> None:
        """Be gone."""
        self._sock.close()
        self._listener.close()


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[Played]:
    """A connected pair."""
    made = Played(tmp_path)
    yield made
    made.shim.close()
    made.hang_up()


async def asked(played: Played, work: Any) -> tuple[asyncio.Task[Any], Any, list[int]]:
    """Begin *work* and return it with the request that it sends."""
    task = asyncio.ensure_future(work)
    message, fds = await played.request()
    return task, message, fds


async def test_a_launch_brings_its_plan_and_its_fds(played: Played) -> None:
    extra = os.open("/", os.O_RDONLY)
    task, request, fds = await asked(played, played.shim.launch(LAUNCH, [extra]))
    assert request.type == lib.MP_LAUNCH
    assert ffi.string(request.key) == b"app/0"
    plan, other = fds
    assert os.pread(plan, 1 << 20, 0) == pack(LAUNCH)
    with pytest.raises(PermissionError):
        os.pwrite(plan, b"x", 0)  # sealed: the agent itself cannot change it any more
    assert os.path.sameopenfile(other, extra)
    up = os.open("/", os.O_RDONLY)
    played.tell(
        "LAUNCHED",
        [up],
        serial=request.serial,
        key=b"app/0",
        pid=42,
        state=lib.MP_RUNNING,
        started_ns=1_500_000_000,
    )
    process = await task
    assert process == Process("app/0", "running", 42, 0, 1.5, 0.0)
    (received,) = process.fds
    assert os.path.sameopenfile(received, up) and not os.get_inheritable(received)
    for fd in (extra, up, received, *fds):
        os.close(fd)


async def test_a_failed_launch_travels_whole(played: Played) -> None:
    task, request, fds = await asked(played, played.shim.launch(LAUNCH, []))
    played.tell("FAILED", serial=request.serial, step=12, status=errno.ELOOP, detail=3)
    with pytest.raises(LaunchFailed) as error:
        await task
    assert (error.value.step, error.value.errno, error.value.detail) == (12, errno.ELOOP, 3)
    os.close(fds[0])


async def test_answers_find_their_requests(played: Played) -> None:
    one, first, _ = await asked(played, played.shim.signal("a/0", 15))
    two, second, _ = await asked(played, played.shim.signal("b/0", 9))
    assert (first.status, second.status) == (15, 9)
    assert first.serial != second.serial
    played.tell("ERROR", serial=second.serial, status=errno.ESRCH)
    played.tell("OK", serial=first.serial)
    assert await one is True
    assert await two is False


async def test_the_state_is_a_list_and_its_end(played: Played) -> None:
    task, request, _ = await asked(played, played.shim.state())
    serial = request.serial
    played.tell("ENTRY", serial=serial, key=b"sandbox", state=lib.MP_RUNNING, pid=5)
    played.tell("ENTRY", serial=serial, key=b"app/3", state=lib.MP_EXITED_STATE, status=256)
    played.tell("END", serial=serial)
    sandbox, app = await task
    assert (sandbox.key, sandbox.state, sandbox.pid) == ("sandbox", "running", 5)
    assert (app.key, app.state, app.status) == ("app/3", "exited", 256)


async def test_forgetting_what_is_unknown_is_fine(played: Played) -> None:
    task, request, _ = await asked(played, played.shim.forget("app/0"))
    played.tell("ERROR", serial=request.serial, status=errno.ESRCH)
    await task
    task, request, _ = await asked(played, played.shim.forget("app/0"))
    played.tell("ERROR", serial=request.serial, status=errno.EBUSY)
    with pytest.raises(OSError) as error:
        await task
    assert error.value.errno == errno.EBUSY


async def test_exits_are_told_as_they_come(played: Played) -> None:
    told: list[Process] = []
    played.shim.on_exit = told.append
    task, request, _ = await asked(played, played.shim.signal("a/0", 15))
    played.tell("EXITED", key=b"a/0", status=15, started_ns=10**9, finished_ns=2 * 10**9)
    played.tell("OK", serial=request.serial)
    await task
    (process,) = told
    assert (process.key, process.status, process.started, process.finished) == ("a/0", 15, 1.0, 2.0)


async def test_answers_to_an_earlier_agent(played: Played) -> None:
    started: list[Process] = []
    failed: list[Process] = []
    played.shim.on_started = started.append
    played.shim.on_failed = failed.append
    up = os.open("/", os.O_RDONLY)
    before = set(os.listdir("/proc/self/fd"))
    played.tell("LAUNCHED", [up], serial=1, key=b"a/0", pid=3, state=lib.MP_RUNNING)
    played.tell("FAILED", serial=2, key=b"b/0", step=1, status=1)
    task, request, _ = await asked(played, played.shim.signal("a/0", 15))
    played.tell("OK", serial=request.serial)
    await task
    assert [process.key for process in started] == ["a/0"]
    assert [process.key for process in failed] == ["b/0"]
    assert set(os.listdir("/proc/self/fd")) == before  # nobody wants its fds: they are closed
    os.close(up)


async def test_a_shim_is_not_blamed_for_our_own_delay(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LATE", 0.05)
    task, request, _ = await asked(played, in_time(played.shim.state, 0.1))
    played.tell("OK", serial=request.serial)
    time.sleep(0.3)  # stopped, or busy: the time is over when we come to look
    again = asyncio.ensure_future(played.request())
    await asyncio.wait((again, task), return_when=asyncio.FIRST_COMPLETED)
    if again.done():
        played.tell("OK", serial=again.result()[0].serial)
    again.cancel()
    assert await task == []


async def test_a_silent_shim_is_not_waited_for_forever(played: Played) -> None:
    with pytest.raises(TimeoutError):
        await in_time(played.shim.state, 0.01)


async def test_a_cancelled_request_leaves_nothing(played: Played) -> None:
    task, request, _ = await asked(played, played.shim.signal("a/0", 15))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    played.tell("OK", serial=request.serial)
    assert (played.shim._waiting, played.shim._entries) == ({}, {})
    again, request, _ = await asked(played, played.shim.signal("a/0", 15))
    played.tell("OK", serial=request.serial)
    assert await again is True


@pytest.mark.parametrize("how", ["hang up", "close", "garbage"])
async def test_a_shim_that_goes_ends_all_requests(played: Played, how: str) -> None:
    task, _, _ = await asked(played, played.shim.signal("a/0", 15))
    if how == "hang up":
        played.hang_up()
    elif how == "garbage":
        played.raw(b"short")
    else:
        played.shim.close()
    with pytest.raises(ConnectionResetError, match="the shim is gone"):
        await task
    await played.shim.closed.wait()
    with pytest.raises(OSError):
        await played.shim.signal("a/0", 15)
    played.shim.close()  # twice is fine


async def test_shutdown_ends_with_the_answer_or_the_connection(played: Played) -> None:
    task, request, _ = await asked(played, played.shim.shutdown())
    assert request.type == lib.MP_SHUTDOWN
    played.tell("OK", serial=request.serial)
    await task
    task, _, _ = await asked(played, played.shim.shutdown())
    played.hang_up()
    await task


async def test_no_shim_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Shim.connect(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        Shim.connect(str(tmp_path))
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dead.bind(str(tmp_path / module.SOCKET))
    dead.close()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConnectionRefusedError):
        Shim.connect(str(tmp_path))
    assert os.listdir("/proc/self/fd") == before


async def test_a_run_directory_may_have_a_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)  # sun_path has 108 bytes
    deep.mkdir()
    fd = os.open(deep, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"/proc/self/fd/{fd}/{module.SOCKET}")
        listener.listen(1)
        Shim.connect(str(deep)).close()
    os.close(fd)


def test_exit_records(tmp_path: Path) -> None:
    assert read_exit_records(str(tmp_path)) == {}
    exits = tmp_path / "exits"
    exits.mkdir()
    (exits / "sandbox").write_text("5 0 1000000000 2000000000\n")
    (exits / "my-app.12").write_text("6 9 1500000000 2500000000\n")
    (exits / ".my-app.13.tmp").write_text("7 9")
    (exits / "cut.0").write_text("7 9 1\n")
    assert read_exit_records(str(tmp_path)) == {
        "sandbox": Process("sandbox", "exited", 5, 0, 1.0, 2.0),
        "my-app/12": Process("my-app/12", "exited", 6, 9, 1.5, 2.5),
    }


def test_launch_failures_read_well() -> None:
    error = LaunchFailed(4, errno.ENOENT, 0)
    assert str(error) == "step 4: No such file or directory"
    assert isinstance(LAUNCH, s.Launch)
