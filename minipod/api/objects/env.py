# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a container, and where their values come from."""

from __future__ import annotations

from minipod.api.field import Tables, all_refused, no, yes
from minipod.api.objects.base import Object, spelled_out


class EnvVar(Object):
    """One variable of a container's environment."""

    name: str = ""
    value: str = ""


class ObjectFieldSelector(Object):
    """A field of the pod by its path, ``metadata.labels['app']``."""

    api_version: str = spelled_out("v1")
    field_path: str = ""


class ResourceFieldSelector(Object):
    """A request or limit of a container, ``limits.cpu``, in multiples of *divisor* (``"0"`` means 1)."""

    container_name: str = ""
    resource: str = ""
    divisor: str = spelled_out("0")


FIELDS: Tables = {
    "EnvVar": {
        "name": yes(),
        "value": yes(),
        "valueFrom": no("EnvVarSource", "write the value itself"),
    },
    "EnvVarSource": all_refused(
        "configMapKeyRef:ConfigMapKeySelector fieldRef:ObjectFieldSelector "
        "fileKeyRef:FileKeySelector resourceFieldRef:ResourceFieldSelector "
        "secretKeyRef:SecretKeySelector"
    ),
    "ConfigMapKeySelector": all_refused("key name optional:bool"),
    "ObjectFieldSelector": {
        "apiVersion": yes(doc="The version of the API that fieldPath is written in: v1."),
        "fieldPath": yes(doc="The path of the field, metadata.name or metadata.labels['KEY']."),
    },
    "FileKeySelector": all_refused("key optional:bool path volumeName"),
    "ResourceFieldSelector": {
        "containerName": yes(
            doc="Whose resource; the container itself unless given. Required in a volume."
        ),
        "divisor": yes(
            "quantity",
            doc="In what unit: 1 or 1m for cpu, 1, 1k, 1Ki to 1E, 1Ei for the others; 1 unless given. Rounded up.",
        ),
        "resource": yes(
            doc="limits or requests, and of what: limits.cpu, requests.memory, limits.ephemeral-storage, "
            "limits.hugepages-2Mi. Without a limit it is what the machine has."
        ),
    },
    "SecretKeySelector": all_refused("key name optional:bool"),
    "EnvFromSource": all_refused(
        "configMapRef:ConfigMapEnvSource prefix secretRef:SecretEnvSource"
    ),
    "ConfigMapEnvSource": all_refused("name optional:bool"),
    "SecretEnvSource": all_refused("name optional:bool"),
}
