# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for references to a field of the pod and to a resource of a container, in volumes as in variables."""

from __future__ import annotations

import re
from collections.abc import Collection

from minipod.api import names
from minipod.api.objects import ObjectFieldSelector, ResourceFieldSelector
from minipod.api.problems import Report, did_you_mean
from minipod.api.validation.rules import say
from minipod.api.yaml import shown

_SUBSCRIPT = re.compile(r"(.+?)\['(.*)'\]", re.DOTALL)
_SUBSCRIPTED = ("metadata.labels", "metadata.annotations")
_RESOURCES = tuple(
    f"{which}.{what}"
    for which in ("limits", "requests")
    for what in ("cpu", "memory", "ephemeral-storage")
)
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_CPU_DIVISORS = ("0", "1", "1m")
_DIVISORS = (
    "0",
    "1",
    *(f"1{suffix}" for suffix in ("k", "M", "G", "T", "P", "E")),
    *(f"1{suffix}" for suffix in ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")),
)


def split_subscript(path: str) -> tuple[str, str | None]:
    """Return a field path and its subscript: ``metadata.labels['app']`` is ``metadata.labels`` and ``app``."""
    if match := _SUBSCRIPT.fullmatch(path):
        return match[1], match[2]
    return path, None


def check_field_ref(
    ref: ObjectFieldSelector, path: str, allowed: Collection[str], report: Report
) -> None:
    """Check a reference to a field of the pod.

    *allowed* are the paths that may stand there besides ``metadata.labels['KEY']`` and ``metadata.annotations['KEY']``.
    """
    if ref.api_version != "v1":
        report.error(f"{path}.apiVersion", f"{shown(ref.api_version)} is not known, write v1")
    where = f"{path}.fieldPath"
    if not ref.field_path:
        report.error(where, "missing, and required")
        return
    field, key = split_subscript(ref.field_path)
    if key is not None and field in _SUBSCRIPTED:
        # As Kubernetes: the keys of annotations are compared without regard to case.
        say(report, where, names.qualified_name(key.lower() if field != _SUBSCRIPTED[0] else key))
    elif key is not None:
        report.error(where, f"{shown(field)} takes no subscript, {' and '.join(_SUBSCRIPTED)} do")
    elif ref.field_path not in allowed:
        options = (*sorted(allowed), *(f"{name}['KEY']" for name in _SUBSCRIPTED))
        hint = did_you_mean(ref.field_path, allowed)
        what = f"{shown(ref.field_path)} is not one of {', '.join(options)}{hint}"
        report.error(where, what)


def check_resource_ref(
    ref: ResourceFieldSelector,
    path: str,
    containers: Collection[str],
    report: Report,
    *,
    named: bool,
) -> None:
    """Check a reference to a resource of one of *containers*; with *named* it has to say which."""
    if named and not ref.container_name:
        report.error(f"{path}.containerName", "missing, and required in a volume")
    elif ref.container_name and ref.container_name not in containers:
        what = f"{shown(ref.container_name)} names no container of the pod"
        hint = did_you_mean(ref.container_name, containers)
        report.error(f"{path}.containerName", what + hint)
    if not ref.resource:
        report.error(f"{path}.resource", "missing, and required")
        return
    if ref.resource not in _RESOURCES and not ref.resource.startswith(_HUGE_PAGES):
        options = ", ".join((*_RESOURCES, *(f"{name}SIZE" for name in _HUGE_PAGES)))
        hint = did_you_mean(ref.resource, _RESOURCES)
        report.error(f"{path}.resource", f"{shown(ref.resource)} is not one of {options}{hint}")
        return
    divisors = _CPU_DIVISORS if ref.resource.endswith(".cpu") else _DIVISORS
    if ref.divisor not in divisors:
        what = f"{shown(ref.divisor)} is not one of {', '.join(divisors[1:])}"
        report.error(f"{path}.divisor", what)
