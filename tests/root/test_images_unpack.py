# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacking: what honest layers become, and that hostile ones get nowhere."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minipod.images.bounds import BadImage, Budget, Limits
from minipod.images.builder import Directory, Entry, File, Layer, Link, Special, layer_tar
from minipod.images.streams import Stream
from minipod.images.unpack import OPAQUE, unpack

pytestmark = pytest.mark.requires("root")

# cap_net_raw=ep, as linux/capability.h lays out revision 2.
CAPABILITY = bytes.fromhex("0100000200200000" + "00" * 12)

Unpack = Callable[[Any], Path]  # a Layer, or a whole tar


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the layer, which must stay as it is."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("keep")
    return path


@pytest.fixture
def unpacked(tmp_path: Path, outside: Path) -> Unpack:
    """Unpacks a layer into a fresh directory; the directory outside is compared."""

    def run(layer: Layer | bytes, limits: Limits | None = None) -> Path:
        root = tmp_path / "layer"
        root.mkdir()
        data = layer if isinstance(layer, bytes) else layer_tar(layer)
        fd = os.open(root, os.O_RDONLY)
        before = os.stat(outside)
        try:
            unpack(Stream(io.BytesIO(data)), fd, Budget.of(limits or Limits()))
        finally:
            os.close(fd)
            after = os.stat(outside)
            assert os.listdir(outside) == ["file"]
            assert (outside / "file").read_text() == "keep"
            assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (
                after.st_mode,
                after.st_uid,
                after.st_mtime_ns,
            )
            assert sorted(os.listdir(tmp_path)) == ["layer", "outside"]
        return root

    return run


def is_whiteout(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def is_opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, OPAQUE) == b"y"
    except OSError:
        return False


def test_everything_is_kept(unpacked: Unpack) -> None:
    root = unpacked(
        {
            ".": Directory(mode=0o751, uid=3, mtime=7),
            "d": Directory(mode=0o3775, uid=1, gid=2, mtime=99, xattrs={"user.d": b"1"}),
            "d/f": File(
                b"hello",
                mode=0o4755,
                uid=1000,
                gid=1001,
                mtime=1234567,
                xattrs={"user.a": b"\0\xff"},
            ),
            "d/cap": File(b"", mode=0o755, uid=5, xattrs={"security.capability": CAPABILITY}),
            "d/hard": Link("d/f", hard=True),
            "d/link": Link("/etc/passwd"),
            "d/fifo": Special(mode=0o620),
            "/abs/./file": b"x",
            "empty": b"",
        }
    )
    info = (root / "d/f").stat()
    assert (info.st_mode, info.st_uid, info.st_gid, info.st_nlink) == (0o104755, 1000, 1001, 2)
    assert info.st_mtime_ns == 1234567 * 10**9
    assert (root / "d/f").read_bytes() == b"hello"
    assert os.getxattr(root / "d/f", "user.a") == b"\0\xff"
    assert os.getxattr(root / "d/cap", "security.capability") == CAPABILITY
    info = (root / "d").stat()
    assert (info.st_mode, info.st_uid, info.st_gid, info.st_mtime) == (0o43775, 1, 2, 99)
    assert os.getxattr(root / "d", "user.d") == b"1"
    assert os.readlink(root / "d/link") == "/etc/passwd"
    assert stat.S_IMODE((root / "d/fifo").stat().st_mode) == 0o620
    assert stat.S_ISFIFO((root / "d/fifo").stat().st_mode)
    assert ((root / ".").stat().st_mode, root.stat().st_uid, root.stat().st_mtime) == (
        0o40751,
        3,
        7,
    )
    assert (root / "abs/file").read_bytes() == b"x"
    assert (root / "empty").stat().st_size == 0


def test_missing_parents_are_roots(unpacked: Unpack) -> None:
    old = os.umask(0o077)
    try:
        root = unpacked({"s": Directory(mode=0o2770, gid=50), "s/a/b/f": b"x"})
    finally:
        os.umask(old)
    for name in ("s/a", "s/a/b"):
        info = (root / name).stat()
        assert (info.st_mode, info.st_uid, info.st_gid) == (0o40755, 0, 0)
    assert (root / "s/a/b/f").stat().st_mode == 0o100644


