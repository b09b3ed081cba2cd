# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleting pods: the signal, the grace period, and that nothing at all is left, whatever the pod did."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests import node
from tests.instance import Instance

# Writes down what it is told, and goes on.
DEAF = 'trap "echo term >> /out/log" {}; while :; do echo tick >> /out/log; sleep 0.1; done'


@pytest.fixture(scope="module")
def instance_for_all(busybox_archive: Path) -> Iterator[Instance]:
    """An instance for all tests."""
    with node.instance_for_all(busybox_archive) as instance:
        yield instance


@pytest.fixture
def pods(instance_for_all: Instance) -> Iterator[Instance]:
    """The instance, with an agent; at the end nothing of a pod may be left, and no pod."""
    with node.without_a_trace(instance_for_all):
        yield instance_for_all


def writer(instance: Instance, name: str, script: str, image: str = node.IMAGE) -> node.Json:
    """Return a pod that runs *script*, with the host's ``out`` directory at /out."""
    out = instance.base / "out"
    out.mkdir(exist_ok=True)
    (out / "log").unlink(missing_ok=True)
    one = {
        "name": "c",
        "image": image,
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "out", "mountPath": "/out"}],
    }
    volumes = [{"name": "out", "hostPath": {"path": str(out)}}]
    return node.manifest(name, containers=[one], volumes=volumes)


def written(instance: Instance, wanted: str = "tick") -> list[str]:
    """Return what the pod has written, once *wanted* is in it."""
    path = instance.base / "out/log"
    for _ in range(500):
        if path.exists() and wanted in path.read_text():
            return path.read_text().split()
        subprocess.run(["sleep", "0.02"], check=True)
    raise AssertionError(f"the pod did not write {wanted}")


def test_handler_runs_and_ends_it_before_the_grace(pods: Instance) -> None:
    script = (
        'trap "echo bye >> /out/log; exit 0" TERM; echo tick >> /out/log; '
        "while :; do sleep 1000 & wait; done"
    )
    node.run(pods, writer(pods, "polite", script))
    written(pods)
    node.delete(pods, "polite", timeout=20)  # its grace period is 30 seconds
    assert written(pods, "bye") == ["tick", "bye"]
    assert "Killing: Stopping container c" in node.events(pods, "polite")


def test_deaf_container_is_killed_after_the_grace(pods: Instance) -> None:
    node.run(pods, writer(pods, "deaf", DEAF.format("TERM")))
    written(pods)
    node.delete(pods, "deaf", grace=2)
    words = written(pods, "term")
    assert words.count("term") == 1
    assert len(words) - words.index("term") > 5, "it was killed before its time"


def test_no_grace_is_no_signal(pods: Instance) -> None:
    node.run(pods, writer(pods, "deaf", DEAF.format("TERM")))
    written(pods)
    node.delete(pods, "deaf", grace=0)
    assert "term" not in written(pods)


def test_stop_signal_of_the_image(pods: Instance, image_maker: ModuleType) -> None:
    busybox = Path("/bin/busybox")
    done = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    layer = image_maker.layer(
        image_maker.busybox_entries(busybox.read_bytes(), done.stdout.split())
    )
    config = {
        "Cmd": ["sh"],
        "Env": [f"PATH={image_maker.PATH}"],
        "StopSignal": "SIGUSR1",
    }
    archive = pods.base / "stop.tar"
    archive.write_bytes(image_maker.archive("localhost/stop:1", [layer], config))
    pods.load(archive)
    script = DEAF.format("TERM").replace("while", 'trap "echo bye >> /out/log; exit 0" USR1; while')
    node.run(pods, writer(pods, "usr1", script, "localhost/stop:1"))
    written(pods)
    node.delete(pods, "usr1", timeout=20)
    assert written(pods, "bye")[-1] == "bye"
    assert "term" not in written(pods)


def test_delete_while_it_is_created(pods: Instance) -> None:
    for number in range(16):
        node.create(pods, node.manifest(f"p{number}"))
        if number % 4:
            subprocess.run(["sleep", str(number * 0.004)], check=True)
        node.delete(pods, f"p{number}", grace=0 if number % 2 else 2)


