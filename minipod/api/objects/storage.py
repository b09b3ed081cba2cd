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
    "CSIVolumeSource": all_refused(
        "driver fsType nodePublishSecretRef:LocalObjectReference readOnly:bool "
        "volumeAttributes:{str}"
    ),
    "AWSElasticBlockStoreVolumeSource": all_refused("fsType partition:int readOnly:bool volumeID"),
    "AzureDiskVolumeSource": all_refused("cachingMode diskName diskURI fsType kind readOnly:bool"),
    "AzureFileVolumeSource": all_refused("readOnly:bool secretName shareName"),
    "CephFSVolumeSource": all_refused(
        "monitors:[str] path readOnly:bool secretFile secretRef:LocalObjectReference user"
    ),
    "CinderVolumeSource": all_refused(
        "fsType readOnly:bool secretRef:LocalObjectReference volumeID"
    ),
    "FCVolumeSource": all_refused("fsType lun:int readOnly:bool targetWWNs:[str] wwids:[str]"),
    "FlexVolumeSource": all_refused(
        "driver fsType options:{str} readOnly:bool secretRef:LocalObjectReference"
    ),
    "FlockerVolumeSource": all_refused("datasetName datasetUUID"),
    "GCEPersistentDiskVolumeSource": all_refused("fsType partition:int pdName readOnly:bool"),
    "GitRepoVolumeSource": all_refused("directory repository revision"),
    "GlusterfsVolumeSource": all_refused("endpoints path readOnly:bool"),
    "ISCSIVolumeSource": all_refused(
        "chapAuthDiscovery:bool chapAuthSession:bool fsType initiatorName iqn iscsiInterface "
        "lun:int portals:[str] readOnly:bool secretRef:LocalObjectReference targetPortal"
    ),
    "PhotonPersistentDiskVolumeSource": all_refused("fsType pdID"),
    "PortworxVolumeSource": all_refused("fsType readOnly:bool volumeID"),
    "QuobyteVolumeSource": all_refused("group readOnly:bool registry tenant user volume"),
    "RBDVolumeSource": all_refused(
        "fsType image keyring monitors:[str] pool readOnly:bool secretRef:LocalObjectReference user"
    ),
    "ScaleIOVolumeSource": all_refused(
        "fsType gateway protectionDomain readOnly:bool secretRef:LocalObjectReference "
        "sslEnabled:bool storageMode storagePool system volumeName"
    ),
    "StorageOSVolumeSource": all_refused(
        "fsType readOnly:bool secretRef:LocalObjectReference volumeName volumeNamespace"
    ),
    "VsphereVirtualDiskVolumeSource": all_refused(
        "fsType storagePolicyID storagePolicyName volumePath"
    ),
}
