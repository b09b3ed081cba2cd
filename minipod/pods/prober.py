# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes of one pod: when each is asked, and what its answers make of a container.

The rules are those of the kubelet's ``prober``: a ticker per probe whose first tick is the pod's creation, the startup
probe before the others, a readiness probe at once when its container has started, thresholds, and a random first
tick after the agent came back, so that not all pods are probed in one instant. Between two ticks nothing runs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from minipod.api import Container, Probe
from minipod.pods.core import PodCore
from minipod.pods.probes import Outcome, Verdict
from minipod.pods.record import ContainerRecord

log = logging.getLogger(__name__)

Kind = Literal["Startup", "Liveness", "Readiness"]
Ask = Callable[[Container, Probe], Awaitable[Outcome]]
Failed = Callable[[ContainerRecord, Kind, Probe], None]

EVENT_BURST = 25
EVENT_REFILL = 300.0
"""Seconds for one more event; both are Kubernetes' for events about one object (client-go's spam filter)."""

_STAGES = {"Startup": "startup probe", "Readiness": "readiness probe"}


@dataclass(slots=True)
class Tally:
    """Counts answers of one kind in a row.

    Attributes:
        success_threshold, failure_threshold: so many make it what they say.
    """

    success_threshold: int
    failure_threshold: int
    _last: bool | None = None
    _count: int = 0

    def take(self, good: bool) -> bool | None:
        """Return whether the probe now succeeds or fails; ``None`` while there are not enough answers."""
        self._count = self._count + 1 if good == self._last else 1
        self._last = good
        threshold = self.success_threshold if good else self.failure_threshold
        return good if self._count >= threshold else None


