# SPDX-License-Identifier: GPL-3.0-or-later
"""The tar reader: against what tarfile writes, against hostile headers, against noise."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.images.bounds import BadImage
from minipod.images.streams import Stream
from minipod.images.tar import DIRECTORY, HARDLINK, REGULAR, SYMLINK, Entry, read_tar

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    stream = Stream(io.BytesIO(data))
    found = []
    for entry in read_tar(stream):
        content = stream.exactly(entry.size)
        if len(content) < entry.size:
            raise BadImage("cut off")
        found.append((entry, content))
    return found


def header(
    name: str = "a", size: int = 0, flag: bytes = b"0", **patches: tuple[int, bytes]
) -> bytes:
    """Return a ustar header with bytes patched in (offset, data) before the checksum is computed."""
    info = tarfile.TarInfo(name)
    info.size = size
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[156:157] = flag
    for at, data in patches.values():
        block[at : at + len(data)] = data
    return checked(block)


def checked(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    body = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        while len(b"%d" % length) + len(key) + len(value) + 3 != length:
            length = len(b"%d" % length) + len(key) + len(value) + 3
        body += b"%d %s=%s\n" % (length, key, value)
    return header("pax", len(body), flag) + body + bytes(-len(body) % 512)


END = bytes(1024)


@pytest.mark.parametrize("format", FORMATS)
def test_what_tarfile_writes(format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for kind, name, size in (
            (tarfile.DIRTYPE, "d", 0),
            (tarfile.REGTYPE, "d/file", 1000),
            (tarfile.REGTYPE, "d/" + "n" * 90 + "/" + "m" * 90, 512),
            (tarfile.SYMTYPE, "d/link", 0),
            (tarfile.LNKTYPE, "d/hard", 0),
            (tarfile.FIFOTYPE, "fifo", 0),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode, info.uid, info.gid, info.mtime = (
                kind,
                size,
                0o4755,
                1000,
                7,
                1234567,
            )
            info.linkname = "d/file" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            tar.addfile(info, io.BytesIO(b"x" * size))
    found = read(buffer.getvalue())
    assert [entry.kind for entry, _ in found] == [
        DIRECTORY,
        REGULAR,
        REGULAR,
        SYMLINK,
        HARDLINK,
        "fifo",
    ]
    assert found[2][0].name == b"d/" + b"n" * 90 + b"/" + b"m" * 90
    assert found[2][1] == b"x" * 512
    assert found[3][0].link == b"d/file"
    for entry, _ in found:
        assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (
            0o4755,
            1000,
            7,
            1234567 * 10**9,
        )


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_large_and_negative_numbers(format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        info = tarfile.TarInfo("n" * 300)
        info.type, info.linkname, info.uid, info.mtime = (
            tarfile.SYMTYPE,
            "t" * 400,
            3_000_000_000,
            -5,
        )
        tar.addfile(info)
    entry, _ = read(buffer.getvalue())[0]
    assert (entry.name, entry.link, entry.uid, entry.mtime_ns) == (
        b"n" * 300,
        b"t" * 400,
        3_000_000_000,
        -5 * 10**9,
    )


def test_pax_attributes_and_times() -> None:
    data = pax(
        (b"SCHILY.xattr.user.x", b"\0\xff=\n"),
        (b"mtime", b"1700000000.123456789"),
        (b"path", b"\xff/long"),
    )
    entry, _ = read(data + header() + END)[0]
    assert entry.xattrs == {b"user.x": b"\0\xff=\n"}
    assert entry.mtime_ns == 1700000000123456789
    assert entry.name == b"\xff/long"


def test_extensions_are_for_one_entry() -> None:
    found = read(pax((b"path", b"first")) + header("x") + header("second") + END)
    assert [entry.name for entry, _ in found] == [b"first", b"second"]


def test_pax_size_rules_where_the_next_header_is() -> None:
    """CVE-2025-62518: a ustar size of 0 must not make the content be read as headers."""
    hidden = header("smuggled") + END
    data = pax((b"size", b"%d" % len(hidden))) + header("outer", 0) + hidden + END
    found = read(data)
    assert [entry.name for entry, _ in found] == [b"outer"]
    assert found[0][1] == hidden


def test_links_have_no_content() -> None:
    found = read(header("link", 512, b"2") + header("next") + END)
    assert [entry.name for entry, _ in found] == [b"link", b"next"]


def test_v7_directory() -> None:
    assert read(header("d/", flag=b"\0") + END)[0][0].kind == DIRECTORY
    assert read(header("d/", flag=b"0") + END)[0][0].kind == REGULAR


def test_empty() -> None:
    assert read(b"") == read(END) == read(bytes(512)) == read(END + b"anything") == []


def test_global_comment() -> None:
    assert len(read(pax((b"comment", b"abc"), flag=b"g") + header() + END)) == 1


BASE256 = 124, b"\x80" + b"\0" * 3 + b"\x7f" * 8


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (header()[:100], "cut off in a header"),
        (header()[:-1], "cut off in a header"),
        (header("a", 1000) + b"x" * 512, "cut off"),
        (bytes(512) + header() + END, "single zero block"),
        (b"x" + header()[1:], "checksum"),
        (header(flag=b"S"), "type 'S'"),
        (header(flag=b"V"), "type 'V'"),
        (header(flag=b"\xe9"), "type"),
        (header(size_=(124, b"-0000000001\0")), "broken number"),
        (header(size_=(124, b"0x000000010\0")), "broken number"),
        (header(size_=(124, b"1_0\0\0\0\0\0\0\0\0\0")), "broken number"),
        (header(size_=(124, b"\xff" * 12)), "negative size"),
        (header(uid=(108, b"\xff" * 8)), "out of range"),
        (header(uid=(108, b"\x80\0\0\0\xff\xff\xff\xff")), "out of range"),
        (pax((b"GNU.sparse.major", b"1")) + header(), "sparse"),
        (pax((b"path", b"a\0b")) + header(), "NUL"),
        (pax((b"path", b"a/" * 2100)) + header(), "more than 4095"),
        (pax((b"linkpath", b"a/" * 2100)) + header(flag=b"2"), "more than 4095"),
        (pax((b"size", b"-1")) + header(), "broken size"),
        (pax((b"size", b"1e3")) + header(), "broken size"),
        (pax((b"size", b"9" * 21)) + header(), "broken size"),
        (pax((b"uid", b"4294967295")) + header(), "out of range"),
        (pax((b"mtime", b"now")) + header(), "broken mtime"),
        (pax((b"path", b"x"), flag=b"g") + header(), "global pax"),
        (pax((b"SCHILY.xattr.user.x", b"x"), flag=b"g") + header(), "global pax"),
        (pax((b"path", b"x")) + END, "after an extension header"),
        (header("p", 5, b"x") + b"5 a=b".ljust(512, b"\0") + header(), "broken pax"),
        (header("p", 4, b"x") + b"9 a=".ljust(512, b"\0") + header(), "broken pax"),
        (header("p", 6, b"x") + b"-6 a=\n".ljust(512, b"\0"), "broken pax"),
        (header("p", 5, b"x") + b"5 =b\n".ljust(512, b"\0"), "broken pax"),
        (header("p", 2 << 20, b"x"), "too large"),
        (header("p", 2 << 20, b"L"), "too large"),
        (header("p", 600, b"L") + b"x" * 512, "cut off in an extension"),
        (header(size_=BASE256), "cut off"),
    ],
)
def test_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadImage, match=why):
        read(data)


def test_old_checksum_over_signed_bytes() -> None:
    block = bytearray(header("\u00e9"))
    total = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % total
    assert len(read(bytes(block) + END)) == 1


NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=4))
def test_any_names_and_contents(files: list[tuple[bytes, bytes]]) -> None:
    data = b""
    for name, content in files:
        data += (
            pax((b"path", name)) + header("x", len(content)) + content + bytes(-len(content) % 512)
        )
    assert [(entry.name, content) for entry, content in read(data + END)] == files


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_noise(data: bytes) -> None:
    with contextlib.suppress(BadImage):
        read(data)


@settings(deadline=None)
@given(st.data())
def test_damaged_headers_with_right_checksums(data: st.DataObject) -> None:
    block = bytearray(header("name", 100))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
    try:
        found = read(pax((b"path", b"p")) + checked(block) + b"x" * 1024 + END)
    except BadImage:
        return
    for entry, content in found:
        assert len(content) == entry.size
        assert b"\0" not in entry.name + entry.link
        assert 0 <= entry.uid < 2**32 - 1


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_pax_body(body: bytes) -> None:
    with contextlib.suppress(BadImage):
        read(header("p", len(body), b"x") + body + bytes(-len(body) % 512) + header() + END)
