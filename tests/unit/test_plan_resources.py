# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and limits as cgroup files on v1 and v2, the classes' cgroups, and the oom_score_adj."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.api import Container, Pod, ResourceRequirements, amounts
from minipod.plan import Demand, Facts, Hierarchy, class_cgroups, pod_cgroup
from minipod.plan.resources import (
    allocatable,
    container_writes,
    cpu_quota_us,
    cpu_shares,
    cpu_weight,
    demand,
    hugetlb_name,
    memory_high,
    oom_score_adj,
    pod_writes,
    unmet,
)
from minipod.plan.steps import CgroupWrite
from tests.unit.test_plan_checker import BARE_CGROUP2, CGROUP1, HYBRID, UID, V1, V2, pod

MIB, GIB = 1 << 20, 1 << 30
HUGE = "hugepages-2Mi"
PAGES = (2 * MIB, GIB)


def one(
    limits: dict[str, str], requests: dict[str, str] | None = None, name: str = "app"
) -> Container:
    """Return a container with these resources."""
    return Container(
        name=name, image="i", command=["a"], resources=ResourceRequirements(limits, requests or {})
    )


def of(*containers: Container, **resources: dict[str, str]) -> Pod:
    """Return a pod with resources of its own."""
    return pod(*containers, resources=ResourceRequirements(**resources))


def shown(writes: tuple[CgroupWrite, ...]) -> dict[str, str]:
    """Return file contents by file; a file is written once."""
    assert len({write.file for write in writes}) == len(writes)
    return {write.file: write.value for write in writes}


def files(container: Container, facts: Facts = V2, within: Pod | None = None) -> dict[str, str]:
    return shown(container_writes(within or pod(container), container, facts))


