# SPDX-License-Identifier: GPL-3.0-or-later
"""An event loop whose time passes only when there is nothing else to do, and then at once: hours take milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

T0 = 1_800_000_000.0
"""The time of day at which a fake clock begins."""


class FakeLoop(asyncio.SelectorEventLoop):
    """A loop that jumps to its next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._present = 0.0
        super().__init__()

    def time(self) -> float:
        """Return the seconds since the loop began."""
        return self._present

    def wall(self) -> float:
        """Return the time of day."""
        return T0 + self._present

    def _run_once(self) -> None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self._present = max(self._present, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


def on_a_fake_clock(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* to its end, then cancel what it left."""
    with asyncio.Runner(loop_factory=FakeLoop) as runner:
        return runner.run(work)


def wall() -> float:
    """Return the running loop's time of day."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeLoop)
    return loop.wall()
