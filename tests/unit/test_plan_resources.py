# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits as cgroup files on v1 and v2, and the oom_score_adj."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.api import Container, Pod, ResourceRequirements
from minipod.plan import Facts
from minipod.plan.resources import (
    container_writes,
    cpu_quota_us,
    cpu_shares,
    cpu_weight,
    missing_controllers,
    oom_score_adj,
    pod_writes,
)
from minipod.plan.steps import CgroupWrite
from tests.unit.test_plan_checker import BARE_CGROUP2, CGROUP1, HYBRID, V1, V2, pod

GIB = 1 << 30


def one(limits: dict[str, str], requests: dict[str, str] | None = None) -> Container:
    """Return a container with these resources."""
    return Container(
        name="app", image="i", command=["a"], resources=ResourceRequirements(limits, requests or {})
    )


def shown(writes: tuple[CgroupWrite, ...]) -> dict[str, str]:
    """Return file contents by file; a file is written once."""
    assert len({write.file for write in writes}) == len(writes)
    return {write.file: write.value for write in writes}


# KEP-2254 and the kubelet's MilliCPUToShares, MilliCPUToQuota.
@pytest.mark.parametrize(
    ("millis", "shares", "weight", "quota"),
    [
        (0, 2, 1, 1000),
        (1, 2, 1, 1000),
        (2, 2, 1, 1000),
        (10, 10, 1, 1000),
        (11, 11, 1, 1100),
        (100, 102, 4, 10_000),
        (500, 512, 20, 50_000),
        (1000, 1024, 39, 100_000),
        (2000, 2048, 79, 200_000),
        (64_000, 65_536, 2500, 6_400_000),
        (256_000, 262_144, 10_000, 25_600_000),
        (1_000_000, 262_144, 10_000, 100_000_000),
    ],
)
def test_cpu(millis: int, shares: int, weight: int, quota: int) -> None:
    assert cpu_shares(millis) == shares
    assert cpu_weight(shares) == weight
    assert cpu_quota_us(millis) == quota


@given(st.integers(0, 10**9))
def test_cpu_values_are_ones_that_the_kernel_takes(millis: int) -> None:
    assert 2 <= cpu_shares(millis) <= 262_144
    assert 1 <= cpu_weight(cpu_shares(millis)) <= 10_000
    assert cpu_quota_us(millis) >= 1000


def test_everything_on_v2() -> None:
    limits = {"cpu": "1500m", "memory": "64Mi", "pids": "20"}
    assert shown(container_writes(one(limits, {"cpu": "500m"}), V2)) == {
        "cpu.weight": "20",
        "cpu.max": "150000 100000",
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "pids.max": "20",
    }


def test_everything_on_v1() -> None:
    limits = {"cpu": "1500m", "memory": "64Mi", "pids": "20"}
    expected = {
        "cpu.shares": "512",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
        "memory.limit_in_bytes": "67108864",
        "memory.memsw.limit_in_bytes": "67108864",
        "pids.max": "20",
    }
    for facts in (V1, HYBRID):
        writes = container_writes(one(limits, {"cpu": "500m"}), facts)
        assert shown(writes) == expected
        # The kernel refuses memsw below limit, and a quota is judged with its period.
        files = [write.file for write in writes]
        assert files.index("memory.limit_in_bytes") < files.index("memory.memsw.limit_in_bytes")
        assert files.index("cpu.cfs_period_us") < files.index("cpu.cfs_quota_us")


def test_only_swap_may_be_missing() -> None:
    limits = {"cpu": "1", "memory": "1Gi", "pids": "9"}
    for facts in (V1, V2):
        optional = {w.file for w in container_writes(one(limits), facts) if w.optional}
        assert optional < {"memory.swap.max", "memory.memsw.limit_in_bytes"}
        assert len(optional) == 1


def test_a_container_without_limits() -> None:
    assert shown(container_writes(one({}), V2)) == {"cpu.weight": "1"}
    assert shown(container_writes(one({}), V1)) == {"cpu.shares": "2"}
    assert shown(container_writes(Container(), V2)) == {"cpu.weight": "1"}


def test_zero_is_no_limit() -> None:
    files = shown(container_writes(one({"cpu": "0", "memory": "0"}), V2))
    assert files == {"cpu.weight": "1"}


def test_a_request_that_is_not_given_is_the_limit() -> None:
    assert shown(container_writes(one({"cpu": "1"}), V2))["cpu.weight"] == "39"
    assert shown(container_writes(one({"cpu": "1"}, {"cpu": "0"}), V2))["cpu.weight"] == "1"


