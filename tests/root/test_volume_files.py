# SPDX-License-Identifier: GPL-3.0-or-later
"""configMap, secret, downwardAPI and projected volumes: what a container sees, and sees change."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.cli.client import call
from minipod.errors import MinipodError
from tests.features import requires
from tests.instance import Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

# Says one line per change of a volume: "seen" once it listens, then what the file has.
WATCH = """
exec 2>&1
inotifyd - /v:y </dev/null | while read event path name; do
  [ "$name" = ..data ] && echo "now $(cat /v/key)"
done &
"""


def config_map(name: str, data: Json, **more: object) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": data,
        **more,
    }


def secret(name: str, **data: str) -> Json:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def apply(instance: Instance, *objects: Json) -> None:
    """Create objects, or change those that are there."""
    text = "\n---\n".join(map(json.dumps, objects))
    request = {"manifest": text, "source": "test", "namespace": "default", "apply": True}
    instance.call("create", request)


def forget(instance: Instance, kind: str, *names: str) -> None:
    """Delete objects, if they are there."""
    for name in names:
        with contextlib.suppress(MinipodError):
            instance.call("delete", {"kind": kind, "names": [name], "namespace": "default"})


def volume(**source: Json) -> Json:
    return {"volumes": [{"name": "v", **source}]}


def at(path: str = "/v", **container: object) -> Json:
    return {"volumeMounts": [{"name": "v", "mountPath": path}], **container}


def events(instance: Instance, name: str) -> list[str]:
    return [f"{event['reason']}: {event['message']}" for event in instance.events(name)]


def until_event(instance: Instance, name: str, text: str) -> None:
    """Return once an event about pod *name* has *text* in it."""
    request = {"verb": "get", "kind": "events", "namespace": "default", "for": name, "watch": True}
    with call(instance.config, request, start=False, timeout=30) as answer:
        for event in answer:
            found = event["object"]
            if text in f"{found['reason']}: {found['message']}":
                return


@pytest.fixture
def node(shared_instance: Instance) -> Iterator[Instance]:
    """The module's instance; pods and objects of the test go at its end."""
    yield shared_instance
    done, _ = shared_instance.call("get", {"kind": "pods"})
    if names := [pod["metadata"]["name"] for pod in done["items"]]:
        shared_instance.delete(*names)
    for kind in ("configmaps", "secrets"):
        done, _ = shared_instance.call("get", {"kind": kind, "namespace": "default"})
        forget(shared_instance, kind, *(each["metadata"]["name"] for each in done["items"]))


# ---- what is there --------------------------------------------------------------------------------------------


def test_config_map(node: Instance) -> None:
    binary = base64.b64encode(bytes(range(256))).decode()
    apply(node, config_map("c", {"a.conf": "x=1\n", "empty": ""}, binaryData={"raw": binary}))
    node.start_pod("p", at(), **volume(configMap={"name": "c"}))
    assert node.probe("p", "read", "/v/a.conf") == {"text": "x=1\n"}
    assert node.probe("p", "read", "/v/empty") == {"text": ""}
    assert (
        node.exec("p", "md5sum", "/v/raw").stdout.split()[0] == "e2c865db4162bed963bfaa9ef6ac18f0"
    )
    names = set(node.probe("p", "list", "/v"))
    assert {"a.conf", "empty", "raw", "..data"} < names
    assert len(names) == 5
    assert node.exec("p", "readlink", "/v/a.conf").stdout == "..data/a.conf\n"
    stamped = node.exec("p", "readlink", "/v/..data").stdout
    assert re.fullmatch(r"\.\.\d{4}(_\d\d){5}\.\d+\n", stamped)
    seen = node.probe("p", "stat", "/v/..data/a.conf")
    assert (seen["mode"], seen["uid"], seen["gid"]) == (0o644, 0, 0)


def test_secret_is_in_memory_and_read_only(node: Instance) -> None:
    apply(node, secret("s", password="correct horse"))
    node.start_pod("p", at(), **volume(secret={"secretName": "s"}))
    assert node.probe("p", "read", "/v/password") == {"text": "correct horse"}
    assert node.probe("p", "write", "/v/..data/password", "x")["errno"] == errno.EROFS
    assert node.probe("p", "write", "/v/new", "x")["errno"] == errno.EROFS
    lines = Path(f"/proc/{node.pid('p')}/mountinfo").read_text().splitlines()
    mount = next(line for line in lines if line.split()[4] == "/v")
    assert " - tmpfs " in mount
    assert mount.split()[5].startswith("ro,nosuid,nodev")
    assert "noswap" in mount or not Path("/proc/swaps").exists()
    # Not below any directory of the instance, on whatever filesystem that is, but the store's own.
    words = b"correct horse"
    for path in filter(Path.is_file, node.base.rglob("*")):
        assert "state.db" in path.name or words not in path.read_bytes(), path


