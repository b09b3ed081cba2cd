# SPDX-License-Identifier: GPL-3.0-or-later
"""What all objects are made of, and the way to JSON and back."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

_NAMES = {
    "pod_ip": "podIP",
    "pod_ips": "podIPs",
    "host_ip": "hostIP",
    "host_ips": "hostIPs",
    "host_ipc": "hostIPC",
    "host_pid": "hostPID",
    "set_hostname_as_fqdn": "setHostnameAsFQDN",
    "image_id": "imageID",
    "container_id": "containerID",
    "downward_api": "downwardAPI",
}


def camel(name: str) -> str:
    """Return the Kubernetes spelling of an attribute's name."""
    head, *tail = name.split("_")
    return _NAMES.get(name) or head + "".join(map(str.capitalize, tail))


def spelled_out(value: str | int) -> Any:
    """Declare a default that ``to_dict`` writes, as Kubernetes shows it in ``get -o yaml``."""
    return msgspec.field(default_factory=lambda: value)


class Object(msgspec.Struct, rename=camel, omit_defaults=True):
    """What all structs share: camelCase names in JSON, and defaults left out."""


_PRUNED = frozenset(
    (
        "metadata",
        "spec",
        "status",
        "resources",
        "securityContext",
        "state",
        "lastState",
        "involvedObject",
        "source",
    )
)
"""Structs that say nothing when empty, unlike ``emptyDir: {}``."""

_T = TypeVar("_T")


def to_dict(obj: msgspec.Struct) -> dict[str, Any]:
    """Return an object as JSON-ready builtins, camelCase, without what is empty or at its default."""
    data: dict[str, Any] = _without_empty(msgspec.to_builtins(obj))
    return data


def from_dict(data: dict[str, Any], type_: type[_T]) -> _T:
    """Return the object that :func:`to_dict` wrote. For trusted data: nothing but types is checked.

    Raises:
        msgspec.ValidationError: a value has the wrong type.
    """
    return msgspec.convert(data, type_)


def _without_empty(data: Any) -> Any:
    if isinstance(data, dict):
        pairs = ((key, _without_empty(value)) for key, value in data.items())
        return {key: value for key, value in pairs if value != {} or key not in _PRUNED}
    if isinstance(data, list):
        return [_without_empty(item) for item in data]
    return data
