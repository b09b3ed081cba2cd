# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents that die, come back, come twice, or send what no agent would: the shim and its pod live on."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import resource
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minipod.native import ffi, lib
from minipod.plan import steps as s
from minipod.runtime.pack import sealed_memfd
from minipod.runtime.shim import Process, Shim
from tests.features import requires
from tests.root.native_plans import record
from tests.shimkit import (
    LIMIT,
    MESSAGE_SIZE,
    STDERR,
    STDIN,
    STDOUT,
    Build,
    Kit,
    RawAgent,
    finish,
    message,
    packed,
    private,
    running_kit,
    shell,
    until,
)

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = requires("root", "namespaces")

SLOTS = {"stdio": "NULL", "stdio_slots": (STDIN, STDOUT, STDERR)}
PLAN_LIMIT = int(lib.MP_MAX_PLAN)


def true(key: str = "p/0") -> bytearray:
    return packed(key, finish("/bin/true"), **SLOTS)


async def alive(kit: Kit) -> None:
    """The shim answers and launches."""
    kit.reconnect()
    await kit.launch(shell("exit 0"), "alive/0")
    await kit.exit("alive/0")
    await kit.shim.forget("alive/0")


# ---- agents come and go -------------------------------------------------------------------------------------------


async def test_containers_outlive_the_agent(kit: Kit) -> None:
    gate = kit.fifo()
    await kit.launch(finish("/bin/sleep", "1000"), "p/0")
    await kit.launch(shell(f"read x <{gate.path}; echo later; exit 6"), "p/1")
    before = {entry.key: entry for entry in await kit.shim.state()}
    kit.shim.close()
    await gate.release()
    await until(lambda: True if (kit.run_dir / "exits" / "p.1").exists() else None)
    kit.reconnect()
    entries = {entry.key: entry for entry in await kit.shim.state()}
    assert entries["p/0"] == before["p/0"]
    assert entries["p/1"].state == "exited"
    assert os.waitstatus_to_exitcode(entries["p/1"].status) == 6
    assert b"later" in kit.log_path("p/1").read_bytes()


async def test_an_agent_that_dies_during_a_launch(kit: Kit) -> None:
    """The launch goes on; the next agent sees it, and is told when it has started."""
    gate = kit.fifo()
    first = kit.shim
    starting = asyncio.ensure_future(kit.launch((gate.step(), *finish("/bin/sleep", "1000"))))
    while await kit.entry("p/0") is None:
        pass
    first.close()
    with pytest.raises(ConnectionResetError):
        await starting
    second = kit.reconnect()
    started: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
    second.on_started = started.set_result
    assert [(entry.key, entry.state) for entry in await second.state()] == [("p/0", "starting")]
    await gate.release()
    async with asyncio.timeout(LIMIT):
        assert (await started).key == "p/0"
    assert [(entry.key, entry.state) for entry in await second.state()] == [("p/0", "running")]


async def test_an_answer_for_a_dead_agent_is_not_taken_by_the_next(kit: Kit) -> None:
    """Both agents count their requests from 1: the first one's launch must not answer the second one's."""
    first, second = kit.fifo("first"), kit.fifo("second")
    async with RawAgent(kit.run_dir) as agent:
        plan = sealed_memfd(
            "plan", bytes(packed("p/0", (first.step(), *finish("/bin/true")), **SLOTS))
        )
        agent.send(message("LAUNCH", 1, "p/0"), (plan,))
        while not list(kit.descendants()):
            await asyncio.sleep(0.002)
        async with RawAgent(kit.run_dir) as next_agent:
            os.close(plan)
            plan = sealed_memfd(
                "plan", bytes(packed("p/1", (second.step(), *finish("/bin/true")), **SLOTS))
            )
            next_agent.send(message("LAUNCH", 1, "p/1"), (plan,))
            os.close(plan)
            await first.release()
            told = [await next_agent.receive(), await next_agent.receive()]
            assert [(x.key, x.type, x.serial) for x in told if x] == [
                ("p/0", lib.MP_LAUNCHED, 0),
                ("p/0", lib.MP_EXITED, 0),
            ]
            await second.release()
            answer = await next_agent.receive()
            assert answer
            assert (answer.key, answer.type, answer.serial) == ("p/1", lib.MP_LAUNCHED, 1)
    await alive(kit)


