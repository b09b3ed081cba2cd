# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a disk directories take up. The one place where minipod measures that.

What limits ``ephemeral-storage`` and the ``sizeLimit`` of an emptyDir is decided in ``pods/eviction.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from minipod.config import HELPER_ENV


async def disk_usage(paths: Sequence[str]) -> dict[str, int]:
    """Return the bytes that each of *paths* and all below it take up on their own filesystem.

    Blocks count, not lengths, and a file with several names counts once: so does the kubelet. A path that is not
    there, or vanishes meanwhile, counts for nothing. A container may have put anything into these directories:
    ``du`` walks by fd, follows no symbolic link, needs no recursion in memory, and runs beside the agent, niced.
    """
    result = dict.fromkeys(paths, 0)
    if not paths:
        return result
    du = await asyncio.create_subprocess_exec(
        *("nice", "du", "--summarize", "--one-file-system", "--block-size=1", "--null", "--"),
        *paths,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env=HELPER_ENV,
    )
    try:
        output, _ = await du.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            du.kill()
        raise
    for record in output.split(b"\0"):
        size, _, path = record.partition(b"\t")
        if path.decode() in result:
            result[path.decode()] = int(size)
    return result
