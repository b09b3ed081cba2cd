# SPDX-License-Identifier: GPL-3.0-or-later
"""Init containers, sidecars, deadlines and stopping, as the worker does them; on a clock that stands still."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from minipod.api import Container, Pod, PodReadinessGate, to_dict
from minipod.cli.podtable import summarize
from minipod.pods.record import ContainerRecord
from minipod.pods.worker import PodWorker
from tests.unit.test_plan_checker import pod
from tests.unit.test_pods_recovery import found
from tests.unit.test_pods_worker import KILLED, T0, FakeShim, World, of, world

__all__ = ["found", "world"]  # the fixtures


def with_init(*init: Container, **spec: Any) -> Pod:
    """Return a pod with these init containers and the container ``app``."""
    made = pod(Container(name="app", image="img"), **spec)
    made.spec.init_containers = list(init)
    return made


def init(name: str) -> Container:
    return Container(name=name, image="img")


def sidecar(name: str) -> Container:
    return Container(name=name, image="img", restart_policy="Always")


def shown(worker: PodWorker) -> str:
    """Return what ``get pods`` shows under STATUS."""
    worker.publish()
    return summarize(to_dict(worker.pod)).status


def starts(world: World) -> list[str]:
    return [line.removeprefix("start ") for line in world.log if line.startswith("start")]


def waiting(worker: PodWorker, name: str) -> str:
    """Return why a container waits, as the status says."""
    status = worker.pod.status
    every = [*status.init_container_statuses, *status.container_statuses]
    state = next(each.state for each in every if each.name == name)
    return state.waiting.reason or "" if state.waiting else ""


# ---- init containers ---------------------------------------------------------------------------------------------


async def test_one_after_the_other(world: World) -> None:
    worker = await world.run(with_init(init("one"), init("two")))
    assert starts(world) == ["one/0"]
    assert shown(worker) == "Init:0/2"
    assert waiting(worker, "two") == waiting(worker, "app") == "PodInitializing"
    conditions = {c.type: c for c in worker.pod.status.conditions}
    initialized = conditions["Initialized"]
    assert (initialized.status, initialized.reason) == ("False", "ContainersNotInitialized")
    assert initialized.message == "containers with incomplete status: [one two]"
    world.shim.exits("one/0")
    await world.settle()
    assert starts(world) == ["one/0", "two/0"]
    assert shown(worker) == "Init:1/2"
    world.shim.exits("two/0")
    await world.settle()
    assert starts(world) == ["one/0", "two/0", "app/0"]
    assert (shown(worker), worker.pod.status.phase) == ("Running", "Running")
    conditions = {c.type: c for c in worker.pod.status.conditions}
    assert conditions["Initialized"].status == conditions["Ready"].status == "True"
    one = worker.pod.status.init_container_statuses[0]
    assert one.ready and one.state.terminated and one.state.terminated.reason == "Completed"


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
async def test_one_that_fails_is_tried_again(world: World, policy: str) -> None:
    worker = await world.run(with_init(init("one"), restart_policy=policy))
    world.shim.exits("one/0", 1 << 8)
    await world.settle()
    assert of(worker, "one").attempt == 1, "at once"
    world.shim.exits("one/1", 1 << 8)
    await world.settle()
    assert shown(worker) == "Init:CrashLoopBackOff"
    assert worker.pod.status.phase == "Pending"
    await world.advance(worker, 9.5)
    assert of(worker, "one").attempt == 1
    await world.advance(worker, 0.5)
    assert of(worker, "one").attempt == 2
    world.shim.exits("one/2")
    await world.settle()
    assert shown(worker) == "Running"


async def test_one_that_fails_ends_a_pod_that_never_restarts(world: World) -> None:
    worker = await world.run(with_init(sidecar("side"), init("one"), restart_policy="Never"))
    world.shim.exits("one/0", 3 << 8)
    await world.settle()
    assert worker.pod.status.phase == "Pending", "the sidecar is being stopped"
    assert world.shim.signals == [("side/0", signal.SIGUSR1)]
    world.shim.exits("side/0")
    await world.settle()
    assert (worker.pod.status.phase, shown(worker)) == ("Failed", "Init:Error")
    assert starts(world) == ["side/0", "one/0"]
    assert world.log[-3].startswith("remove sandbox")


async def test_a_new_sandbox_begins_with_the_init_containers(world: World) -> None:
    worker = await world.run(with_init(init("one"), init("two")))
    world.shim.exits("one/0")
    await world.settle()
    world.shim.exits("two/0")
    await world.settle()
    world.shim.exits("sandbox", KILLED)
    await world.settle()
    assert starts(world)[3:] == ["one/1"]
    assert worker.pod.status.phase == "Pending"
    world.shim.exits("one/1")
    await world.settle()
    world.shim.exits("two/1")
    await world.settle()
    assert starts(world)[3:] == ["one/1", "two/1", "app/1"]


async def test_a_display_word_of_an_image_that_is_not_there(world: World) -> None:
    del world.images["img"]
    worker = await world.run(with_init(init("one")))
    assert shown(worker) == "Init:ErrImagePull"
    await world.advance(worker, 1)
    assert shown(worker) == "Init:ImagePullBackOff"


# ---- sidecars ----------------------------------------------------------------------------------------------------


async def test_sidecars_start_in_order_and_count_as_ready(world: World) -> None:
    world.runtime.held = asyncio.Event()
    worker = await world.run(with_init(sidecar("one"), sidecar("two")))
    assert starts(world) == ["one/0"]
    world.runtime.held.set()
    await world.settle()
    assert starts(world) == ["one/0", "two/0", "app/0"]
    summary = summarize(to_dict(worker.pod))
    assert (summary.ready, summary.total, summary.status) == (3, 3, "Running")
    world.shim.exits("one/0", 1 << 8)
    world.shim.exits("two/0", 1 << 8)
    await world.settle()
    for name in ("one", "two"):
        world.shim.exits(f"{name}/1", 1 << 8)
    await world.settle()
    ready = {c.type: c for c in worker.pod.status.conditions}["Ready"]
    assert (ready.status, ready.message) == (
        "False",
        "containers with unready status: [one two]",
    )
    assert worker.pod.status.phase == "Running"


@pytest.mark.parametrize(("status", "phase"), [(0, "Succeeded"), (1 << 8, "Failed")])
async def test_sidecars_end_after_the_app_and_do_not_count(
    world: World, status: int, phase: str
) -> None:
    worker = await world.run(with_init(sidecar("one"), sidecar("two"), restart_policy="Never"))
    world.shim.exits("app/0", status)
    await world.settle()
    assert worker.pod.status.phase == "Running"
    assert world.shim.signals == [("two/0", signal.SIGUSR1)]
    world.shim.exits("two/0", 5 << 8)
    await world.settle()
    assert world.shim.signals[1:] == [("one/0", signal.SIGUSR1)]
    world.shim.exits("one/0", KILLED)
    await world.settle()
    assert worker.pod.status.phase == phase
    assert starts(world) == ["one/0", "two/0", "app/0"], "nobody was restarted"


async def test_sidecars_that_do_not_listen_when_the_app_has_ended(world: World) -> None:
    made = with_init(sidecar("one"), restart_policy="Never", termination_grace_period_seconds=20)
    worker = await world.run(made)
    world.shim.exits("app/0")
    await world.settle()
    await world.advance(worker, 19)
    assert "kill one.0" not in world.log
    await world.advance(worker, 1)
    assert "kill one.0" in world.log


async def test_a_deletion_stops_sidecars_last(world: World) -> None:
    worker = await world.run(with_init(sidecar("one"), sidecar("two")))
    worker.delete(None)
    await world.settle()
    for key in ("app/0", "two/0", "one/0"):
        assert world.shim.signals[-1][0] == key
        world.shim.exits(key)
        await world.settle()
    assert worker.gone.is_set()
    assert len(world.shim.signals) == 3


async def test_the_last_two_seconds_of_those_whose_turn_did_not_come(world: World) -> None:
    """The app takes the whole grace period; each sidecar still gets its signal, and two seconds."""
    made = with_init(sidecar("one"), sidecar("two"), termination_grace_period_seconds=20)
    worker = await world.run(made)
    worker.delete(None)
    await world.settle()
    await world.advance(worker, 20)
    assert {key for key, _ in world.shim.signals} == {"app/0", "one/0", "two/0"}
    assert "kill app.0" in world.log and "kill one.0" not in world.log
    await world.advance(worker, 1.5)
    assert not worker.gone.is_set()
    await world.advance(worker, 0.5)
    assert worker.gone.is_set()


# ---- preStop, as a hook into the stop ----------------------------------------------------------------------------


async def test_the_signal_waits_for_the_hook(world: World) -> None:
    worker = await world.run(pod(Container(name="app", image="img")))
    done = asyncio.Event()

    async def hook(record: ContainerRecord) -> None:
        await done.wait()

    worker._stopping.pre_stop = hook
    worker.delete(20)
    await world.settle()
    assert world.shim.signals == []
    done.set()
    await world.settle()
    assert world.shim.signals == [("app/0", signal.SIGUSR1)]
    await world.advance(worker, 20)
    assert worker.gone.is_set()


async def test_a_hook_that_takes_too_long(world: World) -> None:
    """It takes from the grace period; after it there are two seconds, whatever is left."""
    worker = await world.run(pod(Container(name="app", image="img")))
    cancelled = []

    async def hook(record: ContainerRecord) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(record.name)
            raise

    worker._stopping.pre_stop = hook
    worker.delete(20)
    await world.settle()
    await world.advance(worker, 19.5)
    assert world.shim.signals == [] and not cancelled
    await world.advance(worker, 0.5)
    assert world.shim.signals == [("app/0", signal.SIGUSR1)] and cancelled == ["app"]
    await world.advance(worker, 1.5)
    assert not worker.gone.is_set()
    await world.advance(worker, 0.5)
    assert worker.gone.is_set()


async def test_one_container_is_stopped_and_started_again(world: World) -> None:
    """As a failed liveness probe asks for it."""
    worker = await world.run()
    worker._stopping.ask(of(worker), T0 + 10, "Container app failed liveness probe")
    await world.settle()
    assert world.shim.signals == [("app/0", signal.SIGUSR1)]
    assert ("Normal", "Killing", "Container app failed liveness probe") in world.store.events
    assert world.store.saved[-1].containers[0].stop_by == T0 + 10
    await world.advance(worker, 10)
    assert "kill app.0" in world.log
    world.shim.exits("app/0", KILLED)
    await world.settle()
    assert (of(worker).state, of(worker).attempt, of(worker).stop_by) == ("running", 1, None)


async def test_a_stop_goes_on_after_the_agents_death(world: World, found: FakeShim) -> None:
    from tests.unit.test_pods_recovery import back, left

    found.known.append(found.start("app/0"))
    record = left()
    record.containers[0].stop_by = T0 + 5
    worker = await back(world, record)
    assert found.signals == [("app/0", signal.SIGUSR1)]
    await world.advance(worker, 5)
    assert "kill app.0" in world.log


# ---- deadlines ---------------------------------------------------------------------------------------------------


async def test_the_active_deadline(world: World) -> None:
    made = pod(
        Container(name="app", image="img"),
        active_deadline_seconds=60,
        termination_grace_period_seconds=20,
    )
    worker = await world.run(made)
    await world.advance(worker, 59.5)
    assert world.shim.signals == []
    await world.advance(worker, 0.5)
    assert world.shim.signals == [("app/0", signal.SIGUSR1)]
    assert worker.pod.status.phase == "Running" and worker.pod.status.reason is None
    assert world.store.saved[-1].failure is not None
    world.shim.exits("app/0", 0)
    await world.settle()
    status = worker.pod.status
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    assert world.reasons().count("DeadlineExceeded") == 1
    assert starts(world) == ["app/0"], "Always, but it is over"


async def test_the_deadline_of_a_pod_whose_container_does_not_listen(world: World) -> None:
    made = pod(
        Container(name="app", image="img"),
        active_deadline_seconds=60,
        termination_grace_period_seconds=20,
    )
    worker = await world.run(made)
    await world.advance(worker, 60)
    await world.advance(worker, 19.5)
    assert "kill app.0" not in world.log
    await world.advance(worker, 0.5)
    assert "kill app.0" in world.log


@pytest.mark.parametrize("crashes", [0, 2])
async def test_the_deadline_of_a_pod_that_waits(world: World, crashes: int) -> None:
    if not crashes:
        del world.images["img"]
    worker = await world.run(pod(Container(name="app", image="img"), active_deadline_seconds=5))
    for attempt in range(crashes):
        world.shim.exits(f"app/{attempt}", 1 << 8)
        await world.settle()
    await world.advance(worker, 5)
    assert (worker.pod.status.phase, worker.pod.status.reason) == ("Failed", "DeadlineExceeded")
    state = worker.pod.status.container_statuses[0].state
    assert state.terminated if crashes else state.waiting
    await world.advance(worker, 600)
    assert len(starts(world)) == crashes


# ---- readiness gates ---------------------------------------------------------------------------------------------


async def test_readiness_gates(world: World) -> None:
    made = pod(Container(name="app", image="img"))
    made.spec.readiness_gates = [PodReadinessGate("example.com/warm")]
    worker = await world.run(made)

    def condition(name: str) -> tuple[str, str | None, str | None]:
        found = next(c for c in worker.pod.status.conditions if c.type == name)
        return found.status, found.reason, found.message

    message = 'corresponding condition of pod readiness gate "example.com/warm" does not exist.'
    assert condition("Ready") == ("False", "ReadinessGatesNotReady", message)
    assert condition("ContainersReady") == ("True", None, None)
    worker.set_condition("example.com/warm", "False", "Cold", "brr")
    message = 'the status of pod readiness gate "example.com/warm" is not "True", but False'
    assert condition("Ready") == ("False", "ReadinessGatesNotReady", message)
    assert condition("example.com/warm") == ("False", "Cold", "brr")
    worker.set_condition("example.com/warm", "True")
    assert condition("Ready") == ("True", None, None)
    assert condition("example.com/warm") == ("True", None, None)
