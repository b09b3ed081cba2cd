# SPDX-License-Identifier: GPL-3.0-or-later
"""PersistentVolume: storage that claims are bound to."""

from __future__ import annotations

import msgspec

from minipod.api.field import NO_SCHEDULER, ON_HOST, OURS, Tables, inert, no, yes
from minipod.api.objects.base import Object, spelled_out
from minipod.api.objects.claims import MODES_DOC, NO_ATTRIBUTES, VOLUME_MODE_DOC
from minipod.api.objects.event import ObjectReference
from minipod.api.objects.meta import ObjectMeta
from minipod.api.objects.storage import NFSVolumeSource
from minipod.api.objects.volumes import HostPathVolumeSource


class LocalVolumeSource(Object):
    """A directory of this machine, or a block device when the volume's mode is Block."""

    path: str = ""


class PersistentVolumeSpec(Object):
    """What a volume is, with exactly one source; *claim_ref* is the claim that has it, or is to have it."""

    access_modes: list[str] = msgspec.field(default_factory=list)
    capacity: dict[str, str] = msgspec.field(default_factory=dict)
    claim_ref: ObjectReference | None = None
    host_path: HostPathVolumeSource | None = None
    local: LocalVolumeSource | None = None
    mount_options: list[str] = msgspec.field(default_factory=list)
    nfs: NFSVolumeSource | None = None
    persistent_volume_reclaim_policy: str = spelled_out("Retain")
    storage_class_name: str = ""
    volume_mode: str = spelled_out("Filesystem")


class PersistentVolumeStatus(Object):
    """What has become of a volume; *phase* is Available, Bound, Released or Failed."""

    phase: str = ""
    message: str | None = None
    reason: str | None = None


class PersistentVolume(Object):
    """Storage that claims are bound to; it belongs to no namespace."""

    api_version: str = spelled_out("v1")
    kind: str = spelled_out("PersistentVolume")
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PersistentVolumeSpec = msgspec.field(default_factory=PersistentVolumeSpec)
    status: PersistentVolumeStatus = msgspec.field(default_factory=PersistentVolumeStatus)


FIELDS: Tables = {
    "PersistentVolume": {
        "apiVersion": yes(doc="The version of the API that the object is written in: v1."),
        "kind": yes(doc="PersistentVolume."),
        "metadata": yes("ObjectMeta", doc="Name, labels and annotations."),
        "spec": yes("PersistentVolumeSpec", doc="What the volume is."),
        "status": inert("object", OURS),
    },
    "PersistentVolumeSpec": {
        "accessModes": yes("[str]", MODES_DOC),
        "awsElasticBlockStore": no("object", ON_HOST),
        "azureDisk": no("object", ON_HOST),
        "azureFile": no("object", ON_HOST),
        "capacity": yes(
            "{quantity}", "storage: its size, which claims compare with what they need."
        ),
        "cephfs": no("object", ON_HOST),
        "cinder": no("object", ON_HOST),
        "claimRef": yes("ObjectReference", "The claim that it is kept for, or bound to."),
        "csi": no("object", ON_HOST),
        "fc": no("object", ON_HOST),
        "flexVolume": no("object", ON_HOST),
        "flocker": no("object", ON_HOST),
        "gcePersistentDisk": no("object", ON_HOST),
        "glusterfs": no("object", ON_HOST),
        "hostPath": yes("HostPathVolumeSource", "A path of this machine."),
        "iscsi": no("object", ON_HOST),
        "local": yes("LocalVolumeSource", "A directory or a block device of this machine."),
        "mountOptions": yes("[str]", "Further options of an nfs mount, as nfs(5) has them."),
        "nfs": yes("NFSVolumeSource", "A directory of an NFS server."),
        "nodeAffinity": inert("object", NO_SCHEDULER),
        "persistentVolumeReclaimPolicy": yes(
            doc="What happens when its claim is deleted: Retain (default) keeps it, Released; Delete removes "
            "what minipod made for the claim."
        ),
        "photonPersistentDisk": no("object", ON_HOST),
        "portworxVolume": no("object", ON_HOST),
        "quobyte": no("object", ON_HOST),
        "rbd": no("object", ON_HOST),
        "scaleIO": no("object", ON_HOST),
        "storageClassName": yes(doc="The class that claims must name to get it."),
        "storageos": no("object", ON_HOST),
        "volumeAttributesClassName": no("str", NO_ATTRIBUTES),
        "volumeMode": yes(doc=VOLUME_MODE_DOC),
        "vsphereVolume": no("object", ON_HOST),
    },
    "LocalVolumeSource": {
        "fsType": no("str", "format and mount the device on the host, or use volumeMode Block"),
        "path": yes(doc="An absolute path that is there."),
    },
    "ObjectReference": {
        "resourceVersion": inert("str", OURS),
        "fieldPath": inert("str", "the whole claim is meant"),
        "apiVersion": yes(doc="v1."),
        "kind": yes(doc="PersistentVolumeClaim."),
        "name": yes(doc="The claim's name."),
        "namespace": yes(doc="The claim's namespace."),
        "uid": yes(doc="The claim's uid, once they are bound."),
    },
}
