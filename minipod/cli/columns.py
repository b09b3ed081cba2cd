# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``get`` shows of each kind of object: its titles, and the cells of a row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from minipod.cli import podtable
from minipod.cli.podtable import age

Json = dict[str, Any]
Cells = Callable[[Json, float], list[str]]


def _config_map(item: Json, now: float) -> list[str]:
    size = len(item.get("data", {})) + len(item.get("binaryData", {}))
    meta = item["metadata"]
    return [meta["name"], str(size), age(meta.get("creationTimestamp"), now)]


def _secret(item: Json, now: float) -> list[str]:
    meta = item["metadata"]
    kind, size = str(item.get("type", "")), str(len(item.get("data", {})))
    return [meta["name"], kind, size, age(meta.get("creationTimestamp"), now)]


_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def access_modes(modes: list[str]) -> str:
    """Return access modes as kubectl abbreviates them: ``RWO,ROX``."""
    return ",".join(_MODES.get(mode, mode) for mode in modes)


def _phase(item: Json) -> str:
    return "Terminating" if item["metadata"].get("deletionTimestamp") else item["status"]["phase"]


def _claim(item: Json, now: float, *, wide: bool = False) -> list[str]:
    meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
    cells = [
        meta["name"],
        _phase(item),
        spec.get("volumeName", ""),
        status.get("capacity", {}).get("storage", ""),
        access_modes(status.get("accessModes", [])),
        spec.get("storageClassName", ""),
        "<unset>",
        age(meta.get("creationTimestamp"), now),
    ]
    return [*cells, spec["volumeMode"]] if wide else cells


def _volume(item: Json, now: float, *, wide: bool = False) -> list[str]:
    meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
    claim = spec.get("claimRef")
    cells = [
        meta["name"],
        spec["capacity"]["storage"],
        access_modes(spec["accessModes"]),
        spec["persistentVolumeReclaimPolicy"],
        _phase(item),
        f"{claim['namespace']}/{claim['name']}" if claim else "",
        spec.get("storageClassName", ""),
        "<unset>",
        status.get("reason") or "",
        age(meta.get("creationTimestamp"), now),
    ]
    return [*cells, spec["volumeMode"]] if wide else cells


_CLAIM_TITLES = (
    *("NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS"),
    *("VOLUMEATTRIBUTESCLASS", "AGE"),
)
_VOLUME_TITLES = (
    *("NAME", "CAPACITY", "ACCESS MODES", "RECLAIM POLICY", "STATUS", "CLAIM", "STORAGECLASS"),
    *("VOLUMEATTRIBUTESCLASS", "REASON", "AGE"),
)
_COLUMNS: dict[str, tuple[tuple[str, ...], Cells]] = {
    "pods": (podtable.POD_TITLES, podtable.pod_row),
    "events": (podtable.EVENT_TITLES, podtable.event_row),
    "configmaps": (("NAME", "DATA", "AGE"), _config_map),
    "secrets": (("NAME", "TYPE", "DATA", "AGE"), _secret),
    "persistentvolumeclaims": (_CLAIM_TITLES, _claim),
    "persistentvolumes": (_VOLUME_TITLES, _volume),
}
_WIDE: dict[str, tuple[tuple[str, ...], Cells]] = {
    "pods": (podtable.POD_TITLES_WIDE, partial(podtable.pod_row, wide=True)),
    "persistentvolumeclaims": ((*_CLAIM_TITLES, "VOLUMEMODE"), partial(_claim, wide=True)),
    "persistentvolumes": ((*_VOLUME_TITLES, "VOLUMEMODE"), partial(_volume, wide=True)),
}


def columns(kind: str, *, wide: bool) -> tuple[tuple[str, ...], Cells]:
    """Return the titles of a kind (by its plural), and what makes cells of an object and the time.

    The cells are those of kubectl (``pkg/printers/internalversion/printers.go``).
    """
    return (_WIDE.get(kind) if wide else None) or _COLUMNS[kind]
