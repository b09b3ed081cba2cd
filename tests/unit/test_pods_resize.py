# SPDX-License-Identifier: GPL-3.0-or-later
"""How a resize is granted, applied, told of, and taken up again by another agent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api import Container, Pod, PodCondition, ResourceRequirements, from_dict, to_dict
from minipod.api.objects import ContainerResizePolicy
from minipod.errors import MinipodError, UsageError
from minipod.plan.steps import MakeCgroup
from minipod.pods.record import PodRecord
from minipod.pods.worker import PodWorker
from tests.unit.test_plan_checker import pod
from tests.unit.test_pods_worker import World, world

__all__ = ["world"]

MIB = 1 << 20


def one(name: str = "app", policy: str = "", **more: Any) -> Container:
    limits, requests = {"cpu": "1", "memory": "64Mi"}, {"cpu": "100m", "memory": "32Mi"}
    policies = [ContainerResizePolicy("memory", policy)] if policy else []
    resources = ResourceRequirements(limits, requests)
    return Container(name=name, image="img", resources=resources, resize_policy=policies, **more)


def patch(name: str = "app", **resources: dict[str, str]) -> Any:
    return {"spec": {"containers": [{"name": name, "resources": resources}]}}


class Files:
    """Cgroup files of the fake runtime: what was written, and what is used."""

    def __init__(self, world: World) -> None:
        self.written: list[tuple[str, dict[str, str]]] = []
        self.used = 0
        self.failure: OSError | None = None
        self.facts = world.runtime.facts
        cgroups: Any = world.runtime.cgroups
        cgroups.create, cgroups.memory_usage = self.create, lambda path: self.used

    def create(self, step: MakeCgroup) -> None:
        if self.failure:
            raise self.failure
        self.written.append((step.path.rsplit("/", 1)[-1], {w.file: w.value for w in step.writes}))

    def of(self, name: str) -> list[dict[str, str]]:
        """Return what was written to a cgroup, in order."""
        return [files for path, files in self.written if path.startswith(name)]


def condition(worker: PodWorker, name: str) -> PodCondition | None:
    return next((c for c in worker.pod.status.conditions if c.type == name), None)


def reasons(world: World) -> list[str]:
    return [reason for _, reason, _ in world.store.events if reason.startswith("Resize")]


async def test_a_running_container_is_resized_as_it_is(world: World) -> None:
    files = Files(world)
    worker = await world.run(pod(one(), one("other")))
    worker.resize(patch(limits={"cpu": "2", "memory": "96Mi"}, requests={"memory": "48Mi"}))
    (app,) = files.of("app.0")
    assert app["cpu.max"] == "200000 100000"
    assert app["memory.max"] == str(96 * MIB)
    assert app["memory.min"] == str(48 * MIB)
    assert not files.of("other")
    # The pod's has room before the container's has, and is exact in the end.
    assert [path[:3] for path, _ in files.written] == ["pod", "app", "pod"]
    assert files.of("pod")[-1]["memory.max"] == str((96 + 64) * MIB)
    (status, _) = worker.pod.status.container_statuses
    assert status.resources.limits == {"cpu": "2", "memory": "96Mi"}
    assert status.allocated_resources == {"cpu": "100m", "memory": "48Mi"}
    assert status.restart_count == 0
    assert worker.record.resize is None
    assert not condition(worker, "PodResizeInProgress")
    assert reasons(world) == ["ResizeStarted", "ResizeCompleted"]


async def test_a_smaller_pod_gives_room_back_last(world: World) -> None:
    files = Files(world)
    worker = await world.run(pod(one()))
    worker.resize(patch(limits={"memory": "40Mi"}))
    before, after = files.of("pod")
    assert before["memory.max"] == str(64 * MIB)
    assert after["memory.max"] == str(40 * MIB)


async def test_what_the_machine_has_not_is_infeasible(world: World) -> None:
    files = Files(world)
    worker = await world.run(pod(one()))
    worker.resize(patch(limits={"cpu": "64"}, requests={"cpu": "64"}))
    pending = condition(worker, "PodResizePending")
    assert pending is not None and pending.reason == "Infeasible"
    words = "Node didn't have enough capacity: cpu, requested: 64000, capacity: 1000"
    assert pending.message == words
    assert not files.of("app")
    (status,) = worker.pod.status.container_statuses
    assert status.resources.limits["cpu"] == "1"
    assert status.allocated_resources["cpu"] == "100m"
    # What is started meanwhile has what was granted.
    assert worker.core.with_resources().spec.containers[0].resources.limits["cpu"] == "1"
    worker.resize(patch(limits={"cpu": "1"}, requests={"cpu": "100m"}))
    assert not condition(worker, "PodResizePending")
    assert worker.record.resize is None
    assert reasons(world) == ["ResizeInfeasible"]


async def test_memory_is_not_taken_away_that_is_used(world: World) -> None:
    files = Files(world)
    files.used = 50 * MIB
    worker = await world.run(pod(one()))
    worker.resize(patch(limits={"memory": "40Mi"}))
    progress = condition(worker, "PodResizeInProgress")
    assert progress is not None and progress.reason == "Error"
    assert "below current usage" in (progress.message or "")
    assert not files.of("app")
    files.used = 10 * MIB
    await world.advance(worker, 11)
    assert not condition(worker, "PodResizeInProgress")
    assert files.of("app")[-1]["memory.max"] == str(40 * MIB)
    assert reasons(world) == ["ResizeStarted", "ResizeError", "ResizeCompleted"]


async def test_a_container_that_wants_it_is_restarted(world: World) -> None:
    files = Files(world)
    worker = await world.run(pod(one(policy="RestartContainer"), restart_policy="OnFailure"))
    worker.resize(patch(limits={"memory": "96Mi"}))
    await world.settle()
    assert [key for key, _ in world.shim.signals] == ["app/0"]
    killing = [words for _, reason, words in world.store.events if reason == "Killing"]
    assert killing == ["Container app resize requires restart"]
    assert condition(worker, "PodResizeInProgress")
    (status,) = worker.pod.status.container_statuses
    assert status.resources.limits["memory"] == "64Mi", "the old run has the old limit"
    world.shim.exits("app/0")  # with 0: its policy would not start it again
    await world.settle()
    assert "app/1" in world.shim.running
    assert not condition(worker, "PodResizeInProgress")
    (status,) = worker.pod.status.container_statuses
    assert status.resources.limits["memory"] == "96Mi"
    assert not files.of("app")


async def test_cpu_alone_restarts_nothing(world: World) -> None:
    files = Files(world)
    worker = await world.run(pod(one(policy="RestartContainer")))
    worker.resize(patch(limits={"cpu": "2"}))
    await world.settle()
    assert world.shim.signals == []
    assert files.of("app.0")


async def test_another_agent_goes_on(world: World) -> None:
    """The record alone says what is left to do."""
    files = Files(world)
    files.failure = OSError(16, "busy")
    worker = await world.run(pod(one()))
    worker.resize(patch(limits={"memory": "96Mi"}))
    assert condition(worker, "PodResizeInProgress")
    saved = msgspec.convert(msgspec.to_builtins(worker.record), PodRecord)
    again = world.worker(from_dict(to_dict(worker.pod), Pod), saved)
    again.core.shim = worker.core.shim
    files.failure = None
    again._resizer.go_on()
    assert files.of("app.0")[-1]["memory.max"] == str(96 * MIB)
    assert again.record.resize is None


async def test_a_pod_that_has_ended_is_not_resized(world: World) -> None:
    worker = await world.run(pod(one(), restart_policy="Never"))
    world.shim.exits("app/0")
    await world.settle()
    with pytest.raises(MinipodError, match="is at its end"):
        worker.resize(patch(limits={"cpu": "2"}))


async def test_a_patch_that_breaks_a_rule_changes_nothing(world: World) -> None:
    worker = await world.run(pod(one()))
    before = to_dict(worker.pod)
    with pytest.raises(UsageError):
        worker.resize(patch(limits={"cpu": "1m"}))
    assert to_dict(worker.pod) == before
