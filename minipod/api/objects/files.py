# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of files that come from objects: ConfigMaps, Secrets, the pod itself."""

from __future__ import annotations

from minipod.api.field import Tables, all_refused

FIELDS: Tables = {
    "ConfigMapVolumeSource": all_refused(
        "defaultMode:int defaultUser:int items:[KeyToPath] name optional:bool"
    ),
    "KeyToPath": all_refused("key mode:int path user:int"),
    "DownwardAPIVolumeSource": all_refused(
        "defaultMode:int defaultUser:int items:[DownwardAPIVolumeFile]"
    ),
    "DownwardAPIVolumeFile": all_refused(
        "fieldRef:ObjectFieldSelector mode:int path resourceFieldRef:ResourceFieldSelector user:int"
    ),
    "SecretVolumeSource": all_refused(
        "defaultMode:int defaultUser:int items:[KeyToPath] optional:bool secretName"
    ),
    "ProjectedVolumeSource": all_refused(
        "defaultMode:int defaultUser:int sources:[VolumeProjection]"
    ),
    "VolumeProjection": all_refused(
        "clusterTrustBundle:ClusterTrustBundleProjection configMap:ConfigMapProjection "
        "downwardAPI:DownwardAPIProjection podCertificate:PodCertificateProjection "
        "secret:SecretProjection serviceAccountToken:ServiceAccountTokenProjection"
    ),
    "ClusterTrustBundleProjection": all_refused(
        "labelSelector:LabelSelector name optional:bool path signerName user:int"
    ),
    "ConfigMapProjection": all_refused("items:[KeyToPath] name optional:bool"),
    "DownwardAPIProjection": all_refused("items:[DownwardAPIVolumeFile]"),
    "PodCertificateProjection": all_refused(
        "certificateChainPath credentialBundlePath keyPath keyType maxExpirationSeconds:int "
        "signerName user:int userAnnotations:{str}"
    ),
    "SecretProjection": all_refused("items:[KeyToPath] name optional:bool"),
    "ServiceAccountTokenProjection": all_refused("audience expirationSeconds:int path user:int"),
}
