# SPDX-License-Identifier: GPL-3.0-or-later
"""The ids of the pods with user namespaces of their own: 65,536 for each, never the same for two.

They live in the store beside the addresses, and for the same reason: what is handed out is written as durably as the
pod that has it. A pod keeps its ids until it is gone, over restarts of the agent and of its sandbox.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import AbstractContextManager

from minipod.errors import MinipodError, UsageError
from minipod.plan.context import USER_IDS, Users
from minipod.transactions import transaction

_RANGE = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")
_SMALLEST = 65536  # below are the host's own users
_LARGEST = (1 << 31) - 1
_SCHEMA = """CREATE TABLE IF NOT EXISTS pod_users (
    owner TEXT PRIMARY KEY NOT NULL,
    first INTEGER NOT NULL UNIQUE
) WITHOUT ROWID"""


def parse_ids(text: str) -> tuple[int, int]:
    """Return first and last of ``FIRST-LAST``.

    Raises:
        UsageError: it is not written like that, has no room for a pod, or is where the host's own users are.
    """
    match = _RANGE.fullmatch(text)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if first < _SMALLEST or last > _LARGEST or last - first + 1 < USER_IDS:
        raise UsageError(
            f"user ids {text!r} are not FIRST-LAST with room for {USER_IDS} between {_SMALLEST} and {_LARGEST}",
            "set MINIPOD_USER_IDS, for example to 1879048192-2147352575",
        )
    return first, last


class UserIds:
    """Who has which ids. Works over a connection that the caller owns, in its thread."""

    def __init__(self, db: sqlite3.Connection, ids: str) -> None:
        """Use (and create, where missing) the table in *db* for the range *ids*.

        Raises:
            UsageError: *ids* is no range that can be used.
        """
        self._db = db
        self._first, self._last = parse_ids(ids)
        with self._transaction():
            db.execute(_SCHEMA)

    def of(self, owner: str) -> Users:
        """Return the ids of *owner*, the same every time; the lowest free ones when it has none yet.

        Raises:
            MinipodError: all are in use.
        """
        with self._transaction():
            row = self._db.execute(
                "SELECT first FROM pod_users WHERE owner = ?", (owner,)
            ).fetchone()
            if row is None:
                row = (self._free(),)
                self._db.execute("INSERT INTO pod_users VALUES (?, ?)", (owner, row[0]))
        return Users(row[0])

    def release(self, owner: str) -> None:
        """Take *owner*'s ids back; nothing happens when it has none."""
        with self._transaction():
            self._db.execute("DELETE FROM pod_users WHERE owner = ?", (owner,))

    def all(self) -> dict[str, int]:
        """Return every owner's first id."""
        return dict(self._db.execute("SELECT owner, first FROM pod_users"))

    def _free(self) -> int:
        # As long as a range of another setting is in use, what overlaps with it is not free.
        taken = [first for (first,) in self._db.execute("SELECT first FROM pod_users")]
        candidate = self._first
        for first in sorted(taken):
            if first < candidate + USER_IDS and candidate < first + USER_IDS:
                candidate = first + USER_IDS
        if candidate + USER_IDS - 1 > self._last:
            raise MinipodError(
                f"all user ids from {self._first} to {self._last} are in use by {len(taken)} pods",
                "delete pods with hostUsers: false, or set MINIPOD_USER_IDS to a larger range",
            )
        return candidate

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._db, "the user ids of the pods")
