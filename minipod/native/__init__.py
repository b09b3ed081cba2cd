# SPDX-License-Identifier: GPL-3.0-or-later
"""The only door to C: system calls that Python lacks, the shim's messages, and the two static executables.

Everything here raises :class:`OSError` with the errno that C returned. The structs and constants are those of
``native/wire.h``, which the C compiler reads too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from minipod.native import _core

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

IN_MODIFY = 0x0002
IN_MOVED_TO = 0x0080
IN_CREATE = 0x0100
IN_DELETE_SELF = 0x0400

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000


class _Lib(Protocol):
    """The C functions and constants of ``_core.lib`` that are used from Python."""

    def mp_openat2(
        self, dir_fd: int, path: bytes, flags: int, mode: int, resolve: int, /
    ) -> int: ...
    def mp_spawn(
        self, exe: int, fds: list[int], count: int, name: bytes, label: bytes, pidfd: Any, /
    ) -> int: ...
    def mp_inotify_init(self) -> int: ...
    def mp_inotify_add_watch(self, fd: int, path: bytes, mask: int, /) -> int: ...
    def mp_cgroup_device(self, cgroup_fd: int, instructions: bytes, count: int, /) -> int: ...
    def mp_unshare(self, flags: int, /) -> int: ...
    def mp_setns(self, fd: int, type_: int, /) -> int: ...
    def mp_enter(self, what: Any, candidates: Any, argv: Any, env: Any, /) -> None: ...
    def mp_set_fs_ids(self, uid: int, gid: int, /) -> int: ...
    def mp_syncfs(self, fd: int, /) -> int: ...
    def mp_seclude(self, shown: Any, count: int, writable: bytes, /) -> int: ...
    def mp_forbid(self, network: int, /) -> int: ...
    def mp_probe_overlay_append(self) -> int: ...
    def mp_probe_tmpfs_noswap(self) -> int: ...


ffi: Any = _core.ffi
lib: Any = _core.lib
_lib = cast(_Lib, _core.lib)


def check(result: int, path: str | bytes | None = None) -> int:
    """Return *result* when it is not negative, else raise the :class:`OSError` for errno ``-result``."""
    if result < 0:
        raise OSError(-result, os.strerror(-result), path)
    return result


def executable(name: str) -> Path:
    """Return the path of the static executable *name* (``minipod-shim`` or ``minipod-pause``) of this package."""
    return Path(__file__).parent / "bin" / name


def openat2(dir_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open *path* below *dir_fd* as ``openat2(2)`` does, close-on-exec; *resolve* is a set of ``RESOLVE_*``.

    Retries ``EAGAIN``, which the call gives when a rename raced with the resolution of "..".
    """
    raw = os.fsencode(path)
    for _ in range(32):
        result = _lib.mp_openat2(dir_fd, raw, flags, mode, resolve)
        if result != -11:
            break
    return check(result, path)


def spawn(exe_fd: int, fds: Sequence[int], name: str, label: str) -> tuple[int, int]:
    """Start the executable behind *exe_fd* in a new session with *fds* as its 0, 1, 2 …; return (pid, pidfd).

    The environment is empty and the working directory is ``/``. The process is a child of the caller.
    """
    pidfd = ffi.new("int *")
    pid = check(_lib.mp_spawn(exe_fd, list(fds), len(fds), name.encode(), label.encode(), pidfd))
    return pid, int(pidfd[0])


def inotify_init() -> int:
    """Return a non-blocking inotify fd (``inotify(7)``)."""
    return check(_lib.mp_inotify_init())


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Watch *path* for the events ``IN_*`` in *mask*; return the watch descriptor."""
    return check(_lib.mp_inotify_add_watch(fd, os.fsencode(path), mask), path)


def cgroup_device(cgroup_fd: int, program: bytes) -> None:
    """Load *program* (8-byte eBPF instructions) and attach it to a cgroup2 directory as its device filter."""
    check(_lib.mp_cgroup_device(cgroup_fd, program, len(program) // 8))


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (``unshare(2)``); for throw-away processes only."""
    check(_lib.mp_unshare(flags))


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace behind *fd*, of the kind ``CLONE_NEW*`` (``setns(2)``)."""
    check(_lib.mp_setns(fd, kind))


@dataclass(frozen=True, slots=True)
class Entry:
    """How a command runs in namespaces of a pod: ``struct mp_enter`` of ``native/bindings.h``; fds, -1 for none."""

    namespaces: Sequence[tuple[int, int]]
    mnt: int = -1
    user: int = -1
    own_proc: bool = False
    close_fds: bool = False
    capabilities: int = 0


def enter(
    entry: Entry, candidates: Sequence[str], argv: Sequence[str], env: Mapping[str, str]
) -> NoReturn:
    """Enter namespaces and become the first of *candidates* that can be executed; exit with 126 or 127 if none can.

    Never comes back: where a container's files are seen, an import would run the container's code.
    """
    what = ffi.new("struct mp_enter *")
    for i, (fd, kind) in enumerate(entry.namespaces):
        what.fds[i], what.kinds[i] = fd, kind
    what.count = len(entry.namespaces)
    what.mnt, what.user = entry.mnt, entry.user
    what.own_proc, what.close_fds = entry.own_proc, entry.close_fds
    what.capabilities = entry.capabilities
    kept: list[Any] = []  # cffi frees what nobody holds

    def vector(words: Iterable[str]) -> Any:
        items = [ffi.new("char[]", os.fsencode(word)) for word in words]
        kept.extend(items)
        return ffi.new("char *[]", [*items, ffi.NULL])

    lists = [vector(words) for words in (candidates, argv, (f"{k}={v}" for k, v in env.items()))]
    _lib.mp_enter(what, *lists)
    os._exit(126)


def set_fs_ids(uid: int, gid: int) -> None:
    """Have the calling thread look up, read and make files as these ids (``setfsuid(2)``); 0, 0 is root again.

    While *uid* is not 0, no capability overrules the files' modes.
    """
    check(_lib.mp_set_fs_ids(uid, gid))


def syncfs(fd: int) -> None:
    """Write everything of the filesystem that *fd* is on to its disk (``syncfs(2)``)."""
    check(_lib.mp_syncfs(fd))


def seclude(shown: Sequence[str], writable: str) -> None:
    """Give this process a root of its own, with the paths *shown* that exist, read-only, and *writable*."""
    texts = [ffi.new("char[]", os.fsencode(path)) for path in shown]
    check(_lib.mp_seclude(ffi.new("char *[]", texts), len(texts), os.fsencode(writable)))


def forbid(*, network: bool) -> None:
    """Refuse this process what reaches beyond its files: other processes, mounts, programs, sockets (``seclude.c``)."""
    check(_lib.mp_forbid(network))


def overlay_appends_layers() -> bool:
    """Whether overlayfs takes its layers one by one (Linux 6.5); tried, not guessed."""
    return bool(check(_lib.mp_probe_overlay_append()))


def tmpfs_stays_in_memory() -> bool:
    """Whether a tmpfs can be kept out of the swap (Linux 6.4); tried, not guessed."""
    return bool(check(_lib.mp_probe_tmpfs_noswap()))
