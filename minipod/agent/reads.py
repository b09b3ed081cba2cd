# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's questions about objects: get, watch, wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from minipod.agent import select
from minipod.agent.objects import ObjectTable
from minipod.agent.server import Call, Handler
from minipod.agent.store import Store
from minipod.api import StoredObject, to_dict
from minipod.errors import MinipodError, NotFound, UsageError
from minipod.kinds import KINDS, Kind
from minipod.pods.manager import PodManager

Json = dict[str, Any]


def plural(name: str) -> Kind:
    """Return the kind whose plural is *name*.

    Raises:
        UsageError: there is none.
    """
    for kind in KINDS.values():
        if kind.plural == name:
            return kind
    known = ", ".join(kind.plural for kind in KINDS.values())
    raise UsageError(f"there are no objects of kind {name!r}", f"use one of: {known}")


class Reads:
    """Answers requests that change nothing."""

    def __init__(self, store: Store, objects: ObjectTable, manager: PodManager) -> None:
        self._store = store
        self._objects = objects
        self._manager = manager

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that are answered here."""
        return {"get": self.get, "wait": self.wait}

    def object(self, kind: str, namespace: str, name: str) -> StoredObject:
        """Return an object that is no pod.

        Raises:
            NotFound: it is not there.
        """
        found = self._objects.get(kind, namespace, name)
        if found is None:
            raise _not_found(KINDS[kind], namespace, name)
        return found

    def _all(self, kind: Kind) -> list[Json]:
        if kind.name == "Pod":
            return self._store.pods()
        if kind.name == "Event":
            return self._store.events()
        return [to_dict(found) for found in self._objects.all(kind.name)]

    def matching(self, call: Call) -> Iterator[Json]:
        """Yield the objects that a request means, as JSON data."""
        matches = self._filter(call)
        for data in self._all(plural(call.text("kind", "pods"))):
            if matches(data):
                yield data

    def _filter(self, call: Call) -> Any:
        request = call.request
        namespace, names = request.get("namespace"), request.get("names") or []
        kind = plural(call.text("kind", "pods"))
        selector = select.label_selector(request.get("selector") or "")
        # In a wait, "for" is the condition.
        about = request.get("for") if kind.name == "Event" else None

        def matches(data: Json) -> bool:
            meta = data["metadata"]
            if kind.namespaced and namespace is not None and meta.get("namespace") != namespace:
                return False
            if names and meta["name"] not in names:
                return False
            if about and data.get("involvedObject", {}).get("name") != about:
                return False
            return selector(meta.get("labels", {}))

        return matches

    async def get(self, call: Call) -> Json:
        """List objects; with ``watch``, send what is there and then every change until the client goes.

        With ``allowMissing``, names that are not there are no error: they come as errors beside those that are.
        """
        kind = plural(call.text("kind", "pods"))
        if not call.request.get("watch"):
            items = list(self.matching(call))
            missing = self._missing(call, kind, items)
            if missing and not call.request.get("allowMissing"):
                raise missing[0]
            said = [error.to_status() for error in missing]
            return {"items": items, "missing": said, "resourceVersion": self._store.version}
        matches = self._filter(call)
        with self._store.watch() as watch:
            for data in list(self.matching(call)):
                await call.event({"type": "ADDED", "object": data})
            while True:
                change, changed, data = await watch.next()
                if changed == kind.name and matches(data):
                    await call.event({"type": change, "object": data})

    @staticmethod
    def _missing(call: Call, kind: Kind, items: list[Json]) -> list[NotFound]:
        """Return an error for each name of a request that none of *items* has."""
        there = {item["metadata"]["name"] for item in items}
        namespace = call.request.get("namespace") or "default"
        names = call.request.get("names") or []
        return [_not_found(kind, namespace, name) for name in names if name not in there]

    async def wait(self, call: Call) -> Json:
        """Wait until every named object meets a condition."""
        holds = select.condition(call.text("for"))
        timeout = call.request.get("timeout")
        kind = plural(call.text("kind", "pods"))
        namespace = call.text("namespace", "default")
        names = call.request.get("names") or [d["metadata"]["name"] for d in self.matching(call)]
        if not names:
            raise NotFound(f"no {kind.singular} matches", f"minipod get {kind.plural} -A shows all")
        open_names = list(dict.fromkeys(names))
        try:
            async with asyncio.timeout(float(timeout) if timeout is not None else None):
                with self._store.watch() as watch:
                    while True:
                        for name in list(open_names):
                            if holds(self._find(kind, namespace, name, call.text("for"))):
                                open_names.remove(name)
                                await call.event({"met": f"{kind.singular}/{name}"})
                        if not open_names:
                            return {"names": names}
                        while (await watch.next())[1] != kind.name:
                            pass
        except TimeoutError:
            which = ", ".join(f"{kind.singular}/{name}" for name in open_names)
            raise MinipodError(
                f"timed out waiting for {call.text('for')} of {which}",
                f"see minipod describe {kind.singular} {open_names[0]}",
            ) from None

    def _find(self, kind: Kind, namespace: str, name: str, wanted: str) -> Json | None:
        for data in self._all(kind):
            meta = data["metadata"]
            if meta["name"] == name and meta.get("namespace", namespace) == namespace:
                return data
        if wanted in ("delete", "create"):
            return None
        if kind.name == "Pod":
            self._manager.worker(namespace, name)  # raises NotFound, with what is there
        raise _not_found(kind, namespace, name)


def _not_found(kind: Kind, namespace: str, name: str) -> NotFound:
    full = f"{namespace}/{name}" if kind.namespaced else name
    return NotFound(f"{kind.singular} {full} not found", f"minipod get {kind.plural} -A shows all")
