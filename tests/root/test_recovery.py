# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent dies or is stopped while pods run, and another one comes: no pod is touched, nothing is lost or left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import node
from tests.instance import Instance
from tests.patience import patience

WRITER = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"]


@pytest.fixture
def other(busybox_archive: object) -> Iterator[Instance]:
    """A second instance beside the first."""
    instance = Instance()
    try:
        instance.load(busybox_archive)  # type: ignore[arg-type]  # a Path, as in conftest
        yield instance
    finally:
        complaints = instance.stop()
    assert not complaints


def test_killed_agent_harms_no_pod(instance: Instance) -> None:
    node.up(instance)
    two = [{"name": "a", "command": node.FOREVER}, {"name": "b", "command": WRITER}]
    before = [
        node.run(instance, node.manifest("one")),
        node.run(instance, node.manifest("two", containers=two)),
    ]
    processes = node.tree(instance)
    for _ in range(2):
        node.kill_agent(instance)
        node.up(instance)
    after = node.pods(instance)
    assert node.tree(instance) == processes
    for pod in before:
        again = after[pod["metadata"]["name"]]
        assert again["status"] == pod["status"]
        assert again["metadata"]["uid"] == pod["metadata"]["uid"]
    node.delete(instance, "one", "two", grace=0)
    assert node.left(instance) == []


def test_what_happens_without_an_agent_is_known_afterwards(instance: Instance) -> None:
    """Exit codes, a signal, a restart that is due, and the log of that time."""
    node.up(instance)
    go = f"{instance.base}/go"
    volumes = [{"name": "go", "hostPath": {"path": go, "type": "DirectoryOrCreate"}}]
    script = "echo before; until [ -e /go/now ]; do sleep 0.02; done; echo after; exit {}"

    def pod(name: str, policy: str, code: str) -> node.Json:
        mounts = [{"name": "go", "mountPath": "/go"}]
        one = {
            "name": "c",
            "command": ["sh", "-c", script.format(code)],
            "volumeMounts": mounts,
        }
        return node.manifest(name, policy=policy, containers=[one], volumes=volumes)

    node.run(instance, pod("zero", "Never", "0"))
    node.run(instance, pod("three", "Never", "3"))
    node.run(instance, pod("again", "OnFailure", "7"))
    killed = node.run(instance, node.manifest("killed", policy="Never"))
    init = node.init(instance, killed)
    shims = [os.pidfd_open(pid) for pid in node.shims(instance)]
    node.kill_agent(instance)
    node.kill(init)
    (instance.base / "go/now").touch()
    _until_exits(instance, 4)
    for shim in shims:
        os.close(shim)
    node.up(instance)

    def ended(name: str) -> tuple[str, int, str]:
        one = node.wait_for(instance, name, node.over)
        state = node.container(one)["state"]["terminated"]
        return one["status"]["phase"], state["exitCode"], state["reason"]

    assert ended("zero") == ("Succeeded", 0, "Completed")
    assert ended("three") == ("Failed", 3, "Error")
    assert ended("killed") == ("Failed", 137, "Error")
    assert node.log(instance, "three") == ["before", "after"]
    again = node.wait_for(instance, "again", lambda pod: node.container(pod)["restartCount"] >= 1)
    assert node.container(again)["lastState"]["terminated"]["exitCode"] == 7
    assert node.log(instance, "again", previous=True) == ["before", "after"]
    node.delete(instance, "zero", "three", "again", "killed", grace=0)
    assert node.left(instance) == []


def _until_exits(instance: Instance, count: int) -> None:
    """Wait, with no agent to ask, until the shims have written *count* exit records."""
    runs = f"{instance.config.run_dir}/pods"
    for _ in range(500):
        found = [
            name
            for path, _, names in os.walk(runs)
            for name in names
            if path.endswith("/exits") and not name.startswith(".")
        ]
        if len(found) >= count:
            return
        subprocess.run(["sleep", "0.02"], check=True)
    raise AssertionError(f"{len(found)} exit records, not {count}")


def test_log_goes_on_without_an_agent(instance: Instance) -> None:
    node.up(instance)
    node.run(instance, node.manifest("writer", WRITER))
    node.kill_agent(instance)
    (path,) = (instance.base / "log").glob("*/c/0.log")
    lines = len(path.read_text().splitlines())
    for _ in range(500):
        if len(path.read_text().splitlines()) >= lines + 5:
            break
        subprocess.run(["sleep", "0.02"], check=True)
    node.up(instance)
    log = node.log(instance, "writer")
    assert len(log) >= lines + 5
    assert log == [f"line {i + 1}" for i in range(len(log))]
    node.delete(instance, "writer", grace=0)
    assert node.left(instance) == []


def test_stop_with_pods_leaves_them_and_without_leaves_nothing(instance: Instance) -> None:
    node.up(instance)
    pod = node.run(instance, node.manifest("one"))
    processes = node.tree(instance)
    instance.cli("agent", "stop")
    assert node.tree(instance) == processes
    assert instance.cli("agent", "status", check=False).returncode == 1
    node.up(instance)
    assert node.pods(instance)["one"]["status"] == pod["status"]
    assert node.tree(instance) == processes
    node.delete(instance, "one", grace=0)
    instance.cli("agent", "stop")
    from tests.leaks import HostSnapshot, diff

    assert diff(instance.before, HostSnapshot.take(instance.scope)) == []


def test_agent_stops_on_sigterm(instance: Instance) -> None:
    pid = node.up(instance)
    node.run(instance, node.manifest("one"))
    processes = node.tree(instance)
    pidfd = os.pidfd_open(pid)
    os.kill(pid, 15)
    node.await_end(pidfd)
    os.close(pidfd)
    assert node.tree(instance) == processes
    node.up(instance)
    node.delete(instance, "one", grace=0)


def test_second_agent_on_one_root_is_refused(instance: Instance) -> None:
    pid = node.up(instance)
    done = subprocess.run(
        [sys.executable, "-m", "minipod.agent"],
        env=instance.env | {"MINIPOD_RUN_DIR": str(instance.base / "other")},
        capture_output=True,
        text=True,
        timeout=patience(30),
    )
    assert done.returncode == 1
    assert f"another agent, pid {pid}, works on {instance.config.root_dir}" in done.stderr
    assert "Traceback" not in done.stderr
    assert node.agent(instance) == pid


def test_instances_side_by_side_do_not_see_each_other(instance: Instance, other: Instance) -> None:
    for one in (instance, other):
        node.up(one)
        node.run(one, node.manifest("same"))
    assert (
        node.pods(instance)["same"]["metadata"]["uid"]
        != node.pods(other)["same"]["metadata"]["uid"]
    )
    processes = node.tree(other)
    node.kill_agent(instance)
    node.up(instance)
    node.delete(instance, "same", grace=0)
    assert node.left(instance) == []
    instance.cli("agent", "stop")
    assert node.tree(other) == processes
    assert set(node.pods(other)) == {"same"}
    node.delete(other, "same", grace=0)
    assert node.left(other) == []