def test_fractions_are_rounded_up() -> None:
    files = shown(container_writes(one({"cpu": "0.0011", "memory": "1.5"}), V2))
    assert (files["cpu.max"], files["memory.max"]) == ("1000 100000", "2")


def test_the_pod_has_the_sums() -> None:
    both = pod(
        one({"cpu": "1", "memory": "1Gi"}), one({"cpu": "500m", "memory": "1Gi"}, {"cpu": "100m"})
    )
    assert shown(pod_writes(both, V2)) == {
        "cpu.weight": str(cpu_weight(cpu_shares(1100))),
        "cpu.max": "150000 100000",
        "memory.max": str(2 * GIB),
        "memory.swap.max": "0",
        "pids.max": "4096",
    }


def test_the_pod_is_unlimited_when_one_container_is() -> None:
    some = pod(one({"cpu": "1", "memory": "1Gi"}), one({"cpu": "1"}))
    files = shown(pod_writes(some, V2))
    assert "cpu.max" in files
    assert "memory.max" not in files
    assert shown(pod_writes(pod(), V1)) == {"cpu.shares": "2", "pids.max": "4096"}


def test_controllers_that_are_missing() -> None:
    bare = Facts((BARE_CGROUP2,), 0)
    limited = pod(one({"cpu": "1", "memory": "1Gi", "pids": "5"}))
    assert container_writes(limited.spec.containers[0], bare) == ()
    assert pod_writes(limited, bare) == ()
    assert missing_controllers(limited, bare) == ["cpu", "memory", "pids"]
    assert missing_controllers(limited, V2) == []
    only_memory = Facts((CGROUP1[1],), 0)
    assert missing_controllers(limited, only_memory) == ["cpu", "pids"]
    assert missing_controllers(pod(), bare) == []
    assert missing_controllers(pod(one({"pids": "5"})), only_memory) == ["pids"]


def test_each_write_goes_to_a_controller_that_is_there() -> None:
    limits = {"cpu": "1", "memory": "1Gi", "pids": "5"}
    for facts in (V1, V2, HYBRID, Facts((CGROUP1[2], CGROUP1[1]), 0)):
        for write in container_writes(one(limits), facts):
            assert facts.controls(write.controller) is not None
            assert write.file.startswith(write.controller)


# Kubernetes, "Node out of memory behavior"; the kubelet's GetContainerOOMScoreAdjust.
@pytest.mark.parametrize(
    ("limits", "requests", "memory", "expected"),
    [
        ({}, {}, 8 * GIB, 1000),  # BestEffort
        ({"cpu": "1", "memory": "1Gi"}, {}, 8 * GIB, -997),  # Guaranteed
        ({}, {"memory": "4Gi"}, 8 * GIB, 500),
        ({}, {"memory": "1Gi"}, 8 * GIB, 875),
        ({"memory": "2Gi"}, {}, 8 * GIB, 750),  # the request is the limit
        ({}, {"cpu": "1"}, 8 * GIB, 999),  # Burstable without memory: just below BestEffort
        ({}, {"memory": "1"}, 8 * GIB, 999),
        ({}, {"memory": "8Gi"}, 8 * GIB, 3),  # never below Guaranteed
        ({}, {"memory": "80Gi"}, 8 * GIB, 3),
        ({}, {"memory": "100Mi"}, 7_900_000_000, 987),
    ],
)
def test_oom_score_adj(
    limits: dict[str, str], requests: dict[str, str], memory: int, expected: int
) -> None:
    app = one(limits, requests)
    assert oom_score_adj(pod(app), app, memory) == expected


def test_the_class_is_the_pods_and_the_request_the_containers() -> None:
    small, none = one({}, {"memory": "4Gi"}), one({})
    both = pod(small, none)
    assert oom_score_adj(both, small, 8 * GIB) == 500
    assert oom_score_adj(both, none, 8 * GIB) == 999


@given(st.integers(0, 1 << 50), st.integers(1 << 20, 1 << 45))
def test_burstable_stays_between_guaranteed_and_best_effort(request: int, memory: int) -> None:
    app = one({}, {"memory": str(request), "cpu": "1"})
    assert 3 <= oom_score_adj(pod(app), app, memory) <= 999


def test_pods_and_facts_are_not_changed() -> None:
    app = one({"cpu": "1"})
    before: Pod = pod(app)
    pod_writes(before, V2)
    assert before == pod(one({"cpu": "1"}))
    assert replace(V2) == V2
