# SPDX-License-Identifier: GPL-3.0-or-later
"""The field tables: complete, consistent with the structs, and true."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minipod.api import ManifestError, load_manifests, objects
from minipod.api.fields import Field, Status, table, type_names

FIELDS_CSV = Path(__file__).parents[3] / "shared" / "pod-fields.csv"
"""Every field of the Pod of Kubernetes 1.37; not part of the project, compared where it is at hand."""

FIELDS_SHA256 = "819d5599e052d4dfb86a9114b6cac81d69f73feafafb37025a938574bef08f5d"
"""Of its type, field and api_type columns, sorted: what is compared everywhere else."""

SCALARS = ("str", "text", "int", "bool", "time", "quantity", "object", "port")
OF_OTHER_KINDS = {
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "PersistentVolumeSpec",
    "LocalVolumeSource",
    "ObjectReference",
}
"""The types that no Pod has."""

STRUCTS = {
    "PersistentVolumeClaim": objects.PersistentVolumeClaim,
    "PersistentVolumeClaimSpec": objects.PersistentVolumeClaimSpec,
    "PersistentVolumeClaimTemplate": objects.PersistentVolumeClaimTemplate,
    "PersistentVolumeClaimVolumeSource": objects.PersistentVolumeClaimVolumeSource,
    "EphemeralVolumeSource": objects.EphemeralVolumeSource,
    "VolumeResourceRequirements": objects.VolumeResourceRequirements,
    "LocalObjectReference": objects.LocalObjectReference,
    "LabelSelector": objects.LabelSelector,
    "LabelSelectorRequirement": objects.LabelSelectorRequirement,
    "PersistentVolume": objects.PersistentVolume,
    "PersistentVolumeSpec": objects.PersistentVolumeSpec,
    "LocalVolumeSource": objects.LocalVolumeSource,
    "NFSVolumeSource": objects.NFSVolumeSource,
    "ObjectReference": objects.ObjectReference,
    "VolumeDevice": objects.VolumeDevice,
    "EphemeralContainer": objects.EphemeralContainer,
    "ConfigMap": objects.ConfigMap,
    "Secret": objects.Secret,
    "Pod": objects.Pod,
    "ObjectMeta": objects.ObjectMeta,
    "PodSpec": objects.PodSpec,
    "Container": objects.Container,
    "ConfigMapEnvSource": objects.ConfigMapEnvSource,
    "ConfigMapKeySelector": objects.ConfigMapKeySelector,
    "EnvFromSource": objects.EnvFromSource,
    "ContainerRestartRule": objects.ContainerRestartRule,
    "ContainerRestartRuleOnExitCodes": objects.ContainerRestartRuleOnExitCodes,
    "PodReadinessGate": objects.PodReadinessGate,
    "EnvVar": objects.EnvVar,
    "EnvVarSource": objects.EnvVarSource,
    "FileKeySelector": objects.FileKeySelector,
    "ObjectFieldSelector": objects.ObjectFieldSelector,
    "ResourceFieldSelector": objects.ResourceFieldSelector,
    "SecretEnvSource": objects.SecretEnvSource,
    "SecretKeySelector": objects.SecretKeySelector,
    "ContainerPort": objects.ContainerPort,
    "HostAlias": objects.HostAlias,
    "PodDNSConfig": objects.PodDNSConfig,
    "PodDNSConfigOption": objects.PodDNSConfigOption,
    "PodOS": objects.PodOS,
    "ResourceRequirements": objects.ResourceRequirements,
    "ContainerResizePolicy": objects.ContainerResizePolicy,
    "AppArmorProfile": objects.AppArmorProfile,
    "Capabilities": objects.Capabilities,
    "PodSecurityContext": objects.PodSecurityContext,
    "SeccompProfile": objects.SeccompProfile,
    "SecurityContext": objects.SecurityContext,
    "Sysctl": objects.Sysctl,
    "VolumeMount": objects.VolumeMount,
    "Volume": objects.Volume,
    "EmptyDirVolumeSource": objects.EmptyDirVolumeSource,
    "HostPathVolumeSource": objects.HostPathVolumeSource,
    "ExecAction": objects.ExecAction,
    "GRPCAction": objects.GRPCAction,
    "HTTPGetAction": objects.HTTPGetAction,
    "HTTPHeader": objects.HTTPHeader,
    "Lifecycle": objects.Lifecycle,
    "LifecycleHandler": objects.LifecycleHandler,
    "Probe": objects.Probe,
    "SleepAction": objects.SleepAction,
    "TCPSocketAction": objects.TCPSocketAction,
    "ConfigMapVolumeSource": objects.ConfigMapVolumeSource,
    "SecretVolumeSource": objects.SecretVolumeSource,
    "DownwardAPIVolumeSource": objects.DownwardAPIVolumeSource,
    "DownwardAPIVolumeFile": objects.DownwardAPIVolumeFile,
    "ProjectedVolumeSource": objects.ProjectedVolumeSource,
    "VolumeProjection": objects.VolumeProjection,
    "ConfigMapProjection": objects.ConfigMapProjection,
    "SecretProjection": objects.SecretProjection,
    "DownwardAPIProjection": objects.DownwardAPIProjection,
    "KeyToPath": objects.KeyToPath,
    "ImageVolumeSource": objects.ImageVolumeSource,
}
ALL_FIELDS = [(name, key, field) for name in type_names() for key, field in table(name).items()]


def csv_type(type_: str) -> str:
    """Return a type of the field tables as the list of Kubernetes' Python client has it."""
    if type_[0] == "[":
        return f"List[{csv_type(type_[1:-1])}]"
    if type_[0] == "{":
        return f"Dict[str, {csv_type(type_[1:-1])}]"
    if type_ in SCALARS:
        return {"time": "datetime", "quantity": "str", "port": "object"}.get(type_, type_)
    return type_ if type_.startswith("CoreV1") else f"V1{type_}"


