# SPDX-License-Identifier: GPL-3.0-or-later
"""Every step of the interpreter fails with the right index, errno and detail: what the agent's words are made of.

The plans run in throw-away namespaces, with the host's files in sight below them.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

import pytest

from minipod.plan import steps as s
from tests.features import requires
from tests.root.native_plans import (
    DEV,
    DEVPTS,
    DIR_TREE,
    EMPTY,
    END,
    FILE_TREE,
    PROC,
    ROOT,
    TREE,
    Prelude,
    bpf,
    nothing,
    record,
    rooted,
    with_null,
    with_proc,
)
from tests.shimkit import ENV, STDIN, STDOUT, Kit, Raw

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = requires("root", "namespaces")


@dataclass(frozen=True, slots=True)
class Failure:
    """After *prelude* and *before*, *step* fails with *error* at element *detail*."""

    name: str
    error: int
    step: s.Step
    prelude: Prelude = nothing
    detail: int = 0
    before: tuple[s.Step, ...] = ()


FAILURES = [
    Failure("cgroup-none", errno.ENOENT, s.JoinCgroup(directory="/none")),
    Failure("cgroup-long", errno.ENAMETOOLONG, s.JoinCgroup(directory="/" + "x" * 4096)),
    Failure("unshare-flags", errno.EINVAL, record("UNSHARE", numbers=(1,))),
    Failure("setns-empty", errno.EBADF, s.SetNs(pidfd=EMPTY, of="-", namespaces=("net",))),
    Failure("setns-none", errno.EBADF, s.SetNs(pidfd=-1, of="-", namespaces=("net",))),
    Failure(
        "setns-not-a-process",
        errno.EINVAL,
        s.SetNs(pidfd=DEV, of="-", namespaces=("net",)),
        before=(s.OpenFile(slot=DEV, path="/dev/null"),),
    ),
    Failure("propagation", errno.EINVAL, record("PROPAGATION", numbers=(3 << 18,)), rooted),
    Failure("fs-type", errno.ENODEV, s.NewFilesystem(slot=TREE, type="nonesuch")),
    Failure(
        "fs-option",
        errno.EINVAL,
        s.NewFilesystem(slot=TREE, type="tmpfs", options=("mode=0755", "size=1m", "bad=1")),
        detail=2,
    ),
    Failure(
        "fs-flag",
        errno.EINVAL,
        s.NewFilesystem(slot=TREE, type="tmpfs", options=("bad", "mode=0755")),
    ),
    Failure(
        "fs-long-key",
        errno.EINVAL,
        s.NewFilesystem(slot=TREE, type="tmpfs", options=("x" * 64 + "=1",)),
    ),
    Failure(
        "overlay-lower",
        errno.ENOENT,
        s.NewOverlay(slot=TREE, lower=("/", "/none"), upper="/", work="/", scratch="/"),
        detail=1,
    ),
    Failure(
        "overlay-upper",
        errno.ENOENT,
        s.NewOverlay(slot=TREE, lower=("/etc",), upper="/none", work="/none", scratch="/"),
    ),
    Failure(
        "overlay-legacy-scratch",
        errno.ENOENT,
        s.NewOverlay(
            slot=TREE, lower=("/etc",), upper="/none", work="/none", scratch="/none", legacy=True
        ),
    ),
    Failure(
        "overlay-legacy-lower",
        errno.ENOENT,
        s.NewOverlay(
            slot=TREE, lower=("/etc", "/none"), upper="/x", work="/y", scratch="/mnt", legacy=True
        ),
        detail=1,
    ),
    Failure(
        "overlay-legacy-long",
        errno.ENAMETOOLONG,
        s.NewOverlay(
            slot=TREE,
            lower=("/etc",),
            upper="/" + "x" * 5000,
            work="/",
            scratch="/mnt",
            legacy=True,
        ),
    ),
    Failure("tree-none", errno.ENOENT, s.OpenTree(slot=TREE, path="/none"), rooted),
    Failure(
        "tree-not-a-directory",
        errno.ENOTDIR,
        s.OpenTree(slot=TREE, path="/etc/passwd", type="directory"),
        rooted,
    ),
    Failure(
        "tree-not-a-file", errno.EINVAL, s.OpenTree(slot=TREE, path="/etc", type="file"), rooted
    ),
    Failure(
        "tree-not-a-socket",
        errno.EINVAL,
        s.OpenTree(slot=TREE, path="/dev/null", type="socket"),
        rooted,
    ),
    Failure(
        "tree-below-symlink",
        errno.ELOOP,
        s.OpenTree(slot=TREE, path="/link", root=ROOT),
        with_null,
    ),
    Failure("attach-empty", errno.EBADF, s.Attach(slot=EMPTY, path="/dir", root=ROOT), with_null),
    Failure(
        "attach-no-root",
        errno.EBADF,
        s.Attach(slot=TREE, path="/dir", root=EMPTY),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure(
        "attach-none",
        errno.ENOENT,
        s.Attach(slot=TREE, path="/none", root=ROOT),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure(
        "attach-directory-on-file",
        errno.ENOTDIR,
        s.Attach(slot=TREE, path="/file", root=ROOT),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure(
        "attach-file-on-directory",
        errno.ENOTDIR,
        s.Attach(slot=TREE, path="/dir", root=ROOT),
        with_null,
        before=(FILE_TREE,),
    ),
    Failure(
        "attach-below-file",
        errno.ENOTDIR,
        s.Attach(slot=TREE, path="/file/below", root=ROOT, create="directory"),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure(
        "attach-symlink",
        errno.ELOOP,
        s.Attach(slot=TREE, path="/link/x", root=ROOT, create="directory", no_symlinks=True),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure(
        "attach-at-a-dangling-symlink",
        errno.ENOENT,
        s.Attach(slot=TREE, path="/nowhere", root=ROOT, create="directory"),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure(
        "attach-over-proc",
        errno.EXDEV,
        s.Attach(slot=TREE, path="/procself/attr", root=ROOT),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure(
        "attach-through-magic-link",
        errno.ELOOP,
        s.Attach(slot=TREE, path="/procself/cwd", root=ROOT),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure(
        "setattr-empty",
        errno.EBADF,
        s.SetMountAttributes(slot=EMPTY, what="-", attributes=("ro",)),
    ),
    Failure("setattr-bad", errno.EINVAL, record("SETATTR", in_=ROOT, numbers=(1 << 40,)), rooted),
    Failure(
        "open-below-nothing",
        errno.EBADF,
        record("OPEN", out=TREE, root=EMPTY, strings=("/etc/passwd",)),
    ),
    Failure(
        "open-below-symlink",
        errno.ELOOP,
        record("OPEN", out=TREE, root=ROOT, strings=("/link",)),
        with_null,
    ),
    Failure(
        "attach-proc-itself-over",
        errno.EXDEV,
        s.Attach(slot=TREE, path="/proc/sys", root=ROOT, no_symlinks=True),
        with_null,
        before=(DIR_TREE,),
    ),
    Failure("open-none", errno.ENOENT, s.OpenFile(slot=TREE, path="/none")),
    Failure("mkdir-there", errno.EEXIST, s.Mkdir(path="/dir", root=ROOT), with_null),
    Failure("mkdir-orphan", errno.ENOENT, s.Mkdir(path="/none/x", root=ROOT), with_null),
    Failure("mkdir-no-root", errno.EBADF, s.Mkdir(path="/x", root=-1)),
    Failure("mkdir-dots", errno.EINVAL, s.Mkdir(path="/dir/..", root=ROOT), with_null),
    Failure("mkdir-long", errno.ENAMETOOLONG, s.Mkdir(path="/x" * 2100, root=ROOT), with_null),
    Failure(
        "mkdir-parents-long",
        errno.ENAMETOOLONG,
        s.Mkdir(path="/x" * 2100, root=ROOT, parents=True),
        with_null,
    ),
    Failure(
        "mkdir-on-file",
        errno.ENOTDIR,
        s.Mkdir(path="/file/x", root=ROOT, parents=True),
        with_null,
    ),
    Failure(
        "mkdir-symlink",
        errno.ELOOP,
        record("MKDIR", "NO_SYMLINKS", root=ROOT, strings=("/link/x",), numbers=(0o755,)),
        with_null,
    ),
    Failure(
        "mknod-there", errno.EEXIST, s.Mknod(path="/null", root=ROOT, major=1, minor=3), with_null
    ),
    Failure(
        "mknod-symlink",
        errno.ELOOP,
        s.Mknod(path="/link/x", root=ROOT, major=1, minor=3),
        with_null,
    ),
    Failure(
        "symlink-there", errno.EEXIST, s.Symlink(path="/dir", root=ROOT, target="/"), with_null
    ),
    Failure(
        "symlink-symlink", errno.ELOOP, s.Symlink(path="/link/x", root=ROOT, target="/"), with_null
    ),
    Failure(
        "write-there", errno.EEXIST, s.WriteFile(path="/file", root=ROOT, content="x"), with_null
    ),
    Failure(
        "write-through-symlink",
        errno.EEXIST,
        s.WriteFile(path="/nowhere", root=ROOT, content="x"),
        with_null,
    ),
    Failure(
        "write-below-symlink",
        errno.ELOOP,
        s.WriteFile(path="/link/x", root=ROOT, content="x"),
        with_null,
    ),
    Failure(
        "mask-symlink",
        errno.ELOOP,
        s.MaskPaths(root=ROOT, paths=("/none", "/link")),
        with_null,
        detail=1,
    ),
    Failure(
        "mask-not-on-proc",
        errno.EXDEV,
        s.MaskPaths(root=ROOT, paths=("/proc/keys", "/file"), on_proc=True),
        with_null,
        detail=1,
    ),
    Failure(
        "mask-false-null",
        errno.ENODEV,
        s.MaskPaths(root=ROOT, paths=("/dir", "/file")),
        lambda base: with_null(base, minor=5),
        detail=1,
    ),
    Failure("mask-no-null", errno.ENOENT, s.MaskPaths(root=ROOT, paths=("/proc/keys",)), with_proc),
    Failure(
        "readonly-symlink",
        errno.ELOOP,
        s.ReadonlyPaths(root=ROOT, paths=("/none", "/dir", "/link")),
        with_null,
        detail=2,
    ),
    Failure(
        "readonly-not-on-proc",
        errno.EXDEV,
        s.ReadonlyPaths(root=ROOT, paths=("/proc/sys", "/dir"), on_proc=True),
        with_null,
        detail=1,
    ),
    Failure("pivot-empty", errno.EBADF, s.PivotRoot(slot=EMPTY), rooted),
    Failure(
        "pivot-not-a-directory",
        errno.ENOTDIR,
        s.PivotRoot(slot=TREE),
        rooted,
        before=(s.OpenFile(slot=TREE, path="/etc/passwd"),),
    ),
    Failure(
        "pivot-not-a-mount",
        errno.EINVAL,
        s.PivotRoot(slot=TREE),
        with_null,
        before=(s.OpenTree(slot=TREE, path="/dir", root=ROOT),),
    ),
    Failure(
        "sysctl-none", errno.ENOENT, s.Sysctl(proc=PROC, name="net.none", value="1"), with_proc
    ),
    Failure(
        "sysctl-value",
        errno.EINVAL,
        s.Sysctl(proc=PROC, name="net.ipv4.ip_forward", value="maybe"),
        with_proc,
    ),
    Failure(
        "sysctl-long", errno.ENAMETOOLONG, s.Sysctl(proc=PROC, name="x" * 600, value="1"), with_proc
    ),
    Failure(
        "sysctl-outside",
        errno.EXDEV,
        record("SYSCTL", in_=PROC, strings=("../../etc/hostname", "x")),
        with_proc,
    ),
    Failure(
        "sysctl-not-on-proc",
        errno.EXDEV,
        record("SYSCTL", in_=ROOT, strings=("file", "x")),
        with_null,
        before=(
            s.Mkdir(path="/sys", root=ROOT),
            s.WriteFile(path="/sys/file", root=ROOT, content=""),
        ),
    ),
    Failure(
        "sysctl-mounted-over",
        errno.EXDEV,
        s.Sysctl(proc=PROC, name="net.ipv4.ip_forward", value="1"),
        with_proc,
        before=(s.MaskPaths(root=ROOT, paths=("/proc/sys/net",)),),
    ),
    Failure("hostname-long", errno.EINVAL, s.SetHostname(name="x" * 65), rooted),
    Failure("link-none", errno.ENODEV, s.LinkUp(name="none0"), rooted),
    Failure("link-long", errno.ENODEV, s.LinkUp(name="lo" + "x" * 30), rooted),
    Failure("send-empty", errno.EBADF, s.SendFd(slot=EMPTY, what="nothing")),
    Failure("setsid-twice", errno.EPERM, s.NewSession(), before=(s.NewSession(),)),
    Failure("rlimit-order", errno.EINVAL, s.SetRlimit(name="core", soft=2, hard=1)),
    Failure("rlimit-none", errno.EINVAL, record("RLIMIT", numbers=(99, 1, 1))),
    Failure("oom-empty", errno.EBADF, s.SetOomScoreAdj(proc=EMPTY, value=0)),
    Failure("oom-range", errno.EINVAL, s.SetOomScoreAdj(proc=PROC, value=-1001), with_proc),
    Failure(
        "oom-not-on-proc",
        errno.EXDEV,
        s.SetOomScoreAdj(proc=ROOT, value=1),
        rooted,
        before=(
            s.Mkdir(path="/self", root=ROOT),
            s.WriteFile(path="/self/oom_score_adj", root=ROOT, content=""),
        ),
    ),
    Failure("pty-none", errno.ENOENT, s.OpenPty(slot=TREE, root=ROOT), rooted),
    Failure(
        "pty-false",
        errno.ENOTTY,
        s.OpenPty(slot=TREE, root=ROOT),
        rooted,
        before=(
            s.Mkdir(path="/dev", root=ROOT),
            s.Mkdir(path="/dev/pts", root=ROOT),
            s.Mknod(path="/dev/pts/ptmx", root=ROOT, major=1, minor=3),
        ),
    ),
    Failure(
        "console-there",
        errno.EEXIST,
        s.OpenPty(slot=TREE, root=ROOT, console=True),
        rooted,
        before=(*DEVPTS, s.Symlink(path="/dev/console", root=ROOT, target="/etc/passwd")),
    ),
    Failure(
        "console-dev-is-a-symlink",
        errno.ELOOP,
        s.OpenPty(slot=TREE, root=ROOT, console=True),
        rooted,
        before=(s.Symlink(path="/dev", root=ROOT, target="/real"),),
    ),
    Failure("stdio-empty", errno.EBADF, s.SetStdio(slots=(STDIN, EMPTY, STDOUT)), detail=1),
    Failure(
        "stdio-no-terminal",
        errno.ENOTTY,
        s.SetStdio(slots=(STDIN, STDOUT, STDOUT), terminal=True),
        before=(s.NewSession(),),
        detail=2,
    ),
    Failure(
        "capabilities-gone",
        errno.EPERM,
        s.SetCapabilities(bounding=0, until_exec=0, names=()),
        before=(s.SetCapabilities(bounding=1, until_exec=0, names=()),),
    ),
    Failure(
        "identity-without-privilege",
        errno.EPERM,
        s.SetIdentity(uid=1, gid=1),
        before=(s.SetCapabilities(bounding=0, until_exec=0, names=()),),
    ),
    Failure(
        "stdio-owner-without-privilege",
        errno.EPERM,
        s.OwnStdio(uid=1),
        before=(
            s.SetStdio(slots=(STDIN, STDOUT, STDOUT)),
            s.SetCapabilities(bounding=0, until_exec=0, names=()),
        ),
    ),
    Failure("apparmor-empty", errno.EBADF, s.ApplyAppArmor(proc=EMPTY, profile="x")),
    Failure(
        "apparmor-long",
        errno.ENAMETOOLONG,
        s.ApplyAppArmor(proc=PROC, profile="x" * 4200),
        with_proc,
    ),
    Failure(
        "users-empty",
        errno.EBADF,
        s.MakeUserNamespace(slot=TREE, proc=EMPTY, first=100000, count=65536),
    ),
    Failure(
        "users-not-on-proc",
        errno.ENOENT,
        s.MakeUserNamespace(slot=TREE, proc=ROOT, first=100000, count=65536),
        rooted,
    ),
    Failure("users-enter-empty", errno.EBADF, s.EnterUserNamespace(slot=EMPTY)),
    Failure(
        "users-enter-other",
        errno.EINVAL,
        s.EnterUserNamespace(slot=DEV),
        before=(s.OpenFile(slot=DEV, path="/dev/null"),),
    ),
    Failure(
        "own-files-without-privilege",
        errno.EPERM,
        s.OwnFiles(uid=100000, gid=100000),
        before=(s.SetCapabilities(bounding=0, until_exec=0, names=()),),
    ),
    Failure(
        "idmap-empty",
        errno.EINVAL,  # what the kernel says of a number that is no fd at all
        s.OpenTree(slot=TREE, path="/etc", users=EMPTY),
    ),
    Failure(
        "idmap-other",
        errno.EINVAL,
        s.OpenTree(slot=TREE, path="/etc", users=DEV),
        before=(s.OpenFile(slot=DEV, path="/dev/null"),),
    ),
    Failure("chdir-none", errno.ENOENT, s.Chdir(path="/none")),
    Failure("chdir-file", errno.ENOTDIR, s.Chdir(path="/etc/passwd")),
    Failure("seccomp-empty", errno.EINVAL, s.LoadSeccomp(program=b"", profile="-")),
    Failure(
        "seccomp-bad", errno.EINVAL, s.LoadSeccomp(program=bpf((0xFFFF, 0, 0, 0)), profile="-")
    ),
    Failure(
        "exec-none",
        errno.ENOENT,
        s.Exec(candidates=("/none", "/etc/passwd/x"), argv=("x",), env=()),
        detail=1,
    ),
    Failure("exec-no-candidate", errno.ENOENT, s.Exec(candidates=(), argv=("x",), env=())),
    Failure("exec-directory", errno.EACCES, s.Exec(candidates=("/etc",), argv=("x",), env=ENV)),
    Failure(
        "exec-not-executable-wins",
        errno.EACCES,
        s.Exec(candidates=("/etc/passwd", "/none"), argv=("x",), env=ENV),
        detail=1,
    ),
    Failure(
        "exec-no-program",
        errno.ENOEXEC,
        s.Exec(candidates=("/file", "/bin/true"), argv=("x",), env=ENV),
        rooted,
        before=(
            s.WriteFile(path="/file", root=ROOT, content="neither ELF nor #!", mode=0o755),
            s.Mkdir(path="/bin", root=ROOT),
            s.WriteFile(path="/bin/true", root=ROOT, content="#!/none\n", mode=0o755),
            s.PivotRoot(slot=ROOT),
        ),
    ),
    Failure(
        "exec-self",
        errno.EACCES,
        s.Exec(candidates=("/none", "/proc/self/exe", "/bin/true"), argv=("x",), env=ENV),
        detail=1,
    ),
    Failure("exec-pause-empty", errno.EBADF, s.ExecPause(slot=EMPTY, argv=("x",))),
]


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.name)
async def test_failure(kit: Kit, case: Failure) -> None:
    """The child reports the failed step once, by its number, with the errno and the element; nothing stays."""
    (kit.base / "root").mkdir()
    before = (*case.prelude(kit.base), *case.before)
    error = await kit.failure((*before, case.step, *END))
    told = (error.step, errno.errorcode[error.errno], error.detail)
    assert told == (len(before), errno.errorcode[case.error], case.detail)
    assert await kit.shim.state() == []
    assert not kit.descendants()


def test_every_step_is_in_the_table() -> None:
    """A new step needs a row here, or a place among those that no operand can make fail."""
    cannot_fail = {"Harden", "MakePrivate", "OpenNetlink", "NewKeyring", "NoNewPrivs", "CloseRange"}
    known = {kind.__name__ for kind in s.NamespaceStep.__subclasses__() if kind is not Raw}
    raw = {case.step.what.op for case in FAILURES if isinstance(case.step, Raw)}
    assert raw >= {"UNSHARE", "PROPAGATION"}
    assert known - {type(case.step).__name__ for case in FAILURES} - {"Unshare"} == cannot_fail
