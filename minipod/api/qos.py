# SPDX-License-Identifier: GPL-3.0-or-later
"""The quality-of-service class of a pod (Kubernetes documentation, concepts/workloads/pods/pod-qos)."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from minipod.api.objects import Pod
from minipod.api.quantity import parse_quantity

QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]

_RESOURCES = ("cpu", "memory")


def qos_class(pod: Pod) -> QosClass:
    """Return the class: Guaranteed when every container's requests equal its limits, for cpu and memory.

    BestEffort is a pod with neither; a quantity of zero counts as none, and a request that is not there
    is the limit. The quantities must be valid.
    """
    guaranteed, any_set = True, False
    for container in pod.spec.containers:
        limits = _amounts(container.resources.limits)
        requests = limits | _amounts(container.resources.requests)
        any_set = any_set or bool(requests)
        guaranteed = guaranteed and len(limits) == len(_RESOURCES) and limits == requests
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _amounts(quantities: dict[str, str]) -> dict[str, Decimal]:
    amounts = {name: parse_quantity(quantities[name]) for name in _RESOURCES if name in quantities}
    return {name: amount for name, amount in amounts.items() if amount}
