# SPDX-License-Identifier: GPL-3.0-or-later
"""Applying a manifest to a pod that lives: what takes effect, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from tests import node
from tests.features import requires
from tests.instance import Instance

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

Json = dict[str, Any]
OTHER = "localhost/busybox:other"


@pytest.fixture(scope="module")
def for_all(busybox_archive: Path) -> Iterator[Instance]:
    with node.instance_for_all(busybox_archive) as found:
        with busybox_archive.open("rb") as file:
            found.call("image", {"op": "load", "name": OTHER}, (file.fileno(),))
        yield found


@pytest.fixture
def here(for_all: Instance) -> Iterator[Instance]:
    with node.without_a_trace(for_all):
        try:
            yield for_all
        finally:
            for kind in ("pods", "configmaps"):
                request: Json = {"kind": kind, "namespace": "default", "gracePeriodSeconds": 0}
                node.ask(for_all, "delete", all=True, **request)


def apply(instance: Instance, *objects: Json) -> list[str]:
    """Apply objects and return what became of each."""
    text = "\n---\n".join(json.dumps(each, indent=1) for each in objects)
    asked = {"manifest": text, "source": "p.json", "namespace": "default", "apply": True}
    return [each["change"] for each in node.ask(instance, "create", **asked)["objects"]]


def test_labels_and_annotations(here: Instance) -> None:
    pod = node.manifest(
        "p",
        volumes=[
            {
                "name": "v",
                "downwardAPI": {
                    "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
                },
            },
        ],
    )
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    pod["metadata"]["labels"] = {"a": "1"}
    assert apply(here, pod) == ["created"]
    before = node.wait_for(here, "p", node.ready)
    assert before["metadata"]["generation"] == before["status"]["observedGeneration"] == 1
    assert apply(here, pod) == ["unchanged"]
    assert (
        node.pods(here)["p"]["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    )
    pod["metadata"]["labels"] = {"b": "2"}
    pod["metadata"]["annotations"] = {"note": "x"}
    assert apply(here, pod) == ["configured"]
    after = node.wait_for(here, "p", lambda p: p["metadata"]["labels"] == {"b": "2"})
    assert after["metadata"]["annotations"]["note"] == "x"
    assert "minipod.dev/start-milliseconds" in after["metadata"]["annotations"]
    assert after["metadata"]["generation"] == 1  # of the spec
    assert node.container(after)["restartCount"] == 0
    shown = ["exec", "p", "--", "sh", "-c", "until grep -q b= /v/labels; do :; done; cat /v/labels"]
    assert here.cli(*shown).stdout == 'b="2"'


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_another_image_restarts_the_container(here: Instance, policy: str) -> None:
    pod = node.manifest(
        "p",
        policy=policy,
        containers=[
            {"name": "c", "command": node.FOREVER},
            {"name": "other", "command": node.FOREVER},
        ],
    )
    apply(here, pod)
    before = node.wait_for(here, "p", node.ready)
    pod["spec"]["containers"][0]["image"] = OTHER
    assert apply(here, pod) == ["configured"]
    after = node.wait_for(
        here, "p", lambda p: node.container(p)["restartCount"] == 1 and node.ready(p)
    )
    assert node.container(after)["image"] == OTHER
    assert node.container(after, "other")["restartCount"] == 0
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert after["metadata"]["generation"] == after["status"]["observedGeneration"] == 2
    assert "Killing: Container c definition changed, will be restarted" in node.events(here, "p")


def test_a_deadline_that_is_set_later(here: Instance) -> None:
    pod = node.manifest("p")
    apply(here, pod)
    node.wait_for(here, "p", node.ready)
    pod["spec"]["activeDeadlineSeconds"] = 1
    assert apply(here, pod) == ["configured"]
    found = node.wait_for(here, "p", node.over)
    assert found["status"]["reason"] == "DeadlineExceeded"


def test_what_may_not_change_is_refused_whole(here: Instance) -> None:
    pod = node.manifest("p")
    apply(here, pod)
    before = node.wait_for(here, "p", node.ready)
    pod["metadata"]["labels"] = {"a": "1"}
    pod["spec"]["restartPolicy"] = "Never"
    pod["spec"]["hostname"] = "h"
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    with pytest.raises(MinipodError) as caught:
        apply(here, other, pod)
    said = caught.value.what.splitlines()
    assert [line.split(": ")[1] for line in said] == ["spec.hostname", "spec.restartPolicy"]
    assert all("pod updates may not change fields other than" in line for line in said)
    assert node.pods(here)["p"]["metadata"] == before["metadata"]
    assert node.ask(here, "get", kind="configmaps")["items"] == []
    with pytest.raises(MinipodError, match="localhost/none is not in the store"):
        apply(
            here,
            node.manifest(
                "p", containers=[{"name": "c", "image": "localhost/none", "command": node.FOREVER}]
            ),
        )


def test_a_pod_that_has_ended_is_not_run_again(here: Instance) -> None:
    pod = node.manifest("p", ["true"], policy="Never")
    apply(here, pod)
    ended = node.wait_for(here, "p", lambda p: p["status"]["phase"] == "Succeeded")
    assert apply(here, pod) == ["unchanged"]
    pod["metadata"]["labels"] = {"a": "b"}
    assert apply(here, pod) == ["configured"]
    assert here.pod("p")["metadata"]["uid"] == ended["metadata"]["uid"]
    pod["spec"]["containers"][0]["command"] = ["false"]
    with pytest.raises(MinipodError, match="command"):
        apply(here, pod)


def test_run_does_not_take_over_a_pod_that_lives(here: Instance) -> None:
    apply(here, node.manifest("p"))
    node.wait_for(here, "p", node.ready)
    done = here.cli("run", "-d", "-", input=json.dumps(node.manifest("p")), check=False)
    assert done.returncode == 1
    assert "pod default/p already exists" in done.stderr


def test_an_image_change_survives_the_agent(here: Instance) -> None:
    pod = node.manifest("p", policy="Never", terminationGracePeriodSeconds=3)
    pod["spec"]["containers"][0]["command"] = node.STUBBORN
    apply(here, pod)
    node.wait_for(here, "p", node.ready)
    pod["spec"]["containers"][0]["image"] = OTHER
    apply(here, pod)
    node.kill_agent(here)
    node.up(here)
    node.wait_for(here, "p", lambda p: node.container(p)["restartCount"] == 1 and node.ready(p))


def test_what_is_missing_is_said_at_once(here: Instance) -> None:
    pod = node.manifest("p")
    pod["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "c"}}]
    text = {"manifest": json.dumps(pod), "source": "p.json", "namespace": "default"}
    (warning,) = node.ask(here, "create", **text)["warnings"]
    assert 'configmap "c" not found: the pod waits until it is there' in warning


def test_a_missing_claim_is_said_at_once(here: Instance) -> None:
    pod = node.manifest("p")
    pod["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    text = {"manifest": json.dumps(pod), "source": "p.json", "namespace": "default"}
    (warning,) = node.ask(here, "create", **text)["warnings"]
    assert (
        'spec.volumes[0].persistentVolumeClaim.claimName: persistentvolumeclaim "c" not' in warning
    )
