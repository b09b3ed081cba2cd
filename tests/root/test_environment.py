# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a container as it sees them: from ConfigMaps, Secrets, the pod itself, and files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import node
from tests.features import requires
from tests.instance import Instance

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

Json = dict[str, Any]
FIELDS = {
    "NAME": "metadata.name",
    "SPACE": "metadata.namespace",
    "UID": "metadata.uid",
    "LABEL": "metadata.labels['app']",
    "NOTE": "metadata.annotations['example.com/note']",
    "NODE": "spec.nodeName",
    "ACCOUNT": "spec.serviceAccountName",
    "HOST_IP": "status.hostIP",
    "HOST_IPS": "status.hostIPs",
    "POD_IP": "status.podIP",
    "POD_IPS": "status.podIPs",
}
RESOURCES = {
    "L_CPU": ("limits.cpu", "1m"),
    "R_CPU": ("requests.cpu", "1m"),
    "L_MEM": ("limits.memory", "1Mi"),
    "R_MEM": ("requests.memory", "1"),
    "L_DISK": ("limits.ephemeral-storage", "1"),
    "R_DISK": ("requests.ephemeral-storage", "1"),
    "L_PAGES": ("limits.hugepages-2Mi", "1"),
    "R_PAGES": ("requests.hugepages-2Mi", "1"),
}
SHOW = [
    "sh",
    "-c",
    "cat /proc/self/environ; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
]


@pytest.fixture(scope="module")
def for_all(busybox_archive: Path) -> Iterator[Instance]:
    with node.instance_for_all(busybox_archive) as found:
        yield found


@pytest.fixture
def here(for_all: Instance) -> Iterator[Instance]:
    with node.without_a_trace(for_all):
        try:
            yield for_all
        finally:
            for kind in ("pods", "configmaps", "secrets"):
                request: Json = {"kind": kind, "namespace": "default", "gracePeriodSeconds": 0}
                node.ask(for_all, "delete", all=True, **request)


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def pod(env: list[Json], env_from: list[Json] | None = None, **spec: Any) -> Json:
    one = {"name": "c", "command": SHOW, "env": env, "envFrom": env_from or []}
    made = node.manifest("p", containers=[{**one, **spec.pop("container", {})}], **spec)
    made["metadata"] |= {"labels": {"app": "web"}, "annotations": {"example.com/note": "a\nb"}}
    return made


def seen(instance: Instance) -> dict[str, str]:
    """Return the environment that a command in the container has; the container's own must be the same."""
    own = instance.cli("exec", "p", "--", "cat", "/proc/1/environ").stdout
    later = instance.cli("exec", "p", "--", "cat", "/proc/self/environ").stdout
    found, other = (
        dict(entry.partition("=")[::2] for entry in text.rstrip("\0").split("\0"))
        for text in (own, later)
    )
    assert other == found
    return found


def source(**ref: Any) -> Json:
    return {"valueFrom": ref}


@pytest.mark.field(
    "Container.env",
    "Container.envFrom",
    "EnvVar.name",
    "EnvVar.value",
    "EnvVar.valueFrom",
    "EnvVarSource.configMapKeyRef",
    "EnvVarSource.secretKeyRef",
    "ConfigMapKeySelector.name",
    "ConfigMapKeySelector.key",
    "SecretKeySelector.name",
    "SecretKeySelector.key",
    "SecretKeySelector.optional",
    "EnvFromSource.prefix",
    "EnvFromSource.configMapRef",
    "ConfigMapEnvSource.name",
    "SecretEnvSource.optional",
    "ConfigMap.data",
    "ConfigMap.metadata",
    "Secret.stringData",
    "Secret.metadata",
)
def test_config_maps_and_secrets(here: Instance) -> None:
    variables = [
        {"name": "ONE", **source(configMapKeyRef={"name": "c", "key": "A"})},
        {"name": "PASSWORD", **source(secretKeyRef={"name": "s", "key": "password"})},
        {"name": "B", "value": "own"},
        {"name": "URL", "value": "$(ONE):$(PASSWORD)@$(P_B) $$(ONE) $(NONE)"},
        {"name": "GONE", **source(secretKeyRef={"name": "none", "key": "x", "optional": True})},
    ]
    many: list[Json] = [
        {"prefix": "P_", "configMapRef": {"name": "c"}},
        {"configMapRef": {"name": "c"}},
        {"secretRef": {"name": "none", "optional": True}},
    ]
    # In one file, the pod first: what it refers to is there all the same.
    node.create(
        here, pod(variables, many), config_map("c", A="1", B="2"), secret("s", password="pw")
    )
    found = node.wait_for(here, "p", node.ready)
    env = seen(here)
    assert {key: env.get(key) for key in ("ONE", "PASSWORD", "B", "URL", "P_A", "A", "GONE")} == {
        "ONE": "1",
        "PASSWORD": "pw",
        "B": "own",
        "URL": "1:pw@2 $(ONE) $(NONE)",
        "P_A": "1",
        "A": "1",
        "GONE": None,
    }
    assert "pw" not in json.dumps(found)
    # Nobody but root reads what is kept for commands, and nothing of it is on a disk.
    kept = list(Path(here.config.run_dir).glob("pods/*/*/env-c"))
    assert [oct(file.stat().st_mode) for file in kept] == ["0o100600"]
    assert not [
        file
        for file in Path(here.config.root_dir, "pods").rglob("*")
        if file.is_file() and b"pw@" in file.read_bytes()
    ]


