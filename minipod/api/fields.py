# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields of all types of a Pod and of the other kinds, gathered from where they are declared: beside each type.

The set of a Pod's types is that of Kubernetes 1.37; a test compares it.
"""

from __future__ import annotations

from minipod.api.field import Field, Status, Tables
from minipod.api.objects import (
    claims,
    config,
    container,
    env,
    files,
    lifecycle,
    meta,
    network,
    persistentvolume,
    pod,
    resources,
    scheduling,
    security,
    storage,
    volumes,
)

_MODULES = (
    claims,
    persistentvolume,
    meta,
    env,
    lifecycle,
    resources,
    security,
    network,
    files,
    storage,
    volumes,
    container,
    scheduling,
    pod,
    config,
)
_TABLES: Tables = {name: table for module in _MODULES for name, table in module.FIELDS.items()}

__all__ = ["Field", "Status", "table", "type_names"]


def table(type_name: str) -> dict[str, Field]:
    """Return the fields of a type by name.

    Raises:
        KeyError: there is no such type.
    """
    return _TABLES[type_name]


def type_names() -> list[str]:
    """Return the names of all types."""
    return list(_TABLES)
