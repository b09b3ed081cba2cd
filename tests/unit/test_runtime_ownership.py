# SPDX-License-Identifier: GPL-3.0-or-later
"""``fsGroup`` on a tree of files: what changes, what does not, and that no link leads out. Needs no root.

The group is our own; only root may give to others, as tests/root/test_security.py does.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from minipod.runtime import ownership
from minipod.runtime.ownership import give_opened_to_group, give_to_group

GROUP = os.getegid()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    top = tmp_path / "volume"
    (top / "sub" / "deeper").mkdir(parents=True)
    for path in (top, top / "sub", top / "sub" / "deeper"):
        path.chmod(0o700)
    for name, bits in (("plain", 0o600), ("sub/run", 0o700), ("sub/deeper/shown", 0o444)):
        (top / name).write_text(name)
        (top / name).chmod(bits)
    return top


def test_bits(volume: Path) -> None:
    give_to_group(str(volume), GROUP)
    assert mode(volume) == mode(volume / "sub") == mode(volume / "sub/deeper") == 0o2770
    assert mode(volume / "plain") == 0o660
    assert mode(volume / "sub/run") == 0o760, "x is not the group's: as the kubelet"
    assert mode(volume / "sub/deeper/shown") == 0o664


def test_bits_of_what_is_read_only(volume: Path) -> None:
    fd = os.open(volume, os.O_RDONLY)
    try:
        give_opened_to_group(fd, GROUP, read_only=True)
    finally:
        os.close(fd)
    assert mode(volume) == 0o2750
    assert mode(volume / "plain") == 0o640


def test_a_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o600)
    give_to_group(str(tmp_path / "file"), GROUP)
    assert mode(tmp_path / "file") == 0o660


def test_on_root_mismatch(volume: Path) -> None:
    give_to_group(str(volume), GROUP, on_root_mismatch=True)
    assert mode(volume / "plain") == 0o660, "it was not right yet"
    (volume / "plain").chmod(0o600)
    give_to_group(str(volume), GROUP, on_root_mismatch=True)
    assert mode(volume / "plain") == 0o600, "its top is right: nothing below is looked at"
    volume.chmod(0o770)
    give_to_group(str(volume), GROUP, on_root_mismatch=True)
    assert mode(volume / "plain") == 0o660, "the setgid bit counts, too"


def test_links_are_not_followed(volume: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "file").write_text("x")
    for path, bits in ((outside, 0o700), (outside / "below", 0o700), (outside / "file", 0o600)):
        path.chmod(bits)
    (volume / "to-file").symlink_to(outside / "file")
    (volume / "to-dir").symlink_to(outside)
    (volume / "sub" / "up").symlink_to("../../outside")
    (volume / "dangling").symlink_to("/nowhere")
    give_to_group(str(volume), GROUP)
    assert [mode(outside), mode(outside / "below"), mode(outside / "file")] == [0o700, 0o700, 0o600]


def test_a_fifo_is_not_opened(volume: Path) -> None:
    os.mkfifo(volume / "fifo", 0o600)
    done = threading.Thread(target=give_to_group, args=(str(volume), GROUP), daemon=True)
    done.start()
    done.join(30)
    assert not done.is_alive()
    assert mode(volume / "fifo") == 0o660


def test_a_deep_tree_needs_few_fds(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(3000):  # deeper than PATH_MAX lets one write down
        os.mkdir("d", 0o700, dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    before = len(os.listdir("/proc/self/fd"))
    give_to_group(str(top), GROUP)
    assert stat.S_IMODE(os.fstat(at).st_mode) == 0o2770
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(at)
    subprocess.run(["rm", "-rf", top], check=True)  # Python's own would run out of stack


def test_a_directory_that_is_moved_away_meanwhile_is_an_error(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ``..`` would lead to whatever it was moved into."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "elsewhere").chmod(0o700)
    enter = ownership._enter

    def moved(directory: int, name: str, device: int) -> int:
        fd = enter(directory, name, device)
        if name == "deeper":
            (volume / "sub" / "deeper").rename(tmp_path / "elsewhere" / "deeper")
        return fd

    monkeypatch.setattr(ownership, "_enter", moved)
    with pytest.raises(OSError) as caught:
        give_to_group(str(volume), GROUP)
    assert caught.value.errno == errno.ESTALE
    assert mode(tmp_path / "elsewhere") == 0o700
