# SPDX-License-Identifier: GPL-3.0-or-later
"""The index of the store, the removal of trees, and what importing costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from minipod.images import ImageStore
from minipod.images.documents import OCI_MANIFEST, Descriptor
from minipod.images.layout import Layout
from minipod.images.session import tagged
from minipod.images.trees import empty, remove_entry

A, B = (Descriptor(OCI_MANIFEST, "sha256:" + digit * 64, 1) for digit in "ab")


def names(entries: list[Descriptor]) -> list[tuple[str, str]]:
    return [(entry.digest[7], Layout.reference_of(entry)) for entry in entries]


def test_tagging() -> None:
    entries = tagged([], A, ["x", "y", "x"])
    assert names(entries) == [("a", "x"), ("a", "y")]
    assert names(tagged(entries, A, ["x"])) == [("a", "y"), ("a", "x")]
    assert names(tagged(entries, A, [])) == [("a", "x"), ("a", "y")]
    moved = tagged(entries, B, ["x"])
    assert names(moved) == [("a", "y"), ("b", "x")]
    moved = tagged(moved, B, ["y"])
    assert names(moved) == [("b", "x"), ("a", ""), ("b", "y")]
    assert names(tagged(moved, A, [])) == names(moved)
    assert names(tagged(moved, A, ["z"])) == [("b", "x"), ("b", "y"), ("a", "z")]


def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "images"))
    assert store.list() == []
    assert store.get("busybox") is None
    assert store.get("abcdef") is None
    store.sweep()
    with pytest.raises(MinipodError):
        store.remove("busybox")
    assert not (tmp_path / "images").exists()


def test_index_is_replaced(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path / "images"))
    layout.create()
    with layout.locked():
        layout.write_entries([Layout.named(A, "x")])
    assert layout.entries() == [Layout.named(A, "x")]
    assert os.listdir(layout.tmp) == []
    assert os.stat(layout.root).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"schemaVersion": 2, "manifests": [{}]}'])
def test_damaged_index(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "index.json").write_bytes(data)
    with pytest.raises(MinipodError, match=r"index\.json"):
        ImageStore(str(tmp_path)).list()


def test_any_depth_is_removed(tmp_path: Path) -> None:
    """Deeper than PATH_MAX and than Python's stack; nothing outside is touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("keep")
    fd = os.open(tmp_path, os.O_RDONLY)
    top = fd
    for _ in range(3000):
        os.mkdir("d", dir_fd=top)
        os.symlink(tmp_path / "outside", "link", dir_fd=top)
        below = os.open("d", os.O_RDONLY, dir_fd=top)
        if top != fd:
            os.close(top)
        top = below
    os.close(top)
    remove_entry(fd, "d")
    remove_entry(fd, b"link")
    assert sorted(os.listdir(fd)) == ["outside"]
    assert (tmp_path / "outside" / "file").read_text() == "keep"
    empty(fd)
    assert os.listdir(fd) == []
    with pytest.raises(FileNotFoundError):
        remove_entry(fd, "gone")
    os.close(fd)


def test_imports_are_late() -> None:
    """The agent imports the package; what only loading and saving need must wait."""
    code = "import sys, minipod.images; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    late = {
        "tarfile",
        "gzip",
        "isal",
        "backports.zstd",
        "compression.zstd",
        "minipod.images.source",
        "prctl",
    }
    assert not late & set(loaded)
