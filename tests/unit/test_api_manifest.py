# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests: what is accepted and becomes what, and what is refused, where and with which words."""

from __future__ import annotations

import json
import textwrap

import pytest

from minipod.api import Document, ManifestError, Problem, load_manifests, to_dict
from minipod.errors import UsageError

HEAD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"
FULL = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web, example.com/tier: front}
  annotations: {example.com/Note: "any text: at all\\n"}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 5
  dnsPolicy: Default
  hostname: web-1
  hostIPC: true
  shareProcessNamespace: true
  containers:
  - name: server
    image: registry.example.com/web:1.0
    imagePullPolicy: IfNotPresent
    command: [/bin/server]
    args: ["--port", "80"]
    workingDir: /srv
    env:
    - {name: A, value: "1"}
    - {name: B}
    - {name: "with space.and-dash", value: x}
    ports:
    - {name: http, containerPort: 80}
    - {containerPort: 53, protocol: UDP}
    resources:
      limits: {cpu: 0.5, memory: 64Mi, pids: 100}
      requests: {cpu: 250m}
    volumeMounts:
    - {name: data, mountPath: /data, readOnly: true}
    - {name: tmp, mountPath: /tmp/}
    tty: true
    stdin: yes
    stdinOnce: true
  volumes:
  - name: data
    hostPath: {path: /srv/data, type: DirectoryOrCreate}
  - name: tmp
    emptyDir: {medium: Memory, sizeLimit: 1Mi}
  - name: scratch
