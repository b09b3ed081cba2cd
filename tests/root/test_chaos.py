# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL and SIGSTOP at anything, at any instant, and a damaged host: no acknowledged pod is lost, nothing leaks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minipod.errors import MinipodError, NotFound
from tests import leaks, node
from tests.features import cgroup_mounts
from tests.instance import Instance
from tests.patience import patience


@pytest.fixture
def pods(instance: Instance) -> Iterator[Instance]:
    """The instance, with an agent; at the end all pods are deleted, and nothing of them may be left."""
    node.up(instance)
    yield instance
    node.up(instance)
    finish_deletion(instance)


# ---- the agent, at every act ---------------------------------------------------------------------------------------


@contextmanager
def mortal(instance: Instance) -> Iterator[subprocess.Popen[bytes]]:
    """Run an agent that dies when it is told to (tests/mortal_agent.py)."""
    read, write = os.pipe()
    with open(f"{instance.config.root_dir}/agent.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.mortal_agent", "--ready-fd", str(write)],
            env=instance.env | {"MORTAL": str(instance.base)},
            pass_fds=(write,),
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    os.close(write)
    try:
        with open(read) as ready:
            assert ready.readline() == "ok\n"
        yield process
    finally:
        process.kill()
        process.wait()
        (instance.base / "limit").unlink(missing_ok=True)


PLAIN = node.manifest("one")
"""A pod of one container."""

