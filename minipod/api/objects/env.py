# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a container, and where their values come from."""

from __future__ import annotations

from minipod.api.field import Tables, all_refused, no, yes
from minipod.api.objects.base import Object


class EnvVar(Object):
    """One variable of a container's environment."""

    name: str = ""
    value: str = ""


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
    "ObjectFieldSelector": all_refused("apiVersion fieldPath"),
    "FileKeySelector": all_refused("key optional:bool path volumeName"),
    "ResourceFieldSelector": all_refused("containerName divisor resource"),
    "SecretKeySelector": all_refused("key name optional:bool"),
    "EnvFromSource": all_refused(
        "configMapRef:ConfigMapEnvSource prefix secretRef:SecretEnvSource"
    ),
    "ConfigMapEnvSource": all_refused("name optional:bool"),
    "SecretEnvSource": all_refused("name optional:bool"),
}
