# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store: versions, watches, events, and that nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from minipod.agent import store as module
from minipod.agent.store import EVENT_TTL, MAX_UNREAD, Change, Store, Watch
from minipod.api import Event, ObjectMeta, Pod
from minipod.errors import MinipodError
from minipod.pods.record import ContainerRecord, Ended, PodRecord

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(str(tmp_path / "state.db"))
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The store's time of day, which stands still."""
    made = SimpleNamespace(now=1_800_000_000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: made.now))
    return made


def pod(name: str = "web", uid: str = "", created: str = "2026-01-01T00:00:00Z") -> Pod:
    return Pod(
        metadata=ObjectMeta(
            name=name, namespace="default", uid=uid or f"uid-{name}", creation_timestamp=created
        )
    )


def record(state: str = "waiting") -> PodRecord:
    ended = Ended(1, "Error", 1.5, 2.5, 0, "words")
    return PodRecord(
        sandbox=3,
        sandbox_up=True,
        address="10.99.0.5",
        containers=[ContainerRecord("app", state, 4, ended=ended)],
        source="pod.yaml",
        lines={"spec": 5},
        delete_by=7.25,
    )


def changes(watch: Watch) -> list[tuple[str, str, str]]:
    """Return what a watch has seen: change, kind, name or reason."""
    return [
        (change, kind, data.get("reason") or data["metadata"]["name"])
        for change, kind, data in watch.drain()
    ]


# ---- pods ---------------------------------------------------------------------------------------


def test_what_is_saved_comes_back(store: Store, tmp_path: Path) -> None:
    one, kept = pod(), record()
    store.save(one, kept)
    assert store.load() == [(one, kept)]
    assert store.pods()[0]["metadata"]["name"] == "web"
    store.close()
    again = Store(str(tmp_path / "state.db"))
    assert again.load() == [(one, kept)]
    assert again.pods() == [msgspec.to_builtins(d) for d in again.pods()]
    assert again.version == store.version
    again.close()


def test_versions_only_grow(store: Store, tmp_path: Path) -> None:
    seen = []
    for i in range(3):
        one = pod(f"p{i}")
        store.save(one, record())
        seen.append(int(one.metadata.resource_version or 0))
        store.event(one, "Normal", "Started", "words")
    store.remove(pod("p2"))
    last = int(store.version)
    assert seen == sorted(set(seen)) and last > seen[-1]
    store.close()
    again = Store(str(tmp_path / "state.db"))
    assert int(again.version) == last
    fresh = pod("p9")
    again.save(fresh, record())
    assert int(fresh.metadata.resource_version or 0) > last
    again.close()


def test_a_record_alone_changes_no_version_and_tells_nobody(store: Store) -> None:
    one = pod()
    store.save(one, record("waiting"))
    version = one.metadata.resource_version
    with store.watch() as watch:
        store.save(one, record("running"))
        assert changes(watch) == []
    assert one.metadata.resource_version == version
    assert store.pods()[0]["metadata"]["resourceVersion"] == version
    ((_, kept),) = store.load()
    assert kept.containers[0].state == "running"


def test_a_changed_pod_has_a_new_version(store: Store) -> None:
    one = pod()
    store.save(one, record())
    before = int(one.metadata.resource_version or 0)
    one.status.phase = "Running"
    store.save(one, record())
    assert int(one.metadata.resource_version or 0) > before
    ((kept, _),) = store.load()
    assert (kept.status.phase, kept.metadata.resource_version) == (
        "Running",
        one.metadata.resource_version,
    )


def test_pods_are_listed_oldest_first(store: Store) -> None:
    for name, year in (("young", 2027), ("old", 2025), ("middle", 2026)):
        store.save(pod(name, created=f"{year}-01-01T00:00:00Z"), record())
    assert [data["metadata"]["name"] for data in store.pods()] == ["old", "middle", "young"]


def test_removing(store: Store) -> None:
    one = pod()
    store.save(one, record())
    with store.watch() as watch:
        store.remove(one)
        store.remove(one)  # twice is fine, and told once
        assert changes(watch) == [("DELETED", "Pod", "web")]
    assert (store.pods(), store.load()) == ([], [])