FULL = node.manifest(
    "one",
    initContainers=[
        {
            "name": "init",
            "command": ["sh", "-c", "echo x >> /data/runs"],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        },
        {"name": "side", "command": node.FOREVER, "restartPolicy": "Always"},
    ],
    volumes=[{"name": "data", "emptyDir": {}}],
    containers=[
        {
            "name": "c",
            "command": node.FOREVER,
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
    ],
)
"""A pod with an init container and a sidecar."""


def is_alone(instance: Instance, pod: node.Json) -> None:
    """A pod has one shim, one pause process and one run of its containers, and nobody else lives."""
    node.init(instance, pod)
    node.pause(instance, pod)
    own = [p for p in instance.processes() if p.comm != "minipod-agent" and p.state != "Z"]
    parts = ("sandbox", "c", "side")
    ours = {p.pid for part in parts for p in node.members(instance, pod, part)}
    assert {p.pid for p in own} == ours | set(node.shims(instance))


def die_creating(instance: Instance, wanted: node.Json, limit: int) -> tuple[bool, bool]:
    """Create a pod with an agent that dies after act *limit*; whether it was acknowledged, and whether it died."""
    acknowledged = False
    with mortal(instance) as agent:
        finish_deletion(instance)
        (instance.base / "limit").write_text(str(limit))
        try:
            node.create(instance, wanted)
            acknowledged = True
            node.wait_for(instance, "one", node.ready)
        except (MinipodError, AssertionError):
            assert agent.wait(patience(20)) == -signal.SIGKILL
        return acknowledged, agent.poll() is not None


def die_deleting(instance: Instance, limit: int, acknowledged: bool) -> bool:
    """See that the pod of :func:`die_creating` runs once, and delete it; whether the agent died at that."""
    with mortal(instance) as agent:
        found = node.pods(instance)
        assert found or not acknowledged
        if not found:
            return True
        pod = node.wait_for(instance, "one", node.ready)
        status = pod["status"]
        every = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
        assert [each["restartCount"] for each in every] == [0] * len(every)
        is_alone(instance, pod)
        if len(every) > 1:
            assert instance.exec("one", "cat", "/data/runs").stdout == "x\n", "done once"
        (instance.base / "limit").write_text(str(limit))
        try:
            node.delete(instance, "one", grace=0)
        except MinipodError:
            assert agent.wait(patience(20)) == -signal.SIGKILL
        return agent.poll() is not None


def finish_deletion(instance: Instance) -> None:
    """Delete what is there: a deletion that was not acknowledged may have been lost, or be under way."""
    for name in node.pods(instance):
        try:
            node.delete(instance, name, grace=0)
        except MinipodError as error:
            assert error.reason == NotFound.reason
    assert node.left(instance) == []


@pytest.mark.parametrize(
    ("wanted", "stride"),
    [(PLAIN, 1), (FULL, 5)],
    ids=["every act", "every fifth act of a full pod"],
)
def test_agent_killed_after_every_act(pods: Instance, wanted: node.Json, stride: int) -> None:
    pods.cli("agent", "stop")
    died, limit = True, 0
    while died:
        limit += stride
        acknowledged, creating = die_creating(pods, wanted, limit)
        deleting = die_deleting(pods, limit, acknowledged)
        died = creating or deleting
        assert limit < 200, "it never comes to an end"
    assert limit > 30, "that was too easy"


def test_agent_killed_at_any_time(pods: Instance) -> None:
    """Between its acts too, while the shim is at work."""
    for after in range(0, 64, 8):
        pid = node.agent(pods)
        node.create(pods, node.manifest("a"), node.manifest("b"))
        subprocess.run(["sleep", str(after / 1000)], check=True)
        node.kill(pid)
        pid = node.up(pods)
        for name in ("a", "b"):
            pod = node.wait_for(pods, name, node.ready)
            assert node.container(pod)["restartCount"] == 0
            node.init(pods, pod)
            node.pause(pods, pod)
        node.delete(pods, "a", "b", grace=0, wait=False)
        subprocess.run(["sleep", str(after / 1000)], check=True)
        node.kill(pid)
        node.up(pods)
        finish_deletion(pods)


# ---- shim, pause, container ------------------------------------------------------------------------------------------


def rebuilt(pod: node.Json) -> bool:
    return node.restarted()(pod)


@pytest.mark.parametrize("alive", [True, False], ids=["agent", "no-agent"])
def test_killed_shim_is_a_new_sandbox(pods: Instance, alive: bool) -> None:
    other = node.run(pods, node.manifest("other"))
    pod = node.run(pods, node.manifest("one"))
    (shim,) = node.shims(pods, "one")
    if not alive:
        node.kill_agent(pods)
    node.kill(shim)
    node.up(pods)
    again = node.wait_for(pods, "one", node.restarted())
    assert node.container(again)["lastState"]["terminated"]["exitCode"] == 137
    assert again["status"]["podIP"] != pod["status"]["podIP"]
    assert node.shims(pods, "one") != [shim]
    assert node.pods(pods)["other"]["status"] == other["status"]
    assert [str(p) for p in pods.processes() if p.state == "Z"] == []


@pytest.mark.parametrize("alive", [True, False], ids=["agent", "no-agent"])
@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_killed_pause_is_a_new_sandbox(pods: Instance, alive: bool, policy: str) -> None:
    pod = node.run(pods, node.manifest("one", policy=policy))
    pause = node.pause(pods, pod)
    if not alive:
        node.kill_agent(pods)
    node.kill(pause)
    node.up(pods)
    if policy == "Never":
        again = node.wait_for(pods, "one", node.over)
        assert again["status"]["phase"] == "Failed"
        assert node.container(again)["state"]["terminated"]["exitCode"] == 137
        assert node.container(again)["restartCount"] == 0
        return
    again = node.wait_for(pods, "one", node.restarted())
    assert again["status"]["podIP"] != pod["status"]["podIP"]
    assert node.pause(pods, again) != pause
    assert any(event.startswith("SandboxChanged") for event in node.events(pods, "one"))


def test_killed_container_restarts_in_its_sandbox(pods: Instance) -> None:
    pod = node.run(pods, node.manifest("one"))
    pause, shims = node.pause(pods, pod), node.shims(pods)
    node.kill(node.init(pods, pod))
    again = node.wait_for(pods, "one", node.restarted())
    ended = node.container(again)["lastState"]["terminated"]
    assert (ended["exitCode"], ended["signal"]) == (137, 9)
    assert again["status"]["podIP"] == pod["status"]["podIP"]
    assert (node.pause(pods, again), node.shims(pods)) == (pause, shims)


def test_held_shim_holds_up_nobody_else(pods: Instance) -> None:
    """Its own pod can be deleted, the others live; a shim that is let go within ten seconds is as it was."""
    node.run(pods, node.manifest("held"))
    node.run(pods, node.manifest("other"))
    (shim,) = node.shims(pods, "held")
    with node.stopped(shim):
        node.kill(node.init(pods, node.pods(pods)["other"]))
        node.wait_for(pods, "other", node.restarted())
        node.run(pods, node.manifest("third"))
        node.delete(pods, "third", grace=0)
        node.delete(pods, "held", grace=2)
    assert node.shims(pods, "held") == []


def test_agent_comes_back_to_a_held_shim(pods: Instance) -> None:
    pod = node.run(pods, node.manifest("one"))
    node.run(pods, node.manifest("other"))
    processes = node.tree(pods)
    with node.stopped(node.shims(pods, "one")[0]):
        node.kill_agent(pods)
        node.up(pods)
        node.run(pods, node.manifest("third"))
        node.delete(pods, "third", "other", grace=0)
        assert node.pods(pods)["one"]["status"] == pod["status"]
    for _ in range(200):
        try:
            node.ask(pods, "exec", namespace="default", pod="one", command=["true"], tty=True)
            break
        except MinipodError:
            subprocess.run(["sleep", "0.05"], check=True)
    assert node.tree(pods) < processes
    assert node.container(node.pods(pods)["one"])["restartCount"] == 0


def test_agent_gives_up_a_shim_that_is_held_for_good(pods: Instance) -> None:
    node.run(pods, node.manifest("one"))
    (shim,) = node.shims(pods)
    with node.stopped(shim):
        node.kill_agent(pods)
        node.up(pods)
        node.wait_for(pods, "one", node.restarted())
        assert shim not in node.shims(pods)


# ---- the host ------------------------------------------------------------------------------------------------------


SERVER = ["nc", "-ll", "-p", "8080", "-e", "hostname"]


def answers(pod: node.Json) -> bool:
    """Whether a pod that runs SERVER can be reached from the host."""
    address = (pod["status"]["podIP"], 8080)
    for _ in range(500):
        try:
            with socket.create_connection(address, timeout=patience(5)) as connection:
                # Somebody else may answer when the pods' range is routed into the world.
                return pod["metadata"]["name"].encode() in connection.recv(4096)
        except ConnectionRefusedError:  # it does not listen yet
            subprocess.run(["sleep", "0.02"], check=True)
        except OSError:
            return False
    return False


def filters(instance: Instance) -> set[str]:
    """Return the nftables objects, but for the addresses of the pods in them."""
    return {line.partition(":")[0] for line in leaks.nftables(instance.scope)}


def delete_tables(instance: Instance) -> None:
    """Do what ``nft flush ruleset`` would do to this instance."""
    for family in ("inet", "bridge"):
        subprocess.run(["nft", "delete", "table", family, instance.config.nft_table], check=True)
    assert not filters(instance)


def test_nft_tables_deleted(pods: Instance) -> None:
    before = node.run(pods, node.manifest("before", SERVER))
    whole = filters(pods)
    delete_tables(pods)
    after = node.run(pods, node.manifest("after", SERVER))
    assert filters(pods) == whole
    assert answers(before)
    assert answers(after)
    delete_tables(pods)
    node.delete(pods, "before", grace=0)
    node.kill_agent(pods)
    delete_tables(pods)
    node.up(pods)
    assert filters(pods) == whole
    assert answers(after)


def test_bridge_deleted(pods: Instance) -> None:
    before = node.run(pods, node.manifest("before", SERVER))
    assert answers(before)
    subprocess.run(["ip", "link", "delete", pods.config.bridge], check=True)
    assert not answers(before)
    after = node.run(pods, node.manifest("after", SERVER))
    assert answers(before)
    assert answers(after)
    subprocess.run(["ip", "link", "delete", pods.config.bridge], check=True)
    node.delete(pods, "before", grace=0)
    node.kill_agent(pods)
    node.up(pods)
    assert answers(after)


def test_link_deleted(pods: Instance) -> None:
    pod = node.run(pods, node.manifest("one", SERVER))
    assert answers(pod)
    for name in os.listdir("/sys/class/net"):
        if name.startswith(pods.config.link_prefix):
            subprocess.run(["ip", "link", "delete", name], check=True)
    assert not answers(pod)
    node.kill_agent(pods)
    node.up(pods)
    assert node.ready(node.pods(pods)["one"])
    node.delete(pods, "one", grace=0)


def test_cgroups_removed(pods: Instance) -> None:
    """What can be removed is what is empty: a container's between two runs, the parent between two pods."""
    parent = pods.config.cgroup_parent
    node.run(pods, node.manifest("one"))
    node.delete(pods, "one", grace=0)
    for _, top, _ in cgroup_mounts():
        assert not (top / parent / "besteffort").exists(), "a class without pods has none"
        if (top / parent).is_dir():
            (top / parent).rmdir()
    node.create(pods, node.manifest("crash", ["false"]))
    pod = node.wait_for(pods, "crash", lambda pod: "waiting" in node.container(pod)["state"])
    for _, top, _ in cgroup_mounts():
        for path in (top / parent / "besteffort").glob(f"pod{pod['metadata']['uid']}/c.*"):
            path.rmdir()
    node.run(pods, node.manifest("two"))


def test_run_directory_wiped(pods: Instance) -> None:
    pod = node.run(pods, node.manifest("one"))
    old = node.shims(pods)
    pid = node.agent(pods)
    shutil.rmtree(pods.config.run_dir)
    done = pods.cli("get", "pods", check=False)
    assert done.returncode == 1
    assert f"another agent, pid {pid}, works on {pods.config.root_dir}" in done.stderr
    assert "kill" in done.stderr
    node.kill(pid)
    node.up(pods)
    again = node.wait_for(pods, "one", node.restarted())
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]
    assert not set(old) & set(node.shims(pods))
    assert len(node.shims(pods)) == 1


