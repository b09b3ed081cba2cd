# SPDX-License-Identifier: GPL-3.0-or-later
"""What directories take up on a disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from minipod.runtime.usage import disk_usage

MIB = 1 << 20


def used(*paths: Path) -> list[int]:
    found = asyncio.run(disk_usage([str(path) for path in paths]))
    return [found[str(path)] for path in paths]


def test_blocks_of_each_directory(tmp_path: Path) -> None:
    one, two, strange = tmp_path / "one", tmp_path / "two", tmp_path / "a\nb c"
    for directory in (one, two, strange):
        directory.mkdir()
    (one / "file").write_bytes(b"x" * 3 * MIB)
    os.link(one / "file", one / "again")
    (one / "outside").symlink_to(two)
    (two / "sparse").touch()
    os.truncate(two / "sparse", 1 << 40)
    (strange / "file").write_bytes(b"x" * MIB)
    first, second, third = used(one, two, strange)
    assert 3 * MIB <= first < 4 * MIB, "a file with two names counts once"
    assert second < MIB, "a hole takes no room, and no link is followed"
    assert third >= MIB


def test_what_is_not_there_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    there, gone = used(tmp_path / "there", tmp_path / "gone")
    assert there > 0
    assert gone == 0
    assert asyncio.run(disk_usage([])) == {}
