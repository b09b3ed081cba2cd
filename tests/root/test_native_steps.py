# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of the interpreter do when they succeed, hostile roots included; how they fail: test_native_failures.

The plans run in throw-away namespaces, with the host's files in sight below them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from minipod.plan import steps as s
from minipod.runtime.shim import LaunchFailed
from tests.features import cgroup_mounts, requires
from tests.root.native_plans import (
    DEVPTS,
    DIR_TREE,
    END,
    FILE_TREE,
    PROC,
    ROOT,
    TREE,
    bpf,
    record,
    rooted,
    with_null,
    with_proc,
)
from tests.shimkit import (
    ENV,
    SH,
    Kit,
    finish,
    joined,
    private,
    read_log,
    shell,
)

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = requires("root", "namespaces")


async def seen(kit: Kit, steps: tuple[s.Step, ...], script: str, **options: Any) -> str:
    """Run *script* after *steps*, with <base>/root as $R, and return what it says."""
    (kit.base / "root").mkdir(exist_ok=True)
    program = (
        s.SetStdio(slots=(0, 1, 2)),
        s.CloseRange(),
        s.Exec(candidates=(SH,), argv=(SH, "-euc", script), env=(*ENV, f"R={kit.base}/root")),
    )
    return await kit.run((*steps, *program), **options)


async def test_tree_of_files(kit: Kit) -> None:
    steps = (
        *with_null(kit.base),
        s.Mkdir(path="/a/b/c", root=ROOT, mode=0o750, parents=True),
        s.Mkdir(path="/sticky", root=ROOT, mode=0o1777),
        s.WriteFile(path="/blob", root=ROOT, content="line\n\N{SNOWMAN}", mode=0o4711),
    )
    out = await seen(
        kit, steps, 'cd $R; stat -c "%n %a %F" a a/b/c sticky blob; stat -c "%t:%T" null; cat blob'
    )
    assert out == (
        "a 750 directory\na/b/c 750 directory\nsticky 1777 directory\nblob 4711 regular file\n"
        "1:3\nline\n\N{SNOWMAN}\n"
    )


async def test_symlinks_stay_inside(kit: Kit) -> None:
    """Absolute and ".." symlinks of a hostile image lead nowhere but into its own root (runc CVE-2021-30465)."""
    outside = kit.base / "outside"
    outside.mkdir()
    steps = (
        *rooted(kit.base),
        s.Symlink(path="/absolute", root=ROOT, target=str(outside)),
        s.Symlink(path="/dots", root=ROOT, target="../../../../../../../.." + str(outside)),
        s.Mkdir(path=str(outside), root=ROOT, parents=True),
        s.Mkdir(path="/absolute/one", root=ROOT, parents=True),
        s.Mkdir(path="/dots/two", root=ROOT, parents=True),
        DIR_TREE,
        s.Attach(slot=TREE, path="/absolute/three/four", root=ROOT, create="directory"),
        FILE_TREE,
        s.Attach(slot=TREE, path="/dots/five", root=ROOT, create="file"),
    )
    out = await seen(kit, steps, f"ls $R{outside}; grep -c $R /proc/self/mountinfo")
    assert out.split() == ["five", "one", "three", "two", "3"]
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["dev", "proc", "sys", "etc"])
async def test_a_root_whose_directories_are_symlinks(kit: Kit, name: str) -> None:
    """The image's /dev, /proc or /sys is a symlink: refused. Its /etc: harmless, for it is resolved in the root."""
    outside = kit.base / "outside"
    outside.mkdir()
    (kit.base / "root").mkdir()
    link = s.Symlink(path=f"/{name}", root=ROOT, target=str(outside))
    if name == "etc":
        file = s.OpenTree(slot=TREE, path="/etc/passwd", type="file")
        steps = (
            *rooted(kit.base),
            link,
            file,
            s.Attach(slot=TREE, path="/etc/hosts", root=ROOT, create="file"),
        )
        # mkdir -p finds a symlink that leads nowhere
        error = await kit.failure((*steps, *END))
        assert (error.step, error.errno) == (len(steps) - 1, errno.ENOENT)
        inside = s.Mkdir(path=str(outside), root=ROOT, parents=True)
        out = await seen(kit, (*steps[:-3], inside, *steps[-3:]), f"ls $R{outside}")
        assert out == "hosts\n"
    else:
        attach = s.Attach(
            slot=TREE, path=f"/{name}", root=ROOT, create="directory", no_symlinks=True
        )
        made: tuple[s.Step, ...] = (s.Mkdir(path=str(outside), root=ROOT, parents=True),)
        for target in ((), made):
            error = await kit.failure((*rooted(kit.base), *target, link, DIR_TREE, attach, *END))
            assert errno.errorcode[error.errno] == "ELOOP"
            assert error.step == len(rooted(kit.base)) + len(target) + 2
    assert list(outside.iterdir()) == []


