# SPDX-License-Identifier: GPL-3.0-or-later
"""What the shim writes to a container's log: all of it, in order, in the CRI format, whatever the container does."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from minipod.plan import steps as s
from tests.features import requires
from tests.shimkit import (
    ENV,
    SH,
    Kit,
    Line,
    children,
    finish,
    joined,
    private,
    read_log,
    shell,
    until,
)

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = requires("root", "namespaces")

LINE = 16384
ROOT, TREE, PTY = 21, 22, 23


def files(kit: Kit) -> list[Path]:
    """The log and what it was rotated to, oldest first."""
    rotated = sorted(kit.base.glob("p.0.log.*"), key=lambda path: -int(path.suffix[1:]))
    return [*rotated, kit.log_path()]


def all_lines(kit: Kit) -> list[Line]:
    return [line for path in files(kit) for line in read_log(path)]


async def log_of(kit: Kit, *command: str) -> list[Line]:
    await kit.launch(finish(*command))
    assert (await kit.exit()).status == 0
    return read_log(kit.log_path())


async def test_a_line(kit: Kit) -> None:
    (line,) = await log_of(kit, "/bin/echo", "hello  world")
    assert (line.stream, line.tag, line.text) == ("stdout", "F", b"hello  world")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", line.time)
    assert kit.log_path().stat().st_mode & 0o7777 == 0o600


async def test_streams_are_told_apart(kit: Kit) -> None:
    lines = await log_of(kit, SH, "-c", "echo out; echo err >&2; echo; printf 'no end' >&2")
    assert {(x.stream, x.text) for x in lines} == {
        ("stdout", b"out"),
        ("stdout", b""),
        ("stderr", b"err"),
        ("stderr", b"no end"),
    }
    assert {x.tag for x in lines} == {"F"}


@pytest.mark.parametrize("size", [LINE - 1, LINE, LINE + 1, 40000, 3 * LINE])
@pytest.mark.parametrize("ended", [True, False])
async def test_long_lines_come_in_parts(kit: Kit, size: int, ended: bool) -> None:
    text = b"".join(b"%07d " % i for i in range(size // 8 + 1))[:size]
    (kit.base / "text").write_bytes(text + (b"\nnext\n" if ended else b""))
    lines = await log_of(kit, "/bin/cat", str(kit.base / "text"))
    assert joined(lines).rstrip(b"\n") == text + (b"\nnext" if ended else b"")
    parts = [line for line in lines if line.tag == "P"]
    assert all(len(line.text) == LINE for line in parts)
    assert len(parts) == size // LINE
    if size % LINE or ended:
        assert lines[-1].tag == "F"


async def test_any_byte_survives(kit: Kit) -> None:
    data = bytes(range(256)) * 300 + b"\r\n\x00\n\xff\xfe\n\n"
    (kit.base / "data").write_bytes(data)
    lines = await log_of(kit, "/bin/cat", str(kit.base / "data"))
    assert joined(lines) == data


async def test_a_hundred_thousand_lines(kit: Kit) -> None:
    lines = await log_of(kit, "/usr/bin/seq", "100000")
    assert [int(line.text) for line in lines] == list(range(1, 100001))
    times = [line.time for line in lines]
    assert times == sorted(times)


async def test_both_streams_at_once(kit: Kit) -> None:
    script = "(seq 20000 >&2) & seq 20000; wait"
    lines = await log_of(kit, SH, "-c", script)
    for stream in ("stdout", "stderr"):
        own = [int(line.text) for line in lines if line.stream == stream]
        assert own == list(range(1, 20001)), stream


async def test_rotation(kit: Kit) -> None:
    """At most max_files files, each hardly larger than max_bytes; the newest lines are kept, in order."""
    options: dict[str, Any] = {"log_max_bytes": 50_000, "log_max_files": 3}
    await kit.launch(finish("/usr/bin/seq", "20000"), **options)
    await kit.exit()
    assert [path.name for path in files(kit)] == ["p.0.log.2", "p.0.log.1", "p.0.log"]
    for path in files(kit):
        assert path.stat().st_size < 50_000 + 2 * LINE + 100
    numbers = [int(line.text) for line in all_lines(kit)]
    assert numbers == list(range(numbers[0], 20001))
    assert len(numbers) > 1000


@pytest.mark.parametrize("max_files", [0, 1])
async def test_rotation_with_a_single_file(kit: Kit, max_files: int) -> None:
    options: dict[str, Any] = {"log_max_bytes": 50_000, "log_max_files": max_files}
    await kit.launch(finish(SH, "-c", "seq 20000; echo last"), **options)
    await kit.exit()
    assert files(kit) == [kit.log_path()]
    assert kit.log_path().stat().st_size < 50_000 + 2 * LINE + 100
    assert read_log(kit.log_path())[-1].text == b"last"


async def test_no_rotation_when_there_is_no_limit(kit: Kit) -> None:
    await kit.launch(finish("/usr/bin/seq", "20000"), log_max_bytes=0)
    await kit.exit()
    assert len(read_log(kit.log_path())) == 20000 and files(kit) == [kit.log_path()]


async def test_a_log_goes_on_where_it_was(kit: Kit) -> None:
    """The size of what is there already counts: it is rotated at the same limit."""
    kit.log_path().write_text("2026-11-21T14:00:00.000000000Z stdout F before\n" * 1000)
    await kit.launch(shell("echo after"), log_max_bytes=40_000)
    await kit.exit()
    assert [path.name for path in files(kit)] == ["p.0.log.1", "p.0.log"]
    assert [line.text for line in all_lines(kit)][-2:] == [b"before", b"after"]
    assert kit.log_path().read_bytes() == b""


async def test_a_log_that_cannot_be_opened_refuses_the_launch(kit: Kit) -> None:
    (kit.base / "link").symlink_to(kit.base / "elsewhere")
    long = str(kit.base) + "/" * (4090 - len(str(kit.base))) + "x"
    for path, name in (
        (kit.base / "none" / "0.log", "No such file or directory"),
        (kit.base / "link", "Too many levels of symbolic links"),
        (kit.base, "Is a directory"),
        (long, "File name too long"),
        ("", "No such file or directory"),
    ):
        error = await kit.failure(shell("exit 0"), log_path=str(path))
        assert (error.step, os.strerror(error.errno)) == (-2, name)
    assert not (kit.base / "elsewhere").exists()


async def test_all_is_in_the_log_before_the_exit_is_told(kit: Kit) -> None:
    for i in range(30):
        key = f"p/{i}"
        await kit.launch(shell(f"seq {i * 50}; printf end"), key)
        await kit.exit(key)
        assert [line.text for line in read_log(kit.log_path(key))][i * 50 :] == [b"end"]


async def test_an_orphan_goes_on_writing(kit: Kit) -> None:
    """The container's program has exited, a child of it holds the pipe: its lines are logged until FORGET."""
    gate = kit.fifo()
    script = f"(read x <{gate.path}; echo late; printf unfinished; exec >&- 2>&-; read x <{gate.path}) & echo early"
    await kit.launch(shell(script))
    await kit.exit()
    assert [line.text for line in read_log(kit.log_path())] == [b"early"]
    await gate.release()
    await until(lambda: True if len(read_log(kit.log_path())) == 3 else None)
    assert joined(read_log(kit.log_path())) == b"early\nlate\nunfinished\n"


