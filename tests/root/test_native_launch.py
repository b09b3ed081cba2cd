# SPDX-License-Identifier: GPL-3.0-or-later
"""From launch to exit status, and what a launched program finds itself with."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from minipod.plan import steps as s
from minipod.runtime.shim import LaunchFailed, Process, read_exit_records
from tests.features import requires
from tests.shimkit import (
    SH,
    STDERR,
    STDIN,
    STDOUT,
    Build,
    Kit,
    asleep,
    children,
    finish,
    is_gone,
    joined,
    plan,
    private,
    read_log,
    running_kit,
    shell,
    status_field,
    until,
)

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = requires("root", "namespaces")

JOIN, PROC = 10, 11


@pytest.mark.parametrize("code", [0, 1, 77, 127, 255])
async def test_exit_code(kit: Kit, code: int) -> None:
    started = await kit.launch(shell(f"exit {code}"))
    assert started.state == "running" and started.pid > 0
    ended = await kit.exit()
    assert os.waitstatus_to_exitcode(ended.status) == code
    assert (ended.pid, ended.state) == (started.pid, "exited")
    assert started.started == ended.started <= ended.finished


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
async def test_death_by_signal(kit: Kit, number: signal.Signals) -> None:
    await kit.launch((s.SetRlimit(name="core", soft=0, hard=0), *finish("/bin/sleep", "1000")))
    assert await kit.shim.signal("p/0", number)
    assert os.WTERMSIG((await kit.exit()).status) == number
    assert not await kit.shim.signal("p/0", number), "it is gone, and its pid may be another's"


async def test_signals_of_no_one_and_no_signal(kit: Kit) -> None:
    assert not await kit.shim.signal("nobody", signal.SIGTERM)
    await kit.launch(finish("/bin/sleep", "1000"))
    with pytest.raises(OSError, match="Invalid argument"):
        await kit.shim.signal("p/0", 1000)


async def test_the_exit_record_outlives_the_shim(kit: Kit) -> None:
    await kit.launch(shell("exit 3"), key="web/4")
    await kit.launch(finish("/bin/sleep", "1000"), key="sandbox", kind="SANDBOX")
    ended = await kit.exit("web/4")
    await kit.shutdown()
    records = read_exit_records(str(kit.run_dir))
    assert records.keys() == {"web/4", "sandbox"}
    assert records["web/4"] == ended
    assert os.WTERMSIG(records["sandbox"].status) == signal.SIGKILL
    assert not [name for name in os.listdir(kit.run_dir / "exits") if name.startswith(".")]


async def test_an_exec_leaves_neither_entry_nor_record(kit: Kit) -> None:
    await kit.launch(shell("exit 5"), key="exec/1", kind="EXEC", stdio="NULL")
    assert os.waitstatus_to_exitcode((await kit.exit("exec/1")).status) == 5
    assert await kit.entry("exec/1") is None
    assert read_exit_records(str(kit.run_dir)) == {}


async def test_what_a_program_is_born_with(kit: Kit) -> None:
    """Exactly 0, 1 and 2, default signals, umask 022, cwd /, no environment but the plan's: runc CVE-2024-21626."""
    opened = [s.OpenFile(slot=slot, path="/etc/passwd") for slot in range(40, 60)]
    steps = (
        *private(),
        s.NewFilesystem(slot=PROC, type="proc"),
        *opened,
        s.NewSession(),
        s.NewKeyring(),
        *finish("/bin/sleep", "1000"),
    )
    pid = (await kit.launch(steps)).pid
    await asleep(pid)
    fds = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert fds.keys() == {"0", "1", "2"}
    assert fds["0"] == "/dev/null" and fds["1"].startswith("pipe:") and fds["2"] != fds["1"]
    for field in ("SigBlk", "SigIgn", "SigCgt"):
        assert int(status_field(pid, field), 16) == 0, field
    assert status_field(pid, "Umask") == "0022"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert Path(f"/proc/{pid}/environ").read_bytes().count(b"\0") == 1
    assert int(status_field(pid, "PPid")) == kit.pid
    assert os.getsid(pid) == pid


