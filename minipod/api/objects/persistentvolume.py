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
        "status": inert("object", OURS, doc="What became of the volume."),
    },
    "PersistentVolumeSpec": {
        "accessModes": yes("[str]", MODES_DOC),
        "awsElasticBlockStore": no("object", ON_HOST, doc="A disk of Amazon's."),
        "azureDisk": no("object", ON_HOST, doc="A disk of Azure's."),
        "azureFile": no("object", ON_HOST, doc="A share of Azure's."),
        "capacity": yes(
            "{quantity}", "storage: its size, which claims compare with what they need."
        ),
        "cephfs": no("object", ON_HOST, doc="A Ceph file system."),
        "cinder": no("object", ON_HOST, doc="A disk of OpenStack's."),
        "claimRef": yes("ObjectReference", "The claim that it is kept for, or bound to."),
        "csi": no("object", ON_HOST, doc="A volume of a CSI driver."),
        "fc": no("object", ON_HOST, doc="A disk by Fibre Channel."),
        "flexVolume": no("object", ON_HOST, doc="A volume of a FlexVolume driver."),
        "flocker": no("object", ON_HOST, doc="A Flocker dataset."),
        "gcePersistentDisk": no("object", ON_HOST, doc="A disk of Google's."),
        "glusterfs": no("object", ON_HOST, doc="A Gluster file system."),
        "hostPath": yes("HostPathVolumeSource", "A path of this machine."),
        "iscsi": no("object", ON_HOST, doc="A disk by iSCSI."),
        "local": yes("LocalVolumeSource", "A directory or a block device of this machine."),
        "mountOptions": yes("[str]", "Further options of an nfs mount, as nfs(5) has them."),
        "nfs": yes("NFSVolumeSource", "A directory of an NFS server."),
        "nodeAffinity": inert("object", NO_SCHEDULER, doc="Which nodes can reach the volume."),
        "persistentVolumeReclaimPolicy": yes(
            doc="What happens when its claim is deleted: Retain (default) keeps it, Released; Delete removes "
            "what minipod made for the claim."
        ),
        "photonPersistentDisk": no("object", ON_HOST, doc="A disk of VMware Photon's."),
        "portworxVolume": no("object", ON_HOST, doc="A Portworx volume."),
        "quobyte": no("object", ON_HOST, doc="A Quobyte volume."),
        "rbd": no("object", ON_HOST, doc="A disk of Ceph's."),
        "scaleIO": no("object", ON_HOST, doc="A ScaleIO volume."),
        "storageClassName": yes(doc="The class that claims must name to get it."),
        "storageos": no("object", ON_HOST, doc="A StorageOS volume."),
        "volumeAttributesClassName": no(
            "str", NO_ATTRIBUTES, doc="The class of attributes, to be changed by a driver."
        ),
        "volumeMode": yes(doc=VOLUME_MODE_DOC),
        "vsphereVolume": no("object", ON_HOST, doc="A disk of vSphere's."),
    },
    "LocalVolumeSource": {
        "fsType": no(
            "str",
            "format and mount the device on the host, or use volumeMode Block",
            doc="The type of file system on it: ext4, for example.",
        ),
        "path": yes(doc="An absolute path that is there."),
    },
    "ObjectReference": {
        "resourceVersion": inert("str", OURS, doc="The version of the object."),
        "fieldPath": inert("str", "the whole claim is meant", doc="The part of the object."),
        "apiVersion": yes(doc="v1."),
        "kind": yes(doc="PersistentVolumeClaim."),
        "name": yes(doc="The claim's name."),
        "namespace": yes(doc="The claim's namespace."),
        "uid": yes(doc="The claim's uid, once they are bound."),
    },
}
