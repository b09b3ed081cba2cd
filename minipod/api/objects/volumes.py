# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's volumes, where a container sees them, and those that need nothing else: emptyDir and hostPath."""

from __future__ import annotations

import msgspec

from minipod.api.field import GONE, ON_HOST, Tables, no, yes
from minipod.api.objects.base import Object
from minipod.api.objects.claims import EphemeralVolumeSource, PersistentVolumeClaimVolumeSource
from minipod.api.objects.files import (
    ConfigMapVolumeSource,
    DownwardAPIVolumeSource,
    ImageVolumeSource,
    ProjectedVolumeSource,
    SecretVolumeSource,
)
from minipod.api.objects.storage import NFSVolumeSource


class VolumeMount(Object):
    """Where a container sees a volume of its pod; *mount_path* is absolute."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False
    sub_path: str = ""
    sub_path_expr: str = ""
    mount_propagation: str | None = None
    recursive_read_only: str | None = None
    bind_mount_options: list[str] = msgspec.field(default_factory=list)


class VolumeDevice(Object):
    """Where a container sees a block device: a claim of mode Block."""

    name: str = ""
    device_path: str = ""


class EmptyDirVolumeSource(Object):
    """A directory that lives as long as the pod.

    *medium* is ``""`` (disk), Memory (tmpfs), HugePages or ``HugePages-<size>`` (hugetlbfs).
    """

    medium: str = ""
    size_limit: str | None = None
    mode: int | None = None


class HostPathVolumeSource(Object):
    """A path of the host; *type* says what must be there, or is made (``""``: no check)."""

    path: str = ""
    type: str = ""


class Volume(Object):
    """A volume of a pod, with exactly one source."""

    name: str = ""
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    image: ImageVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None

    def sources(self) -> list[str]:
        """Return the names of the sources that are given; it should be exactly one."""
        names = zip(self.__struct_encode_fields__, self.__struct_fields__, strict=True)
        return [name for name, field in names if field != "name" and getattr(self, field)]

    @property
    def files(
        self,
    ) -> (
        ConfigMapVolumeSource
        | SecretVolumeSource
        | DownwardAPIVolumeSource
        | ProjectedVolumeSource
        | None
    ):
        """Return the source whose files minipod writes, if it is one of those."""
        return self.config_map or self.secret or self.downward_api or self.projected


FIELDS: Tables = {
    "VolumeMount": {
        "bindMountOptions": yes(
            "[str]", "Any of noexec, nodev, nosuid: what this mount of the volume does not allow."
        ),
        "mountPath": yes(
            doc="Where in the container, absolute; what is not there is made. Not / or /proc."
        ),
        "mountPropagation": yes(
            doc="Whether mounts made later below the volume are seen: None (default), "
            "HostToContainer (the container sees the host's), or Bidirectional (the host sees the "
            "container's too; privileged containers only)."
        ),
        "name": yes(doc="The volume's name in spec.volumes."),
        "readOnly": yes("bool", "Whether the container can only read it. Default false."),
        "recursiveReadOnly": yes(
            doc="With readOnly: whether mounts below the volume are read-only too. Disabled "
            "(default), IfPossible or Enabled; every kernel that minipod runs on can do it."
        ),
        "subPath": yes(
            doc="A path inside the volume that is mounted instead of its root. A directory is made "
            "when it is missing. Symbolic links in it never lead out of the volume."
        ),
        "subPathExpr": yes(
            doc="As subPath, with $(NAME) replaced by the container's environment variables; a "
            "variable that is not set keeps the container from starting. Excludes subPath."
        ),
    },
    "EmptyDirVolumeSource": {
        "medium": yes(
            doc='"" (default) for a directory on disk, Memory for a tmpfs, HugePages or '
            "HugePages-<size> for a hugetlbfs."
        ),
        "mode": yes("int", "The directory's mode, 0 to 01777. Default 0777."),
        "sizeLimit": yes(
            "quantity",
            "The size of a volume in memory or huge pages; in memory at most the pod's memory limit. On disk: a pod "
            "that takes up more there is evicted.",
        ),
    },
    "HostPathVolumeSource": {
        "path": yes(
            doc="An absolute path of this machine, without ..; a symbolic link is followed once, when the pod starts."
        ),
        "type": yes(
            doc="What has to be there: Directory, File, Socket, CharDevice, BlockDevice; DirectoryOrCreate and "
            "FileOrCreate make it. Default: anything, and a directory is made where nothing is."
        ),
    },
    "Volume": {
        "awsElasticBlockStore": no(
            "AWSElasticBlockStoreVolumeSource", ON_HOST, doc="A disk of Amazon's."
        ),
        "azureDisk": no("AzureDiskVolumeSource", ON_HOST, doc="A disk of Azure's."),
        "azureFile": no("AzureFileVolumeSource", ON_HOST, doc="A share of Azure's."),
        "cephfs": no("CephFSVolumeSource", ON_HOST, doc="A Ceph file system."),
        "cinder": no("CinderVolumeSource", ON_HOST, doc="A disk of OpenStack's."),
        "configMap": yes(
            "ConfigMapVolumeSource", doc="The keys of a ConfigMap as read-only files."
        ),
        "csi": no("CSIVolumeSource", ON_HOST, doc="A volume of a CSI driver."),
        "downwardAPI": yes(
            "DownwardAPIVolumeSource", doc="Facts about the pod as read-only files."
        ),
        "emptyDir": yes(
            "EmptyDirVolumeSource",
            doc="A directory that begins empty and lives as long as the pod; its containers share it.",
        ),
        "ephemeral": yes(
            "EphemeralVolumeSource", "A claim that is made for the pod and goes with it."
        ),
        "fc": no("FCVolumeSource", ON_HOST, doc="A disk by Fibre Channel."),
        "flexVolume": no("FlexVolumeSource", ON_HOST, doc="A volume of a FlexVolume driver."),
        "flocker": no("FlockerVolumeSource", GONE, doc="A Flocker dataset."),
        "gcePersistentDisk": no(
            "GCEPersistentDiskVolumeSource", ON_HOST, doc="A disk of Google's."
        ),
        "gitRepo": no(
            "GitRepoVolumeSource",
            "clone it on the host and use a hostPath volume",
            doc="A clone of a git repository.",
        ),
        "glusterfs": no("GlusterfsVolumeSource", ON_HOST, doc="A Gluster file system."),
        "hostPath": yes(
            "HostPathVolumeSource",
            doc="A file or directory of this machine. What a container writes there, it writes to the machine.",
        ),
        "image": yes(
            "ImageVolumeSource",
            doc="The files of an image, read-only; nothing of it can be executed.",
        ),
        "iscsi": no("ISCSIVolumeSource", ON_HOST, doc="A disk by iSCSI."),
        "name": yes(doc="By which volumeMounts refer to it: a DNS label, unique in the pod."),
        "nfs": yes("NFSVolumeSource", "A directory of an NFS server, mounted for the pod."),
        "persistentVolumeClaim": yes(
            "PersistentVolumeClaimVolumeSource", "Storage that outlives the pod."
        ),
        "photonPersistentDisk": no(
            "PhotonPersistentDiskVolumeSource", GONE, doc="A disk of VMware Photon's."
        ),
        "portworxVolume": no("PortworxVolumeSource", ON_HOST, doc="A Portworx volume."),
        "projected": yes(
            "ProjectedVolumeSource",
            doc="The files of ConfigMaps, Secrets and the pod itself in one directory, read-only.",
        ),
        "quobyte": no("QuobyteVolumeSource", GONE, doc="A Quobyte volume."),
        "rbd": no("RBDVolumeSource", ON_HOST, doc="A disk of Ceph's."),
        "scaleIO": no("ScaleIOVolumeSource", GONE, doc="A ScaleIO volume."),
        "secret": yes(
            "SecretVolumeSource",
            doc="The keys of a Secret as read-only files, which are never on a disk.",
        ),
        "storageos": no("StorageOSVolumeSource", GONE, doc="A StorageOS volume."),
        "vsphereVolume": no("VsphereVirtualDiskVolumeSource", ON_HOST, doc="A disk of vSphere's."),
    },
    "VolumeDevice": {
        "devicePath": yes(doc="Where in the container, absolute: /dev/xvda, say."),
        "name": yes(doc="The volume's name in spec.volumes: a claim whose volumeMode is Block."),
    },
}
