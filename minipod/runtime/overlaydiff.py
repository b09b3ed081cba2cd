# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container has changed of its image: its overlay's upper directory, compared with the layers below it.

It runs in the command's own process. The upper directory is a hostile container's, and may change at any instant:
everything in it is looked at with ``openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`` and
``O_PATH``, never opened for reading, and never followed.

The marks are those of overlayfs (Documentation/filesystems/overlayfs.rst): a whiteout is a character device 0:0 or an
empty file with ``trusted.overlay.whiteout``; a directory whose ``trusted.overlay.opaque`` is ``y`` hides all below it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minipod import native

_RESOLVE = native.RESOLVE_BENEATH | native.RESOLVE_NO_SYMLINKS | native.RESOLVE_NO_MAGICLINKS
_LOOK = os.O_PATH | os.O_NOFOLLOW
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOATIME
_MAX_PATH = 3500  # bytes; what is deeper cannot be named in one call, and is told so


@dataclass(frozen=True, slots=True)
class Change:
    """One change, as ``docker diff`` has them.

    Attributes:
        kind: ``A`` added, ``C`` changed, ``D`` deleted.
        path: from the container's root.
        type: ``file``, ``directory``, ``link``, ``device``, ``fifo``, ``socket``, or "" of what was deleted.
        size: bytes of a file.
        note: what else is to be known of it.
    """

    kind: str
    path: str
    type: str = ""
    size: int = 0
    note: str = ""


def changes(upper: int, lowers: Sequence[int]) -> Iterator[Change]:
    """Yield the changes in *upper*, each directory's in the order of their names, against *lowers* (the top one first).

    All are fds of directories. What vanishes meanwhile is left out.
    """
    # (names that are left, their directory, the layers in which it is, whether nothing of these is to be seen)
    stack = [(iter(_names(upper, "")), "", tuple(range(len(lowers))), False)]
    while stack:
        names, directory, seen, hidden = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            continue
        path = f"{directory}/{name}".lstrip("/")
        if len(os.fsencode(path)) > _MAX_PATH:
            yield Change("A", f"/{path[:200]}…", note="too deep to be looked into")
            continue
        found = _stat(upper, path)
        if found is None:
            continue
        was_there, layers = _look_below(lowers, seen, path)
        if _is_whiteout(upper, path, found):
            if was_there:
                yield Change("D", f"/{path}")
            continue
        is_directory = stat.S_ISDIR(found.st_mode)
        replaced = is_directory and bool(layers) and (hidden or _is_opaque(upper, path))
        yield _change(path, found, was_there, replaced)
        if replaced:
            yield from _hidden(upper, lowers, layers, path)
        if is_directory:
            stack.append((iter(_names(upper, path)), path, layers, replaced))


def _change(path: str, found: os.stat_result, was_there: bool, replaced: bool) -> Change:
    mode = found.st_mode
    size = found.st_size if stat.S_ISREG(mode) else 0
    note = "replaced: nothing of the image's is left in it" if replaced else ""
    return Change(
        "C" if was_there else "A", f"/{path}", _TYPES.get(stat.S_IFMT(mode), ""), size, note
    )


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def _hidden(
    upper: int, lowers: Sequence[int], layers: tuple[int, ...], path: str
) -> Iterator[Change]:
    """Yield what an opaque directory hides: what was directly in it and is not there again."""
    there = set(_names(upper, path))
    names: set[str] = set()
    for layer in layers:
        names.update(_names(lowers[layer], path))
    for name in sorted(names - there):
        if _look_below(lowers, layers, f"{path}/{name}")[0]:
            yield Change("D", f"/{path}/{name}")


def _look_below(
    lowers: Sequence[int], seen: tuple[int, ...], path: str
) -> tuple[bool, tuple[int, ...]]:
    """Return whether *path* is in the image, and in which layers it is as a directory that is merged."""
    merged: list[int] = []
    for layer in seen:
        found = _stat(lowers[layer], path)
        if found is None:
            continue
        if _is_whiteout(lowers[layer], path, found):
            break
        if not stat.S_ISDIR(found.st_mode):
            return True, tuple(merged)
        merged.append(layer)
        if _is_opaque(lowers[layer], path):
            break
    return bool(merged), tuple(merged)


def _names(top: int, path: str) -> list[str]:
    try:
        fd = native.openat2(top, path or ".", _LIST, resolve=_RESOLVE)
    except OSError:
        return []
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def _stat(top: int, path: str) -> os.stat_result | None:
    try:
        fd = native.openat2(top, path, _LOOK, resolve=_RESOLVE)
    except OSError:
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _is_whiteout(top: int, path: str, found: os.stat_result) -> bool:
    if stat.S_ISCHR(found.st_mode):
        return found.st_rdev == 0
    empty = stat.S_ISREG(found.st_mode) and found.st_size == 0
    return empty and _attribute(top, path, "trusted.overlay.whiteout") is not None


def _is_opaque(top: int, path: str) -> bool:
    return _attribute(top, path, "trusted.overlay.opaque") == b"y"


def _attribute(top: int, path: str, name: str) -> bytes | None:
    """Return an extended attribute; by /proc, because an ``O_PATH`` fd has none of its own (open(2))."""
    with contextlib.suppress(OSError):
        fd = native.openat2(top, path, _LOOK, resolve=_RESOLVE)
        try:
            return os.getxattr(f"/proc/self/fd/{fd}", name)
        finally:
            os.close(fd)
    return None