"""


def pods(text: str) -> list[Document]:
    return load_manifests(textwrap.dedent(text), "pod.yaml")


def problems(text: str | bytes) -> list[str]:
    """Return the problems of a text, as a user sees them."""
    with pytest.raises(ManifestError) as caught:
        load_manifests(text, "pod.yaml")
    error = caught.value
    assert isinstance(error, UsageError)
    assert error.what == "\n".join(map(str, error.problems))
    assert [each.line for each in error.problems] == sorted(each.line for each in error.problems)
    return [str(each) for each in error.problems]


def spec(text: str) -> str:
    """Return a manifest whose spec, from line 5, is *text* and a container where it has none."""
    body = textwrap.indent(textwrap.dedent(text), "  ")
    if "containers:" not in body:
        body = body.rstrip("\n") + "\n  containers: [{name: a, image: b}]\n"
    return HEAD + body


def container(text: str) -> str:
    """Return a manifest with one container whose fields, from line 7, are *text*."""
    body = textwrap.indent(textwrap.dedent(text), "    ")
    return f"{HEAD}  containers:\n  - name: a\n{body.rstrip()}\n" + (
        "" if "image:" in body else "    image: b\n"
    )


def test_everything_that_is_honoured() -> None:
    (document,) = pods(FULL)
    assert document.warnings == []
    assert to_dict(document.object) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "labels": {"app": "web", "example.com/tier": "front"},
            "annotations": {"example.com/Note": "any text: at all\n"},
        },
        "spec": {
            "restartPolicy": "OnFailure",
            "terminationGracePeriodSeconds": 5,
            "dnsPolicy": "Default",
            "hostname": "web-1",
            "hostIPC": True,
            "shareProcessNamespace": True,
            "containers": [
                {
                    "name": "server",
                    "image": "registry.example.com/web:1.0",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/server"],
                    "args": ["--port", "80"],
                    "workingDir": "/srv",
                    "env": [
                        {"name": "A", "value": "1"},
                        {"name": "B"},
                        {"name": "with space.and-dash", "value": "x"},
                    ],
                    "ports": [
                        {"name": "http", "containerPort": 80, "protocol": "TCP"},
                        {"containerPort": 53, "protocol": "UDP"},
                    ],
                    "resources": {
                        "limits": {"cpu": "0.5", "memory": "64Mi", "pids": "100"},
                        "requests": {"cpu": "250m", "memory": "64Mi"},
                    },
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/data", "readOnly": True},
                        {"name": "tmp", "mountPath": "/tmp/"},
                    ],
                    "tty": True,
                    "stdin": True,
                    "stdinOnce": True,
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }
            ],
            "volumes": [
                {"name": "data", "hostPath": {"path": "/srv/data", "type": "DirectoryOrCreate"}},
                {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "scratch", "emptyDir": {}},
            ],
        },
    }


def test_lines() -> None:
    (document,) = pods(FULL)
    lines = document.lines
    assert lines["metadata.labels[example.com/tier]"] == 6
    assert lines["spec.containers[0]"] == 16
    assert lines["spec.containers[0].image"] == 17
    assert lines["spec.containers[0].env[1].name"] == 24
    assert lines["spec.containers[0].resources.limits.memory"] == 30
    assert lines["spec.volumes[1].emptyDir.sizeLimit"] == 42


def test_what_apply_shows_can_be_applied() -> None:
    (document,) = pods(FULL)
    (again,) = load_manifests(json.dumps(to_dict(document.object)), "pod.json")
    assert again.pod == document.pod
    assert again.warnings == []


def test_defaults() -> None:
    (document,) = pods(spec("").replace("{name: p}", "{generateName: p-}"))
    pod = document.pod
    assert pod.metadata.namespace == "default"
    assert pod.metadata.generate_name == "p-"
    assert pod.spec.restart_policy == "Always"
    assert pod.spec.termination_grace_period_seconds == 30
    assert pod.spec.dns_policy == "ClusterFirst"
    assert pod.spec.host_network is False
    assert pod.spec.enable_service_links is True
    assert pod.spec.containers[0].image_pull_policy == "Always"
    (elsewhere,) = load_manifests(spec(""), "p", default_namespace="shop")
    assert elsewhere.object.metadata.namespace == "shop"


def test_the_namespace_given_from_outside_is_checked_too() -> None:
    with pytest.raises(ManifestError, match=r'metadata.namespace: "../x" is not a DNS label'):
        load_manifests(spec(""), "pod.yaml", default_namespace="../x")


def test_host_network_gives_host_ports() -> None:
    text = "hostNetwork: true\ncontainers: [{name: a, image: b, ports: [{containerPort: 80}]}]"
    (document,) = pods(spec(text))
    assert document.pod.spec.containers[0].ports[0].host_port == 80
    (document,) = pods(spec(text.replace("80", "80, hostPort: 80")))
    assert document.pod.spec.containers[0].ports[0].host_port == 80


def test_warnings_are_by_line() -> None:
    (document,) = pods(
        """\
        apiVersion: v1
        kind: Pod
        metadata: {name: p, uid: x, creationTimestamp: null}
        spec:
          enableServiceLinks: true
          automountServiceAccountToken: false
          containers: [{name: a, image: b, env: [{name: A}, {name: A, value: x}]}]
          nodeSelector: {disk: ssd}
          serviceAccountName: me
        status: {phase: Running}
        """
    )
    assert [str(each) for each in document.warnings] == [
        "pod.yaml:3: metadata.uid: ignored: minipod sets it itself",
        "pod.yaml:5: spec.enableServiceLinks: ignored: there are no services to link to",
        'pod.yaml:7: spec.containers[0].env[1].name: "A" is given twice, the last one counts',
        "pod.yaml:8: spec.nodeSelector: ignored: there is one machine and no scheduler",
        "pod.yaml:9: spec.serviceAccountName: ignored: there is no API token to mount",
        "pod.yaml:10: status: ignored: minipod sets it itself",
    ]
    assert document.object.metadata.uid == ""
    assert document.pod.status.phase == ""
    assert document.pod.spec.automount_service_account_token is False
    assert document.pod.spec.service_account_name == "me"


def test_lists() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {containers: [{name: a, image: b}]}}"
    text = f"apiVersion: v1\nkind: List\nitems:\n- {pod % 'p'}\n- {pod % 'q'}\n"
    documents = pods(text)
    assert [each.object.metadata.name for each in documents] == ["p", "q"]
    assert documents[1].lines["spec.containers[0].image"] == 5
    untyped = text.replace("apiVersion: v1, kind: Pod, ", "").replace("List", "PodList")
    assert [each.object.metadata.name for each in pods(untyped)] == ["p", "q"]
    assert problems(text.replace("image: b", "imag: b", 1)) == [
        'pod.yaml:4: items[0].spec.containers[0].imag: unknown field, did you mean "image"?'
    ]
    assert problems("apiVersion: v1\nkind: List\nitems: {}\nitem: 1\n") == [
        "pod.yaml:3: items: expected a list of objects, got a mapping",
        "pod.yaml:4: item: unknown field in a list",
    ]
    assert problems("apiVersion: v1\nkind: List\nitems: [5, {apiVersion: v1, kind: List}]\n") == [
        "pod.yaml:3: items[0]: expected an object, got the number 5",
        "pod.yaml:3: items[1].kind: List is known to Kubernetes but not honoured by minipod 0.1: "
        "put the objects into one list",
    ]
    assert "missing, and required" in problems("apiVersion: v1\nkind: List\n")[0]
    assert "no objects" in problems("apiVersion: v1\nkind: List\nitems: []\n")[0]


def test_several_documents_and_all_their_problems() -> None:
    assert len(pods(f"{spec('')}---\n---\n{spec('')}")) == 2
    text = f"{spec('hostname: A_')}---\nkind: Pod\n---\n5\n---\n{spec('x: 1')}---\na: [\n"
    assert [each.split(": ")[0] for each in problems(text)] == [
        "pod.yaml:5",
        "pod.yaml:8",
        "pod.yaml:8",
        "pod.yaml:8",
        "pod.yaml:10",
        "pod.yaml:16",
        "pod.yaml:20",
    ]


def test_problems_are_values() -> None:
    one = Problem("pod.yaml", 12, "spec.containers[0].imag", 'unknown field, did you mean "image"?')
    assert str(one) == 'pod.yaml:12: spec.containers[0].imag: unknown field, did you mean "image"?'
    assert str(Problem("pod.yaml", 1, "", "no objects")) == "pod.yaml:1: no objects"


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "---\n---\n", "null\n", b""])
def test_no_objects(text: str | bytes) -> None:
    assert problems(text) == ["pod.yaml:1: no objects in it: a manifest needs a Pod, say"]


def test_near_names_are_named() -> None:
    text = container("volumeMounts: [{name: dta, mountPath: /a}]") + "  volumes: [{name: data}]\n"
    assert problems(text) == [
        'pod.yaml:7: spec.containers[0].volumeMounts[0].name: "dta" names no volume of the pod, '
        'did you mean "data"?'
    ]


@pytest.mark.parametrize("path", ["/process", "/proctor/x", "/a/proc", "/srv"])
def test_only_proc_is_proc(path: str) -> None:
    text = container(f"workingDir: {path}\nvolumeMounts: [{{name: v, mountPath: {path}}}]")
    assert len(load_manifests(text + "  volumes: [{name: v}]\n", "pod.yaml")) == 1


def test_host_ports_of_the_host_network() -> None:
    text = """\
    hostNetwork: true
    containers:
    - {name: a, image: b, ports: [{containerPort: 80, hostPort: 81}]}
    - {name: b, image: b, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}
    """
    assert problems(spec(text)) == [
        "pod.yaml:7: spec.containers[0].ports[0].hostPort: must equal containerPort when "
        "spec.hostNetwork is true",
        'pod.yaml:8: spec.containers[1].ports[0].containerPort: port of the host "80/TCP" is given '
        "twice, first on line 7",
    ]


def test_one_mistake_is_one_problem() -> None:
    assert len(problems(HEAD + "  containers: [{name: a, imag: b}]\n")) == 1
    assert len(problems(HEAD + "  containers: [{name: 5, image: b}]\n")) == 1
    assert len(problems(HEAD + "  containers: 5\n")) == 1
    assert (
        len(
            problems(
                spec("volumes: x").replace(
                    "image: b", "image: b, volumeMounts: [{name: v, mountPath: /v}]"
                )
            )
        )
        == 1
    )


def test_a_misspelt_field_beside_the_right_one_hides_nothing() -> None:
    found = problems(HEAD + "  containers: [{name: a, imag: b, image: b c}]\n")
    assert len(found) == 2


def test_memory_in_fractions_of_a_byte() -> None:
    (document,) = load_manifests(container("resources: {limits: {memory: 100m}}"), "pod.yaml")
    assert ["whole number of bytes" in each.message for each in document.warnings] == [True]


def test_a_bad_limit_is_one_problem() -> None:
    assert len(problems(container("resources: {limits: {cpu: -1}}"))) == 1


def test_json() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a", "image": "b", "args": ["é/\n"]}]},
    }
    (document,) = load_manifests(json.dumps(pod, indent="\t"), "pod.json")
    assert document.pod.spec.containers[0].args == ["é/\n"]
    assert document.lines["spec.containers[0].image"] == 11


def test_the_source_is_not_read() -> None:
    with pytest.raises(ManifestError, match="/nowhere/at/all:1: no objects"):
        load_manifests("", "/nowhere/at/all")
