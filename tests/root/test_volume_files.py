# SPDX-License-Identifier: GPL-3.0-or-later
"""configMap, secret, downwardAPI and projected volumes: what a container sees, and sees change."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import random
import re
import select
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.cli.client import call
from minipod.errors import MinipodError
from tests.features import requires
from tests.instance import Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")


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


READY = '{"watching":true}'


def now(text: str) -> str:
    """Return what a container that watches says when the file ``key`` has become *text*."""
    return json.dumps({"text": text}, separators=(",", ":"))


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


@contextlib.contextmanager
def said(instance: Instance, name: str, container: str = "c0") -> Iterator[Iterator[str]]:
    """Give the lines that a container writes, as it writes them."""
    request = {"verb": "logs", "pod": name, "container": container, "follow": True}
    with call(instance.config, request, start=False, timeout=30) as answer:
        yield (event["log"]["text"] for event in answer if "log" in event)


def watch(instance: Instance, name: str, source: Json) -> None:
    """Start pod *name*, whose container watches volume *source*."""
    instance.start_pod(name, at(command=["/probe", "watch", "/v", "/v/key"]), **volume(**source))


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


@pytest.mark.field("Volume.configMap", "ConfigMapVolumeSource.name", "ConfigMap.binaryData")
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


@pytest.mark.field("Volume.secret", "SecretVolumeSource.secretName", "Secret.data")
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


@pytest.mark.field(
    "ConfigMapVolumeSource.items",
    "ConfigMapVolumeSource.defaultMode",
    "ConfigMapVolumeSource.defaultUser",
    "KeyToPath.key",
    "KeyToPath.path",
    "KeyToPath.mode",
    "KeyToPath.user",
)
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


@pytest.mark.field(
    "Volume.downwardAPI",
    "DownwardAPIVolumeSource.items",
    "DownwardAPIVolumeFile.path",
    "DownwardAPIVolumeFile.fieldRef",
    "DownwardAPIVolumeFile.resourceFieldRef",
    "ResourceFieldSelector.containerName",
)
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


@pytest.mark.field(
    "ProjectedVolumeSource.sources",
    "ProjectedVolumeSource.defaultMode",
    "VolumeProjection.configMap",
    "VolumeProjection.secret",
    "VolumeProjection.downwardAPI",
    "ConfigMapProjection.name",
    "ConfigMapProjection.items",
    "SecretProjection.name",
    "SecretProjection.optional",
    "DownwardAPIProjection.items",
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


# ---- what changes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["configMap", "secret", "projected"])
def test_a_running_container_sees_a_change(node: Instance, kind: str) -> None:
    def write(text: str) -> None:
        apply(node, secret("o", key=text) if kind == "secret" else config_map("o", {"key": text}))

    write("first")
    source: Json = {"name": "o"}
    if kind == "secret":
        source = {"secretName": "o"}
    elif kind == "projected":
        source = {"sources": [{"configMap": {"name": "o"}}]}
    watch(node, "p", {kind: source})
    before = node.exec("p", "readlink", "/v/..data").stdout
    with said(node, "p") as lines:
        assert next(lines) == READY
        write("second")
        assert next(lines) == now("second")
        write("third")
        assert next(lines) == now("third")
    assert node.exec("p", "readlink", "/v/..data").stdout != before
    assert len(node.probe("p", "list", "/v")) == 3, "the old files are gone"


def test_nothing_is_written_when_nothing_changed(node: Instance) -> None:
    apply(node, config_map("c", {"key": "same"}), config_map("other", {"key": "1"}))
    node.start_pod("p", at(), **volume(configMap={"name": "c"}))
    before = node.exec("p", "readlink", "/v/..data").stdout
    apply(node, config_map("other", {"key": "2"}))
    again = config_map("c", {"key": "same"})
    again["metadata"]["labels"] = {"new": "label"}
    apply(node, again)
    node.start_pod("q", at(), **volume(configMap={"name": "c"}))
    assert node.exec("p", "readlink", "/v/..data").stdout == before


def test_keys_come_and_go(node: Instance) -> None:
    apply(node, config_map("c", {"key": "1", "old": "x"}))
    watch(node, "p", {"configMap": {"name": "c"}})
    with said(node, "p") as lines:
        assert next(lines) == READY
        apply(node, config_map("c", {"key": "2", "new": "y"}))
        assert next(lines) == now("2")
    node.exec("p", "sh", "-c", "while [ -L /v/old ] || ! [ -L /v/new ]; do sleep 0.01; done")
    assert {"key", "new"} < set(node.probe("p", "list", "/v"))
    assert node.probe("p", "read", "/v/new") == {"text": "y"}


def test_a_deleted_object_leaves_the_files(node: Instance) -> None:
    apply(node, config_map("c", {"key": "kept"}))
    node.start_pod("p", at(), **volume(configMap={"name": "c"}))
    forget(node, "configmaps", "c")
    until_event(
        node, "p", 'FailedMount: MountVolume.SetUp failed for volume "v" : configmap "c" not found'
    )
    assert node.probe("p", "read", "/v/key") == {"text": "kept"}


@pytest.mark.field("SecretVolumeSource.optional")
def test_an_optional_object_may_come_later(node: Instance) -> None:
    watch(node, "p", {"secret": {"secretName": "s", "optional": True}})
    assert set(node.probe("p", "list", "/v/..data")) == set()
    with said(node, "p") as lines:
        assert next(lines) == READY
        apply(node, secret("s", key="here"))
        assert next(lines) == now("here")


# ---- what is missing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "first", "then", "words"),
    [
        (
            {"configMap": {"name": "o"}},
            None,
            config_map("o", {"key": "x"}),
            'configmap "o" not found',
        ),
        ({"secret": {"secretName": "o"}}, None, secret("o", key="x"), 'secret "o" not found'),
        (
            {"projected": {"sources": [{"secret": {"name": "o"}}]}},
            None,
            secret("o", key="x"),
            'secret "o" not found',
        ),
        (
            {"configMap": {"name": "o", "items": [{"key": "key", "path": "key"}]}},
            config_map("o", {"other": "y"}),
            config_map("o", {"key": "x"}),
            "references non-existent config key: key",
        ),
        (
            {"secret": {"secretName": "o", "items": [{"key": "key", "path": "key"}]}},
            secret("o", other="y"),
            secret("o", key="x"),
            "references non-existent secret key: key",
        ),
    ],
    ids=["configMap", "secret", "projected", "config-key", "secret-key"],
)
def test_a_pod_waits_for_what_is_missing(
    node: Instance, source: Json, first: Json | None, then: Json, words: str
) -> None:
    if first:
        apply(node, first)
    node.create("p", at(command=["cat", "/v/key"]), **volume(**source))
    until_event(node, "p", f'FailedMount: MountVolume.SetUp failed for volume "v" : {words}')
    pod = node.pod("p")
    assert pod["status"]["phase"] == "Pending"
    assert (
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    )
    assert "podIP" not in pod["status"], "as with a kubelet, there is no sandbox yet"
    apply(node, then)
    node.until("p", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert node.output("p") == "x\n"


def test_a_waiting_pod_can_be_deleted(node: Instance) -> None:
    node.create("p", at(), **volume(configMap={"name": "nowhere"}))
    until_event(node, "p", "FailedMount")
    node.delete("p")


def test_keys_that_cannot_both_be_files(node: Instance) -> None:
    apply(node, config_map("c", {"a": "1"}))
    sources = [
        {"configMap": {"name": "c"}},
        {"downwardAPI": {"items": [{"path": "a/b", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    node.create("p", at(command=["cat", "/v/a/b"]), **volume(projected={"sources": sources}))
    until_event(node, "p", "'a' is a file, and the directory of 'a/b'")
    apply(node, config_map("c", {"z": "1"}))
    node.until("p", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert node.output("p") == "p\n"


# ---- what survives ----------------------------------------------------------------------------------------------


def test_it_survives_a_restart_and_not_the_pod(node: Instance) -> None:
    apply(node, config_map("c", {"key": "x"}))
    script = "cat /v/key; sleep 1000"
    node.start_pod(
        "p",
        at(command=["sh", "-c", script]),
        restartPolicy="Always",
        **volume(configMap={"name": "c"}),
    )
    before = node.exec("p", "readlink", "/v/..data").stdout
    os.kill(node.pid("p"), signal.SIGKILL)
    node.until(
        "p",
        lambda pod: (
            (one := pod["status"]["containerStatuses"][0])["restartCount"] == 1
            and "running" in one["state"]
        ),
    )
    assert node.exec("p", "readlink", "/v/..data").stdout == before, "the volume is the same"
    forget(node, "configmaps", "c")
    os.kill(node.pid("p"), signal.SIGKILL)
    node.until("p", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 2)


def agent_pid(instance: Instance) -> int:
    done, _ = instance.call("agent-status", {})
    return int(done["pid"])


def kill_agent(instance: Instance) -> None:
    """Kill the agent and wait for its end; the next command starts another."""
    pid = agent_pid(instance)
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([fd], [], [])
    os.close(fd)


def test_another_agent_goes_on(instance: Instance, test_archive: Path) -> None:
    node = instance
    node.load(test_archive)
    apply(node, config_map("c", {"key": "first"}), secret("s", key="mine"))
    watch(node, "p", {"configMap": {"name": "c"}})
    node.create("waits", at(command=["cat", "/v/key"]), **volume(secret={"secretName": "late"}))
    until_event(node, "waits", "FailedMount")
    before = node.exec("p", "readlink", "/v/..data").stdout
    with said(node, "p") as lines:
        assert next(lines) == READY
    kill_agent(node)
    node.cli("get", "pods")
    assert node.exec("p", "readlink", "/v/..data").stdout == before, "it is as it should be"
    with said(node, "p") as lines:
        assert next(lines) == READY
        apply(node, config_map("c", {"key": "second"}))
        assert next(lines) == now("second")
    apply(node, secret("late", key="x"))
    node.until("waits", lambda pod: pod["status"]["phase"] == "Succeeded")


def test_a_change_while_no_agent_runs(instance: Instance, test_archive: Path) -> None:
    """As when an agent was killed between the store's transaction and the files."""
    node = instance
    node.load(test_archive)
    apply(node, config_map("c", {"key": "first"}))
    watch(node, "p", {"configMap": {"name": "c"}})
    with said(node, "p") as lines:
        assert next(lines) == READY
    kill_agent(node)
    with sqlite3.connect(f"{node.config.root_dir}/state.db") as db:
        (text,) = db.execute("SELECT object FROM objects WHERE kind = 'ConfigMap'").fetchone()
        db.execute("UPDATE objects SET object = ?", (text.replace("first", "second"),))
    db.close()
    node.cli("get", "pods")
    with said(node, "p") as lines:
        assert [next(lines), next(lines)] == [READY, now("second")]