def test_everything_volatile_and_the_state_lost(pods: Instance) -> None:
    """Pods that nobody knows any more are removed, even if only the kernel still has them."""
    node.run(pods, node.manifest("one"))
    node.kill_agent(pods)
    shutil.rmtree(pods.config.run_dir)
    for path in Path(pods.config.root_dir).glob("state.db*"):
        path.unlink()
    node.up(pods)
    assert node.pods(pods) == {}
    assert node.left(pods) == []


def test_state_deleted_while_pods_run(pods: Instance) -> None:
    node.run(pods, node.manifest("one"))
    node.create(pods, node.manifest("crash", ["false"]))
    node.wait_for(pods, "crash", lambda pod: node.container(pod)["restartCount"] == 1)
    for path in Path(pods.config.root_dir).glob("state.db*"):
        path.unlink()
    node.kill_agent(pods)
    node.up(pods)
    assert node.pods(pods) == {}
    assert node.left(pods) == []
    node.run(pods, node.manifest("one"))


def test_state_that_is_no_database(pods: Instance) -> None:
    pods.cli("agent", "stop")
    for path in Path(pods.config.root_dir).glob("state.db*"):
        path.unlink()
    state = Path(pods.config.root_dir, "state.db")
    state.write_text("hello " * 1000)
    done = pods.cli("get", "pods", check=False)
    assert done.returncode == 1
    state.unlink()
    assert f"{state}: file is not a database" in done.stderr
    assert "Traceback" not in done.stderr


