# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod plan`` as a user has it: of a manifest, of a pod that runs, and what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.instance import TEST_IMAGE, Instance

Json = dict[str, Any]

POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [
            {
                "name": "app",
                "image": TEST_IMAGE,
                "command": ["/probe", "report", "hold"],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }
        ],
    },
}


@pytest.fixture(scope="module")
def node(shared_instance: Instance) -> Iterator[Instance]:
    shared_instance.write("web.json", json.dumps(POD))
    shared_instance.cli("create", "-f", shared_instance.base / "web.json")
    shared_instance.wait("web", "condition=Ready")
    yield shared_instance
    shared_instance.delete("web")


def changed(node: Instance, **changes: Any) -> str:
    """Return the file of the manifest with other values in its container."""
    pod = json.loads(json.dumps(POD))
    pod["spec"]["containers"][0].update(changes)
    return str(node.write("changed.json", json.dumps(pod)))


def test_a_running_pods_plan_has_its_own_uid_address_and_lines(node: Instance) -> None:
    pod = node.pod("web")
    (plan,) = json.loads(node.cli("plan", "pod/web", "-o", "json").stdout)["items"]
    assert plan["running"] and plan["pod"] == "default/web"
    steps = {step["kind"]: step for step in plan["steps"]}
    assert steps["AttachNetwork"]["arguments"]["address"] == pod["status"]["podIP"]
    assert pod["metadata"]["uid"] in steps["MakeDirectory"]["arguments"]["path"]
    assert steps["Exec"]["origin"]["file"].endswith("web.json")
    shown = node.cli("plan", "pod", "web").stdout
    assert shown == node.cli("plan", "pod/web").stdout
    assert "are examples" not in shown and pod["metadata"]["uid"] in shown


def test_a_pod_does_not_differ_from_its_manifest(node: Instance) -> None:
    for pair in (("pod/web", "web.json"), ("web.json", "pod/web"), ("web.json", "web.json")):
        old, new = (str(node.base / x) if x.endswith("json") else x for x in pair)
        done = node.cli("plan", new, "--diff", old, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_differs_from_a_running_pod(node: Instance) -> None:
    path = changed(
        node, command=["/probe", "report", "hold", "on"], env=[{"name": "A", "value": "2"}]
    )
    done = node.cli("plan", path, "--diff", "pod/web", check=False)
    assert done.returncode == 1
    assert "      - env: A=1\n" in done.stdout and "      + env: A=2\n" in done.stdout
    assert "      + argv: on\n" in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith(("HOST", "PAUSE"))] == []
    done = node.cli("plan", path, "--diff", "pod/web", "-o", "json", check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 1 and found["kind"] == "PlanDiff" and not found["same"]
    words = ["/probe", "report", "hold"]
    (change,) = found["items"][0]["changes"]
    assert (change["actor"], change["change"]) == ("container/app", "changed")
    assert change["arguments"]["argv"] == {"old": [*words], "new": [*words, "on"]}


def test_trouble_is_no_difference(node: Instance) -> None:
    path = str(node.base / "web.json")
    for other in ("pod/nobody", "/nowhere.yaml"):
        done = node.cli("plan", path, "--diff", other, check=False)
        assert done.returncode == 2 and done.stderr and not done.stdout
    assert node.cli("plan", path, path, check=False).returncode == 2
    assert node.cli("plan", path, "--teardown", check=False).returncode == 2
    assert node.cli("plan", "pod/web", "-o", "sh", check=False).returncode == 2
    done = node.cli("plan", "-", "--diff", "-", check=False, input="")
    assert done.returncode == 2 and "standard input" in done.stderr