def test_an_agent_killed_while_it_writes(instance: Instance, test_archive: Path) -> None:
    """Whatever instant it dies at, a container sees whole files, and the next agent ends what it began."""
    node = instance
    node.load(test_archive)
    size = 200_000
    versions = [chr(ord("a") + i) * size for i in range(8)]
    apply(node, config_map("c", {"one": versions[0], "two": versions[0]}))
    script = """
    while cd / && cd -P /v/..data; do
      a=$(md5sum one) b=$(md5sum two)
      [ "${a% *}" = "${b% *}" ] || { [ -e one ] && [ -e two ] && echo torn; }
    done 2>/dev/null"""
    node.start_pod("p", at(command=["sh", "-c", script]), **volume(configMap={"name": "c"}))
    for version in versions[1:]:
        data = {"one": version, "two": version}
        request = {
            "verb": "create",
            "apply": True,
            "manifest": json.dumps(config_map("c", data)),
            "source": "test",
            "namespace": "default",
        }
        pid = agent_pid(node)
        fd = os.pidfd_open(pid)
        # It is killed somewhere in what it does after its answer: each round hits another instant.
        with call(node.config, request, start=False, timeout=30) as answer:
            answer.finish()
        select.select([fd], [], [], random.uniform(0, 0.005))
        os.kill(pid, signal.SIGKILL)
        select.select([fd], [], [])
        os.close(fd)
        node.cli("get", "pods")
        assert node.exec("p", "head", "-c", "1", "/v/one").stdout == version[0]
        names = node.probe("p", "list", "/v")
        assert len(names) == 4, f"rubbish is left: {names}"
    assert node.output("p") == ""


