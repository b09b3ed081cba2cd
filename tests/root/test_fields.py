# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields whose effect no other test shows in a pod, many of them in one pod: see tests/unit/test_field_coverage.py."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.images import ImageStore
from tests import node
from tests.features import requires
from tests.instance import TEST_IMAGE, Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

VOLUME: Json = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
MEMORY: list[Json] = [{"name": "v", "emptyDir": {"medium": "Memory"}}]


@pytest.fixture
def here(shared_instance: Instance) -> Iterator[Instance]:
    """The module's instance; pods and objects of the test go at its end."""
    yield shared_instance
    for kind in ("pods", "configmaps", "secrets"):
        request: Json = {"kind": kind, "namespace": "default", "gracePeriodSeconds": 0}
        shared_instance.call("delete", {**request, "all": True})


def apply(instance: Instance, *objects: Json) -> None:
    text = "\n---\n".join(json.dumps({"apiVersion": "v1", **each}) for each in objects)
    source = {"source": "objects.yaml", "namespace": "default"}
    instance.call("create", {"manifest": text, "apply": True, **source})


def config_map(name: str, **data: str) -> Json:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Json:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"kind": "Secret", "metadata": {"name": name}, "data": encoded}


def forever(script: str = "") -> list[str]:
    """Return a command that executes *script* and then sleeps until it is killed."""
    return ["sh", "-c", f"{script or ':'}; while :; do sleep 1000 & wait; done".replace("$", "$$")]


# ---- environment ----------------------------------------------------------------------------------------------


@pytest.mark.field(
    "ConfigMapKeySelector.optional",
    "ConfigMapEnvSource.optional",
    "EnvFromSource.secretRef",
    "SecretEnvSource.name",
)
def test_variables_that_may_be_missing(here: Instance) -> None:
    apply(here, config_map("c", there="1"), secret("s", user="me", password="pw"))

    def key(name: str, key: str) -> Json:
        return {"valueFrom": {"configMapKeyRef": {"name": name, "key": key, "optional": True}}}

    container = {
        "env": [
            {"name": "THERE", **key("c", "there")},
            {"name": "NO_KEY", **key("c", "nowhere")},
            {"name": "NO_MAP", **key("nowhere", "there")},
        ],
        "envFrom": [
            {"secretRef": {"name": "s"}},
            {"configMapRef": {"name": "nowhere", "optional": True}},
        ],
    }
    here.start_pod("optional", container)
    found = here.probe("optional", "env")
    for name in ("PATH", "HOME", "HOSTNAME"):
        found.pop(name)
    assert found == {"THERE": "1", "user": "me", "password": "pw"}


# ---- volumes of files -----------------------------------------------------------------------------------------


@pytest.mark.field(
    "ConfigMapVolumeSource.optional",
    "ConfigMapProjection.optional",
    "DownwardAPIVolumeSource.defaultMode",
    "DownwardAPIVolumeSource.defaultUser",
    "DownwardAPIVolumeFile.mode",
    "DownwardAPIVolumeFile.user",
    "SecretVolumeSource.defaultMode",
    "SecretVolumeSource.defaultUser",
    "SecretProjection.items",
    "ProjectedVolumeSource.defaultUser",
)
def test_modes_and_owners_of_files(here: Instance) -> None:
    apply(here, secret("s", a="1", b="2"))

    def fact(path: str, **more: int) -> Json:
        return {"path": path, "fieldRef": {"fieldPath": "metadata.name"}, **more}

    own = {"name": "s", "items": [{"key": "a", "path": "deep/a"}]}
    missing = {"name": "nowhere", "optional": True}
    sources: dict[str, Json] = {
        "none": {"configMap": missing},
        "facts": {
            "downwardAPI": {
                "items": [fact("default"), fact("own", mode=0o604, user=8)],
                "defaultMode": 0o440,
                "defaultUser": 7,
            }
        },
        "secret": {"secret": {"secretName": "s", "defaultMode": 0o400, "defaultUser": 9}},
        "all": {
            "projected": {"sources": [{"secret": own}, {"configMap": missing}], "defaultUser": 11}
        },
    }
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in sources]
    volumes = [{"name": name, **source} for name, source in sources.items()]
    here.start_pod("files", {"volumeMounts": mounts}, volumes=volumes)

    def seen(path: str) -> tuple[int, int]:
        found = here.probe("files", "stat", path)
        return found["mode"], found["uid"]

    assert here.probe("files", "list", "/none/..data") == {}
    assert seen("/facts/..data/default") == (0o440, 7)
    assert seen("/facts/..data/own") == (0o604, 8)
    assert seen("/secret/..data/a") == seen("/secret/..data/b") == (0o400, 9)
    assert seen("/all/..data/deep/a") == (0o644, 11)
    assert set(here.probe("files", "list", "/all/..data")) == {"deep"}, "b was not asked for"


