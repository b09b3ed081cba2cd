# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes directory trees that somebody hostile may have made.

``shutil.rmtree`` keeps an fd and a Python frame per level, and a layer can be nested thousands of levels deep (through
symlinks deeper than PATH_MAX says). Here every directory is moved up to the top before its turn, so that the work is
two levels deep, whatever the tree. Nothing follows a symlink.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def random_name() -> str:
    """Return a file name that nothing else has."""
    return os.urandom(12).hex()


def remove_entry(dir_fd: int, name: str | bytes) -> None:
    """Remove *name* in *dir_fd*, with all below it when it is a directory.

    Raises:
        OSError: it is not there, or cannot be removed.
    """
    try:
        os.unlink(name, dir_fd=dir_fd)
    except IsADirectoryError:
        fd = os.open(name, _OPEN_DIR, dir_fd=dir_fd)
        try:
            empty(fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=dir_fd)


def empty(top_fd: int) -> None:
    """Remove all that is in the directory *top_fd*.

    Raises:
        OSError: something cannot be removed.
    """
    numbers = itertools.count()
    token = random_name()
    while entries := _listed(top_fd):
        for name, is_directory in entries:
            if not is_directory:
                os.unlink(name, dir_fd=top_fd)
                continue
            fd = os.open(name, _OPEN_DIR, dir_fd=top_fd)
            try:
                _move_up(fd, top_fd, (f"{token}-{number}" for number in numbers))
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=top_fd)


def _move_up(fd: int, top_fd: int, new_names: Iterator[str]) -> None:
    """Move the directories in *fd* to *top_fd* and unlink the rest."""
    for name, is_directory in _listed(fd):
        if is_directory:
            os.rename(name, next(new_names), src_dir_fd=fd, dst_dir_fd=top_fd)
        else:
            os.unlink(name, dir_fd=fd)


def _listed(fd: int) -> list[tuple[str, bool]]:
    with os.scandir(fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
