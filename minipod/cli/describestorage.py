# SPDX-License-Identifier: GPL-3.0-or-later
"""PersistentVolumeClaims and PersistentVolumes in words, in kubectl's layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minipod.cli.columns import access_modes
from minipod.cli.describe import mapping, pair

Json = dict[str, Any]
_CLAIM, _VOLUME = 15, 17
_TYPES = {
    "hostPath": "HostPath (bare host directory volume)",
    "local": "LocalVolume (a persistent volume backed by local storage on a node)",
    "nfs": "NFS (an NFS mount that lasts the lifetime of a pod)",
}


def claim_lines(item: Json, pods: Sequence[Json]) -> list[str]:
    """Return the lines about a claim; *pods* are those of its namespace."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
    lines = [pair("Name", meta["name"], _CLAIM), pair("Namespace", meta.get("namespace"), _CLAIM)]
    lines += [
        pair("StorageClass", spec.get("storageClassName", " "), _CLAIM).rstrip(),
        *_status(item, _CLAIM),
        pair("Volume", spec.get("volumeName", " "), _CLAIM).rstrip(),
        *_marks(meta, _CLAIM),
        pair("Capacity", status.get("capacity", {}).get("storage", " "), _CLAIM).rstrip(),
        pair("Access Modes", access_modes(status.get("accessModes", [])) or " ", _CLAIM).rstrip(),
        pair("VolumeMode", spec["volumeMode"], _CLAIM),
    ]
    users = [pod["metadata"]["name"] for pod in pods if meta["name"] in _claims(pod)]
    lines.append(pair("Used By", users[0] if users else None, _CLAIM))
    return lines + [" " * _CLAIM + name for name in users[1:]]


def _claims(pod: Json) -> set[str]:
    """Return the names of the claims that a pod uses."""
    result = set()
    for volume in pod.get("spec", {}).get("volumes", []):
        if source := volume.get("persistentVolumeClaim"):
            result.add(source.get("claimName", ""))
        elif "ephemeral" in volume:
            result.add(f"{pod['metadata']['name']}-{volume['name']}")
    return result


def volume_lines(item: Json) -> list[str]:
    """Return the lines about a volume."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
    claim = spec.get("claimRef")
    lines = [
        pair("Name", meta["name"], _VOLUME),
        *_marks(meta, _VOLUME),
        pair("StorageClass", spec.get("storageClassName", " "), _VOLUME).rstrip(),
        *_status(item, _VOLUME),
        pair("Claim", f"{claim['namespace']}/{claim['name']}" if claim else " ", _VOLUME).rstrip(),
        pair("Reclaim Policy", spec["persistentVolumeReclaimPolicy"], _VOLUME),
        pair("Access Modes", access_modes(spec["accessModes"]), _VOLUME),
        pair("VolumeMode", spec["volumeMode"], _VOLUME),
        pair("Capacity", spec["capacity"]["storage"], _VOLUME),
        pair("Message", status.get("message", " "), _VOLUME).rstrip(),
        "Source:",
    ]
    kind = next(name for name in _TYPES if name in spec)
    lines.append(pair("Type", _TYPES[kind], 16, "    "))
    for key, value in spec[kind].items():
        lines.append(pair(key[:1].upper() + key[1:], value, 16, "    "))
    return lines


def _status(item: Json, width: int) -> list[str]:
    gone = item["metadata"].get("deletionTimestamp")
    phase = item.get("status", {}).get("phase")
    return [pair("Status", f"Terminating (since {gone})" if gone else phase, width)]


def _marks(meta: Json, width: int) -> list[str]:
    lines = mapping("Labels", meta.get("labels", {}), "=", width)
    lines += mapping("Annotations", meta.get("annotations", {}), ": ", width)
    return [*lines, pair("Finalizers", f"[{' '.join(meta.get('finalizers', []))}]", width)]
