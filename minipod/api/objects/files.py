# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of files that come from elsewhere: ConfigMaps, Secrets, the pod itself, an image."""

from __future__ import annotations

import msgspec

from minipod.api.field import Tables, all_refused, no, yes
from minipod.api.objects.base import Object, spelled_out
from minipod.api.objects.env import ObjectFieldSelector, ResourceFieldSelector

DEFAULT_FILE_MODE = 0o644
"""Of a file whose mode nothing says (``ConfigMapVolumeSourceDefaultMode`` and its sisters)."""


class KeyToPath(Object):
    """One key of a ConfigMap or Secret as the file *path*, relative to the volume."""

    key: str = ""
    path: str = ""
    mode: int | None = None
    user: int | None = None


class ConfigMapVolumeSource(Object):
    """The keys of a ConfigMap as files: all of them, or those of *items*."""

    name: str = ""
    items: list[KeyToPath] = msgspec.field(default_factory=list)
    default_mode: int = spelled_out(DEFAULT_FILE_MODE)
    default_user: int | None = None
    optional: bool | None = None


class SecretVolumeSource(Object):
    """The keys of a Secret as files: all of them, or those of *items*."""

    secret_name: str = ""
    items: list[KeyToPath] = msgspec.field(default_factory=list)
    default_mode: int = spelled_out(DEFAULT_FILE_MODE)
    default_user: int | None = None
    optional: bool | None = None


class DownwardAPIVolumeFile(Object):
    """One fact about the pod as the file *path*, relative to the volume."""

    path: str = ""
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None
    user: int | None = None


class DownwardAPIVolumeSource(Object):
    """Facts about the pod as files."""

    items: list[DownwardAPIVolumeFile] = msgspec.field(default_factory=list)
    default_mode: int = spelled_out(DEFAULT_FILE_MODE)
    default_user: int | None = None


class ConfigMapProjection(Object):
    """A ConfigMap among the sources of a projected volume."""

    name: str = ""
    items: list[KeyToPath] = msgspec.field(default_factory=list)
    optional: bool | None = None


class SecretProjection(Object):
    """A Secret among the sources of a projected volume."""

    name: str = ""
    items: list[KeyToPath] = msgspec.field(default_factory=list)
    optional: bool | None = None


class DownwardAPIProjection(Object):
    """Facts about the pod among the sources of a projected volume."""

    items: list[DownwardAPIVolumeFile] = msgspec.field(default_factory=list)


class VolumeProjection(Object):
    """One source of a projected volume; exactly one of its fields is set."""

    config_map: ConfigMapProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = None


class ProjectedVolumeSource(Object):
    """The files of several sources in one directory; of two with one path, the later one stays."""

    sources: list[VolumeProjection] = msgspec.field(default_factory=list)
    default_mode: int = spelled_out(DEFAULT_FILE_MODE)
    default_user: int | None = None


class ImageVolumeSource(Object):
    """The files of an image, read-only; *pull_policy* is Always, IfNotPresent or Never."""

    reference: str = ""
    pull_policy: str = ""


_ITEMS = "Which keys become files, and where; all keys, under their own names, when there are none."
_DEFAULT_MODE = (
    "Permission bits of the files that have none of their own, 0000 to 0777; 0644 unless given. "
    "Directories have 0755."
)
_DEFAULT_USER = "The uid that owns the files that have no user of their own; 0 unless given."
_MODE = "Permission bits of this file, 0000 to 0777; the volume's defaultMode unless given."
_USER = "The uid that owns this file; the volume's defaultUser unless given."
_PATH = "Where the file is, relative to the volume; without .. and not beginning with two dots."
_OPTIONAL = (
    "When true, the {0} and the keys of items may be missing: the files appear when they do. "
    "Else the pod waits for them."
)
_TOKEN = "there is no API server to sign a token for: mount a Secret that holds one"
_TRUST = "there are no ClusterTrustBundles: put the certificates into a ConfigMap and project that"
_CERTIFICATE = "there is no signer: put key and certificate into a Secret and project that"

_KEYED = {"items": yes("[KeyToPath]", doc=_ITEMS)}
_VOLUME = {
    "defaultMode": yes("int", doc=_DEFAULT_MODE),
    "defaultUser": yes("int", doc=_DEFAULT_USER),
}
_DOWNWARD_ITEMS = {"items": yes("[DownwardAPIVolumeFile]", doc="The files, and what is in each.")}