async def test_a_failure_for_a_dead_agent(kit: Kit) -> None:
    gate = kit.fifo()
    steps = (gate.step(), s.OpenFile(slot=30, path="/none"), *finish("/bin/true"))
    async with RawAgent(kit.run_dir) as agent:
        plan = sealed_memfd("plan", bytes(packed("p/0", steps, **SLOTS)))
        agent.send(message("LAUNCH", 1, "p/0"), (plan,))
        os.close(plan)
        while not list(kit.descendants()):
            await asyncio.sleep(0.002)
    async with RawAgent(kit.run_dir) as next_agent:
        await gate.release()
        told = await next_agent.receive()
        assert told and (told.type, told.serial, told.step) == (lib.MP_FAILED, 0, 1)
    await alive(kit)


async def test_a_second_agent_takes_over(kit: Kit) -> None:
    """One at a time: the first sees that it was replaced, even while a clone has a copy of the shim's fds."""
    first = kit.shim
    second = kit.reconnect()
    async with asyncio.timeout(LIMIT):
        await first.closed.wait()
    await kit.launch(shell("exit 3"))
    assert (await kit.exit()).status == 3 << 8
    assert len(await second.state()) == 1


async def test_agents_in_quick_succession(kit: Kit) -> None:
    await kit.launch(finish("/bin/sleep", "1000"), "p/0")
    fds = kit.fds()
    for _ in range(50):
        async with RawAgent(kit.run_dir) as agent:
            agent.send(message("STATE"))
    shims = [Shim.connect(str(kit.run_dir)) for _ in range(4)]
    for shim in shims:
        shim.close()
    kit.reconnect()
    assert [entry.key for entry in await kit.shim.state()] == ["p/0"]
    await kit.fds_are(fds)


async def test_an_agent_that_does_not_read(kit: Kit) -> None:
    """It is dropped rather than waited for: the pod does not hang on it."""
    async with RawAgent(kit.run_dir) as agent:
        with pytest.raises(OSError):
            for serial in range(100_000):
                agent.send(message("SIGNAL", serial, "nobody", 15))
                if serial % 100 == 0:
                    await asyncio.sleep(0)
    await alive(kit)


async def test_state_of_a_full_house_fits(kit: Kit) -> None:
    """256 entries in one answer, to an agent that reads only afterwards."""
    async with RawAgent(kit.run_dir) as agent:
        body = {
            key: sealed_memfd("plan", bytes(true(key))) for key in (f"p/{i}" for i in range(256))
        }
        told = []
        for key, fd in body.items():
            agent.send(message("LAUNCH", 1, key), (fd,))
            os.close(fd)
            while (reply := await agent.receive()) and reply.type != lib.MP_EXITED:
                told.append(reply.type)
        assert told == [lib.MP_LAUNCHED] * 256
        agent.send(message("STATE", 7))
        # A round on another connection is not possible; the processor is given away until all is sent.
        await asyncio.sleep(0.2)
        replies = []
        while (reply := await agent.receive()) and reply.type == lib.MP_ENTRY:
            replies.append(reply.key)
        assert reply and (reply.type, reply.serial) == (lib.MP_END, 7)
        assert sorted(replies) == sorted(body)


# ---- what no agent would send -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 8, 31, lib.MP_LAUNCHED, lib.MP_EXITED, 0xFFFFFFFF])
async def test_unknown_requests(kit: Kit, kind: int) -> None:
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.ask(message(kind, 5))
        assert reply
        assert (reply.type, reply.serial) == (lib.MP_ERROR, 5)
        assert os.strerror(reply.status) == "Bad message"
    await alive(kit)


