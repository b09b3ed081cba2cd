# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a pod may change while it lives (``ValidatePodUpdate``): labels, annotations, and very little of its spec."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from minipod.api.objects import Pod, to_dict
from minipod.api.problems import Report
from minipod.api.yaml import join

WORDS = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`"
)
REMEDY = "delete the pod first, or give this one another name"

_IMAGE = re.compile(r"spec\.(?:containers|initContainers)\[\d+\]\.image")
_RESOURCES = re.compile(r"spec\.(?:(?:containers|initContainers)\[\d+\]\.)?resources")
_LISTS = ("spec.containers", "spec.initContainers")
_NOT_WRITTEN = ("nodeName", "ephemeralContainers")
"""What a manifest does not say and a living pod may have."""


def changed_fields(old: Pod, new: Pod, written: Collection[str]) -> list[str]:
    """Return the deepest paths at which the specs of two pods, both with their defaults, differ.

    *written* are the paths that the manifest of either says: what neither does is a default, or the agent's own
    doing, and stays as it is (kubectl's three-way merge).
    """
    before, after = (_said(pod) for pod in (old, new))
    found = _differences(before, after, "spec")
    return sorted(path for path in found if _is_written(path, written))


def _is_written(path: str, written: Collection[str]) -> bool:
    below = (f"{path}.", f"{path}[")
    return path in written or any(each.startswith(below) for each in written)


def _said(pod: Pod) -> dict[str, Any]:
    spec: dict[str, Any] = to_dict(pod).get("spec", {})
    return {key: value for key, value in spec.items() if key not in _NOT_WRITTEN}


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from _differences(old.get(key), new.get(key), join(path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, join(path, index))
    elif old != new:
        yield path


def check_pod_update(old: Pod, new: Pod, written: Collection[str], report: Report) -> None:
    """Check that the living pod *old* may become *new*; every field that may not change is named.

    *written* as for :func:`changed_fields`.
    """
    for path in changed_fields(old, new, written):
        if _IMAGE.fullmatch(path):
            continue
        if path == "spec.activeDeadlineSeconds":
            _deadline(old.spec.active_deadline_seconds, new.spec.active_deadline_seconds, report)
        elif path in _LISTS:
            report.error(path, f"pod updates may not add or remove containers: {REMEDY}")
        elif _RESOURCES.match(path):
            report.error(path, f"{WORDS}: use `minipod resize`, or {REMEDY}")
        else:
            report.error(path, f"{WORDS}: {REMEDY}")


def _deadline(old: int | None, new: int | None, report: Report) -> None:
    path = "spec.activeDeadlineSeconds"
    if new is None:
        report.error(path, "must not update from a positive integer to nil value")
    elif old is not None and new > old:
        report.error(path, f"must be less than or equal to previous value, {old}")
