# SPDX-License-Identifier: GPL-3.0-or-later
"""What every object has: its name, labels and bookkeeping."""

from __future__ import annotations

import msgspec

from minipod.api.field import NO_CLUSTER, OURS, Tables, all_inert, all_refused, inert, yes
from minipod.api.objects.base import Object


class LocalObjectReference(Object):
    """An object of the same namespace."""

    name: str = ""


class OwnerReference(Object):
    """The object without which this one has no reason to be."""

    api_version: str = "v1"
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class LabelSelectorRequirement(Object):
    """A rule for one label; *operator* is In, NotIn, Exists or DoesNotExist."""

    key: str = ""
    operator: str = ""
    values: list[str] = msgspec.field(default_factory=list)


class LabelSelector(Object):
    """Which labels an object must have; nothing in it selects all."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)
    match_expressions: list[LabelSelectorRequirement] = msgspec.field(default_factory=list)


class ObjectMeta(Object):
    """Name, namespace and bookkeeping of an object; times are RFC 3339 in UTC."""

    name: str = ""
    generate_name: str | None = None
    namespace: str = ""
    uid: str = ""
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    finalizers: list[str] = msgspec.field(default_factory=list)
    owner_references: list[OwnerReference] = msgspec.field(default_factory=list)


FIELDS: Tables = {
    "ObjectMeta": {
        "annotations": yes(
            "{str}",
            doc="Texts about the object, by key, for tools and people; 256 KiB in all. They cannot be selected by.",
        ),
        "creationTimestamp": inert("time", OURS, doc="When the object was created."),
        "deletionGracePeriodSeconds": inert(
            "int", OURS, doc="How long the object had to end when its deletion was asked for."
        ),
        "deletionTimestamp": inert(
            "time", OURS, doc="When it has to be gone, once its deletion was asked for."
        ),
        "finalizers": inert("[str]", NO_CLUSTER, doc="Who must agree before the object is gone."),
        "generateName": yes(
            doc="What the name begins with, when name is not given; a suffix makes it unique."
        ),
        "generation": inert("int", OURS, doc="How often what the object should be has changed."),
        "labels": yes(
            "{str}", doc="Short texts by key, to select objects by: minipod get pods -l app=web."
        ),
        "managedFields": inert(
            "[ManagedFieldsEntry]", NO_CLUSTER, doc="Who set which field, for server-side apply."
        ),
        "name": yes(
            doc="The object's name, unique in its namespace: lower case letters, digits, - and ., 253 at most. "
            "Required unless generateName is given."
        ),
        "namespace": yes(doc="A space for names. Default: that of the command, else default."),
        "ownerReferences": inert(
            "[OwnerReference]", NO_CLUSTER, doc="The objects with which it is deleted."
        ),
        "resourceVersion": inert("str", OURS, doc="The version of the stored object."),
        "selfLink": inert("str", OURS, doc="A path to the object; Kubernetes gave it up."),
        "uid": inert(
            "str", OURS, doc="What tells it from others of its name, before and after it."
        ),
    },
    "ManagedFieldsEntry": all_inert("""
        apiVersion - The API version of these fields.
        fieldsType - FieldsV1.
        fieldsV1:object - Which fields.
        manager - Who set them.
        operation - Apply or Update.
        subresource - Of which part of the object.
        time:time - When.
        """),
    "OwnerReference": all_inert("""
        apiVersion - The owner's API version.
        blockOwnerDeletion:bool - Whether the owner has to wait for this object's end.
        controller:bool - Whether the owner manages this object.
        kind - The owner's kind.
        name - The owner's name.
        uid - The owner's uid.
        """),
    "LabelSelector": {
        "matchExpressions": yes("[LabelSelectorRequirement]", "Rules that must all hold."),
        "matchLabels": yes("{str}", "Labels that must be there with these values."),
    },
    "LabelSelectorRequirement": {
        "key": yes(doc="The label's name."),
        "operator": yes(doc="In, NotIn, Exists or DoesNotExist."),
        "values": yes("[str]", "For In and NotIn."),
    },
    "LocalObjectReference": {"name": yes(doc="The object's name, in the pod's namespace.")},
    "TypedLocalObjectReference": all_refused("""
        apiGroup - The API group; empty for core.
        kind - The object's kind.
        name - The object's name, in the pod's namespace.
        """),
    "TypedObjectReference": all_refused("""
        apiGroup - The API group; empty for core.
        kind - The object's kind.
        name - The object's name.
        namespace - The object's namespace.
        """),
}
