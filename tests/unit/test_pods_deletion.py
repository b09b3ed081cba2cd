# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a pod: grace, signals, and nothing left behind."""

from __future__ import annotations

import asyncio
import signal

import pytest

from minipod.api import Container
from minipod.errors import MinipodError, StepFailed
from minipod.pods.times import timestamp
from tests.unit.test_plan_checker import pod
from tests.unit.test_pods_worker import (
    KILLED,
    T0,
    TERMINATED,
    World,
    of,
    one_container,
    world,
)

__all__ = ["world"]  # the fixture


# ---- deletion -----------------------------------------------------------------------------------


async def test_a_graceful_deletion(world: World) -> None:
    worker = await world.run(one_container(termination_grace_period_seconds=20))
    worker.delete(None)
    await world.settle()
    assert world.shim.signals == [("app/0", signal.SIGUSR1)]  # the image's StopSignal, once
    assert worker.pod.metadata.deletion_timestamp == timestamp(T0 + 20)
    assert worker.pod.metadata.deletion_grace_period_seconds == 20
    assert "Killing" in world.reasons()
    assert not worker.gone.is_set()
    world.log.clear()
    world.shim.exits("app/0", TERMINATED)
    await world.settle()
    uid = worker.pod.metadata.uid
    assert world.log == [
        "remove sandbox 0",
        "removed sandbox",
        f"rm run/pods/{uid}",
        f"rm root/pods/{uid}",
        f"rm log/default_web_{uid}",
    ]
    assert worker.gone.is_set() and world.store.removed
    assert world.pool.all() == {}
    assert not [line for line in world.log if line.startswith("start")]  # Always, but deleted


async def test_a_container_that_does_not_listen_is_killed_in_time(world: World) -> None:
    worker = await world.run(one_container(termination_grace_period_seconds=20))
    worker.delete(None)
    await world.settle()
    await world.advance(worker, 19.5)
    assert not worker.gone.is_set()
    await world.advance(worker, 0.5)
    assert worker.gone.is_set() and world.store.removed
    assert world.shim.signals == [("app/0", signal.SIGUSR1)]


async def test_the_clock_may_run_on_between_two_looks(world: World) -> None:
    """The timer of the loop and the time of day are two clocks: the deadline is kept when they disagree."""
    worker = await world.run(one_container(termination_grace_period_seconds=20))
    worker.delete(None)
    await world.settle()
    publish = worker.publish

    def late() -> None:
        world.now = T0 + 20  # it was not yet time in _sync, and it is in _sleep
        publish()

    worker.publish = late  # type: ignore[method-assign]
    world.now = T0 + 19.999
    worker.core.wake.set()
    await world.settle()
    assert worker.gone.is_set()


@pytest.mark.parametrize(
    ("first", "second", "by", "grace"),
    [
        (30, 10, 10, 10),
        (30, 0, 0, 0),
        (30, 1, 2, 2),  # minimumGracePeriodInSeconds
        (10, 30, 10, 10),  # never later than it was
        (None, 5, 5, 5),
        (5, None, 5, 5),
    ],
)
async def test_a_second_deletion_only_shortens(
    world: World, first: float | None, second: float | None, by: float, grace: int
) -> None:
    worker = await world.run()
    worker.delete(first)
    await world.settle()
    worker.delete(second)
    assert worker.record.delete_by == T0 + by
    assert worker.pod.metadata.deletion_grace_period_seconds == grace
    await world.settle()
    assert worker.gone.is_set() is (by == 0)
    assert len(world.shim.signals) == 1
    await world.advance(worker, by)
    assert worker.gone.is_set()


async def test_deletion_at_once(world: World) -> None:
    worker = await world.run()
    worker.delete(0)
    await world.settle()
    assert worker.gone.is_set()
    assert world.shim.signals == []  # grace 0: no TERM, killed


async def test_a_pod_that_has_ended_goes_at_once(world: World) -> None:
    worker = await world.run(one_container(restart_policy="Never"))
    world.shim.exits("app/0", 0)
    await world.settle()
    worker.delete(None)
    await world.settle()
    assert worker.gone.is_set()


async def test_a_pod_that_waits_for_a_restart_goes_at_once(world: World) -> None:
    worker = await world.run()
    for attempt in range(2):
        world.shim.exits(f"app/{attempt}", 1 << 8)
        await world.settle()
    assert of(worker).reason == "CrashLoopBackOff"
    worker.delete(None)
    await world.settle()
    assert worker.gone.is_set()


async def test_a_container_that_is_being_started_gets_its_signal_when_it_runs(world: World) -> None:
    world.runtime.held = asyncio.Event()
    worker = await world.run()
    worker.delete(None)
    await world.settle()
    assert world.shim.signals == []
    world.runtime.held.set()
    await world.settle()
    assert world.shim.signals == [("app/0", signal.SIGUSR1)]


async def test_every_running_container_is_stopped(world: World) -> None:
    both = pod(Container(name="a", image="img"), Container(name="b", image="img"))
    worker = await world.run(both)
    worker.delete(None)
    await world.settle()
    assert {key for key, _ in world.shim.signals} == {"a/0", "b/0"}
    world.shim.exits("a/0", TERMINATED)
    await world.settle()
    assert not worker.gone.is_set()
    assert len(world.shim.signals) == 2
    world.shim.exits("b/0", TERMINATED)
    await world.settle()
    assert worker.gone.is_set()


async def test_a_deletion_whose_end_fails_is_tried_again_without_haste(world: World) -> None:
    worker = await world.run()
    world.runtime.remove_failures = [MinipodError("nft refused") for _ in range(3)]
    worker.delete(0)
    await world.settle()  # which notices a spinning worker
    assert not worker.gone.is_set() and not world.store.removed
    # Twice: the ends of the killed processes are events, upon which it looks again.
    assert world.reasons().count("FailedSync") == 2
    await world.settle()
    assert world.reasons().count("FailedSync") == 2
    await world.advance(worker, 10)
    assert world.reasons().count("FailedSync") == 3
    await world.advance(worker, 10)
    assert worker.gone.is_set() and world.store.removed


async def test_a_sandbox_that_dies_during_deletion_is_not_made_again(world: World) -> None:
    worker = await world.run()
    worker.delete(30)
    await world.settle()
    world.shim.exits("sandbox", KILLED)
    await world.settle()
    assert world.log.count("make sandbox") == 1
    await world.advance(worker, 30)
    assert worker.gone.is_set()
    assert world.log.count("make sandbox") == 1


async def test_a_pod_is_deleted_before_its_sandbox_was_made(world: World) -> None:
    world.runtime.sandbox_failures = [StepFailed("no")]
    worker = await world.run()
    worker.delete(None)
    await world.settle()
    assert worker.gone.is_set() and world.store.removed
