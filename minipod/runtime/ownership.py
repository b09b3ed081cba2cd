# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a volume to a group (``fsGroup``), as the kubelet does before a pod starts.

Everything gets the group; files get ``rw-rw----`` besides what they have (``r--r-----`` in volumes that are read-only),
directories ``x`` for both and the setgid bit, so that what is made in them later has the group, too
(``k8s.io/kubernetes/pkg/volume/volume_linux.go``).

A volume may hold whatever a hostile container of an earlier pod left there, and another pod may be changing it now. So
nothing is looked up twice: each entry is opened once, without following a link, and what is changed is what was opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from minipod.plan.context import Users

_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def give_to_group(path: str, gid: int, *, on_root_mismatch: bool = False) -> None:
    """Give the volume at *path*, a directory of ours or a file, to group *gid*.

    Args:
        path: where it is; nothing above it is in a container's hands.
        gid: the group.
        on_root_mismatch: leave it alone when its top has the group and the bits already.

    Raises:
        OSError: with the path that could not be changed.
    """
    top = os.open(path, _OPEN)
    try:
        if not on_root_mismatch or not _is_right(os.fstat(top), gid):
            give_opened_to_group(top, gid)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from error
    finally:
        os.close(top)


def give_opened_to_group(top: int, gid: int, *, read_only: bool = False) -> None:
    """Give what *top* is, an fd, to group *gid*, with all that is in it.

    *read_only*: containers may only read it (configMap, secret, downwardAPI, projected).
    """
    for directory, name in _walk(top):
        _give(directory, name, gid, read_only)
    # The top last: what was interrupted half-way is done again.
    _give_opened(top, gid, read_only)


def move_opened_to(users: Users, top: int) -> None:
    """Give what *top* is, an fd, with all that is in it, to the same users and groups of a user namespace.

    For what was just made with ids of the host, in a directory that nobody of the pod can change.
    """
    for directory, name in _walk(top):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        uid, gid = users.outside(found.st_uid), users.outside(found.st_gid)
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    found = os.fstat(top)
    path = f"/proc/self/fd/{top}"
    os.chown(path, users.outside(found.st_uid), users.outside(found.st_gid))


def _bits(mode: int, read_only: bool) -> int:
    """Return *mode* with what the kubelet adds."""
    bits = stat.S_IMODE(mode) | (0o440 if read_only else 0o660)
    return bits | stat.S_ISGID | 0o110 if stat.S_ISDIR(mode) else bits


def _is_right(found: os.stat_result, gid: int) -> bool:
    return found.st_gid == gid and stat.S_IMODE(found.st_mode) == _bits(found.st_mode, False)


def _walk(top: int) -> Iterator[tuple[int, str]]:
    """Yield every entry below *top* as (fd of its directory, name), entries of a directory before itself.

    With one or two fds at a time, however deep a hostile tree is, and without a list of its files, however many there
    are. The way back up is by ``..``, and only to the directory that we came from: who moves one away while we are in
    it gets an error.

    Raises:
        OSError: a directory could not be read, or was moved meanwhile (``ESTALE``).
    """
    if not stat.S_ISDIR(os.fstat(top).st_mode):
        return
    current = os.open(".", _LIST, dir_fd=top)
    try:
        # Each level: what it is, the directories that are left in it, its own name in the level above.
        levels: list[tuple[tuple[int, int], list[str], str]] = [(_identity(current), [], "")]
        for name in _files(current, levels[0][1]):
            yield current, name
        while True:
            _, names, own = levels[-1]
            if names:
                name = names.pop()
                below = _enter(current, name, levels[0][0][0])
                if below < 0:
                    yield current, name
                    continue
                os.close(current)
                current = below
                levels.append((_identity(current), [], name))
                for name in _files(current, levels[-1][1]):
                    yield current, name
                continue
            levels.pop()
            if not levels:
                return
            above = os.open("..", _LIST, dir_fd=current)
            os.close(current)
            current = above
            if _identity(current) != levels[-1][0]:
                raise OSError(errno.ESTALE, "a directory was moved while its group was changed")
            yield current, own
    finally:
        os.close(current)


def _files(directory: int, directories: list[str]) -> Iterator[str]:
    """Yield the names in *directory* but those of directories, which *directories* gets."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                yield entry.name


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _enter(directory: int, name: str, device: int) -> int:
    """Open a directory to list it; -1 when *name* is none, or another file system is mounted there."""
    try:
        fd = os.open(name, _LIST, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
            return -1
        raise
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        return -1
    return fd


def _give(directory: int, name: str, gid: int, read_only: bool) -> None:
    try:
        fd = os.open(name, _OPEN, dir_fd=directory)
    except FileNotFoundError:  # somebody who uses the volume has removed it
        return
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            # The link itself has a group, and no mode that would mean anything.
            os.chown(name, -1, gid, dir_fd=directory, follow_symlinks=False)
        else:
            _give_opened(fd, gid, read_only)
    except FileNotFoundError:
        return
    finally:
        os.close(fd)


def _give_opened(fd: int, gid: int, read_only: bool) -> None:
    """Change what *fd* is, by its name in /proc, which leads to it and nowhere else (``open(2)``, O_PATH)."""
    found = os.fstat(fd)
    path = f"/proc/self/fd/{fd}"
    if found.st_gid != gid:
        os.chown(path, -1, gid)
    mode = _bits(found.st_mode, read_only)
    # A change of the group takes the setuid and setgid bits away (chown(2)).
    if found.st_gid != gid or mode != stat.S_IMODE(found.st_mode):
        os.chmod(path, mode)
