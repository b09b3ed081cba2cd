# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of files: what is in them, when a pod waits for it, and when it is written anew."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from minipod.api import ConfigMap, Pod, Secret, from_dict
from minipod.api.objects import ResourceRequirements, Volume
from minipod.pods import volumefiles
from minipod.pods.contents import NotThere, TooMuch, files_of, references
from minipod.runtime.atomic import File
from tests.unit.test_pods_worker import World, of, one_container, world

__all__ = ["world"]  # the fixture

MACHINE = {"cpu": Decimal(4), "memory": Decimal(1 << 30)}
ME = os.getuid()


def config_map(name: str, **data: str) -> ConfigMap:
    made = ConfigMap(data=data)
    made.metadata.name, made.metadata.namespace = name, "default"
    return made


def secret(name: str, **data: str) -> Secret:
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    made = Secret(data=encoded)
    made.metadata.name, made.metadata.namespace = name, "default"
    return made


def volume(**source: Any) -> Volume:
    return from_dict({"name": "v", **source}, Volume)


def made(
    source: Volume, *objects: ConfigMap | Secret, pod: Pod | None = None
) -> dict[str, tuple[str, int, int]]:
    """Return text, mode and owner of each file of a volume."""
    known = {(each.kind, each.metadata.name): each for each in objects}
    found = files_of(
        pod or one_container(), source, lambda kind, name: known.get((kind, name)), MACHINE
    )
    return {path: (file.data.decode(), file.mode, file.uid) for path, file in found.items()}


# ---- contents ---------------------------------------------------------------------------------------------------


def test_all_keys_become_files() -> None:
    source = volume(configMap={"name": "c"})
    assert made(source, config_map("c", a="1", b="")) == {"a": ("1", 0o644, 0), "b": ("", 0o644, 0)}
    source = volume(secret={"secretName": "s", "defaultMode": 0o400, "defaultUser": 7})
    assert made(source, secret("s", a="1")) == {"a": ("1", 0o400, 7)}


def test_items_choose_rename_and_set() -> None:
    items = [
        {"key": "a", "path": "x/y", "mode": 0, "user": 0},
        {"key": "b", "path": "z"},
        {"key": "a", "path": "z"},
    ]
    source = volume(configMap={"name": "c", "items": items, "defaultMode": 0o600, "defaultUser": 9})
    expected = {"x/y": ("1", 0, 0), "z": ("1", 0o600, 9)}
    assert made(source, config_map("c", a="1", b="2", c="3")) == expected


