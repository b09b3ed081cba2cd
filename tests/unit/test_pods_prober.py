# SPDX-License-Identifier: GPL-3.0-or-later
"""When probes are asked, and what their answers make of a container: the kubelet's rules, on a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from minipod.api import Container, ExecAction, ObjectMeta, Pod, PodSpec, Probe
from minipod.pods.core import PodCore
from minipod.pods.ports import Tools
from minipod.pods.prober import EVENT_BURST, Kind, Prober, Tally
from minipod.pods.probes import Outcome, Verdict
from minipod.pods.record import ContainerRecord, PodRecord
from tests.clock import on_a_fake_clock, wall

GOOD, BAD = Outcome(Verdict.SUCCESS), Outcome(Verdict.FAILURE, "no")
WARNED, ERROR = Outcome(Verdict.WARNING, "hm"), Outcome(Verdict.ERROR, "what?")
DELAY = 0.25  # seconds between the pod's creation and its container's start


def probe(**fields: Any) -> Probe:
    return Probe(exec=ExecAction(command=["x"]), **fields)


class World:
    """A pod with one container whose probes answer what a test says.

    Attributes:
        asked: when each probe was asked, since the pod's creation.
        failed: when a probe has killed the container, and which one.
    """

    def __init__(self, **probes: Any) -> None:
        container = Container(name="c", image="i", **probes)
        self.names = {
            id(container.startup_probe): "Startup",
            id(container.liveness_probe): "Liveness",
            id(container.readiness_probe): "Readiness",
        }
        self.pod = Pod(
            metadata=ObjectMeta(name="p", namespace="n", uid="u"),
            spec=PodSpec(containers=[container]),
        )
        self.record = ContainerRecord("c")
        self.events: list[tuple[float, str, str, str]] = []
        self.asked: dict[str, list[float]] = {"Startup": [], "Liveness": [], "Readiness": []}
        self.answers: dict[str, Sequence[Outcome]] = {}
        self.takes: dict[str, float] = {}
        self.failed: list[tuple[float, str]] = []
        self.start = asyncio.get_running_loop().time()
        store = SimpleNamespace(event=self._event)
        runtime = SimpleNamespace(facts=SimpleNamespace(boot=""))
        tools = cast(Tools, SimpleNamespace(wall=wall, store=store, runtime=runtime, traces=0))
        self.core = PodCore(self.pod, PodRecord(containers=[self.record]), tools)
        self.prober = Prober(self.core, self._ask, self._failed)

    def _now(self) -> float:
        return round(asyncio.get_running_loop().time() - self.start, 3)

    def _event(self, pod: Pod, kind: str, reason: str, message: str, path: str) -> None:
        assert path == "spec.containers{c}"
        self.events.append((self._now(), kind, reason, message))

    async def _ask(self, container: Container, probe: Probe) -> Outcome:
        name = self.names[id(probe)]
        self.asked[name].append(self._now())
        await asyncio.sleep(self.takes.get(name, 0))
        answers = self.answers.get(name, [GOOD])
        place = min(len(self.asked[name]), len(answers)) - 1
        return answers[place]

    def _failed(self, record: ContainerRecord, kind: Kind, probe: Probe) -> None:
        self.failed.append((self._now(), kind))

    def end(self) -> None:
        self.record.state = "waiting"
        self.prober.ended(self.record)

    def ready(self) -> bool:
        running = self.record.state == "running"
        return running and not (self.record.unstarted or self.record.unready)

    def started(self) -> bool:
        return not self.record.unstarted

    async def begin(self, after: float = DELAY) -> None:
        await asyncio.sleep(after)
        self.record.state, self.record.started = "running", wall()
        self.prober.started(self.record)

    async def until(self, time: float) -> None:
        """Go on to just after *time*, since the pod's creation."""
        await asyncio.sleep(self.start + time + 0.01 - asyncio.get_running_loop().time())


# ---- when -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        # The pod's creation is the first tick; the container starts a quarter of a second later.
        ("liveness_probe", {}, [10, 20, 30]),
        ("liveness_probe", {"period_seconds": 1}, [1, 2, 3]),
        ("startup_probe", {"period_seconds": 7, "failure_threshold": 99}, [7, 14, 21]),
        # "Ready at once": not at the next tick, and from then on it ticks from there.
        ("readiness_probe", {}, [0.25, 10.25, 20.25]),
        ("readiness_probe", {"period_seconds": 1}, [0.25, 1.25, 2.25]),
        # The initial delay is looked at when there is a tick: 5 s with a period of 10 mean nothing.
        ("liveness_probe", {"initial_delay_seconds": 5}, [10, 20, 30]),
        ("liveness_probe", {"initial_delay_seconds": 10}, [20, 30, 40]),
        ("liveness_probe", {"initial_delay_seconds": 5, "period_seconds": 3}, [6, 9, 12]),
        ("readiness_probe", {"initial_delay_seconds": 5, "period_seconds": 3}, [6, 9, 12]),
        ("startup_probe", {"initial_delay_seconds": 9, "failure_threshold": 99}, [10, 20, 30]),
    ],
)  # fmt: skip
def test_the_ticks(kind: str, fields: dict[str, int], expected: list[float]) -> None:
    async def run() -> None:
        world = World(**{kind: probe(**fields)})
        name = kind.removesuffix("_probe").capitalize()
        world.answers[name] = [BAD]
        await world.begin()
        await world.until(expected[-1])
        assert world.asked[name][: len(expected)] == expected

    on_a_fake_clock(run())


