# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes of service as cgroups, what the pod as a whole may use, and what the machine does not give."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from minipod.plan.resources import cpu_shares, cpu_weight
from tests import features, node
from tests.features import requires
from tests.instance import Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

BURSTABLE = {"resources": {"requests": {"cpu": "500m"}}}
GUARANTEED = {"resources": {"limits": {"cpu": "100m", "memory": "64Mi"}}}


def directories(path: str) -> list[Path]:
    """Return the directories of a cgroup in the hierarchies that have it."""
    return [top / path for _, top, _ in features.cgroup_mounts() if (top / path).is_dir()]


def weight(path: str) -> int:
    """Return the weight of a cgroup, as v2 has it."""
    for directory in directories(path):
        for name in ("cpu.shares", "cpu.weight"):
            if (directory / name).exists():
                value = int((directory / name).read_text())
                return cpu_weight(value) if name == "cpu.shares" else value
    raise AssertionError(f"no cgroup {path} has a weight")


def asked(millis: int) -> int:
    return cpu_weight(cpu_shares(millis))


@requires("cgroup:cpu")
def test_classes_weigh_what_their_pods_ask_for(instance: Instance, test_archive: Path) -> None:
    instance.load(test_archive)
    parent = instance.config.cgroup_parent
    instance.start_pod("first", BURSTABLE)
    assert weight(f"{parent}/burstable") == asked(500)
    assert weight(parent) == asked(1000 * (os.cpu_count() or 1))
    instance.start_pod("second", BURSTABLE, BURSTABLE)
    instance.start_pod("whole", GUARANTEED)
    instance.start_pod("least", {})
    assert weight(f"{parent}/burstable") == asked(1500)
    assert weight(f"{parent}/besteffort") == 1
    for name, place in (("first", "/burstable"), ("whole", ""), ("least", "/besteffort")):
        uid = instance.pod(name)["metadata"]["uid"]
        assert directories(f"{parent}{place}/pod{uid}/c0.0"), name
        assert instance.pod_cgroup(name) == f"{parent}{place}/pod{uid}"
    # An agent that comes back knows them all.
    node.kill_agent(instance)
    node.up(instance)
    instance.delete("first", "least")
    assert weight(f"{parent}/burstable") == asked(1000)
    assert directories(f"{parent}/besteffort") == [], "a class without pods has no cgroup"
    instance.delete("second", "whole")
    assert directories(f"{parent}/burstable") == []


@pytest.mark.field("PodSpec.resources")
@requires("cgroup:memory", "cgroup:cpu")
def test_what_the_pod_declares_binds_its_containers(shared_instance: Instance) -> None:
    """Each may use all of it, and all together no more."""
    # The small one first: nobody is just being launched, which takes memory of the pod as well, when the other has all.
    pod = shared_instance.run_pod(
        "whole",
        {"command": ["/probe", "mem", "8"]},
        {"command": ["/probe", "mem", "64"]},
        resources={"limits": {"memory": "32Mi", "cpu": "500m"}},
    )
    assert pod["status"]["qosClass"] == "Guaranteed"
    small, large = (s["state"]["terminated"] for s in pod["status"]["containerStatuses"])
    assert (large["exitCode"], large["reason"]) == (137, "OOMKilled")
    assert small["exitCode"] == 0, small
    shared_instance.delete("whole")


@requires("cgroup:memory")
def test_containers_share_what_the_pod_has(shared_instance: Instance) -> None:
    shared_instance.start_pod(
        "shared",
        {"command": ["/probe", "mem", "40", "hold"]},
        {},
        resources={"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}},
    )
    assert shared_instance.probe("shared", "mem", "4", container="c1") == {"touched": 4 << 20}
    done = shared_instance.exec("shared", "/probe", "mem", "40", container="c1")
    # One of the two goes: together they are too many.
    restarted = shared_instance.container("shared", "c0")["restartCount"]
    assert (
        done.returncode == 137
        or restarted
        or "running" not in (shared_instance.container("shared", "c0")["state"])
    )
    shared_instance.delete("shared")


def test_memory_that_the_pod_asks_for_counts_for_its_containers(shared_instance: Instance) -> None:
    """Half of it for each of the two (the kubelet's remainingPodMemReqPerContainer)."""
    shared_instance.start_pod("score", {}, {}, resources={"requests": {"memory": "1Gi"}})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    expected = 1000 - 1000 * (1 << 29) // memory
    for container in ("c0", "c1"):
        text = shared_instance.probe(
            "score", "read", "/proc/self/oom_score_adj", container=container
        )["text"]
        assert int(text) == expected
    shared_instance.delete("score")


def degraded(pod: Json) -> str:
    conditions = pod["status"]["conditions"]
    found = [c["message"] for c in conditions if c["type"] == "minipod.dev/Degraded"]
    return found[0] if found else ""


def test_what_the_machine_does_not_give_is_said(shared_instance: Instance) -> None:
    pod = shared_instance.start_pod("much", {"resources": {"requests": {"cpu": "10k"}}})
    assert "requests of cpu are above what this machine has" in degraded(pod)
    pod = shared_instance.start_pod("little", {"resources": {"requests": {"memory": "1Mi"}}})
    v1 = any("memory" in options for kind, _, options in features.cgroup_mounts())
    assert ("on cgroup v1 memory is not set aside" in degraded(pod)) == v1
    assert "requests of" not in degraded(pod)
    shared_instance.delete("much", "little")


def test_huge_pages_that_are_not_there_are_refused(shared_instance: Instance) -> None:
    if not Path("/sys/kernel/mm/hugepages/hugepages-2048kB").exists():
        pytest.skip("this machine lacks huge pages of 2 MiB")
    resources = {"limits": {"hugepages-2Mi": "1Ti", "cpu": "1"}}
    with pytest.raises(MinipodError, match="1Ti in pages of 2Mi, this machine has"):
        shared_instance.create("huge", {"resources": resources})
