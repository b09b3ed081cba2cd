# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that run in a pod's containers beside their own programs: their numbers and their ends."""

from __future__ import annotations

import asyncio
import time

from minipod.runtime.shim import Process


class Execs:
    """Numbers commands and hands on their ends."""

    def __init__(self) -> None:
        # Not from 0: those that an earlier agent asked for may still run.
        self._number = time.time_ns()
        self._ends: dict[str, asyncio.Future[Process]] = {}

    def next(self) -> tuple[int, asyncio.Future[Process]]:
        """Return a number for a command, and the future of its end."""
        self._number += 1
        future: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._ends[f"exec/{self._number}"] = future
        return self._number, future

    def ended(self, process: Process) -> bool:
        """Tell whoever waits for the end of *process*; whether it is a command of ours."""
        waiting = self._ends.pop(process.key, None)
        if waiting is None:
            return False
        if not waiting.done():
            waiting.set_result(process)
        return True

    def forget(self, key: str) -> None:
        """Nobody waits for the end of this command any more."""
        self._ends.pop(key, None)