def test_another_agent_executes_commands_with_what_the_container_got(here: Instance) -> None:
    variables = [{"name": "X", **source(configMapKeyRef={"name": "c", "key": "x"})}]
    node.create(here, config_map("c", x="before"), pod(variables))
    node.wait_for(here, "p", node.ready)
    node.ask(
        here,
        "create",
        manifest=json.dumps(config_map("c", x="after")),
        apply=True,
        source="test",
        namespace="default",
    )
    node.kill_agent(here)
    node.up(here)
    assert seen(here)["X"] == "before"


@pytest.mark.field(
    "EnvVarSource.fieldRef",
    "ObjectFieldSelector.fieldPath",
    "ObjectMeta.name",
    "ObjectMeta.labels",
    "ObjectMeta.annotations",
    "Pod.metadata",
)
def test_the_pods_own_fields(here: Instance) -> None:
    variables = [
        {"name": name, **source(fieldRef={"fieldPath": path})} for name, path in FIELDS.items()
    ]
    made = node.run(here, pod(variables, serviceAccountName="robot"))
    env = seen(here)
    status = made["status"]
    assert {name: env[name] for name in FIELDS} == {
        "NAME": "p",
        "SPACE": "default",
        "UID": made["metadata"]["uid"],
        "LABEL": "web",
        "NOTE": "a\nb",
        "NODE": os.uname().nodename.lower(),
        "ACCOUNT": "robot",
        "HOST_IP": status["hostIP"],
        "HOST_IPS": status["hostIP"],
        "POD_IP": status["podIP"],
        "POD_IPS": status["podIP"],
    }


@pytest.mark.field(
    "EnvVarSource.resourceFieldRef",
    "ResourceFieldSelector.resource",
    "ResourceFieldSelector.divisor",
)
def test_the_containers_resources(here: Instance) -> None:
    variables = [
        {"name": name, **source(resourceFieldRef={"resource": resource, "divisor": unit})}
        for name, (resource, unit) in RESOURCES.items()
    ]
    variables.append({"name": "CPUS", **source(resourceFieldRef={"resource": "limits.cpu"})})
    resources = {"limits": {"memory": "100M"}, "requests": {"cpu": "100m"}}
    node.run(here, pod(variables, container={"resources": resources}))
    env = seen(here)
    disk = os.statvfs(here.config.root_dir)
    assert {name: env[name] for name in (*RESOURCES, "CPUS")} == {
        "L_CPU": str(1000 * (os.cpu_count() or 1)),
        "CPUS": str(os.cpu_count()),
        "R_CPU": "100",
        "L_MEM": "96",
        "R_MEM": "100000000",
        "L_DISK": str(disk.f_blocks * disk.f_frsize),
        "R_DISK": "0",
        "L_PAGES": "0",
        "R_PAGES": "0",
    }


def waits_for_config(data: Json) -> bool:
    waiting = node.container(data)["state"].get("waiting", {})
    return bool(waiting.get("reason") == "CreateContainerConfigError")


def test_a_container_waits_for_what_it_needs(here: Instance) -> None:
    variables = [{"name": "X", **source(secretKeyRef={"name": "s", "key": "x"})}]
    node.create(here, pod(variables))
    found = node.wait_for(here, "p", waits_for_config)
    assert found["status"]["phase"] == "Pending"
    assert node.container(found)["state"]["waiting"]["message"] == 'secret "s" not found'
    assert 'Failed: Error: secret "s" not found' in node.events(here, "p")
    node.create(here, secret("s", y="1"))
    node.wait_for(
        here, "p", lambda p: "couldn't find key x" in json.dumps(p["status"]["containerStatuses"])
    )
    text = json.dumps(secret("s", x="here"))
    node.ask(here, "create", manifest=text, apply=True, source="test", namespace="default")
    found = node.wait_for(here, "p", node.ready)
    assert node.container(found)["restartCount"] == 0
    assert seen(here)["X"] == "here"


