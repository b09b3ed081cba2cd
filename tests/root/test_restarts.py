# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that end: who is started again, when, and what the next run finds (Kubernetes, "Pod lifecycle")."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import node
from tests.instance import Instance
from tests.patience import patience

# "$$" in a manifest is one "$" (Kubernetes, "Define dependent environment variables").
ENDS = {"zero": ("exit 0", 0), "three": ("exit 3", 3), "signal": ("kill -TERM $$$$; sleep 9", 143)}
POLICIES = ("Always", "OnFailure", "Never")


@pytest.fixture(scope="module")
def instance_for_all(busybox_archive: Path) -> Iterator[Instance]:
    """An instance for all tests."""
    with node.instance_for_all(busybox_archive) as instance:
        yield instance


@pytest.fixture
def pods(instance_for_all: Instance) -> Iterator[Instance]:
    """The instance, whose pods are deleted at the end; nothing of them may be left."""
    with node.without_a_trace(instance_for_all):
        yield instance_for_all
        if names := list(node.pods(instance_for_all)):
            node.delete(instance_for_all, *names, grace=0)


def in_back_off(pod: node.Json) -> bool:
    waiting = node.container(pod)["state"].get("waiting", {})
    return bool(waiting.get("reason") == "CrashLoopBackOff")


@pytest.mark.field("PodSpec.restartPolicy")
def test_every_policy_and_end(pods: Instance) -> None:
    for policy in POLICIES:
        for end, (script, _) in ENDS.items():
            # In a PID namespace of its own a container's process could not end itself by a signal.
            pod = node.manifest(
                f"{policy.lower()}-{end}",
                ["sh", "-c", script],
                policy=policy,
                shareProcessNamespace=True,
            )
            node.create(pods, pod)
    for policy in POLICIES:
        for end, (_, code) in ENDS.items():
            again = policy == "Always" or (policy == "OnFailure" and code)
            wanted = in_back_off if again else node.over
            pod = node.wait_for(pods, f"{policy.lower()}-{end}", wanted)
            status = node.container(pod)
            ended = status["lastState" if again else "state"]["terminated"]
            assert ended["exitCode"] == code
            assert ended["reason"] == ("Error" if code else "Completed")
            assert ended.get("signal", 0) == (15 if end == "signal" else 0)
            if again:
                assert (pod["status"]["phase"], status["restartCount"]) == ("Running", 1)
            else:
                assert pod["status"]["phase"] == ("Failed" if code else "Succeeded")
                assert status["restartCount"] == 0


def test_first_restart_is_at_once_and_the_second_waits(pods: Instance) -> None:
    script = "echo run; exit 1"
    node.create(pods, node.manifest("crash", ["sh", "-c", script]))
    pod = node.wait_for(pods, "crash", in_back_off)
    assert node.container(pod)["restartCount"] == 1
    waiting = node.container(pod)["state"]["waiting"]
    uid = pod["metadata"]["uid"]
    assert waiting["message"] == (
        f"back-off 10s restarting failed container=c pod=crash_default({uid})"
    )
    assert "BackOff: Back-off restarting failed container c" in node.events(pods, "crash")
    assert node.log(pods, "crash") == node.log(pods, "crash", previous=True) == ["run"]
    ready = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert ready["Ready"] == ready["ContainersReady"] == "False"


def test_back_off_survives_the_agent(pods: Instance) -> None:
    node.create(pods, node.manifest("crash", ["false"]))
    before = node.wait_for(pods, "crash", in_back_off)
    node.kill_agent(pods)
    node.up(pods)
    assert node.pods(pods)["crash"]["status"] == before["status"]


def test_next_run_has_a_new_root_and_the_same_pod(pods: Instance) -> None:
    script = """
        [ -e /tmp/mark ] && echo stale
        touch /tmp/mark /mark
        echo x >> /volume/runs
        echo runs $(wc -l < /volume/runs)
        echo $(ip -4 addr show eth0 | grep -o 'inet [0-9.]*')
        [ $(wc -l < /volume/runs) -gt 1 ] && exec sleep 1000
        exit 5
    """
    one = {
        "name": "c",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "v", "mountPath": "/volume"}],
    }
    node.create(
        pods, node.manifest("again", containers=[one], volumes=[{"name": "v", "emptyDir": {}}])
    )
    pod = node.wait_for(pods, "again", node.restarted())
    address = f"inet {pod['status']['podIP']}"
    assert node.container(pod)["lastState"]["terminated"]["exitCode"] == 5
    end = time.monotonic() + patience(30)
    while len(said := node.log(pods, "again")) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert said == ["runs 2", address]
    assert node.log(pods, "again", previous=True) == ["runs 1", address]


def test_one_container_ends_and_its_neighbour_does_not_notice(pods: Instance) -> None:
    two = [{"name": "a", "command": node.FOREVER}, {"name": "b", "command": node.FOREVER}]
    pod = node.run(pods, node.manifest("two", containers=two))
    neighbour, pause = node.init(pods, pod, "b"), node.pause(pods, pod)
    node.kill(node.init(pods, pod, "a"))
    after = node.wait_for(
        pods,
        "two",
        lambda pod: node.ready(pod) and node.container(pod, "a")["restartCount"] == 1,
    )
    ended = node.container(after, "a")["lastState"]["terminated"]
    assert (ended["exitCode"], ended["signal"]) == (137, 9)
    assert node.container(after, "b")["restartCount"] == 0
    assert (node.init(pods, pod, "b"), node.pause(pods, pod)) == (neighbour, pause)
    assert after["status"]["podIP"] == pod["status"]["podIP"]


def test_command_that_cannot_be_executed_fails_as_in_kubernetes(pods: Instance) -> None:
    node.create(pods, node.manifest("none", ["/no/such/program"], policy="Never"))
    pod = node.wait_for(pods, "none", node.over)
    ended = node.container(pod)["state"]["terminated"]
    assert (pod["status"]["phase"], ended["exitCode"]) == ("Failed", 128)
    assert "/no/such/program" in ended["message"]
