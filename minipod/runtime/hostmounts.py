# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts of the host, as ``/proc/self/mountinfo`` tells them (``proc(5)``)."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass

from minipod.config import HELPER_ENV

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class HostMount:
    """A mount: where it is, and whether mounts below it propagate to others, or come from others."""

    path: str
    shared: bool
    slave: bool


def host_mounts(mountinfo: str | None = None) -> list[HostMount]:
    """Return all mounts that we see, in the order in which they were made; *mountinfo* is for tests."""
    if mountinfo is None:
        with open("/proc/self/mountinfo", errors="surrogateescape") as file:
            mountinfo = file.read()
    result = []
    for line in mountinfo.splitlines():
        fields = line.partition(" - ")[0].split(" ")
        path = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        kinds = {field.partition(":")[0] for field in fields[6:]}
        result.append(HostMount(path, "shared" in kinds, "master" in kinds))
    return result


def mount_of(path: str, mounts: list[HostMount]) -> HostMount:
    """Return the mount that *path* of the host lies on."""
    real = os.path.realpath(path)
    on = [m for m in mounts if m.path == "/" or f"{real}/".startswith(f"{m.path}/")]
    # Of several at one place, the last covers the others.
    return max(enumerate(on), key=lambda pair: (len(pair[1].path), pair[0]))[1]


async def unmount_below(path: str) -> None:
    """Unmount what privileged containers have mounted below a directory of ours, and left there."""
    below = [m.path for m in host_mounts() if m.path.startswith(f"{path}/")]
    for place in reversed(below):
        process = await asyncio.create_subprocess_exec(
            *("umount", "--lazy", "--no-canonicalize", "--", place),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
            env=HELPER_ENV,
        )
        await process.wait()
