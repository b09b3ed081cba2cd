# SPDX-License-Identifier: GPL-3.0-or-later
"""Images go when the disk runs full, or when somebody prunes; what a pod uses stays, at every instant."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from minipod.images import builder
from minipod.images.builder import File
from minipod.images.layout import Layout
from tests.conftest import NEEDS
from tests.instance import Instance
from tests.patience import patience

pytestmark = pytest.mark.requires(*NEEDS)

SIZE = 4 << 20  # of an image's program's neighbour, which nothing compresses: twice on the disk
DISK = 64  # MiB


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, probe_program: Path) -> dict[str, Path]:
    """Archives of three images that share their first layer."""
    directory = tmp_path_factory.mktemp("archives")
    program = {"probe": File(probe_program.read_bytes(), mode=0o755)}
    config = {"Entrypoint": ["/probe"], "Cmd": ["report", "hold"], "Env": ["PATH=/"]}
    found = {}
    for name in ("used", "old", "new"):
        found[name] = directory / f"{name}.tar"
        layers: list[builder.Layer] = [program, {"data": os.urandom(SIZE)}]
        builder.write_oci_archive(found[name], f"localhost/{name}:1", layers, config)
    return found


@contextmanager
def small_disk(env: dict[str, str]) -> Iterator[Instance]:
    """An instance whose images have a file system of their own."""
    instance = Instance(env)
    place = Path(instance.config.root_dir, "images")
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "mpt-images", str(place)]
    subprocess.run(mount, check=True)
    try:
        yield instance
    finally:
        if names := [pod["metadata"]["name"] for pod in instance.get("pods")["items"]]:
            instance.delete(*names)
        instance.cli("agent", "stop")
        print(instance.logs())
        subprocess.run(["umount", str(place)], check=True)
        complaints = instance.stop()
    assert not complaints


def listed(instance: Instance) -> dict[str, Any]:
    """Return the images by their names."""
    done, _ = instance.call("image", {"op": "list"})
    return {image["reference"]: image for image in done["images"]}


def restart(instance: Instance) -> None:
    """Have a new agent, which looks at the disk first of all."""
    instance.cli("agent", "stop")
    instance.call("get", {"kind": "pods"})


def until_collected(instance: Instance, left: set[str]) -> None:
    end = time.monotonic() + patience(30)
    while set(listed(instance)) != left:
        assert time.monotonic() < end, (set(listed(instance)), instance.logs())
        time.sleep(0.05)


def node_events(instance: Instance) -> list[tuple[str, str]]:
    done, _ = instance.call("get", {"kind": "events", "namespace": "default"})
    about = [item for item in done["items"] if item["involvedObject"]["kind"] == "Node"]
    return [(item["reason"], item["message"]) for item in about]


def fill(instance: Instance, archives: dict[str, Path]) -> None:
    """Load all three, the first one with a pod; "old" was used longest ago."""
    for name in ("used", "old", "new"):
        instance.load(archives[name])
    instance.start_pod("user", {"image": "localhost/used:1"})
    blob = listed(instance)["localhost/old:1"]["digest"].removeprefix("sha256:")
    path = Path(instance.config.root_dir, "images/blobs/sha256", blob)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 1000))


def test_the_least_recently_used_first(archives: dict[str, Path]) -> None:
    """From above the high mark to below the low one, and no further; layers that others have stay."""
    marks = {
        "MINIPOD_IMAGE_GC_HIGH_THRESHOLD_PERCENT": "38",
        "MINIPOD_IMAGE_GC_LOW_THRESHOLD_PERCENT": "32",
        "MINIPOD_IMAGE_MINIMUM_GC_AGE": "0s",
    }
    with small_disk(marks) as instance:
        fill(instance, archives)
        assert len(listed(instance)) == 3
        restart(instance)
        until_collected(instance, {"localhost/used:1", "localhost/new:1"})
        assert node_events(instance) == []
        assert instance.probe("user", "read", "/probe") is not None
        # More than all that may go: the kubelet's words.
        instance.cli("agent", "stop")
        instance.env |= {"MINIPOD_IMAGE_GC_HIGH_THRESHOLD_PERCENT": "2"}
        instance.env |= {"MINIPOD_IMAGE_GC_LOW_THRESHOLD_PERCENT": "1"}
        instance.call("get", {"kind": "pods"})
        until_collected(instance, {"localhost/used:1"})
        end = time.monotonic() + patience(30)
        while not (said := node_events(instance)):  # the images go first
            assert time.monotonic() < end, instance.logs()
            time.sleep(0.05)
        ((reason, words),) = said
        assert reason == "FreeDiskSpaceFailed"
        assert words.startswith("Failed to garbage collect required amount of images. Attempted")


def test_signals(archives: dict[str, Path]) -> None:
    signals = {
        "MINIPOD_IMAGE_GC_HIGH_THRESHOLD_PERCENT": "100",
        "MINIPOD_EVICTION_HARD": "imagefs.available<95%",
        "MINIPOD_IMAGE_MINIMUM_GC_AGE": "1h",
    }
    with small_disk(signals) as instance:
        fill(instance, archives)
        restart(instance)
        assert len(listed(instance)) == 3, "they have come a moment ago"
        instance.cli("agent", "stop")
        instance.env |= {"MINIPOD_IMAGE_MINIMUM_GC_AGE": "0s"}
        instance.call("get", {"kind": "pods"})
        until_collected(instance, {"localhost/used:1"})
        reasons = [reason for reason, _ in node_events(instance)]
        assert set(reasons) == {"EvictionThresholdMet", "FreeDiskSpaceFailed"}
        # The container, the image volume, and what has ended but was not deleted: all are uses.
        assert instance.pod("user")["status"]["phase"] == "Running"


def test_uses(shared_instance: Instance, archives: dict[str, Path]) -> None:
    """A pod that has ended, one that waits, an image volume: none of their images can go."""
    instance = shared_instance
    for name in ("used", "old", "new"):
        instance.load(archives[name])
    instance.run_pod("ended", {"image": "localhost/used:1", "args": ["report"]})
    volume = {"name": "v", "image": {"reference": "localhost/old:1", "pullPolicy": "Never"}}
    mounts = [{"name": "v", "mountPath": "/v"}]
    instance.start_pod(
        "mounting", {"volumeMounts": mounts, "command": ["sleep", "1000"]}, volumes=[volume]
    )
    gate = {"name": "gate", "image": "localhost/test:1", "command": ["sleep", "1000"]}
    instance.create("waiting", {"image": "localhost/new:1"}, initContainers=[gate])
    users = {name: image["pods"] for name, image in listed(instance).items()}
    assert users["localhost/used:1"] == ["default/ended"]
    assert users["localhost/old:1"] == ["default/mounting"]
    assert users["localhost/new:1"] == ["default/waiting"]
    done, _ = instance.call("image", {"op": "prune", "all": True})
    assert done == {"images": [], "removed": [], "reclaimed": 0}
    for references in (["localhost/new:1"], ["localhost/new:1", "localhost/none:1"]):
        try:
            done, _ = instance.call("image", {"op": "rm", "references": references})
        except MinipodError as error:
            done = {"removed": [], "failed": [error.to_status()]}
        assert "used by default/waiting" in done["failed"][0]["message"]
        assert len(done["failed"]) == len(references) and not done["removed"]
    # The name moves, the containers stay what they are.
    instance.call(
        "image", {"op": "tag", "reference": "localhost/used:1", "name": "localhost/old:1"}
    )
    users = {name: image["pods"] for name, image in listed(instance).items()}
    assert any(name.startswith("sha256:") and pods for name, pods in users.items())
    assert instance.call("image", {"op": "prune", "all": True})[0]["removed"] == []
    time.sleep(1.1)  # instants are told in whole seconds
    before = time.time()
    instance.delete("ended", "mounting", "waiting")
    done, _ = instance.call("image", {"op": "list"})
    used = [
        image["lastUsed"] for image in done["images"] if "localhost/used:1" in image["references"]
    ]
    assert used and used[0] >= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before))
    done, _ = instance.call(
        "image", {"op": "prune", "all": True, "filters": ["reference=localhost/*"]}
    )
    assert done["reclaimed"] > 2 * SIZE
    assert "localhost/used:1" not in listed(instance)


def test_two_names_that_go_at_once(shared_instance: Instance, archives: dict[str, Path]) -> None:
    """Each leaves the image its other name; together they would take it from under a running container."""
    instance = shared_instance
    for name in ("used", "old"):
        instance.load(archives[name])
    instance.start_pod("user", {"image": "localhost/used:1"})
    image = listed(instance)["localhost/used:1"]["digest"]
    moves = [
        (image, "localhost/a:1"),
        (image, "localhost/b:1"),
        ("localhost/old:1", "localhost/used:1"),
    ]
    for reference, name in moves:
        instance.call("image", {"op": "tag", "reference": reference, "name": name})
    failures: list[str] = []

    def remove(reference: str) -> None:
        try:
            instance.call("image", {"op": "rm", "references": [reference]})
        except MinipodError as error:
            failures.append(error.what)

    threads = [
        threading.Thread(target=remove, args=[name]) for name in ("localhost/a:1", "localhost/b:1")
    ]
    with Layout(f"{instance.config.root_dir}/images").locked():
        for thread in threads:
            thread.start()
            time.sleep(0.5)  # until it has been asked whether it may go
    for thread in threads:
        thread.join()
    assert image in {found["digest"] for found in listed(instance).values()}, (
        "a container stands on it"
    )
    assert len(failures) == 1 and "has changed meanwhile" in failures[0]
    assert instance.probe("user", "read", "/probe") is not None
    instance.delete("user")


def test_no_image_goes_between_a_look_and_a_start(
    shared_instance: Instance, archives: dict[str, Path]
) -> None:
    """Pods come while their image is removed: each starts, or finds that there is none; never half of one."""
    instance = shared_instance
    outcomes = []
    for number in range(12):
        instance.load(archives["used"])
        barrier = threading.Barrier(2)
        created: list[str] = []
        name = f"racer{number}"

        def create(name: str = name, barrier: Any = barrier, created: Any = created) -> None:
            barrier.wait()
            try:
                container = {"image": "localhost/used:1", "args": ["report"]}
                instance.create(name, {**container, "imagePullPolicy": "Never"})
            except MinipodError as error:
                created.append(error.what)

        thread = threading.Thread(target=create)
        thread.start()
        barrier.wait()
        time.sleep(0.003 * (number % 4))
        removed = True
        try:
            instance.call("image", {"op": "rm", "references": ["localhost/used:1"]})
        except MinipodError as error:
            assert f"used by default/{name}" in error.what
            removed = False
        thread.join()
        if created:
            assert removed and "is not in the store" in created[0]
            outcomes.append("refused")
            continue
        wanted = ("Succeeded", "Failed")
        reasons = ("ErrImageNeverPull",)

        def settled(pod: Any, wanted: Any = wanted, reasons: Any = reasons) -> bool:
            statuses = pod["status"].get("containerStatuses") or []
            waits = {status["state"].get("waiting", {}).get("reason") for status in statuses}
            return pod["status"].get("phase") in wanted or bool(waits & set(reasons))

        pod = instance.until(name, settled)
        assert (pod["status"]["phase"] == "Succeeded") != removed, pod["status"]
        outcomes.append("removed" if removed else "ran")
        instance.delete(name)
    print(json.dumps(outcomes))


def test_unreferenced_data_is_pruned(shared_instance: Instance, archives: dict[str, Path]) -> None:
    """What a killed process left is found by a prune as well as by the next agent."""
    store = Path(shared_instance.config.root_dir, "images")
    shared_instance.load(archives["new"])
    left = [store / "layers" / ("0" * 64), store / "blobs/sha256" / ("1" * 64), store / "tmp/dead"]
    left[0].mkdir()
    left[1].write_text("rest")
    left[2].mkdir()
    shared_instance.call("image", {"op": "prune"})
    assert not any(path.exists() for path in left)
    assert "localhost/new:1" in listed(shared_instance)