# ---- images that go -------------------------------------------------------------------------------------------


@pytest.mark.field(
    "Container.imagePullPolicy",
    "EphemeralContainer.imagePullPolicy",
    "ImageVolumeSource.pullPolicy",
)
def test_whether_a_missing_image_may_be_pulled(here: Instance, test_archive: Path) -> None:
    """The images are there when the pods start and not when they start again."""
    policies = ("Never", "IfNotPresent")
    names = {policy: f"localhost/{policy.lower()}:1" for policy in policies}
    for name in names.values():
        with test_archive.open("rb") as file:
            here.call("image", {"op": "load", "name": name}, (file.fileno(),))
    late = [{"name": "v", "secret": {"secretName": "late"}}]
    here.create("late", VOLUME, volumes=late)
    for policy, name in names.items():
        debug(here, "late", policy.lower(), image=name, imagePullPolicy=policy)
        volume = [{"name": "v", "image": {"reference": name, "pullPolicy": policy}}]
        container = {"image": name, "imagePullPolicy": policy}
        here.start_pod(policy.lower(), container, restartPolicy="Always")
        here.start_pod(f"{policy.lower()}-volume", VOLUME, volumes=volume, restartPolicy="Always")
    store = ImageStore(f"{here.config.root_dir}/images")
    for policy, name in names.items():
        pause = node.pause(here, here.pod(f"{policy.lower()}-volume"))
        pid = here.pid(policy.lower())
        list(store.remove(name))
        os.kill(pid, signal.SIGKILL)
        os.kill(pause, signal.SIGKILL)

    apply(here, secret("late"))

    def waits_for(words: str, name: str = "c0") -> Any:
        def holds(pod: Json) -> bool:
            found = pod["status"]
            every = found["containerStatuses"] + found.get("ephemeralContainerStatuses", [])
            reasons = {s["name"]: s["state"].get("waiting", {}).get("reason") for s in every}
            return bool(reasons.get(name) == words)

        return holds

    for policy, words in zip(policies, ("ErrImageNeverPull", "ErrImagePull"), strict=True):
        for name in (policy.lower(), f"{policy.lower()}-volume"):
            here.until(name, waits_for(words))
        here.until("late", waits_for(words, policy.lower()))


# ---- probes ---------------------------------------------------------------------------------------------------


def asking(name: str, script: str = "", **more: Any) -> Json:
    """Return a probe that writes down when it is asked; times are the pod's, so only their order means something."""
    command = f"echo {name} >> /v/asked; {script or 'true'}"
    return {"exec": {"command": ["sh", "-c", command]}, "periodSeconds": 1, **more}