def test_whiteouts(unpacked: Unpack) -> None:
    root = unpacked(
        [
            ("d/.wh.gone", b""),
            ("o", Directory()),
            ("o/kept", b"1"),
            ("o/.wh..wh..opq", b""),
            ("o/also", b"2"),
            (".wh.file then whiteout", b""),
            ("linked", b""),
            (".wh.hard", Link("linked", hard=True)),
        ]
    )
    assert is_whiteout(root / "d/gone")
    assert is_whiteout(root / "hard")
    assert is_opaque(root / "o")
    assert not is_opaque(root / "d")
    assert sorted(os.listdir(root / "o")) == ["also", "kept"]
    assert not [name for _, _, names in os.walk(root) for name in names if name.startswith(".wh.")]


def test_whiteout_and_entry_of_one_name(unpacked: Unpack) -> None:
    """A whiteout speaks of the layers below, whatever comes first."""
    root = unpacked(
        [
            (".wh.a", b""),
            ("a", Directory()),
            ("a/new", b""),
            ("b", Directory()),
            (".wh.b", b""),
            ("c", b"c"),
            (".wh.c", b""),
            (".wh.d", b""),
            ("d", b"d"),
            (".wh.e", b""),
            ("e/f/new", b""),
            (".wh.g", b""),
            (".wh.g", b""),
        ]
    )
    assert is_opaque(root / "a") and is_opaque(root / "b") and is_opaque(root / "e")
    assert not is_opaque(root / "e/f")
    assert (root / "c").read_text() + (root / "d").read_text() == "cd"
    assert (root / "e/f/new").exists()
    assert is_whiteout(root / "g")


def test_opaque_root(unpacked: Unpack) -> None:
    assert is_opaque(unpacked({".wh..wh..opq": b""}))


def test_aufs_bookkeeping_is_dropped(unpacked: Unpack) -> None:
    root = unpacked(
        {
            ".wh..wh.aufs": b"x" * 600,
            ".wh..wh.plnk/1.2": b"y",
            ".wh..wh.orph": Directory(),
            "a": b"1",
        }
    )
    assert os.listdir(root) == ["a"]


def test_later_entries_win(unpacked: Unpack) -> None:
    root = unpacked(
        [
            ("f", b"old"),
            ("f", b"new"),
            ("d", Directory()),
            ("d/sub/x", b"1"),
            ("d", b"now a file"),
            ("l", Link("f")),
            ("l", b"not through the link"),
            ("k", Link("nowhere")),
            ("k", Directory(mode=0o700)),
            ("k/in", b"2"),
            ("k", Directory(mode=0o711)),
            ("p", Special()),
            ("p", Link("f", hard=True)),
            ("f", Link("f", hard=True)),
        ]
    )
    assert (root / "f").read_text() == "new"
    assert (root / "d").read_text() == "now a file"
    assert (root / "l").read_text() == "not through the link"
    assert (root / "k/in").read_text() == "2"
    assert (root / "k").stat().st_mode == 0o40711
    assert (root / "p").samefile(root / "f")


def test_the_remembered_parent_is_forgotten(unpacked: Unpack) -> None:
    """Entries after a replaced directory must not land in the old one."""
    root = unpacked(
        [
            ("a/b/1", b""),
            ("a", Link("c")),
            ("c", Directory()),
            ("a/b/2", b""),
            ("x", Link("c")),
            ("x/3", b""),
            ("x", Directory()),
            ("x/4", b""),
            ("self", Link(".")),
            ("self/self", Directory()),
            ("self/5", b""),
        ]
    )
    assert os.listdir(root / "self") == ["5"]
    assert sorted(os.listdir(root / "c")) == ["3", "b"]
    assert os.listdir(root / "c/b") == ["2"]
    assert os.listdir(root / "x") == ["4"]


def test_symlinked_parents_stay_inside(unpacked: Unpack, outside: Path) -> None:
    root = unpacked(
        {
            "lib": Link("usr/lib"),
            "usr/lib": Directory(),
            "lib/a": b"1",
            "tmp/outside": Directory(),
            "abs": Link("/tmp/outside"),
            "abs/file": b"2",
            "up": Link("../../../../../../tmp/outside"),
            "up/file2": b"3",
            "hard": Link("abs/file", hard=True),
        }
    )
    assert (root / "usr/lib/a").read_text() == "1"
    assert (root / "tmp/outside/file").read_text() == "2"
    assert (root / "tmp/outside/file2").read_text() == "3"
    assert (root / "hard").read_text() == "2"


