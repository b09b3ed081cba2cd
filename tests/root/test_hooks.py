# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks and stop signals on real pods: what runs when, what waits for it, and what its failure does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import node
from tests.instance import Instance
from tests.patience import patience
from tests.root.test_probes import events, wait_for_event

OS = {"os": {"name": "linux"}}


@pytest.fixture(scope="module")
def instance_for_all(busybox_archive: Path) -> Iterator[Instance]:
    """An instance for all tests."""
    with node.instance_for_all(busybox_archive) as instance:
        yield instance


@pytest.fixture
def pods(instance_for_all: Instance) -> Iterator[Instance]:
    """The instance, whose pods are deleted at the end; nothing of them may be left."""
    with node.without_a_trace(instance_for_all):
        yield instance_for_all
        if names := list(node.pods(instance_for_all)):
            node.delete(instance_for_all, *names, grace=0)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory of the host that the pods see as /v: what they did stays to be read."""
    tmp_path.chmod(0o777)
    return tmp_path


def pod(shared: Path, script: str, hooks: node.Json, **spec: Any) -> node.Json:
    container = {
        "name": "c",
        "command": ["sh", "-c", script],
        "lifecycle": hooks,
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    volumes = [{"name": "v", "hostPath": {"path": str(shared)}}]
    return node.manifest("p", containers=[container], volumes=volumes, **spec)


def shell(script: str) -> node.Json:
    return {"exec": {"command": ["sh", "-c", script]}}


SERVES = 'trap "echo term >> /v/log; exit 0" TERM; echo begin >> /v/log; while :; do sleep 1000 & wait; done'


def lines(shared: Path) -> list[str]:
    return (shared / "log").read_text().split("\n")[:-1]


def wait_for_line(shared: Path, text: str) -> None:
    end = time.monotonic() + patience(20)
    while not ((shared / "log").exists() and text in lines(shared)):
        assert time.monotonic() < end, f"no {text}"
        time.sleep(0.02)


# ---- postStart ---------------------------------------------------------------------------------------


@pytest.mark.field("Lifecycle.postStart", "LifecycleHandler.exec")
def test_a_container_runs_when_post_start_has_returned(pods: Instance, shared: Path) -> None:
    hook = shell("echo hook >> /v/log; while [ ! -e /v/go ]; do sleep 0.1; done; id -u >> /v/log")
    node.create(pods, pod(shared, SERVES, {"postStart": hook}))
    wait_for_line(shared, "hook")
    wait_for_line(shared, "begin")  # beside it
    made = node.pods(pods)["p"]
    assert node.container(made)["state"]["waiting"]["reason"] == "ContainerCreating"
    assert made["status"]["phase"] == "Pending"
    (shared / "go").touch()
    made = node.wait_for(pods, "p", node.ready)
    assert node.container(made)["ready"]
    assert "0" in lines(shared)


def test_a_failed_post_start_kills_and_its_words_stay_here(pods: Instance, shared: Path) -> None:
    hooks = {"postStart": shell("echo secret; exit 3"), "preStop": shell("echo pre >> /v/log")}
    node.create(pods, pod(shared, SERVES, hooks, restartPolicy="Never"))
    made = node.wait_for(pods, "p", node.over)
    assert node.container(made)["state"]["terminated"]["exitCode"] == 0  # it heard SIGTERM
    found = events(pods, "p")
    assert "FailedPostStartHook: PostStartHook failed" in found
    assert "Killing: FailedPostStartHook" in found
    assert "secret" not in "".join(found)
    assert lines(shared)[-1] == "term"


@pytest.mark.field("LifecycleHandler.httpGet")
def test_post_start_by_http_finds_its_server(pods: Instance, shared: Path) -> None:
    script = (
        "mkdir -p /tmp/w/cgi-bin; printf '#!/bin/sh\\necho $REQUEST_METHOD >> /v/log; echo; echo' "
        "> /tmp/w/cgi-bin/x; chmod +x /tmp/w/cgi-bin/x; httpd -p 8080 -h /tmp/w; "
    )
    # The server may not listen yet when the hook asks: then it has failed, as with any kubelet.
    hook = {"httpGet": {"path": "/cgi-bin/x", "port": 8080}}
    node.create(pods, pod(shared, script + SERVES, {"preStop": hook}))
    wait_for_line(shared, "begin")  # it listens, and is in the background
    node.delete(pods, "p", grace=30)
    assert lines(shared) == ["begin", "GET", "term"]


def test_a_deletion_does_not_wait_for_post_start(pods: Instance, shared: Path) -> None:
    node.create(pods, pod(shared, SERVES, {"postStart": shell("echo hook >> /v/log; sleep 1000")}))
    wait_for_line(shared, "hook")
    wait_for_line(shared, "begin")
    node.delete(pods, "p", grace=20, timeout=15)
    assert lines(shared)[-1] == "term"


def test_a_hanging_hook_holds_up_nobody(pods: Instance, shared: Path) -> None:
    node.create(pods, pod(shared, SERVES, {"postStart": {"sleep": {"seconds": 30}}}))
    wait_for_line(shared, "begin")
    node.create(pods, node.manifest("other"))
    node.wait_for(pods, "other", node.ready)
    node.delete(pods, "other", grace=2)


# ---- preStop -----------------------------------------------------------------------------------------


@pytest.mark.field("Lifecycle.preStop", "ExecAction.command")
def test_pre_stop_comes_before_the_signal(pods: Instance, shared: Path) -> None:
    hook = shell("echo pre >> /v/log; sleep 0.5; echo done >> /v/log")
    node.run(pods, pod(shared, SERVES, {"preStop": hook}))
    wait_for_line(shared, "begin")
    node.delete(pods, "p", grace=20, timeout=15)
    assert lines(shared) == ["begin", "pre", "done", "term"]


def test_pre_stop_that_uses_up_the_grace_period_leaves_two_seconds(
    pods: Instance, shared: Path
) -> None:
    script = SERVES.replace("exit 0", "sleep 1; echo end >> /v/log; exit 0")
    node.run(pods, pod(shared, script, {"preStop": shell("echo pre >> /v/log; sleep 1000")}))
    wait_for_line(shared, "begin")
    node.delete(pods, "p", grace=2, timeout=15)
    assert lines(shared) == ["begin", "pre", "term", "end"]


def test_a_failed_pre_stop_stops_all_the_same(pods: Instance, shared: Path) -> None:
    node.run(pods, pod(shared, SERVES, {"preStop": shell("echo pre >> /v/log; exit 9")}))
    wait_for_line(shared, "begin")
    node.delete(pods, "p", grace=20, wait=False)
    wait_for_event(pods, "p", "FailedPreStopHook: PreStopHook failed")
    wait_for_line(shared, "term")


def test_pre_stop_that_sleeps(pods: Instance, shared: Path) -> None:
    node.run(pods, pod(shared, SERVES, {"preStop": {"sleep": {"seconds": 1}}}))
    wait_for_line(shared, "begin")
    node.delete(pods, "p", grace=20, timeout=15)
    assert lines(shared) == ["begin", "term"]


def test_no_pre_stop_when_the_container_ends_by_itself_or_there_is_no_time(
    pods: Instance, shared: Path
) -> None:
    hooks = {"preStop": shell("echo pre >> /v/log")}
    node.create(pods, pod(shared, "echo begin >> /v/log", hooks, restartPolicy="Never"))
    node.wait_for(pods, "p", node.over)
    node.delete(pods, "p")
    node.run(pods, pod(shared, SERVES, hooks))
    wait_for_line(shared, "begin")
    node.delete(pods, "p", grace=0)
    assert "pre" not in lines(shared)


def test_pre_stop_goes_on_over_the_agents_death(pods: Instance, shared: Path) -> None:
    hook = shell("echo pre >> /v/log; while [ ! -e /v/go ]; do sleep 0.1; done")
    node.run(pods, pod(shared, SERVES, {"preStop": hook}))
    wait_for_line(shared, "begin")
    node.delete(pods, "p", grace=30, wait=False)
    wait_for_line(shared, "pre")
    node.kill_agent(pods)
    node.up(pods)
    assert "term" not in lines(shared)
    (shared / "go").touch()
    wait_for_line(shared, "term")


def test_post_start_that_was_under_way_is_run_again_by_the_next_agent(
    pods: Instance, shared: Path
) -> None:
    hook = shell("echo hook >> /v/log; while [ ! -e /v/go ]; do sleep 0.1; done")
    node.create(pods, pod(shared, SERVES, {"postStart": hook}))
    wait_for_line(shared, "hook")
    node.kill_agent(pods)
    node.up(pods)
    (shared / "go").touch()
    made = node.wait_for(pods, "p", node.ready)
    assert lines(shared).count("hook") == 2
    assert node.container(made)["restartCount"] == 0


# ---- signals -----------------------------------------------------------------------------------------


@pytest.mark.field("Lifecycle.stopSignal", "PodOS.name")
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGRTMIN+3"])
def test_stop_signal(pods: Instance, shared: Path, name: str) -> None:
    number = name.removeprefix("SIG") if name == "SIGUSR1" else "37"
    script = SERVES.replace('exit 0" TERM', f'exit 0" {number}')
    node.run(pods, pod(shared, script, {"stopSignal": name}, **OS))
    wait_for_line(shared, "begin")
    node.delete(pods, "p", grace=20, timeout=15)
    assert lines(shared) == ["begin", "term"]
