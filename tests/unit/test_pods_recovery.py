# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that comes back: what became of its pods, and what it does about it."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from minipod.errors import MinipodError
from minipod.pods import recovery as module
from minipod.pods import resolve
from minipod.pods.record import ContainerRecord, Ended, PodRecord
from minipod.pods.worker import PodWorker
from minipod.runtime.shim import Process, Shim
from tests.unit.test_pods_worker import (
    T0,
    FakeShim,
    World,
    of,
    one_container,
    world,
)

__all__ = ["world"]  # the fixture


# ---- coming back --------------------------------------------------------------------------------


def left(state: str = "running", attempt: int = 0, **changes: Any) -> PodRecord:
    """Return the record that an earlier agent left of a pod with the container ``app``."""
    app = ContainerRecord("app", state, attempt, started=T0 - 60, next_start=None)
    values = {"sandbox": 2, "sandbox_up": True, "containers": [app], **changes}
    return PodRecord(**values)


@pytest.fixture
def found(world: World, monkeypatch: pytest.MonkeyPatch) -> FakeShim:
    """The shim that an agent which comes back finds; its pause process runs."""
    shim = FakeShim(world)
    world.shims.append(shim)
    shim.known = [shim.start("sandbox")]
    monkeypatch.setattr(Shim, "connect", lambda run_dir: shim)
    return shim


async def back(world: World, record: PodRecord, **spec: Any) -> PodWorker:
    """Recover a pod and let it live on."""
    one = one_container(**spec)
    if record.address == "" and record.sandbox_up:
        record.address = world.pool.allocate(one.metadata.uid)
    worker = world.worker(one, record)
    await worker.recover()
    world._tasks.append(asyncio.ensure_future(worker.run()))
    await world.settle()
    return worker


async def test_what_lives_is_not_disturbed(world: World, found: FakeShim) -> None:
    found.known.append(found.start("app/0"))
    record = left()
    worker = await back(world, record)
    assert world.log == []
    assert (of(worker).state, of(worker).attempt) == ("running", 0)
    found.exits("app/0", 1 << 8)  # and its end is heard
    await world.settle()
    assert of(worker).attempt == 1


async def test_what_ended_meanwhile_is_learned(world: World, found: FakeShim) -> None:
    found.known.append(Process("app/0", "exited", 7, 3 << 8, T0 - 60, T0 - 5))
    worker = await back(world, left(), restart_policy="Never")
    ended = of(worker).ended
    assert ended and (ended.exit_code, ended.finished) == (3, T0 - 5)
    assert worker.pod.status.phase == "Failed"


async def test_a_start_that_was_announced_and_never_made(world: World, found: FakeShim) -> None:
    worker = await back(world, left("starting", 3))
    assert world.log[-1] == "start app/3"
    assert (of(worker).state, of(worker).attempt) == ("running", 3)
    found.on_failed(Process("app/3", "", 0, 0, 0, 0))  # not ours any more: nothing happens
    assert of(worker).state == "running"


async def test_a_start_that_was_made_and_not_written_down(world: World, found: FakeShim) -> None:
    found.known.append(found.start("app/0"))
    worker = await back(world, left("starting"))
    assert of(worker).state == "running"
    assert world.log == []


async def test_a_start_that_is_under_way(world: World, found: FakeShim) -> None:
    found.known.append(Process("app/0", "starting", 7, 0, T0, 0))
    worker = await back(world, left("starting"))
    assert (of(worker).state, world.log) == ("starting", [])
    found.on_failed(Process("app/0", "", 7, 0, T0, 0))
    await world.settle()
    assert (of(worker).state, of(worker).attempt) == ("running", 0)


async def test_a_container_that_the_shim_does_not_know(world: World, found: FakeShim) -> None:
    worker = await back(world, left(), restart_policy="Never")
    ended = of(worker).ended
    assert ended and ended.exit_code == 137


async def test_a_sandbox_that_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(run_dir: str) -> Shim:
        raise ConnectionRefusedError

    record = {"app/0": Process("app/0", "exited", 7, 0, T0 - 60, T0 - 5)}
    monkeypatch.setattr(Shim, "connect", refused)
    monkeypatch.setattr(module, "read_exit_records", lambda run_dir: record)
    worker = await back(world, left(), restart_policy="OnFailure")
    # How it had ended is told by the record that the shim left.
    assert worker.pod.status.phase == "Succeeded"
    assert world.log[:2] == ["remove sandbox 2", "removed sandbox"]
    assert "make sandbox" not in world.log


async def test_after_a_reboot_a_pod_comes_up_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(run_dir: str) -> Shim:
        raise FileNotFoundError

    monkeypatch.setattr(Shim, "connect", none)
    worker = await back(world, left())
    assert (worker.record.sandbox, of(worker).state, of(worker).attempt) == (3, "running", 1)
    assert "SandboxChanged" in world.reasons()


AFTER_A_REBOOT = [
    # policy, attempt that follows, phase
    ("Always", 1, "Running"),
    ("OnFailure", 1, "Running"),
    ("Never", 0, "Failed"),
]