class _Budget:
    """Events that may still be told; a probe whose every failure reads differently must not fill the disk."""

    def __init__(self, now: float) -> None:
        self._left, self._then = float(EVENT_BURST), now

    def spend(self, now: float) -> bool:
        """Return whether one more may be told."""
        self._left = min(EVENT_BURST, self._left + (now - self._then) / EVENT_REFILL)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Prober:
    """Probes the containers of one pod.

    Args:
        ask: asks once, see ``Handlers.probe``.
        failed: told of a container whose startup or liveness probe has failed; it is to be killed.
    """

    def __init__(self, core: PodCore, ask: Ask, failed: Failed) -> None:
        self._core = core
        self._ask = ask
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[tuple[str, Kind], asyncio.Task[None]] = {}
        self._first_ticks: dict[tuple[str, Kind], float] = {}
        self._created = self._loop.time()
        self._events = _Budget(self._created)

    # ---- what happens to containers ----

    def started(self, record: ContainerRecord) -> None:
        """A container has begun to run: whether it has started and is ready is for its probes."""
        container = self._core.spec(record.name)
        record.unstarted = container.startup_probe is not None
        record.unready = container.readiness_probe is not None
        if container.startup_probe:
            self._core.timeline.of(record.name).open(_STAGES["Startup"])
            self._begin(record, "Startup", container.startup_probe)
        else:
            self._begin_others(record, container, at_once=True)

    def resume(self, record: ContainerRecord) -> None:
        """Go on with a running container that an earlier agent probed; what it found holds until it changes."""
        container = self._core.spec(record.name)
        probes = (container.startup_probe, container.liveness_probe, container.readiness_probe)
        for kind, probe in zip(("Startup", "Liveness", "Readiness"), probes, strict=True):
            if probe:
                tick = self._loop.time() + random.random() * probe.period_seconds
                self._first_ticks[record.name, kind] = tick  # type: ignore[index]
        if container.startup_probe and record.unstarted:
            self._begin(record, "Startup", container.startup_probe)
        else:
            self._begin_others(record, container, at_once=False)

    def stopping(self, record: ContainerRecord) -> None:
        """A container is being stopped: whether it lives is asked no more, whether it is ready still is."""
        for kind in ("Startup", "Liveness"):
            self._cancel(record.name, kind)

    def ended(self, record: ContainerRecord) -> None:
        """A container has ended."""
        record.unstarted = record.unready = False
        self.forget(record)

    def forget(self, record: ContainerRecord) -> None:
        """Ask no more, and leave what was found as it is."""
        for kind in ("Startup", "Liveness", "Readiness"):
            self._cancel(record.name, kind)

    def _cancel(self, name: str, kind: Kind) -> None:
        if task := self._tasks.pop((name, kind), None):
            task.cancel()

    # ---- asking ----

    def _begin_others(self, record: ContainerRecord, container: Container, at_once: bool) -> None:
        if container.liveness_probe:
            self._begin(record, "Liveness", container.liveness_probe)
        if container.readiness_probe:
            probe = container.readiness_probe
            if at_once:
                self._core.timeline.of(record.name).open(_STAGES["Readiness"])
            self._begin(record, "Readiness", probe, at_once and not probe.initial_delay_seconds)

    def _begin(
        self, record: ContainerRecord, kind: Kind, probe: Probe, at_once: bool = False
    ) -> None:
        self._cancel(record.name, kind)
        if at_once:
            # From now on it ticks from here.
            self._first_ticks[record.name, kind] = self._loop.time()
        task = self._core.spawn(self._probe(record, kind, probe))
        self._tasks[record.name, kind] = task

    async def _probe(self, record: ContainerRecord, kind: Kind, probe: Probe) -> None:
        container = self._core.spec(record.name)
        tally = Tally(probe.success_threshold, probe.failure_threshold)
        tick = self._first_tick(record, kind, probe)
        while True:
            await asyncio.sleep(tick - self._loop.time())
            outcome = await self._once(container, kind, probe)
            changed = None if outcome.verdict is Verdict.ERROR else tally.take(outcome.good)
            if changed is not None and self._became(record, kind, probe, changed):
                return
            tick = self._next_tick(tick, probe.period_seconds)

    def _first_tick(self, record: ContainerRecord, kind: Kind, probe: Probe) -> float:
        """Return the first tick that is not over, and not within the container's initial delay."""
        now, period = self._loop.time(), probe.period_seconds
        origin = self._first_ticks.get((record.name, kind), self._created)
        ready = record.started + probe.initial_delay_seconds - self._core.now()
        earliest = max(now, now + ready)
        return origin + period * max(0, math.ceil((earliest - origin) / period))

    def _next_tick(self, tick: float, period: int) -> float:
        """Return the tick after *tick*; of those that were missed one is made up for, at once (Go's ``Ticker``)."""
        following = tick + period
        late = self._loop.time() - following
        return following + period * math.floor(late / period) if late > 0 else following

    async def _once(self, container: Container, kind: Kind, probe: Probe) -> Outcome:
        try:
            outcome = await self._ask(container, probe)
        except Exception as error:
            log.exception("pod %s: %s probe of %s", self._core.name, kind, container.name)
            outcome = Outcome(Verdict.ERROR, f"internal error: {error!r}")
        words = {
            Verdict.FAILURE: f"{kind} probe failed: {outcome.text}",
            Verdict.ERROR: f"{kind} probe errored and resulted in unknown state: {outcome.text}",
            Verdict.WARNING: f"{kind} probe warning: {outcome.text}",
        }
        if outcome.verdict in words and self._events.spend(self._loop.time()):
            reason = "ProbeWarning" if outcome.verdict is Verdict.WARNING else "Unhealthy"
            self._core.event("Warning", reason, words[outcome.verdict], container.name)
        return outcome

    def _became(self, record: ContainerRecord, kind: Kind, probe: Probe, good: bool) -> bool:
        """Take down what a probe has found; whether it is over for this run of the container."""
        if good and kind in _STAGES:
            self._core.timeline.of(record.name).close(
                _STAGES[kind], f"{kind} probe until it succeeds"
            )
        if kind == "Readiness":
            if record.unready == good:
                record.unready = not good
                self._core.wake.set()
            return False
        if not good:
            self._tasks.pop((record.name, kind), None)  # it is this task that ends
            self._failed(record, kind, probe)
            return True
        if kind == "Startup":
            container = self._core.spec(record.name)
            record.unstarted = False
            self._tasks.pop((record.name, kind), None)
            self._begin_others(record, container, at_once=True)
            self._core.wake.set()
            return True
        return False