def test_a_name_is_free_when_its_pod_is_gone(store: Store) -> None:
    store.save(pod(uid="one"), record())
    with pytest.raises(MinipodError):
        store.save(pod(uid="two"), record())
    assert [d["metadata"]["uid"] for d in store.pods()] == ["one"]
    store.remove(pod(uid="one"))
    store.save(pod(uid="two"), record())
    assert [d["metadata"]["uid"] for d in store.pods()] == ["two"]


# ---- watches ------------------------------------------------------------------------------------


def test_watches_see_every_change_in_order(store: Store) -> None:
    one = pod()
    with store.watch() as first, store.watch() as second:
        store.save(one, record())
        one.status.phase = "Running"
        store.save(one, record())
        store.event(one, "Normal", "Started", "words")
        store.event(one, "Normal", "Started", "words")
        store.remove(one)
        expected = [
            ("ADDED", "Pod", "web"),
            ("MODIFIED", "Pod", "web"),
            ("ADDED", "Event", "Started"),
            ("MODIFIED", "Event", "Started"),
            ("DELETED", "Pod", "web"),
        ]
        assert changes(first) == expected
        assert changes(second) == expected
    store.save(pod("later"), record())
    assert first.drain() == []


def test_a_watcher_that_does_not_read_loses_its_watch_and_not_the_memory(store: Store) -> None:
    with store.watch() as held_up, store.watch() as reader:
        for number in range(2 * MAX_UNREAD + 1):
            store.tell("MODIFIED", "Pod", {"number": number})
            assert len(reader.drain()) == 1
        assert len(held_up.drain()) <= MAX_UNREAD
        store.tell("MODIFIED", "Pod", {})
        reader.drain()
        with pytest.raises(MinipodError, match="changes were lost"):
            asyncio.run(held_up.next())
        assert asyncio.run(asyncio.wait_for(_told(store, reader), 10)) == ("ADDED", "Pod", {})


async def _told(store: Store, watch: Watch) -> Change:
    asyncio.get_running_loop().call_soon(store.tell, "ADDED", "Pod", {})
    return await watch.next()


def test_a_watcher_keeps_what_it_was_told(store: Store) -> None:
    one = pod()
    with store.watch() as watch:
        store.save(one, record())
        one.status.phase = "Running"
        store.save(one, record())
        phases = [data.get("status", {}).get("phase") for _, _, data in watch.drain()]
    assert phases == [None, "Running"]


# ---- events -------------------------------------------------------------------------------------


def test_an_event_says_all(store: Store, clock: SimpleNamespace) -> None:
    store.event(pod(), "Warning", "BackOff", "the words", "spec.containers{app}")
    (event,) = store.events()
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "default",
        "name": "web",
        "uid": "uid-web",
        "fieldPath": "spec.containers{app}",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "BackOff", "the words")
    assert (event["count"], event["firstTimestamp"]) == (1, "2027-01-15T08:00:00Z")
    assert event["metadata"]["namespace"] == "default"
    assert event["metadata"]["name"].startswith("web.")
    assert event["source"] == {"component": "minipod"}


def test_the_same_event_is_counted(store: Store, clock: SimpleNamespace) -> None:
    for _ in range(3):
        store.event(pod(), "Warning", "BackOff", "same")
        clock.now += 60
    (event,) = store.events()
    assert event["count"] == 3
    assert (event["firstTimestamp"], event["lastTimestamp"]) == (
        "2027-01-15T08:00:00Z",
        "2027-01-15T08:02:00Z",
    )


@pytest.mark.parametrize(
    "other",
    [
        {"of": pod("other")},
        {"of": pod(uid="again")},  # a new pod of the same name
        {"reason": "Failed"},
        {"message": "other"},
        {"field_path": "spec.containers{b}"},
    ],
)
def test_other_events_are_others(store: Store, other: dict[str, Any]) -> None:
    same: dict[str, Any] = {
        "reason": "BackOff",
        "message": "same",
        "field_path": "spec.containers{a}",
        "of": pod(),
    }
    for values in (same, {**same, **other}):
        store.event(
            values["of"], "Warning", values["reason"], values["message"], values["field_path"]
        )
    assert [event["count"] for event in store.events()] == [1, 1]


