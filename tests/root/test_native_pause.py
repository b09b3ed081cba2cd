# SPDX-License-Identifier: GPL-3.0-or-later
"""The pause process: stays, reaps, ends only when it is meant to; and what the pair of them weighs."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import struct
import sys
from pathlib import Path

import pytest

from minipod.plan import steps as s
from tests.features import requires
from tests.shimkit import (
    Kit,
    children,
    finish,
    joined,
    private,
    read_log,
    shell,
    status_field,
    until,
)

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = requires("root", "namespaces")

PAUSE, JOIN = 4, 10
SLOTS = (0, 1, 2)

# Sends signal argv[1] to pid 1 with a siginfo of its own making: si_code SI_QUEUE, si_pid 0 (rt_sigqueueinfo(2)).
FORGE = """
import ctypes, os, struct, sys
info = ctypes.create_string_buffer(struct.pack("=iiiiII", int(sys.argv[1]), 0, -1, 0, 0, 0), 128)
numbers = {"x86_64": 129, "aarch64": 138}
print(ctypes.CDLL(None).syscall(numbers[os.uname().machine], 1, int(sys.argv[1]), info))
"""


async def pause(kit: Kit, *before: s.Step, shared: bool = True) -> int:
    """Start a pause process (as pid 1 of a PID namespace when *shared*) and return its pid."""
    steps = (
        *private(),
        *before,
        s.NewSession(),
        s.SetStdio(slots=SLOTS),
        s.SetIdentity(uid=65535, gid=65535),
        s.SetCapabilities(bounding=0, until_exec=1 << 21, names=()),
        s.NoNewPrivs(),
        s.CloseRange(),
        s.ExecPause(slot=PAUSE, argv=("minipod-pause",)),
    )
    process = await kit.launch(
        steps,
        "sandbox",
        kind="SANDBOX",
        stdio="NULL",
        pause_slot=PAUSE,
        new_pid_namespace=shared,
    )
    return process.pid


async def is_set_up(pid: int) -> None:
    """Return when it waits for signals: it has blocked them by then."""
    await until(
        lambda: True if "do_sigtimedwait" in Path(f"/proc/{pid}/wchan").read_text() else None
    )


async def inside(kit: Kit, *command: str, key: str = "p/0") -> str:
    """Run *command* in the PID namespace of the sandbox; return what it says."""
    await kit.launch(finish(*command), key, join="sandbox", join_slot=JOIN, join_pid_namespace=True)
    await kit.exit(key)
    return joined(read_log(kit.log_path(key))).decode()


async def test_it_is_nobody_with_nothing(kit: Kit) -> None:
    pid = await pause(kit)
    await is_set_up(pid)
    assert os.listdir(f"/proc/{pid}/fd") == []
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:")
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"minipod-pause\0"
    assert status_field(pid, "Uid").split() == ["65535"] * 4
    assert status_field(pid, "Groups") == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status_field(pid, name), 16) == 0
    assert status_field(pid, "NoNewPrivs") == "1"
    for name in ("net", "uts", "ipc", "mnt", "pid", "cgroup"):
        assert os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("shared", [True, False])
async def test_it_ends_by_a_signal_from_outside(kit: Kit, number: int, shared: bool) -> None:
    pid = await pause(kit, shared=shared)
    await is_set_up(pid)
    assert await kit.shim.signal("sandbox", number)
    assert (await kit.exit("sandbox")).status == 0


async def test_a_signal_that_comes_early_waits(kit: Kit) -> None:
    """From the moment of exec on: pause blocks signals first of all, and one in between ends it as well."""
    for _ in range(20):
        await pause(kit)
        assert await kit.shim.signal("sandbox", signal.SIGTERM)
        # As pid 1, a signal that comes before it is blocked is dropped by the kernel (pid_namespaces(7)).
        done, _ = await asyncio.wait([asyncio.ensure_future(kit.exit("sandbox"))], timeout=0.2)
        if not done:
            assert await kit.shim.signal("sandbox", signal.SIGTERM)
        assert (await kit.exit("sandbox")).status == 0
        await kit.shim.forget("sandbox")
        kit.forget_exits()


async def test_a_container_cannot_end_its_sandbox(kit: Kit) -> None:
    """A root of the shared PID namespace, with CAP_KILL, by kill(2) or with a forged sender."""
    pid = await pause(kit)
    await is_set_up(pid)
    script = "for i in TERM INT KILL HUP QUIT STOP USR1 CHLD SEGV; do kill -$i 1; done; echo sent"
    assert await inside(kit, "/bin/sh", "-c", script) == "sent\n"
    for i, number in enumerate((signal.SIGTERM, signal.SIGINT)):
        forged = await inside(kit, sys.executable, "-c", FORGE, str(int(number)), key=f"forge/{i}")
        assert forged == "0\n"
    await is_set_up(pid)
    entry = await kit.entry("sandbox")
    assert entry and entry.state == "running"
    assert await kit.shim.signal("sandbox", signal.SIGTERM)
    assert (await kit.exit("sandbox")).status == 0


async def test_it_reaps_the_orphans_of_a_shared_pid_namespace(kit: Kit) -> None:
    pid = await pause(kit)
    await is_set_up(pid)
    script = "for i in 1 2 3 4 5 6 7 8; do (sh -c 'exec sleep 0.05' &) ; done; (sleep 1000 &); exit"
    await inside(kit, "/bin/sh", "-c", script)
    # All have come to it, eight have ended; one is alive, and there is no zombie.
    await until(lambda: True if len(children(pid)) == 1 else None)
    (left,) = children(pid)
    assert status_field(left, "State").startswith("S")
    os.kill(left, signal.SIGKILL)
    await until(lambda: True if not children(pid) else None)


async def test_all_of_a_shared_pid_namespace_ends_with_it(kit: Kit) -> None:
    await pause(kit)
    steps = finish("/bin/sleep", "1000")
    await kit.launch(steps, "p/0", join="sandbox", join_slot=JOIN, join_pid_namespace=True)
    await kit.shim.signal("sandbox", signal.SIGKILL)
    assert os.WTERMSIG((await kit.exit("sandbox")).status) == signal.SIGKILL
    assert os.WTERMSIG((await kit.exit("p/0")).status) == signal.SIGKILL
    error = await kit.failure(shell("exit 0"), "p/1", join="sandbox", join_slot=JOIN)
    assert errno.errorcode[error.errno] == "ESRCH"


def refuse(name: str) -> s.LoadSeccomp:
    """A filter that makes one system call fail with EPERM."""
    numbers = {"sigprocmask": (14, 135), "sigtimedwait": (128, 137), "chdir": (80, 49)}
    number = numbers[name][os.uname().machine == "aarch64"]
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    return s.LoadSeccomp(program=program, profile=f"no {name}")


# Not the sanitized build, whose runtime makes these calls for itself.
@pytest.mark.parametrize("build", ["static"], indirect=True)
@pytest.mark.parametrize(("call", "code"), [("sigprocmask", 2), ("chdir", 2), ("sigtimedwait", 3)])
async def test_exit_codes(kit: Kit, call: str, code: int) -> None:
    await pause(kit, refuse(call))
    assert os.waitstatus_to_exitcode((await kit.exit("sandbox")).status) == code


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(
        int(line.split()[1]) * 1024
        for line in lines
        if line.startswith(("Private_Clean", "Private_Dirty"))
    )


@requires("tool:musl-gcc")
@pytest.mark.parametrize("build", ["static"], indirect=True)
async def test_the_weight_of_a_pod(kit: Kit) -> None:
    """Shim and pause share their code with those of all other pods; what is each one's own is a few pages."""
    pid = await pause(kit)
    for i in range(3):
        await kit.launch(shell("seq 10000"), f"p/{i}")
        await kit.exit(f"p/{i}")
    await is_set_up(pid)
    assert private_bytes(kit.pid) + private_bytes(pid) < 300 * 1024
    assert private_bytes(pid) < 64 * 1024