async def test_a_dangling_symlink_gives_way_to_a_file(kit: Kit) -> None:
    """As /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf in many an image."""
    steps = (
        *rooted(kit.base),
        s.Mkdir(path="/etc", root=ROOT),
        s.Symlink(path="/etc/resolv.conf", root=ROOT, target="../run/none"),
        FILE_TREE,
        s.Attach(slot=TREE, path="/etc/resolv.conf", root=ROOT, create="file"),
    )
    assert await seen(kit, steps, "head -n 1 $R/etc/resolv.conf; ls $R") == (
        Path("/etc/passwd").read_text().splitlines()[0] + "\netc\n"
    )


async def test_masked_and_read_only(kit: Kit) -> None:
    steps = (
        *with_null(kit.base),
        s.MaskPaths(root=ROOT, paths=("/proc/keys", "/proc/none", "/proc/bus"), on_proc=True),
        s.ReadonlyPaths(root=ROOT, paths=("/proc/sys", "/proc/none", "/proc/keys/x"), on_proc=True),
        s.MaskPaths(root=ROOT, paths=("/dir", "/file", "/file/x")),
    )
    out = await seen(
        kit,
        steps,
        "wc -c <$R/proc/keys; ls -A $R/proc/bus $R/dir | wc -w; wc -c <$R/file;"
        "echo 1 >$R/proc/sys/net/ipv4/ip_forward || echo refused; touch $R/dir/x || echo refused",
    )
    assert out.split() == ["0", "2", "0", "refused", "refused"]


async def test_volume_attributes(kit: Kit) -> None:
    """A read-only tree is so on this mount only, and private: a mount made later on the host's side stays there."""
    volume = kit.base / "volume"
    volume.mkdir()
    (volume / "file").touch()
    shared_recursively = (1 << 20) | 16384
    steps = (
        *private(),
        record("PROPAGATION", numbers=(shared_recursively,)),
        s.OpenTree(slot=TREE, path=str(volume), type="directory", attributes=("ro", "noexec")),
        *rooted(kit.base)[2:],
        s.Attach(slot=TREE, path="/data", root=ROOT, create="directory"),
    )
    out = await seen(kit, steps, "touch $R/data/x || ls $R/data; grep /data /proc/self/mountinfo")
    assert out.startswith("file\n")
    mount = out.splitlines()[1].split()
    assert {"ro", "noexec"} <= set(mount[5].split(",")) and mount[6] == "-"
    (volume / "y").touch()


async def test_settings_of_namespaces(kit: Kit) -> None:
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    steps = (
        *with_proc(kit.base),
        s.Sysctl(proc=PROC, name="net.ipv4.ip_forward", value="1"),
        s.Sysctl(proc=PROC, name="kernel.shm_rmid_forced", value="1"),
        s.Sysctl(proc=PROC, name="net.none.such", value="1", optional=True),
        s.SetHostname(name="x" * 64),
        s.LinkUp(name="lo"),
        s.SetOomScoreAdj(proc=PROC, value=777),
        s.SetRlimit(name="nofile", soft=100, hard=200),
    )
    out = await seen(
        kit,
        steps,
        "hostname; cat $R/proc/sys/net/ipv4/ip_forward $R/proc/sys/kernel/shm_rmid_forced;"
        "cat $R/proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn; ip -o link show lo",
    )
    hostname, forward, forced, oom, soft, hard, link = out.splitlines()
    assert (hostname, forward, forced, oom, soft, hard) == ("x" * 64, "1", "1", "777", "100", "200")
    assert "LOOPBACK,UP" in link
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


async def test_a_new_session_keyring(kit: Kit) -> None:
    """The container's session keyring is its own; possessing none of the host's keys (keyctl(2))."""
    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    code = f"import ctypes; print(ctypes.CDLL(None).syscall({number}, 0, -3, 0))"
    python = ("/usr/bin/env", "python3", "-c", code)
    first = int(await kit.run((s.NewKeyring(), *finish(*python)), "p/0"))
    second = int(await kit.run((s.NewKeyring(), *finish(*python)), "p/1"))
    assert first > 0 and second > 0 and first != second


