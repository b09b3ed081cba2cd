# SPDX-License-Identifier: GPL-3.0-or-later
"""The device nodes of the host, for privileged containers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from minipod.plan.context import Device

# What is no device of the host's: terminals, memory and fds of whoever looks (containerd's list).
_SKIPPED = frozenset(
    ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx")
)
_MAXIMUM = 2000  # a plan has room for twice as many steps


def host_devices(top: str = "/dev") -> tuple[Device, ...]:
    """Return the device nodes below *top*, sorted by path; links are not followed."""
    return tuple(sorted(_walk(top, ""), key=lambda device: device.path))[:_MAXIMUM]


def _walk(top: str, below: str) -> Iterator[Device]:
    try:
        entries = list(os.scandir(top + below))
    except OSError:  # another file system that we may not look into, or just gone
        return
    for entry in entries:
        path = f"{below}/{entry.name}"
        if not entry.name.isprintable() or (not below and entry.name in _SKIPPED):
            continue
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(top, path)
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            yield Device(
                path,
                stat.S_ISBLK(found.st_mode),
                os.major(found.st_rdev),
                os.minor(found.st_rdev),
                stat.S_IMODE(found.st_mode),
                found.st_uid,
                found.st_gid,
            )