FIELDS: Tables = {
    "ConfigMapVolumeSource": {
        **_VOLUME,
        **_KEYED,
        "name": yes(doc="The ConfigMap, of the pod's namespace. Its changes appear in the files."),
        "optional": yes("bool", doc=_OPTIONAL.format("ConfigMap")),
    },
    "KeyToPath": {
        "key": yes(doc="A key of the ConfigMap or Secret."),
        "mode": yes("int", doc=_MODE),
        "path": yes(doc=_PATH),
        "user": yes("int", doc=_USER),
    },
    "DownwardAPIVolumeSource": {**_VOLUME, **_DOWNWARD_ITEMS},
    "DownwardAPIVolumeFile": {
        "fieldRef": yes(
            "ObjectFieldSelector",
            doc="A field of the pod: metadata.name, namespace, uid, labels, annotations, labels['KEY'] or "
            "annotations['KEY']. Changed labels and annotations appear in the file.",
        ),
        "mode": yes("int", doc=_MODE),
        "path": yes(doc=_PATH),
        "resourceFieldRef": yes(
            "ResourceFieldSelector", doc="A request or limit of a container, which it has to name."
        ),
        "user": yes("int", doc=_USER),
    },
    "SecretVolumeSource": {
        **_VOLUME,
        **_KEYED,
        "optional": yes("bool", doc=_OPTIONAL.format("Secret")),
        "secretName": yes(
            doc="The Secret, of the pod's namespace. Its changes appear in the files."
        ),
    },
    "ProjectedVolumeSource": {
        **_VOLUME,
        "sources": yes(
            "[VolumeProjection]",
            doc="What is in the directory; later sources overwrite earlier ones.",
        ),
    },
    "VolumeProjection": {
        "clusterTrustBundle": no(
            "ClusterTrustBundleProjection", _TRUST, doc="Certificates of a cluster's trust bundles."
        ),
        "configMap": yes("ConfigMapProjection", doc="Keys of a ConfigMap."),
        "downwardAPI": yes("DownwardAPIProjection", doc="Facts about the pod."),
        "podCertificate": no(
            "PodCertificateProjection",
            _CERTIFICATE,
            doc="A key and a certificate that the cluster issues for the pod.",
        ),
        "secret": yes("SecretProjection", doc="Keys of a Secret."),
        "serviceAccountToken": no(
            "ServiceAccountTokenProjection",
            _TOKEN,
            doc="A token for the API server, renewed in time.",
        ),
    },
    "ClusterTrustBundleProjection": all_refused("""
        labelSelector:LabelSelector - Bundles by their labels.
        name - One bundle by its name.
        optional:bool - Whether it may be missing.
        path - The file that it is written to.
        signerName - Bundles by their signer.
        user:int - The file's owner.
        """),
    "ConfigMapProjection": {
        **_KEYED,
        "name": yes(doc="The ConfigMap, of the pod's namespace."),
        "optional": yes("bool", doc=_OPTIONAL.format("ConfigMap")),
    },
    "DownwardAPIProjection": _DOWNWARD_ITEMS,
    "PodCertificateProjection": all_refused("""
        certificateChainPath - The file for the certificates.
        credentialBundlePath - The file for key and certificates together.
        keyPath - The file for the key.
        keyType - The kind of key that is made.
        maxExpirationSeconds:int - How long the certificate may be valid.
        signerName - Who signs it.
        user:int - The files' owner.
        userAnnotations:{str} - What is passed on to the signer.
        """),
    "SecretProjection": {
        **_KEYED,
        "name": yes(doc="The Secret, of the pod's namespace."),
        "optional": yes("bool", doc=_OPTIONAL.format("Secret")),
    },
    "ServiceAccountTokenProjection": all_refused("""
        audience - For whom the token is meant.
        expirationSeconds:int - How long it is valid.
        path - The file that it is written to.
        user:int - The file's owner.
        """),
    "ImageVolumeSource": {
        "pullPolicy": yes(
            doc="Always, IfNotPresent or Never; Always for a reference with the tag latest or none, else IfNotPresent."
        ),
        "reference": yes(doc="The image, as in a container's image."),
    },
}