def test_items_modes_and_users(node: Instance) -> None:
    apply(node, config_map("c", {"a": "1", "b": "2", "c": "3"}))
    items = [
        {"key": "a", "path": "deep/er/one", "mode": 0o400},
        {"key": "b", "path": "two", "user": 1000},
        {"key": "c", "path": "run.sh", "mode": 0o755, "user": 0},
    ]
    source = {"name": "c", "items": items, "defaultMode": 0o640, "defaultUser": 77}
    node.start_pod("p", at(), **volume(configMap=source))

    def stat(path: str) -> tuple[int, int]:
        seen = node.probe("p", "stat", f"/v/..data/{path}")
        return seen["mode"], seen["uid"]

    assert stat("deep/er/one") == (0o400, 77)
    assert stat("deep/er") == (0o755, 0)
    assert stat("two") == (0o640, 1000)
    assert stat("run.sh") == (0o755, 0)
    assert set(node.probe("p", "list", "/v/..data")) == {"deep", "two", "run.sh"}
    assert node.probe("p", "read", "/v/deep/er/one") == {"text": "1"}


def test_a_script_can_be_executed(node: Instance) -> None:
    apply(node, config_map("c", {"go": "#!/bin/sh\necho it runs\n"}))
    source = {"name": "c", "defaultMode": 0o555}
    node.run_pod("p", at(command=["/v/go"]), **volume(configMap=source))
    assert node.output("p") == "it runs\n"


def test_downward_api(node: Instance) -> None:
    def fact(path: str, field: str) -> Json:
        return {"path": path, "fieldRef": {"fieldPath": field}}

    def resource(path: str, name: str, **more: str) -> Json:
        return {"path": path, "resourceFieldRef": {"containerName": "c0", "resource": name, **more}}

    items = [
        fact("name", "metadata.name"),
        fact("namespace", "metadata.namespace"),
        fact("uid", "metadata.uid"),
        fact("label", "metadata.labels['app']"),
        fact("none", "metadata.annotations['no/such']"),
        fact("labels", "metadata.labels"),
        fact("annotations", "metadata.annotations"),
        resource("cpu", "limits.cpu"),
        resource("millis", "limits.cpu", divisor="1m"),
        resource("memory", "requests.memory", divisor="1Ki"),
        resource("storage", "limits.ephemeral-storage"),
    ]
    labels = {"app": "web", "tier": "a_b"}
    annotations = {"text": 'two\nlines "quoted" \\ täglich', "b": "1"}
    limits = {"cpu": "250m", "memory": "64Mi"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": labels, "annotations": annotations},
        "spec": {
            "containers": [
                at(
                    name="c0",
                    image="localhost/test:1",
                    command=["sleep", "1000"],
                    resources={"limits": limits},
                )
            ],
            **volume(downwardAPI={"items": items, "defaultMode": 0o444}),
        },
    }
    apply(node, pod)
    node.wait("p", "condition=Ready")

    def read(name: str) -> str:
        text: str = node.probe("p", "read", f"/v/{name}")["text"]
        return text

    assert read("name") == "p"
    assert read("namespace") == "default"
    assert read("uid") == node.pod("p")["metadata"]["uid"]
    assert read("label") == "web"
    assert read("none") == ""
    assert read("labels") == 'app="web"\ntier="a_b"'
    lines = read("annotations").splitlines()
    assert lines[0] == 'b="1"'
    assert 'text="two\\nlines \\"quoted\\" \\\\ täglich"' in lines
    assert (read("cpu"), read("millis"), read("memory")) == ("1", "250", "65536")
    assert (
        int(read("storage"))
        == os.statvfs(node.config.root_dir).f_blocks * os.statvfs(node.config.root_dir).f_frsize
    )


def test_projected(node: Instance) -> None:
    apply(node, config_map("c", {"a": "from c", "same": "from c"}), secret("s", same="from s"))
    sources = [
        {"configMap": {"name": "c"}},
        {"secret": {"name": "s"}},
        {"secret": {"name": "nowhere", "optional": True}},
        {
            "downwardAPI": {
                "items": [{"path": "me/name", "fieldRef": {"fieldPath": "metadata.name"}}]
            }
        },
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "me/a", "mode": 0o600}]}},
    ]
    node.start_pod("p", at(), **volume(projected={"sources": sources, "defaultMode": 0o444}))
    assert set(node.probe("p", "list", "/v/..data")) == {"a", "same", "me"}
    assert node.probe("p", "read", "/v/same") == {"text": "from s"}, "the later source stays"
    assert node.probe("p", "read", "/v/me/name") == {"text": "p"}
    assert node.probe("p", "stat", "/v/..data/me/a")["mode"] == 0o600
    assert node.probe("p", "stat", "/v/..data/same")["mode"] == 0o444


def test_sub_path(node: Instance) -> None:
    apply(node, config_map("c", {"key": "first"}))
    mount = {"name": "v", "mountPath": "/etc/one", "subPath": "key"}
    node.start_pod("p", at(), {"volumeMounts": [mount]}, **volume(configMap={"name": "c"}))
    assert node.probe("p", "read", "/etc/one", container="c1") == {"text": "first"}
    apply(node, config_map("c", {"key": "second"}))
    node.exec("p", "sh", "-c", "until grep second /v/key; do sleep 0.01; done")
    assert node.probe("p", "read", "/etc/one", container="c1") == {"text": "first"}, "as Kubernetes"
    assert node.probe("p", "write", "/etc/one", "x", container="c1")["errno"] == errno.EROFS
