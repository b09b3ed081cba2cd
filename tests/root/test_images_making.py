# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of root file systems: what of a tree becomes part of the image, what not, and that it is always the same."""

from __future__ import annotations

import gzip
import io
import os
import socket
import stat
import struct
import subprocess
import tarfile
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError, UsageError
from minipod.images import Image, ImageStore
from minipod.images.bounds import Limits
from minipod.images.making.pack import Compression
from minipod.images.making.source import Making
from minipod.images.making.tree import LeftOut

pytestmark = pytest.mark.requires("root")

NAME = "localhost/made:1"
TIME = 1_600_000_000
# cap_net_raw+ep (linux/capability.h, vfs_cap_data of revision 2)
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small root file system with one of everything."""
    top = tmp_path / "rootfs"
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_text("root:x:0:0::/:\n")
    (top / "bin").mkdir()
    (top / "bin/ping").write_bytes(b"\x7fELF" + bytes(3000))
    (top / "bin/ping").chmod(0o4755)
    os.link(top / "bin/ping", top / "bin/ping6")
    os.setxattr(top / "bin/ping", "security.capability", CAPABILITY)
    os.setxattr(top / "bin/ping", "user.note", b"a\xff\0b")
    (top / "tmp").mkdir(mode=0o777)
    (top / "tmp").chmod(0o1777)
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "fifo", 0o640)
    os.chown(top / "etc/passwd", 12, 3_000_000)
    os.chown(top / "link", 7, 8, follow_symlinks=False)
    (top / os.fsdecode(b"\xe4\xff")).write_text("not UTF-8")
    (top / ("n" * 200)).write_text("long")
    with (top / "holes").open("wb") as file:
        file.truncate(3 << 20)
    settle(top)
    return top


def settle(top: Path) -> None:
    """Give all below *top* one time."""
    for directory, names, files in os.walk(top, topdown=False):
        for name in [*names, *files]:
            os.utime(Path(directory, name), (TIME, TIME), follow_symlinks=False)
    os.utime(top, (TIME, TIME))


def make(store: ImageStore, path: Path | int, **more: Any) -> tuple[Image, list[str]]:
    where = path if isinstance(path, int) else str(path)
    platform = more.pop("platform", None)
    return store.make(where, Making(NAME, **more), platform=platform)


def seen(top: Path) -> dict[bytes, tuple[Any, ...]]:
    """Return what the kernel says of all below *top*, links resolved to what they share."""
    found: dict[bytes, tuple[Any, ...]] = {}
    inodes: dict[int, int] = {}
    for directory, names, files in os.walk(os.fsencode(top)):
        for name in sorted([*names, *files, b"."]):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            kind = stat.S_IFMT(info.st_mode)
            number = 0 if stat.S_ISDIR(kind) else inodes.setdefault(info.st_ino, len(inodes))
            content = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(kind) else b""
            target = os.readlink(path) if stat.S_ISLNK(kind) else b""
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            ids = info.st_mode, info.st_uid, info.st_gid, int(info.st_mtime)
            found[os.path.relpath(path, os.fsencode(top))] = (*ids, number, content, target, xattrs)
    return found


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_all_of_a_tree(store: ImageStore, tree: Path, compression: Compression) -> None:
    image, notes = make(store, tree, compression=compression)
    assert notes == []
    assert seen(Path(image.layers[0])) == seen(tree)
    assert image.references == (NAME,) and image.created == "2020-09-13T12:26:40Z"
    again, _ = make(store, tree, compression=compression)
    assert again == image


def test_equal_trees_are_equal_images(store: ImageStore, tree: Path, tmp_path: Path) -> None:
    image, _ = make(store, tree)
    # Made in another order, on other inodes, and of what was unpacked.
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o755)
    tar = subprocess.run(
        ["tar", "-C", str(tree), "--xattrs", "--xattrs-include=*", "--sort=inode", "-cf", "-", "."],
        check=True,
        capture_output=True,
    )
    extract = ["tar", "-C", str(copy), "--xattrs", "--xattrs-include=*", "-xpf", "-"]
    subprocess.run(extract, input=tar.stdout, check=True)
    assert make(store, copy)[0].digest == image.digest
    assert make(store, Path(image.layers[0]))[0].digest == image.digest
    (copy / "more").write_text("")
    assert make(store, copy)[0].digest != image.digest


def test_the_layer_is_one_gzip_member(store: ImageStore, tree: Path) -> None:
    """Of pieces, which every gzip reads as one; larger than a piece, so that there are some."""
    (tree / "random").write_bytes(os.urandom(5 << 20))
    make(store, tree)
    (blob,) = (p for p in Path(store.root, "blobs/sha256").iterdir() if p.stat().st_size > 5 << 20)
    whole = zlib.decompressobj(31)
    plain = whole.decompress(blob.read_bytes())
    assert whole.eof and not whole.unused_data
    assert plain == gzip.decompress(blob.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert tar.getnames()[0] == "."


def test_what_is_left_out(store: ImageStore, tree: Path) -> None:
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 0))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tree / "sock"))
        image, notes = make(store, tree)
    assert notes == [
        "left out 2 device nodes: 'loop', 'null'",
        "left out 1 sockets: 'sock'",
    ]
    assert not {"null", "loop", "sock"} & set(os.listdir(image.layers[0]))


def test_what_is_mounted_below_is_left_out(store: ImageStore, tree: Path, tmp_path: Path) -> None:
    (tree / "proc").mkdir()
    (tmp_path / "outside").write_text("of the host")
    mounts = [
        ["mount", "-t", "tmpfs", "none", f"{tree}/proc"],
        ["mount", "--bind", f"{tmp_path}/outside", f"{tree}/etc/passwd"],
    ]
    done = 0
    try:
        for command in mounts:
            subprocess.run(command, check=True)
            done += 1
        (tree / "proc/x").write_text("mounted")
        image, notes = make(store, tree)
    finally:
        for command in reversed(mounts[:done]):
            subprocess.run(["umount", command[-1]], check=True)
    root = Path(image.layers[0])
    assert os.listdir(root / "proc") == [] and os.listdir(root / "etc") == []
    assert len(notes) == 2 and "'proc'" in notes[1] and "'etc/passwd'" in notes[0]


def test_symlinks_lead_nowhere(store: ImageStore, tree: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("do not copy")
    (tree / "out").symlink_to(secret)
    (tree / "up").symlink_to("../secret/key")
    image, _ = make(store, tree)
    assert os.readlink(Path(image.layers[0], "out")) == str(secret)
    for blob in Path(store.root, "blobs/sha256").iterdir():
        assert b"do not copy" not in blob.read_bytes()


def test_a_tree_that_turns_into_links(store: ImageStore, tmp_path: Path) -> None:
    """Somebody who may write in the tree changes directories into links out of it, all the time."""
    tree, secret = tmp_path / "rootfs", tmp_path / "secret"
    (secret / "d").mkdir(parents=True)
    (secret / "d/key").write_text("do not copy")
    for number in range(60):
        (tree / f"{number}/d").mkdir(parents=True)
        (tree / f"{number}/d/key").write_text("harmless")
    stop = threading.Event()

    def turn() -> None:
        os.rename(tree / "30", tmp_path / "kept")
        while not stop.is_set():
            (tree / "30").symlink_to(secret)
            os.unlink(tree / "30")
            os.rename(tmp_path / "kept", tree / "30")
            os.rename(tree / "30", tmp_path / "kept")

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        for _ in range(8):
            try:
                make(store, tree, compression="none")
            except UsageError as error:
                assert "changed while it was read" in error.what
            except MinipodError as error:
                assert "No such file" in error.what
    finally:
        stop.set()
        thread.join()
    for blob in Path(store.root, "blobs/sha256").iterdir():
        assert b"do not copy" not in blob.read_bytes()


@pytest.mark.parametrize("name", [".wh.etc", "etc/.wh..wh..opq", ".wh.x/file"])
def test_names_that_delete_are_refused(store: ImageStore, tree: Path, name: str) -> None:
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text("")
    with pytest.raises(UsageError, match="would delete"):
        make(store, tree)
    assert store.list() == []


def test_a_deep_tree(store: ImageStore, tmp_path: Path) -> None:
    """Deeper than there are fds; deeper than a path can say is refused."""
    top = tmp_path / "rootfs"
    top.mkdir()
    depth = 1100
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        image, _ = make(store, top)
        found = subprocess.run(["find", image.layers[0]], check=True, capture_output=True)
        assert found.stdout.count(b"\n") == depth + 1
        script = 'import os\nfor _ in range(20): os.mkdir("d" * 250); os.chdir("d" * 250)'
        (tmp_path / "deeper").mkdir()
        subprocess.run(["python3", "-c", script], cwd=tmp_path / "deeper", check=True)
        with pytest.raises(UsageError, match="too long"):
            make(store, tmp_path / "deeper")
    finally:
        subprocess.run(["rm", "-rf", top, tmp_path / "deeper"], check=True)
        store.remove(NAME)


def test_limits(tree: Path, tmp_path: Path) -> None:
    small = ImageStore(str(tmp_path / "small"), Limits(unpacked=1 << 20))
    with pytest.raises(UsageError, match="more bytes than allowed"):
        make(small, tree)
    few = ImageStore(str(tmp_path / "few"), Limits(entries=5))
    with pytest.raises(UsageError, match="more entries than allowed"):
        make(few, tree)
    for store in (small, few):
        assert os.listdir(Path(store.root, "tmp")) == []


@pytest.mark.parametrize("outer", ["", "gzip"])
def test_of_a_tar(store: ImageStore, tree: Path, tmp_path: Path, outer: str) -> None:
    """Through a pipe, with the device nodes that bootstrap programs put in."""
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    settle(tree)
    pack = [
        "tar",
        "-C",
        str(tree),
        "--xattrs",
        "--xattrs-include=*",
        "--format=posix",
        "-cf",
        "-",
        ".",
    ]
    tar = subprocess.run(pack, check=True, capture_output=True).stdout
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(gzip.compress(tar) if outer else tar)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        image, notes = make(store, reader)
    finally:
        os.close(reader)
        thread.join()
    assert notes == ["left out 1 device nodes: './null'"]
    os.unlink(tree / "null")
    settle(tree)
    assert seen(Path(image.layers[0])) == seen(tree)


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "is empty"), (b"no tar at all" * 99, "tar"), (b"\xfd7zXZ\0" + bytes(99), "xz")],
)
def test_no_root_file_system(store: ImageStore, tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UsageError, match=why):
        make(store, tmp_path / "file")


def test_config_and_times(store: ImageStore, tree: Path) -> None:
    config = {
        "Entrypoint": ["/bin/ping"],
        "Cmd": ["-c1"],
        "Env": ["A=b"],
        "User": "12",
        "WorkingDir": "/tmp",
        "Labels": {"l": "m"},
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGINT",
    }
    os.utime(tree / "holes", (TIME + 9, TIME + 9))
    image, _ = make(store, tree, config=config, newest=TIME + 5, platform="linux/arm64/v8")
    assert image.config.entrypoint == ("/bin/ping",) and image.config.cmd == ("-c1",)
    assert image.config.labels == {"l": "m"} and image.config.stop_signal == "SIGINT"
    assert image.config.exposed_ports == ("80/tcp",) and image.config.user == "12"
    assert (image.architecture, image.created) == ("arm64", "2020-09-13T12:26:45Z")
    assert os.stat(Path(image.layers[0], "holes")).st_mtime == TIME + 5
    with pytest.raises(UsageError, match="Env"):
        make(store, tree, config={"Env": ["=x"]})


def test_words_about_what_is_left_out() -> None:
    left_out = LeftOut()
    for number in range(6):
        left_out.add("sockets", b"s%d\n" % number)
    assert left_out.notes() == [r"left out 6 sockets: 's0\n', 's1\n', 's2\n', 's3\n', …"]
