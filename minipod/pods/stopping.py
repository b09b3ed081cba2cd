# SPDX-License-Identifier: GPL-3.0-or-later
"""How running containers are stopped: the preStop hook, their turn, the stop signal, and in the end SIGKILL.

Level-driven like the worker: :meth:`Stopping.go_on` looks how far each stop has come and does what is next. The
deadline is in the container's record, so an agent that comes back goes on with it; the hook and the signal may then
be repeated, as by a kubelet that was restarted.

The numbers are the kubelet's (``killContainer``): the hook, and a sidecar's wait for its turn, take from the grace
period; but a container that got its signal is never killed within the next two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from minipod.plan import process_key
from minipod.pods import order
from minipod.pods.core import PodCore
from minipod.pods.record import ContainerRecord
from minipod.pods.signals import parse_signal

MINIMUM_GRACE = 2.0  # the kubelet's minimumGracePeriodInSeconds

Hook = Callable[[ContainerRecord], Coroutine[None, None, object] | None]


@dataclass(slots=True)
class _Stop:
    """How far the stop of one run has come.

    Attributes:
        hook: its preStop hook, while and after it runs.
        signalled: when it got its signal.
        killed: it was killed.
    """

    hook: asyncio.Task[None] | None = None
    signalled: float | None = None
    killed: bool = False


class Stopping:
    """Stops the containers of one pod.

    Attributes:
        on_stop: told of each container that is about to be stopped, before anything else.
        pre_stop: returns what calls a container's preStop hook, which is cancelled when time is up; None: it has none.
    """

    def __init__(self, core: PodCore) -> None:
        self._core = core
        self._stops: dict[str, _Stop] = {}
        self.on_stop: Callable[[ContainerRecord], None] = lambda record: None
        self.pre_stop: Hook = lambda record: None

    def ask(self, record: ContainerRecord, by: float, message: str = "") -> None:
        """Have a container stopped that is killed at *by*, in seconds since the epoch; an earlier time stays.

        *message* is for the event, and says why.
        """
        if record.stop_by is None:
            record.stop_why = message
        if record.stop_by is None or by < record.stop_by:
            record.stop_by = by
            self._core.wake.set()

    def go_on(self) -> None:
        """Do what is next for every container that is to be stopped."""
        keys = set()
        for record in order.live(self._core.record):
            if record.stop_by is not None:
                key = process_key(record.name, record.attempt)
                keys.add(key)
                self._next(key, record, record.stop_by)
        for key in self._stops.keys() - keys:
            self._forget(self._stops.pop(key))

    def next_due(self) -> float | None:
        """Return when :meth:`go_on` has something to do even if nothing happens."""
        now = self._core.now()
        due = []
        for record in order.live(self._core.record):
            if record.stop_by is not None:
                stop = self._stops.get(process_key(record.name, record.attempt))
                if stop is None or not stop.killed:
                    due.append(record.stop_by if now < record.stop_by else self._kill_at(record))
        return min(due, default=None)

    def is_overdue(self) -> bool:
        """Whether every container that lives has had its time."""
        now = self._core.now()
        return all(
            record.stop_by is not None and now >= self._kill_at(record)
            for record in order.live(self._core.record)
        )

    # ---- one container ----

    def _next(self, key: str, record: ContainerRecord, by: float) -> None:
        core, now = self._core, self._core.now()
        if record.is_up:
            stop = self._stops.get(key)
            if stop is None:
                stop = self._stops[key] = self._begin(record)
            if stop.hook is not None and not stop.hook.done():
                if now < by:
                    return
                stop.hook.cancel()
            if stop.signalled is None:
                if now < by and not order.may_stop(core.pod, core.record, record.name):
                    return
                stop.signalled = now
                self._signal(key, record)
        # One that is just being started gets its signal when it runs: before that it could not handle it.
        if now >= self._kill_at(record):
            stop = self._stops.setdefault(key, _Stop())
            if not stop.killed:
                stop.killed = True
                core.spawn(core.tools.runtime.cgroups.kill(core.cgroup_of(record)))

    def _begin(self, record: ContainerRecord) -> _Stop:
        words = record.stop_why or f"Stopping container {record.name}"
        self._core.event("Normal", "Killing", words, record.name)
        self.on_stop(record)
        hook = self.pre_stop(record)
        return _Stop(self._core.spawn(self._hook(hook)) if hook else None)

    async def _hook(self, hook: Coroutine[None, None, object]) -> None:
        try:
            await hook
        finally:
            self._core.wake.set()

    def _signal(self, key: str, record: ContainerRecord) -> None:
        shim = self._core.shim
        if shim is None:
            return

        async def send() -> None:
            with contextlib.suppress(OSError):
                await shim.signal(key, self._stop_signal(record))

        # Not waited for: a shim that is held must not hold up the end of the grace period.
        self._core.spawn(send())

    def _stop_signal(self, record: ContainerRecord) -> int:
        container = self._core.spec(record.name)
        if container.lifecycle and container.lifecycle.stop_signal:
            return parse_signal(container.lifecycle.stop_signal)
        image = self._core.tools.images.get(container.image)
        return parse_signal(image.config.stop_signal if image else "")

    def _kill_at(self, record: ContainerRecord) -> float:
        """Return when a container that is being stopped is killed."""
        by = record.stop_by or 0.0
        stop = self._stops.get(process_key(record.name, record.attempt))
        if not record.is_up:
            return by
        signalled = stop.signalled if stop else None
        return max(by, (by if signalled is None else signalled) + MINIMUM_GRACE)

    def close(self) -> None:
        """Let go of the hooks: the pod goes, or this agent does, and the next one runs them again."""
        for stop in self._stops.values():
            self._forget(stop)
        self._stops.clear()

    @staticmethod
    def _forget(stop: _Stop) -> None:
        if stop.hook is not None:
            stop.hook.cancel()
