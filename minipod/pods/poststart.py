# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs postStart hooks: beside the container's program, which counts as running when its hook has returned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from minipod.api import LifecycleHandler
from minipod.pods.core import PodCore
from minipod.pods.hooks import Hooks
from minipod.pods.record import ContainerRecord


class PostStart:
    """The postStart hooks of one pod.

    Args:
        done: told of a container whose hook has returned.
        failed: told of one whose hook has failed; it is to be killed.
    """

    def __init__(
        self,
        core: PodCore,
        hooks: Hooks,
        done: Callable[[ContainerRecord], None],
        failed: Callable[[ContainerRecord], None],
    ) -> None:
        self._core = core
        self._hooks = hooks
        self._done = done
        self._failed = failed
        self._running: dict[str, asyncio.Task[None]] = {}

    def begin(self, record: ContainerRecord) -> None:
        """Run the hook of a container whose program has just started, if it has one; else it is done at once."""
        lifecycle = self._core.spec(record.name).lifecycle
        hook = lifecycle.post_start if lifecycle else None
        if hook is None:
            self._done(record)
            return
        record.state, record.hooking = "starting", True
        self._core.timeline.of(record.name).open("postStart")
        self._running[record.name] = self._core.spawn(self._run(record, hook))

    def ended(self, record: ContainerRecord) -> None:
        """The container has ended, or is to be stopped: its hook goes with it."""
        record.hooking = False
        self.forget(record)

    def forget(self, record: ContainerRecord) -> None:
        """Leave the hook to the next agent, which runs it again."""
        if task := self._running.pop(record.name, None):
            task.cancel()

    async def _run(self, record: ContainerRecord, hook: LifecycleHandler) -> None:
        done = await self._hooks.run(record, "PostStart", hook)
        self._running.pop(record.name, None)
        record.hooking = False
        self._core.timeline.of(record.name).close("postStart", "postStart hook")
        (self._done if done else self._failed)(record)
