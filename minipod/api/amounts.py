# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums over a pod's requests and limits, and what of them a container is bound by.

The rules are those of ``k8s.io/component-helpers/resource``: init containers run one after the other, each beside
the sidecars that were started before it, and then all sidecars beside the containers. So the pod needs the larger of
what the containers with all sidecars ask for and what any init container asks for with the sidecars before it.
What the pod itself declares in ``spec.resources`` takes the place of the sum.

Amounts are exact: cpu in CPUs, all else in bytes; :func:`millis` and :func:`whole` round them, upwards.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from minipod.api.objects import Container, Pod, ResourceRequirements
from minipod.api.quantity import format_quantity, parse_quantity

Amounts = dict[str, Decimal]
"""Exact quantities by resource."""

HUGEPAGES = "hugepages-"
POD_LEVEL = ("cpu", "memory")
"""What ``spec.resources`` may name, besides ``hugepages-<size>``."""


def parse(quantities: dict[str, str]) -> Amounts:
    """Return valid quantities as numbers."""
    return {name: parse_quantity(text) for name, text in quantities.items()}


def millis(amount: Decimal) -> int:
    """Return an amount of cpu in thousandths of a CPU, rounded up."""
    return int((amount * 1000).to_integral_value(ROUND_CEILING))


def whole(amount: Decimal) -> int:
    """Return an amount as a whole number, rounded up."""
    return int(amount.to_integral_value(ROUND_CEILING))


def text(resource: str, amount: Decimal) -> str:
    """Return an amount of *resource* as Kubernetes writes it: cpu as 1500m, all else as 512Mi."""
    return format_quantity(amount, binary=resource != "cpu")


def at_pod_level(name: str) -> bool:
    """Whether a pod itself can ask for this resource."""
    return name in POD_LEVEL or name.startswith(HUGEPAGES)


def is_sidecar(container: Container) -> bool:
    """Whether an init container goes on running beside the containers (``restartPolicy: Always``)."""
    return container.restart_policy == "Always"


def of_container(container: Container, kind: str) -> Amounts:
    """Return a container's ``requests`` or ``limits``; a request that is not given is the limit."""
    resources = container.resources
    limits = {name: text for name, text in resources.limits.items() if name != "pids"}
    return parse(limits if kind == "limits" else {**limits, **resources.requests})


def sum_of_containers(pod: Pod, kind: str) -> Amounts:
    """Return what the containers of a pod need together, without regard to ``spec.resources``.

    Args:
        kind: ``requests`` or ``limits``.
    """
    total: Amounts = {}
    for container in pod.spec.containers:
        _add(total, of_container(container, kind))
    sidecars: Amounts = {}
    most: Amounts = {}
    for container in pod.spec.init_containers:
        amounts = of_container(container, kind)
        if is_sidecar(container):
            _add(total, amounts)
            _add(sidecars, amounts)
            amounts = sidecars
        else:
            _add(amounts, sidecars)
        _raise(most, amounts)
    _raise(total, most)
    return total


def of_pod(pod: Pod, kind: str) -> Amounts:
    """Return what a pod asks for (``requests``) or may use at most (``limits``).

    A limit of the pod counts although a container may have none: see :func:`declares_for_all`.
    """
    resources = pod.spec.resources
    declared = parse(resources.limits if kind == "limits" else resources.requests)
    return sum_of_containers(pod, kind) | {n: a for n, a in declared.items() if at_pod_level(n)}


def declares_for_all(pod: Pod, resource: str) -> bool:
    """Whether the pod as a whole is limited in *resource*: by itself, or because all its containers are."""
    if parse(pod.spec.resources.limits).get(resource):
        return True
    every = [*pod.spec.containers, *pod.spec.init_containers]
    return all(of_container(container, "limits").get(resource) for container in every)


def is_set(resources: ResourceRequirements) -> bool:
    """Whether a pod's ``spec.resources`` say anything."""
    return bool(resources.limits or resources.requests)


def effective_limits(pod: Pod, container: Container, allocatable: Amounts) -> Amounts:
    """Return what bounds a container: its own limits, else the pod's, else all that the machine has.

    It is what ``resourceFieldRef: limits.…`` shows.
    """
    own = {name: amount for name, amount in of_container(container, "limits").items() if amount}
    pods = {name: amount for name, amount in parse(pod.spec.resources.limits).items() if amount}
    return allocatable | pods | own


def fill_requests(pod: Pod) -> None:
    """Fill in, in place, the requests that follow from limits (``SetDefaults_Pod`` and ``defaultPodRequests``)."""
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        _request(container.resources)
    _pod_resources(pod)


def _request(resources: ResourceRequirements) -> None:
    """A request that is not given is the limit."""
    for name, text in resources.limits.items():
        if name != "pids":
            resources.requests.setdefault(name, text)


def _pod_resources(pod: Pod) -> None:
    """What a pod that has limits of its own does not say is the sum of its containers', else its limit.

    Huge pages are not overcommitted: there the limits of the containers become the pod's, and the pod's its request.
    """
    resources = pod.spec.resources
    if not is_set(resources):
        return
    for name, total in sum_of_containers(pod, "limits").items():
        if name.startswith(HUGEPAGES) and name not in resources.requests:
            resources.limits.setdefault(name, text(name, total))
    if not resources.limits:
        return
    for name, total in sum_of_containers(pod, "requests").items():
        if name in POD_LEVEL:
            resources.requests.setdefault(name, text(name, total))
    _request(resources)


def _add(total: Amounts, amounts: Amounts) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _raise(most: Amounts, amounts: Amounts) -> None:
    for name, amount in amounts.items():
        most[name] = max(most.get(name, amount), amount)
