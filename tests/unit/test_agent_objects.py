# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of objects that are kept and not run."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.agent.objects import ObjectTable, same
from minipod.agent.store import Store
from minipod.api import ConfigMap, ObjectMeta, Secret
from minipod.errors import MinipodError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(str(tmp_path / "state.db"))
    yield found
    found.close()


def config_map(name: str = "c", namespace: str = "default", **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=data)


def test_what_is_put_is_there_after_a_restart(store: Store) -> None:
    table = ObjectTable(store)
    table.put(config_map(a="1"), Secret(metadata=ObjectMeta(name="c", namespace="default")))
    for each in (table, ObjectTable(store)):
        found = each.get("ConfigMap", "default", "c")
        assert isinstance(found, ConfigMap)
        assert found.data == {"a": "1"}
        assert found.metadata.uid
        assert found.metadata.creation_timestamp
        assert found.metadata.resource_version == store.version
        assert isinstance(each.get("Secret", "default", "c"), Secret)
        assert each.get("Secret", "other", "c") is None
        assert [x.metadata.name for x in each.all("ConfigMap")] == ["c"]


def test_another_version_keeps_who_it_is(store: Store) -> None:
    table = ObjectTable(store)
    table.put(config_map(a="1"))
    first = table.get("ConfigMap", "default", "c")
    table.put(config_map(a="2"))
    second = table.get("ConfigMap", "default", "c")
    assert first is not None
    assert second is not None
    assert first is not second
    assert second.metadata.uid == first.metadata.uid
    assert second.metadata.creation_timestamp == first.metadata.creation_timestamp
    assert second.metadata.resource_version != first.metadata.resource_version
    assert not same(first, second)
    assert same(second, config_map(a="2"))


def test_whoever_listens_is_told_after_the_change(store: Store) -> None:
    table = ObjectTable(store)
    heard: list[tuple[str, str, bool]] = []
    end = table.subscribe(
        lambda kind, space, name: heard.append(
            (kind, name, table.get(kind, space, name) is not None)
        )
    )
    with store.watch() as watch:
        table.put(config_map("a"), config_map("b"))
        table.put(config_map("a", x="1"))
        table.remove("ConfigMap", "default", "a")
        changes = [change[:2] for change in watch.drain()]
    assert heard == [
        ("ConfigMap", name, there)
        for name, there in (("a", True), ("b", True), ("a", True), ("a", False))
    ]
    assert changes == [(c, "ConfigMap") for c in ("ADDED", "ADDED", "MODIFIED", "DELETED")]
    end()
    table.put(config_map("c"))
    assert len(heard) == 4


def test_all_or_none(store: Store) -> None:
    table = ObjectTable(store)
    store.db.execute(
        "CREATE TRIGGER no BEFORE INSERT ON objects WHEN NEW.name = 'bad' "
        "BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(MinipodError):
        table.put(config_map("good"), config_map("bad"))
    assert table.all("ConfigMap") == ObjectTable(store).all("ConfigMap") == []


def test_secrets_are_in_a_file_that_nobody_else_reads(store: Store, tmp_path: Path) -> None:
    ObjectTable(store).put(Secret(metadata=ObjectMeta(name="s", namespace="d"), data={"a": "eA=="}))
    files = list(tmp_path.iterdir())
    assert files
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