def test_second_delete_shortens_the_first(pods: Instance) -> None:
    node.run(pods, node.manifest("stubborn", node.STUBBORN))
    first = threading.Thread(target=node.delete, args=(pods, "stubborn"), kwargs={"grace": 600})
    first.start()
    pod = node.wait_for(pods, "stubborn", lambda pod: "deletionTimestamp" in pod["metadata"])
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 600
    node.delete(pods, "stubborn", grace=700, wait=False)  # a longer one changes nothing
    again = node.pods(pods)["stubborn"]["metadata"]
    assert again["deletionGracePeriodSeconds"] == 600
    node.delete(pods, "stubborn", grace=0)
    first.join(20)
    assert not first.is_alive()


def test_delete_what_has_succeeded(pods: Instance) -> None:
    node.create(pods, node.manifest("done", ["true"], policy="Never"))
    pod = node.wait_for(pods, "done", node.over)
    assert pod["status"]["phase"] == "Succeeded"
    node.delete(pods, "done")


def test_delete_in_back_off(pods: Instance) -> None:
    node.create(pods, node.manifest("crash", ["false"]))
    node.wait_for(
        pods,
        "crash",
        lambda pod: (
            node.container(pod)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
        ),
    )
    node.delete(pods, "crash")


def test_delete_of_what_is_not_there(pods: Instance) -> None:
    done = pods.cli("delete", "pod", "nobody", check=False)
    assert done.returncode == 1
    assert "nobody not found" in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "for i in $(seq 200); do sleep 1000 & done; wait",
        "f() { while :; do (sleep 1000 &); done; }; f & f & f & f",
        'setsid sh -c "(sleep 1000 &) ; sleep 1001" & setsid setsid sleep 1002 & wait',
    ],
    ids=["many", "bomb", "escaped"],
)
@pytest.mark.parametrize("shared", [False, True], ids=["own-pids", "shared-pids"])
def test_many_processes_all_end(pods: Instance, script: str, shared: bool) -> None:
    wanted = 200 if "1002" not in script else 3
    pod = node.run(pods, node.manifest("many", ["sh", "-c", script], shareProcessNamespace=shared))
    for _ in range(500):
        if len(node.members(pods, pod, "c")) > wanted:
            break
    else:
        raise AssertionError("too few processes")
    node.delete(pods, "many", grace=0)


def test_host_pid_pod_ends_whole_and_alone(pods: Instance) -> None:
    script = "(setsid sleep 1000 &); setsid sh -c '(sleep 1001 &); sleep 1002' & sleep 1003"
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        try:
            pod = node.run(pods, node.manifest("seeing", ["sh", "-c", script], hostPID=True))
            for _ in range(100):
                if len(node.members(pods, pod, "c")) >= 4:
                    break
            assert len(node.members(pods, pod, "c")) >= 4
            node.delete(pods, "seeing", grace=2)
            assert bystander.poll() is None
        finally:
            bystander.kill()


@pytest.mark.parametrize("field", ["hostPID", "shareProcessNamespace"])
def test_orphans_do_not_outlive_their_container(pods: Instance, field: str) -> None:
    """What a container leaves behind, writing to its log for ever, keeps nobody from seeing its end."""
    script = "(yes & ) ; sleep 0.1; exit 4"
    spec: node.Json = {"policy": "Never", field: True}
    node.create(pods, node.manifest("untidy", ["sh", "-c", script], **spec))
    pod = node.wait_for(pods, "untidy", node.over, timeout=60)
    assert node.container(pod)["state"]["terminated"]["exitCode"] == 4
    for _ in range(100):
        if not node.members(pods, pod, "c"):
            break
    else:
        raise AssertionError("its orphans live on")
    node.delete(pods, "untidy")


def test_stopped_container_is_deleted(pods: Instance) -> None:
    pod = node.run(pods, node.manifest("held"))
    with node.stopped(node.init(pods, pod)):
        node.delete(pods, "held", grace=2)