async def test_pivot_root_leaves_nothing_of_the_old_root(kit: Kit) -> None:
    (kit.base / "root").mkdir()
    busybox = s.OpenTree(slot=TREE, path="/bin/busybox", type="file")
    steps = (
        *with_proc(kit.base),
        busybox,
        s.Attach(slot=TREE, path="/bin/busybox", root=ROOT, create="file"),
        s.PivotRoot(slot=ROOT),
        *finish("/bin/busybox", "sh", "-c", "cd ..; pwd; ls -a /; cat /proc/self/mountinfo"),
    )
    pwd, *rest = (await kit.run(steps)).splitlines()
    assert pwd == "/"
    assert rest[:4] == [".", "..", "bin", "proc"]
    mounts = [line.split()[4] for line in rest[4:]]
    assert mounts == ["/", "/proc", "/bin/busybox"]


async def test_a_working_directory_outside_the_root(kit: Kit) -> None:
    """An fd of the host that is open before exec must not be a way out (runc CVE-2024-21626)."""
    (kit.base / "root").mkdir()
    refused = 0
    for number in range(3, 24):
        steps = (
            *with_proc(kit.base),
            s.OpenFile(slot=30, path="/etc"),
            s.OpenTree(slot=TREE, path="/bin/busybox", type="file"),
            s.Attach(slot=TREE, path="/busybox", root=ROOT, create="file"),
            s.PivotRoot(slot=ROOT),
            s.Chdir(path=f"/proc/self/fd/{number}"),
            *finish("/busybox", "ls"),
        )
        try:
            names = (await kit.run(steps, f"p/{number}")).split()
        except LaunchFailed as error:
            assert error.step == len(steps) - 4
            # ENOTDIR: another kind of fd; ENOENT: there is none, or it cannot be reached.
            assert errno.errorcode[error.errno] in ("ENOENT", "ENOTDIR")
            refused += 1
        else:
            assert "passwd" not in names, "the host's /etc"
    assert refused > 10


