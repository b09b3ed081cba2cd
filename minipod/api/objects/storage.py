# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of storage: claims, and what a cluster's clouds would offer."""

from __future__ import annotations

from minipod.api.field import Tables, all_refused, yes
from minipod.api.objects.base import Object


class NFSVolumeSource(Object):
    """A directory that an NFS server exports."""

    server: str = ""
    path: str = ""
    read_only: bool = False


FIELDS: Tables = {
    "NFSVolumeSource": {
        "path": yes(doc="The absolute path that the server exports."),
        "readOnly": yes("bool", "Whether all containers see it read-only. Default false."),
        "server": yes(doc="The server's name or address."),
    },
    "CSIVolumeSource": all_refused("""
        driver - The CSI driver's name.
        fsType - The type of file system on it: ext4, for example.
        nodePublishSecretRef:LocalObjectReference - The Secret that the driver is given.
        readOnly:bool - Mounts it read-only.
        volumeAttributes:{str} - What the driver is told.
        """),
    "AWSElasticBlockStoreVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        partition:int - The partition to mount; 0 for the whole.
        readOnly:bool - Mounts it read-only.
        volumeID - The disk's id.
        """),
    "AzureDiskVolumeSource": all_refused("""
        cachingMode - None, ReadOnly or ReadWrite.
        diskName - The disk's name.
        diskURI - The disk's address.
        fsType - The type of file system on it: ext4, for example.
        kind - Shared, Dedicated or Managed.
        readOnly:bool - Mounts it read-only.
        """),
    "AzureFileVolumeSource": all_refused("""
        readOnly:bool - Mounts it read-only.
        secretName - The Secret with the storage account.
        shareName - The share.
        """),
    "CephFSVolumeSource": all_refused("""
        monitors:[str] - Addresses of the monitors.
        path - The path in the volume.
        readOnly:bool - Mounts it read-only.
        secretFile - A file of the node with the key.
        secretRef:LocalObjectReference - The Secret with the credentials.
        user - As whom to log in.
        """),
    "CinderVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        readOnly:bool - Mounts it read-only.
        secretRef:LocalObjectReference - The Secret with the credentials.
        volumeID - The disk's id.
        """),
    "FCVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        lun:int - The LUN.
        readOnly:bool - Mounts it read-only.
        targetWWNs:[str] - The targets' world wide names.
        wwids:[str] - World wide ids, in the place of targets and LUN.
        """),
    "FlexVolumeSource": all_refused("""
        driver - The driver's name.
        fsType - The type of file system on it: ext4, for example.
        options:{str} - What the driver is told.
        readOnly:bool - Mounts it read-only.
        secretRef:LocalObjectReference - The Secret with the credentials.
        """),
    "FlockerVolumeSource": all_refused("""
        datasetName - The dataset's name.
        datasetUUID - The dataset's id.
        """),
    "GCEPersistentDiskVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        partition:int - The partition to mount; 0 for the whole.
        pdName - The disk's name.
        readOnly:bool - Mounts it read-only.
        """),
    "GitRepoVolumeSource": all_refused("""
        directory - Where it is cloned to.
        repository - The repository's address.
        revision - The commit.
        """),
    "GlusterfsVolumeSource": all_refused("""
        endpoints - The Endpoints with the servers.
        path - The path in the volume.
        readOnly:bool - Mounts it read-only.
        """),
    "ISCSIVolumeSource": all_refused("""
        chapAuthDiscovery:bool - Whether discovery logs in by CHAP.
        chapAuthSession:bool - Whether the session logs in by CHAP.
        fsType - The type of file system on it: ext4, for example.
        initiatorName - Our own iSCSI name.
        iqn - The target's name.
        iscsiInterface - The interface that uses the transport.
        lun:int - The LUN.
        portals:[str] - Further addresses of the target.
        readOnly:bool - Mounts it read-only.
        secretRef:LocalObjectReference - The Secret with the credentials.
        targetPortal - The target's address.
        """),
    "PhotonPersistentDiskVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        pdID - The disk's id.
        """),
    "PortworxVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        readOnly:bool - Mounts it read-only.
        volumeID - The volume's id.
        """),
    "QuobyteVolumeSource": all_refused("""
        group - As which group.
        readOnly:bool - Mounts it read-only.
        registry - Addresses of the registries.
        tenant - The tenant.
        user - As whom to log in.
        volume - The volume's name.
        """),
    "RBDVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        image - The image's name.
        keyring - A file of the node with the key.
        monitors:[str] - Addresses of the monitors.
        pool - The pool.
        readOnly:bool - Mounts it read-only.
        secretRef:LocalObjectReference - The Secret with the credentials.
        user - As whom to log in.
        """),
    "ScaleIOVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        gateway - The gateway's address.
        protectionDomain - The protection domain.
        readOnly:bool - Mounts it read-only.
        secretRef:LocalObjectReference - The Secret with the credentials.
        sslEnabled:bool - Whether TLS is used.
        storageMode - ThickProvisioned or ThinProvisioned.
        storagePool - The storage pool.
        system - The storage system.
        volumeName - The volume's name.
        """),
    "StorageOSVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        readOnly:bool - Mounts it read-only.
        secretRef:LocalObjectReference - The Secret with the credentials.
        volumeName - The volume's name.
        volumeNamespace - The volume's namespace.
        """),
    "VsphereVirtualDiskVolumeSource": all_refused("""
        fsType - The type of file system on it: ext4, for example.
        storagePolicyID - The storage policy's id.
        storagePolicyName - The storage policy's name.
        volumePath - The path of the disk.
        """),
}