@pytest.mark.field("SecretVolumeSource.items")
def test_fs_group(node: Instance) -> None:
    """A user who is not root reads what only the owner may, through the group."""
    apply(node, secret("s", key="x"))
    items = [{"key": "key", "path": "d/key", "mode": 0o400}]
    source = {"secretName": "s", "items": items}
    user: Json = {"runAsUser": 1000, "runAsGroup": 1000}
    group = {"securityContext": {"fsGroup": 5000}}
    node.start_pod("p", at(securityContext=user), **volume(secret=source), **group)
    for text in ("x", "y"):
        apply(node, secret("s", key=text))
        node.exec("p", "sh", "-c", f"until [ $(cat /v/d/key) = {text} ]; do sleep 0.01; done")
        seen = node.probe("p", "stat", "/v/..data/d/key")
        assert (seen["mode"], seen["uid"], seen["gid"]) == (0o440, 0, 5000)
        seen = node.probe("p", "stat", "/v/..data/d")
        assert (seen["mode"], seen["gid"]) == (0o2755, 5000)


def test_a_neighbour_with_power_over_the_pod_has_none_over_the_host(node: Instance) -> None:
    """It may reach the volume through the pause process; links that it leaves there lead the agent nowhere."""
    outside = node.base / "outside"
    outside.mkdir()
    (outside / "key").write_text("the host's")
    apply(node, config_map("c", {"key": "first", "other": "1"}))
    # By AppArmor's default profile it would not reach what is not confined by that, too.
    unconfined = {"appArmorProfile": {"type": "Unconfined"}}
    power = {"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}, **unconfined}}
    node.start_pod("p", at(), power, shareProcessNamespace=True, **volume(configMap={"name": "c"}))
    script = f"""
    cd /proc/1/root/volumes/v || exit 1
    real=$(readlink ..data)
    rm $real/key && ln -s {outside}/key $real/key
    ln -s {outside} ..data_tmp
    ln -s {outside} ..gone
    rm other && ln -s {outside}/key other
    mkdir -p stray/deep && ln -s {outside} stray/deep/out
    [ "$1" = data ] && rm ..data && ln -s {outside} ..data
    ls -A"""
    for text, word in (("second", ""), ("third", "data")):
        done = node.exec("p", "sh", "-c", script, "sh", word, container="c1")
        assert done.returncode == 0, done.stdout
        assert "stray" in done.stdout, "the test does not reach the volume"
        apply(node, config_map("c", {"key": text, "other": text}))
        node.exec("p", "sh", "-c", f"until [ $(cat /v/other) = {text} ]; do sleep 0.01; done")
        assert node.probe("p", "read", "/v/key") == {"text": text}
        node.exec("p", "sh", "-c", "while [ -e /v/stray ]; do sleep 0.01; done")
        assert len(node.probe("p", "list", "/v")) == 4
        assert (outside / "key").read_text() == "the host's"
        assert os.listdir(outside) == ["key"]


def test_changed_labels_and_annotations_appear(node: Instance) -> None:
    def fact(path: str, field: str) -> Json:
        return {"path": path, "fieldRef": {"fieldPath": field}}

    items = [fact("key", "metadata.labels['app']"), fact("all", "metadata.annotations")]
    watching = at(name="c0", image="localhost/test:1", command=["/probe", "watch", "/v", "/v/key"])

    def pod(app: str, **annotations: str) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "labels": {"app": app}, "annotations": annotations},
            "spec": {"containers": [watching], **volume(downwardAPI={"items": items})},
        }

    apply(node, pod("first", note="1"))
    node.wait("p", "condition=Ready")
    with said(node, "p") as lines:
        assert next(lines) == READY
        apply(node, pod("second", note="1"))
        while (line := next(lines)) != now("second"):  # minipod's own annotation may come first
            assert line == now("first")
    apply(node, pod("second", note="2"))
    node.exec("p", "sh", "-c", "until grep 'note=.2' /v/all; do sleep 0.01; done")


@requires("userns", "idmap")
def test_a_user_namespace(node: Instance) -> None:
    """The ids are those that the pod sees."""
    apply(node, secret("s", key="first", mine="1"))
    items = [{"key": "key", "path": "d/key"}, {"key": "mine", "path": "mine", "user": 1000}]
    source = {"secretName": "s", "items": items, "defaultMode": 0o400}
    group = {"fsGroup": 5000}
    node.start_pod("p", at(), hostUsers=False, securityContext=group, **volume(secret=source))
    for text in ("first", "second"):
        apply(node, secret("s", key=text, mine="1"))
        node.exec("p", "sh", "-c", f"until [ $(cat /v/d/key) = {text} ]; do sleep 0.01; done")
        seen = node.probe("p", "stat", "/v/..data/d/key")
        assert (seen["mode"], seen["uid"], seen["gid"]) == (0o440, 0, 5000)
        seen = node.probe("p", "stat", "/v/..data/mine")
        assert (seen["uid"], seen["gid"]) == (1000, 5000)
        assert node.probe("p", "stat", "/v/..data")["uid"] == 0
    assert node.probe("p", "write", "/v/new", "x")["errno"] == errno.EROFS
