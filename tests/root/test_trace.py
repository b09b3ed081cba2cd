# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a pod's starts: every step that was taken, in its order, and what another agent still knows of it."""

from __future__ import annotations

import time
from typing import Any

from tests import node
from tests.features import requires
from tests.instance import Instance

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth")

Json = dict[str, Any]
NAP = 0.3


def starts(instance: Instance, name: str, **request: Any) -> dict[tuple[str, int], list[Json]]:
    done, _ = instance.call("trace", {"pod": name, **request})
    return {(start["container"], start["number"]): start["spans"] for start in done["starts"]}


def words(spans: list[Json], by: str) -> list[str]:
    return [span["what"] for span in spans if span["by"] == by]


def test_the_start_of_a_pod(shared_instance: Instance) -> None:
    instance = shared_instance
    before = time.monotonic_ns()
    instance.start_pod(
        "traced",
        {"command": ["sleep", "100000"], "readinessProbe": {"exec": {"command": ["true"]}}},
        initContainers=[{"name": "i", "image": "localhost/test:1", "command": ["sleep", f"{NAP}"]}],
        hostname="named",
    )
    found = starts(instance, "traced")
    after = time.monotonic_ns()
    assert found.keys() == {("", 0), ("i", 0), ("c0", 0)}
    for spans in found.values():
        assert all(before < span["began"] <= span["ended"] < after for span in spans)
    sandbox, init, app = found["", 0], found["i", 0], found["c0", 0]

    # The steps in the clones are those of the plan, one after the other.
    for spans, last in ((sandbox, "execveat minipod-pause"), (app, "execve sleep 100000")):
        inside = [span for span in spans if span["by"] == "clone"]
        assert [a["ended"] for a in inside[:-1]] == [b["began"] for b in inside[1:]]
        assert inside[-1]["what"].startswith(last)
    assert "sethostname named" in words(sandbox, "clone")
    assert any(span["source"] == "spec.hostname" for span in sandbox)
    assert {span["stage"] for span in sandbox} == {
        *("accept", "prepare", "host", "launch", "network")
    }

    # An init container's run is what the next one waited for.
    (ran,) = [span for span in init if span["stage"] == "run"]
    assert ran["ended"] - ran["began"] > NAP * 0.9e9
    assert ran["ended"] <= min(span["began"] for span in app)
    assert [span["stage"] for span in app][-1] == "readiness probe"
    instance.delete("traced")


def test_following_tells_all_until_it_is_there(shared_instance: Instance) -> None:
    instance = shared_instance
    instance.create("followed", {"command": ["sleep", "100000"]})
    _, events = instance.call("trace", {"pod": "followed", "until": "running"})
    heard = [span for event in events for span in event["spans"]]
    known = [span for spans in starts(instance, "followed").values() for span in spans]
    order = lambda span: (span["began"], span["ended"], span["what"])  # noqa: E731
    assert sorted(heard, key=order) == sorted(known, key=order)
    instance.delete("followed")


def test_restarts_failures_and_another_agent(instance: Instance) -> None:
    node.up(instance)
    instance.create(
        "again",
        {"image": "localhost/busybox:1", "command": ["sh", "-c", "exit 3"]},
        {"image": "localhost/busybox:1", "command": ["/no/such/program"]},
        restartPolicy="Always",
    )
    instance.until("again", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] >= 1)
    found = starts(instance, "again")
    assert {("", 0), ("c0", 0), ("c0", 1), ("c1", 0)} <= found.keys()
    failed = words(found["c1", 0], "clone")
    assert failed[-1].startswith("failed: execve /no/such/program")

    instance.cli("agent", "stop")  # writes down what it knows
    node.up(instance)
    again = starts(instance, "again")
    assert again["c0", 0] == found["c0", 0] and again["", 0] == found["", 0]
    instance.delete("again")


def test_switched_off(busybox_archive: Any) -> None:
    instance = Instance({"MINIPOD_TRACES": "0"})
    try:
        instance.load(busybox_archive)
        instance.start_pod("dark", {"image": "localhost/busybox:1", "command": node.FOREVER})
        assert starts(instance, "dark") == {}
        said = instance.cli("trace", "dark", check=False)
        assert said.returncode != 0 and 'traces is "0"' in said.stderr
    finally:
        complaints = instance.stop()
    assert not complaints
