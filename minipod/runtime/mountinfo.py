# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts of a process, as ``/proc/PID/mountinfo`` tells them (``proc_pid_mountinfo(5)``). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount.

    Attributes:
        point: where it is, from the process's root.
        root: which part of its filesystem it shows.
        type, source: of its filesystem.
        options: of the mount.
        super_options: of the filesystem.
        propagation: ``shared:1``, ``master:2`` …; empty for a private one.
        device: ``major:minor``.
    """

    point: str
    root: str
    type: str
    source: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]
    propagation: tuple[str, ...]
    device: str


def parse(text: str) -> Iterator[Mount]:
    """Yield the mounts in their order; lines that are cut off are left out."""
    for line in text.splitlines():
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        yield Mount(
            point=_plain(fields[4]),
            root=_plain(fields[3]),
            type=_plain(rest[0]),
            source=_plain(rest[1]),
            options=tuple(fields[5].split(",")),
            super_options=tuple(_plain(rest[2]).split(",")),
            propagation=tuple(fields[6:]),
            device=fields[2],
        )


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
