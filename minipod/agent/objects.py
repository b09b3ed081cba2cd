# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that are kept and not run (ConfigMap, Secret, …): one table of the store, and who listens to it.

The file of the store is the agent's user's alone (0600), so secrets are as safe in it as root's own files are.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from minipod.agent.store import Store
from minipod.api import Pod, StoredObject, from_dict, to_dict
from minipod.api.registry import RULES
from minipod.kinds import KINDS
from minipod.pods.times import timestamp

Key = tuple[str, str, str]
Heard = Callable[[str, str, str], None]


class ObjectTable:
    """All objects of the agent but pods and events. What it returns must not be changed: see :meth:`put`."""

    def __init__(self, store: Store) -> None:
        """Read what the last agent left."""
        self._store = store
        self._objects: dict[Key, StoredObject] = {}
        self._listeners: list[Heard] = []
        for kind, text in store.db.execute("SELECT kind, object FROM objects ORDER BY rowid"):
            if kind not in RULES:
                continue  # of a newer minipod: it is left alone
            found = from_dict(json.loads(text), RULES[kind].type)
            if not isinstance(found, Pod):
                self._objects[_key(found)] = found

    def get(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        """Return the object, or None; *namespace* does not matter for a kind that has none."""
        return self._objects.get((kind, namespace if KINDS[kind].namespaced else "", name))

    def all(self, kind: str) -> list[StoredObject]:
        """Return all objects of a kind, oldest first."""
        return [found for key, found in self._objects.items() if key[0] == kind]

    def put(self, *objects: StoredObject) -> None:
        """Write new objects, or new versions of what is there: all of them, or none; then tell whoever listens.

        An object gets what its author cannot say: uid, time of creation, version; from the one before it, if any.

        Raises:
            MinipodError: the disk is full, say.
        """
        now = timestamp(time.time())
        before = {_key(each): self._objects.get(_key(each)) for each in objects}
        with self._store.transaction() as version:
            for each in objects:
                meta, old = each.metadata, before[_key(each)]
                meta.uid = old.metadata.uid if old else meta.uid or str(uuid.uuid4())
                created = old.metadata.creation_timestamp if old else meta.creation_timestamp
                meta.creation_timestamp = created or now
                meta.resource_version = version
                self._store.db.execute(
                    "INSERT INTO objects VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (kind, namespace, name) DO UPDATE SET object = excluded.object",
                    (*_key(each), json.dumps(to_dict(each))),
                )
        for each in objects:
            key = _key(each)
            self._objects[key] = each
            self._store.tell("MODIFIED" if before[key] else "ADDED", each.kind, to_dict(each))
        self._tell(_key(each) for each in objects)

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Forget an object that is there, and tell whoever listens."""
        key = (kind, namespace if KINDS[kind].namespaced else "", name)
        with self._store.transaction():
            self._store.db.execute(
                "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", key
            )
        found = self._objects.pop(key)
        self._store.tell("DELETED", kind, to_dict(found))
        self._tell([key])

    def subscribe(self, heard: Heard) -> Callable[[], None]:
        """Have *heard* called with kind, namespace and name after every change; return what ends that."""
        self._listeners.append(heard)
        return lambda: self._listeners.remove(heard)

    def _tell(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for heard in list(self._listeners):
                heard(*key)


def _key(found: StoredObject) -> Key:
    namespace = found.metadata.namespace if KINDS[found.kind].namespaced else ""
    return found.kind, namespace, found.metadata.name


def same(old: StoredObject, new: StoredObject) -> bool:
    """Whether *new* says nothing that *old* does not: only what the agent itself writes differs."""
    return _said(old) == _said(new)


def _said(found: StoredObject) -> dict[str, Any]:
    data = to_dict(found)
    meta = data.get("metadata", {})
    kept = {
        key: meta[key] for key in ("name", "namespace", "labels", "annotations") if meta.get(key)
    }
    return {**{key: value for key, value in data.items() if key != "status"}, "metadata": kept}
