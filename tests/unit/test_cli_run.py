# SPDX-License-Identifier: GPL-3.0-or-later
"""``run``: what it shows, when it ends and with what, and the interrupts, against a small agent."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.cli.main import main
from minipod.errors import AlreadyExists, MinipodError
from tests.unit.test_cli_client import Conversation, FakeAgent, interrupt_us

Json = dict[str, Any]


class Cluster(FakeAgent):
    """An agent with pods whose states a test sets.

    Attributes:
        deletions: the grace periods that were asked for.
        dies_at: the deletion, counted from 1, that ends the pod.
    """

    def __init__(self, directory: Path, *names: str) -> None:
        super().__init__(directory)
        self.names = names
        self.deletions: list[int | None] = []
        self.dies_at = 1
        self.pods_sent = threading.Event()
        self.events_sent = threading.Event()
        self.states: dict[str, list[Json]] = {name: [] for name in names}
        self.lines: dict[str, list[Json]] = {name: [] for name in names}
        self.after: dict[str, Any] = {}
        self.gone = threading.Event()
        made = [
            {"kind": "Pod", "namespace": "default", "name": n, "uid": f"uid-{n}"} for n in names
        ]
        self.answers |= {
            "create": [{"done": {"objects": made, "warnings": []}}],
            "get": self._get,
            "logs": self._logs,
            "delete": self._delete,
        }
        self.events: list[Json] = []

    def _get(self, talk: Conversation) -> None:
        if talk.request["kind"] == "events":
            for event in self.events:
                talk.event(type="ADDED", object=event)
            self.events_sent.set()
            talk.gone()
            return
        for name in talk.request["names"]:
            for n, status in enumerate(self.states[name]):
                talk.event(type="MODIFIED" if n else "ADDED", object=self.pod(name, status))
        self.pods_sent.set()
        while not self.gone.wait(0.05):
            if _has_left(talk):
                return
        for name in talk.request["names"]:
            talk.event(type="DELETED", object=self.pod(name, self.states[name][-1]))
        talk.gone()

    def _logs(self, talk: Conversation) -> None:
        name = talk.request["pod"]
        for line in self.lines[name]:
            talk.event(log={"pod": name, "partial": False, "stream": "stdout", **line})
        if action := self.after.get(name):
            action(talk)
        talk.send({"done": {}})

    def _delete(self, talk: Conversation) -> None:
        self.deletions.append(talk.request["gracePeriodSeconds"])
        if len(self.deletions) >= self.dies_at:
            self.gone.set()
        self.gone.wait()
        talk.event(deleted=f"pod/{talk.request['names'][0]}")
        talk.send({"done": {}})

    def pod(self, name: str, status: Json) -> Json:
        """Return a pod with *status*."""
        return {
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
            "spec": {"containers": [{"name": "main"}]},
            "status": status,
        }


def _has_left(talk: Conversation) -> bool:
    import select

    return bool(select.select([talk.sock], [], [], 0)[0])


def state(phase: str, **container: Any) -> Json:
    status = {"name": "main", "state": container, "ready": "running" in container}
    conditions = [{"type": "Ready", "status": "True" if "running" in container else "False"}]
    return {
        "phase": phase,
        "podIP": "10.99.0.2" if phase != "Pending" else None,
        "conditions": conditions,
        "containerStatuses": [status],
    }


CREATING = state("Pending", waiting={"reason": "ContainerCreating"})
RUNNING = state("Running", running={"startedAt": "x"})
SUCCEEDED = state("Succeeded", terminated={"exitCode": 0, "reason": "Completed"})
FAILED = state("Failed", terminated={"exitCode": 9, "reason": "Error", "finishedAt": "1"})


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    yield from _cluster(tmp_path, monkeypatch, "web")


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    yield from _cluster(tmp_path, monkeypatch, "web", "db")


def _cluster(path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[Cluster]:
    fake = Cluster(path, *names)
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    (path / "pod.yaml").write_text("kind: Pod\n")
    monkeypatch.chdir(path)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield fake
    fake.gone.set()
    fake.close()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_to_the_end(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.states["web"] = [CREATING, RUNNING, SUCCEEDED]
    cluster.lines["web"] = [
        {"container": "main", "text": "one"},
        {"container": "main", "text": "two", "stream": "stderr"},
        {"container": "side", "text": "three \x1b[1m"},
    ]
    assert main(["run", "pod.yaml"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == ["[main] one", "[side] three \x1b[1m"]
    lines = err.splitlines()
    lines.remove("[main] two")
    assert lines == ["web: ContainerCreating", "web: Running 10.99.0.2", "web: Completed"]
    (created,) = cluster.asked("create")
    assert (created["replaceFinished"], created["source"]) == (True, "pod.yaml")
    (logs,) = cluster.asked("logs")
    assert (logs["allContainers"], logs["follow"], logs["pod"]) == (True, True, "web")
    assert cluster.deletions == []


def test_the_exit_code_is_the_containers(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.states["web"] = [FAILED]
    assert main(["run", "pod.yaml"]) == 9
    assert "pod web failed: Error, exit code 9" in capfd.readouterr().err


def test_all_log_lines_come_before_the_end(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.states["web"] = [SUCCEEDED]

    def late(talk: Conversation) -> None:
        cluster.pods_sent.wait()
        for number in range(1000):
            line = {"pod": "web", "container": "main", "text": str(number), "stream": "stdout"}
            talk.event(log=line)

    cluster.after["web"] = late
    assert main(["run", "pod.yaml"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 1000


def test_several_pods(two: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    two.states = {"web": [SUCCEEDED], "db": [FAILED]}
    two.lines = {
        "web": [{"container": "main", "text": "w"}],
        "db": [{"container": "main", "text": "d"}],
    }
    assert main(["run", "pod.yaml"]) == 9
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ["[db/main] d", "[web/main] w"]
    assert "pod db failed" in err


def test_remove_at_the_end(two: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    two.states = {"web": [SUCCEEDED], "db": [SUCCEEDED]}
    assert main(["run", "--rm", "pod.yaml"]) == 0
    assert sorted(request["names"][0] for request in two.asked("delete")) == ["db", "web"]
    assert two.deletions == [None, None]


def test_detached(two: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    two.states = {"web": [CREATING, RUNNING], "db": [CREATING, SUCCEEDED]}
    assert main(["run", "-d", "pod.yaml"]) == 0
    out, err = capfd.readouterr()
    assert out == "web  10.99.0.2\ndb  10.99.0.2\n"
    assert "web: Running 10.99.0.2\n" in err
    assert two.asked("logs") == two.asked("delete") == []


def test_detached_from_a_pod_that_fails(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.states["web"] = [FAILED]
    assert main(["run", "-d", "pod.yaml"]) == 9


def test_why_a_pod_does_not_start_is_said(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    waiting = {"reason": "ErrImageNeverPull", "message": "no image \x07app"}
    cluster.states["web"] = [state("Pending", waiting=waiting), SUCCEEDED]
    event = {"reason": "Failed", "message": "no \x1b[2J", "type": "Warning"}
    cluster.events = [
        event | {"involvedObject": {"uid": "uid-web"}},
        event | {"involvedObject": {"uid": "another"}, "reason": "Strange"},
    ]
    cluster.after["web"] = lambda talk: cluster.events_sent.wait()
    main(["run", "pod.yaml"])
    err = capfd.readouterr().err
    assert "web: ErrImageNeverPull: no image \\x07app" in err
    assert "web: Failed: no \\x1b[2J" in err
    assert "Strange" not in err


def interrupt(times: int, number: int = signal.SIGINT) -> Any:
    """Return an action of the log stream: interrupt us *times*, each when the one before was heeded."""

    def action(cluster: Cluster, talk: Conversation) -> None:
        for n in range(times):
            interrupt_us(number)
            while len(cluster.deletions) <= n:
                time.sleep(0.01)
        talk.gone()

    return action


def test_an_interrupt_deletes(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.states["web"] = [RUNNING]
    cluster.after["web"] = lambda talk: interrupt(1)(cluster, talk)
    assert main(["run", "pod.yaml"]) == 130
    assert cluster.deletions == [None]
    assert "deleting web; once more ends it at once" in capfd.readouterr().err


def test_a_second_interrupt_does_not_wait(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.states["web"] = [RUNNING]
    cluster.dies_at = 2
    cluster.after["web"] = lambda talk: interrupt(2)(cluster, talk)
    assert main(["run", "pod.yaml"]) == 130
    assert cluster.deletions == [None, 0]
    assert "ending web at once" in capfd.readouterr().err


def test_a_third_interrupt_leaves(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.states["web"] = [RUNNING]
    cluster.dies_at = 99

    def thrice(talk: Conversation) -> None:
        for n in range(3):
            interrupt_us()
            while n < 2 and len(cluster.deletions) <= n:
                time.sleep(0.01)
        talk.gone()

    cluster.after["web"] = thrice
    assert main(["run", "pod.yaml"]) == 130
    assert cluster.deletions == [None, 0]


def test_a_termination_is_an_interrupt(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.states["web"] = [RUNNING]
    cluster.after["web"] = lambda talk: interrupt(1, signal.SIGTERM)(cluster, talk)
    assert main(["run", "pod.yaml"]) == 143
    assert cluster.deletions == [None]


def test_an_interrupt_while_detaching_leaves_the_pods(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.states["web"] = [CREATING]
    watch = cluster._get

    def answer(talk: Conversation) -> None:
        if talk.request["kind"] == "events":
            interrupt_us()
        watch(talk)

    cluster.answers["get"] = answer
    assert main(["run", "-d", "pod.yaml"]) == 130
    assert "the pods go on" in capfd.readouterr().err
    assert cluster.deletions == []


def test_a_pod_that_another_deletes(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.states["web"] = [RUNNING]

    def action(talk: Conversation) -> None:
        cluster.gone.set()
        talk.gone()

    cluster.after["web"] = action
    assert main(["run", "pod.yaml"]) == 1
    assert "pod web was deleted" in capfd.readouterr().err


def test_a_name_that_is_taken(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.answers["create"] = [{"error": AlreadyExists("pod default/web exists").to_status()}]
    assert main(["run", "pod.yaml"]) == 1
    assert capfd.readouterr().err == "minipod: pod default/web exists\n"


def test_an_agent_that_goes_away(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.answers["get"] = []
    assert main(["run", "pod.yaml"]) == 1
    assert "the agent went away" in capfd.readouterr().err
    cluster.answers["get"] = [{"error": MinipodError("odd").to_status()}]
    assert main(["run", "pod.yaml"]) == 1
    assert "minipod: odd" in capfd.readouterr().err


def test_what_excludes_each_other(cluster: Cluster) -> None:
    assert main(["run", "-d", "--rm", "pod.yaml"]) == 2
    assert main(["run", "none.yaml"]) == 2
    assert cluster.requests == []


def test_one_line_changes_on_a_terminal(
    cluster: Cluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    long = state("Pending", waiting={"reason": "ContainerCreating", "message": "x" * 80})
    cluster.states["web"] = [long, RUNNING, SUCCEEDED]
    assert main(["run", "pod.yaml"]) == 0
    err = capfd.readouterr().err
    assert err == f"{'web: ContainerCreating: ' + 'x' * 80:.28}…\r\x1b[K"
