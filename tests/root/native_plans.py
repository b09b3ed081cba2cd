# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of plans for the tests of single steps: a root of a tmpfs with this and that in it, slots, filters."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from minipod.plan import steps as s
from tests.shimkit import Raw, finish, private

EMPTY, ROOT, PROC, DEV, TREE, JOIN = 20, 21, 22, 23, 24, 25
END = finish("/bin/true")


def record(op: str, *flags: str, **operands: object) -> Raw:
    return Raw(what=s.Record(op, flags, **operands))  # type: ignore[arg-type]


def rooted(base: Path) -> tuple[s.Step, ...]:
    """A tmpfs in ROOT, seen at <base>/root in the plan's mount namespace."""
    return (
        *private(),
        s.NewFilesystem(slot=ROOT, type="tmpfs", options=("mode=0755",)),
        s.Attach(slot=ROOT, path=str(base / "root"), root=-1),
    )


def with_proc(base: Path) -> tuple[s.Step, ...]:
    return (
        *rooted(base),
        s.NewFilesystem(slot=PROC, type="proc"),
        s.Attach(slot=PROC, path="/proc", root=ROOT, create="directory", no_symlinks=True),
    )


def with_null(base: Path, minor: int = 3) -> tuple[s.Step, ...]:
    """A root with procfs, a null device (a false one with another *minor*), a directory, a file, symlinks."""
    return (
        *with_proc(base),
        s.Mkdir(path="/dev", root=ROOT),
        s.Mknod(path="/null", root=ROOT, major=1, minor=3),
        s.Mknod(path="/dev/null", root=ROOT, major=1, minor=minor),
        s.Mkdir(path="/dir", root=ROOT),
        s.WriteFile(path="/file", root=ROOT, content="text"),
        s.Symlink(path="/link", root=ROOT, target="/dir"),
        s.Symlink(path="/nowhere", root=ROOT, target="/none/at/all"),
        s.Symlink(path="/procself", root=ROOT, target="/proc/self"),
    )


Prelude = Callable[[Path], tuple[s.Step, ...]]


def nothing(_: Path) -> tuple[s.Step, ...]:
    return (s.Harden(),)


def bpf(*instructions: tuple[int, int, int, int]) -> bytes:
    """Return a seccomp program (``struct sock_filter``: code, jump if true, if false, operand)."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


DEVPTS = (
    s.Mkdir(path="/dev", root=ROOT),
    s.Mkdir(path="/dev/pts", root=ROOT),
    s.NewFilesystem(slot=TREE, type="devpts", options=("newinstance", "ptmxmode=0666")),
    s.Attach(slot=TREE, path="/dev/pts", root=ROOT, no_symlinks=True),
)
DIR_TREE = s.NewFilesystem(slot=TREE, type="tmpfs")
FILE_TREE = s.OpenTree(slot=TREE, path="/etc/passwd", type="file")
