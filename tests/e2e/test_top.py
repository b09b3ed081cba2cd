# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod top``: cpu and memory as the kernel counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.features import requires
from tests.instance import Instance

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:cpu", "cgroup:memory")

BUSY = {
    "command": ["sh", "-c", "while :; do :; done"],
    "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}},
}
LARGE = {"command": ["/probe", "mem", "32", "hold"]}


@pytest.fixture
def pods(instance: Instance, test_archive: Path) -> Instance:
    instance.load(test_archive)
    instance.start_pod("busy", BUSY, LARGE)
    instance.start_pod("idle", {})
    return instance


def test_top(pods: Instance) -> None:
    title, *rows = (line.split() for line in pods.cli("top", "pods").stdout.splitlines())
    assert title == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert [row[0] for row in rows] == ["busy", "idle"]
    busy, idle = (int(row[1].removesuffix("m")) for row in rows)
    assert 0 < busy < 1000 and idle < busy
    memory, little = (int(row[2].removesuffix("Mi")) for row in rows)
    assert 32 <= memory < 64 and little < 8

    answer = pods.cli("top", "pod", "busy", "--containers", "--sort-by", "memory", "--no-headers")
    first, second = (line.split() for line in answer.stdout.splitlines())
    assert (first[:2], second[:2]) == (["busy", "c1"], ["busy", "c0"])
    assert int(second[2].removesuffix("m")) > int(first[2].removesuffix("m"))

    everywhere = pods.cli("top", "pods", "-A").stdout.splitlines()
    assert everywhere[0].split()[0] == "NAMESPACE"
    assert everywhere[1].split()[:2] == ["default", "busy"]
    pods.delete("busy", "idle")


def test_top_of_nothing(instance: Instance) -> None:
    done = instance.cli("top", "pods")
    assert (done.stdout, done.stderr) == ("", "No resources found in default namespace.\n")
    done = instance.cli("top", "pod", "nobody", check=False)
    assert done.returncode != 0 and "pod default/nobody not found" in done.stderr
    done = instance.cli("top", "pods", "--sort-by", "age", check=False)
    assert "cannot sort by 'age'" in done.stderr
