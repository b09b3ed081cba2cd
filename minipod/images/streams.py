# SPDX-License-Identifier: GPL-3.0-or-later
"""Byte streams: a window of a file, decompression, and a reader that hashes and counts what passes.

Decompressors are imported when the first stream needs them: most commands never do.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any, Protocol

from minipod.images.bounds import BadImage, Budget

CHUNK = 1 << 18

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
# A zstd stream may begin with a skippable frame, 184D2A50 to 184D2A5F (RFC 8878, section 3.1.2).
_SKIPPABLE = frozenset(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))
MAGIC_LENGTH = 6


class Readable(Protocol):
    """Anything that bytes come out of."""

    def read(self, size: int, /) -> bytes:
        """Return at least one byte and at most *size*; nothing at the end."""
        ...


class Rest:
    """What is still to come from a pipe, after the *head* that was already read."""

    def __init__(self, head: bytes, fd: int) -> None:
        self._head = head
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes; nothing at the end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return os.read(self._fd, size)


def read_head(fd: int) -> bytes:
    """Read from a pipe what :func:`compression_of` needs; less when there is no more."""
    head = b""
    while len(head) < MAGIC_LENGTH and (data := os.read(fd, MAGIC_LENGTH - len(head))):
        head += data
    return head


class FileWindow:
    """The bytes from *offset*, *length* of them, of the file behind *fd*; several windows do not disturb each other."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self._fd = fd
        self._offset = offset
        self._end = offset + length

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes; nothing at the window's end, or the file's."""
        data = os.pread(self._fd, max(0, min(size, self._end - self._offset)), self._offset)
        self._offset += len(data)
        return data


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*, however little each ``write(2)`` takes.

    Raises:
        OSError: as of ``write(2)``.
    """
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def compression_of(head: bytes) -> str:
    """Return ``gzip``, ``zstd``, or an empty string for a stream that begins with *head* (6 bytes suffice).

    Raises:
        BadImage: it is compressed in another way.
    """
    kind = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
    if kind in ("xz", "bzip2"):
        raise BadImage(f"compressed with {kind}; only gzip and zstd are taken")
    return "zstd" if head[:4] in _SKIPPABLE else kind


def decompressed(raw: Readable, kind: str) -> Readable:
    """Return the stream of what *raw*, compressed as *kind* says (see :func:`compression_of`), decompresses to.

    Its ``read`` raises :class:`BadImage` for a stream that is broken or cut off.
    """
    match kind:
        case "gzip":
            return _Gunzip(raw)
        case "zstd":
            return _Unzstd(raw)
        case _:
            return raw


class _Gunzip:
    """Every member of a gzip file (RFC 1952), zero padding after the last one included."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._new, self._error = _inflater()
        self._member: Any = None
        self._pending = b""
        self._any = False

    def read(self, size: int, /) -> bytes:
        while True:
            if self._member is None and not self._next_member():
                return b""
            if not self._pending:
                self._pending = self._raw.read(CHUNK)
            fed = self._pending
            try:
                data: bytes = self._member.decompress(fed, size)
            except self._error as error:
                raise BadImage(f"broken gzip stream: {error}") from error
            if self._member.eof:
                self._pending = self._member.unused_data
                self._member = None
            else:
                self._pending = self._member.unconsumed_tail
            if data:
                return data
            if not fed and self._member is not None:
                raise BadImage("gzip stream is cut off")

    def _next_member(self) -> bool:
        while True:
            if self._any:
                self._pending = self._pending.lstrip(b"\0")
            if self._pending:
                break
            self._pending = self._raw.read(CHUNK)
            if not self._pending:
                return False
        self._any = True
        self._member = self._new()
        return True


def _inflater() -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """Return what makes a decompressor of one gzip member, and what it raises; ISA-L is 2.4 times as fast as zlib."""
    import zlib

    wbits = 31  # a gzip wrapper, and it only
    try:
        from isal import isal_zlib
    except ImportError:
        return lambda: zlib.decompressobj(wbits), (zlib.error,)
    isal_error: Any = isal_zlib.error  # its stub takes it for an instance
    return lambda: isal_zlib.decompressobj(wbits), (zlib.error, isal_error)


class _Unzstd:
    """Every frame of a zstd stream (RFC 8878); libzstd bounds the window to 128 MiB."""

    def __init__(self, raw: Readable) -> None:
        zstd = zstd_module()
        self._raw = raw
        self._error: type[Exception] = zstd.ZstdError
        self._new: Callable[[], Any] = zstd.ZstdDecompressor
        self._frame: Any = None
        self._pending = b""

    def read(self, size: int, /) -> bytes:
        while True:
            fed = b""
            if self._frame is None:
                self._pending = self._pending or self._raw.read(CHUNK)
                if not self._pending:
                    return b""
                self._frame = self._new()
            if self._frame.needs_input:
                fed = self._pending or self._raw.read(CHUNK)
                self._pending = b""
                if not fed:
                    raise BadImage("zstd stream is cut off")
            try:
                data: bytes = self._frame.decompress(fed, size)
            except self._error as error:
                raise BadImage(f"broken zstd stream: {error}") from error
            if self._frame.eof:
                self._pending = self._frame.unused_data
                self._frame = None
            if data:
                return data


def zstd_module() -> Any:
    """Return the zstd module: the standard library's from Python 3.14, else its backport."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from backports import zstd  # type: ignore[no-redef, unused-ignore]
    return zstd


class Stream:
    """A buffered reader of *raw* that can hash everything that passes, and charges it to a budget.

    Args:
        raw: where the bytes come from.
        budget: what the bytes are charged to; None charges nobody.
        hashed: whether to compute the sha256 of the stream.
    """

    def __init__(
        self, raw: Readable, budget: Budget | None = None, *, hashed: bool = False
    ) -> None:
        self._raw = raw
        self._budget = budget
        self._hash = hashlib.sha256() if hashed else None
        self._buffer = b""
        self._at = 0

    def some(self, size: int) -> bytes:
        """Return at least one byte and at most *size*; nothing at the end of the stream."""
        if self._at == len(self._buffer) and not self._fill():
            return b""
        if self._at == 0 and size >= len(self._buffer):
            data, self._buffer = self._buffer, b""
            return data
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        """Return *size* bytes, or fewer only when the stream ends before."""
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
            return data
        parts = []
        while size and (part := self.some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Pass over *size* bytes.

        Raises:
            BadImage: the stream ends before.
        """
        while size:
            part = self.some(size)
            if not part:
                raise BadImage("archive is cut off")
            size -= len(part)

    def digest(self) -> str:
        """Read to the end and return ``sha256:<hex>`` of the whole stream (which must be a hashed one)."""
        assert self._hash is not None
        while self.some(CHUNK):
            pass
        return f"sha256:{self._hash.hexdigest()}"

    def _fill(self) -> bool:
        self._buffer, self._at = self._raw.read(CHUNK), 0
        if self._budget is not None:
            self._budget.spend_bytes(len(self._buffer))
        if self._hash is not None:
            self._hash.update(self._buffer)
        return bool(self._buffer)
