# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: pods with their records, and events, in one SQLite file; and the watches on them (see ``objects.py`` too).

Writes are synchronous and on the event loop: in WAL mode with ``synchronous=NORMAL`` a commit is a write(2) of
tenths of a millisecond, and whoever was answered has been saved. A killed agent loses nothing; a machine that
loses power may lose the last instants, but then its pods are gone too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from minipod.api import (
    Event,
    EventSource,
    ObjectMeta,
    ObjectReference,
    Pod,
    from_dict,
    to_dict,
)
from minipod.errors import MinipodError
from minipod.pods.record import PodRecord
from minipod.pods.times import timestamp
from minipod.transactions import transaction

EVENT_TTL = 3600.0  # seconds, as kube-apiserver's --event-ttl
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pods (
    namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL UNIQUE,
    object TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (namespace, name)
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, namespace TEXT NOT NULL, last REAL NOT NULL, object TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_last ON events (last);
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, object TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) STRICT;
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO counter VALUES ('resourceVersion', 0);
"""


Change = tuple[str, str, dict[str, Any]]
"""``ADDED`` | ``MODIFIED`` | ``DELETED``, kind, object as JSON data."""

MAX_UNREAD = 5000  # changes: what a watcher that is held up may keep of the agent's memory


class Subject(Protocol):
    """What an event can be about: an object, or this machine."""

    @property
    def kind(self) -> str: ...

    @property
    def metadata(self) -> ObjectMeta: ...


class Watch:
    """What has changed and was not read yet."""

    def __init__(self) -> None:
        self._unread: asyncio.Queue[Change] = asyncio.Queue(MAX_UNREAD)
        self._lost = False

    def put(self, change: Change) -> None:
        """Add a change; the first that there is no room for ends the watch."""
        if self._unread.full():
            while not self._unread.empty():
                self._unread.get_nowait()
            self._lost = True
        self._unread.put_nowait(change)

    async def next(self) -> Change:
        """Wait for the next change.

        Raises:
            MinipodError: too many came that nobody read; as in Kubernetes (``410 Gone``), what is there has to be
                asked for again.
        """
        change = await self._unread.get()
        if self._lost:
            raise MinipodError(
                f"changes were lost: {MAX_UNREAD} came that were not read", "watch again"
            )
        return change

    def drain(self) -> list[Change]:
        """Return what has not been read, without waiting."""
        return [self._unread.get_nowait() for _ in range(self._unread.qsize())]


class Store:
    """State on disk. One instance per agent, used on its event loop only."""

    def __init__(self, path: str) -> None:
        """Open the store, making it where it is missing.

        Raises:
            MinipodError: the file is broken, or its disk is full.
        """
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self._watches: set[Watch] = set()
        self._known: dict[str, dict[str, Any]] = {}
        self._recent: dict[tuple[str, str, str, str], tuple[float, Event]] = {}
        self._version = 0
        try:
            self._open()
        except sqlite3.Error as error:
            self.db.close()
            raise MinipodError(
                f"{path}: {error}",
                "see that its disk has room; if the file is broken, move it away: its pods are removed then",
            ) from error

    def _open(self) -> None:
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.executescript(_SCHEMA)
        row = self.db.execute("SELECT value FROM counter WHERE name = 'resourceVersion'").fetchone()
        self._version = int(row[0])
        for (text,) in self.db.execute("SELECT object FROM pods"):
            data = json.loads(text)
            self._known[data["metadata"]["uid"]] = data

    def close(self) -> None:
        """Close the database."""
        self.db.close()

    @property
    def version(self) -> str:
        """Return the newest resourceVersion."""
        return str(self._version)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[str]:
        """Do what the block does wholly or not at all; gives it the next resourceVersion.

        Raises:
            MinipodError: SQLite could not.
        """
        with transaction(self.db, self._path):
            self._version += 1
            self.db.execute(
                "UPDATE counter SET value = ? WHERE name = 'resourceVersion'", (self._version,)
            )
            yield str(self._version)

    # ---- pods ----

    def save(self, pod: Pod, record: PodRecord) -> None:
        """Write the pod and its record, and tell the watchers when the pod itself has changed."""
        meta = pod.metadata
        data = to_dict(pod)
        before = self._known.get(meta.uid)
        changed = before is None or {**data, "metadata": _unversioned(data)} != {
            **before,
            "metadata": _unversioned(before),
        }
        with self.transaction() as version:
            if changed:
                meta.resource_version = version
                data["metadata"]["resourceVersion"] = version
            else:
                data = before or data
            self.db.execute(
                "INSERT INTO pods VALUES (?, ?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET object = excluded.object, "
                "record = excluded.record",
                (
                    meta.namespace,
                    meta.name,
                    meta.uid,
                    json.dumps(data),
                    msgspec.json.encode(record).decode(),
                ),
            )
        self._known[meta.uid] = data
        if changed:
            self.tell("MODIFIED" if before else "ADDED", "Pod", data)

    def remove(self, pod: Pod) -> None:
        """Forget the pod."""
        with self.transaction():
            self.db.execute("DELETE FROM pods WHERE uid = ?", (pod.metadata.uid,))
        data = self._known.pop(pod.metadata.uid, None)
        if data is not None:
            self.tell("DELETED", "Pod", data)

    def pods(self) -> list[dict[str, Any]]:
        """Return all pods as JSON data, oldest first."""
        return sorted(
            self._known.values(), key=lambda d: d["metadata"].get("creationTimestamp", "")
        )

    def load(self) -> list[tuple[Pod, PodRecord]]:
        """Return all pods with their records, as the last agent left them."""
        rows = self.db.execute("SELECT object, record FROM pods ORDER BY rowid")
        return [
            (from_dict(json.loads(data), Pod), msgspec.json.decode(record, type=PodRecord))
            for data, record in rows
        ]

    # ---- events ----

    def event(
        self, about: Subject, kind: str, reason: str, message: str, field_path: str = ""
    ) -> None:
        """Write an event about an object; the same one again within an hour is counted."""
        now = time.time()
        key = (about.metadata.uid, reason, message, field_path)
        last, event = self._recent.get(key, (0.0, None))
        if event is None or last < now - EVENT_TTL:
            meta = about.metadata
            event = Event(
                metadata=ObjectMeta(
                    name=f"{meta.name}.{uuid.uuid4().hex[:16]}",
                    namespace=meta.namespace or "default",
                ),
                involved_object=ObjectReference(
                    api_version="v1",
                    kind=about.kind,
                    namespace=meta.namespace,
                    name=meta.name,
                    uid=meta.uid,
                    field_path=field_path or None,
                ),
                reason=reason,
                message=message,
                type=kind,
                count=0,
                first_timestamp=timestamp(now),
                source=EventSource(component="minipod"),
            )
            event.metadata.uid = str(uuid.uuid4())
            event.metadata.creation_timestamp = timestamp(now)
            if len(self._recent) >= 4096:
                del self._recent[next(iter(self._recent))]
        self._recent[key] = now, event
        event.count += 1
        event.last_timestamp = timestamp(now)
        with self.transaction() as version:
            event.metadata.resource_version = version
            data = to_dict(event)
            self.db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET last = excluded.last, object = excluded.object",
                (event.metadata.uid, event.metadata.namespace, now, json.dumps(data)),
            )
            self.db.execute("DELETE FROM events WHERE last < ?", (now - EVENT_TTL,))
        self.tell("ADDED" if event.count == 1 else "MODIFIED", "Event", data)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the last hour as JSON data, oldest first."""
        return [
            json.loads(row[0])
            for row in self.db.execute("SELECT object FROM events ORDER BY last, rowid")
        ]

    # ---- watches ----

    @contextlib.contextmanager
    def watch(self) -> Iterator[Watch]:
        """Return a watch on everything, for as long as the block lasts."""
        watch = Watch()
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def tell(self, change: str, kind: str, data: dict[str, Any]) -> None:
        """Tell the watches of a change that is saved."""
        for watch in self._watches:
            watch.put((change, kind, data))


def _unversioned(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data["metadata"].items() if key != "resourceVersion"}