# The kubelet's MilliCPUToShares and MilliCPUToQuota; runc's ConvertCPUSharesToCgroupV2Value.
@pytest.mark.parametrize(
    ("millis", "shares", "weight", "quota"),
    [
        (0, 2, 1, 1000),
        (1, 2, 1, 1000),
        (2, 2, 1, 1000),
        (3, 3, 2, 1000),
        (10, 10, 4, 1000),
        (11, 11, 4, 1100),
        (100, 102, 17, 10_000),
        (250, 256, 35, 25_000),
        (500, 512, 59, 50_000),
        (1000, 1024, 100, 100_000),
        (2000, 2048, 174, 200_000),
        (64_000, 65_536, 3023, 6_400_000),
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
    assert 1 <= cpu_weight(cpu_shares(millis)) <= cpu_weight(cpu_shares(millis + 1)) <= 10_000
    assert cpu_quota_us(millis) >= 1000


# KEP-2570: floor of request + 0.9·(limit - request) to a page.
@pytest.mark.parametrize(
    ("request_", "limit", "page", "expected"),
    [
        (0, 100 * MIB, 4096, 90 * MIB),
        (0, 100 * MIB + 4096, 4096, 90 * MIB),
        (50 * MIB, 100 * MIB, 4096, 99614720),
        (50 * MIB, 100 * MIB, 65536, 99614720),
        (1, 4096, 4096, 0),  # less than the request
        (GIB, GIB, 4096, 0),
    ],
)
def test_memory_high(request_: int, limit: int, page: int, expected: int) -> None:
    assert memory_high(request_, limit, page) == expected


def test_names_of_huge_pages() -> None:
    assert [hugetlb_name(1 << bits) for bits in (16, 21, 25, 30, 34)] == [
        *("64KB", "2MB", "32MB", "1GB", "16GB")
    ]


def test_everything_on_v2() -> None:
    limits = {"cpu": "1500m", "memory": "64Mi", "pids": "20"}
    assert files(one(limits, {"cpu": "500m", "memory": "32Mi"})) == {
        "cpu.weight": "59",
        "cpu.max": "150000 100000",
        "memory.min": "33554432",
        "memory.high": str(int((32 + 0.9 * 32) * MIB) // 4096 * 4096),
        "memory.max": "67108864",
        "memory.oom.group": "1",
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
    app = one(limits, {"cpu": "500m"})
    for facts in (V1, HYBRID):
        writes = container_writes(pod(app), app, facts)
        assert shown(writes) == expected
        # The kernel refuses memsw below limit, and a quota is judged with its period.
        names = [write.file for write in writes]
        assert names.index("memory.limit_in_bytes") < names.index("memory.memsw.limit_in_bytes")
        assert names.index("cpu.cfs_period_us") < names.index("cpu.cfs_quota_us")


def test_only_swap_may_be_missing() -> None:
    app = one({"cpu": "1", "memory": "1Gi", "pids": "9"})
    for facts in (V1, V2):
        optional = {w.file for w in container_writes(pod(app), app, facts) if w.optional}
        assert optional < {"memory.swap.max", "memory.memsw.limit_in_bytes"}
        assert len(optional) == 1


def test_a_container_without_limits() -> None:
    free = {"cpu.weight": "1", "memory.oom.group": "1", "memory.swap.max": "0"}
    assert files(one({})) == free
    assert files(one({}), V1) == {"cpu.shares": "2", "memory.swappiness": "0"}
    assert files(one({"cpu": "0", "memory": "0"})) == free, "zero is no limit"


def test_memory_that_is_asked_for_without_a_limit() -> None:
    """The machine's memory takes the place of the limit."""
    found = files(one({}, {"memory": "1Gi"}), replace(V2, memory=11 * GIB))
    assert found["memory.min"] == str(GIB)
    assert found["memory.high"] == str(10 * GIB)
    assert "memory.max" not in found


def test_guaranteed_memory_is_not_slowed_down() -> None:
    assert "memory.high" not in files(one({"memory": "1Gi"}))


def test_one_process_is_killed_where_the_agent_is_told_so() -> None:
    single = replace(V2, single_process_oom_kill=True)
    assert "memory.oom.group" not in files(one({"memory": "1Gi"}), single)


def test_a_request_that_is_not_given_is_the_limit() -> None:
    assert files(one({"cpu": "1"}))["cpu.weight"] == "100"
    assert files(one({"cpu": "1"}, {"cpu": "0"}))["cpu.weight"] == "1"


def test_fractions_are_rounded_up() -> None:
    found = files(one({"cpu": "0.0011", "memory": "1.5"}))
    assert (found["cpu.max"], found["memory.max"]) == ("1000 100000", "2")


def test_huge_pages() -> None:
    hierarchy = Hierarchy("/sys/fs/cgroup", ("cpu", "memory", "pids", "hugetlb"), 2)
    facts = replace(V2, hierarchies=(hierarchy,), hugepages=PAGES)
    app = one({HUGE: "4Mi", "cpu": "1"}, {HUGE: "4Mi"})
    found = files(app, facts)
    assert {k: v for k, v in found.items() if k.startswith("hugetlb")} == {
        "hugetlb.2MB.max": str(4 * MIB),
        "hugetlb.2MB.rsvd.max": str(4 * MIB),
        "hugetlb.1GB.max": "0",
        "hugetlb.1GB.rsvd.max": "0",
    }
    assert shown(pod_writes(pod(app, one({})), facts))["hugetlb.2MB.max"] == str(4 * MIB)
    old = replace(V1, hierarchies=(*CGROUP1, Hierarchy("/h", ("hugetlb",), 1)), hugepages=PAGES)
    assert files(one({}), old)["hugetlb.2MB.limit_in_bytes"] == "0"


def test_the_pod_has_the_sums() -> None:
    both = pod(
        one({"cpu": "1", "memory": "1Gi"}), one({"cpu": "500m", "memory": "1Gi"}, {"cpu": "100m"})
    )
    assert shown(pod_writes(both, V2)) == {
        "cpu.weight": str(cpu_weight(cpu_shares(1100))),
        "cpu.max": "150000 100000",
        "memory.min": str(2 * GIB),
        "memory.max": str(2 * GIB),
        "memory.swap.max": "0",
        "pids.max": "4096",
    }


def test_the_pod_is_unlimited_when_one_container_is() -> None:
    some = pod(one({"cpu": "1", "memory": "1Gi"}), one({"cpu": "1"}))
    found = shown(pod_writes(some, V2))
    assert "cpu.max" in found
    assert "memory.max" not in found
    assert shown(pod_writes(pod(), V1)) == {
        "cpu.shares": "2",
        "memory.swappiness": "0",
        "pids.max": "4096",
    }


def test_what_the_pod_declares_binds_all_and_who_has_no_limit_of_its_own() -> None:
    free, own = one({}), one({"cpu": "100m"}, name="own")
    whole = of(free, own, limits={"cpu": "2", "memory": "1Gi"}, requests={"cpu": "1"})
    found = shown(pod_writes(whole, V2))
    assert found["cpu.max"] == "200000 100000"
    assert found["memory.max"] == str(GIB)
    assert found["cpu.weight"] == "100"
    assert files(free, within=whole)["cpu.max"] == "200000 100000"
    assert files(free, within=whole)["memory.max"] == str(GIB)
    assert files(own, within=whole)["cpu.max"] == "10000 100000"


def test_controllers_that_are_missing() -> None:
    bare = Facts((BARE_CGROUP2,), 0)
    limited = pod(one({"cpu": "1", "memory": "1Gi", "pids": "5"}))
    assert container_writes(limited, limited.spec.containers[0], bare) == ()
    assert pod_writes(limited, bare) == ()
    assert class_cgroups("minipod", "Burstable", Demand(), bare)[1].writes == ()


def test_each_write_goes_to_a_controller_that_is_there() -> None:
    app = one({"cpu": "1", "memory": "1Gi", "pids": "5"})
    for facts in (V1, V2, HYBRID, Facts((CGROUP1[2], CGROUP1[1]), 0)):
        for write in container_writes(pod(app), app, facts):
            assert facts.controls(write.controller) is not None
            assert write.file.startswith(write.controller)


# ---- classes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (one({"cpu": "1", "memory": "1Gi"}), f"minipod/pod{UID}"),
        (one({"cpu": "1"}), f"minipod/burstable/pod{UID}"),
        (one({}), f"minipod/besteffort/pod{UID}"),
    ],
)
def test_where_a_pods_cgroup_is(container: Container, expected: str) -> None:
    assert pod_cgroup("minipod", pod(container)) == expected


def test_what_pods_ask_for_together() -> None:
    guaranteed, burstable = pod(one({"cpu": "1", "memory": "1Gi"})), pod(one({"cpu": "500m"}))
    assert demand([guaranteed, burstable, burstable, pod()]) == Demand(1000, 0, GIB)


def test_the_classes_weigh_what_their_pods_ask_for() -> None:
    facts = replace(V2, cpus=8)
    asked = Demand(burstable_cpu=1000, burstable_memory=GIB, memory=3 * GIB)
    parent, burstable = class_cgroups("minipod", "Burstable", asked, facts)
    assert (parent.path, burstable.path) == ("minipod", "minipod/burstable")
    weight = str(cpu_weight(8192))
    assert shown(parent.writes) == {"cpu.weight": weight, "memory.min": str(3 * GIB)}
    assert shown(burstable.writes) == {"cpu.weight": "100", "memory.min": str(GIB)}
    _, best = class_cgroups("minipod", "BestEffort", asked, facts)
    assert shown(best.writes) == {"cpu.weight": "1", "memory.min": "0"}
    (alone,) = class_cgroups("minipod", "Guaranteed", asked, facts)
    assert alone == parent
    assert shown(class_cgroups("m", "BestEffort", asked, V1)[1].writes) == {"cpu.shares": "2"}


# ---- what the machine has ---------------------------------------------------------------------------------------


def test_what_the_machine_has() -> None:
    facts = replace(V2, cpus=4, memory=8 * GIB, storage=100 * GIB)
    assert allocatable(facts) == {"cpu": 4, "memory": 8 * GIB, "ephemeral-storage": 100 * GIB}


@pytest.mark.parametrize(
    ("container", "facts", "expected"),
    [
        (one({}), V1, []),
        (one({"memory": "1Gi", "cpu": "1"}), V2, []),
        (one({"memory": "1Gi"}), V1, ["on cgroup v1 memory is not set aside"]),
        (one({"memory": "1Gi"}), replace(V2, protects_memory=False), ["below systemd's slices"]),
        (one({"cpu": "2"}), V2, ["requests of cpu are above what this machine has"]),
        (one({HUGE: "2Mi", "cpu": "1"}), V2, ["no cgroup controller for hugetlb"]),
    ],
)
def test_what_the_machine_does_not_give(
    container: Container, facts: Facts, expected: list[str]
) -> None:
    found = unmet(pod(container), facts)
    assert len(found) == len(expected)
    assert all(words in said for words, said in zip(expected, found, strict=True))


# ---- oom_score_adj ----------------------------------------------------------------------------------------------


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
    small, none = one({}, {"memory": "4Gi"}), one({}, name="none")
    both = pod(small, none)
    assert oom_score_adj(both, small, 8 * GIB) == 500
    assert oom_score_adj(both, none, 8 * GIB) == 999


def test_memory_that_the_pod_asks_for_beyond_its_containers_is_shared() -> None:
    small, none = one({}, {"memory": "1Gi"}), one({}, name="none")
    whole = of(small, none, requests={"memory": "3Gi"})
    assert oom_score_adj(whole, small, 8 * GIB) == 1000 - 250
    assert oom_score_adj(whole, none, 8 * GIB) == 1000 - 125


def test_a_sidecar_is_not_killed_before_those_that_it_serves() -> None:
    side = one({}, {"memory": "1Gi"}, name="side")
    side.restart_policy = "Always"
    large, larger = one({}, {"memory": "4Gi"}), one({}, {"memory": "6Gi"}, name="larger")
    whole = pod(large, larger, init_containers=[side])
    assert oom_score_adj(whole, side, 8 * GIB) == oom_score_adj(whole, large, 8 * GIB) == 500
    regular = one({}, {"memory": "1Gi"}, name="side")
    assert oom_score_adj(pod(large, init_containers=[regular]), regular, 8 * GIB) == 875


@given(st.integers(0, 1 << 50), st.integers(1 << 20, 1 << 45))
def test_burstable_stays_between_guaranteed_and_best_effort(request: int, memory: int) -> None:
    app = one({}, {"memory": str(request), "cpu": "1"})
    assert 3 <= oom_score_adj(pod(app), app, memory) <= 999


def test_pods_and_facts_are_not_changed() -> None:
    app = one({"cpu": "1"})
    before: Pod = pod(app)
    pod_writes(before, V2)
    amounts.of_pod(before, "limits")
    assert before == pod(one({"cpu": "1"}))
    assert replace(V2) == V2
