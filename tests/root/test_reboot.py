# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine is rebooted under running pods: those whose restart policy says so come back, the others have failed.

There is no reboot here, but all that one takes away is taken away: every process, the agent's run directory, links,
packet filter and cgroups. What is left is what lies on the disk. That the kernel was started anew is made known by
the pods' records, in which another boot is written.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests import leaks, node
from tests.instance import Instance

EARLIER = "00000000-0000-4000-8000-000000000000"


def reboot(instance: Instance) -> None:
    """Leave of *instance* what a reboot leaves."""
    node.kill_agent(instance)
    leaks.clean(instance.scope)
    shutil.rmtree(instance.config.run_dir)
    database = sqlite3.connect(f"{instance.config.root_dir}/state.db", isolation_level=None)
    try:
        database.execute("UPDATE pods SET record = json_set(record, '$.boot', ?)", (EARLIER,))
    finally:
        database.close()
    assert not leaks.HostSnapshot.take(instance.scope).links


def test_pods_come_back_as_their_restart_policy_says(instance: Instance) -> None:
    node.up(instance)
    count = "echo run >>/data/runs; exec sleep 1000"
    data = {"name": "data", "mountPath": "/data"}
    always = node.manifest(
        "always",
        containers=[{"name": "c", "command": ["sh", "-c", count], "volumeMounts": [data]}],
        initContainers=[
            {"name": "i", "command": ["sh", "-c", "echo init >>/data/runs"], "volumeMounts": [data]}
        ],
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    before = node.run(instance, always)
    node.run(instance, node.manifest("on-failure", policy="OnFailure"))
    node.run(instance, node.manifest("never", policy="Never"))
    node.create(instance, node.manifest("done", ["true"], policy="Never"))
    done = node.wait_for(instance, "done", node.over)
    node.run(instance, node.manifest("leaving", node.STUBBORN))
    node.delete(instance, "leaving", wait=False)
    host = node.run(instance, node.manifest("host", hostNetwork=True))
    reboot(instance)
    node.up(instance)

    after = node.wait_for(instance, "always", node.restarted())
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] != before["status"]["podIP"]
    last = node.container(after)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (255, "Unknown")
    assert last["message"] == "the machine was rebooted"
    runs = Path(instance.config.root_dir, "pods", after["metadata"]["uid"])
    (file,) = (p for p in runs.rglob("runs") if p.is_file())
    assert file.read_text().split() == ["init", "run", "init", "run"], "what is on disk stays"
    changed = "SandboxChanged: Pod sandbox changed, it will be killed and re-created: the machine was rebooted"
    assert changed in node.events(instance, "always")
    node.wait_for(instance, "on-failure", node.restarted())
    again = node.wait_for(instance, "host", node.restarted())
    assert again["status"]["podIP"] == host["status"]["podIP"]

    never = node.wait_for(instance, "never", node.over)
    assert never["status"]["phase"] == "Failed"
    ended = node.container(never)
    assert (ended["state"]["terminated"]["exitCode"], ended["restartCount"]) == (255, 0)
    assert node.container(node.pods(instance)["done"]) == node.container(done)
    assert "leaving" not in node.pods(instance)

    node.delete(instance, "always", "on-failure", "never", "done", "host", grace=0)
    assert node.left(instance) == []


def test_a_back_off_goes_on_after_a_reboot(instance: Instance) -> None:
    node.up(instance)
    node.create(instance, node.manifest("loop", ["false"]))

    def waits(pod: node.Json) -> bool:
        state = node.container(pod)["state"].get("waiting", {})
        return bool(state.get("reason") == "CrashLoopBackOff")

    before = node.wait_for(instance, "loop", waits)
    reboot(instance)
    node.up(instance)
    after = node.pods(instance)["loop"]
    assert waits(after)
    for field in ("restartCount", "lastState"):
        assert node.container(after)[field] == node.container(before)[field]
    node.delete(instance, "loop", grace=0)
    assert node.left(instance) == []


def test_the_agent_dies_at_each_act_of_coming_back(instance: Instance) -> None:
    """That the machine was rebooted is known of a pod until it has another sandbox; no run is lost or made twice."""
    node.up(instance)
    node.run(instance, node.manifest("one"))
    node.run(instance, node.manifest("two", policy="Never"))
    reboot(instance)
    command = [sys.executable, "-m", "tests.mortal_agent"]
    for act in range(1, 14):
        (instance.base / "limit").write_text(str(act))
        with open(f"{instance.config.root_dir}/agent.log", "ab") as log:
            env = instance.env | {"MORTAL": str(instance.base)}
            agent = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd="/")
        try:
            agent.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it had fewer acts to do
            agent.kill()
            agent.wait()
            break
    (instance.base / "limit").unlink(missing_ok=True)
    node.up(instance)
    status = node.container(node.wait_for(instance, "one", node.ready))
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 255
    status = node.container(node.wait_for(instance, "two", node.over))
    assert status["state"]["terminated"]["exitCode"] == 255
    node.delete(instance, "one", "two", grace=0)
    assert node.left(instance) == []
