# SPDX-License-Identifier: GPL-3.0-or-later
"""Images made to break out of the store, pulled as any other.

Each is refused or does no harm. A tree outside of the store is compared before and after, and so is the store where an
image is refused. The single rules of the extractor have their tests in ``test_images_unpack``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from minipod.images import Image, ImageStore, builder
from minipod.images.bounds import Limits
from minipod.images.builder import Directory, File, Link, Special, layer_tar
from minipod.images.documents import Descriptor, digest_of, to_json
from minipod.images.registry.http import Patience
from minipod.images.registry.settings import Settings
from minipod.images.registry.source import Access
from minipod.images.streams import zstd_module
from tests.registries import FakeRegistry, fake_registry

pytestmark = pytest.mark.requires("root")

Tree = dict[str, tuple[object, ...]]
Pull = Callable[..., Image]
UP = "../" * 12
GOOD = builder.build_image([{"etc/motd": b"good"}])


def tree(top: Path) -> Tree:
    """Return all that there is to know of what lies below *top*, itself included."""
    found: Tree = {}
    for path in (top, *sorted(top.rglob("*"))):
        info = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        attributes = tuple(os.listxattr(path, follow_symlinks=False))
        numbers = (info.st_mode, info.st_uid, info.st_gid, info.st_ino, info.st_nlink)
        times = () if path.is_dir() and path == top else (info.st_mtime_ns, info.st_ctime_ns)
        found[str(path)] = (*numbers, info.st_rdev, *times, attributes, content)
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory: there a commit has no disk to wait for."""
    with tempfile.TemporaryDirectory(prefix="mpt-", dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def sentinel(place: Path) -> Iterator[Path]:
    """A tree beside the store, and what must not have changed of it in the end."""
    top = place / "sentinel"
    (top / "d/e").mkdir(parents=True)
    (top / "file").write_text("keep")
    (top / "d/e/deep").write_text("keep")
    (top / "link").symlink_to("file")
    os.link(top / "file", top / "hard")
    os.mkfifo(top / "fifo")
    (top / "file").chmod(0o600)
    before = tree(top)
    yield top
    assert tree(top) == before


@pytest.fixture
def store(place: Path) -> ImageStore:
    return ImageStore(str(place / "store"), Limits(unpacked=24 << 20, entries=20_000))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


def access(place: Path) -> Access:
    settings = Settings(str(place / "c"), str(place / "d"), str(place / "config.json"))
    return Access(settings, patience=Patience(attempts=2, pause=0.01, connect=5, idle=5))


@pytest.fixture
def pull(store: ImageStore, fake: FakeRegistry, place: Path, sentinel: Path) -> Pull:
    """Pulls an image of one layer; where it is refused, the store is compared, in which another image is."""
    fake.add(GOOD, "good")
    store.pull(f"{fake.host}/app:good", access(place))

    def run(layer: builder.Layer | bytes, compressed: bytes | None = None) -> Image:
        image = builder.build_image([layer])
        if compressed is not None:
            image = with_blob(image, compressed)
        fake.add(image, "bad")
        before = tree(Path(store.root))
        try:
            return store.pull(f"{fake.host}/app:bad", access(place))
        except MinipodError:
            after = tree(Path(store.root))
            assert without_times(after) == without_times(before)
            raise

    return run


def without_times(found: Tree) -> Tree:
    """Return *found* without what making and removing a session changes of ``tmp`` and its like."""
    return {path: (fields[0], fields[1], fields[2], fields[-1]) for path, fields in found.items()}


def with_blob(image: builder.BuiltImage, data: bytes) -> builder.BuiltImage:
    """Return *image* with *data* as its layer's blob, with all digests right but the layer's own."""
    layer = Descriptor(image.layers[0].media_type, digest_of(data), len(data))
    manifest = json.loads(image.blobs[image.manifest.digest])
    manifest["layers"] = [layer.to_json()]
    document = to_json(manifest)
    named = Descriptor(image.manifest.media_type, digest_of(document), len(document))
    blobs = {**image.blobs, layer.digest: data, named.digest: document}
    return replace(image, manifest=named, layers=(layer,), blobs=blobs)


# ---- paths ----


def escapes(sentinel: Path) -> dict[str, tuple[list[tuple[str, builder.Entry]], str]]:
    """Return layers that lead to *sentinel*, and why they are refused ("" for those that do no harm)."""
    evil, top = File(b"evil", mode=0o4777), str(sentinel)
    return {
        "dots": ([(f"{UP}{top}/file", evil)], r"\.\."),
        "dots in the middle": ([(f"a/{UP}{top}/new", evil)], r"\.\."),
        "absolute": ([(f"{top}/file", evil)], ""),
        "absolute directory": ([(f"{top}/d", Directory(mode=0o777, uid=7))], ""),
        "symlink to it": ([("s", Link(top)), ("s/file", evil)], "symlink to nothing"),
        "symlink up to it": ([("s", Link(UP + top)), ("s/new", evil)], "symlink to nothing"),
        "symlink to the root": ([("s", Link("/")), (f"s/{top}/file", evil)], ""),
        "symlink through /proc": (
            [("s", Link("/proc/self/root")), (f"s/{top}/file", evil)],
            "symlink to nothing",
        ),
        "symlink through its cwd": (
            [("s", Link("/proc/self/cwd")), ("s/file", evil)],
            "symlink to nothing",
        ),
        "file over a symlink": ([("s", Link(f"{top}/file")), ("s", evil)], ""),
        "directory over a symlink": (
            [("s", Link(f"{top}/d")), ("s", Directory(mode=0o777)), ("s/e/deep", evil)],
            "",
        ),
        "hard link to it": ([("h", Link(f"{top}/file", hard=True)), ("h", evil)], "No such file"),
        "hard link up to it": ([("h", Link(f"{UP}{top}/file", hard=True))], r"\.\."),
        "hard link through a symlink": (
            [("s", Link(top)), ("h", Link("s/file", hard=True)), ("h", evil)],
            "No such file",
        ),
        "hard link to a symlink": (
            [("s", Link(f"{top}/file")), ("h", Link("s", hard=True)), ("h", evil)],
            "",
        ),
        "whiteout of it": ([("s", Link(top)), ("s/.wh.file", b"")], "symlink to nothing"),
        "opaque through a symlink": ([("s", Link(top)), ("s/.wh..wh..opq", b"")], "symlink"),
        "whiteout with a slash": ([(f".wh.{UP}{top}/file", b"")], r"\.\."),
        "directory that becomes a symlink": (
            [("s/d", Directory()), ("s", Link(top)), ("s/d/e/deep", evil)],
            "symlink to nothing",
        ),
        "symlink that becomes a directory": (
            [("s", Link(top)), ("s", Directory()), ("s/file", evil)],
            "",
        ),
        "file that becomes a device": ([("f", b""), ("f", Special(tarfile.BLKTYPE))], "device"),
        "fifo that becomes a file": ([("f", Special()), ("f", evil)], ""),
        "its own store": ([("s", Link(f"{top}/../store")), ("s/index.json", evil)], "symlink"),
        "character device": ([("null", Special(tarfile.CHRTYPE, device=(1, 3)))], "device"),
        "block device": ([("disk", Special(tarfile.BLKTYPE, device=(254, 0)))], "device"),
        "a device that is a whiteout": ([("w", Special(tarfile.CHRTYPE))], "device"),
        "whiteout of the root": ([(".wh..", b"")], "invalid whiteout"),
        "whiteout of what is above": ([(".wh...", b"")], "invalid whiteout"),
        "whiteout without a name": ([(".wh.", b"")], "invalid whiteout"),
        "the root a file": ([("./", b"x"), (".", b"x")], "root directory"),
        "the root a symlink": ([("/", Link(top))], "root directory"),
    }


NAMES = tuple(escapes(Path("/")))


@pytest.mark.parametrize("name", NAMES)
def test_escapes(pull: Pull, sentinel: Path, name: str) -> None:
    layer, why = escapes(sentinel)[name]
    if why:
        with pytest.raises(MinipodError, match=why):
            pull(layer)
    else:
        image = pull(layer)
        assert image.layers[0].startswith(str(sentinel.parent / "store"))


def test_one_name_of_10_000_levels(pull: Pull) -> None:
    with pytest.raises(MinipodError, match="more than 4095 bytes"):
        pull([("a/" * 10_000 + "f", b"")])


def test_10_000_levels_by_symlinks(pull: Pull, store: ImageStore) -> None:
    """No name is longer than the kernel takes, but the tree is deep; it is removed again, too."""
    step = "/".join(["d"] * 1_000)
    layer: list[tuple[str, builder.Entry]] = [(step, Directory()), ("l0", Link(step))]
    for number in range(1, 10):
        layer += [(f"l{number - 1}/{step}", Directory())]
        layer += [(f"l{number}", Link(f"l{number - 1}/{step}"))]
    layer.append(("l9/f", b"deep"))
    image = pull(layer)
    fd = os.open(image.layers[0], os.O_RDONLY)
    for _ in range(10_000):
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        os.close(fd)
        fd = below
    assert os.listdir(fd) == ["f"]
    os.close(fd)
    store.remove(image.reference)
    assert os.listdir(f"{store.root}/tmp") == []


# ---- bombs ----


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_compression_bomb(pull: Pull, compression: str) -> None:
    """It is given up when the budget is spent, whatever may still come."""
    zeros = bytes(8 << 20)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as opened:
        for number in range(4):
            info = tarfile.TarInfo(f"zeros{number}")
            info.size = len(zeros)
            opened.addfile(info, io.BytesIO(zeros))
    data = tar.getvalue()
    packed = gzip.compress(data, 1) if compression == "gzip" else zstd_module().compress(data)
    with pytest.raises(MinipodError, match="decompresses to more bytes"):
        pull(data, packed)


def test_a_bomb_does_not_fill_the_disk(place: Path, fake: FakeRegistry) -> None:
    """It ends before, and says what to do; what others write meanwhile has room."""
    top = place / "disk"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", top], check=True)
    try:
        store = ImageStore(str(top / "store"))
        fake.add(builder.build_image([{"zeros": bytes(64 << 20)}]), "bomb")
        least = []

        unwatched = os.write

        def watched(fd: int, data: bytes) -> int:
            written = unwatched(fd, data)
            disk = os.statvfs(top)
            least.append(disk.f_bavail * disk.f_frsize)
            return written

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", watched)
            with pytest.raises(MinipodError, match="No space left") as caught:
                store.pull(f"{fake.host}/app:bomb", access(place))
        assert "make room" in caught.value.remedy
        assert 0 < min(least) < 4 << 20, "a twentieth stays"
        assert os.listdir(top / "store/tmp") == [] and store.list() == []
    finally:
        subprocess.run(["umount", top], check=True)


def test_a_bomb_of_entries(pull: Pull) -> None:
    with pytest.raises(MinipodError, match="more entries"):
        pull(tar_of(tarfile.TarInfo("same") for _ in range(20_001)))


def tar_of(infos: Iterator[tarfile.TarInfo]) -> bytes:
    return b"".join(info.tobuf(tarfile.USTAR_FORMAT) for info in infos) + bytes(1024)


def test_a_bomb_of_pax_headers(pull: Pull) -> None:
    """Headers about an entry that never comes: each replaces the one before."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 20
    record = b"20 comment=12345678\n".ljust(512, b"\0")
    bomb = (header.tobuf(tarfile.USTAR_FORMAT) + record) * 10_000
    with pytest.raises(MinipodError, match="extension headers in a row"):
        pull(bomb + layer_tar({"f": b""}))


def test_a_pax_header_of_a_gigabyte(pull: Pull) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    with pytest.raises(MinipodError, match="too large"):
        pull(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20))


@pytest.mark.parametrize("form", ["old", "pax"])
def test_a_sparse_bomb(pull: Pull, form: str) -> None:
    """A terabyte of holes in a few hundred bytes."""
    info = tarfile.TarInfo("sparse")
    if form == "old":
        info.type = tarfile.GNUTYPE_SPARSE
        data = info.tobuf(tarfile.GNU_FORMAT)
    else:
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.realsize": str(1 << 40),
        }
        data = info.tobuf(tarfile.PAX_FORMAT)
    with pytest.raises(MinipodError, match=r"sparse|type 'S'"):
        pull(data + bytes(1024))


def test_a_file_larger_than_the_layer(pull: Pull) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 1 << 40
    with pytest.raises(MinipodError, match="cut off"):
        pull(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


# ---- sizes and digests ----


def flipped(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (flipped, "has the digest sha256"),
        (lambda data: bytes(len(data)), "has the digest sha256"),
        (lambda data: data[:-1], "bytes instead of"),
        (lambda data: data + b"\0", "bytes instead of|is longer than"),
    ],
    ids=["one bit", "all zero", "shorter", "longer"],
)
def test_a_blob_that_is_not_what_it_should_be(
    pull: Pull, fake: FakeRegistry, change: Callable[[bytes], bytes], why: str
) -> None:
    layer = {"f": os.urandom(100_000)}
    digest = builder.build_image([layer]).layers[0].digest
    honest = fake.answer

    def lie(handler: object, seen: object) -> None:
        fake.blobs[digest] = change(builder.build_image([layer]).blobs[digest])
        honest(handler, seen)  # type: ignore[arg-type]

    fake.answer = lie  # type: ignore[method-assign]
    with pytest.raises(MinipodError, match=why):
        pull(layer)


def test_a_layer_that_is_not_what_the_config_says(pull: Pull) -> None:
    with pytest.raises(MinipodError, match="but the config says"):
        pull({"f": b"1"}, gzip.compress(layer_tar({"f": b"2"})))


def test_bytes_after_the_end_count(pull: Pull) -> None:
    data = layer_tar({"f": b"1"})
    with pytest.raises(MinipodError, match="but the config says"):
        pull(data, gzip.compress(data) + gzip.compress(b"more"))