@pytest.mark.field(
    "Probe.initialDelaySeconds",
    "Probe.periodSeconds",
    "Probe.successThreshold",
    "Probe.failureThreshold",
    "Probe.timeoutSeconds",
)
def test_when_a_probe_is_asked_and_what_its_answers_mean(here: Instance) -> None:
    alive = forever("echo run >> /v/asked")
    containers: dict[str, Json] = {
        "plain": {"readinessProbe": asking("plain")},
        "delayed": {"readinessProbe": asking("delayed", initialDelaySeconds=5)},
        "seldom": {"readinessProbe": asking("seldom", periodSeconds=4)},
        "careful": {"readinessProbe": asking("careful", successThreshold=5)},
        "patient": {"readinessProbe": asking("patient", "sleep 2", timeoutSeconds=30)},
        "hasty": {"readinessProbe": asking("hasty", "sleep 2", failureThreshold=1)},
        "killed": {
            "livenessProbe": asking("killed", "false", failureThreshold=4),
            "command": alive,
        },
    }
    made = [{"name": name, **VOLUME, **fields} for name, fields in containers.items()]
    grace = {"terminationGracePeriodSeconds": 1, "restartPolicy": "Always"}
    here.create("asked", *made, volumes=MEMORY, **grace)

    def is_ready(name: str) -> Any:
        return lambda pod: any(
            status["name"] == name and status["ready"]
            for status in pod["status"].get("containerStatuses", [])
        )

    here.until("asked", is_ready("careful"))
    assert asked(here).count("careful") >= 5
    here.until("asked", is_ready("patient"))
    here.until(
        "asked",
        lambda pod: any(
            status["name"] == "killed" and status["restartCount"] == 1
            for status in pod["status"]["containerStatuses"]
        ),
    )
    while asked(here).count("seldom") < 3 or "delayed" not in asked(here):
        here.pod("asked")
    words = asked(here)
    # Each is compared with one that is asked every second, however long that takes here.
    assert words[: words.index("delayed")].count("plain") >= 3
    first, last = words.index("seldom"), len(words) - 1 - words[::-1].index("seldom")
    assert words[first:last].count("plain") >= 2 * words[first:last].count("seldom")
    runs = " ".join(word for word in words if word in ("run", "killed")).split("run")
    assert runs[1].split() == ["killed"] * 4
    assert not here.container("asked", "hasty")["ready"]
    said = [event["message"] for event in here.events("asked")]
    timed_out = [text for text in said if "timed out after 1s" in text]
    assert timed_out, said


def asked(instance: Instance) -> list[str]:
    text: str = instance.probe("asked", "read", "/v/asked", container="plain")["text"]
    return text.split()


@pytest.mark.field("HTTPGetAction.host", "TCPSocketAction.host")
def test_a_probe_of_another_host(here: Instance) -> None:
    """The pod itself has no server, and is ready by that of another."""
    here.start_pod("server", {"command": ["httpd", "-f", "-p", "8080", "-h", "/etc"]})
    host = here.pod("server")["status"]["podIP"]
    where = {"host": host, "port": 8080}
    probes = (
        {"httpGet": {**where, "path": "/passwd"}},
        {"tcpSocket": where},
        {"httpGet": {"port": 8080, "path": "/passwd"}},
    )
    made = [{"readinessProbe": {**probe, "periodSeconds": 1}} for probe in probes]
    here.create("elsewhere", *made)

    def holds(pod: Json) -> bool:
        statuses = pod["status"].get("containerStatuses", [])
        return bool(statuses) and all(status["ready"] for status in statuses[:2])

    pod = here.until("elsewhere", holds)
    assert not pod["status"]["containerStatuses"][2]["ready"], "its own address does not answer"


# ---- the end --------------------------------------------------------------------------------------------------


def log_of(directory: Path) -> list[str]:
    path = directory / "log"
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def outside(here: Instance) -> Iterator[Path]:
    """A directory of the host that pods see as /v: what they did stays to be read."""
    path = here.base / "outside"
    path.mkdir()
    yield path
    (path / "log").unlink(missing_ok=True)
    path.rmdir()


def on_host(path: Path) -> list[Json]:
    return [{"name": "v", "hostPath": {"path": str(path)}}]


