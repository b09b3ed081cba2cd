# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for the options of a volume mount, and for volumes that are filesystems of their own."""

from __future__ import annotations

import re

import pytest

from minipod.api import (
    Container,
    EmptyDirVolumeSource,
    EnvVar,
    HostPathVolumeSource,
    Pod,
    ResourceRequirements,
    Volume,
    VolumeMount,
)
from minipod.errors import MinipodError
from minipod.plan import steps as s
from minipod.plan.context import Place
from minipod.plan.emptydir import page_size, tmpfs_bytes
from minipod.plan.volumes import sub_path
from tests.unit.test_plan_checker import V2, check, container, pod, sandbox

DISK = Volume("v", empty_dir=EmptyDirVolumeSource())
MEMORY = Volume("v", empty_dir=EmptyDirVolumeSource(medium="Memory"))
HOST = Volume("v", host_path=HostPathVolumeSource("/srv/it"))


def mounting(volume: Volume, **mount: object) -> Pod:
    """Return a pod whose one container mounts *volume* at /v with these attributes."""
    mounted = VolumeMount("v", "/v", **mount)  # type: ignore[arg-type]
    one = Container(name="app", image="img", command=["a"], volume_mounts=[mounted])
    return pod(one, volumes=[volume])


def tree_of(one: Pod, places: dict[str, Place] | None = None) -> s.OpenTree:
    """Return the step that takes the volume."""
    launch = container(one, host_paths={"v": "directory"}, places=places or {})
    check(launch)
    return next(x for x in launch.steps if isinstance(x, s.OpenTree) and x.slot == 16)


def attach_of(one: Pod) -> s.Attach:
    """Return the step that mounts the volume."""
    launch = container(one, host_paths={"v": "directory"})
    return next(x for x in launch.steps if isinstance(x, s.Attach) and x.path == "/v")


@pytest.mark.parametrize("volume", [DISK, MEMORY, HOST], ids=["disk", "memory", "host"])
def test_a_sub_path_is_taken_inside_the_volume(volume: Volume) -> None:
    one = mounting(volume, sub_path="a/b")
    tree = tree_of(one)
    assert tree.inside == "a/b" and tree.record().strings == (tree.path, "a/b")
    # What is there decides: a file or a directory.
    assert attach_of(one).record().flags == ("CREATE_DIR", "CREATE_FILE")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("$(A)", "a"),
        ("x/$(A)/$(B)", "x/a/b c"),
        ("$$(A)", "$(A)"),
        ("$$$$(NONE)", "$$(NONE)"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_sub_path_expr(text: str, path: str) -> None:
    mount = VolumeMount("v", "/v", sub_path_expr=text)
    assert sub_path(mount, {"A": "a", "B": "b c"}, "at") == path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$(NONE)", "at.subPathExpr: the container has no variable NONE"),
        ("x/$$$(NONE)", "the container has no variable NONE"),
        # The values are not shown: they may be secret.
        ("$(ABSOLUTE)", "what '$(ABSOLUTE)' gives is not a path inside the volume"),
        ("x/$(UP)", "what 'x/$(UP)' gives is not a path inside the volume"),
    ],
)
def test_sub_path_expr_that_is_refused(text: str, words: str) -> None:
    mount = VolumeMount("v", "/v", sub_path_expr=text)
    with pytest.raises(MinipodError, match=re.escape(words)):
        sub_path(mount, {"ABSOLUTE": "/etc", "UP": "../y"}, "at")


def test_sub_path_expr_sees_the_containers_variables() -> None:
    one = mounting(DISK, sub_path_expr="logs/$(NAME)")
    one.spec.containers[0].env = [EnvVar("N", "n"), EnvVar("NAME", "$(N)-1")]
    assert tree_of(one).inside == "logs/n-1"


@pytest.mark.parametrize(
    ("asked", "top", "all_"),
    [
        (None, ("ro",), ()),
        ("Disabled", ("ro",), ()),
        ("IfPossible", (), ("ro",)),
        ("Enabled", (), ("ro",)),
    ],
)
def test_recursive_read_only(
    asked: str | None, top: tuple[str, ...], all_: tuple[str, ...]
) -> None:
    tree = tree_of(mounting(HOST, read_only=True, recursive_read_only=asked))
    assert (tree.attributes, tree.recursive_attributes) == (top, all_)
    assert tree.record().numbers[2] == len(all_)


