# SPDX-License-Identifier: GPL-3.0-or-later
"""The ids of pods with user namespaces: never the same for two, kept, given back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from minipod.config import Config
from minipod.errors import MinipodError, UsageError
from minipod.plan.context import USER_IDS, Users
from minipod.runtime.userids import UserIds, parse_ids

FIRST = 1 << 20
Database = Callable[[], sqlite3.Connection]
THREE = f"{FIRST}-{FIRST + 3 * USER_IDS - 1}"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Opens the same database as often as it is called."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(
            closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None))
        )


def test_each_pod_has_its_own_and_keeps_them(database: Database) -> None:
    ids = UserIds(database(), THREE)
    given = [ids.of(owner) for owner in ("a", "b", "a", "c")]
    assert given == [Users(FIRST + n * USER_IDS) for n in (0, 1, 0, 2)]
    # Another agent, later.
    assert UserIds(database(), THREE).of("b") == given[1]
    with pytest.raises(MinipodError, match=r"all user ids from .* are in use by 3 pods"):
        ids.of("d")
    ids.release("b")
    ids.release("nobody")
    assert ids.of("d") == given[1]
    assert ids.all() == {"a": FIRST, "c": FIRST + 2 * USER_IDS, "d": FIRST + USER_IDS}


def test_what_another_setting_has_given_out_is_not_given_again(database: Database) -> None:
    before = UserIds(database(), THREE).of("a").first
    shifted = UserIds(database(), f"{FIRST + 100}-{FIRST + 4 * USER_IDS}").of("b").first
    assert shifted >= before + USER_IDS


def test_ids_outside() -> None:
    assert Users(FIRST).outside(7) == FIRST + 7
    assert parse_ids(Config().user_ids) == (1879048192, 2147352575)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1-2",
        "0-65535",
        "65535-200000",
        f"{FIRST}-{FIRST + USER_IDS - 2}",
        f"{FIRST}-{1 << 31}",
        f"{FIRST}-{FIRST}",
        "-1-100000",
        "100000:65536",
        "99999999999-99999999999999",
    ],
)
def test_ranges_that_cannot_be_used(database: Database, text: str) -> None:
    with pytest.raises(UsageError, match="user ids"):
        UserIds(database(), text)
