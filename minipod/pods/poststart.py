# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs postStart hooks: beside the container's program, which counts as running when its hook has returned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from minipod.pods.core import PodCore
from minipod.pods.handlers import Handlers, HookFailed
from minipod.pods.record import ContainerRecord

log = logging.getLogger(__name__)


class PostStart:
    """The postStart hooks of one pod.

    Args:
        done: told of a container whose hook has returned.
        failed: told of one whose hook has failed; it is to be killed.
    """

    def __init__(
        self,
        core: PodCore,
        handlers: Handlers,
        done: Callable[[ContainerRecord], None],
        failed: Callable[[ContainerRecord], None],
    ) -> None:
        self._core = core
        self._handlers = handlers
        self._done = done
        self._failed = failed
        self._hooks: dict[str, asyncio.Task[None]] = {}

    def begin(self, record: ContainerRecord) -> None:
        """Run the hook of a container whose program has just started, if it has one; else it is done at once."""
        lifecycle = self._core.spec(record.name).lifecycle
        if lifecycle is None or lifecycle.post_start is None:
            self._done(record)
            return
        record.state, record.hooking = "starting", True
        self._hooks[record.name] = self._core.spawn(self._run(record))

    def ended(self, record: ContainerRecord) -> None:
        """The container has ended, or is to be stopped: its hook goes with it."""
        record.hooking = False
        self.forget(record)

    def forget(self, record: ContainerRecord) -> None:
        """Leave the hook to the next agent, which runs it again."""
        if task := self._hooks.pop(record.name, None):
            task.cancel()

    async def _run(self, record: ContainerRecord) -> None:
        core = self._core
        container = core.spec(record.name)
        assert container.lifecycle and container.lifecycle.post_start, "see begin"

        def warn(reason: str, message: str) -> None:
            core.event("Warning", reason, message, record.name)

        try:
            await self._handlers.hook(container, container.lifecycle.post_start, warn)
        except HookFailed as error:
            log.info("pod %s: postStart of container %s: %s", core.name, record.name, error)
            # Not its words, which may hold what a server or a command wrote.
            warn("FailedPostStartHook", "PostStartHook failed")
            self._returned(record, self._failed)
        else:
            self._returned(record, self._done)

    def _returned(self, record: ContainerRecord, tell: Callable[[ContainerRecord], None]) -> None:
        self._hooks.pop(record.name, None)
        record.hooking = False
        tell(record)
