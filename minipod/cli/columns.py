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


_COLUMNS: dict[str, tuple[tuple[str, ...], Cells]] = {
    "pods": (podtable.POD_TITLES, podtable.pod_row),
    "events": (podtable.EVENT_TITLES, podtable.event_row),
    "configmaps": (("NAME", "DATA", "AGE"), _config_map),
    "secrets": (("NAME", "TYPE", "DATA", "AGE"), _secret),
}
_WIDE: dict[str, tuple[tuple[str, ...], Cells]] = {
    "pods": (podtable.POD_TITLES_WIDE, partial(podtable.pod_row, wide=True)),
}


def columns(kind: str, *, wide: bool) -> tuple[tuple[str, ...], Cells]:
    """Return the titles of a kind (by its plural), and what makes cells of an object and the time.

    The cells are those of kubectl (``pkg/printers/internalversion/printers.go``).
    """
    return (_WIDE.get(kind) if wide else None) or _COLUMNS[kind]
