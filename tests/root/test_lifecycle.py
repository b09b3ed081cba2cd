# SPDX-License-Identifier: GPL-3.0-or-later
"""Init containers, sidecars, deadlines and last words, with real pods; and the agent killed in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.cli.podtable import is_true, summarize
from tests import node
from tests.features import requires
from tests.instance import Instance
from tests.node import Json
from tests.patience import patience

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")


@pytest.fixture(scope="module")
def busy(busybox_archive: Path) -> Iterator[Instance]:
    with node.instance_for_all(busybox_archive) as instance:
        yield instance


@pytest.fixture(autouse=True)
def clean(busy: Instance) -> Iterator[None]:
    with node.without_a_trace(busy):
        yield


DATA: Json = {"name": "data", "mountPath": "/data"}
EMPTY: Json = {"name": "data", "emptyDir": {}}


def shell(name: str, script: str, **fields: Any) -> Json:
    """Return a container that executes *script*; a dollar in it is a dollar."""
    command = ["sh", "-c", script.replace("$", "$$")]
    return {"name": name, "command": command, "volumeMounts": [DATA], **fields}


def sidecar(name: str, script: str, **fields: Any) -> Json:
    return shell(name, script, restartPolicy="Always", **fields)


def forever(at_term: str) -> str:
    """Return a script that runs until it is told to stop, and then does *at_term*."""
    return f"trap '{at_term}' TERM; while :; do sleep 1000 & wait $!; done"


def on_host(path: Path) -> Json:
    return {"name": "data", "hostPath": {"path": str(path)}}


def shown(pod: Json) -> str:
    """Return what ``get pods`` has under STATUS."""
    return summarize(pod).status


# ---- init containers ---------------------------------------------------------------------------------------------


@pytest.mark.field("PodSpec.initContainers")
def test_init_containers_run_one_after_the_other(busy: Instance) -> None:
    first = shell("first", "echo first > /data/order; sleep 0.2")
    second = shell("second", "echo second >> /data/order")
    app = shell("app", "cat /data/order")
    spec: Json = {"initContainers": [first, second], "volumes": [EMPTY], "containers": [app]}
    node.create(busy, node.manifest("order", policy="Never", **spec))
    pod = node.wait_for(busy, "order", node.over)
    assert node.log(busy, "order") == ["first", "second"]
    assert node.log(busy, "order", container="second") == []
    assert pod["status"]["phase"] == "Succeeded"
    for name in ("first", "second"):
        status = node.container(pod, name)
        assert status["state"]["terminated"]["reason"] == "Completed"
        assert status["ready"] and status["restartCount"] == 0
    assert is_true(pod, "Initialized")
    node.delete(busy, "order")


def test_commands_in_init_containers(busy: Instance) -> None:
    """An init container that runs can be looked into, and until it ends the pod says how far it is."""
    first = shell("first", "until [ -e /data/go ]; do sleep 0.05; done; echo gone")
    init = [first, shell("second", "exit 0")]
    spec: Json = {"initContainers": init, "volumes": [EMPTY]}
    node.create(busy, node.manifest("into", **spec))
    pod = node.wait_for(busy, "into", lambda p: "running" in node.container(p, "first")["state"])
    assert (pod["status"]["phase"], shown(pod)) == ("Pending", "Init:0/2")
    assert node.container(pod)["state"]["waiting"]["reason"] == "PodInitializing"
    assert not is_true(pod, "Initialized")
    busy.exec("into", "touch", "/data/go", container="first")
    pod = node.wait_for(busy, "into", node.ready)
    assert shown(pod) == "Running"
    assert node.log(busy, "into", container="first") == ["gone"]
    node.delete(busy, "into", grace=0)


def test_an_init_container_that_fails(busy: Instance) -> None:
    init = [shell("bad", "exit 3"), shell("never", "exit 0")]
    spec: Json = {"initContainers": init, "volumes": [EMPTY]}
    node.create(busy, node.manifest("fails", policy="Never", **spec))
    pod = node.wait_for(busy, "fails", node.over)
    assert (pod["status"]["phase"], shown(pod)) == ("Failed", "Init:Error")
    assert "waiting" in node.container(pod, "never")["state"]
    assert "waiting" in node.container(pod)["state"], "it has never run"
    node.delete(busy, "fails")


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_an_init_container_is_tried_again(busy: Instance, policy: str) -> None:
    """At once, and then after 10 s: Always counts as OnFailure."""
    script = "echo x >> /data/runs; [ $(wc -l < /data/runs) -ge 2 ]"
    spec: Json = {"initContainers": [shell("twice", script)], "volumes": [EMPTY]}
    name = f"again-{policy.lower()}"
    node.create(busy, node.manifest(name, policy=policy, **spec))
    pod = node.wait_for(busy, name, node.ready)
    status = node.container(pod, "twice")
    assert status["restartCount"] == 1 and status["state"]["terminated"]["exitCode"] == 0
    assert status["lastState"]["terminated"]["exitCode"] == 1
    node.delete(busy, name, grace=0)


def test_an_init_container_in_back_off(busy: Instance) -> None:
    spec: Json = {"initContainers": [shell("bad", "exit 1")], "volumes": [EMPTY]}
    node.create(busy, node.manifest("backoff", **spec))
    pod = node.wait_for(busy, "backoff", lambda p: shown(p) == "Init:CrashLoopBackOff")
    assert pod["status"]["phase"] == "Pending"
    node.delete(busy, "backoff", grace=0)


def test_a_new_sandbox_is_initialized_again(busy: Instance) -> None:
    spec: Json = {"initContainers": [shell("init", "echo x >> /data/runs")], "volumes": [EMPTY]}
    app: Json = {"containers": [shell("app", forever("exit 0"))]}
    pod = node.manifest("rebuilt", **app, **spec)
    node.create(busy, pod)
    pod = node.wait_for(busy, "rebuilt", lambda p: "running" in node.container(p, "app")["state"])
    node.kill(node.pause(busy, pod))
    node.wait_for(
        busy,
        "rebuilt",
        lambda p: (
            "running" in node.container(p, "app")["state"]
            and node.container(p, "app")["restartCount"] == 1
        ),
    )
    done = busy.exec("rebuilt", "cat", "/data/runs", container="app")
    assert done.stdout.split() == ["x", "x"], "the volume has stayed, and the work was done again"
    node.delete(busy, "rebuilt", grace=0)


# ---- sidecars ----------------------------------------------------------------------------------------------------


def test_sidecars_start_first_and_stop_last_in_reverse(busy: Instance, tmp_path: Path) -> None:
    def told(name: str) -> str:
        return f"echo {name} up >> /data/log; {forever(f'echo {name} down >> /data/log; exit 7')}"

    init = [sidecar("one", told("one")), sidecar("two", told("two"))]
    app = shell("app", told("app"))
    spec: Json = {"initContainers": init, "containers": [app], "volumes": [on_host(tmp_path)]}
    node.create(busy, node.manifest("reverse", **spec))
    log = tmp_path / "log"
    pod = node.wait_for(busy, "reverse", lambda p: is_true(p, "Ready"))
    assert summarize(pod).ready == summarize(pod).total == 3
    until(lambda: log.read_text().count("up") == 3)
    node.delete(busy, "reverse")
    downs = [line for line in log.read_text().splitlines() if line.endswith("down")]
    assert downs == ["app down", "two down", "one down"]


def test_a_sidecar_does_not_keep_its_pod(busy: Instance, tmp_path: Path) -> None:
    """Its exit code does not count; it is stopped, not killed, and the pod has Succeeded only when it is gone."""
    helper = sidecar("helper", forever("echo bye >> /data/log; exit 5"))
    app = shell("app", "sleep 0.3")
    spec: Json = {"initContainers": [helper], "containers": [app], "volumes": [on_host(tmp_path)]}
    node.create(busy, node.manifest("job", policy="Never", **spec))
    pod = node.wait_for(busy, "job", node.over)
    assert pod["status"]["phase"] == "Succeeded"
    assert node.container(pod, "helper")["state"]["terminated"]["exitCode"] == 5
    assert (tmp_path / "log").read_text() == "bye\n"
    node.delete(busy, "job")


@pytest.mark.field("Container.restartPolicy")
def test_a_sidecar_is_restarted_whatever_the_policy(busy: Instance) -> None:
    helper = sidecar("helper", "exit 0")
    spec: Json = {"initContainers": [helper], "volumes": [EMPTY]}
    node.create(busy, node.manifest("tireless", policy="Never", **spec))
    node.wait_for(busy, "tireless", lambda p: node.container(p, "helper")["restartCount"] >= 1)
    node.delete(busy, "tireless", grace=0)


# ---- a container's own policy --------------------------------------------------------------------------------------


@pytest.mark.field(
    "ContainerRestartRule.action",
    "ContainerRestartRuleOnExitCodes.operator",
    "ContainerRestartRuleOnExitCodes.values",
)
def test_rules_come_before_policies(busy: Instance) -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    script = "echo x >> /data/runs; [ $(wc -l < /data/runs) -ge 2 ] && exit 3; exit 42"
    app = shell("app", script, restartPolicy="Never", restartPolicyRules=[rule])
    node.create(busy, node.manifest("rules", containers=[app], volumes=[EMPTY]))
    pod = node.wait_for(busy, "rules", node.over)
    status = node.container(pod, "app")
    assert status["restartCount"] == 1 and status["state"]["terminated"]["exitCode"] == 3
    assert pod["status"]["phase"] == "Failed"
    node.delete(busy, "rules")


# ---- deadlines and gates -----------------------------------------------------------------------------------------


@pytest.mark.field("PodSpec.activeDeadlineSeconds")
def test_the_active_deadline(busy: Instance) -> None:
    node.create(busy, node.manifest("late", activeDeadlineSeconds=round(patience(1))))
    pod = node.wait_for(busy, "late", node.over)
    status = pod["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    assert "terminated" in node.container(pod)["state"]
    assert shown(pod) != "Running"
    node.delete(busy, "late")


def test_the_active_deadline_counts_while_no_agent_runs(busy: Instance) -> None:
    deadline = round(patience(3))
    node.run(busy, node.manifest("absent", activeDeadlineSeconds=deadline))
    node.kill_agent(busy)
    time.sleep(deadline)
    node.up(busy)
    pod = node.wait_for(busy, "absent", node.over)
    assert pod["status"]["reason"] == "DeadlineExceeded"
    node.delete(busy, "absent")


@pytest.mark.field("PodReadinessGate.conditionType")
def test_readiness_gates(busy: Instance) -> None:
    gate = {"conditionType": "example.com/warm"}
    pod = node.run(busy, node.manifest("gated", readinessGates=[gate]))
    assert is_true(pod, "ContainersReady") and not is_true(pod, "Ready")
    busy.cli("condition", "pod/gated", "example.com/warm=True")
    pod = node.wait_for(busy, "gated", lambda p: is_true(p, "Ready"))
    node.kill_agent(busy)
    node.up(busy)
    assert is_true(node.pods(busy)["gated"], "Ready"), "it is kept"
    busy.cli("condition", "pod/gated", "example.com/warm=False", "--reason", "Cold")
    node.wait_for(busy, "gated", lambda p: not is_true(p, "Ready"))
    refused = busy.cli("condition", "pod/gated", "Ready=True", check=False)
    assert refused.returncode == 1 and "minipod's own" in refused.stderr
    node.delete(busy, "gated", grace=0)


# ---- last words --------------------------------------------------------------------------------------------------


@pytest.mark.field("Container.terminationMessagePath", "Container.terminationMessagePolicy")
def test_termination_messages(busy: Instance) -> None:
    fallback: Json = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    containers = [
        shell("file", "printf 'last words' > /dev/termination-log; exit 1"),
        shell("other", "echo here > /tmp/end", terminationMessagePath="/tmp/end"),
        shell("log", "echo a; echo b; exit 1", **fallback),
        shell("fine", "echo a", **fallback),
        shell("both", "echo a; echo m > /dev/termination-log; exit 1", **fallback),
        shell("user", "id -u; [ -w /dev/termination-log ]"),
        shell(
            "long", "yes m | head -c 9000 > /dev/termination-log; echo end >> /dev/termination-log"
        ),
        shell("link", "ln -s /etc/passwd /dev/termination-log; rm /dev/termination-log; exit 0"),
    ]
    pod = node.manifest("words", policy="Never", containers=containers, volumes=[EMPTY])
    node.create(busy, pod)
    pod = node.wait_for(busy, "words", node.over)

    def message(name: str) -> str:
        text: str = node.container(pod, name)["state"]["terminated"].get("message", "")
        return text

    assert message("file") == "last words"
    assert message("other") == "here\n"
    assert message("log") == "a\nb\n"
    assert message("fine") == ""
    assert message("both") == "m\n"
    assert message("link") == ""
    assert len(message("long")) == 12 * 1024 // len(containers)
    assert node.container(pod, "user")["state"]["terminated"]["exitCode"] == 0
    node.delete(busy, "words")


def test_each_run_has_its_own_message(busy: Instance) -> None:
    script = "cat /dev/termination-log > /data/$(ls /data | wc -l); echo x > /dev/termination-log; exit 1"
    node.create(busy, node.manifest("own", containers=[shell("c", script)], volumes=[EMPTY]))
    pod = node.wait_for(busy, "own", lambda p: node.container(p)["restartCount"] == 1)
    pod = node.wait_for(busy, "own", lambda p: shown(p) == "CrashLoopBackOff")
    assert node.container(pod)["lastState"]["terminated"]["message"] == "x\n"
    node.delete(busy, "own", grace=0)


@requires("cgroup:memory")
def test_out_of_memory(busy: Instance) -> None:
    """Of an init container as of any other: the cgroup's own count tells, also when no agent was there to see it."""
    fill = "x=$(head -c 200000000 /dev/zero | tr '\\0' x)"
    limits = {"resources": {"limits": {"memory": "32Mi"}}}
    init = [shell("hungry", f"until [ -e /data/go ]; do sleep 0.05; done; {fill}", **limits)]
    pod = node.manifest("oom", policy="Never", initContainers=init, volumes=[EMPTY])
    node.create(busy, pod)
    pod = node.wait_for(busy, "oom", lambda p: "running" in node.container(p, "hungry")["state"])
    pid = node.init(busy, pod, "hungry")
    node.kill_agent(busy)
    with open(f"/proc/{pid}/root/data/go", "w"):
        pass
    until(lambda: not Path(f"/proc/{pid}").exists())
    node.up(busy)
    pod = node.wait_for(busy, "oom", node.over)
    ended = node.container(pod, "hungry")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert shown(pod) == "Init:OOMKilled"
    node.delete(busy, "oom")


