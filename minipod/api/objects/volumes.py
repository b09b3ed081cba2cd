# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's volumes, where a container sees them, and those that need nothing else: emptyDir and hostPath."""

from __future__ import annotations

from minipod.api.field import FILES, GONE, ON_HOST, Tables, all_refused, no, yes
from minipod.api.objects.base import Object


class VolumeMount(Object):
    """Where a container sees a volume of its pod; *mount_path* is absolute."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False


class EmptyDirVolumeSource(Object):
    """A directory that lives as long as the pod; *medium* is ``""`` (disk) or Memory (tmpfs)."""

    medium: str = ""
    size_limit: str | None = None


class HostPathVolumeSource(Object):
    """A path of the host; *type* says what must be there, or is made (``""``: no check)."""

    path: str = ""
    type: str = ""


class Volume(Object):
    """A volume of a pod, with exactly one source."""

    name: str = ""
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None


FIELDS: Tables = {
    "VolumeMount": {
        "bindMountOptions": no("[str]"),
        "mountPath": yes(),
        "mountPropagation": no("str", "remove it, mounts do not propagate", "None"),
        "name": yes(),
        "readOnly": yes("bool"),
        "recursiveReadOnly": no("str", "use readOnly", "Disabled"),
        "subPath": no("str", "mount the whole volume"),
        "subPathExpr": no("str", "mount the whole volume"),
    },
    "EmptyDirVolumeSource": {
        "medium": yes(),
        "mode": no("int", "the directory has mode 0777"),
        "sizeLimit": yes("quantity"),
    },
    "HostPathVolumeSource": {"path": yes(), "type": yes()},
    "Volume": {
        "awsElasticBlockStore": no("AWSElasticBlockStoreVolumeSource", ON_HOST),
        "azureDisk": no("AzureDiskVolumeSource", ON_HOST),
        "azureFile": no("AzureFileVolumeSource", ON_HOST),
        "cephfs": no("CephFSVolumeSource", ON_HOST),
        "cinder": no("CinderVolumeSource", ON_HOST),
        "configMap": no("ConfigMapVolumeSource", FILES),
        "csi": no("CSIVolumeSource", ON_HOST),
        "downwardAPI": no("DownwardAPIVolumeSource", "write the values into env"),
        "emptyDir": yes("EmptyDirVolumeSource"),
        "ephemeral": no("EphemeralVolumeSource", "use emptyDir"),
        "fc": no("FCVolumeSource", ON_HOST),
        "flexVolume": no("FlexVolumeSource", ON_HOST),
        "flocker": no("FlockerVolumeSource", GONE),
        "gcePersistentDisk": no("GCEPersistentDiskVolumeSource", ON_HOST),
        "gitRepo": no("GitRepoVolumeSource", "clone it on the host and use a hostPath volume"),
        "glusterfs": no("GlusterfsVolumeSource", ON_HOST),
        "hostPath": yes("HostPathVolumeSource"),
        "image": no("ImageVolumeSource"),
        "iscsi": no("ISCSIVolumeSource", ON_HOST),
        "name": yes(),
        "nfs": no("NFSVolumeSource", ON_HOST),
        "persistentVolumeClaim": no("PersistentVolumeClaimVolumeSource", "use a hostPath volume"),
        "photonPersistentDisk": no("PhotonPersistentDiskVolumeSource", GONE),
        "portworxVolume": no("PortworxVolumeSource", ON_HOST),
        "projected": no("ProjectedVolumeSource", FILES),
        "quobyte": no("QuobyteVolumeSource", GONE),
        "rbd": no("RBDVolumeSource", ON_HOST),
        "scaleIO": no("ScaleIOVolumeSource", GONE),
        "secret": no("SecretVolumeSource", FILES),
        "storageos": no("StorageOSVolumeSource", GONE),
        "vsphereVolume": no("VsphereVirtualDiskVolumeSource", ON_HOST),
    },
    "VolumeDevice": all_refused("devicePath name"),
}
