# SPDX-License-Identifier: GPL-3.0-or-later
"""Ephemeral containers: added to a running pod, with its network and volumes and, if asked for, a target's PIDs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from tests.instance import TEST_IMAGE, Instance

pytestmark = pytest.mark.requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")


def debug(instance: Instance, pod: str, name: str = "dbg", **fields: Any) -> None:
    container = {"name": name, "image": TEST_IMAGE, **fields}
    instance.call("debug", {"pod": pod, "container": json.dumps(container)})


def status(instance: Instance, pod: str, name: str = "dbg") -> dict[str, Any]:
    found = instance.pod(pod)["status"].get("ephemeralContainerStatuses", [])
    return next(each for each in found if each["name"] == name)


def until(instance: Instance, pod: str, state: str, name: str = "dbg") -> dict[str, Any]:
    def holds(found: dict[str, Any]) -> bool:
        statuses = found["status"].get("ephemeralContainerStatuses", [])
        return any(each["name"] == name and state in each["state"] for each in statuses)

    instance.until(pod, holds)
    return status(instance, pod, name)


@pytest.mark.field(
    "EphemeralContainer.name",
    "EphemeralContainer.image",
    "EphemeralContainer.volumeMounts",
    "EphemeralContainer.env",
    "PodSpec.ephemeralContainers",
)
def test_it_shares_what_the_pod_shares(shared_instance: Instance) -> None:
    shared_instance.start_pod("web", {}, volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}])
    mounts = [{"name": "v", "mountPath": "/v"}]
    debug(shared_instance, "web", volumeMounts=mounts, env=[{"name": "A", "value": "b"}])
    found = until(shared_instance, "web", "running")
    assert (found["ready"], found["restartCount"]) == (False, 0)
    report = json.loads(shared_instance.first_line("web", "dbg"))
    other = json.loads(shared_instance.first_line("web", "c0"))
    for shared in ("net", "uts", "ipc"):
        assert report["ns"][shared] == other["ns"][shared]
    for own in ("pid", "mnt", "cgroup"):
        assert report["ns"][own] != other["ns"][own]
    assert report["env"]["A"] == "b"
    done = shared_instance.exec("web", "sh", "-c", "echo x >/v/f; cat /v/f", container="dbg")
    assert done.stdout == "x\n"
    pod = shared_instance.pod("web")
    assert [each["name"] for each in pod["spec"]["ephemeralContainers"]] == ["dbg"]
    conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert {"Pulled", "Created", "Started"} <= {
        e["reason"]
        for e in shared_instance.events("web")
        if e["involvedObject"].get("fieldPath") == "spec.ephemeralContainers{dbg}"
    }
    words = shared_instance.cli("describe", "pod", "web").stdout
    assert "Ephemeral Containers:\n  dbg:" in words
    shared_instance.delete("web")


@pytest.mark.field("EphemeralContainer.targetContainerName")
@pytest.mark.parametrize("share", [False, True])
def test_a_targets_processes(shared_instance: Instance, share: bool) -> None:
    shared_instance.start_pod("web", {}, {}, shareProcessNamespace=share)
    debug(shared_instance, "web", targetContainerName="c1")
    until(shared_instance, "web", "running")
    report = json.loads(shared_instance.first_line("web", "dbg"))
    target = json.loads(shared_instance.first_line("web", "c1"))
    other = json.loads(shared_instance.first_line("web", "c0"))
    assert report["ns"]["pid"] == target["ns"]["pid"]
    assert (other["ns"]["pid"] == target["ns"]["pid"]) is share
    assert report["ns"]["mnt"] != target["ns"]["mnt"]
    # An exec into it sees the same.
    done = shared_instance.exec("web", "readlink", "/proc/self/ns/pid", container="dbg")
    assert str(report["ns"]["pid"]) in done.stdout
    shared_instance.delete("web")


@pytest.mark.field("EphemeralContainer.command")
def test_it_is_never_restarted_and_does_not_count(shared_instance: Instance) -> None:
    shared_instance.start_pod("web", {}, restartPolicy="Always")
    debug(shared_instance, "web", command=["/probe", "exit", "3"])
    found = until(shared_instance, "web", "terminated")
    assert found["state"]["terminated"]["exitCode"] == 3 and found["restartCount"] == 0
    assert shared_instance.pod("web")["status"]["phase"] == "Running"
    # Another one, and a name is never used again.
    with pytest.raises(MinipodError, match="is given twice"):
        debug(shared_instance, "web")
    debug(shared_instance, "web", name="second")
    until(shared_instance, "web", "running", "second")
    shared_instance.delete("web")


def test_a_pod_ends_with_its_own_containers(shared_instance: Instance) -> None:
    shared_instance.start_pod("short", {}, terminationGracePeriodSeconds=1)
    debug(shared_instance, "short")
    until(shared_instance, "short", "running")
    os.kill(shared_instance.pid("short"), signal.SIGKILL)
    shared_instance.until("short", lambda pod: pod["status"]["phase"] == "Failed")
    assert "terminated" in status(shared_instance, "short")["state"]
    with pytest.raises(MinipodError, match="has ended"):
        debug(shared_instance, "short", name="late")
    shared_instance.delete("short")


def test_where_init_containers_do_not_get_on(shared_instance: Instance) -> None:
    init = {"name": "stuck", "image": TEST_IMAGE}
    shared_instance.create("initial", {}, initContainers=[init])
    shared_instance.until("initial", lambda pod: bool(pod["status"].get("podIP")))
    debug(shared_instance, "initial")
    until(shared_instance, "initial", "running")
    conditions = {
        c["type"]: c["status"] for c in shared_instance.pod("initial")["status"]["conditions"]
    }
    assert conditions["Initialized"] == "False"
    shared_instance.delete("initial")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ports": [{"containerPort": 1}]}, "ports: known to Kubernetes"),
        ({"resources": {"limits": {"cpu": "1"}}}, "resources: known to Kubernetes"),
        ({"livenessProbe": {"exec": {"command": ["x"]}}}, "livenessProbe: known to Kubernetes"),
        ({"lifecycle": {}}, "lifecycle: known to Kubernetes"),
        ({"targetContainerName": "c9"}, 'targetContainerName: "c9" names no container'),
        ({"name": "c0"}, 'name: container name "c0" is given twice'),
        ({"name": "A"}, 'name: "A" is not a DNS label'),
        ({"image": "localhost/other:1"}, "image localhost/other:1 is not in the store"),
        ({"unknown": 1}, "unknown: unknown field"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}, "names no volume of the pod"),
    ],
)
def test_refused(shared_instance: Instance, fields: dict[str, Any], words: str) -> None:
    if not any(p["metadata"]["name"] == "victim" for p in shared_instance.get("pods")["items"]):
        shared_instance.start_pod("victim", {})
    with pytest.raises(MinipodError) as caught:
        debug(shared_instance, "victim", **{"name": "dbg", **fields})
    assert words in str(caught.value)
    assert "ephemeralContainers" not in shared_instance.pod("victim")["spec"]


def test_a_new_pod_has_none(shared_instance: Instance) -> None:
    extra = [{"name": "dbg", "image": TEST_IMAGE}]
    with pytest.raises(MinipodError, match="may only be added to a running pod"):
        shared_instance.create("fresh", {}, ephemeralContainers=extra)


def test_an_agents_death_in_between(instance: Instance, test_archive: Path) -> None:
    instance.load(test_archive)
    instance.start_pod("web", {})
    debug(instance, "web", targetContainerName="c0")
    before = until(instance, "web", "running")
    os.kill(instance.call("agent-status", {})[0]["pid"], signal.SIGKILL)
    instance.cli("get", "pods")
    assert status(instance, "web") == before
    # One that ends while there is no agent has ended, and is not started again.
    pid = instance.call("agent-status", {})[0]["pid"]
    own = instance.pid("web", "dbg")
    os.kill(pid, signal.SIGKILL)
    os.kill(own, signal.SIGKILL)
    instance.cli("get", "pods")
    ended = until(instance, "web", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 137 and ended["restartCount"] == 0
    instance.delete("web")