def test_events_are_forgotten_after_an_hour(store: Store, clock: SimpleNamespace) -> None:
    store.event(pod(), "Normal", "Old", "words")
    clock.now += EVENT_TTL - 1
    store.event(pod(), "Normal", "Young", "words")
    assert [event["reason"] for event in store.events()] == ["Old", "Young"]
    clock.now += 2
    store.event(pod(), "Normal", "New", "words")
    assert [event["reason"] for event in store.events()] == ["Young", "New"]


def test_an_event_that_was_forgotten_begins_anew(store: Store, clock: SimpleNamespace) -> None:
    for _ in range(5):
        store.event(pod(), "Warning", "BackOff", "same")
    clock.now += EVENT_TTL + 1
    with store.watch() as watch:
        store.event(pod(), "Warning", "BackOff", "same")
        assert changes(watch) == [("ADDED", "Event", "BackOff")]
    (event,) = store.events()
    assert (event["count"], event["firstTimestamp"]) == (1, event["lastTimestamp"])


def test_events_are_listed_by_their_last_time(store: Store, clock: SimpleNamespace) -> None:
    for reason in ("a", "b", "a"):
        store.event(pod(), "Normal", reason, "words")
        clock.now += 1
    assert [event["reason"] for event in store.events()] == ["b", "a"]


def test_memory_of_events_is_bounded(store: Store) -> None:
    store._recent = {("uid", "reason", f"{i}", ""): (0.0, Event()) for i in range(4096)}
    store.event(pod(), "Normal", "One more", "words")
    assert len(store._recent) == 4096
    assert ("uid", "reason", "0", "") not in store._recent
    store.event(pod(), "Normal", "One more", "words")
    assert [event["count"] for event in store.events()] == [2]


# ---- being killed -------------------------------------------------------------------------------


def test_what_was_saved_survives_without_a_close(store: Store, tmp_path: Path) -> None:
    store.save(pod(), record())
    store.event(pod(), "Normal", "Started", "words")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in os.listdir(tmp_path):  # as the files lie there at this instant
        if name.startswith("state.db"):
            shutil.copy(tmp_path / name, copy / name)
    again = Store(str(copy / "state.db"))
    assert again.load() == [(pod_with(store), record())]
    assert [event["reason"] for event in again.events()] == ["Started"]
    assert again.version == store.version
    again.close()


def pod_with(store: Store) -> Pod:
    """Return the first pod as it was saved, with its version."""
    one = pod()
    one.metadata.resource_version = store.pods()[0]["metadata"]["resourceVersion"]
    return one


def test_kill_in_the_middle_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    script = """
import sys
from minipod.agent.store import Store
from tests.unit.test_agent_store import pod, record
store = Store(sys.argv[1])
for i in range(10**6):
    store.save(pod(f"p{i}"), record())
    print(i, flush=True)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "state.db")],
        stdout=subprocess.PIPE,
        cwd=TOP,
    )
    assert writer.stdout
    with writer.stdout:
        for _ in range(40):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        acknowledged = 40 + len(writer.stdout.read().split())
    again = Store(str(tmp_path / "state.db"))
    names = {data["metadata"]["name"] for data in again.pods()}
    assert names >= {f"p{i}" for i in range(acknowledged)}
    assert len(names) <= acknowledged + 1
    assert again.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    versions = [int(data["metadata"]["resourceVersion"]) for data in again.pods()]
    assert int(again.version) >= max(versions)
    again.close()


def test_a_transaction_that_fails_leaves_everything_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pod()
    store.save(one, record())
    before = (store.pods(), store.load())
    store.db.execute(
        "CREATE TRIGGER full BEFORE UPDATE ON pods BEGIN SELECT RAISE(FAIL, 'full'); END"
    )
    one.status.phase = "Running"
    with store.watch() as watch:
        with pytest.raises(MinipodError, match="full") as error:
            store.save(one, record())
        assert changes(watch) == []
    assert "disk has room" in error.value.remedy
    assert not store.db.in_transaction
    assert (store.pods(), store.load()) == before
    store.db.execute("DROP TRIGGER full")
    store.save(one, record())
    assert store.pods()[0]["status"]["phase"] == "Running"


def test_the_file_is_the_owners_alone(store: Store, tmp_path: Path) -> None:
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises((MinipodError, sqlite3.DatabaseError)):
        Store(str(tmp_path / "state.db"))