@pytest.mark.field("SleepAction.seconds")
def test_how_long_a_hook_sleeps(here: Instance, outside: Path) -> None:
    """All are told to stop at once, and hear of it when their hooks have slept."""

    def told(name: str, seconds: int) -> Json:
        trap = f'trap "echo {name} >> /v/log; exit 0" TERM; echo up >> /v/log'
        hook = {"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}} if seconds else {}
        return {"name": name, "command": forever(trap), **VOLUME, **hook}

    here.start_pod(
        "sleepy", told("third", 5), told("second", 2), told("first", 0), volumes=on_host(outside)
    )
    while log_of(outside).count("up") < 3:
        here.pod("sleepy")
    node.delete(here, "sleepy", timeout=20)
    assert log_of(outside)[3:] == ["first", "second", "third"]


@pytest.mark.field("PodSpec.terminationGracePeriodSeconds")
def test_the_pods_own_grace_period(here: Instance, outside: Path) -> None:
    """Nobody says otherwise: the default of 30 seconds would be longer than is waited here."""
    deaf = {"command": forever('trap "echo heard >> /v/log" TERM; echo up >> /v/log'), **VOLUME}
    here.start_pod("deaf", deaf, volumes=on_host(outside), terminationGracePeriodSeconds=1)
    while "up" not in log_of(outside):
        here.pod("deaf")
    node.delete(here, "deaf", timeout=20)
    assert log_of(outside) == ["up", "heard"]


# ---- names ----------------------------------------------------------------------------------------------------


@pytest.mark.field("ObjectMeta.generateName")
def test_a_name_that_is_made(here: Instance) -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"generateName": "worker-"},
        "spec": {"containers": [{"name": "c0", "image": TEST_IMAGE}]},
    }
    for _ in range(2):
        text = json.dumps({"apiVersion": "v1", **pod})
        here.call("create", {"manifest": text, "source": "x", "namespace": "default"})
    names = [pod["metadata"]["name"] for pod in here.get("pods")["items"]]
    assert len(set(names)) == 2
    for name in names:
        here.wait(name, "condition=Ready")
        assert name.startswith("worker-") and len(name) == len("worker-") + 5
        assert here.probe(name, "hostname") == name


# ---- ephemeral containers -------------------------------------------------------------------------------------


def debug(instance: Instance, pod: str, name: str, **fields: Any) -> None:
    container = json.dumps({"name": name, "image": TEST_IMAGE, **fields})
    instance.call("debug", {"pod": pod, "container": container})


@pytest.mark.field(
    "EphemeralContainer.args",
    "EphemeralContainer.envFrom",
    "EphemeralContainer.securityContext",
    "EphemeralContainer.terminationMessagePath",
    "EphemeralContainer.terminationMessagePolicy",
    "EphemeralContainer.workingDir",
)
def test_what_an_ephemeral_container_says_of_itself(here: Instance) -> None:
    apply(here, config_map("c", FROM="map"))
    here.start_pod("host", {})
    debug(
        here,
        "host",
        "dbg",
        args=["/probe", "report", "hold"],
        envFrom=[{"configMapRef": {"name": "c"}}],
        securityContext={"runAsUser": 77},
        workingDir="/tmp",
    )
    report = json.loads(here.first_line("host", "dbg"))
    assert report["env"]["FROM"] == "map"
    assert report["ids"]["uid"] == 77
    assert report["cwd"] == "/tmp"
    debug(
        here,
        "host",
        "words",
        command=["sh", "-c", "echo own >/tmp/end"],
        terminationMessagePath="/tmp/end",
    )
    policy = "FallbackToLogsOnError"
    debug(
        here,
        "host",
        "log",
        command=["sh", "-c", "echo log; exit 1"],
        terminationMessagePolicy=policy,
    )

    def ended(pod: Json) -> dict[str, str]:
        return {
            status["name"]: status["state"]["terminated"].get("message", "")
            for status in pod["status"].get("ephemeralContainerStatuses", [])
            if "terminated" in status["state"]
        }

    pod = here.until("host", lambda pod: len(ended(pod)) == 2)
    assert ended(pod) == {"words": "own\n", "log": "log\n"}