def test_full_disk(pods: Instance, busybox_archive: Path) -> None:
    """Errors in words; pods can be deleted, and that gives the room back."""
    pods.cli("agent", "stop")
    root = Path(pods.config.root_dir)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "mpt", root], check=True)
    try:
        pods.load(busybox_archive)
        volumes = [{"name": "v", "emptyDir": {}}]
        script = "dd if=/dev/zero of=/v/fill bs=64k 2>/dev/null; echo full; sleep 1000"
        mounts = [{"name": "v", "mountPath": "/v"}]
        one = {"name": "c", "command": ["sh", "-c", script], "volumeMounts": mounts}
        node.run(pods, node.manifest("hog", containers=[one], volumes=volumes))
        for _ in range(500):
            if node.log(pods, "hog") == ["full"]:
                break
        with open(root / "fill", "wb", buffering=0) as fill, pytest.raises(OSError, match="space"):
            while fill.write(bytes(4096)):
                pass
        said = []
        for number in range(40):
            try:
                node.create(pods, node.manifest(f"p{number}", ["sleep", "1000"]))
            except MinipodError as error:
                said.append(node.words(error))
        assert said, "the disk is not full"
        assert all("full" in text and "room" in text for text in said), said
        node.delete(pods, "hog", grace=0)
        for name in node.pods(pods):
            node.delete(pods, name, grace=0)
        assert node.left(pods) == [f"mount: tmpfs on {root}"]
    finally:
        pods.cli("agent", "stop")
        subprocess.run(["umount", "--lazy", root], check=True)
