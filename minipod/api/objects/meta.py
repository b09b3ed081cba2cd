# SPDX-License-Identifier: GPL-3.0-or-later
"""What every object has: its name, labels and bookkeeping."""

from __future__ import annotations

import msgspec

from minipod.api.field import NO_CLUSTER, OURS, Tables, all_inert, all_refused, inert, yes
from minipod.api.objects.base import Object


class ObjectMeta(Object):
    """Name, namespace and bookkeeping of an object; times are RFC 3339 in UTC."""

    name: str = ""
    generate_name: str | None = None
    namespace: str = ""
    uid: str = ""
    resource_version: str | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


FIELDS: Tables = {
    "ObjectMeta": {
        "annotations": yes("{str}"),
        "creationTimestamp": inert("time", OURS),
        "deletionGracePeriodSeconds": inert("int", OURS),
        "deletionTimestamp": inert("time", OURS),
        "finalizers": inert("[str]", NO_CLUSTER),
        "generateName": yes(),
        "generation": inert("int", OURS),
        "labels": yes("{str}"),
        "managedFields": inert("[ManagedFieldsEntry]", NO_CLUSTER),
        "name": yes(),
        "namespace": yes(),
        "ownerReferences": inert("[OwnerReference]", NO_CLUSTER),
        "resourceVersion": inert("str", OURS),
        "selfLink": inert("str", OURS),
        "uid": inert("str", OURS),
    },
    "ManagedFieldsEntry": all_inert(
        "apiVersion fieldsType fieldsV1:object manager operation subresource time:time"
    ),
    "OwnerReference": all_inert("apiVersion blockOwnerDeletion:bool controller:bool kind name uid"),
    "LabelSelector": all_inert("matchExpressions:[LabelSelectorRequirement] matchLabels:{str}"),
    "LabelSelectorRequirement": all_inert("key operator values:[str]"),
    "LocalObjectReference": all_refused("name"),
    "TypedLocalObjectReference": all_refused("apiGroup kind name"),
    "TypedObjectReference": all_refused("apiGroup kind name namespace"),
}