async def test_half_a_line_is_logged_when_it_is_forgotten(kit: Kit) -> None:
    await kit.launch(shell("sleep 1000 & printf half"))
    await kit.exit()
    await kit.shim.forget("p/0")
    assert joined(read_log(kit.log_path())) == b"half\n"


async def test_an_orphan_that_floods_does_not_hold_up_the_shim(kit: Kit) -> None:
    """The program exits while another process fills its pipe faster than it is read."""
    script = "yes & yes & yes & sleep 0.2"
    await kit.launch(shell(script), log_max_bytes=100_000, log_max_files=2)
    await kit.exit()
    assert (await kit.entry("p/0")) is not None
    await kit.shim.forget("p/0")
    # SIGPIPE ends them.
    await until(lambda: True if not kit.descendants() else None)


async def test_a_flood_leaves_room_for_others(kit: Kit) -> None:
    for i in range(3):
        steps = finish("/usr/bin/yes")
        await kit.launch(steps, f"flood/{i}", log_max_bytes=100_000, log_max_files=2)
    assert await kit.run(shell("seq 1000"), "p/0") == "".join(f"{i}\n" for i in range(1, 1001))
    assert {entry.state for entry in await kit.shim.state()} == {"running", "exited"}
    for i in range(3):
        assert await kit.shim.signal(f"flood/{i}", signal.SIGKILL)
        await kit.exit(f"flood/{i}")
        parts = kit.base.glob(f"flood.{i}.log*")
        assert sum(path.stat().st_size for path in parts) < 2 * (100_000 + 2 * LINE + 100)