@pytest.mark.field(
    "FileKeySelector.volumeName",
    "FileKeySelector.path",
    "FileKeySelector.key",
    "FileKeySelector.optional",
)
@pytest.mark.parametrize("medium", ["", "Memory"])
def test_a_file_that_another_container_wrote(here: Instance, medium: str) -> None:
    variables = [
        {"name": "X", **source(fileKeyRef={"volumeName": "v", "path": "d/env", "key": "X"})},
        {
            "name": "Y",
            **source(fileKeyRef={"volumeName": "v", "path": "d/env", "key": "Y", "optional": True}),
        },
    ]
    made = pod(variables, volumes=[{"name": "v", "emptyDir": {"medium": medium}}])
    node.create(here, made)
    found = node.wait_for(here, "p", waits_for_config)
    message = node.container(found)["state"]["waiting"]["message"]
    assert message == "environment variable key 'X' not found in file d/env of volume v"
    node.delete(here, "p", grace=0)

    # A restart is the second look: what the first run wrote is there for it.
    write = "mkdir -p /v/d; echo \"X='from a file'\" > /v/d/env; ln -s /etc/passwd /v/link"
    made["spec"]["containers"] = [
        {
            "name": "w",
            "image": node.IMAGE,
            "command": ["sh", "-c", f"{write}; exec sleep 1000"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        },
        *made["spec"]["containers"],
    ]
    node.create(here, made)
    node.wait_for(here, "p", node.ready)
    shown = here.cli("exec", "p", "-c", "c", "--", "env").stdout.splitlines()
    assert "X=from a file" in shown
    assert not any(line.startswith("Y=") for line in shown)


def test_a_link_in_a_volume_is_not_followed(here: Instance) -> None:
    variables = [{"name": "X", **source(fileKeyRef={"volumeName": "v", "path": "env", "key": "X"})}]
    made = pod(variables, volumes=[{"name": "v", "emptyDir": {}}])
    made["spec"]["containers"].append(
        {
            "name": "w",
            "image": node.IMAGE,
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "command": ["sh", "-c", "ln -s /etc/shadow /v/env; exec sleep 1000"],
        }
    )
    node.create(here, made)
    node.wait_for(
        here, "p", lambda p: "too many levels of symbolic links" in json.dumps(p["status"])
    )


def test_no_secret_is_told_of_what_fails(here: Instance) -> None:
    variables = [
        {"name": "X", **source(secretKeyRef={"name": "s", "key": "x"})},
        {"name": "UP", **source(secretKeyRef={"name": "s", "key": "up"})},
    ]
    volume = [{"name": "v", "emptyDir": {}}]

    def failing(name: str, path: str, *command: str) -> Json:
        mounts = [{"name": "v", "mountPath": "/v", "subPathExpr": path}]
        one = {"name": "c", "env": variables, "command": list(command), "volumeMounts": mounts}
        return node.manifest(name, containers=[one], volumes=volume)

    node.create(
        here,
        secret("s", x="hunter-2", up="../hunter-2"),
        failing("program", "a", "$(X)"),
        failing("outside", "$(UP)", "true"),
        failing("long", "a/$(X)" + "b" * 255, "true"),
        failing("argument", "a", "/none", "$(X)"),
    )
    for name in ("program", "outside", "long", "argument"):
        node.wait_for(
            here, name, lambda p: bool(node.container(p)["state"].get("waiting", {}).get("message"))
        )
        told = [json.dumps(node.pods(here)[name]["status"]), *node.events(here, name)]
        assert any("Error: " in words for words in told), told
        assert "hunter-2" not in "".join(told)
    assert "hunter-2" not in Path(here.config.root_dir, "agent.log").read_text()


def test_what_no_program_can_be_given(here: Instance) -> None:
    # Each variable is twice the one before: the 40th would have 2^50 bytes.
    bomb = [{"name": "V0", "value": "x" * 1024}]
    bomb += [{"name": f"V{i}", "value": f"$(V{i - 1})" * 2} for i in range(1, 40)]
    every = {"name": "c", "command": SHOW, "envFrom": [{"configMapRef": {"name": "c"}}]}
    node.create(
        here,
        config_map("c", A="x" * 1_000_000),
        pod(bomb),
        node.manifest("q", containers=[every]),
    )

    def fails(data: Json) -> bool:
        return bool(node.container(data)["state"].get("waiting", {}).get("message"))

    found = node.wait_for(here, "p", fails)
    waiting = node.container(found)["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerError"
    assert "'$(V7)$(V7)' has more than 131072 bytes" in waiting["message"]
    node.wait_for(here, "q", lambda p: node.container(p)["restartCount"] > 0 or fails(p))
    (why,) = (event for event in node.events(here, "q") if "E2BIG" in event)
    assert "use a configMap or secret volume" in why


def test_a_plan_shows_no_secret(here: Instance) -> None:
    variables = [{"name": "X", **source(secretKeyRef={"name": "s", "key": "x"})}]
    text = "\n---\n".join(json.dumps(each) for each in (pod(variables), secret("s", x="hunter-2")))
    shown = here.cli("plan", "-", input=text).stdout
    assert "hunter-2" not in shown