async def test_stdio_of_every_kind(kit: Kit) -> None:
    """LOG is tested with the logs."""
    await kit.launch(
        finish("/bin/sleep", "1000"), "p/0", stdio="NULL", stdio_slots=(STDIN, STDOUT, STDERR)
    )
    pid = (await kit.shim.state())[0].pid
    await asleep(pid)
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}

    (kit.base / "in").write_text("from the agent")
    with (kit.base / "in").open("rb") as stdin, (kit.base / "out").open("wb") as stdout:
        fds = (stdin.fileno(), stdout.fileno(), stdout.fileno())
        await kit.launch(shell("cat; echo bad >&2"), "exec/0", kind="EXEC", stdio="FDS", send=fds)
    await kit.exit("exec/0")
    assert (kit.base / "out").read_text() == "from the agentbad\n"


async def test_stdin_is_kept_open_when_asked_for(kit: Kit) -> None:
    """A program that reads its stdin waits, as with ``stdin: true`` in Kubernetes; without, it sees the end."""
    await kit.launch(finish("/bin/cat"), "p/0", keep_stdin=True)
    await kit.launch(finish("/bin/cat"), "p/1")
    assert (await kit.exit("p/1")).status == 0
    entry = await kit.entry("p/0")
    assert entry and entry.state == "running"


async def test_own_pid_namespace(kit: Kit) -> None:
    out = await kit.run(shell("echo $$"), new_pid_namespace=True)
    assert out == "1\n"


