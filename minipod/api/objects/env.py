# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a container, and where their values come from."""

from __future__ import annotations

from minipod.api.field import Tables, yes
from minipod.api.objects.base import Object, spelled_out


class ConfigMapKeySelector(Object):
    """One key of a ConfigMap in the pod's namespace."""

    name: str = ""
    key: str = ""
    optional: bool | None = None


class SecretKeySelector(Object):
    """One key of a Secret in the pod's namespace."""

    name: str = ""
    key: str = ""
    optional: bool | None = None


class ObjectFieldSelector(Object):
    """A field of the pod itself: ``metadata.name``, ``metadata.labels['app']``, ``status.podIP``."""

    api_version: str = spelled_out("v1")
    field_path: str = ""


class ResourceFieldSelector(Object):
    """A request or limit of a container, ``limits.memory``, in multiples of *divisor* (``"0"`` means 1)."""

    container_name: str = ""
    resource: str = ""
    divisor: str = spelled_out("0")


class FileKeySelector(Object):
    """One key of a file of ``KEY='value'`` lines; *path* is relative to the root of an ``emptyDir`` volume."""

    volume_name: str = ""
    path: str = ""
    key: str = ""
    optional: bool | None = None


class EnvVarSource(Object):
    """Where the value of a variable comes from: exactly one of these."""

    config_map_key_ref: ConfigMapKeySelector | None = None
    secret_key_ref: SecretKeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    file_key_ref: FileKeySelector | None = None


class EnvVar(Object):
    """One variable of a container's environment, with a value or a source of it."""

    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class ConfigMapEnvSource(Object):
    """All texts of a ConfigMap in the pod's namespace."""

    name: str = ""
    optional: bool | None = None


class SecretEnvSource(Object):
    """All values of a Secret in the pod's namespace."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(Object):
    """Where many variables come from: exactly one of the two; *prefix* goes before each key."""

    prefix: str = ""
    config_map_ref: ConfigMapEnvSource | None = None
    secret_ref: SecretEnvSource | None = None


_OPTIONAL = (
    "When true, what is not there is left out; else the container waits with CreateContainerConfigError until it is "
    "there. Default: false."
)
_IN_NAMESPACE = "in the pod's namespace."

FIELDS: Tables = {
    "EnvVar": {
        "name": yes(doc="The name of the variable: printable ASCII characters except =."),
        "value": yes(
            doc="The value. $(NAME) stands for the value of a variable that is defined before it, by envFrom or "
            "env; an unknown one stays as it is written, and $$ is a single $. Default: empty."
        ),
        "valueFrom": yes(
            "EnvVarSource", doc="Where the value comes from; not together with a value."
        ),
    },
    "EnvVarSource": {
        "configMapKeyRef": yes("ConfigMapKeySelector", doc="One text of a ConfigMap."),
        "fieldRef": yes(
            "ObjectFieldSelector",
            doc="A field of the pod: its name, a label, its address and so on.",
        ),
        "fileKeyRef": yes(
            "FileKeySelector",
            doc="One value in a file that, say, an init container wrote into an emptyDir volume. The container "
            "need not mount it.",
        ),
        "resourceFieldRef": yes(
            "ResourceFieldSelector", doc="A request or a limit of a container of the pod."
        ),
        "secretKeyRef": yes("SecretKeySelector", doc="One value of a Secret."),
    },
    "ConfigMapKeySelector": {
        "key": yes(doc="The key in the ConfigMap's data."),
        "name": yes(doc=f"The name of a ConfigMap {_IN_NAMESPACE}"),
        "optional": yes("bool", doc=_OPTIONAL),
    },
    "ObjectFieldSelector": {
        "apiVersion": yes(doc="The version of the API that the path is written for: v1."),
        "fieldPath": yes(
            doc="metadata.name, .namespace, .uid, .labels['KEY'] or .annotations['KEY']; for a variable also "
            "spec.nodeName (this machine's host name), spec.serviceAccountName, status.hostIP, .hostIPs, .podIP "
            "or .podIPs; for a file also all of metadata.labels or metadata.annotations."
        ),
    },
    "FileKeySelector": {
        "key": yes(doc="The name before the = in the file, 128 characters at most."),
        "optional": yes("bool", doc=_OPTIONAL),
        "path": yes(
            doc="The file, relative to the root of the volume, without ... Its lines are KEY='value', with the value "
            "in single quotes, over several lines if need be; # begins a comment."
        ),
        "volumeName": yes(doc="The name of an emptyDir volume of the pod."),
    },
    "ResourceFieldSelector": {
        "containerName": yes(
            doc="The container whose resources are meant; for a variable its own unless given."
        ),
        "divisor": yes(
            "quantity",
            doc="The unit of the result, which is rounded up: 1 or 1m for cpu; 1, 1k, 1M … 1Ki, 1Mi … for the "
            "others. Default: 1.",
        ),
        "resource": yes(
            doc="limits or requests, a point, and cpu, memory, ephemeral-storage or hugepages-SIZE. Without a limit "
            "it is what the machine has."
        ),
    },
    "SecretKeySelector": {
        "key": yes(doc="The key in the Secret's data."),
        "name": yes(doc=f"The name of a Secret {_IN_NAMESPACE}"),
        "optional": yes("bool", doc=_OPTIONAL),
    },
    "EnvFromSource": {
        "configMapRef": yes("ConfigMapEnvSource", doc="A variable for each text of a ConfigMap."),
        "prefix": yes(doc="What is put before each key to make the variable's name."),
        "secretRef": yes("SecretEnvSource", doc="A variable for each value of a Secret."),
    },
    "ConfigMapEnvSource": {
        "name": yes(doc=f"The name of a ConfigMap {_IN_NAMESPACE}"),
        "optional": yes("bool", doc=_OPTIONAL),
    },
    "SecretEnvSource": {
        "name": yes(doc=f"The name of a Secret {_IN_NAMESPACE}"),
        "optional": yes("bool", doc=_OPTIONAL),
    },
}
