# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a root file system, entry by entry, from a directory or from a tar.

A directory is read by fds and names: a path is resolved by ``openat2`` below the directory, through no symlink and onto
no other mount, so that whoever may write in the tree cannot make files of the host part of the image. The order is by
name, so that equal trees give equal layers.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minipod.images.bounds import BadImage, Budget
from minipod.images.streams import Readable, Stream
from minipod.images.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARDLINK,
    REGULAR,
    SYMLINK,
    Entry,
    read_tar,
    show,
)
from minipod.images.unpack import WHITEOUT, keeps_xattr
from minipod.native import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

_BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_HERE = _BELOW | RESOLVE_NO_XDEV
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # opening a FIFO would wait for its writer
_SHOWN = 4  # names of what is left out


@dataclass(frozen=True, slots=True)
class Item:
    """One entry, and its content where it is a regular file; to be read before the next one is asked for."""

    entry: Entry
    content: Readable | None = None


class LeftOut:
    """What does not become part of the image, for the user to know."""

    def __init__(self) -> None:
        self._names: dict[str, list[bytes]] = {}  # the first ones
        self._counts: Counter[str] = Counter()

    def add(self, what: str, name: bytes) -> None:
        """Note that *name*, which is one of *what* (a plural), is left out."""
        self._counts[what] += 1
        if self._counts[what] <= _SHOWN:
            self._names.setdefault(what, []).append(name)

    def notes(self) -> list[str]:
        """Return a line for each kind."""
        return [
            f"left out {self._counts[what]} {what}: {', '.join(map(show, names))}"
            + (", …" if self._counts[what] > _SHOWN else "")
            for what, names in self._names.items()
        ]


def read_directory(root_fd: int, budget: Budget, left_out: LeftOut) -> Iterator[Item]:
    """Yield what is in the directory *root_fd*, which is the first entry itself.

    Device nodes, sockets and what is mounted below are left out: a container has its own.

    Raises:
        BadImage: a name cannot be in a layer, or something changes while it is read.
        OSError: something cannot be read.
    """
    return _Walk(root_fd, budget, left_out).items()


def read_archive(stream: Stream, budget: Budget, left_out: LeftOut) -> Iterator[Item]:
    """Yield what is in the uncompressed tar *stream*; device nodes are left out.

    Raises:
        BadImage: it is not a tar, or a name cannot be in a layer.
        OSError: it cannot be read.
    """
    for entry in read_tar(stream):
        budget.spend_entry(entry.name)
        _check_name(entry.name.split(b"/"), entry.name)
        if entry.kind in (CHARACTER, BLOCK_DEVICE):
            left_out.add("device nodes", entry.name)
            continue
        xattrs = {name: entry.xattrs[name] for name in sorted(filter(keeps_xattr, entry.xattrs))}
        content = _Part(stream.some, entry.size, entry.name) if entry.kind == REGULAR else None
        yield Item(entry._replace(xattrs=xattrs), content)


class _Part:
    """The next *size* bytes of what *read* gives."""

    def __init__(self, read: Callable[[int], bytes], size: int, name: bytes) -> None:
        self._read = read
        self._left = size
        self._name = name

    def read(self, size: int, /) -> bytes:
        if not self._left:
            return b""
        data = self._read(min(size, self._left))
        if not data:
            raise BadImage(f"{show(self._name)}: ends early")
        self._left -= len(data)
        return data


class _Walk:
    """One reading of a directory."""

    def __init__(self, root_fd: int, budget: Budget, left_out: LeftOut) -> None:
        self._root = root_fd
        self._budget = budget
        self._left_out = left_out
        self._links: dict[tuple[int, int], bytes] = {}

    def items(self) -> Iterator[Item]:
        # Paths, not fds, wait for their turn: a tree may be deeper than fds are many.
        waiting = [b"."]
        while waiting:
            path = waiting.pop()
            try:
                fd = openat2(self._root, path, _DIRECTORY, resolve=_HERE)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise _explained(error, path) from error
                yield self._mount_point(path)
                continue
            try:
                yield Item(self._entry(path, os.fstat(fd), DIRECTORY, xattrs=_xattrs(fd)))
                names = sorted(map(os.fsencode, os.listdir(fd)))
                below = []
                for name in names:
                    inside = name if path == b"." else path + b"/" + name
                    self._budget.spend_entry(inside)
                    _check_name([name], inside)
                    info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        below.append(inside)
                    else:
                        yield from self._leaf(fd, name, inside, info)
                waiting += reversed(below)
            finally:
                os.close(fd)

    def _mount_point(self, path: bytes) -> Item:
        fd = openat2(self._root, path, os.O_PATH | _DIRECTORY, resolve=_BELOW)
        try:
            info = os.fstat(fd)
        finally:
            os.close(fd)
        self._left_out.add("mounted file systems", path)
        return Item(self._entry(path, info, DIRECTORY)._replace(mtime_ns=0))

    def _leaf(self, parent: int, name: bytes, path: bytes, info: os.stat_result) -> Iterator[Item]:
        mode = info.st_mode
        if stat.S_ISREG(mode):
            yield from self._file(parent, name, path)
        elif stat.S_ISLNK(mode):
            target = os.readlink(name, dir_fd=parent)
            yield Item(self._entry(path, info, SYMLINK, link=target))
        elif stat.S_ISFIFO(mode):
            yield Item(self._entry(path, info, FIFO))
        else:
            self._left_out.add("sockets" if stat.S_ISSOCK(mode) else "device nodes", path)

    def _file(self, parent: int, name: bytes, path: bytes) -> Iterator[Item]:
        try:
            fd = openat2(parent, name, _FILE, resolve=_HERE)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise _explained(error, path) from error
            self._left_out.add("mounted files", path)
            return
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise BadImage(f"{show(path)}: changed while it was read")
            key = info.st_dev, info.st_ino
            if first := self._links.get(key):
                yield Item(self._entry(path, info, HARDLINK, link=first))
                return
            if info.st_nlink > 1:
                self._links[key] = path
            entry = self._entry(path, info, REGULAR, size=info.st_size, xattrs=_xattrs(fd))
            yield Item(entry, _Part(lambda size: os.read(fd, size), info.st_size, path))
        finally:
            os.close(fd)

    def _entry(
        self,
        path: bytes,
        info: os.stat_result,
        kind: str,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None,
    ) -> Entry:
        mode = stat.S_IMODE(info.st_mode)
        return Entry(
            path, kind, size, mode, info.st_uid, info.st_gid, info.st_mtime_ns, link, xattrs or {}
        )


def _check_name(parts: list[bytes], path: bytes) -> None:
    if any(part.startswith(WHITEOUT) for part in parts):
        raise BadImage(
            f"{show(path)}: in a layer, such a name would delete another file",
            "rename or remove it; of a layer with whiteouts, make an archive and load that",
        )


def _xattrs(fd: int) -> dict[bytes, bytes]:
    try:
        names = sorted(map(os.fsencode, os.listxattr(fd)))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(fd, name) for name in names if keeps_xattr(name)}


def _explained(error: OSError, path: bytes) -> Exception:
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.ENXIO):
        return BadImage(f"{show(path)}: changed while it was read", "let nothing write in it")
    if error.errno == errno.ENAMETOOLONG:
        return BadImage(f"{show(path[:64])}…: the path is too long for an image")
    return OSError(error.errno, error.strerror, os.fsdecode(path))