@pytest.mark.parametrize("size", [1, 4, MESSAGE_SIZE - 1, MESSAGE_SIZE + 1, 4096])
async def test_messages_of_the_wrong_size_end_the_connection(kit: Kit, size: int) -> None:
    """Whoever sends them speaks another version: better told so than left waiting. fds that came along are closed."""
    fds = kit.fds() - 1
    data = (message("STATE") + bytes(4096))[:size]
    async with RawAgent(kit.run_dir) as agent:
        with open("/dev/null", "rb") as null:
            assert await agent.ask(data, (null.fileno(),) * 3) is None
    await kit.fds_are(fds)
    await alive(kit)


async def test_fds_without_need_are_closed(kit: Kit) -> None:
    async with RawAgent(kit.run_dir) as agent:
        await agent.ask(message("SIGNAL", 1, "nobody"))
        fds = kit.fds()
        with open("/dev/null", "rb") as null:
            for kind in ("SIGNAL", "FORGET", "STATE", 99):
                await agent.ask(message(kind, 1, "nobody"), (null.fileno(),) * 16)
            plan = sealed_memfd("plan", bytes(true()))
            await agent.ask(message("LAUNCH", 1, "p/0"), (plan, *(null.fileno(),) * 15))
            os.close(plan)
        await agent.receive()
        await kit.fds_are(fds)
    await alive(kit)


async def test_too_many_fds(kit: Kit) -> None:
    """More than a message may bring: the kernel cuts them off, and the launch must not go on without them."""
    async with RawAgent(kit.run_dir) as agent:
        await agent.ask(message("SIGNAL", 1, "nobody"))
        fds = kit.fds()
        plan = sealed_memfd("plan", bytes(true()))
        reply = await agent.ask(message("LAUNCH", 3, "p/0"), (plan,) * 40)
        os.close(plan)
        assert reply
        assert (reply.type, reply.serial, reply.step) == (lib.MP_FAILED, 3, -2)
        assert os.strerror(reply.status) == "Too many open files"
        await kit.fds_are(fds)
    await alive(kit)


