# SPDX-License-Identifier: GPL-3.0-or-later
"""Coalescing: what comes during a run shares the next one."""

from __future__ import annotations

import asyncio

import pytest

from minipod.network.batch import Batcher


class Recorder:
    """A run that waits for its gate, and fails for the item -1."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.running = 0

    async def __call__(self, items: list[int]) -> None:
        self.running += 1
        assert self.running == 1, "two runs at once"
        self.batches.append(items)
        await self.gate.wait()
        self.running -= 1
        if -1 in items:
            raise OSError("no")


async def rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_during_a_run_shares_the_next() -> None:
    record = Recorder()
    batcher = Batcher(record)
    tasks = [asyncio.ensure_future(batcher.submit(0))]
    await rounds()
    tasks += [asyncio.ensure_future(batcher.submit(n)) for n in range(1, 33)]
    await rounds()
    assert record.batches == [[0]]
    assert not any(task.done() for task in tasks)
    record.gate.set()
    await asyncio.gather(*tasks)
    assert record.batches == [[0], list(range(1, 33))]


async def test_a_failure_reaches_its_own_batch_only() -> None:
    record = Recorder()
    batcher = Batcher(record)
    first = asyncio.ensure_future(batcher.submit(1))
    await rounds()
    failing = [asyncio.ensure_future(batcher.submit(n)) for n in (-1, 2)]
    await rounds()
    record.gate.set()
    await first
    for task in failing:
        with pytest.raises(OSError, match="no"):
            await task
    await batcher.submit(3)
    assert record.batches == [[1], [-1, 2], [3]]


async def test_a_cancelled_waiter_harms_no_other() -> None:
    record = Recorder()
    batcher = Batcher(record)
    cancelled, other = (asyncio.ensure_future(batcher.submit(n)) for n in (-1, 2))
    await rounds()
    cancelled.cancel()
    record.gate.set()
    with pytest.raises(OSError, match="no"):
        await other
    assert (await asyncio.gather(cancelled, return_exceptions=True))[
        0
    ].__class__ is asyncio.CancelledError


async def test_close_waits_for_all() -> None:
    record = Recorder()
    batcher = Batcher(record)
    await batcher.close()
    task = asyncio.ensure_future(batcher.submit(1))
    await rounds()
    asyncio.get_running_loop().call_soon(record.gate.set)
    await batcher.close()
    await rounds()
    assert task.done()
