# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for PersistentVolumeClaims, PersistentVolumes, and the volumes and devices of a pod that are claims."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api import ManifestError, PersistentVolume, PersistentVolumeClaim, load_manifests
from minipod.api.problems import Report
from minipod.api.registry import RULES
from minipod.api.storagerules import STORAGE_PROVISIONER

SIZE = {"storage": "1Gi"}


def claim(**spec: Any) -> dict[str, Any]:
    made = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": SIZE}, **spec}
    return whole("PersistentVolumeClaim", made)


def volume(**spec: Any) -> dict[str, Any]:
    made = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": SIZE,
        "local": {"path": "/srv"},
        **spec,
    }
    return whole("PersistentVolume", {key: value for key, value in made.items() if value})


def pod(source: dict[str, Any], **container: Any) -> dict[str, Any]:
    one = {"name": "a", "image": "b", **container}
    return whole("Pod", {"containers": [one], "volumes": [{"name": "v", **source}]})


def whole(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}


def load(made: dict[str, Any]) -> Any:
    (document,) = load_manifests(msgspec.json.encode(made), "x.json")
    return document.object


def problems(made: dict[str, Any]) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load_manifests(msgspec.json.encode(made), "x.json")
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_a_claim_has_its_defaults() -> None:
    found = load(claim())
    assert isinstance(found, PersistentVolumeClaim)
    assert (found.metadata.namespace, found.spec.volume_mode) == ("default", "Filesystem")
    assert (found.status.phase, found.spec.storage_class_name) == ("Pending", None)
    assert found.metadata.finalizers == ["kubernetes.io/pvc-protection"]
    assert load(claim(storageClassName="")).spec.storage_class_name == ""


def test_a_volume_has_its_defaults() -> None:
    found = load(volume())
    assert isinstance(found, PersistentVolume)
    assert (found.metadata.namespace, found.status.phase) == ("", "Available")
    assert found.spec.persistent_volume_reclaim_policy == "Retain"
    assert found.metadata.finalizers == ["kubernetes.io/pv-protection"]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (claim(accessModes=[]), "spec.accessModes: missing, and required"),
        (claim(accessModes=["RWO"]), 'spec.accessModes[0]: "RWO" is not one of ReadWriteOnce'),
        (
            claim(accessModes=["ReadWriteOncePod", "ReadOnlyMany"]),
            "spec.accessModes: may not use ReadWriteOncePod with other access modes",
        ),
        (claim(resources={}), "spec.resources.requests.storage: missing, and required"),
        (claim(resources={"requests": {"storage": "0"}}), "storage: must be greater than zero"),
        (
            claim(resources={"requests": {**SIZE, "cpu": "1"}}),
            'spec.resources.requests.cpu: a volume has no "cpu"',
        ),
        (claim(volumeMode="File"), 'spec.volumeMode: "File" is not one of Filesystem, Block'),
        (claim(storageClassName="A_B"), 'spec.storageClassName: "A_B" is not'),
        (claim(volumeName="../x"), "spec.volumeName:"),
        (claim(dataSource={"kind": "x", "name": "y"}), "spec.dataSource: known to Kubernetes"),
        (
            claim(selector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "spec.selector.matchExpressions[0].values: missing, and required with In",
        ),
        (
            claim(selector={"matchExpressions": [{"key": "a", "operator": "Is"}]}),
            '"Is" is not one of In, NotIn, Exists, DoesNotExist',
        ),
        (claim(selector={"matchLabels": {"a b": "c"}}), "spec.selector.matchLabels"),
        (volume(capacity=None), "spec.capacity.storage: missing, and required"),
        (volume(accessModes=None), "spec.accessModes: missing, and required"),
        (volume(local=None), "spec: must specify a volume type: one of hostPath, local, nfs"),
        (volume(hostPath={"path": "/x"}), "spec: may have one source, not hostPath, local"),
        (volume(local={"path": "x"}), 'spec.local.path: "x" must be an absolute path'),
        (volume(local={"path": "/x/.."}), 'spec.local.path: "/x/.." must not contain ..'),
        (volume(csi={"driver": "x"}), "spec.csi: known to Kubernetes"),
        (
            volume(persistentVolumeReclaimPolicy="Recycle"),
            "spec.persistentVolumeReclaimPolicy: Recycle is known to Kubernetes",
        ),
        (
            volume(local=None, hostPath={"path": "/x"}, volumeMode="Block"),
            "spec.volumeMode: Block needs a local source",
        ),
        (volume(mountOptions=["ro"]), "spec.mountOptions[0]: only an nfs volume"),
        (
            volume(local=None, nfs={"server": "s", "path": "/"}, mountOptions=["a,b"]),
            'spec.mountOptions[0]: "a,b" is not one mount option',
        ),
        (volume(claimRef={"name": "c"}), "spec.claimRef.namespace: missing, and required"),
        (pod({"persistentVolumeClaim": {}}), "persistentVolumeClaim.claimName: missing"),
        (pod({"persistentVolumeClaim": {"claimName": "../x"}}), "claimName:"),
        (pod({"ephemeral": {}}), "ephemeral.volumeClaimTemplate: missing, and required"),
        (
            pod({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}),
            "ephemeral.volumeClaimTemplate.spec.accessModes: missing",
        ),
        (
            pod({"ephemeral": {"volumeClaimTemplate": {**claim(), "metadata": {"name": "n"}}}}),
            "volumeClaimTemplate.metadata.name: must not be given",
        ),
        (pod({"nfs": {"path": "/x"}}), "spec.volumes[0].nfs.server: missing, and required"),
        (pod({"nfs": {"server": "a b", "path": "/x"}}), "nfs.server: "),
        (pod({"nfs": {"server": "s", "path": "x"}}), 'nfs.path: "x" must be an absolute path'),
        (pod({"emptyDir": {}, "nfs": {"server": "s", "path": "/"}}), "more than one source"),
        (
            pod({"emptyDir": {}}, volumeDevices=[{"name": "v", "devicePath": "/dev/x"}]),
            "volumeDevices[0].name: can only use volume source type of PersistentVolumeClaim",
        ),
        (
            pod(
                {"persistentVolumeClaim": {"claimName": "c"}},
                volumeDevices=[{"name": "v", "devicePath": "/dev/x"}],
                volumeMounts=[{"name": "v", "mountPath": "/x"}],
            ),
            "volumeDevices[0].name: must not already exist in volumeMounts",
        ),
        (
            pod(
                {"persistentVolumeClaim": {"claimName": "c"}},
                volumeDevices=[{"name": "v", "devicePath": "/proc/x"}],
            ),
            "volumeDevices[0].devicePath: must not be on or under /proc",
        ),
        (
            pod({"emptyDir": {}}, volumeMounts=[{"name": "v", "mountPath": "/dev"}]),
            "volumeMounts[0].mountPath: would hide the container's devices",
        ),
    ],
)
def test_what_is_refused(made: dict[str, Any], expected: str) -> None:
    found = problems(made)
    assert any(expected in each for each in found), found