@pytest.mark.parametrize(
    ("source", "objects", "words"),
    [
        ({"configMap": {"name": "c"}}, [secret("c")], 'configmap "c" not found'),
        ({"secret": {"secretName": "s"}}, [], 'secret "s" not found'),
        (
            {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
            [config_map("c")],
            "references non-existent config key: k",
        ),
        (
            {"projected": {"sources": [{"secret": {"name": "s", "optional": False}}]}},
            [],
            'secret "s" not found',
        ),
    ],
)
def test_what_is_missing(source: Any, objects: list[ConfigMap | Secret], words: str) -> None:
    with pytest.raises(NotThere) as caught:
        made(volume(**source), *objects)
    assert str(caught.value) == words


def test_what_is_optional_may_be_missing() -> None:
    item = {"key": "k", "path": "p"}
    assert made(volume(configMap={"name": "c", "optional": True})) == {}
    source = volume(secret={"secretName": "s", "optional": True, "items": [item]})
    assert made(source) == {}
    assert made(source, secret("s", other="x")) == {}
    assert made(source, secret("s", k="x")) == {"p": ("x", 0o644, 0)}


def test_projected_sources_in_order() -> None:
    sources = [
        {"configMap": {"name": "c"}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "me", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    source = volume(projected={"sources": sources, "defaultMode": 0o440})
    assert references(source) == [("ConfigMap", "c"), ("Secret", "s")]
    pod = one_container()
    found = made(source, config_map("c", a="c", b="c"), secret("s", b="s"), pod=pod)
    expected = {"a": "c", "b": "s", "me": pod.metadata.name}
    assert found == {path: (text, 0o440, 0) for path, text in expected.items()}


def test_facts_about_the_pod() -> None:
    pod = one_container()
    pod.metadata.labels = {"b": "2", "a": "1"}
    pod.spec.containers[0].resources = ResourceRequirements(limits={"cpu": "1500m"})

    def fact(path: str) -> dict[str, Any]:
        return {"path": path.replace(".", "/"), "fieldRef": {"fieldPath": path}}

    ref = {"containerName": "app", "resource": "limits.cpu"}
    items = [
        fact("metadata.labels"),
        fact("metadata.uid"),
        {"path": "cpu", "resourceFieldRef": ref, "mode": 0o600},
    ]
    found = made(volume(downwardAPI={"items": items}), pod=pod)
    assert found["metadata/labels"][0] == 'a="1"\nb="2"'
    assert found["metadata/uid"][0] == pod.metadata.uid
    assert found["cpu"] == ("2", 0o600, 0)


def test_one_key_in_files_without_end() -> None:
    items = [{"key": "a", "path": f"f{i}"} for i in range(20_000)]
    source = volume(configMap={"name": "c", "items": items})
    for text in ("x" * 1_000_000, ""):
        with pytest.raises(TooMuch, match="67108864 bytes of memory"):
            made(source, config_map("c", a=text))


def test_a_fact_in_files_without_end() -> None:
    owner = one_container()
    owner.metadata.annotations["a"] = "\x01" * 200_000
    field = {"fieldRef": {"fieldPath": "metadata.annotations"}}
    items = [{"path": f"f{i}", **field} for i in range(20_000)]
    with pytest.raises(TooMuch):
        made(volume(downwardAPI={"items": items}), pod=owner)


def test_a_secret_is_not_shown_by_accident() -> None:
    assert "horse" not in repr(File(b"correct horse"))


# ---- the worker's part --------------------------------------------------------------------------------------------


class Disk:
    """The volumes of a sandbox, as directories; and how often they were opened."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.opened = 0
        self.failure: OSError | None = None

    @contextlib.asynccontextmanager
    async def root(self, shim: Any) -> AsyncIterator[int]:
        if self.failure:
            raise self.failure
        self.opened += 1
        yield -1

    @contextlib.contextmanager
    def volume(self, root: int, name: str) -> Iterator[int]:
        (self.top / name).mkdir(exist_ok=True)
        fd = os.open(self.top / name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def text(self, path: str) -> str:
        return (self.top / path).read_text()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    top = tmp_path / "volumes"
    top.mkdir()
    (tmp_path / "root").mkdir()
    made = Disk(top)
    monkeypatch.setattr(volumefiles, "sandbox_root", made.root)
    monkeypatch.setattr(volumefiles, "volume_directory", made.volume)
    return made


def pod_with(**source: Any) -> Pod:
    for each in source.values():
        each["defaultUser"] = ME
    return one_container(volumes=[volume(**source)])


def change(world: World, worker: Any, *objects: ConfigMap | Secret) -> None:
    world.objects.put(*objects)
    for each in objects:
        worker.object_changed(each.kind, each.metadata.name)


async def test_it_waits_without_a_sandbox_and_goes_on_by_itself(world: World, disk: Disk) -> None:
    worker = await world.run(pod_with(configMap={"name": "c"}))
    assert world.log == []
    assert world.store.events[-1] == (
        "Warning",
        "FailedMount",
        'MountVolume.SetUp failed for volume "v" : configmap "c" not found',
    )
    syncs = world.syncs
    await world.settle()
    assert world.syncs == syncs, "nothing is asked again and again"
    change(world, worker, config_map("other", a="1"))
    await world.settle()
    assert world.reasons() == ["FailedMount"], "it is said once"
    change(world, worker, config_map("c", a="1"))
    await world.settle()
    assert disk.text("v/a") == "1"
    assert of(worker).state == "running"


async def test_the_files_of_all_volumes_have_an_end(world: World, disk: Disk) -> None:
    items = [{"key": "a", "path": f"f{i}"} for i in range(40)]
    source = {"configMap": {"name": "c", "items": items, "defaultUser": ME}}
    volumes = [from_dict({"name": name, **source}, Volume) for name in ("v", "w")]
    world.objects.put(config_map("c", a="x" * 1_000_000))
    await world.run(one_container(volumes=volumes))
    assert world.log == []
    _, reason, words = world.store.events[-1]
    assert reason == "FailedMount"
    assert "the files of the pod's volumes take up more than 67108864 bytes" in words


async def test_the_files_are_there_before_a_container_starts(
    world: World, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.objects.put(config_map("c", a="1"))
    start, seen = world.runtime.start_container, []

    async def starting(*arguments: Any) -> Any:
        seen.append(disk.text("v/a"))
        return await start(*arguments)

    monkeypatch.setattr(world.runtime, "start_container", starting)
    await world.run(pod_with(configMap={"name": "c"}))
    assert seen == ["1"]


async def test_only_a_change_is_written(world: World, disk: Disk) -> None:
    world.objects.put(config_map("c", a="1"))
    worker = await world.run(pod_with(configMap={"name": "c"}))
    assert disk.opened == 1
    for _ in range(3):
        await world.advance(worker, 1)
    assert disk.opened == 1
    change(world, worker, config_map("c", a="2"))
    await world.settle()
    assert (disk.opened, disk.text("v/a")) == (2, "2")


async def test_labels_change(world: World, disk: Disk) -> None:
    items = [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]
    pod = pod_with(downwardAPI={"items": items})
    worker = await world.run(pod)
    assert disk.text("v/l") == ""
    pod.metadata.labels["app"] = "web"
    await world.advance(worker, 0)
    assert disk.text("v/l") == 'app="web"'


async def test_what_has_gone_leaves_the_files_and_the_container(world: World, disk: Disk) -> None:
    world.objects.put(config_map("c", a="1"))
    worker = await world.run(pod_with(configMap={"name": "c"}))
    world.objects.remove("ConfigMap", "default", "c")
    worker.object_changed("ConfigMap", "c")
    await world.settle()
    assert world.reasons()[-1] == "FailedMount"
    assert (disk.text("v/a"), of(worker).state) == ("1", "running")
    world.shim.exits("app/0", 256)
    await world.settle()
    assert of(worker).attempt == 1, "a restart needs only the files"


async def test_an_agent_that_comes_back_writes_what_differs(world: World, disk: Disk) -> None:
    world.objects.put(config_map("c", a="1"))
    worker = await world.run(pod_with(configMap={"name": "c"}))
    world.objects.put(config_map("c", a="2"))
    files = volumefiles.VolumeFiles(worker.core)
    assert await files.place()
    assert disk.text("v/a") == "2"
    world.objects.remove("ConfigMap", "default", "c")
    files = volumefiles.VolumeFiles(worker.core)
    assert await files.place(), "they were placed by an earlier agent"
    assert disk.text("v/a") == "2"


async def test_files_that_cannot_be_written_are_tried_again(world: World, disk: Disk) -> None:
    world.objects.put(config_map("c", a="1"))
    disk.failure = OSError(28, "No space left on device")
    worker = await world.run(pod_with(configMap={"name": "c"}))
    assert world.store.events[-1][1:] == (
        "FailedMount",
        "the files of the volumes could not be written: No space left on device",
    )
    assert of(worker).state == "waiting"
    disk.failure = None
    await world.advance(worker, volumefiles.RETRY)
    assert of(worker).state == "running"


async def test_a_file_cannot_be_a_directory_too(world: World, disk: Disk) -> None:
    world.objects.put(config_map("c", a="1"))
    sources = [
        {"configMap": {"name": "c"}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "a/b"}]}},
    ]
    await world.run(pod_with(projected={"sources": sources}))
    assert "'a' is a file, and the directory of 'a/b'" in world.store.events[-1][2]
    assert world.log == []


async def test_a_new_sandbox_has_the_files_again(world: World, disk: Disk) -> None:
    world.objects.put(config_map("c", a="1"))
    worker = await world.run(pod_with(configMap={"name": "c"}))
    (disk.top / "v" / "a").unlink()
    world.shim.exits("sandbox", 9)
    await world.settle()
    assert worker.record.sandbox == 1
    assert disk.text("v/a") == "1"


@pytest.mark.parametrize(
    ("policy", "reason", "event", "words"),
    [
        (
            "Never",
            "ErrImageNeverPull",
            "ErrImageNeverPull",
            'Container image "gone" is not present',
        ),
        (
            "IfNotPresent",
            "ErrImagePull",
            "Failed",
            'Failed to pull image "gone": no way to the registry',
        ),
    ],
)
async def test_an_image_that_is_missing(
    world: World, policy: str, reason: str, event: str, words: str
) -> None:
    source = {"reference": "gone", "pullPolicy": policy}
    worker = await world.run(one_container(volumes=[volume(image=source)]))
    assert world.reasons() == ["Pulling", event] if policy != "Never" else [event]
    assert words in world.store.events[-1][2]
    assert (world.log, of(worker).reason) == ([], reason)
    world.images["gone"] = world.images["img"]
    worker.image_came()
    await world.settle()
    assert of(worker).state == "running"
    assert worker.record.volume_images == {"v": "sha256:i"}


async def test_an_image_that_nobody_tells_of(world: World) -> None:
    worker = await world.run(one_container(volumes=[volume(image={"reference": "gone"})]))
    world.images["gone"] = world.images["img"]
    await world.advance(worker, volumefiles.RETRY)
    assert of(worker).state == "running"
