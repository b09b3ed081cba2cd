# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of a pod as ``kubectl describe`` words them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minipod.cli.describe import pair

Json = dict[str, Any]
Pairs = list[tuple[str, object]]

STEP = "  "
_WIDTH = 17
_WORDS = {
    "emptyDir": "EmptyDir (a temporary directory that shares a pod's lifetime)",
    "hostPath": "HostPath (bare host directory volume)",
    "configMap": "ConfigMap (a volume populated by a ConfigMap)",
    "secret": "Secret (a volume populated by a Secret)",
    "downwardAPI": "DownwardAPI (a volume populated by information about the pod)",
    "projected": "Projected (a volume that contains injected data from multiple sources)",
    "image": "Image (a container image or OCI artifact)",
    "persistentVolumeClaim": "PersistentVolumeClaim "
    "(a reference to a PersistentVolumeClaim in the same namespace)",
    "ephemeral": "EphemeralVolume "
    "(an inline specification for a volume that gets created and deleted with the pod)",
    "nfs": "NFS (an NFS mount that lasts the lifetime of a pod)",
}


def volumes(found: Sequence[Json]) -> list[str]:
    """Return the lines about the volumes of a pod's spec."""
    if not found:
        return [pair("Volumes", "", _WIDTH)]
    lines = ["Volumes:"]
    for volume in found:
        kind = next((key for key in volume if key != "name"), "emptyDir")
        source = volume.get(kind) or {}
        lines.append(f"{STEP}{volume['name']}:")
        pairs: Pairs = [("Type", _WORDS.get(kind, kind[:1].upper() + kind[1:]))]
        pairs += _DETAILS.get(kind, _plain)(source)
        lines += [pair(name, value, _width(pairs), 2 * STEP) for name, value in pairs]
        if kind == "downwardAPI":
            lines += [f"{2 * STEP}Items:", *_items(source.get("items", []))]
    return lines


def _width(pairs: Pairs) -> int:
    return max(_WIDTH, *(len(name) + 2 * len(STEP) + 3 for name, _ in pairs))


def _plain(source: Json) -> Pairs:
    return [
        (key[:1].upper() + key[1:], _said(value) if isinstance(value, bool) else value)
        for key, value in source.items()
        if isinstance(value, str | int | bool)
    ]


def _empty_dir(source: Json) -> Pairs:
    return [("Medium", source.get("medium")), ("SizeLimit", source.get("sizeLimit", "<unset>"))]


def _host_path(source: Json) -> Pairs:
    return [("Path", source.get("path")), ("HostPathType", source.get("type"))]


def _config_map(source: Json) -> Pairs:
    return [("Name", source.get("name")), ("Optional", _said(source.get("optional")))]


def _secret(source: Json) -> Pairs:
    return [("SecretName", source.get("secretName")), ("Optional", _said(source.get("optional")))]


def _image(source: Json) -> Pairs:
    return [("Reference", source.get("reference")), ("PullPolicy", source.get("pullPolicy"))]


def _downward(source: Json) -> Pairs:
    return []


def _projected(source: Json) -> Pairs:
    result: Pairs = []
    for each in source.get("sources", []):
        for key, name in (("secret", "Secret"), ("configMap", "ConfigMap")):
            if part := each.get(key):
                result.append((f"{name}Name", part.get("name")))
                result.append(("Optional", _said(part.get("optional"))))
        if "downwardAPI" in each:
            result.append(("DownwardAPI", "true"))
    return result


def _items(items: Sequence[Json]) -> list[str]:
    return [f"{3 * STEP}{_origin(item)} -> {item.get('path')}" for item in items]


def _origin(item: Json) -> str:
    if field := item.get("fieldRef"):
        return str(field.get("fieldPath"))
    return str((item.get("resourceFieldRef") or {}).get("resource"))


def _said(value: object) -> str:
    return "true" if value else "false"


_DETAILS: dict[str, Callable[[Json], Pairs]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "configMap": _config_map,
    "secret": _secret,
    "downwardAPI": _downward,
    "projected": _projected,
    "image": _image,
}
