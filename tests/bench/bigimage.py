# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of the size of a real application's, the same bytes each time: five layers, 20,000 files, 320 MB."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minipod.images.builder import BuiltImage
from minipod.images.documents import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, to_json
from minipod.images.platforms import host_platform

FILES = (8000, 6000, 4000, 1600, 400)  # in each layer, the bottom first
BYTES = 320_000_000
_POOL = 4 << 20
_LEVEL = 6  # as docker and buildah compress
_PROGRAM = Path("/bin/busybox")


def build() -> BuiltImage:
    """Return the image; it takes about ten seconds."""
    pools = _text_pool(), _code_pool()
    blobs: dict[str, bytes] = {}

    def blob(kind: str, data: bytes) -> Descriptor:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        blobs[digest] = data
        return Descriptor(kind, digest, len(data))

    def layer(number: int) -> tuple[Descriptor, str]:
        tar = _layer(number, FILES[number], pools)
        diff_id = f"sha256:{hashlib.sha256(tar).hexdigest()}"
        return blob(f"{OCI_LAYER}+gzip", gzip.compress(tar, _LEVEL, mtime=0)), diff_id

    with ThreadPoolExecutor(2) as pool:  # compressing frees the interpreter's lock
        layers, diff_ids = zip(*pool.map(layer, range(len(FILES))), strict=True)
    platform = host_platform()
    config = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"Cmd": ["sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    described = blob(OCI_CONFIG, to_json(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    return BuiltImage(blob(OCI_MANIFEST, to_json(manifest)), described, layers, diff_ids, blobs)


def _layer(number: int, files: int, pools: tuple[bytes, bytes]) -> bytes:
    """Return a layer's tar: directories of 20 files, most small, a few large; some symlinks; in the first, a shell."""
    chance = random.Random(number)
    sizes = [chance.lognormvariate(8.2, 1.6) for _ in range(files)]
    scale = BYTES * files / sum(FILES) / sum(sizes)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in _entries(number, [int(size * scale) for size in sizes], chance, pools):
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _entries(
    number: int, sizes: list[int], chance: random.Random, pools: tuple[bytes, bytes]
) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    if number == 0:
        yield _directory("bin")
        yield _file("bin/busybox", _PROGRAM.read_bytes(), 0o755)
        for name in ("sh", "sleep"):
            yield _symlink(f"bin/{name}", "busybox")
    for count, size in enumerate(sizes):
        above = f"usr/lib/package-{number}-{count // 400}"
        directory = f"{above}/module-{count // 20}"
        if count % 400 == 0:
            yield _directory(above)
        if count % 20 == 0:
            yield _directory(directory)
            yield _symlink(f"{directory}/current.so", f"file-{count}.so")
        is_text = chance.random() < 0.6
        kind = "py" if is_text else "so"
        yield _file(
            f"{directory}/file-{count}.{kind}", _content(pools[not is_text], size, chance), 0o644
        )


def _content(pool: bytes, size: int, chance: random.Random) -> bytes:
    parts = []
    while size > 0:
        start = chance.randrange(len(pool) - 1)
        part = pool[start : start + min(size, 1 << 17)]
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _file(name: str, data: bytes, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, 1_700_000_000
    return info, data


def _directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
    return info, b""


def _symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = tarfile.SYMTYPE, target, 1_700_000_000
    return info, b""


def _text_pool() -> bytes:
    """Return what compresses as a program's source does: to about a quarter."""
    chance = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkqjxz_"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 11))) for _ in range(6000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    text = io.StringIO()
    while text.tell() < _POOL:
        line = " ".join(chance.choices(words, weights, k=chance.randint(3, 12)))
        text.write(" " * 4 * chance.randint(0, 3) + line + "\n")
    return text.getvalue().encode()


def _code_pool() -> bytes:
    """Return what compresses as machine code does: to about a half."""
    chance = random.Random(2)
    common = [chance.randbytes(chance.randint(2, 6)) for _ in range(700)]
    weights = [1 / (rank + 2) for rank in range(len(common))]
    pool = bytearray()
    while len(pool) < _POOL:
        pool += b"".join(chance.choices(common, weights, k=6)) + chance.randbytes(4)
    return bytes(pool)