async def test_a_shim_without_fds_left(kit: Kit) -> None:
    """At its limit of open files it refuses what it cannot do whole, and goes on when there is room again."""
    soft, hard = resource.prlimit(kit.pid, resource.RLIMIT_NOFILE)
    used = kit.fds()
    failures = set()
    for room in range(12):
        resource.prlimit(kit.pid, resource.RLIMIT_NOFILE, (used + room, hard))
        try:
            process = await kit.launch(
                (
                    s.OpenFile(slot=30, path="/"),
                    s.SendFd(slot=30, what="/"),
                    s.SetRlimit(name="nofile", soft=100, hard=100),
                    *finish("/bin/true"),
                ),
                f"p/{room}",
                keep_stdin=True,
            )
        except Exception as error:
            failures.add(str(error))
        else:
            assert len(process.fds) == 1
            os.close(process.fds[0])
            await kit.exit(f"p/{room}")
            await kit.shim.forget(f"p/{room}")
        await kit.fds_are(used)
    resource.prlimit(kit.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert failures and all("Too many open files" in text for text in failures)
    assert await kit.shim.state() == []
    await alive(kit)


async def test_the_shim_may_use_all_the_fds_there_are(tmp_path: Path, build: Build) -> None:
    """The soft limit is often 1,024; a full pod needs more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        async with running_kit(tmp_path, build) as kit:
            assert resource.prlimit(kit.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memfd(data: bytes, seals: int) -> int:
    fd = os.memfd_create("plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


WRITE, GROW, SHRINK = fcntl.F_SEAL_WRITE, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SHRINK


@pytest.mark.parametrize(
    "source",
    [
        lambda path: memfd(bytes(true()), 0),
        lambda path: memfd(bytes(true()), WRITE | GROW),
        lambda path: memfd(bytes(true()), WRITE | SHRINK),
        lambda path: memfd(bytes(true()), GROW | SHRINK),
        lambda path: os.open(path, os.O_RDWR),
        lambda path: os.open(path, os.O_RDONLY),
        lambda path: os.open("/dev/null", os.O_RDWR),
        lambda path: os.open("/", os.O_RDONLY),
    ],
    ids=["unsealed", "shrink", "grow", "write", "file", "read-only file", "device", "directory"],
)
async def test_a_plan_that_could_change_is_refused(kit: Kit, source: Callable[[Path], int]) -> None:
    """The child reads it while it runs: what was validated must be what is executed."""
    (kit.base / "plan").write_bytes(true())
    fd = source(kit.base / "plan")
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.ask(message("LAUNCH", 1, "p/0"), (fd,))
        os.close(fd)
        assert reply and (reply.type, reply.step) == (lib.MP_FAILED, -2)
        assert os.strerror(reply.status) == "Operation not permitted"


@pytest.mark.parametrize("size", [0, PLAN_LIMIT + 1, 1 << 40])
async def test_plans_of_no_size(kit: Kit, size: int) -> None:
    fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING)
    os.truncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, WRITE | GROW | SHRINK)
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.ask(message("LAUNCH", 1, "p/0"), (fd,))
        os.close(fd)
        assert reply and os.strerror(reply.status) == "Message too long"
    await alive(kit)


async def test_the_biggest_plan(kit: Kit) -> None:
    """4,096 steps, and 8 MiB to the byte."""
    steps = (*(s.NewKeyring(),) * (int(lib.MP_MAX_STEPS) - 3), *finish("/bin/true"))
    body = packed("p/0", steps, **SLOTS)
    more = PLAN_LIMIT - len(body)
    assert more > 0
    head = ffi.from_buffer("struct mp_launch *", body)
    head.strings += more
    ffi.release(head)
    body += bytes(more)
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.launch(bytes(body))
        assert reply and reply.type == lib.MP_LAUNCHED
    kit.reconnect()


async def test_a_launch_without_a_plan(kit: Kit) -> None:
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.ask(message("LAUNCH", 1, "p/0"))
        assert reply and os.strerror(reply.status) == "Bad message"


async def test_keys(kit: Kit) -> None:
    """None is empty; one without an end is cut; none is a path out of the directory of records."""
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.launch(bytes(true()), key="")
        assert reply and os.strerror(reply.status) == "Bad message"
        long = b"x" * int(lib.MP_KEY_SIZE)
        fd = sealed_memfd("plan", bytes(true()))
        reply = await agent.ask(message("LAUNCH", 1, long), (fd,))
        os.close(fd)
        assert reply and (reply.type, reply.key) == (lib.MP_LAUNCHED, "x" * (len(long) - 1))
        await agent.receive()
        reply = await agent.launch(bytes(true()), key="../../etc/x")
        assert reply and reply.type == lib.MP_LAUNCHED
        await agent.receive()
    kit.reconnect()
    await kit.shim.state()
    assert sorted(os.listdir(kit.run_dir / "exits")) == sorted(
        ["......etc.x", "x" * (len(long) - 1)]
    )


# ---- plans that do not hold together ------------------------------------------------------------------------------


def head_with(**fields: Any) -> Callable[[bytearray], None]:
    def change(body: bytearray) -> None:
        head = ffi.from_buffer("struct mp_launch *", body)
        for name, value in fields.items():
            setattr(head, name, value)

    return change


def step_with(number: int, **fields: Any) -> Callable[[bytearray], None]:
    """Change a step; a field ``str0`` or ``num2`` is an element of its array."""

    def change(body: bytearray) -> None:
        offset = ffi.sizeof("struct mp_launch") + number * ffi.sizeof("struct mp_step")
        step = ffi.cast("struct mp_step *", ffi.from_buffer(body) + offset)
        for name, value in fields.items():
            if name[:3] in ("str", "num"):
                getattr(step, name[:3])[int(name[3])] = value
            else:
                setattr(step, name, value)

    return change


BASIS = (
    s.NewFilesystem(slot=40, type="tmpfs", options=("mode=0755", "size=1m")),
    s.WriteFile(path="/x", root=40, content="content"),
    s.SetIdentity(uid=0, gid=0, groups=(1, 2)),
    s.LoadSeccomp(program=struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000), profile="-"),
    s.SetStdio(slots=(0, 1, 2)),
    s.Exec(candidates=("/bin/true",), argv=("true",), env=("A=b",)),
)
FS, WRITE_FILE, IDENTITY, SECCOMP, STDIO, EXEC = range(6)
BIG = 1 << 63

BROKEN = {
    "magic": head_with(magic=0),
    "version-older": head_with(version=0),
    "version-newer": head_with(version=lib.MP_VERSION + 1),
    "kind-none": head_with(kind=0),
    "kind-unknown": head_with(kind=4),
    "stdio-none": head_with(stdio=0),
    "stdio-unknown": head_with(stdio=6),
    "no-steps": head_with(steps=0),
    "steps-more": head_with(steps=len(BASIS) + 1),
    "steps-fewer": head_with(steps=len(BASIS) - 1),
    "steps-many": head_with(steps=0xFFFFFFFF),
    "steps-wrap": head_with(steps=1 << 26),
    "strings-none": head_with(strings=0),
    "strings-many": head_with(strings=0xFFFFFFFF),
    "log-path": head_with(log_path=0x7FFFFFFF),
    "log-files": head_with(log_max_files=0xFFFFFFFF),
    "clone-flags": head_with(clone_flags=0x10000000),
    "pid-of-without-end": head_with(pid_of=b"x" * int(lib.MP_KEY_SIZE)),
    "join-without-end": head_with(join=b"x" * int(lib.MP_KEY_SIZE)),
    **{
        f"{name}-{value}": head_with(**{name: value})
        for name in (
            "cgroup_slot",
            "join_slot",
            "stdin_slot",
            "stdout_slot",
            "stderr_slot",
            "pause_slot",
            "user_slot",
        )
        for value in (-2, int(lib.MP_SLOTS), 0x7FFFFFFF)
    },
    "op-none": step_with(FS, op=0),
    "op-unknown": step_with(FS, op=int(lib.MP_OP_COUNT)),
    "op-far": step_with(FS, op=0xFFFF),
    **{
        f"{name}-{value}": step_with(FS, **{name: value})
        for name in ("in", "out", "root")
        for value in (-2, int(lib.MP_SLOTS), 0x7FFF, -0x8000)
    },
    **{f"string-{i}": step_with(EXEC, **{f"str{i}": 0xFFFFFFFF}) for i in range(4)},
    "flags-unknown": step_with(FS, flags=256),
    "flags-far": step_with(FS, flags=0x8000),
    "fs-attributes-wrap": step_with(FS, num0=1 << 32),
    "fs-options": step_with(FS, num1=1000),
    "fs-options-wrap": step_with(FS, num1=BIG),
    "mode-wide": step_with(WRITE_FILE, num0=0o10644),
    "mode-wrap": step_with(WRITE_FILE, num0=1 << 32),
    "blob-long": step_with(WRITE_FILE, num1=100_000),
    "blob-wrap": step_with(WRITE_FILE, num1=(1 << 64) - 4),
    "groups-many": step_with(IDENTITY, num2=257),
    "groups-wrap": step_with(IDENTITY, num2=1 << 62),
    "uid-wraps-to-root": step_with(IDENTITY, num0=1 << 32),
    "uid-as-before": step_with(IDENTITY, num0=0xFFFFFFFF),
    "gid-wraps-to-root": step_with(IDENTITY, num1=1 << 32),
    "gid-as-before": step_with(IDENTITY, num1=0xFFFFFFFF),
    "seccomp-long": step_with(SECCOMP, num1=8 * 4097),
    "seccomp-cut": step_with(SECCOMP, num1=8 * 65537),
    "seccomp-flags-wrap": step_with(SECCOMP, num0=1 << 32),
    "seccomp-half": step_with(SECCOMP, num1=4),
    "seccomp-crooked": step_with(SECCOMP, str0=9),
    "stdio-slot": step_with(STDIO, num1=int(lib.MP_SLOTS)),
    "stdio-slot-wrap": step_with(STDIO, num0=1 << 32),
    "candidates": step_with(EXEC, num0=1000),
    "argv": step_with(EXEC, num1=1000),
    "argv-none": step_with(EXEC, num1=0),
    "argv-many": step_with(EXEC, num1=65537),
    "env": step_with(EXEC, num2=1000),
    "env-wrap": step_with(EXEC, num2=BIG),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
async def test_broken_plans_are_refused(kit: Kit, change: Callable[[bytearray], None]) -> None:
    body = packed("p/0", BASIS, **SLOTS)
    change(body)
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.launch(bytes(body))
        assert reply and (reply.type, reply.step) == (lib.MP_FAILED, -2)
        assert os.strerror(reply.status) == "Bad message"
    assert not kit.descendants()


# Operands that no kernel would see as they are written here: cut to the width of a call's argument they would be
# another flag, another device, another user.
MALFORMED = {
    "setns-none": record("SETNS", in_=0),
    "setns-wraps-to-any": record("SETNS", in_=0, numbers=(1 << 32,)),
    "userns-root": record("USERNS", in_=0, out=9, numbers=(0, 65536)),
    "userns-all": record("USERNS", in_=0, out=9, numbers=(65536, 1 << 32)),
    "userns-none": record("USERNS", in_=0, out=9, numbers=(65536, 0)),
    "userns-wraps-to-root": record("USERNS", in_=0, out=9, numbers=(1 << 32, 65536)),
    "own-files-wraps-to-root": record("OWN_FILES", numbers=(1 << 32, 1)),
    "own-files-as-before": record("OWN_FILES", numbers=(1, 0xFFFFFFFF)),
    "stdio-owner-as-before": record("STDIO_OWNER", numbers=(0xFFFFFFFF,)),
    "propagation-none": record("PROPAGATION", numbers=(16384,)),
    "propagation-remount": record("PROPAGATION", numbers=(32,)),
    "overlay-users": record("OVERLAY", in_=0, out=9, strings=(("/",),), numbers=(0, 1)),
    "overlay-attributes": record("OVERLAY", out=9, strings=(("/",),), numbers=(1 << 32, 1)),
    "overlay-list": record("OVERLAY", out=9, strings=(("/",),), numbers=(0, 1000)),
    "mask-list": record("MASK", root=9, strings=(("/",),), numbers=(0, 1000)),
    "readonly-list": record("READONLY", root=9, strings=(("/",),), numbers=(0, 1 << 63)),
    "open-create": record(
        "OPEN", out=9, strings=("/proc/none",), numbers=(os.O_CREAT | os.O_RDWR,)
    ),
    "open-tmpfile": record("OPEN", out=9, strings=("/tmp",), numbers=(os.O_TMPFILE | os.O_RDWR,)),
    "open-wraps": record("OPEN", out=9, strings=("/",), numbers=(1 << 32,)),
    "mkdir-mode": record("MKDIR", root=9, strings=("/x",), numbers=(1 << 32 | 0o755,)),
    "mknod-mode": record("MKNOD", root=9, strings=("/x",), numbers=(1 << 32 | 0o20666, 1, 3)),
    "mknod-directory": record("MKNOD", root=9, strings=("/x",), numbers=(0o40755, 1, 3)),
    "mknod-major-wraps": record("MKNOD", root=9, strings=("/x",), numbers=(0o20666, 4097, 1)),
    "mknod-minor-wraps": record("MKNOD", root=9, strings=("/x",), numbers=(0o20666, 1, 1 << 20)),
    "mknod-uid": record(
        "MKNOD", root=9, strings=("/x",), numbers=(0o20666, 1, 3, 0xFFFFFFFF << 32)
    ),
    "mknod-gid": record("MKNOD", root=9, strings=("/x",), numbers=(0o20666, 1, 3, 0xFFFFFFFF)),
    "rlimit-wraps": record("RLIMIT", numbers=(1 << 32, 1, 1)),
    "pty-rows": record("OPEN_PTY", root=9, out=9, numbers=(65536, 80)),
    "pty-columns": record("OPEN_PTY", root=9, out=9, numbers=(24, 65536)),
    "exec-fd-argv-none": record("EXEC_FD", in_=0),
}


@pytest.mark.parametrize("step", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_operands_are_refused(kit: Kit, step: s.NamespaceStep) -> None:
    error = await kit.failure((*private(), step, *finish("/bin/true")), stdio="NULL")
    assert (error.step, errno.errorcode[error.errno]) == (-2, "EBADMSG")


async def test_the_basis_of_the_broken_plans_is_sound(kit: Kit) -> None:
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.launch(bytes(packed("p/0", BASIS, **SLOTS)))
        assert reply and reply.type == lib.MP_LAUNCHED
    kit.reconnect()


@pytest.mark.parametrize("cut", [0, 1, 100, 175, 176, 177, 240, -1])
async def test_truncated_plans_are_refused(kit: Kit, cut: int) -> None:
    body = bytes(packed("p/0", BASIS, **SLOTS))[: cut or None]
    if cut == 0:
        body += b"\0"
    async with RawAgent(kit.run_dir) as agent:
        reply = await agent.launch(body)
        assert reply and os.strerror(reply.status) == "Bad message"


async def test_strings_must_begin_and_end(kit: Kit) -> None:
    for place in (-1, ffi.sizeof("struct mp_launch") + len(BASIS) * ffi.sizeof("struct mp_step")):
        body = packed("p/0", BASIS, **SLOTS)
        body[place] = 1
        async with RawAgent(kit.run_dir) as agent:
            reply = await agent.launch(bytes(body))
            assert reply and os.strerror(reply.status) == "Bad message"


async def test_noise(kit: Kit) -> None:
    """Random bytes as requests and as plans; the same ones every time.

    The first steps of a plan are spared: they see to it that whatever the others become harms no one.
    """
    rng = random.Random(2026)
    safe = ffi.sizeof("struct mp_launch") + len(private()) * ffi.sizeof("struct mp_step")
    for i in range(300):
        async with RawAgent(kit.run_dir) as agent:
            if i % 2:
                agent.send(rng.randbytes(rng.choice((1, 8, 100, MESSAGE_SIZE, 1000))))
            else:
                body = packed("p/0", (*private(), *BASIS[:-1]), **SLOTS)
                for _ in range(rng.randrange(1, 8)):
                    body[rng.randrange(safe, len(body))] = rng.randrange(256)
                reply = await agent.launch(bytes(body), key=f"noise/{i}")
                assert reply is None or reply.type == lib.MP_FAILED
    await alive(kit)


async def test_the_socket_is_for_root(kit: Kit) -> None:
    """Another user who comes as far as the socket is turned away (containerd CVE-2020-15257)."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            directory = os.open(kit.run_dir, os.O_RDONLY | os.O_DIRECTORY)
            os.chmod("shim.sock", 0o666, dir_fd=directory)
            os.fchmod(directory, 0o755)
            os.chdir(directory)
            os.setresuid(12345, 12345, 12345)
            sock.connect("shim.sock")
            sock.settimeout(LIMIT)
            try:
                sock.send(message("SHUTDOWN"))
                code = 0 if sock.recv(1) == b"" else 2
            except (ConnectionError, BrokenPipeError):
                code = 0
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await kit.shim.state() == []
