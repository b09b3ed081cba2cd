# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads tar headers: ustar, GNU long names, pax (POSIX.1-2017, pax, "ustar Interchange Format").

Only headers are read here; nothing touches the file system. Where implementations differ, this follows Go's
archive/tar, which every other container runtime uses: two readers that disagree about where the next header is are a
way to smuggle entries (CVE-2025-62518). What is not understood whole is refused. Names are bytes, as the kernel takes
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from minipod.images.bounds import BadImage

BLOCK = 512
MAX_PAX = 1 << 20
_MAX_EXTENSIONS = 16
MAX_NAME = 4095  # PATH_MAX without its NUL

REGULAR = "regular"
HARDLINK = "hardlink"
SYMLINK = "symlink"
CHARACTER = "character device"
BLOCK_DEVICE = "block device"
DIRECTORY = "directory"
FIFO = "fifo"
_KINDS = {
    0x00: REGULAR,
    0x30: REGULAR,
    0x31: HARDLINK,
    0x32: SYMLINK,
    0x33: CHARACTER,
    0x34: BLOCK_DEVICE,
    0x35: DIRECTORY,
    0x36: FIFO,
    0x37: REGULAR,  # "contiguous"
}
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK = 0x78, 0x67, 0x4C, 0x4B
# The times that git and others put into global headers mean nothing here; all else would change entries unseen.
_HARMLESS_GLOBALS = frozenset({b"comment", b"mtime", b"atime", b"ctime"})
_XATTR = b"SCHILY.xattr."
_ZERO = bytes(BLOCK)
_EARLIEST, _LATEST = -(1 << 31), 1 << 34  # what ext4 and xfs can hold, in seconds


class Blocks(Protocol):
    """Where the tar comes from."""

    def exactly(self, size: int) -> bytes:
        """Return *size* bytes, or fewer only at the end."""
        ...

    def skip(self, size: int) -> None:
        """Pass over *size* bytes; raise BadImage when there are fewer."""
        ...


class Entry(NamedTuple):
    """One entry of a tar.

    Attributes:
        name: its path as written, not yet judged.
        kind: ``REGULAR``, ``HARDLINK``, ``SYMLINK``, ``CHARACTER``, ``BLOCK_DEVICE``, ``DIRECTORY`` or ``FIFO``.
        size: bytes of content that follow; 0 for all but regular files.
        mode: permission bits with setuid, setgid and sticky.
        uid: the owner.
        gid: the group.
        mtime_ns: nanoseconds since 1970.
        link: the target of a hard link or a symlink, as written.
        xattrs: extended attributes, by name.
    """

    name: bytes
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link: bytes
    xattrs: dict[bytes, bytes]


def read_tar(blocks: Blocks) -> Iterator[Entry]:
    """Yield the entries of a tar; the consumer must have read or skipped *all* of ``entry.size`` bytes before the next.

    The padding after the content is skipped here. The tar ends at two zero blocks or at the end of the stream.

    Raises:
        BadImage: a header is broken, cut off, or of a type that is not taken.
    """
    pax: dict[bytes, bytes] = {}
    names: dict[int, bytes] = {}
    extensions = 0
    while header := _next_header(blocks):
        flag = header[156]
        extensions += 1
        if extensions > _MAX_EXTENSIONS + 1:
            # Nobody counts them as entries.
            raise BadImage(f"tar has more than {_MAX_EXTENSIONS} extension headers in a row")
        if flag in (_PAX, _PAX_GLOBAL):
            records = _pax_records(_extension(blocks, header))
            if flag == _PAX:
                pax = records
            elif not records.keys() <= _HARMLESS_GLOBALS:
                raise BadImage("global pax header that changes entries")
            continue
        if flag in (_GNU_NAME, _GNU_LINK):
            names[flag] = _extension(blocks, header).split(b"\0", 1)[0]
            continue
        entry = _entry(header, pax, names)
        pax, names, extensions = {}, {}, 0
        yield entry
        blocks.skip(-entry.size % BLOCK)
    if pax or names:
        raise BadImage("tar ends after an extension header")


def _next_header(blocks: Blocks) -> bytes:
    header = blocks.exactly(BLOCK)
    if not header:
        return b""
    if len(header) < BLOCK:
        raise BadImage("tar is cut off in a header")
    if header == _ZERO:
        if blocks.exactly(BLOCK) not in (_ZERO, b""):
            raise BadImage("tar has a single zero block between entries")
        return b""
    stored = _number(header[148:156])
    # The field itself counts as eight spaces.
    total = sum(header) - sum(header[148:156]) + 256
    if stored != total and stored != _signed_sum(header):
        raise BadImage("tar header has a wrong checksum")
    return header


def _signed_sum(header: bytes) -> int:
    """Return the checksum as old Unix systems computed it, over signed characters."""
    return sum(byte - 256 if byte > 127 else byte for byte in header[:148] + header[156:]) + 256