async def test_a_program_that_closes_its_output_and_lives(kit: Kit) -> None:
    await kit.launch(shell("echo last words; exec >&- 2>&-; exec sleep 1000"))
    await until(lambda: True if kit.log_path().read_bytes() else None)
    assert joined(read_log(kit.log_path())) == b"last words\n"
    entry = await kit.entry("p/0")
    assert entry and entry.state == "running"
    before = Path(f"/proc/{kit.pid}/stat").read_text().split()[13:15]
    await asyncio.sleep(0.2)
    after = Path(f"/proc/{kit.pid}/stat").read_text().split()[13:15]
    assert sum(map(int, after)) - sum(map(int, before)) < 10, "it spins"
    assert await kit.shim.signal("p/0", signal.SIGKILL)
    await kit.exit()


# ---- no room ------------------------------------------------------------------------------------------------------


async def small_disk(kit: Kit, size: str) -> Path:
    """A tmpfs of *size* in the mount namespace of a process, seen from outside; it ends with the kit."""
    (kit.base / "root").mkdir()
    steps = (
        *private(),
        s.NewFilesystem(slot=ROOT, type="tmpfs", options=(f"size={size}",)),
        s.Attach(slot=ROOT, path=str(kit.base / "root"), root=-1),
        *finish("/bin/sleep", "1000"),
    )
    holder = await kit.launch(steps, "disk", kind="SANDBOX", stdio="NULL")
    return Path(f"/proc/{holder.pid}/root{kit.base}/root")


async def test_a_full_disk_does_not_stop_a_container(kit: Kit) -> None:
    disk = await small_disk(kit, "64k")
    log = disk / "0.log"
    await kit.launch(
        shell(f"seq 50000; echo done >{kit.base}/done"), log_path=str(log), log_max_files=1
    )
    assert (await kit.exit()).status == 0
    assert (kit.base / "done").exists()
    numbers = [int(line.text) for line in read_log(log)]
    assert numbers[:100] == list(range(1, 101)), "what there was room for"
    assert log.stat().st_size > 65536 - 100, "to the last whole line"


async def test_a_log_recovers_when_there_is_room_again(kit: Kit) -> None:
    """Lines are lost, but none is torn, and the next one after the gap stands alone."""
    disk = await small_disk(kit, "128k")
    log, filler = disk / "0.log", disk / "filler"
    first, second = kit.fifo("first"), kit.fifo("second")
    filler.write_bytes(bytes(98304))
    script = f"seq 5000; read x <{first.path}; echo again; read x <{second.path}"
    process = await kit.launch(shell(script), log_path=str(log))
    await first.reached(process.pid)
    await turns(kit)
    assert joined(read_log(log)).startswith(b"1\n2\n3\n")
    assert log.stat().st_size < 32768
    filler.unlink()
    await first.release()
    await until(lambda: True if log.read_bytes().endswith(b" again\n") else None)
    read_log(log)
    await second.release()
    await kit.exit()


async def turns(kit: Kit) -> None:
    """Return when the shim has read what is in its pipes: each answer comes after a turn of its loop."""
    for _ in range(20):
        await kit.shim.state()