def test_bind_mount_options() -> None:
    tree = tree_of(mounting(DISK, bind_mount_options=["noexec", "nosuid"], read_only=True))
    assert tree.attributes == ("ro", "noexec", "nosuid")
    assert tree.record().numbers[0] == 1 | 8 | 2


@pytest.mark.parametrize(
    ("asked", "expected", "number"),
    [
        (None, "private", 1 << 18),
        ("None", "private", 1 << 18),
        ("HostToContainer", "slave", 1 << 19),
        ("Bidirectional", "shared", 1 << 20),
    ],
)
@pytest.mark.parametrize("volume", [DISK, MEMORY, HOST], ids=["disk", "memory", "host"])
def test_mount_propagation(volume: Volume, asked: str | None, expected: str, number: int) -> None:
    one = mounting(volume, mount_propagation=asked)
    tree = tree_of(one)
    assert (tree.propagation, tree.record().numbers[3]) == (expected, number)
    assert tree.recursive == (volume is HOST or expected != "private")
    launch = container(one, host_paths={"v": "directory"})
    cut = next(i for i, x in enumerate(launch.steps) if isinstance(x, s.Unshare))
    before = launch.steps.index(tree) < cut
    # In our own mount namespace it would be cut off already.
    assert before == (volume is not MEMORY or expected != "private")
    shared = [x for x in sandbox(one).steps if isinstance(x, s.SetMountAttributes)]
    assert [x.propagation for x in shared] == (
        ["shared"] if volume is MEMORY and expected != "private" else []
    )


def test_a_place_that_the_agent_found_wins() -> None:
    one = mounting(DISK)
    tree = tree_of(one, places={"v": Place("/claims/c", recursive=True, read_only=True)})
    assert (tree.path, tree.recursive, tree.attributes) == ("/claims/c", True, ("ro",))


@pytest.mark.parametrize(
    ("size_limit", "limits", "expected"),
    [
        (None, (None,), V2.memory),
        ("1Mi", (None,), 1 << 20),
        ("0", (None,), V2.memory),
        ("1Mi", ("512Ki",), 512 << 10),
        ("1Mi", ("2Mi",), 1 << 20),
        (None, ("2Mi", "1Mi"), 3 << 20),
        (None, ("2Mi", None), V2.memory),
        ("1Ei", (None,), V2.memory),
    ],
)
def test_the_size_of_a_volume_in_memory(
    size_limit: str | None, limits: tuple[str | None, ...], expected: int
) -> None:
    containers = [
        Container(
            name=f"c{i}",
            resources=ResourceRequirements(limits={"memory": limit} if limit else {}),
        )
        for i, limit in enumerate(limits)
    ]
    volume = Volume("v", empty_dir=EmptyDirVolumeSource("Memory", size_limit))
    assert tmpfs_bytes(pod(*containers, volumes=[volume]), volume, V2) == expected


@pytest.mark.parametrize(
    ("medium", "asked", "expected"),
    [
        ("HugePages-2Mi", (), 2 << 20),
        ("HugePages-1Gi", ("hugepages-2Mi",), 1 << 30),
        ("HugePages", ("hugepages-2Mi",), 2 << 20),
        ("HugePages", (), 0),
    ],
)
def test_the_size_of_a_huge_page(medium: str, asked: tuple[str, ...], expected: int) -> None:
    one = Container(name="c", resources=ResourceRequirements(limits=dict.fromkeys(asked, "2Mi")))
    assert page_size(pod(one), medium) == expected


def test_huge_pages_are_mounted_in_the_sandbox() -> None:
    volume = Volume("v", empty_dir=EmptyDirVolumeSource("HugePages-2Mi", mode=0o1770))
    launch = sandbox(mounting(volume))
    check(launch)
    made = next(x for x in launch.steps if isinstance(x, s.NewFilesystem) and x.source)
    assert (made.type, made.options) == ("hugetlbfs", ("mode=1770", "pagesize=2097152"))
