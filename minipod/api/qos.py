# SPDX-License-Identifier: GPL-3.0-or-later
"""The quality-of-service class of a pod (Kubernetes documentation, concepts/workloads/pods/pod-qos)."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal, get_args

from minipod.api.amounts import is_set
from minipod.api.objects import Pod, ResourceRequirements
from minipod.api.quantity import parse_quantity

QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]

QOS_CLASSES: tuple[QosClass, ...] = get_args(QosClass)
_RESOURCES = ("cpu", "memory")


def qos_class(pod: Pod) -> QosClass:
    """Return the class: Guaranteed when all requests equal the limits, for cpu and memory.

    What the pod declares for itself decides, if it does; else every container has to meet it, init containers too.
    BestEffort is a pod with neither; a quantity of zero counts as none, and a request that is not there
    is the limit. The quantities must be valid.
    """
    guaranteed, any_set = True, False
    for resources in _deciding(pod):
        limits = _amounts(resources.limits)
        requests = limits | _amounts(resources.requests)
        any_set = any_set or bool(requests)
        guaranteed = guaranteed and len(limits) == len(_RESOURCES) and limits == requests
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _deciding(pod: Pod) -> Iterator[ResourceRequirements]:
    if is_set(pod.spec.resources):
        yield pod.spec.resources
        return
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        yield container.resources


def _amounts(quantities: dict[str, str]) -> dict[str, Decimal]:
    amounts = {name: parse_quantity(quantities[name]) for name in _RESOURCES if name in quantities}
    return {name: amount for name, amount in amounts.items() if amount}