async def test_a_rotation_that_finds_no_place_is_made_up_for(kit: Kit) -> None:
    """The new file cannot be made: the log begins again once it can."""
    (kit.base / "logs").mkdir()
    log = kit.base / "logs" / "0.log"
    gates = [kit.fifo("first"), kit.fifo("second")]
    script = f"read x <{gates[0].path}; seq 3000; read x <{gates[1].path}; echo again"
    options: dict[str, Any] = {"log_max_bytes": 20_000, "log_max_files": 2}
    process = await kit.launch(shell(script), log_path=str(log), **options)
    log.unlink()
    log.parent.rmdir()
    await gates[0].release()
    await gates[1].reached(process.pid)
    await turns(kit)
    log.parent.mkdir()
    await gates[1].release()
    await kit.exit()
    assert [line.text for line in read_log(log)] == [b"again"]


async def test_a_size_limit_of_the_agents_is_not_the_containers_problem(kit: Kit) -> None:
    """RLIMIT_FSIZE on the shim: EFBIG, no SIGXFSZ, and whole lines only."""
    resource.prlimit(kit.pid, resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    await kit.launch(shell("ulimit -f unlimited; seq 5000; exit 4"))
    assert os.waitstatus_to_exitcode((await kit.exit()).status) == 4
    lines = read_log(kit.log_path())
    assert 29_900 < kit.log_path().stat().st_size <= 30_000
    assert [int(line.text) for line in lines] == list(range(1, len(lines) + 1))


# ---- terminals ----------------------------------------------------------------------------------------------------


def on_a_terminal(kit: Kit, *command: str) -> tuple[s.Step, ...]:
    (kit.base / "root").mkdir(exist_ok=True)
    return (
        *private(),
        s.NewFilesystem(slot=ROOT, type="tmpfs", options=("mode=0755",)),
        s.Attach(slot=ROOT, path=str(kit.base / "root"), root=-1),
        s.Mkdir(path="/dev/pts", root=ROOT, parents=True),
        s.NewFilesystem(slot=TREE, type="devpts", options=("newinstance", "ptmxmode=0666")),
        s.Attach(slot=TREE, path="/dev/pts", root=ROOT, no_symlinks=True),
        s.OpenPty(slot=PTY, root=ROOT, console=True),
        s.NewSession(),
        s.SetStdio(slots=(PTY, PTY, PTY), terminal=True),
        s.CloseRange(),
        s.Exec(candidates=(command[0],), argv=command, env=(*ENV, f"R={kit.base}/root")),
    )


async def test_a_terminal_is_logged(kit: Kit) -> None:
    script = "test -t 0 && test -t 1 && test -t 2; echo $?; echo err >&2; echo console >$R/dev/console; seq 3000"
    await kit.launch(on_a_terminal(kit, SH, "-c", script), stdio="TTY_LOG", new_pid_namespace=True)
    assert (await kit.exit()).status == 0
    lines = read_log(kit.log_path())
    text = [line.text.rstrip(b"\r") for line in lines]
    assert {line.stream for line in lines} == {"stdout"}
    assert text[:3] == [b"0", b"err", b"console"]
    assert text[3:] == [b"%d" % i for i in range(1, 3001)]


async def test_a_terminal_that_is_closed_and_opened_again(kit: Kit) -> None:
    """As an init that opens /dev/console itself: the terminal must not hang up in between."""
    script = "exec <&- >&- 2>&-; sleep 0.1; exec <$R/dev/console >$R/dev/console 2>&1; echo back; sleep 0.1; echo on"
    await kit.launch(on_a_terminal(kit, SH, "-c", script), stdio="TTY_LOG")
    ended = await kit.exit()
    assert joined(read_log(kit.log_path())) == b"back\r\non\r\n"
    assert ended.status == 0


async def test_a_terminal_ends_with_its_program(kit: Kit) -> None:
    """Nothing of it stays open in the shim once the program has exited."""
    before = kit.fds()
    await kit.launch(on_a_terminal(kit, "/bin/echo", "x"), stdio="TTY_LOG")
    await kit.exit()
    # The log file alone, until it is forgotten.
    await kit.fds_are(before + 1)
    await kit.shim.forget("p/0")
    await kit.fds_are(before)


def test_children_are_found() -> None:
    """``kit.descendants`` is what says that nothing is left: it must see a child."""
    with os.popen("echo; sleep 0.5"):
        assert children(os.getpid())
