# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of the resources of a running pod's containers: what a patch of Kubernetes' ``resize`` subresource may say.

A patch is ``{"spec": {"containers": [{"name": …, "resources": {"requests": …, "limits": …}}]}}``, with sidecars in
``initContainers``. The rules, and their words, are those of ``ValidatePodResize``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from minipod.api import amounts
from minipod.api.containers import Member, member, members
from minipod.api.objects import Container, Pod, ResourceRequirements
from minipod.api.problems import Report
from minipod.api.qos import qos_class
from minipod.api.quantity import parse_quantity
from minipod.api.validation.resources import check_pod_resources, check_resources
from minipod.errors import UsageError

_LISTS = {"containers": "app", "initContainers": "init"}
_MUTABLE = ("cpu", "memory")
_HINT = (
    "requests and limits of cpu and memory can be changed, everything else by making the pod again"
)


def resized(pod: Pod, patch: Any) -> Pod:
    """Return a copy of *pod* that is as *patch* wants it.

    Raises:
        UsageError: the patch is no such patch, or breaks a rule.
        NotFound: it names a container that the pod does not have.
    """
    result = msgspec.convert(msgspec.to_builtins(pod), Pod)
    for field, name, resources in _entries(patch):
        found = member(result, name)
        if found.kind != _LISTS[field]:
            raise UsageError(f"container {name} is not in spec.{field}", f"it is {found.path}")
        _change(found, resources)
    amounts.fill_requests(result)
    _check(pod, result)
    return result


def _entries(patch: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (list, container, resources) for each container that *patch* names."""
    spec = _mapping(_mapping(patch, "the patch", ("spec",)).get("spec"), "spec", tuple(_LISTS))
    result = []
    for field, entries in spec.items():
        if not isinstance(entries, list):
            raise UsageError(f"spec.{field} must be a list", _HINT)
        for i, given in enumerate(entries):
            path = f"spec.{field}[{i}]"
            entry = _mapping(given, path, ("name", "resources"))
            name = entry.get("name")
            if not isinstance(name, str) or not name:
                raise UsageError(f"{path}.name is missing, and required", _HINT)
            where = f"{path}.resources"
            result.append((field, name, _mapping(entry.get("resources"), where, _KINDS)))
    if not result:
        raise UsageError("the patch names no container", _HINT)
    return result


_KINDS = ("requests", "limits")


def _mapping(value: Any, path: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path} must be a mapping", _HINT)
    for key in value:
        if key not in known:
            raise UsageError(f"{path}: {key!r} cannot be changed by a resize", _HINT)
    return value


def _change(found: Member, resources: dict[str, Any]) -> None:
    for kind, quantities in resources.items():
        where = f"{found.path}.resources.{kind}"
        if not isinstance(quantities, dict):
            raise UsageError(f"{where} must be a mapping", _HINT)
        now: dict[str, str] = getattr(found.container.resources, kind)
        for name, text in quantities.items():
            if name not in _MUTABLE:
                raise UsageError(f"{where}.{name}: only cpu and memory resources are mutable")
            if text is None:
                if now.pop(name, None) is not None:
                    raise UsageError(f"{where}.{name}: resource {kind} cannot be removed")
                continue
            try:
                parse_quantity(str(text))
            except ValueError as error:
                raise UsageError(f"{where}.{name}: {error}") from error
            now[name] = str(text)


def _check(before: Pod, after: Pod) -> None:
    report = Report("resize", {}, 1)
    for old, new in zip(members(before), members(after), strict=True):
        if old.container.resources == new.container.resources:
            continue
        if new.kind == "ephemeral" or (
            new.kind == "init" and not amounts.is_sidecar(new.container)
        ):
            report.error(f"{new.path}.resources", "only containers and sidecars can be resized")
        check_resources(new.container.resources, f"{new.path}.resources", report)
    check_pod_resources(after.spec, report)
    if qos_class(before) != qos_class(after):
        report.error("spec", "Pod QOS Class may not change as a result of resizing")
    if report.problems:
        words = "\n".join(f"{problem.path}: {problem.message}" for problem in report.problems)
        raise UsageError(words, _HINT)


# ---- what a resize does to a container ------------------------------------------------------------------------------


def changes(before: ResourceRequirements, after: ResourceRequirements) -> set[str]:
    """Return which of cpu and memory differ in amount, in a request or a limit."""
    result = set()
    for name in _MUTABLE:
        for kind in _KINDS:
            pair = [getattr(each, kind).get(name, "0") for each in (before, after)]
            if parse_quantity(pair[0]) != parse_quantity(pair[1]):
                result.add(name)
    return result


def needs_restart(container: Container, changed: set[str]) -> bool:
    """Whether the container's resizePolicy wants it restarted when these resources change."""
    return any(
        policy.resource_name in changed and policy.restart_policy == "RestartContainer"
        for policy in container.resize_policy
    )
