# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for the ``resources`` of containers and pods, and for ``resizePolicy``.

They are those of ``ValidateContainerResourceRequirements``, ``validatePodResourceConsistency`` and
``validateResizePolicy``. One resource is minipod's own: ``pids`` (limits only), the most processes and threads that a
container may have, as ``pids.max`` of its cgroup; Kubernetes has that only per node.
"""

from __future__ import annotations

from decimal import Decimal

from minipod.api import amounts
from minipod.api.amounts import HUGEPAGES, at_pod_level
from minipod.api.names import qualified_name
from minipod.api.objects import Container, ContainerResizePolicy, Pod, PodSpec, ResourceRequirements
from minipod.api.problems import NOT_HONOURED, Report, did_you_mean
from minipod.api.quantity import parse_quantity
from minipod.api.validation.rules import one_of, unique
from minipod.api.yaml import join, shown

KNOWN = ("cpu", "memory", "ephemeral-storage", "pids")
MAX_PIDS = 4 * 1024 * 1024
"""The kernel's PID_MAX_LIMIT; ``pids.max`` takes no more."""


def check_resources(resources: ResourceRequirements, path: str, report: Report) -> None:
    """Check a container's names and amounts, and its requests beside its limits; the quantities parse."""
    for kind, quantities in (("limits", resources.limits), ("requests", resources.requests)):
        for name, text in quantities.items():
            if kind == "requests" and resources.limits.get(name) == text and name != "pids":
                continue  # it was filled in from the limit, where it is checked
            where = join(f"{path}.{kind}", name)
            if name in KNOWN or name.startswith(HUGEPAGES):
                _amount(name, text, where, report)
            else:
                report.error(where, _unknown(name))
    if "pids" in resources.requests:  # also when it equals the limit
        report.error(
            f"{path}.requests.pids", "pids can be limited, not requested: move it to limits"
        )
    if "pids" in resources.limits:
        pids = parse_quantity(resources.limits["pids"])
        if pids % 1 or not 0 < pids <= MAX_PIDS:
            report.error(f"{path}.limits.pids", f"must be a whole number, 1 to {MAX_PIDS}")
    _requests_beside_limits(resources, path, report)


def check_pod_resources(spec: PodSpec, report: Report) -> None:
    """Check what the pod declares for all of its containers together; theirs are checked already."""
    resources, path = spec.resources, "spec.resources"
    if not amounts.is_set(resources):
        return
    for kind, quantities in (("limits", resources.limits), ("requests", resources.requests)):
        for name, text in quantities.items():
            where = join(f"{path}.{kind}", name)
            if at_pod_level(name):
                _amount(name, text, where, report)
            elif name in KNOWN:
                report.error(
                    where, f"a pod has no {name} of its own: set it in spec.containers[].resources"
                )
            else:
                report.error(where, _unknown(name))
    _requests_beside_limits(resources, path, report)
    _pod_beside_containers(spec, report)


def check_resize_policy(container: Container, path: str, pod_policy: str, report: Report) -> None:
    """Check when a container says that it is restarted for a resize."""
    for index, policy in enumerate(container.resize_policy):
        _resize_policy(policy, f"{path}.resizePolicy[{index}]", pod_policy, report)
    policies = enumerate(container.resize_policy)
    named = ((f"{path}.resizePolicy[{i}].resourceName", p.resource_name) for i, p in policies)
    unique(report, named, "resource")


def _resize_policy(
    policy: ContainerResizePolicy, path: str, pod_policy: str, report: Report
) -> None:
    if not policy.resource_name:
        report.error(f"{path}.resourceName", "missing, and required")
    else:
        one_of(report, f"{path}.resourceName", policy.resource_name, ("cpu", "memory"))
    allowed = ("NotRequired", "RestartContainer")
    one_of(report, f"{path}.restartPolicy", policy.restart_policy, allowed)
    if policy.restart_policy == "RestartContainer" and pod_policy == "Never":
        what = "must be NotRequired when the pod's restartPolicy is Never"
        report.error(f"{path}.restartPolicy", what)


def _amount(name: str, text: str, where: str, report: Report) -> None:
    amount = parse_quantity(text)
    if amount < 0:
        report.error(where, "must be 0 or more")
    elif name.startswith(HUGEPAGES):
        _hugepages(name, text, where, report)
    elif name in ("memory", "ephemeral-storage") and amount % 1:
        report.warn(where, f"{text} is not a whole number of bytes, it is rounded up")


def _hugepages(name: str, text: str, where: str, report: Report) -> None:
    size = name.removeprefix(HUGEPAGES)
    try:
        page = parse_quantity(size)
    except ValueError:
        page = Decimal(0)
    if page <= 0 or page % 1:
        report.error(where, f"{shown(size)} is no size of a page: write one like hugepages-2Mi")
    elif parse_quantity(text) % page:
        report.error(where, f"{text} is not a multiple of the page size, {size}")


def _requests_beside_limits(resources: ResourceRequirements, path: str, report: Report) -> None:
    for name, text in resources.requests.items():
        limit, where = resources.limits.get(name), join(f"{path}.requests", name)
        if name.startswith(HUGEPAGES):
            if limit is None:
                report.error(where, f"huge pages are not overcommitted: limits.{name} is required")
            elif parse_quantity(text) != parse_quantity(limit):
                report.error(where, f"{text} must be equal to the limit of {limit}")
        elif limit is not None and parse_quantity(text) > parse_quantity(limit):
            report.error(where, f"{text} is above the limit of {limit}")
    named = {**resources.limits, **resources.requests}
    huge = next((name for name in named if name.startswith(HUGEPAGES)), "")
    if huge and not named.keys() & {"cpu", "memory"}:
        report.error(path, f"{huge} requires cpu or memory beside it")


def _pod_beside_containers(spec: PodSpec, report: Report) -> None:
    """Check that the pod has enough for its containers, and that none of them may use more than all together."""
    pod = Pod(spec=spec)
    for kind in ("requests", "limits"):
        declared: dict[str, str] = getattr(spec.resources, kind)
        for name, total in amounts.sum_of_containers(pod, kind).items():
            if kind == "limits" and not name.startswith(HUGEPAGES):
                continue  # limits may add up to more than the pod's
            if name in declared and parse_quantity(declared[name]) < total:
                text = amounts.text(name, total)
                what = (
                    f"{declared[name]} is less than the {kind} of the containers together, {text}"
                )
                report.error(join(f"spec.resources.{kind}", name), what)
    for field, containers in (
        ("containers", spec.containers),
        ("initContainers", pod.spec.init_containers),
    ):
        for index, container in enumerate(containers):
            for name, text in container.resources.limits.items():
                most = spec.resources.limits.get(name)
                if most is not None and parse_quantity(text) > parse_quantity(most):
                    where = join(f"spec.{field}[{index}].resources.limits", name)
                    report.error(where, f"{text} is above the pod's limit of {most}")


def _unknown(name: str) -> str:
    if "/" in name and not qualified_name(name):
        return f"{NOT_HONOURED}: there are no device plugins"
    known = (*KNOWN, "hugepages-2Mi")
    return f"unknown resource {shown(name)}" + (
        did_you_mean(name, known) or f": known are {', '.join(KNOWN)} and hugepages-<size>"
    )
