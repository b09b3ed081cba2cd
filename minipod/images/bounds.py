# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image may not exceed, and the one error that says that it is refused.

An image is hostile input: every size, count and depth that it could choose has its bound here.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, field


class BadImage(ValueError):
    """Something in an image is refused; the text says what and where, without a full stop.

    Attributes:
        remedy: what to do, where that is not to have the image made anew.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one image.

    Attributes:
        document: bytes of a manifest, an index or a config.
        layers: layers of an image; overlayfs takes a few more than that.
        entries: tar entries of all layers of an image, and members of an archive.
        names: bytes of the names of all these entries: they are remembered until the end.
        images: images of one archive.
        unpacked: bytes that all layers of an image, or a compressed archive, may decompress to.
    """

    document: int = 4 << 20
    layers: int = 127
    entries: int = 1_000_000
    names: int = 256 << 20
    images: int = 256
    unpacked: int = 64 << 30


@dataclass(slots=True)
class Budget:
    """What is left of the :class:`Limits` while an image is unpacked; several threads may spend it.

    Attributes:
        entries: tar entries that may still come.
        names: bytes of their names that may still come.
        unpacked: decompressed bytes that may still come.
        room: decompressed bytes that may still be written; what is left then of the disk is for others.
    """

    entries: int
    names: int
    unpacked: int
    room: int = 1 << 62
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def of(cls, limits: Limits, room: int = 1 << 62) -> Budget:
        """Return the whole budget."""
        return cls(limits.entries, limits.names, limits.unpacked, room)

    def spend_entry(self, name: bytes) -> None:
        """Count one tar entry.

        Raises:
            BadImage: there are more than allowed.
        """
        with self._lock:
            self.entries -= 1
            self.names -= len(name)
        if self.entries < 0:
            raise BadImage("has more entries than allowed")
        if self.names < 0:
            raise BadImage("has longer names than allowed")

    def spend_bytes(self, count: int) -> None:
        """Count *count* decompressed bytes.

        Raises:
            BadImage: there are more than allowed.
            OSError: there is no room for them.
        """
        with self._lock:
            self.unpacked -= count
            self.room -= count
        if self.unpacked < 0:
            raise BadImage("decompresses to more bytes than allowed")
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
