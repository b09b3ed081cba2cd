# SPDX-License-Identifier: GPL-3.0-or-later
"""Resizing running containers, and evicting pods that take up too much of the disk."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from minipod.api import parse_bytes
from minipod.errors import MinipodError
from tests import features, node
from tests.features import requires
from tests.instance import Instance, Json
from tests.patience import patience
from tests.root.test_chaos import mortal

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:cpu", "cgroup:memory")

RESOURCES = {
    "limits": {"cpu": "1", "memory": "32Mi"},
    "requests": {"cpu": "100m", "memory": "16Mi"},
}
POLICY = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]


def patch(name: str = "c0", **resources: dict[str, str]) -> Json:
    return {"spec": {"containers": [{"name": name, "resources": resources}]}}


def read(instance: Instance, pod: str, container: str, *names: str) -> str:
    """Return the text of the first of *names* that there is in a container's, or the pod's, cgroup."""
    path = f"{instance.pod_cgroup(pod)}/{container}".rstrip("/")
    for _, top, _ in features.cgroup_mounts():
        for name in names:
            if (top / path / name).exists():
                return (top / path / name).read_text().strip()
    raise AssertionError(f"there is no {names} in {path}")


def memory(instance: Instance, pod: str, container: str = "") -> int:
    return int(read(instance, pod, container, "memory.limit_in_bytes", "memory.max"))


def quota(instance: Instance, pod: str, container: str = "") -> int:
    return int(read(instance, pod, container, "cpu.cfs_quota_us", "cpu.max").split()[0])


def conditions(pod: Json) -> list[str]:
    return [c["type"] for c in pod["status"]["conditions"] if c["type"].startswith("PodResize")]


def test_a_running_container_gets_more(shared_instance: Instance) -> None:
    instance = shared_instance
    instance.start_pod("more", {"resources": RESOURCES}, {"resources": RESOURCES})
    node.ask(
        instance,
        "resize",
        pod="more",
        patch=patch(limits={"cpu": "1500m", "memory": "96Mi"}, requests={"cpu": "200m"}),
    )
    assert instance.probe("more", "mem", "64") == {"touched": 64 << 20}
    assert memory(instance, "more", "c0.0") == 96 << 20
    assert memory(instance, "more", "c1.0") == 32 << 20
    assert memory(instance, "more") == 128 << 20
    assert quota(instance, "more", "c0.0") == 150_000
    assert quota(instance, "more") == 250_000
    pod = instance.pod("more")
    first = pod["status"]["containerStatuses"][0]
    assert first["resources"]["limits"] == {"cpu": "1500m", "memory": "96Mi"}
    assert first["allocatedResources"] == {"cpu": "200m", "memory": "16Mi"}
    assert first["restartCount"] == 0
    assert conditions(pod) == []
    # And less again, through the command line.
    done = instance.cli("resize", "more", "-c", "c0", "--limits", "cpu=500m,memory=48Mi")
    assert (done.stdout, done.stderr) == ("pod/more resized\n", "")
    assert memory(instance, "more", "c0.0") == 48 << 20
    assert memory(instance, "more") == 80 << 20
    assert quota(instance, "more") == 150_000
    reasons = [event["reason"] for event in instance.events("more")]
    assert (
        reasons.count("ResizeCompleted")
        + sum(
            event["count"] - 1
            for event in instance.events("more")
            if event["reason"] == "ResizeCompleted"
        )
        == 2
    )
    # On cgroup2 this is the end of the whole container.
    assert instance.exec("more", "/probe", "mem", "64").returncode == 137
    instance.delete("more")


def test_what_is_resized_stays_so_over_restarts_and_agents(shared_instance: Instance) -> None:
    instance = shared_instance
    instance.start_pod("stays", {"resources": RESOURCES}, restartPolicy="Always")
    node.ask(instance, "resize", pod="stays", patch=patch(limits={"memory": "64Mi"}))
    node.kill_agent(instance)
    node.up(instance)
    assert memory(instance, "stays", "c0.0") == 64 << 20
    instance.exec("stays", "/probe", "kill", "1", "9")
    node.kill(instance.pid("stays"))
    instance.until("stays", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1)
    instance.until("stays", lambda pod: "running" in pod["status"]["containerStatuses"][0]["state"])
    assert memory(instance, "stays", "c0.1") == 64 << 20
    instance.delete("stays")


def test_an_agent_that_dies_in_the_midst_of_it(shared_instance: Instance) -> None:
    """Memory that is used cannot be taken away; the next agent goes on trying."""
    instance = shared_instance
    instance.start_pod(
        "midst", {"resources": RESOURCES, "command": ["/probe", "mem", "24", "hold"]}, {}
    )
    instance.first_line("midst")
    node.ask(instance, "resize", pod="midst", patch=patch(limits={"memory": "17Mi"}))
    pod = instance.pod("midst")
    assert conditions(pod) == ["PodResizeInProgress"]
    assert pod["status"]["containerStatuses"][0]["resources"]["limits"]["memory"] == "32Mi"
    assert memory(instance, "midst", "c0.0") == 32 << 20
    node.kill_agent(instance)
    node.up(instance)
    node.kill(instance.pid("midst"))
    instance.until("midst", lambda pod: not conditions(pod))
    instance.delete("midst")


def test_agent_killed_at_the_acts_of_a_resize(instance: Instance, test_archive: Path) -> None:
    """Whatever the spec says then is what the kernel has, and an acknowledged resize is not lost."""
    instance.load(test_archive)
    instance.start_pod("acts", {"resources": RESOURCES}, {})
    instance.cli("agent", "stop")
    died, limit = True, 0
    while died:
        limit += 2
        wanted, acknowledged = f"{32 + limit}Mi", False
        with mortal(instance) as agent:
            (instance.base / "limit").write_text(str(limit))
            try:
                node.ask(instance, "resize", pod="acts", patch=patch(limits={"memory": wanted}))
                acknowledged = True
            except MinipodError:
                assert agent.wait(patience(20)) == -signal.SIGKILL
            died = agent.poll() is not None
        with mortal(instance):
            pod = instance.until("acts", lambda pod: not conditions(pod))
            has = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
            assert has == wanted or not acknowledged
            assert memory(instance, "acts", "c0.0") == parse_bytes(has)
            first = pod["status"]["containerStatuses"][0]
            assert (first["resources"]["limits"]["memory"], first["restartCount"]) == (has, 0)
        assert limit < 60, "it never comes to an end"
    assert limit > 6, "that was too easy"
    instance.cli("get", "pods")
    instance.delete("acts")


@pytest.mark.field("ContainerResizePolicy.resourceName", "ContainerResizePolicy.restartPolicy")
def test_a_container_that_wants_to_be_restarted(shared_instance: Instance) -> None:
    instance = shared_instance
    instance.start_pod(
        "again",
        {"resources": RESOURCES, "resizePolicy": POLICY},
        {"resources": RESOURCES},
        restartPolicy="OnFailure",
        terminationGracePeriodSeconds=1,
    )
    node.ask(instance, "resize", pod="again", patch=patch(limits={"memory": "64Mi"}))
    instance.until("again", lambda pod: not conditions(pod), timeout=60)
    first, second = instance.pod("again")["status"]["containerStatuses"]
    assert (first["restartCount"], second["restartCount"]) == (1, 0)
    assert memory(instance, "again", "c0.1") == 64 << 20
    assert "Container c0 resize requires restart" in [
        e["message"] for e in instance.events("again")
    ]
    instance.delete("again")


def test_what_cannot_be(shared_instance: Instance) -> None:
    instance = shared_instance
    instance.start_pod("cannot", {"resources": RESOURCES})
    huge = {"cpu": "9k"}
    node.ask(instance, "resize", pod="cannot", patch=patch(limits=huge, requests=huge))
    pod = instance.pod("cannot")
    assert conditions(pod) == ["PodResizePending"]
    assert quota(instance, "cannot", "c0.0") == 100_000
    done = instance.cli("resize", "cannot", "--limits", "cpu=9k", check=False)
    assert "PodResizePending: Node didn't have enough capacity: cpu" in done.stderr
    with pytest.raises(MinipodError, match="Pod QOS Class may not change"):
        same = {"cpu": "1", "memory": "32Mi"}
        node.ask(instance, "resize", pod="cannot", patch=patch(limits=same, requests=same))
    instance.delete("cannot")


# ---- eviction -----------------------------------------------------------------------------------------------------


def evicted(instance: Instance, name: str) -> str:
    pod = instance.until(name, lambda pod: pod["status"]["phase"] == "Failed", timeout=60)
    assert pod["status"]["reason"] == "Evicted"
    assert [e["type"] for e in instance.events(name) if e["reason"] == "Evicted"] == ["Warning"]
    found = [c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert found[0]["reason"] == "TerminationByKubelet"
    message: str = pod["status"]["message"]
    return message


def test_who_takes_up_too_much_of_the_disk_is_evicted(shared_instance: Instance) -> None:
    instance = shared_instance
    storage = {"limits": {"ephemeral-storage": "4Mi"}}
    write = ["sh", "-c", "head -c 8388608 /dev/zero >/big; exec sleep 1000"]
    instance.create("layer", {"command": write, "resources": storage}, {})
    volume = {"name": "data", "emptyDir": {"sizeLimit": "4Mi"}}
    mount = [{"name": "data", "mountPath": "/data"}]
    into = ["sh", "-c", "head -c 8388608 /dev/zero >/data/big; exec sleep 1000"]
    instance.create("volume", {"command": into, "volumeMounts": mount}, volumes=[volume])
    talk = ["sh", "-c", "head -c 6291456 /dev/zero | tr '\\0' a | fold -w 1000; exec sleep 1000"]
    instance.create("logs", {"command": talk, "resources": storage})
    modest = {"command": ["sh", "-c", "head -c 1048576 /dev/zero >/some; exec sleep 1000"]}
    instance.start_pod("modest", {**modest, "resources": storage})
    assert evicted(instance, "layer") == (
        "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi."
    )
    assert evicted(instance, "volume") == 'Usage of EmptyDir volume "data" exceeds the limit "4Mi".'
    assert "exceeds the total limit" in evicted(instance, "logs")
    assert instance.pod("modest")["status"]["phase"] == "Running"
    instance.delete("layer", "volume", "logs", "modest")