async def test_exec_joins_a_container(kit: Kit) -> None:
    host = s.SetHostname(name="inside")
    proc = s.NewFilesystem(slot=PROC, type="proc")
    mount = s.Attach(slot=PROC, path="/proc", root=-1)
    first = await kit.launch(
        (*private(), host, proc, mount, *finish("/bin/sleep", "1000")), new_pid_namespace=True
    )
    read_end, write_end = os.pipe()
    with open("/dev/null", "rb") as null:
        await kit.launch(
            (
                s.Harden(),
                s.SetNs(
                    pidfd=JOIN,
                    of="it",
                    namespaces=("mnt", "net", "uts", "ipc", "cgroup"),
                ),
                *finish(SH, "-c", "hostname; echo /proc/[0-9]*; cat /proc/1/cmdline"),
            ),
            "exec/0",
            kind="EXEC",
            stdio="FDS",
            send=(null.fileno(), write_end, write_end),
            join="p/0",
            join_slot=JOIN,
            join_pid_namespace=True,
        )
    os.close(write_end)
    assert (await kit.exit("exec/0")).status == 0
    with open(read_end, "rb") as output:
        hostname, pids, *rest = output.read().split(b"\n")
    assert hostname == b"inside"
    assert pids.split()[0] == b"/proc/1" and len(pids.split()) <= 3
    assert rest[0].startswith(b"/bin/sleep")
    # The shim itself has come back to its own PID namespace.
    again = await kit.launch(finish("/bin/sleep", "1000"), "p/1")
    assert again.pid > first.pid > 1
    assert os.stat(f"/proc/{again.pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino


async def test_a_command_that_is_killed_takes_its_children_along(kit: Kit) -> None:
    read_end, write_end = os.pipe()
    steps = (s.NewSession(), *finish(SH, "-c", "sleep 1000 & sleep 1000"))
    with open("/dev/null") as null:
        send = (null.fileno(), write_end, write_end)
        await kit.launch(steps, "exec/0", kind="EXEC", stdio="FDS", send=send)
    os.close(write_end)
    assert await kit.shim.signal("exec/0", signal.SIGKILL)
    assert (await kit.exit("exec/0")).status == signal.SIGKILL
    with open(read_end, "rb") as output:
        assert output.read() == b""  # its end: nobody has the pipe any more


@pytest.mark.parametrize("joined_key", ["nobody", "p/0", "p/1"])
async def test_joining_needs_a_running_process(kit: Kit, joined_key: str) -> None:
    gate = kit.fifo()
    await kit.launch(shell("exit 0"), "p/0")
    await kit.exit("p/0")
    starting = asyncio.ensure_future(kit.launch((gate.step(), *finish("/bin/true")), "p/1"))
    await until_entry(kit, "p/1")
    error = await kit.failure(
        shell("exit 0"), "exec/0", kind="EXEC", stdio="NULL", join=joined_key, join_slot=JOIN
    )
    assert (error.step, os.strerror(error.errno)) == (-2, "No such process")
    await gate.release()
    await starting


async def until_entry(kit: Kit, key: str) -> Process:
    while not (entry := await kit.entry(key)):
        await asyncio.sleep(0.002)
    return entry


async def test_a_key_is_taken_until_it_is_forgotten(kit: Kit) -> None:
    await kit.launch(shell("exit 0"))
    await kit.exit()
    error = await kit.failure(shell("exit 0"))
    assert (error.step, os.strerror(error.errno)) == (-2, "File exists")
    await kit.shim.forget("p/0")
    assert await kit.shim.state() == []
    await kit.launch(shell("exit 0"))


async def test_forgetting_what_runs_is_refused(kit: Kit) -> None:
    gate = kit.fifo()
    await kit.launch(finish("/bin/sleep", "1000"), "p/0")
    starting = asyncio.ensure_future(kit.launch((gate.step(), *finish("/bin/true")), "p/1"))
    await until_entry(kit, "p/1")
    for key in ("p/0", "p/1"):
        with pytest.raises(OSError, match="busy"):
            await kit.shim.forget(key)
    await kit.shim.forget("nobody")
    assert {entry.key for entry in await kit.shim.state()} == {"p/0", "p/1"}
    await gate.release()
    await starting


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_in_the_middle_of_its_steps(kit: Kit, number: signal.Signals) -> None:
    """SIGKILL at once; any other signal waits until just before exec, when the default actions are restored."""
    gate = kit.fifo()
    starting = asyncio.ensure_future(kit.failure((s.Harden(), gate.step(), *finish("/bin/true"))))
    entry = await until_entry(kit, "p/0")
    assert entry.state == "starting"
    await gate.reached(entry.pid)
    assert await kit.shim.signal("p/0", number)
    if number != signal.SIGKILL:
        await gate.release()
    error = await starting
    assert (error.step, error.detail) == (-1, number)
    assert await kit.shim.state() == []
    assert is_gone(entry.pid)
    assert read_exit_records(str(kit.run_dir)) == {}


async def test_a_child_is_not_dumpable_before_exec(kit: Kit) -> None:
    """A process of the container's user must not open its /proc/<pid>/exe or fds (runc CVE-2016-9962)."""
    gate = kit.fifo()
    user = s.SetIdentity(uid=12345, gid=12345)
    steps = (s.Harden(), user, gate.step(), *finish("/bin/sleep", "1000"))
    gate.path.chmod(0o666)
    for directory in [gate.path.parent, *gate.path.parent.parents][:-2]:
        directory.chmod(0o755)
    starting = asyncio.ensure_future(kit.launch(steps))
    pid = (await until_entry(kit, "p/0")).pid
    await gate.reached(pid)
    assert status_field(pid, "Uid").split() == ["12345"] * 4
    # proc(5): the files of a process that is not dumpable belong to root.
    assert os.stat(f"/proc/{pid}/status").st_uid == 0
    await gate.release()
    await starting
    await asleep(pid)
    assert os.stat(f"/proc/{pid}/status").st_uid == 12345, "else this test sees nothing"


async def test_a_child_has_let_go_of_the_shims_fds(kit: Kit) -> None:
    """Between clone and exec: the report socket and what the plan names, nothing of other containers."""
    await kit.launch(finish("/bin/sleep", "1000"), "p/0", keep_stdin=True)
    gate = kit.fifo()
    starting = asyncio.ensure_future(kit.launch((gate.step(), *finish("/bin/true")), "p/1"))
    pid = (await until_entry(kit, "p/1")).pid
    await gate.reached(pid)
    fds = sorted(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    assert [fd.split(":")[0] for fd in fds if not fd.startswith(str(kit.base))] == [
        "/dev/null",  # 0, 1
        "/dev/null",
        "/dev/null",  # the slot for stdin
        "pipe",
        "pipe",
        "socket",
    ]
    await gate.release()
    await starting


async def test_two_hundred_processes(kit: Kit) -> None:
    keys = [f"p/{i}" for i in range(200)]
    await asyncio.gather(*(kit.launch(finish("/bin/sleep", "1000"), key) for key in keys))
    entries = await kit.shim.state()
    assert {entry.key for entry in entries} == set(keys)
    assert len({entry.pid for entry in entries}) == 200
    for key in keys[::2]:
        assert await kit.shim.signal(key, signal.SIGTERM)
    for key in keys[::2]:
        assert os.WTERMSIG((await kit.exit(key)).status) == signal.SIGTERM
        await kit.shim.forget(key)
    assert {entry.key for entry in await kit.shim.state()} == set(keys[1::2])
    await asyncio.gather(*(kit.launch(shell("exit 9"), key) for key in keys[::2]))


async def test_more_processes_than_there_is_room_for(kit: Kit) -> None:
    for i in range(256):
        await kit.launch(finish("/bin/sleep", "1000"), f"p/{i}", stdio="NULL")
    error = await kit.failure(shell("exit 0"), "one/0", stdio="NULL")
    assert (error.step, os.strerror(error.errno)) == (-2, "Too many users")
    assert await kit.shim.signal("p/7", signal.SIGKILL)
    await kit.exit("p/7")
    await kit.shim.forget("p/7")
    await kit.launch(shell("exit 0"), "one/0")


async def test_fds_do_not_pile_up(kit: Kit) -> None:
    """After any number of launches, good or bad, the shim has the fds that it had."""
    before = kit.fds()
    for i in range(10):
        await kit.launch(shell("echo; exit 0"), f"p/{i}", keep_stdin=True, new_pid_namespace=True)
        await kit.exit(f"p/{i}")
        await kit.shim.forget(f"p/{i}")
        await kit.failure((s.OpenFile(slot=40, path="/none"), *finish("/bin/true")), f"p/{i}")
        await kit.failure(finish("/bin/true"), f"p/{i}", into_cgroup="x", fds=("cgroup",))
        await kit.failure(finish("/bin/true"), f"p/{i}", log_path="/none/0.log")
        await kit.failure(finish("/bin/true"), f"p/{i}", join="nobody")
        descriptors = [os.open("/dev/null", os.O_RDWR) for _ in range(10)]
        sending = (s.OpenFile(slot=30, path="/"), s.SendFd(slot=30, what="/"))
        process = await kit.launch(
            (*sending, *finish("/bin/true")),
            f"exec/{i}",
            kind="EXEC",
            stdio="FDS",
            send=descriptors,
        )
        for fd in (*descriptors, *process.fds):
            os.close(fd)
        await kit.exit(f"exec/{i}")
    assert await kit.shim.state() == []
    await kit.fds_are(before)


async def test_fds_come_up_in_order(kit: Kit) -> None:
    paths = ["/", "/etc/passwd", "/proc/thread-self/ns/net"]
    steps: list[s.Step] = []
    for slot, path in enumerate(paths, 30):
        steps += [s.OpenFile(slot=slot, path=path), s.SendFd(slot=slot, what=path)]
    steps += [s.OpenNetlink(slot=40), s.SendFd(slot=40, what="netlink")]
    before = kit.fds()
    process = await kit.launch((*private(), *steps, *finish("/bin/sleep", "1000")))
    try:
        # pidfd, two pipes, log: the shim has kept none of those that it handed on
        await kit.fds_are(before + 4)
        stats = [os.fstat(fd) for fd in process.fds]
        assert [(x.st_dev, x.st_ino) for x in stats[:2]] == [
            (x.st_dev, x.st_ino) for x in map(os.stat, paths[:2])
        ]
        assert stats[2].st_ino == os.stat(f"/proc/{process.pid}/ns/net").st_ino
        assert stats[2].st_ino != os.stat("/proc/self/ns/net").st_ino
        assert os.readlink(f"/proc/self/fd/{process.fds[3]}").startswith("socket:")
        assert not any(os.get_inheritable(fd) for fd in process.fds)
    finally:
        for fd in process.fds:
            os.close(fd)


async def test_more_fds_than_a_message_holds_is_an_error(kit: Kit) -> None:
    """Not one of them may be lost in silence: the agent counts on what a plan sends."""
    sending = [s.OpenFile(slot=30, path="/")] + [s.SendFd(slot=30, what="/")] * 17
    error = await kit.failure((*sending, *finish("/bin/sleep", "1000")))
    assert os.strerror(error.errno) == "Too many open files"
    assert error.step == 17
    assert not kit.descendants()


async def test_orphans_come_to_the_shim_and_are_reaped(kit: Kit) -> None:
    await kit.launch(shell("setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'"))
    await kit.exit()
    orphan = int(joined(read_log(kit.log_path())))
    await until(lambda: True if children(kit.pid) == [orphan] else None)
    os.kill(orphan, signal.SIGKILL)
    await until(lambda: True if is_gone(orphan) else None)


async def test_shutdown_kills_and_reaps_all(kit: Kit) -> None:
    """Containers, what is still starting, and orphans of orphans in sessions of their own."""
    gate = kit.fifo()
    script = (
        "setsid sh -c 'trap \"\" TERM HUP; (sleep 1000; :) & sleep 1000' >/dev/null 2>&1 & exit"
    )
    await kit.launch(shell(script), "p/0")
    await kit.launch(shell("trap '' TERM; sleep 1000; :"), "p/1", new_pid_namespace=True)
    starting = asyncio.ensure_future(kit.launch((gate.step(), *finish("/bin/true")), "p/2"))
    await until_entry(kit, "p/2")
    await kit.exit("p/0")
    await until(lambda: True if len(kit.descendants()) >= 6 else None)
    pids = kit.descendants()
    assert await kit.shutdown() == 0
    with pytest.raises((LaunchFailed, ConnectionError)):
        await starting
    assert all(is_gone(pid) for pid in pids)
    assert {
        key: os.WTERMSIG(p.status) for key, p in read_exit_records(str(kit.run_dir)).items()
    } == {
        "p/0": 0,
        "p/1": signal.SIGKILL,
    }


async def test_nothing_is_launched_after_shutdown_began(kit: Kit) -> None:
    await kit.launch(finish("/bin/sleep", "1000"))
    # Both requests are in the socket before the shim reads the first.
    os.kill(kit.pid, signal.SIGSTOP)
    down = asyncio.ensure_future(kit.shutdown())
    await asyncio.sleep(0)
    late = asyncio.ensure_future(kit.shim.launch(plan("p/1", finish("/bin/sleep", "1000")), ()))
    await asyncio.sleep(0)
    os.kill(kit.pid, signal.SIGCONT)
    with pytest.raises((LaunchFailed, ConnectionError)):
        await late
    assert await down == 0


async def test_the_shim_is_hard_to_end(kit: Kit) -> None:
    """Only SHUTDOWN ends it (or SIGKILL): a stray signal to the pod must not take it down."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1):
        os.kill(kit.pid, number)
    assert await kit.shim.state() == []


async def test_the_shim_itself(kit: Kit) -> None:
    """A session and a directory that pin nothing, a name for ``ps``, no environment, no fd but its own."""
    assert os.getsid(kit.pid) == kit.pid
    assert os.readlink(f"/proc/{kit.pid}/cwd") == "/"
    assert status_field(kit.pid, "Name") == "minipod-shim"
    cmdline = Path(f"/proc/{kit.pid}/cmdline").read_bytes()
    assert cmdline == b"minipod-shim\0test/shim\0"
    assert Path(f"/proc/{kit.pid}/environ").read_bytes() == b""
    assert os.readlink(f"/proc/{kit.pid}/exe").startswith("/memfd:")
    names = [os.readlink(f"/proc/{kit.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{kit.pid}/fd")]
    kinds = sorted(name.split(":")[0] for name in names)
    assert kinds == sorted(
        [
            *["/dev/null"] * 3,  # 0, 1, the template of containers' stdin
            str(kit.base / "shim.stderr"),
            str(kit.run_dir / "exits"),
            "socket",  # listening
            "socket",  # the agent
            "/memfd",  # the pause executable
            "anon_inode",  # epoll
            "anon_inode",  # signalfd
            "pid",  # its PID namespace
        ]
    )
    assert all(int(flags(kit.pid, fd), 8) & os.O_CLOEXEC for fd in range(3, 6))


def flags(pid: int, fd: int) -> str:
    text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith("flags:"))


async def test_fds_that_the_agent_leaks_are_closed(tmp_path: Path, build: Build) -> None:
    leak = tmp_path / "leak"
    leak.touch()
    fd = os.open(leak, os.O_RDONLY)
    for number in (50, 100, 200):
        os.dup2(fd, number, inheritable=True)
    try:
        async with running_kit(tmp_path, build) as kit:
            await kit.shim.state()
            links = [
                os.readlink(f"/proc/{kit.pid}/fd/{x}") for x in os.listdir(f"/proc/{kit.pid}/fd")
            ]
            assert str(leak) not in links
    finally:
        for number in (fd, 50, 100, 200):
            os.close(number)