async def test_identity_and_capabilities(kit: Kit) -> None:
    bounding = 1 << 0 | 1 << 10  # CHOWN, NET_BIND_SERVICE
    steps = (
        s.SetStdio(slots=(0, 1, 2)),
        s.OwnStdio(uid=1234),
        s.SetIdentity(uid=1234, gid=2345, groups=(3456, 4567)),
        s.SetCapabilities(bounding=bounding, until_exec=1 << 21, names=("CHOWN",)),
        s.NoNewPrivs(),
    )
    out = await seen(kit, steps, "cat /proc/self/status; stat -L -c 'own %u' /proc/self/fd/1")
    fields = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["1234"] * 4
    assert fields["Gid"].split() == ["2345"] * 4
    assert fields["Groups"].split() == ["3456", "4567"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert int(fields["CapBnd"], 16) == bounding
    assert fields["NoNewPrivs"] == "1"
    assert "own 1234" in out


async def test_root_keeps_what_the_bounding_set_allows(kit: Kit) -> None:
    mask = 1 << 0 | 1 << 10
    steps = (
        s.SetIdentity(uid=0, gid=0),
        s.SetCapabilities(bounding=mask, until_exec=mask, names=()),
    )
    out = await seen(kit, steps, "grep ^Cap /proc/self/status; grep ^Groups /proc/self/status")
    fields = dict(line.split(":", 1) for line in out.splitlines())
    assert {name: int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {
        "CapPrm": mask,
        "CapEff": mask,
        "CapBnd": mask,
    }
    assert fields["Groups"].strip() == ""


async def test_stdio_of_the_host_keeps_its_owner(kit: Kit) -> None:
    """Only what was made for the container is given to its user: no file, FIFO or terminal of a person."""
    fifo = kit.base / "fifo"
    os.mkfifo(fifo)
    master, slave = os.openpty()
    read_end, write_end = os.pipe()
    fds = (os.open(fifo, os.O_RDWR), slave, write_end)
    steps = (
        s.NewSession(),
        s.SetStdio(slots=(0, 1, 2)),
        s.OwnStdio(uid=1234),
        s.SetIdentity(uid=1234, gid=1234),
        s.Exec(candidates=("/bin/true",), argv=("true",), env=()),
    )
    try:
        before = os.fstat(slave).st_uid
        await kit.launch(steps, "exec/0", kind="EXEC", stdio="FDS", send=fds)
        await kit.exit("exec/0")
        assert fifo.stat().st_uid == 0
        assert os.fstat(slave).st_uid == before
        assert os.fstat(write_end).st_uid == 1234
    finally:
        for fd in (master, read_end, *fds):
            os.close(fd)


async def test_the_terminal_is_given_to_its_user(kit: Kit) -> None:
    pty = 40
    (kit.base / "root").mkdir()
    steps = (
        *rooted(kit.base),
        *DEVPTS,
        s.OpenPty(slot=pty, root=ROOT, rows=33, columns=101),
        s.NewSession(),
        s.SetStdio(slots=(pty, pty, pty), terminal=True),
        s.OwnStdio(uid=1234),
        s.SetIdentity(uid=1234, gid=1234),
        s.Exec(
            candidates=(SH,),
            argv=(
                SH,
                "-c",
                "stat -L -c %u /proc/self/fd/0; stty size; tty; : >/dev/tty && echo ok",
            ),
            env=ENV,
        ),
    )
    process = await kit.launch(steps, "exec/0", kind="EXEC", stdio="TTY")
    (master,) = process.fds
    assert (await kit.exit("exec/0")).status == 0
    os.set_blocking(master, True)
    text = b""
    try:
        while chunk := os.read(master, 4096):
            text += chunk
    except OSError as error:
        assert error.errno == errno.EIO
    finally:
        os.close(master)
    lines = text.decode().split("\r\n")
    assert (lines[0], lines[1], lines[-2]) == ("1234", "33 101", "ok")


async def test_seccomp(kit: Kit) -> None:
    """A filter that makes mkdir(2) and mkdirat(2) fail with EXDEV: loaded by root without no_new_privs."""
    numbers = {"x86_64": (83, 258), "aarch64": (34, 34)}[os.uname().machine]
    program = bpf(
        (0x20, 0, 0, 0),
        (0x15, 1, 0, numbers[0]),
        (0x15, 0, 1, numbers[1]),
        (0x06, 0, 0, 0x00050000 | errno.EXDEV),
        (0x06, 0, 0, 0x7FFF0000),
    )
    filtered = s.LoadSeccomp(program=program, profile="test")
    script = f"mkdir {kit.base}/new 2>&1 || grep ^Seccomp: /proc/self/status"
    out = await seen(kit, (s.Harden(), filtered), script)
    assert "cross-device" in out and out.endswith("Seccomp:\t2\n")
    assert not (kit.base / "new").exists()


@pytest.mark.parametrize("count", [4097, 65537])
async def test_a_filter_too_long_is_refused_whole(kit: Kit, count: int) -> None:
    """struct sock_fprog counts in 16 bits: cut to them, 65,537 instructions would be loaded as their first one."""
    program = bpf((0x06, 0, 0, 0x7FFF0000)) * count
    error = await kit.failure((s.LoadSeccomp(program=program, profile="-"), *END))
    assert (error.step, errno.errorcode[error.errno]) == (-2, "EBADMSG")


@requires("overlay")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("count", [1, 5, 127])
async def test_overlay(kit: Kit, count: int, legacy: bool) -> None:
    """Topmost first; the upper directory takes the writes; long paths do not matter to either way."""
    layers = kit.base / ("x" * 120)
    for name in [*map(str, range(count)), "upper", "work"]:
        (layers / name).mkdir(parents=True)
    for i in range(count):
        (layers / str(i) / f"only{i}").write_text(f"{i}\n")
        (layers / str(i) / "top").write_text(f"{i}\n")
    (kit.base / "scratch").mkdir()
    (kit.base / "root").mkdir()
    overlay = s.NewOverlay(
        slot=ROOT,
        lower=tuple(str(layers / str(i)) for i in reversed(range(count))),
        upper=str(layers / "upper"),
        work=str(layers / "work"),
        scratch=str(kit.base / "scratch"),
        attributes=("nodev",),
        legacy=legacy,
    )
    steps = (
        s.Harden(),
        overlay,
        s.Unshare(namespaces=("mnt",)),
        s.MakePrivate(),
        s.Attach(slot=ROOT, path=str(kit.base / "root"), root=-1),
    )
    script = (
        "cat $R/top; cat $R/only* | wc -l; echo new >$R/top; pwd;"
        f"grep -c {kit.base}/scratch /proc/self/mountinfo || :;"
        f"grep {kit.base}/root /proc/self/mountinfo"
    )
    out = await seen(kit, steps, script)
    top, number, cwd, scratches, mount = out.splitlines()
    assert (top, number, cwd, scratches) == (str(count - 1), str(count), "/", "0")
    assert "nodev" in mount.split()[5].split(",") and mount.split()[8] == "overlay"
    assert (layers / "upper" / "top").read_text() == "new\n"
    assert (layers / str(count - 1) / "top").read_text() == f"{count - 1}\n"
    assert str(kit.base) not in "".join(Path("/proc/self/mountinfo").read_text())


async def test_candidates_are_tried_as_execvp_does(kit: Kit) -> None:
    directory = kit.base / "bin"
    directory.mkdir()
    (directory / "tool").write_text("#!/bin/sh\necho found $0 $1\n")
    (directory / "tool").chmod(0o755)
    candidates = ("/none/tool", "/etc/passwd/tool", "/etc", str(directory / "tool"), "/bin/false")
    out = await kit.run(
        (
            s.SetStdio(slots=(0, 1, 2)),
            s.Exec(candidates=candidates, argv=("tool", "argument"), env=ENV),
        )
    )
    assert out == f"found {directory}/tool argument\n"


async def test_many_arguments(kit: Kit) -> None:
    words = tuple(f"word{i}" for i in range(20000))
    env = (*ENV, *(f"V{i}={i}" for i in range(5000)))
    steps = (
        s.SetStdio(slots=(0, 1, 2)),
        s.Exec(candidates=(SH,), argv=(SH, "-c", "echo $# $V4999 $0", *words), env=env),
    )
    assert await kit.run(steps) == "19999 4999 word0\n"


async def test_the_kernel_refuses_more(kit: Kit) -> None:
    steps = (s.Exec(candidates=(SH,), argv=(SH, *("x" * 100_000,) * 60), env=()),)
    error = await kit.failure(steps)
    assert errno.errorcode[error.errno] == "E2BIG"


async def test_a_script_cannot_make_the_shim_its_interpreter(kit: Kit) -> None:
    """``#!/proc/self/exe``: at the worst the sealed copy runs once more, and finds nothing to work with."""
    script = kit.base / "script"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    sealed = Path(f"/proc/{kit.pid}/exe").read_bytes()
    await kit.launch((s.Harden(), *finish(str(script))))
    assert os.waitstatus_to_exitcode((await kit.exit()).status) == 2
    assert Path(f"/proc/{kit.pid}/exe").read_bytes() == sealed
    with pytest.raises(OSError, match=r"not permitted|busy"):
        os.truncate(f"/proc/{kit.pid}/exe", 0)


async def test_cgroup_v1_join(kit: Kit) -> None:
    directory = next(
        (p for kind, p, options in cgroup_mounts() if kind == "cgroup" and "pids" in options), None
    )
    if directory is None:
        pytest.skip("this machine lacks cgroup1: pids")
    own = directory / f"mpt-native-{os.getpid()}"
    own.mkdir()
    try:
        out = await kit.run((s.JoinCgroup(directory=str(own)), *shell("cat /proc/self/cgroup")))
        assert f":pids:/{own.name}\n" in out
    finally:
        await kit.shutdown()
        own.rmdir()


@requires("cgroup2")
async def test_born_in_a_cgroup(kit: Kit) -> None:
    """CLONE_INTO_CGROUP: there is no moment at which the process is in another one."""
    directory = next(p for kind, p, _ in cgroup_mounts() if kind == "cgroup2")
    own = directory / f"mpt-native-{os.getpid()}"
    own.mkdir()
    fd = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
    gate = kit.fifo()
    try:
        starting = asyncio.ensure_future(
            kit.launch(
                (gate.step(), *finish("/bin/sleep", "1000")),
                send=(fd,),
                fds=("cgroup",),
                into_cgroup="x",
                stdio="NULL",
                stdio_slots=(5, 6, 7),
            )
        )
        while not (entry := await kit.entry("p/0")):
            pass
        assert f"0::/{own.name}\n" in Path(f"/proc/{entry.pid}/cgroup").read_text()
        await kit.shim.signal("p/0", signal.SIGKILL)
        with pytest.raises(Exception, match="step -1"):
            await starting
        for wrong in (os.open("/", os.O_RDONLY), os.open("/dev/null", os.O_RDWR)):
            error = await kit.failure(
                finish("/bin/true"), send=(wrong,), fds=("cgroup",), into_cgroup="x"
            )
            os.close(wrong)
            assert (error.step, errno.errorcode[error.errno]) == (-2, "EBADF")
    finally:
        os.close(fd)
        await kit.shutdown()
        own.rmdir()


def test_the_log_of_a_run_is_strictly_parsed(tmp_path: Path) -> None:
    """The tests above believe :func:`read_log`: it must not take what is not in form."""
    good = "2026-11-21T14:00:00.000000000Z stdout F text\n"
    path = tmp_path / "log"
    path.write_text(good)
    assert joined(read_log(path)) == b"text\n"
    for bad in (good[:-1], good + "half", "x" + good, good.replace(" F ", " X ")):
        path.write_text(bad)
        with pytest.raises(AssertionError):
            read_log(path)
    assert stat.S_ISREG(path.stat().st_mode)
