# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the hooks of one pod's containers and tells of those that fail, with the kubelet's words."""

from __future__ import annotations

import logging

from minipod.api import LifecycleHandler
from minipod.pods.core import PodCore
from minipod.pods.handlers import Handlers, HookFailed
from minipod.pods.record import ContainerRecord

log = logging.getLogger(__name__)


class Hooks:
    """The hooks ``PostStart`` and ``PreStop`` of one pod."""

    def __init__(self, core: PodCore, handlers: Handlers) -> None:
        self._core = core
        self._handlers = handlers

    async def run(self, record: ContainerRecord, name: str, handler: LifecycleHandler) -> bool:
        """Run the hook *name* of a container for as long as it takes; return whether it did its work."""
        core = self._core

        def warn(reason: str, message: str) -> None:
            core.event("Warning", reason, message, record.name)

        try:
            await self._handlers.hook(core.spec(record.name), handler, warn)
        except HookFailed as error:
            log.info("pod %s: %s of container %s: %s", core.name, name, record.name, error)
            # Not its words, which may hold what a server or a command wrote.
            warn(f"Failed{name}Hook", f"{name}Hook failed")
            return False
        return True