@pytest.mark.parametrize(
    ("takes", "expected"),
    [(0.5, [1, 2, 3, 4]), (1, [1, 2, 3, 4]), (1.5, [1, 2.5, 4, 5.5]), (3.5, [1, 4.5, 8, 11.5])],
)
def test_ticks_that_are_missed_are_made_up_for_once(takes: float, expected: list[float]) -> None:
    async def run() -> None:
        world = World(liveness_probe=probe(period_seconds=1))
        world.takes["Liveness"] = takes
        await world.begin()
        await world.until(expected[-1])
        assert world.asked["Liveness"] == expected

    on_a_fake_clock(run())


def test_the_startup_probe_comes_before_the_others() -> None:
    async def run() -> None:
        world = World(
            startup_probe=probe(period_seconds=2, failure_threshold=9),
            liveness_probe=probe(period_seconds=3),
            readiness_probe=probe(period_seconds=5),
        )
        world.answers["Startup"] = [BAD, BAD, GOOD]
        await world.begin()
        await world.until(5.9)
        assert world.asked == {"Startup": [2, 4], "Liveness": [], "Readiness": []}
        seen = [world.started(), world.ready()]
        await world.until(12)
        seen += [world.started(), world.ready()]
        assert seen == [False, False, True, True]
        # Readiness is asked in the same instant; liveness at its next tick, counted from the pod's creation.
        assert world.asked == {"Startup": [2, 4, 6], "Liveness": [6, 9, 12], "Readiness": [6, 11]}

    on_a_fake_clock(run())


def test_the_next_run_begins_anew() -> None:
    async def run() -> None:
        world = World(readiness_probe=probe(period_seconds=4, success_threshold=2))
        await world.begin()
        await world.until(5)
        assert world.ready()
        world.end()
        assert not world.ready()
        await world.until(20)
        assert world.asked["Readiness"] == [0.25, 4.25]
        await world.begin(0)
        await world.until(21)
        assert not world.ready()  # one success is not two
        await world.until(25)
        assert world.ready()
        assert world.asked["Readiness"] == [0.25, 4.25, 20.01, 24.01]

    on_a_fake_clock(run())


# ---- what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("success", "failure", "answers", "expected"),
    [
        (1, 3, "ggg", [True, True, True]),
        (1, 3, "bbbb", [None, None, False, False]),
        (1, 3, "bbgbb", [None, None, True, None, None]),
        (2, 1, "gbgg", [None, False, None, True]),
        (3, 2, "ggbggg", [None, None, None, None, None, True]),
    ],
)
def test_thresholds_count_answers_in_a_row(
    success: int, failure: int, answers: str, expected: list[bool | None]
) -> None:
    tally = Tally(success, failure)
    assert [tally.take(answer == "g") for answer in answers] == expected


def test_without_probes_a_container_is_ready_when_it_runs() -> None:
    async def run() -> None:
        world = World()
        await world.begin()
        assert (world.started(), world.ready()) == (True, True)

    on_a_fake_clock(run())


def test_readiness_is_failure_until_its_first_success_and_never_kills() -> None:
    async def run() -> None:
        world = World(readiness_probe=probe(period_seconds=1, failure_threshold=2))
        world.answers["Readiness"] = [BAD, BAD, BAD, GOOD, BAD, BAD, WARNED]
        seen = []
        await world.begin()
        for second in range(7):
            await world.until(second + 0.25)
            seen.append(world.ready())
        assert seen == [False, False, False, True, True, False, True]
        assert world.failed == []

    on_a_fake_clock(run())


@pytest.mark.parametrize("kind", ["liveness_probe", "startup_probe"])
def test_failures_kill_once_and_end_the_asking(kind: str) -> None:
    async def run() -> None:
        name = kind.removesuffix("_probe").capitalize()
        world = World(**{kind: probe(period_seconds=2, failure_threshold=3)})
        world.answers[name] = [BAD]
        await world.begin()
        await world.until(60)
        assert world.failed == [(6, name)]
        assert world.asked[name] == [2, 4, 6]

    on_a_fake_clock(run())


