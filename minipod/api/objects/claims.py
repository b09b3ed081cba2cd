# SPDX-License-Identifier: GPL-3.0-or-later
"""PersistentVolumeClaim: a wish for storage that outlives pods; and the volumes of a pod that are claims."""

from __future__ import annotations

import msgspec

from minipod.api.field import OURS, Tables, inert, no, yes
from minipod.api.objects.base import Object, spelled_out
from minipod.api.objects.meta import LabelSelector, ObjectMeta


class VolumeResourceRequirements(Object):
    """How much storage is asked for: ``requests["storage"]``, a quantity."""

    limits: dict[str, str] = msgspec.field(default_factory=dict)
    requests: dict[str, str] = msgspec.field(default_factory=dict)


class PersistentVolumeClaimSpec(Object):
    """What a volume must be like, or which one it is.

    *storage_class_name* is ``None`` for the default: a directory of minipod's; ``""`` takes only volumes that
    are there.
    """

    access_modes: list[str] = msgspec.field(default_factory=list)
    resources: VolumeResourceRequirements = msgspec.field(
        default_factory=VolumeResourceRequirements
    )
    selector: LabelSelector | None = None
    storage_class_name: str | None = None
    volume_mode: str = spelled_out("Filesystem")
    volume_name: str = ""


class PersistentVolumeClaimStatus(Object):
    """What has become of a claim; *phase* is Pending, Bound or Lost."""

    phase: str = ""
    access_modes: list[str] = msgspec.field(default_factory=list)
    capacity: dict[str, str] = msgspec.field(default_factory=dict)


class PersistentVolumeClaim(Object):
    """A wish for storage, by name; pods use the volume that it is bound to."""

    api_version: str = spelled_out("v1")
    kind: str = spelled_out("PersistentVolumeClaim")
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = msgspec.field(default_factory=PersistentVolumeClaimSpec)
    status: PersistentVolumeClaimStatus = msgspec.field(default_factory=PersistentVolumeClaimStatus)


class PersistentVolumeClaimTemplate(Object):
    """The claim that an ephemeral volume makes; of its metadata only labels and annotations count."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = msgspec.field(default_factory=PersistentVolumeClaimSpec)


class PersistentVolumeClaimVolumeSource(Object):
    """A claim of the pod's namespace."""

    claim_name: str = ""
    read_only: bool = False


class EphemeralVolumeSource(Object):
    """A claim named POD-VOLUME that is made for the pod and goes with it."""

    volume_claim_template: PersistentVolumeClaimTemplate | None = None


_NO_COPY = "nothing is copied into a new volume: fill it from a container"
MODES_DOC = (
    "Any of ReadWriteOnce, ReadOnlyMany, ReadWriteMany; or ReadWriteOncePod alone: one pod only."
)
VOLUME_MODE_DOC = (
    "Filesystem (default): mounted by volumeMounts. Block: a device for volumeDevices."
)
NO_ATTRIBUTES = "there are no attributes classes"

FIELDS: Tables = {
    "PersistentVolumeClaim": {
        "apiVersion": yes(doc="The version of the API that the object is written in: v1."),
        "kind": yes(doc="PersistentVolumeClaim."),
        "metadata": yes("ObjectMeta", doc="Name, namespace, labels and annotations."),
        "spec": yes("PersistentVolumeClaimSpec", doc="What the volume must be like."),
        "status": inert("object", OURS, doc="What became of the claim."),
    },
    "PersistentVolumeClaimSpec": {
        "accessModes": yes("[str]", MODES_DOC),
        "dataSource": no(
            "TypedLocalObjectReference", _NO_COPY, doc="What the new volume is filled from."
        ),
        "dataSourceRef": no(
            "TypedObjectReference",
            _NO_COPY,
            doc="What the new volume is filled from, in any API group.",
        ),
        "resources": yes(
            "VolumeResourceRequirements", "How much storage: requests.storage. It can grow later."
        ),
        "selector": yes(
            "LabelSelector",
            "Which PersistentVolumes may be bound; with it none is made for the claim.",
        ),
        "storageClassName": yes(
            doc="Only PersistentVolumes of this class are bound. When none fits, minipod makes a directory "
            'below its root directory, whatever the class; except for "", which takes only what is there.'
        ),
        "volumeAttributesClassName": no(
            "str", NO_ATTRIBUTES, doc="The class of attributes, to be changed by a driver."
        ),
        "volumeMode": yes(doc=VOLUME_MODE_DOC),
        "volumeName": yes(
            doc="The PersistentVolume to bind, and no other. Set when the claim is bound."
        ),
    },
    "VolumeResourceRequirements": {
        "limits": yes("{quantity}", "The most storage that is wanted; it is checked and shown."),
        "requests": yes("{quantity}", "storage: the least size of the volume."),
    },
    "PersistentVolumeClaimTemplate": {
        "metadata": yes("ObjectMeta", "Labels and annotations of the claim."),
        "spec": yes("PersistentVolumeClaimSpec", "As of a PersistentVolumeClaim."),
    },
    "PersistentVolumeClaimVolumeSource": {
        "claimName": yes(doc="The name of a PersistentVolumeClaim of the pod's namespace."),
        "readOnly": yes("bool", "Whether all containers see it read-only. Default false."),
    },
    "EphemeralVolumeSource": {
        "volumeClaimTemplate": yes(
            "PersistentVolumeClaimTemplate",
            "The claim that is made for the pod, named POD-VOLUME, and deleted with it.",
        ),
    },
}
