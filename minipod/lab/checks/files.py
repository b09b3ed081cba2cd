# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the labs about file systems."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from minipod.lab import kernel
from minipod.lab.look import Bench, NotYet


def overlay(bench: Bench) -> Iterator[str]:
    """An overlay with a file that was changed, and one that was deleted, in its upper directory only."""
    top = Path("/run/lab5")
    lower, upper, merged = top / "lower", top / "upper", top / "merged"
    found = [each for each in kernel.mounts() if each.target == str(merged)]
    if not found or found[-1].kind != "overlay":
        raise NotYet(
            f"no overlay is mounted at {merged}",
            "mount -t overlay lab5 -o lowerdir=…,upperdir=…,workdir=… /run/lab5/merged",
        )
    for option, wanted in (("lowerdir", lower), ("upperdir", upper)):
        value = found[-1].option(option) or found[-1].option(f"{option}+")
        if not value or not _same(Path(value), wanted):
            raise NotYet(f"its {option} is {value or 'not set'}, not {wanted}", "umount, and again")
    yield f"an overlay of {lower} and {upper} is mounted at {merged}"
    for name in ("motd", "junk"):
        if not (lower / name).is_file():
            raise NotYet(
                f"{lower / name} is gone",
                "write below merged only; lower is what an image would be",
            )
    yield "the lower directory still has both files"
    if not (upper / "motd").is_file() or _text(upper / "motd") == _text(lower / "motd"):
        raise NotYet("motd has not been changed", f"echo changed > {merged}/motd")
    yield f"motd was copied up: {upper}/motd has the new text, {lower}/motd the old one"
    try:
        mark = (upper / "junk").lstat()
    except FileNotFoundError:
        raise NotYet("junk has not been deleted", f"rm {merged}/junk") from None
    if not stat.S_ISCHR(mark.st_mode) or mark.st_rdev != os.makedev(0, 0):
        raise NotYet(f"{upper}/junk is a file, not a whiteout", f"rm {merged}/junk")
    yield f"junk is hidden by a whiteout: {upper}/junk is a character device 0:0"


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(65536)