# ---- the agent dies ----------------------------------------------------------------------------------------------


def test_the_agent_dies_between_init_containers(busy: Instance) -> None:
    first = shell(
        "first", "until [ -e /data/go ]; do sleep 0.05; done; echo m > /dev/termination-log"
    )
    second = shell("second", "echo x >> /data/runs")
    spec: Json = {"initContainers": [first, second], "volumes": [EMPTY]}
    app: Json = {"containers": [shell("app", f"cat /data/runs; {forever('exit 0')}")]}
    node.create(busy, node.manifest("orphan", **app, **spec))
    pod = node.wait_for(busy, "orphan", lambda p: "running" in node.container(p, "first")["state"])
    before = node.init(busy, pod, "first")
    busy.exec("orphan", "touch", "/data/soon", container="first")
    node.kill_agent(busy)
    with open(f"/proc/{before}/root/data/go", "w"):
        pass
    until(lambda: not Path(f"/proc/{before}").exists())
    node.up(busy)
    pod = node.wait_for(busy, "orphan", lambda p: is_true(p, "Ready"))
    status = node.container(pod, "first")
    assert status["restartCount"] == 0, "its end was learned, it was not done again"
    assert status["state"]["terminated"]["message"] == "m\n"
    until(lambda: node.log(busy, "orphan") == ["x"])
    node.delete(busy, "orphan", grace=0)


def test_the_agent_dies_while_sidecars_are_stopped(busy: Instance, tmp_path: Path) -> None:
    helper = sidecar("helper", forever("echo helper >> /data/log; exit 0"))
    app = shell("app", forever("sleep 1; echo app >> /data/log; exit 0"))
    spec: Json = {"initContainers": [helper], "containers": [app], "volumes": [on_host(tmp_path)]}
    node.create(busy, node.manifest("halfway", **spec))
    node.wait_for(busy, "halfway", lambda p: is_true(p, "Ready"))
    time.sleep(patience(0.3))  # the traps are set
    node.delete(busy, "halfway", wait=False)
    node.kill_agent(busy)
    node.up(busy)
    until(lambda: "halfway" not in node.pods(busy), 20)
    assert (tmp_path / "log").read_text().split() == ["app", "helper"]


def until(holds: Callable[[], bool], timeout: float = 10) -> None:
    """Wait for what no event tells."""
    end = time.monotonic() + patience(timeout)
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
