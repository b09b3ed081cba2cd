# SPDX-License-Identifier: GPL-3.0-or-later
"""Throwing away: blobs and layers that the index no longer leads to, and sessions whose process is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable

from minipod.images.documents import Descriptor
from minipod.images.layout import Layout
from minipod.images.trees import empty, random_name

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Rubbish:
    """A directory below ``tmp/`` that is only still to be removed, which can happen without the store's lock."""

    def __init__(self, path: str) -> None:
        self._path = path
        # As a session: nobody else sweeps it at the same time.
        self._fd = os.open(path, _OPEN_DIR)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise

    def remove(self) -> None:
        """Remove it.

        Raises:
            OSError: something in it cannot be removed; the next sweep tries again.
        """
        try:
            empty(self._fd)
            with contextlib.suppress(FileNotFoundError):  # its session was at its end
                os.rmdir(self._path)
        finally:
            os.close(self._fd)


def discard(layout: Layout, blobs: Iterable[str], layers: Iterable[str]) -> Rubbish:
    """Take blobs and layers (hex names) out of the store, under the caller's lock, which removing them does not need.

    Raises:
        OSError: they cannot be moved.
    """
    path = f"{layout.tmp}/{random_name()}"
    os.mkdir(path, 0o700)
    rubbish = Rubbish(path)
    for kind, names, place in (("blob", blobs, layout.blob), ("layer", layers, layout.layer)):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.rename(place(name), f"{path}/{kind}-{name}")
    return rubbish


def sweep(
    layout: Layout, used: Callable[[Iterable[Descriptor]], tuple[set[str], set[str]]]
) -> None:
    """Remove what no image needs and what dead sessions left.

    Args:
        layout: the store.
        used: says which blobs and layers (hex names) the index's entries lead to.

    Raises:
        OSError: the index cannot be read, or something not be removed.
    """
    rubbish: list[Rubbish] = []
    try:
        with layout.locked():
            for name in os.listdir(layout.tmp):
                path = f"{layout.tmp}/{name}"
                try:
                    rubbish.append(Rubbish(path))
                except (BlockingIOError, FileNotFoundError):
                    continue  # its process lives, or has ended just now
                except NotADirectoryError:
                    os.unlink(path)
            # Last: with a damaged image nobody knows what is used, but the rest is rubbish all the same.
            blobs, layers = used(layout.entries())
            extra_blobs = set(os.listdir(f"{layout.root}/blobs/sha256")) - blobs
            extra_layers = set(os.listdir(f"{layout.root}/layers")) - layers
            if extra_blobs or extra_layers:
                rubbish.append(discard(layout, extra_blobs, extra_layers))
    finally:
        for piece in rubbish:
            piece.remove()
