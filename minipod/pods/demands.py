# SPDX-License-Identifier: GPL-3.0-or-later
"""What all pods of an agent ask for together, and the cgroups above theirs, which weigh that much.

A pod's sandbox is made with the weights that hold with it (``plan/sandbox.py``); here they are set when a pod leaves,
or asks for something else. A class without pods has no cgroup.
"""

from __future__ import annotations

import logging

from minipod.api import Pod, QosClass, qos_class
from minipod.plan import Demand, class_cgroup, class_cgroups
from minipod.plan.resources import demand
from minipod.runtime.cgroups import Cgroups

log = logging.getLogger(__name__)


class Demands:
    """Knows which pods have a sandbox. Without *cgroups*, it only counts."""

    def __init__(self, cgroups: Cgroups | None = None) -> None:
        self._cgroups = cgroups
        self._pods: dict[str, tuple[QosClass, Demand]] = {}

    def total(self) -> Demand:
        """Return what the pods ask for together."""
        asked = [each for _, each in self._pods.values()]
        return Demand(
            sum(each.burstable_cpu for each in asked),
            sum(each.burstable_memory for each in asked),
            sum(each.memory for each in asked),
        )

    def enter(self, pod: Pod) -> None:
        """Count *pod*: before its sandbox is made, and again when it asks for something else."""
        self._pods[pod.metadata.uid] = qos_class(pod), demand([pod])

    def leave(self, uid: str) -> None:
        """Count a pod no more, and take its weight from its class; it has no cgroup any more."""
        quality, _ = self._pods.pop(uid, (None, None))
        if quality is None or self._cgroups is None:
            return
        if quality != "Guaranteed" and all(other != quality for other, _ in self._pods.values()):
            self._cgroups.remove_empty(class_cgroup(self._cgroups.parent, quality))
        if self._pods:
            self.settle()

    def settle(self) -> None:
        """Set the weights that hold now. What cannot be set is logged: no pod can do anything about it."""
        if self._cgroups is None:
            return
        qualities = {quality for quality, _ in self._pods.values()}
        for quality in sorted(qualities):
            facts, parent = self._cgroups.facts, self._cgroups.parent
            for step in class_cgroups(parent, quality, self.total(), facts):
                try:
                    self._cgroups.create(step)
                except OSError as error:
                    log.warning("cgroup %s: %s", step.path, error)