@pytest.mark.parametrize(("policy", "attempt", "phase"), AFTER_A_REBOOT)
async def test_a_reboot_is_told_from_a_lost_sandbox(
    world: World, found: FakeShim, policy: str, attempt: int, phase: str
) -> None:
    """Whatever has the shim's name now: it is of another boot, and nobody asks it."""
    found.known.append(found.start("app/0"))
    worker = await back(world, left(boot="an earlier one"), restart_policy=policy)
    ended = of(worker).ended
    assert ended and (ended.exit_code, ended.reason, ended.signal) == (255, "Unknown", 0)
    assert ended.message == "the machine was rebooted"
    assert (of(worker).attempt, worker.pod.status.phase) == (attempt, phase)
    assert "SandboxChanged" in world.reasons()
    if policy != "Never":
        assert worker.record.boot == world.runtime.facts.boot
        assert worker.record.address not in ("", "10.99.0.2"), "addresses go round"


async def test_a_reboot_keeps_the_back_off(world: World) -> None:
    record = left(boot="an earlier one")
    app = record.containers[0]
    app.ended = Ended(1, "Error", T0 - 70, T0 - 65)
    app.backoff, app.backoff_updated = 80.0, T0 - 60
    worker = await back(world, record)
    assert (of(worker).state, of(worker).reason) == ("waiting", "CrashLoopBackOff")
    assert of(worker).next_start == T0 + 80
    await world.advance(worker, 80)
    assert (of(worker).state, of(worker).attempt, of(worker).backoff) == ("running", 1, 160.0)


async def test_a_shim_whose_pause_process_has_ended(world: World, found: FakeShim) -> None:
    found.known = [Process("sandbox", "exited", 1, 9, T0, T0)]
    worker = await back(world, left())
    assert worker.record.sandbox == 3
    assert of(worker).state == "running"


async def test_a_half_made_sandbox_is_made_anew(world: World, found: FakeShim) -> None:
    record = left("waiting", -1, sandbox_up=False)
    record.containers[0].next_start = 0.0
    worker = await back(world, record)
    assert world.log[:3] == ["remove sandbox 2", "removed sandbox", "make sandbox"]
    assert worker.record.sandbox == 3
    assert of(worker).state == "running"


async def test_a_deletion_goes_on(world: World, found: FakeShim) -> None:
    found.known.append(found.start("app/0"))
    worker = await back(world, left(delete_by=T0 + 5))
    assert found.signals == [("app/0", signal.SIGUSR1)]
    await world.advance(worker, 5)
    assert worker.gone.is_set()


async def test_a_deletion_whose_sandbox_is_gone_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(run_dir: str) -> Shim:
        raise FileNotFoundError

    monkeypatch.setattr(Shim, "connect", none)
    worker = await back(world, left(delete_by=T0 + 5))
    assert worker.gone.is_set()
    assert "make sandbox" not in world.log


async def test_a_back_off_goes_on(world: World, found: FakeShim) -> None:
    record = left("waiting", 4)
    app = record.containers[0]
    app.ended = Ended(1, "Error", T0 - 10, T0 - 5)
    app.next_start, app.backoff, app.backoff_updated = T0 + 75, 80.0, T0 - 10
    worker = await back(world, record)
    await world.advance(worker, 74)
    assert of(worker).state == "waiting"
    await world.advance(worker, 1)
    assert (of(worker).state, of(worker).attempt, of(worker).backoff) == ("running", 5, 160.0)


async def test_a_host_path_that_has_vanished_keeps_the_container_waiting(
    world: World, found: FakeShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    found.known.append(found.start("app/0"))
    worker = await back(world, left())

    def gone(*args: object) -> None:
        raise MinipodError("volume v: hostPath /x does not exist")

    monkeypatch.setattr(resolve, "pod_context", gone)
    worker.core.forget_context()
    found.exits("app/0", 0)
    await world.settle()
    waiting = of(worker)
    assert (waiting.state, waiting.attempt) == ("waiting", 0), "it is no run"
    assert waiting.reason == "CreateContainerError"
    assert "/x does not exist" in waiting.message
    assert waiting.next_start and waiting.next_start > world.now, "it is tried again"


async def test_a_shim_that_does_not_answer_is_ended(
    world: World, found: FakeShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def silent() -> list[Process]:
        await asyncio.Event().wait()
        return []

    async def end_shims(directory: str) -> None:
        ended.append(directory)

    monkeypatch.setattr(found, "state", silent)
    monkeypatch.setattr(module, "ANSWER_TIMEOUT", 0.0)
    monkeypatch.setattr(module, "end_shims", end_shims)
    worker = await back(world, left())
    assert len(ended) == 1 and found.closed.is_set()
    assert worker.record.sandbox == 3


async def test_stop_lets_go_and_harms_nothing(world: World) -> None:
    worker = await world.run()
    await world.close()
    world.log.clear()
    worker.stop()
    await world.settle()
    assert world.shim.closed.is_set()
    assert world.log == []
    assert of(worker).state == "running"


@pytest.mark.parametrize("turns", range(5))
async def test_a_worker_that_was_just_woken_can_be_stopped(world: World, turns: int) -> None:
    worker = world.worker()
    task = asyncio.ensure_future(worker.run())
    await world.settle()
    worker.delete(30)  # so that it sleeps with a timeout
    await world.settle()
    worker.core.wake.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    stopped = task.done()
    while not task.done():  # the cancellation was swallowed
        task.cancel()
        await asyncio.sleep(0)
    assert stopped