@pytest.mark.parametrize("server", ["nfs", "nfs.example.org", "192.0.2.1", "2001:db8::1", "NFS"])
def test_servers(server: str) -> None:
    assert load(pod({"nfs": {"server": server, "path": "/x"}})).spec.volumes[0].nfs is not None


@pytest.mark.parametrize(
    ("spec", "provisioned", "expected"),
    [
        ({}, True, ""),
        ({"resources": {"requests": {"storage": "2Gi"}}}, True, ""),
        ({"resources": {"requests": {"storage": "2Gi"}}}, False, "only what minipod made"),
        ({"resources": {"requests": {"storage": "1Mi"}}}, True, "can not be less than before: 1Gi"),
        ({"storageClassName": "x"}, True, "spec is immutable after creation"),
        ({"accessModes": ["ReadWriteMany"]}, True, "spec is immutable after creation"),
        ({"volumeName": "other"}, True, "spec is immutable after creation"),
    ],
)
def test_what_may_change_in_a_bound_claim(
    spec: dict[str, Any], provisioned: bool, expected: str
) -> None:
    old = load(claim())
    old.spec.volume_name, old.status.phase = "pv", "Bound"
    old.metadata.annotations = {STORAGE_PROVISIONER: "x"} if provisioned else {}
    new = load(claim(**spec))
    rules = RULES["PersistentVolumeClaim"]
    rules.inherit(old, new)
    assert new.status.phase == "Bound", "the status is the agent's"
    report = Report("x", {}, 1)
    rules.validate_update(old, new, report)
    words = [problem.message for problem in report.problems]
    assert any(expected in each for each in words) if expected else words == []


def test_what_may_change_in_a_volume() -> None:
    old, rules = load(volume()), RULES["PersistentVolume"]
    for spec, expected in (
        ({"persistentVolumeReclaimPolicy": "Delete"}, ""),
        ({"capacity": {"storage": "2Gi"}}, ""),
        ({"local": {"path": "/other"}}, "spec.persistentvolumesource is immutable"),
        ({"volumeMode": "Block"}, "field is immutable"),
    ):
        report = Report("x", {}, 1)
        rules.validate_update(old, load(volume(**spec)), report)
        words = [problem.message for problem in report.problems]
        assert any(expected in each for each in words) if expected else words == [], spec
