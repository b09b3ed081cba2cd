# SPDX-License-Identifier: GPL-3.0-or-later
"""Decompression and counting: every shape of stream, broken ones, and bombs."""

from __future__ import annotations

import builtins
import contextlib
import gzip
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.images.bounds import BadImage, Budget
from minipod.images.builder import Compression, compressed
from minipod.images.streams import (
    CHUNK,
    FileWindow,
    Stream,
    compression_of,
    decompressed,
    zstd_module,
)

TEXT = b"".join(b"%d," % n for n in range(200_000))
PACKED: tuple[Compression, ...] = ("gzip", "zstd")


def read_all(data: bytes, kind: str | None = None, budget: Budget | None = None) -> bytes:
    raw = io.BytesIO(data)
    stream = Stream(decompressed(raw, compression_of(data[:6]) if kind is None else kind), budget)
    return b"".join(iter(lambda: stream.some(CHUNK), b""))


@pytest.fixture(params=["isal", "zlib"])
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both gzip implementations, that of the standard library by hiding the other."""
    if request.param == "isal":
        pytest.importorskip("isal")
        return
    real: Callable[..., Any] = builtins.__import__

    def without_isal(name: str, *args: Any, **more: Any) -> Any:
        if name == "isal" or name.startswith("isal."):
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without_isal)


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("data", [b"", b"x", TEXT], ids=["empty", "short", "long"])
def test_round_trip(kind: Compression, data: bytes) -> None:
    packed = compressed(data, kind)
    assert compression_of(packed[:6]) == kind
    assert read_all(packed) == data


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("kind", PACKED)
def test_several_members(kind: Compression) -> None:
    assert (
        read_all(compressed(b"a", kind) + compressed(b"", kind) + compressed(TEXT, kind))
        == b"a" + TEXT
    )


@pytest.mark.usefixtures("inflater")
def test_gzip_padding() -> None:
    assert read_all(gzip.compress(TEXT) + bytes(600_000)) == TEXT


def test_zstd_skippable_frame() -> None:
    skippable = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"
    packed = skippable + compressed(TEXT, "zstd") + skippable
    assert compression_of(packed[:6]) == "zstd"
    assert read_all(packed) == TEXT


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("kind", PACKED)
def test_cut_off(kind: Compression) -> None:
    packed = compressed(TEXT, kind)
    for length in (1, 5, 12, len(packed) // 2, len(packed) - 1):
        with pytest.raises(BadImage):
            read_all(packed[:length], kind)


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("kind", PACKED)
def test_garbage_after(kind: Compression) -> None:
    with pytest.raises(BadImage):
        read_all(compressed(b"a", kind) + b"garbage, and more of it")


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("kind", PACKED)
@settings(deadline=None)
@given(st.data())
def test_damage_is_noticed_or_harmless(kind: Compression, data: st.DataObject) -> None:
    packed = bytearray(compressed(TEXT[:2000], kind))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BadImage):
        read_all(bytes(packed), kind)


@pytest.mark.parametrize("kind", PACKED)
def test_bomb(kind: Compression) -> None:
    packed = compressed(bytes(50 << 20), kind)
    assert len(packed) < 200_000
    raw = io.BytesIO(packed)
    stream = Stream(decompressed(raw, kind), Budget(1, 1, 1 << 20))
    with pytest.raises(BadImage, match="more bytes than allowed"):
        stream.skip(50 << 20)


def test_memory_is_bounded() -> None:
    for kind in PACKED:
        reader = decompressed(io.BytesIO(compressed(bytes(50 << 20), kind)), kind)
        assert 0 < len(reader.read(CHUNK)) <= CHUNK


@pytest.mark.parametrize(("magic", "name"), [(b"\xfd7zXZ\x00", "xz"), (b"BZh91A", "bzip2")])
def test_other_compressions(magic: bytes, name: str) -> None:
    with pytest.raises(BadImage, match=name):
        compression_of(magic)


def test_zstd_is_there() -> None:
    assert zstd_module().decompress(compressed(b"x", "zstd")) == b"x"


def test_digest_covers_everything() -> None:
    stream = Stream(io.BytesIO(TEXT), hashed=True)
    assert stream.exactly(10) == TEXT[:10]
    stream.skip(100)
    assert stream.digest() == f"sha256:{hashlib.sha256(TEXT).hexdigest()}"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["some", "exactly", "skip"]), st.integers(0, 400_000)),
        max_size=12,
    )
)
def test_stream_order(steps: list[tuple[str, int]]) -> None:
    stream = Stream(io.BytesIO(TEXT))
    at = 0
    for verb, size in steps:
        if verb == "skip":
            if at + size > len(TEXT):
                with pytest.raises(BadImage):
                    stream.skip(size)
                return
            stream.skip(size)
            at += size
        elif verb == "exactly":
            data = stream.exactly(size)
            assert data == TEXT[at : at + size]
            at += len(data)
        else:
            data = stream.some(size)
            assert len(data) <= size
            assert data == TEXT[at : at + len(data)]
            assert data or not size or at == len(TEXT)
            at += len(data)


def test_windows_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    try:
        one, two, beyond = FileWindow(fd, 2, 3), FileWindow(fd, 5, 100), FileWindow(fd, 50, 3)
        assert (one.read(2), two.read(3), one.read(9), one.read(9)) == (b"23", b"567", b"4", b"")
        assert two.read(99) == b"89"
        assert beyond.read(1) == b""
    finally:
        os.close(fd)
