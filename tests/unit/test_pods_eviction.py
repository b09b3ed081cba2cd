# SPDX-License-Identifier: GPL-3.0-or-later
"""When a pod takes up more of the disk than it may (the kubelet's localStorageEviction)."""

from __future__ import annotations

import pytest

from minipod.api import Container, EmptyDirVolumeSource, Pod, ResourceRequirements, Volume
from minipod.pods.eviction import Usage, is_limited, verdict
from tests.unit.test_plan_checker import pod

MIB = 1 << 20


def one(name: str, limit: str = "") -> Container:
    limits = {"ephemeral-storage": limit} if limit else {}
    return Container(name=name, image="i", resources=ResourceRequirements(limits, {}))


def volume(limit: str | None, medium: str = "") -> Volume:
    return Volume(name="v", empty_dir=EmptyDirVolumeSource(medium=medium, size_limit=limit))


def with_volume(limit: str | None, medium: str = "") -> Pod:
    return pod(one("a"), volumes=[volume(limit, medium)])


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (pod(one("a")), False),
        (pod(one("a"), one("b", "1Mi")), True),
        (with_volume(None), False),
        (with_volume("0"), False),
        (with_volume("1Mi"), True),
        (with_volume("1Mi", "Memory"), False),
    ],
)
def test_only_pods_with_limits_are_measured(of: Pod, expected: bool) -> None:
    assert is_limited(of) == expected


@pytest.mark.parametrize(
    ("of", "containers", "volumes", "expected"),
    [
        (pod(one("a", "2Mi"), one("b", "2Mi")), {"a": 2 * MIB, "b": 2 * MIB}, {}, ""),
        (
            pod(one("a", "2Mi"), one("b", "2Mi")),
            {"a": 2 * MIB + 1},
            {},
            'Container a exceeded its local ephemeral storage limit "2Mi".',
        ),
        # Volumes count for the pod, and who has no limit counts too.
        (
            pod(one("a", "2Mi"), one("b")),
            {"a": MIB, "b": MIB},
            {"v": 1},
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi.",
        ),
        (pod(one("a")), {"a": 1 << 40}, {"v": 1 << 40}, ""),
        (with_volume("1Mi"), {"a": 1 << 40}, {"v": MIB}, ""),
        (
            with_volume("1Mi"),
            {},
            {"v": MIB + 1},
            'Usage of EmptyDir volume "v" exceeds the limit "1Mi".',
        ),
        (with_volume("0"), {}, {"v": MIB}, ""),
    ],
)
def test_verdict(
    of: Pod, containers: dict[str, int], volumes: dict[str, int], expected: str
) -> None:
    assert verdict(of, Usage(containers, volumes)) == expected
