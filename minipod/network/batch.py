# SPDX-License-Identifier: GPL-3.0-or-later
"""Many small requests, few runs: what comes while one run is under way goes into the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Feeds a coroutine with lists of items; never two runs at once.

    The first item starts a run at once; there is no timer, so a lone caller waits for nothing.
    """

    def __init__(self, run: Callable[[list[T]], Awaitable[None]]) -> None:
        self._run = run
        self._pending: list[tuple[T, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> None:
        """Wait until a run with *item* in it has ended; raise what that run raised."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._pending.append((item, done))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._drain())
        await done

    async def close(self) -> None:
        """Wait until all that was submitted has run."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, []
            waiting = [done for _, done in batch]
            try:
                await self._run([item for item, _ in batch])
            except Exception as error:
                for done in waiting:
                    if not done.done():
                        done.set_exception(error)
            except BaseException:
                for done in waiting:
                    done.cancel()
                raise
            else:
                for done in waiting:
                    if not done.done():
                        done.set_result(None)
