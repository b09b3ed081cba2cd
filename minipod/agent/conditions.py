# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb for conditions of a pod that minipod does not answer for: readiness gates, above all.

In Kubernetes a controller patches the pod's ``status``; here this is the way.
"""

from __future__ import annotations

from typing import Any

from minipod.agent.server import Call, Handler
from minipod.api.names import qualified_name
from minipod.errors import MinipodError, UsageError
from minipod.pods.conditions import OURS
from minipod.pods.manager import PodManager

STATUSES = ("True", "False", "Unknown")


class ConditionService:
    """Sets conditions."""

    def __init__(self, manager: PodManager) -> None:
        self._manager = manager

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that this service answers."""
        return {"condition": self.condition}

    async def condition(self, call: Call) -> dict[str, Any]:
        """Set one condition of a pod."""
        worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
        kind, status = call.text("type"), call.text("status", "True")
        if wrong := qualified_name(kind):
            raise UsageError(wrong.replace("the key", "the condition", 1))
        if kind in OURS:
            raise MinipodError(
                f"condition {kind} is minipod's own", "set one that spec.readinessGates names"
            )
        if status not in STATUSES:
            raise UsageError(f"status {status!r} is not one of {', '.join(STATUSES)}")
        worker.set_condition(kind, status, call.text("reason", ""), call.text("message", ""))
        return {}