def _extension(blocks: Blocks, header: bytes) -> bytes:
    size = _number(header[124:136])
    if not 0 <= size <= MAX_PAX:
        raise BadImage("tar extension header is too large")
    data = blocks.exactly(size)
    if len(data) < size:
        raise BadImage("tar is cut off in an extension header")
    blocks.skip(-size % BLOCK)
    return data


def _entry(header: bytes, pax: dict[bytes, bytes], names: dict[int, bytes]) -> Entry:
    magic = header[257:265]
    name = header[:100].split(b"\0", 1)[0]
    if magic[:6] == b"ustar\0":
        # star keeps times in the last bytes of the prefix.
        end = 476 if header[508:512] == b"tar\0" else 500
        if prefix := header[345:end].split(b"\0", 1)[0]:
            name = prefix + b"/" + name
    link = header[157:257].split(b"\0", 1)[0]
    name = names.get(_GNU_NAME, b"") or pax.get(b"path", name)
    link = names.get(_GNU_LINK, b"") or pax.get(b"linkpath", link)
    kind = _KINDS.get(header[156])
    if kind is None:
        raise BadImage(f"{show(name)}: tar entry of type {chr(header[156])!r} is not taken")
    if header[156] == 0 and name.endswith(b"/"):
        kind = DIRECTORY  # as v7 tar wrote directories
    _check_names(name, link)
    if pax and any(key.startswith(b"GNU.sparse") for key in pax):
        raise BadImage(f"{show(name)}: sparse tar entries are not taken")
    size = _pax_int(pax, b"size", header[124:136])
    if size < 0:
        raise BadImage(f"{show(name)}: negative size")
    return Entry(
        name,
        kind,
        size if kind == REGULAR else 0,
        _number(header[100:108]) & 0o7777,
        _owner(name, _pax_int(pax, b"uid", header[108:116])),
        _owner(name, _pax_int(pax, b"gid", header[116:124])),
        _mtime(pax, header[136:148]),
        link,
        {key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)}
        if pax
        else {},
    )


def _check_names(name: bytes, link: bytes) -> None:
    for text in (name, link):
        if len(text) > MAX_NAME:
            raise BadImage(f"{show(name[:64])}…: name of more than {MAX_NAME} bytes")
        if b"\0" in text:
            raise BadImage(f"{show(name)}: NUL in a name")


def _owner(name: bytes, value: int) -> int:
    # 2^32-1 is (uid_t)-1, which chown(2) takes for "leave it".
    if not 0 <= value < (1 << 32) - 1:
        raise BadImage(f"{show(name)}: owner {value} is out of range")
    return value


def _mtime(pax: dict[bytes, bytes], field: bytes) -> int:
    text = pax.get(b"mtime")
    if text is None:
        seconds, nanoseconds = _number(field), 0
    else:
        whole, _, fraction = text.partition(b".")
        digits = whole.removeprefix(b"-")
        if not digits.isdigit() or len(digits) > 20 or (fraction and not fraction.isdigit()):
            raise BadImage(f"pax header has a broken mtime {show(text[:32])}")
        seconds, nanoseconds = int(whole), int(fraction[:9].ljust(9, b"0"))
        if whole.startswith(b"-"):
            nanoseconds = -nanoseconds
    if not _EARLIEST <= seconds <= _LATEST:
        return 0
    return seconds * 1_000_000_000 + nanoseconds


def _number(field: bytes) -> int:
    """Return a number field: octal with spaces or NULs around it, or base 256 as GNU and star write it."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True)
        return value if field[0] & 0x40 else value + (1 << (8 * len(field) - 1))
    text = field.strip(b" \0").split(b"\0", 1)[0]
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise BadImage(f"tar header has a broken number {show(text)}")
    return int(text, 8)


def _pax_int(pax: dict[bytes, bytes], key: bytes, field: bytes) -> int:
    text = pax.get(key)
    if text is None:
        return _number(field)
    if not text.isdigit() or len(text) > 20:
        raise BadImage(f"pax header has a broken {key.decode()} {show(text[:32])}")
    return int(text)


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Return the records ``"<length> <key>=<value>\\n"`` of a pax header; an empty value takes the key away."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        digits = data[at:space]
        end = at + int(digits) if space > at and digits.isdigit() else 0
        record = data[space + 1 : end - 1]
        key, equals, value = record.partition(b"=")
        if (
            not space < end <= len(data)
            or data[end - 1 : end] != b"\n"
            or not equals
            or not key
            or b"\0" in key
        ):
            raise BadImage("broken pax header")
        if value:
            records[key] = value
        else:
            records.pop(key, None)
        at = end
    return records


def show(name: bytes) -> str:
    """Return a name from an archive for a message: quoted, with everything unusual escaped."""
    return ascii(name.decode("utf-8", "surrogateescape"))
