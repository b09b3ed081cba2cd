# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks after a pod's containers while they run: their hooks and their probes, and what follows from those.

It hears of a container's start, stop and end from ``Containers`` and ``Stopping``, and asks for a stop when a probe or
a postStart hook has failed; whether the container runs again is not decided here.
"""

from __future__ import annotations

from collections.abc import Coroutine

from minipod.api import Probe
from minipod.pods import order
from minipod.pods.commands import Commands
from minipod.pods.containers import Containers
from minipod.pods.core import PodCore
from minipod.pods.handlers import Handlers
from minipod.pods.hooks import Hooks
from minipod.pods.poststart import PostStart
from minipod.pods.prober import Kind, Prober
from minipod.pods.record import ContainerRecord
from minipod.pods.stopping import Stopping

_KILLED = 137


class Care:
    """Hooks and probes of one pod."""

    def __init__(self, core: PodCore, containers: Containers, stopping: Stopping) -> None:
        self._core = core
        self._stopping = stopping
        commands = Commands(core, containers.execs, containers.running)
        handlers = Handlers(commands, self._address)
        self._hooks = Hooks(core, handlers)
        self._prober = Prober(core, handlers.probe, self._probe_failed)
        self._post_start = PostStart(core, self._hooks, self._runs, self._post_start_failed)
        containers.on_running = self._post_start.begin
        containers.on_found = self._prober.resume
        containers.on_over = self._over
        stopping.on_stop = self._stop
        stopping.pre_stop = self._pre_stop

    def close(self) -> None:
        """Leave the pod to itself: its sandbox goes, or this agent does."""
        self._stopping.close()
        for record in self._core.record.containers:
            self._prober.forget(record)
            self._post_start.forget(record)

    def _address(self) -> str:
        """Return where the pod is reached from the host."""
        core = self._core
        return core.record.address or core.tools.runtime.network.host_ip()

    # ---- what happens to a container ----

    def _runs(self, record: ContainerRecord) -> None:
        """A container's program runs, and its postStart hook has returned."""
        record.state = "running"
        self._prober.started(record)
        self._core.wake.set()

    def _stop(self, record: ContainerRecord) -> None:
        """A container is about to be stopped."""
        self._prober.stopping(record)
        if record.hooking:
            self._post_start.ended(record)
            record.state = "running"

    def _over(self, record: ContainerRecord) -> None:
        """A container has ended."""
        self._prober.ended(record)
        self._post_start.ended(record)

    # ---- what follows from probes and hooks ----

    def _probe_failed(self, record: ContainerRecord, kind: Kind, probe: Probe) -> None:
        core = self._core
        words = f"Container {record.name} failed {kind.lower()} probe"
        if order.restarts(core.pod, core.member(record.name), _KILLED):
            words += ", will be restarted"
        self._kill(record, words, probe.termination_grace_period_seconds)

    def _post_start_failed(self, record: ContainerRecord) -> None:
        record.state = "running"
        self._kill(record, "FailedPostStartHook")

    def _kill(self, record: ContainerRecord, words: str, grace: int | None = None) -> None:
        core = self._core
        seconds = core.pod.spec.termination_grace_period_seconds if grace is None else grace
        self._stopping.ask(record, core.now() + seconds, words)

    def _pre_stop(self, record: ContainerRecord) -> Coroutine[None, None, bool] | None:
        """Return what runs a container's preStop hook; None: it has none."""
        lifecycle = self._core.spec(record.name).lifecycle
        hook = lifecycle.pre_stop if lifecycle else None
        return self._hooks.run(record, "PreStop", hook) if hook else None
