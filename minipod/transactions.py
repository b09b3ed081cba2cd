# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the agent's database that happen wholly or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from minipod.errors import MinipodError


@contextmanager
def transaction(db: sqlite3.Connection, what: str) -> Iterator[None]:
    """Do what the block does in one transaction of *db*: the caller's, when one is open already.

    Args:
        db: a connection in autocommit mode (``isolation_level=None``).
        what: what is stored there, for the error.

    Raises:
        MinipodError: SQLite could not.
    """
    nested: bool = db.in_transaction
    if nested:
        yield
        return
    try:
        # IMMEDIATE, because a reader that later writes would fail when another process wrote in between.
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException as error:
        if db.in_transaction:  # SQLite rolls some back itself: a full disk, an I/O error
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            remedy = "see that its disk has room and is writable"
            raise MinipodError(f"{what}: {error}", remedy) from error
        raise
