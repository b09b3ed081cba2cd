# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the files of a volume so that who reads them sees all of the old ones or all of the new ones.

The layout is that of the kubelet's ``AtomicWriter``, on which programs rely that watch for changes::

    app.conf -> ..data/app.conf
    ..data   -> ..2026_01_31_12_00_00.4711
    ..2026_01_31_12_00_00.4711/app.conf

A new set of files is written into a new directory; then one rename(2) of the link ``..data`` shows it. A writer that
was killed at any point is mended by the next :func:`write`: what ``..data`` names is whole, and the rest is rubbish.

Everything is done by fd, below the volume's own directory, and no symbolic link is ever followed: a container that may
look into its neighbours can put one there (CVE-2017-1002102, CVE-2025-9566).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from minipod.native import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

DATA = "..data"
_NEW_DATA = "..data_tmp"
_DISCARDED = "..gone"
_TIMESTAMPED = re.compile(r"\.\.[0-9_]+\.[0-9]+")
_STRICT = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_MAX_NAME = 255
_MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class File:
    """What a file of a volume shall be; *mode* is its permission bits, *uid* its owner."""

    data: bytes = field(repr=False)
    mode: int = 0o644
    uid: int = 0


def check_path(path: str) -> str:
    """Return a relative path in its shortest form: ``a//./b`` is ``a/b``.

    Raises:
        ValueError: it is empty, absolute, too long, has ``..`` in it, or begins with two dots.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/"):
        raise ValueError(f"{path!r} is not a relative path of a file")
    if ".." in parts or parts[0].startswith(".."):
        raise ValueError(f"{path!r} has .. in it, or at its start")
    if "\0" in path:
        raise ValueError(f"{path!r} has a NUL byte")
    if len(os.fsencode(path)) > _MAX_PATH or max(len(os.fsencode(x)) for x in parts) > _MAX_NAME:
        raise ValueError(f"{path[:100]!r} is too long")
    return "/".join(parts)


def write(
    volume: int, files: Mapping[str, File], own: Callable[[int], None] = lambda directory: None
) -> bool:
    """Make *files* (by relative path) the contents of the directory *volume*, an fd; whether anything changed.

    *own* is called with an fd of the new directory once all is in it and before anybody can see it: the place to set
    its group and further mode bits.

    Raises:
        ValueError: a path is not acceptable, or is a file and a directory.
        OSError: the files could not be written; the old ones stay as they were.
    """
    wanted = checked(files)
    current = _current(volume)
    names = {path.partition("/")[0] for path in wanted}
    changed = not current or not _has(volume, current, wanted)
    if changed:
        new = _make(volume, wanted, own)
        # Before the new files are shown: who is told of the change finds every name that they have.
        _add_links(volume, names)
        current = _show(volume, new)
    _add_links(volume, names)
    _drop_links(volume, names)
    _tidy(volume, current)
    return changed


def written(volume: int) -> bool:
    """Whether the directory *volume* has been written to the end once."""
    return bool(_current(volume))


def checked(files: Mapping[str, File]) -> dict[str, File]:
    """Return *files* with their paths in the shortest form.

    Raises:
        ValueError: a path is not acceptable, or is a file and a directory.
    """
    wanted = {check_path(path): file for path, file in files.items()}
    for path in wanted:
        above = path
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in wanted:
                raise ValueError(f"{above!r} is a file, and the directory of {path!r}")
    return wanted


def _current(volume: int) -> str:
    """Return the name of the directory that ``..data`` shows; "" when there is none."""
    try:
        name = os.readlink(DATA, dir_fd=volume)
    except FileNotFoundError:
        return ""
    # A link that is not ours is replaced, and not followed.
    return name if _TIMESTAMPED.fullmatch(name) and _is_directory(volume, name) else ""


def _is_directory(volume: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=volume, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


# ---- comparing ----


def _has(volume: int, name: str, wanted: Mapping[str, File]) -> bool:
    """Whether directory *name* has exactly the *wanted* files. Modes and owners do not count: no volume changes those,
    and what *own* made of them is not known here."""
    directory = openat2(volume, name, _DIRECTORY, resolve=_STRICT)
    try:
        found = list(itertools.islice(_walk(directory), len(wanted) + 1))
        return set(found) == set(wanted) and all(
            _reads(directory, path, file.data) for path, file in wanted.items()
        )
    except OSError:
        return False
    finally:
        os.close(directory)


def _walk(directory: int) -> Iterator[str]:
    """Yield the paths of all that is no directory."""
    pending = ["."]
    while pending:
        place = pending.pop()
        fd = openat2(directory, place, _DIRECTORY, resolve=_STRICT)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    path = entry.name if place == "." else f"{place}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)
                    else:
                        yield path
        finally:
            os.close(fd)


def _reads(directory: int, path: str, data: bytes) -> bool:
    fd = openat2(directory, path, os.O_RDONLY | os.O_NONBLOCK, resolve=_STRICT)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        return stat.S_ISREG(status.st_mode) and status.st_size == len(data) and file.read() == data


# ---- writing ----


def _make(volume: int, wanted: Mapping[str, File], own: Callable[[int], None]) -> str:
    """Write a new directory; return its name."""
    name = _new_name(volume)
    directory = openat2(volume, name, _DIRECTORY, resolve=_STRICT)
    try:
        for path, file in wanted.items():
            _write_file(directory, path, file)
        # Not before now: what is half written is nobody's to read.
        os.fchmod(directory, 0o755)
        own(directory)
    except BaseException:
        _discard(volume, name)
        raise
    finally:
        os.close(directory)
    return name


def _new_name(volume: int) -> str:
    while True:
        name = f"{time.strftime('..%Y_%m_%d_%H_%M_%S', time.gmtime())}.{secrets.randbelow(10**10)}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=volume)
            return name


def _show(volume: int, name: str) -> str:
    """Have ``..data`` lead to directory *name*, from one instant to the next."""
    _discard(volume, _NEW_DATA)
    _symlink(volume, _NEW_DATA, name)
    os.rename(_NEW_DATA, DATA, src_dir_fd=volume, dst_dir_fd=volume)
    return name


def _write_file(directory: int, path: str, file: File) -> None:
    parents, _, name = path.rpartition("/")
    place = _directories(directory, parents.split("/")) if parents else os.dup(directory)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        fd = openat2(place, name, flags, 0o600, _STRICT)
        with open(fd, "wb") as stream:
            stream.write(file.data)
            stream.flush()
            os.fchown(fd, file.uid, -1)
            os.fchmod(fd, file.mode)  # after the owner: a change of it takes bits away
    finally:
        os.close(place)


def _directories(directory: int, parts: list[str]) -> int:
    """Return an fd of the directory *parts* below *directory*, made where it is missing."""
    place = os.dup(directory)
    try:
        for part in parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=place)
            inner = openat2(place, part, _DIRECTORY, resolve=_STRICT)
            os.close(place)
            place = inner
            os.fchmod(place, 0o755)  # whatever our umask is
    except BaseException:
        os.close(place)
        raise
    return place


# ---- the visible names, and what is left over ----


def _add_links(volume: int, names: set[str]) -> None:
    """Have a link into ``..data`` for each of *names*."""
    for name in names:
        target = f"{DATA}/{name}"
        if _target(volume, name) != target:
            _discard(volume, name)
            _symlink(volume, name, target)


def _drop_links(volume: int, names: set[str]) -> None:
    """Remove what is visible besides *names*."""
    for name in os.listdir(volume):
        if not name.startswith("..") and name not in names:
            _discard(volume, name)


def _symlink(volume: int, name: str, target: str) -> None:
    """Make a link that belongs to whom the volume belongs to: the pod's root, in a user namespace."""
    os.symlink(target, name, dir_fd=volume)
    owner = os.fstat(volume)
    if owner.st_uid != os.geteuid():
        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=volume, follow_symlinks=False)


def _target(volume: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=volume)
    except OSError:
        return ""


def _tidy(volume: int, current: str) -> None:
    """Remove the directories of earlier writers, also of those that were killed."""
    for name in os.listdir(volume):
        if name.startswith("..") and name not in (DATA, current):
            _discard(volume, name)


def _discard(volume: int, name: str) -> None:
    """Remove *name* with all that is in it, however deep: directories are first moved up, then emptied."""
    pending = [name]
    number = 0
    while pending:
        name = pending.pop()
        if not _is_directory(volume, name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=volume)
            continue
        fd = openat2(volume, name, _DIRECTORY, resolve=_STRICT)
        try:
            for entry in os.listdir(fd):
                if _is_directory(fd, entry):
                    number += 1
                    moved = f"{_DISCARDED}.{number}.{secrets.token_hex(8)}"
                    os.rename(entry, moved, src_dir_fd=fd, dst_dir_fd=volume)
                    pending.append(moved)
                else:
                    os.unlink(entry, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=volume)
