# SPDX-License-Identifier: GPL-3.0-or-later
"""What the contenders need of the machine: namespaces to hide in, a compiler, and a way to leave nothing behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.features import cgroup_mounts

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 10.0  # seconds
_DISK = 8 << 30  # bytes, of which only those take room that are written

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


class Namespaces:
    """A mount namespace of one's own, and a network namespace where wanted, to step into and out of.

    All that a program leaves in there (links, rules, mounts, files in /run) ends with its last process and this object.
    Stepping happens around a start and is not measured; the command itself runs as it would on the host.

    Args:
        commands: what to run in them, once, to set them up.
        network: whether there is a network namespace, too.
    """

    def __init__(self, *commands: tuple[str, ...], network: bool = True) -> None:
        self._names = {CLONE_NEWNS: "mnt", **({CLONE_NEWNET: "net"} if network else {})}
        self._home = self._open()
        _check(_libc.unshare(sum(self._names)), "unshare")
        self._inside = self._open()
        try:
            run("mount", "--make-rprivate", "/")
            if network:
                run("ip", "link", "set", "lo", "up")
            for command in commands:
                run(*command)
        except BaseException:
            self._enter(self._home)
            self.close()
            raise
        self._enter(self._home)

    def _open(self) -> dict[int, int]:
        return {
            kind: os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
            for kind, name in self._names.items()
        }

    @staticmethod
    def _enter(namespaces: dict[int, int]) -> None:
        _wait_for_threads()
        for kind, fd in namespaces.items():
            _check(_libc.setns(fd, kind), "setns")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the namespaces; the process must have one thread only (``setns(2)``)."""
        self._enter(self._inside)
        try:
            yield
        finally:
            self._enter(self._home)

    def close(self) -> None:
        """Let go of the namespaces."""
        for fd in (*self._home.values(), *self._inside.values()):
            os.close(fd)


def _wait_for_threads() -> None:
    """Wait until this thread is the only one: one that was joined may need a moment more to end (``setns(2)``)."""
    end = time.monotonic() + _PATIENCE
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < end:
        time.sleep(0.001)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command that must succeed and return its output.

    Raises:
        RuntimeError: it failed; with its own words.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", cwd=cwd
    )
    if done.returncode != 0:
        words = " ".join(map(str, command))
        raise RuntimeError(f"exit code {done.returncode}: {words}\n{done.stdout}{done.stderr}")
    return done.stdout


def compile_c(source: Path, executable: Path) -> Path:
    """Compile one C file to a static executable, with musl where present.

    Raises:
        FileNotFoundError: there is no compiler.
        RuntimeError: it does not compile.
    """
    flags = ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-Wall", "-Wextra", "-Werror"]
    if compiler := shutil.which("musl-gcc"):
        machine = run(compiler, "-dumpmachine").strip()
        # musl's own headers first; the kernel's lie among glibc's
        flags += ["-idirafter", "/usr/include", "-idirafter", f"/usr/include/{machine}"]
    elif not (compiler := shutil.which("gcc")):
        raise FileNotFoundError("no musl-gcc and no gcc: install gcc")
    run(compiler, *flags, source, "-o", executable)
    return executable


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends (``PR_SET_CHILD_SUBREAPER``), so that none is lost."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def end_descendants() -> int:
    """Kill all that we started and that is still there; return how many that were."""
    killed = 0
    while children := list(_children()):
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                _, status = os.waitpid(pid, 0)
                killed += os.WIFSIGNALED(status)
    return killed


def _children() -> Iterator[int]:
    yield from map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


class Disk:
    """A file system of its own below *scratch*, mounted at *place*, which is empty each time :meth:`fresh` is called.

    Where many files have just been removed, ext4 makes new ones slowly for minutes (it does not give out their inodes
    again so soon), so that who comes second would pay for the removal of what the first has left.
    """

    def __init__(self, scratch: Path, place: Path) -> None:
        self._file = scratch / f"{place.name}.disk"
        self._place = place
        self._mounted = False
        place.mkdir(parents=True, exist_ok=True)

    def fresh(self) -> None:
        """Make it anew."""
        self.close()
        with open(self._file, "wb") as file:
            file.truncate(_DISK)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", self._file)
        run("mount", "-o", "loop,noinit_itable", self._file, self._place)
        self._mounted = True

    def close(self) -> None:
        """Unmount it and give its room back."""
        if self._mounted:
            run("umount", self._place)
            self._mounted = False
        self._file.unlink(missing_ok=True)


class Cgroups:
    """Every cgroup hierarchy of the machine, seen at one moment; :meth:`restore` removes what came since.

    Args:
        below: the name of the cgroup, at each hierarchy's top, whose descendants count.
    """

    def __init__(self, below: str) -> None:
        self._below = below
        self._before = set(self._find())

    def _find(self) -> Iterator[Path]:
        for _, top, _ in cgroup_mounts():
            if (top / self._below).is_dir():
                yield top / self._below
                yield from (path for path in (top / self._below).rglob("*") if path.is_dir())

    def restore(self) -> None:
        """Remove the new cgroups, the deepest first; those with processes stay."""
        for path in sorted(set(self._find()) - self._before, reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()


def private_memory(pid: int) -> int:
    """Return the memory that a process shares with nobody, in KiB (``proc_pid_smaps(5)``)."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1])
    return total