def test_only_some_attributes(unpacked: Unpack) -> None:
    bad = {
        "trusted.overlay.opaque": b"y",
        "trusted.overlay.redirect": b"/etc",
        "user.overlay.opaque": b"y",
        "trusted.x": b"1",
        "security.selinux": b"x",
        "security.ima": b"x",
        "system.posix_acl_access": b"x",
    }
    root = unpacked({"f": File(b"", xattrs={**bad, "user.ok": b"1"}), "d": Directory(xattrs=bad)})
    assert os.listxattr(root / "f") == ["user.ok"]
    assert os.listxattr(root / "d") == []


DEVICE = Special(tarfile.CHRTYPE, device=(1, 3))


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ([("../outside/file", b"x")], r"\.\."),
        ([("a/../../outside/file", b"x")], r"\.\."),
        ([("a/../b", b"x")], r"\.\."),
        ([("..", Directory())], r"\.\."),
        ([("/../outside", Directory(mode=0o777))], r"\.\."),
        ([("up", Link("../outside")), ("up/file", b"x")], "symlink to nothing"),
        ([("up", Link("/proc/self/cwd")), ("up/file", b"x")], "symlink to nothing"),
        ([("a", Link("a")), ("a/b", b"x")], "symbolic links"),
        ([("file", b""), ("file/below", b"x")], "not a directory"),
        ([("hard", Link("../outside/file", hard=True))], r"\.\."),
        ([("hard", Link("/etc/passwd", hard=True))], "No such file"),
        ([("out", Link("../outside")), ("hard", Link("out/file", hard=True))], "No such file"),
        ([("d", Directory()), ("hard", Link("d", hard=True))], "no file of this layer"),
        ([(".wh.gone", b""), ("hard", Link("gone", hard=True))], "no file of this layer"),
        ([("hard", Link("/", hard=True))], "root directory"),
        ([("null", DEVICE)], "character device"),
        ([("whiteout", Special(tarfile.CHRTYPE, device=(0, 0)))], "character device"),
        ([("disk", Special(tarfile.BLKTYPE, device=(8, 0)))], "block device"),
        ([("a/.wh.", b"")], "invalid whiteout"),
        ([("a/.wh..", b"")], "invalid whiteout"),
        ([("a/.wh...", b"")], "invalid whiteout"),
        ([("a/.wh..wh.x", b"")], "invalid whiteout"),
        ([("a/.wh.d", Directory())], "invalid whiteout"),
        ([("a/.wh.d", Link("x"))], "invalid whiteout"),
        ([("a/.wh.d", DEVICE)], "invalid whiteout"),
        ([("a/.wh.d/x", b"")], "below a whiteout"),
        ([("a/.wh..wh..opq/x", b"")], "below a whiteout"),
        ([(".", b"x")], "root directory"),
        ([("/", Link("x"))], "root directory"),
        ([("link", Link(""))], "to nothing"),
        ([("n" * 256, b"")], "more than 255"),
        ([("a", File(b"", xattrs={"security.capability": b"junk"}))], "capability"),
    ],
)
def test_refused(unpacked: Unpack, layer: list[tuple[str, Entry]], why: str) -> None:
    with pytest.raises(BadImage, match=why):
        unpacked(layer)


def test_cut_off(unpacked: Unpack) -> None:
    with pytest.raises(BadImage, match="cut off"):
        unpacked(layer_tar({"f": b"x" * 5000})[:2000])


def test_too_many_entries(tmp_path: Path) -> None:
    stream = Stream(io.BytesIO(layer_tar({str(n): b"" for n in range(11)})))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(BadImage, match="more entries"):
            unpack(stream, fd, Budget.of(Limits(entries=10)))
    finally:
        os.close(fd)


NAMES = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", "outside"]),
    min_size=1,
    max_size=4,
)
ENTRIES = st.one_of(
    st.just(File(b"x")),
    st.just(Directory(mode=0o777, uid=9)),
    st.just(Special()),
    st.builds(
        Link,
        st.sampled_from(
            ["a", "b/a", "..", "../..", "../outside", "/outside", "/", "a/../b", "/proc/self/root"]
        ),
        st.booleans(),
    ),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None
)
@given(layer=st.lists(st.tuples(NAMES.map("/".join), ENTRIES), max_size=8))
def test_nothing_gets_out(unpacked: Unpack, tmp_path: Path, layer: list[tuple[str, Entry]]) -> None:
    try:
        unpacked([(name or "a", entry) for name, entry in layer])
    except BadImage:
        pass
    finally:
        from minipod.images.trees import remove_entry

        fd = os.open(tmp_path, os.O_RDONLY)
        remove_entry(fd, "layer")
        os.close(fd)