def test_every_field_of_kubernetes_is_known_and_no_other() -> None:
    ours = sorted(
        (name, key, csv_type(field.type))
        for name, key, field in ALL_FIELDS
        if name not in {"Pod", *OF_OTHER_KINDS}
    )
    if FIELDS_CSV.exists():
        with FIELDS_CSV.open() as file:
            rows = csv.DictReader(file)
            assert ours == sorted((row["type"], row["field"], row["api_type"]) for row in rows)
    assert len(ours) == 530
    assert hashlib.sha256("\n".join(map("\t".join, ours)).encode()).hexdigest() == FIELDS_SHA256


def test_every_type_that_a_field_names_is_there() -> None:
    for name, key, field in ALL_FIELDS:
        inner = field.type.strip("[]{}")
        assert inner in SCALARS or table(inner), f"{name}.{key}"


@pytest.mark.parametrize("name", STRUCTS)
def test_the_structs_have_what_is_honoured_and_kept(name: str) -> None:
    struct = STRUCTS[name]
    encoded = set(struct.__struct_encode_fields__)
    has = {k for k, f in table(name).items() if f.status is Status.HONOURED or f.kept}
    assert has <= encoded
    set_by_minipod = {k for k, f in table(name).items() if f.status is Status.INERT}
    if name == "EphemeralContainer":  # what is refused of it are attributes of what it is made from
        set_by_minipod |= set(objects.Container.__struct_encode_fields__)
    assert encoded - has <= set_by_minipod


def test_every_honoured_object_has_a_struct() -> None:
    inner = {
        f.type.strip("[]{}")
        for n in STRUCTS
        for f in table(n).values()
        if f.status is Status.HONOURED
    }
    assert inner - set(SCALARS) <= set(STRUCTS)


def test_what_is_refused_or_inert_says_so_in_words() -> None:
    for name, key, field in ALL_FIELDS:
        if name in STRUCTS and field.status is Status.INERT:
            assert field.note, f"{name}.{key}"
        assert not field.note.endswith("."), f"{name}.{key}"


def sample(type_: str, depth: int = 0) -> Any:
    """Return a value of a type that says something."""
    if type_[0] == "[":
        return [sample(type_[1:-1], depth)]
    if type_[0] == "{":
        return {"some": sample(type_[1:-1], depth)}
    scalars: dict[str, Any] = {
        "str": "x",
        "int": 7,
        "bool": True,
        "quantity": "7",
        "object": {"a": 1},
        "port": "http",
    }
    scalars["time"] = "2026-01-31T12:00:00Z"
    if type_ in scalars:
        return scalars[type_]
    return {k: sample(f.type, depth + 1) for k, f in table(type_).items()} if depth < 8 else {}


STORED = (
    *("PersistentVolumeClaim", "PersistentVolumeClaimSpec", "PersistentVolume"),
    *("PersistentVolumeSpec", "LocalVolumeSource", "ObjectReference"),
)


def stored(type_name: str, key: str, value: Any) -> bytes:
    """Return a claim or a volume, as JSON, in which *key* of a *type_name* is set."""
    claim = type_name.startswith("PersistentVolumeClaim")
    source = {} if claim else {"local": {"path": "/x"}}
    size = {"storage": "1Gi"}
    amount = {"resources": {"requests": size}} if claim else {"capacity": size}
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], **amount, **source}
    whole: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim" if claim else "PersistentVolume",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    if type_name == "ObjectReference":
        spec["claimRef"] = {"name": "c", "namespace": "default", key: value}
    elif type_name == "LocalVolumeSource":
        spec["local"][key] = value
    elif type_name.endswith("Spec"):
        spec[key] = value
    else:
        whole[key] = value
    return msgspec.json.encode(whole)


