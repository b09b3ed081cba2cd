# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the loader: the process that takes an image from a file or a registry into the store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from minipod.errors import MinipodError

Heard = Callable[[dict[str, Any]], Awaitable[None]]

_SIX_MIB = 6 * 1024 * 1024  # the longest line that a loader may write


async def run_loader(
    request: dict[str, Any], heard: Heard, *, fds: Sequence[int] = ()
) -> dict[str, Any]:
    """Have the loader do *request* and return its last message; when cancelled, the loader is killed.

    Args:
        request: see :mod:`minipod.images.loader`.
        heard: told each ``{"progress": …}``.
        fds: what the loader inherits.

    Raises:
        MinipodError: what it says went wrong.
    """
    # It reads hostile input: its own process, a fixed environment, no way to the agent but its output.
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "minipod.images.loader",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=fds,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        limit=_SIX_MIB,
    )
    assert worker.stdin and worker.stdout and worker.stderr, "all three are pipes"
    try:
        worker.stdin.write(json.dumps(request).encode() + b"\n")
        worker.stdin.close()
        async for raw in worker.stdout:
            line = json.loads(raw)
            if "progress" in line:
                await heard({"progress": line["progress"]})
            elif "error" in line:
                raise _error(line["error"])
            elif "done" in line:
                return dict(line)
        stderr = (await worker.stderr.read()).decode(errors="replace").strip().splitlines()
        raise MinipodError(
            f"the image loader ended early: {stderr[-1] if stderr else 'no message'}"
        )
    finally:
        if worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()


def _error(said: dict[str, Any]) -> MinipodError:
    error = MinipodError(str(said.get("what")), str(said.get("remedy", "")))
    error.reason = str(said.get("reason", error.reason))
    error.exit_code = int(said.get("exitCode", error.exit_code))
    return error