def test_liveness_failures_must_be_in_a_row() -> None:
    async def run() -> None:
        world = World(liveness_probe=probe(period_seconds=1, failure_threshold=2))
        world.answers["Liveness"] = [BAD, GOOD] * 20
        await world.begin()
        await world.until(30)
        assert world.failed == []

    on_a_fake_clock(run())


def test_what_could_not_be_asked_counts_neither_way() -> None:
    async def run() -> None:
        world = World(
            liveness_probe=probe(period_seconds=1, failure_threshold=1),
            readiness_probe=probe(period_seconds=1, failure_threshold=1),
        )
        world.answers = {"Liveness": [ERROR], "Readiness": [GOOD, ERROR]}
        await world.begin()
        await world.until(9)
        assert world.failed == []
        assert world.ready()

    on_a_fake_clock(run())


def test_an_error_of_ours_ends_no_probe() -> None:
    async def run() -> None:
        world = World(readiness_probe=probe(period_seconds=1))
        world.answers["Readiness"] = []  # IndexError
        await world.begin()
        await world.until(3)
        assert len(world.asked["Readiness"]) == 3
        assert "internal error: IndexError" in world.events[0][3]

    on_a_fake_clock(run())


# ---- stopping, ending, coming back ------------------------------------------------------------------


def test_a_stop_ends_liveness_and_startup_and_not_readiness() -> None:
    async def run() -> None:
        world = World(
            liveness_probe=probe(period_seconds=1), readiness_probe=probe(period_seconds=1)
        )
        world.answers["Readiness"] = [GOOD, BAD]
        await world.begin()
        await world.until(2)
        world.prober.stopping(world.record)
        await world.until(9)
        assert world.asked["Liveness"] == [1, 2]
        assert not world.ready()

    on_a_fake_clock(run())


def test_an_answer_that_comes_after_the_end_changes_nothing() -> None:
    async def run() -> None:
        world = World(readiness_probe=probe(period_seconds=1, timeout_seconds=9))
        world.takes["Readiness"] = 5
        await world.begin()
        await world.until(1)
        world.end()
        await world.until(9)
        assert not world.ready()

    on_a_fake_clock(run())


def test_an_agent_that_comes_back_keeps_what_was_found() -> None:
    async def run() -> None:
        world = World(
            startup_probe=probe(),
            liveness_probe=probe(),
            readiness_probe=probe(failure_threshold=2),
        )
        world.record.state, world.record.started = "running", wall() - 100
        world.record.unstarted = world.record.unready = False
        world.answers["Readiness"] = [BAD]
        world.prober.resume(world.record)
        assert world.ready()
        await world.until(10)
        assert world.asked["Startup"] == []
        (first,), (live,) = world.asked["Readiness"], world.asked["Liveness"]
        assert 0 <= first < 10
        assert first != live  # not all in one instant
        assert world.ready()
        await world.until(20)
        assert not world.ready()

    on_a_fake_clock(run())


def test_an_agent_that_comes_back_goes_on_with_the_startup_probe() -> None:
    async def run() -> None:
        world = World(startup_probe=probe(), readiness_probe=probe())
        world.record.state, world.record.started = "running", wall() - 100
        world.record.unstarted = world.record.unready = True
        world.prober.resume(world.record)
        await world.until(10)
        assert len(world.asked["Startup"]) == 1
        assert (world.started(), world.ready()) == (True, True)

    on_a_fake_clock(run())


# ---- events -----------------------------------------------------------------------------------------


def test_events_have_the_kubelets_words() -> None:
    async def run() -> None:
        world = World(
            startup_probe=probe(period_seconds=1, failure_threshold=9),
            readiness_probe=probe(period_seconds=1),
        )
        world.answers = {"Startup": [BAD, ERROR, GOOD], "Readiness": [WARNED, GOOD]}
        await world.begin()
        await world.until(9)
        assert world.events == [
            (1, "Warning", "Unhealthy", "Startup probe failed: no"),
            (
                2,
                "Warning",
                "Unhealthy",
                "Startup probe errored and resulted in unknown state: what?",
            ),
            (3, "Warning", "ProbeWarning", "Readiness probe warning: hm"),
        ]

    on_a_fake_clock(run())


def test_events_have_a_budget() -> None:
    async def run() -> None:
        world = World(readiness_probe=probe(period_seconds=1))
        world.answers["Readiness"] = [BAD]
        await world.begin()
        await world.until(299)
        assert len(world.events) == EVENT_BURST
        await world.until(1000)
        assert len(world.events) == EVENT_BURST + 3

    on_a_fake_clock(run())
