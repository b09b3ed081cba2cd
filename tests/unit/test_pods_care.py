# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks, probes and stops of a whole pod on a fake clock: what happens when, second by second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from minipod.api import (
    Container,
    ExecAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    Probe,
    SleepAction,
)
from minipod.plan.steps import Exec, Launch
from minipod.pods.record import ContainerRecord
from minipod.pods.worker import PodWorker
from minipod.runtime.runtime import Origin
from minipod.runtime.shim import Process
from tests.clock import on_a_fake_clock, wall
from tests.unit.test_plan_checker import pod
from tests.unit.test_pods_worker import FakeCgroups, FakeShim, World

FOREVER = 1e6
STOP, KILL = 10, 9  # the image says SIGUSR1
Moment = tuple[float, str]


class Story(World):
    """A world whose time is the loop's, and that notes what happens.

    Attributes:
        commands: how long a command takes and its exit code, by its first word; 0 seconds and 0 if not given.
        deaf: containers that do not end by a signal.
        history: what happened, and when.
    """

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start = asyncio.get_running_loop().time()
        self.history: list[Moment] = []
        self.commands: dict[str, tuple[float, int]] = {}
        self.deaf: set[str] = set()
        super().__init__(top, monkeypatch)
        story = self

        async def signal(shim: FakeShim, key: str, number: int) -> bool:
            if key.startswith("exec/"):
                story.note(f"kill {story.running.pop(key, key)}")
                shim.exits(key, KILL)
                return True
            story.note(f"signal {number} {key}")
            if key.split("/", maxsplit=1)[0] not in story.deaf and key in shim.running:
                shim.exits(key, 0)
            return True

        leave = FakeShim.exits

        def exits(shim: FakeShim, key: str, status: int = 0) -> None:
            if key in shim.running:
                leave(shim, key, status)

        async def kill(cgroups: FakeCgroups, path: str) -> None:
            name, _, attempt = path.rsplit("/", 1)[1].rpartition(".")
            key = f"{name}/{attempt}"
            if story.shims and key in story.shim.running:
                story.note(f"signal {KILL} {key}")
                story.shim.exits(key, KILL)

        monkeypatch.setattr(FakeShim, "signal", signal)
        monkeypatch.setattr(FakeShim, "exits", exits)
        monkeypatch.setattr(FakeCgroups, "kill", kill)
        self.runtime.execute = self._execute  # type: ignore[attr-defined]
        self.running: dict[str, str] = {}
        tell = self.store.event

        def event(of: Pod, kind: str, reason: str, message: str, field_path: str = "") -> None:
            tell(of, kind, reason, message, field_path)
            if reason not in ("Pulled", "Created"):
                self.note(f"{reason}: {message}")

        monkeypatch.setattr(self.store, "event", event)

    @property
    def now(self) -> float:
        """The time of day."""
        return wall()

    @now.setter
    def now(self, value: float) -> None:
        """Time passes by itself."""

    def note(self, what: str) -> None:
        self.history.append((round(asyncio.get_running_loop().time() - self.start, 2), what))

    async def _execute(
        self, shim: FakeShim, launch: Launch, fds: Sequence[int], origin: Origin
    ) -> Process:
        (step,) = (s for s in launch.steps if isinstance(s, Exec))
        word = step.argv[0]
        self.note(f"run {word}")
        self.running[launch.key] = word
        seconds, code = self.commands.get(word, (0, 0))
        process = shim.start(launch.key)

        def end() -> None:
            if launch.key in shim.running:
                self.running.pop(launch.key)
                self.note(f"end {word}")
                shim.exits(launch.key, code << 8)

        asyncio.get_running_loop().call_later(seconds, end)
        return process

    async def until(self, second: float) -> None:
        """Go on to just after *second*."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.start + second + 0.01 - loop.time())

    def about(self, *words: str) -> list[Moment]:
        """What happened that begins with one of *words*."""
        return [moment for moment in self.history if moment[1].startswith(words)]


Tell = Callable[[Story], Coroutine[Any, Any, None]]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Tell], None]:
    """Returns what runs a story from its begin to its end."""

    def tell(story: Tell) -> None:
        async def run() -> None:
            made = Story(tmp_path, monkeypatch)
            await story(made)
            await made.close()

        on_a_fake_clock(run())

    return tell


def hook(word: str) -> LifecycleHandler:
    return LifecycleHandler(exec=ExecAction(command=[word]))


def probe(word: str, **fields: Any) -> Probe:
    return Probe(exec=ExecAction(command=[word]), period_seconds=1, failure_threshold=1, **fields)


def one(spec: dict[str, Any] | None = None, **container: Any) -> Pod:
    return pod(Container(name="app", image="img", **container), **(spec or {}))


def record(worker: PodWorker, name: str = "app") -> ContainerRecord:
    return worker.record.container(name)


# ---- postStart ---------------------------------------------------------------------------------------


def test_a_container_runs_when_its_post_start_hook_has_returned(
    told: Callable[[Tell], None],
) -> None:
    async def story(it: Story) -> None:
        it.commands["post"] = 3, 0
        worker = await it.run(
            one(lifecycle=Lifecycle(post_start=hook("post")), readiness_probe=probe("ask"))
        )
        await it.until(2)
        assert (record(worker).state, record(worker).hooking) == ("starting", True)
        state = worker.pod.status.container_statuses[0].state
        assert state.waiting and state.waiting.reason == "ContainerCreating"
        await it.until(4)
        assert it.about("Started", "run", "end") == [
            (0, "Started: Started container app"),
            (0, "run post"),
            (3, "end post"),
            (3, "run ask"),
            (3, "end ask"),
            (4, "run ask"),
            (4, "end ask"),
        ]
        assert worker.pod.status.container_statuses[0].ready

    told(story)


def test_a_failed_post_start_hook_kills_with_grace(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        it.commands = {"post": (2, 1), "pre": (1, 0)}
        it.deaf.add("app")
        lifecycle = Lifecycle(post_start=hook("post"), pre_stop=hook("pre"))
        spec = {"termination_grace_period_seconds": 7, "restart_policy": "Never"}
        worker = await it.run(one(spec, lifecycle=lifecycle))
        await it.until(20)
        assert it.history[1:] == [
            (0, "run post"),
            (2, "end post"),
            (2, "FailedPostStartHook: PostStartHook failed"),
            (2, "Killing: FailedPostStartHook"),
            (2, "run pre"),
            (3, "end pre"),
            (3, f"signal {STOP} app/0"),
            (9, f"signal {KILL} app/0"),
        ]
        assert worker.pod.status.phase == "Failed"

    told(story)


def test_those_after_wait_for_a_post_start_hook_once(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        it.commands["post"] = 5, 0
        first = Container(name="a", image="img", lifecycle=Lifecycle(post_start=hook("post")))
        worker = await it.run(pod(first, Container(name="b", image="img")))
        await it.until(4)
        assert record(worker, "b").state == "waiting"
        await it.until(6)
        assert it.about("Started") == [
            (0, "Started: Started container a"),
            (5, "Started: Started container b"),
        ]
        it.shim.exits("b/0", 1 << 8)
        it.shim.exits("a/0", 1 << 8)
        await it.settle()
        assert record(worker, "b").state == "running"

    told(story)


def test_a_container_that_ends_takes_its_hook_along(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        it.commands["post"] = FOREVER, 0
        spec = {"restart_policy": "Never"}
        worker = await it.run(one(spec, lifecycle=Lifecycle(post_start=hook("post"))))
        await it.until(1)
        it.shim.exits("app/0", 0)
        await it.until(2)
        assert it.about("kill") == [(1.01, "kill post")]
        assert worker.pod.status.phase == "Succeeded"

    told(story)


# ---- stopping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pre", "grace", "expected"),
    [
        (None, 10, [(0, "signal 10 app/0"), (10, "gone")]),
        ((4, 0), 10, [(0, "run pre"), (4, "end pre"), (4, "signal 10 app/0"), (10, "gone")]),
        (
            (4, 1),
            10,
            [
                (0, "run pre"),
                (4, "end pre"),
                (4, "FailedPreStopHook: PreStopHook failed"),
                (4, "signal 10 app/0"),
                (10, "gone"),
            ],
        ),
        # Two seconds at least from the signal on, also when the hook has used up all.
        (
            (9, 0),
            10,
            [(0, "run pre"), (9, "end pre"), (9, "signal 10 app/0"), (11, "gone")],
        ),
        (
            (FOREVER, 0),
            10,
            [(0, "run pre"), (10, "signal 10 app/0"), (12, "gone")],
        ),
        (None, 1, [(0, "signal 10 app/0"), (2, "gone")]),
        # No time: neither hook nor signal.
        ((0, 0), 0, [(0, "gone")]),
    ],
)  # fmt: skip
def test_the_grace_period_is_one_budget(
    told: Callable[[Tell], None], pre: tuple[float, int] | None, grace: int, expected: list[Moment]
) -> None:
    async def story(it: Story) -> None:
        it.deaf.add("app")
        lifecycle = Lifecycle(pre_stop=hook("pre")) if pre else None
        if pre:
            it.commands["pre"] = pre
        worker = await it.run(one(lifecycle=lifecycle))
        it.start, it.history = asyncio.get_running_loop().time(), []
        worker.delete(grace)
        await worker.gone.wait()
        it.note("gone")
        assert it.about("run", "end", "signal", "Failed", "gone") == expected

    told(story)


def test_a_stopped_container_that_ends_ends_its_stop(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        it.commands["pre"] = FOREVER, 0
        worker = await it.run(one(lifecycle=Lifecycle(pre_stop=hook("pre"))))
        worker.delete(30)
        await it.until(3)
        it.shim.exits("app/0", 0)
        await it.until(4)
        assert worker.gone.is_set()
        assert it.about("signal") == []
        assert it.about("kill") == [(3.01, "kill pre")]

    told(story)


def test_a_hook_that_hangs_holds_up_no_other_container(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        it.commands["pre"] = FOREVER, 0
        hangs = Container(name="a", image="img", lifecycle=Lifecycle(pre_stop=hook("pre")))
        worker = await it.run(pod(hangs, Container(name="b", image="img")))
        worker.delete(10)
        await it.until(20)
        assert it.about("signal") == [(0, "signal 10 b/0"), (10, "signal 10 a/0")]

    told(story)


def test_a_shorter_deletion_shortens_the_hook(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        it.commands["pre"] = FOREVER, 0
        worker = await it.run(one(lifecycle=Lifecycle(pre_stop=hook("pre"))))
        worker.delete(1000)
        await it.until(5)
        worker.delete(3)
        await it.until(20)
        assert it.about("run", "signal") == [(0, "run pre"), (8.01, "signal 10 app/0")]

    told(story)


def test_a_sleep_is_cut_off_by_the_end_of_the_container(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        sleep = LifecycleHandler(sleep=SleepAction(seconds=6))
        worker = await it.run(one(lifecycle=Lifecycle(pre_stop=sleep)))
        worker.delete(10)
        await it.until(20)
        assert it.about("signal") == [(6, "signal 10 app/0")]

    told(story)


@pytest.mark.parametrize(
    ("name", "number"), [("SIGUSR2", 12), ("SIGRTMIN+3", 37), (None, 10)]
)  # the image says SIGUSR1
def test_the_manifests_stop_signal_comes_before_the_images(
    told: Callable[[Tell], None], name: str | None, number: int
) -> None:
    async def story(it: Story) -> None:
        worker = await it.run(one(lifecycle=Lifecycle(stop_signal=name)))
        worker.delete(10)
        await it.until(1)
        assert it.about("signal") == [(0, f"signal {number} app/0")]

    told(story)


# ---- probes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "own", "pods", "wait"),
    [
        ("liveness", None, 30, 30),
        ("liveness", 5, 30, 5),
        ("startup", 5, 30, 5),
        ("startup", 1, 0, 2),
    ],
)
def test_a_failed_probe_kills_with_its_own_grace_period(
    told: Callable[[Tell], None], kind: str, own: int | None, pods: int, wait: int
) -> None:
    async def story(it: Story) -> None:
        it.commands["ask"] = 0, 1
        it.deaf.add("app")
        asks = {f"{kind}_probe": probe("ask", termination_grace_period_seconds=own)}
        await it.run(one({"termination_grace_period_seconds": pods}, **asks))
        await it.until(wait)
        assert it.about("Unhealthy", "Killing", "signal")[:4] == [
            (0, f"Unhealthy: {kind.capitalize()} probe failed: "),
            (0, f"Killing: Container app failed {kind} probe, will be restarted"),
            (0, f"signal {STOP} app/0"),
            (wait, f"signal {KILL} app/0"),
        ]
        assert it.about("Started")[-1][0] == wait  # the first restart is at once

    told(story)


def test_no_probe_is_asked_of_a_container_that_waits(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        worker = await it.run(one(liveness_probe=probe("ask"), readiness_probe=probe("ready")))
        await it.until(2.5)
        it.shim.exits("app/0", 1 << 8)
        await it.until(2.6)
        it.shim.exits("app/1", 1 << 8)  # back-off
        before = len(it.about("run"))
        await it.until(9)
        assert len(it.about("run")) == before
        assert not worker.pod.status.container_statuses[0].ready

    told(story)


def test_a_deletion_asks_readiness_and_not_liveness(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        it.deaf.add("app")
        worker = await it.run(one(liveness_probe=probe("ask"), readiness_probe=probe("ready")))
        await it.until(2.5)
        it.commands = {"ask": (0, 1), "ready": (0, 1)}
        worker.delete(5)
        await it.until(4.5)
        assert it.about("Unhealthy") == [
            (3, "Unhealthy: Readiness probe failed: "),
            (4, "Unhealthy: Readiness probe failed: "),
        ]
        assert not worker.pod.status.container_statuses[0].ready
        await it.until(30)
        assert worker.gone.is_set()
        assert it.about("run")[-1][0] < 8  # and nothing after the pod's end

    told(story)


def test_a_sidecar_s_startup_probe_holds_up_the_next(told: Callable[[Tell], None]) -> None:
    async def story(it: Story) -> None:
        it.commands["up"] = 0, 1
        sidecar = Container(
            name="side", image="img", restart_policy="Always", startup_probe=probe("up")
        )
        sidecar.startup_probe.failure_threshold = 99  # type: ignore[union-attr]
        worker = await it.run(pod(Container(name="app", image="img"), init_containers=[sidecar]))
        await it.until(4.5)
        assert record(worker).state == "waiting"
        it.commands["up"] = 0, 0
        await it.until(6)
        assert it.about("Started")[-1] == (5, "Started: Started container app")

    told(story)