def manifest(type_name: str, key: str, value: Any) -> bytes:
    """Return a pod, or the object that has it, as JSON, in which *key* of a *type_name* is set."""
    if type_name in STORED:
        return stored(type_name, key, value)
    container: dict[str, Any] = {"name": "a", "image": "b"}
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [container]},
    }
    spec = pod["spec"]
    if type_name == "Container":
        container[key] = value
    elif type_name == "EnvVar":
        container["env"] = [{"name": "A", key: value}]
    elif type_name == "ContainerPort":
        container["ports"] = [{"containerPort": 1, key: value}]
    elif type_name == "ResourceRequirements":
        container["resources"] = {key: value}
    elif type_name == "ContainerResizePolicy":
        container["resizePolicy"] = [{key: value}]
    elif type_name == "SecurityContext":
        container["securityContext"] = {key: value}
    elif type_name == "VolumeMount":
        spec["volumes"] = [{"name": "v"}]
        container["volumeMounts"] = [{"name": "v", "mountPath": "/v", key: value}]
    elif type_name == "Volume":
        spec["volumes"] = [{"name": "v", key: value}]
    elif type_name == "LifecycleHandler":
        container["lifecycle"] = {"preStop": {key: value}}
    elif type_name == "VolumeProjection":
        spec["volumes"] = [{"name": "v", "projected": {"sources": [{key: value}]}}]
    elif type_name == "EmptyDirVolumeSource":
        spec["volumes"] = [{"name": "v", "emptyDir": {key: value}}]
    else:
        places = {"Pod": pod, "ObjectMeta": pod["metadata"], "PodSpec": spec}
        if type_name == "PodSecurityContext":
            spec["securityContext"] = {key: value}
        else:
            places[type_name][key] = value
    return msgspec.json.encode(pod)


PLACED = [
    (n, k, f)
    for n, k, f in ALL_FIELDS
    if (n in STRUCTS or n.endswith("SecurityContext")) and n != "EphemeralContainer"
]


def effective(field: Field) -> Any:
    """Return a value of a field that is not one of its harmless ones."""
    value = sample(field.type)
    return not value if isinstance(value, bool) and value in field.harmless else value


@pytest.mark.parametrize(
    ("name", "key"), [(n, k) for n, k, f in PLACED if f.status is Status.REFUSED], ids=str
)
def test_every_refused_field_is_refused_by_name(name: str, key: str) -> None:
    field = table(name)[key]
    with pytest.raises(ManifestError) as caught:
        load_manifests(manifest(name, key, effective(field)), "p.json")
    assert all(key in problem.path for problem in caught.value.problems)
    assert all(
        "known to Kubernetes but not honoured by" in p.message for p in caught.value.problems
    )


@pytest.mark.parametrize(
    ("name", "key"), [(n, k) for n, k, f in PLACED if f.status is Status.INERT], ids=str
)
def test_every_inert_field_is_accepted_with_one_warning(name: str, key: str) -> None:
    field = table(name)[key]
    (document,) = load_manifests(manifest(name, key, effective(field)), "p.json")
    (warning,) = document.warnings
    assert warning.path.endswith(key)
    assert warning.message == f"ignored: {field.note}"


@pytest.mark.parametrize(
    ("name", "key", "value"), [(n, k, v) for n, k, f in PLACED for v in f.harmless], ids=str
)
def test_harmless_values_are_accepted_in_silence(name: str, key: str, value: str | bool) -> None:
    (document,) = load_manifests(manifest(name, key, value), "p.json")
    assert document.warnings == []


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("PodSpec", "initContainers", []),
        ("PodSpec", "tolerations", []),
        ("PodSpec", "securityContext", {}),
        ("PodSpec", "subdomain", ""),
        ("PodSpec", "nodeName", ""),
        ("PodSpec", "nodeSelector", {}),
        ("PodSpec", "dnsConfig", None),
        ("Container", "livenessProbe", None),
        ("Container", "securityContext", {"capabilities": {"add": []}}),
        ("ObjectMeta", "creationTimestamp", None),
        ("Pod", "status", {}),
    ],
)
def test_what_says_nothing_is_accepted_in_silence(name: str, key: str, value: Any) -> None:
    (document,) = load_manifests(manifest(name, key, value), "p.json")
    assert document.warnings == []


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("Container", "livenessProbe", {}),
        ("Volume", "configMap", {}),
        ("SecurityContext", "privileged", "false"),
        ("SecurityContext", "capabilities", []),
        ("PodSpec", "securityContext", "x"),
        ("PodSpec", "nodeSelector", ["x"]),
        ("PodSpec", "tolerations", {"key": "x"}),
        ("PodSpec", "affinity", {"nodeAffinity": {"unknown": 1}}),
        ("PodSpec", "priority", "1"),
    ],
)
def test_what_looks_empty_or_wrong_is_not_accepted(name: str, key: str, value: Any) -> None:
    with pytest.raises(ManifestError):
        load_manifests(manifest(name, key, value), "p.json")
