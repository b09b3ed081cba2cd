# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for volumes that the sandbox mounts: files that the agent writes, and images."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minipod.api import Pod
from minipod.api.objects import (
    ConfigMapVolumeSource,
    DownwardAPIVolumeSource,
    ImageVolumeSource,
    ProjectedVolumeSource,
    SecretVolumeSource,
    Volume,
)
from minipod.plan import Facts, compile_sandbox
from minipod.plan import steps as s
from tests.unit.test_plan_checker import UID, V2, check, context, launch_of, pod
from tests.unit.test_plan_volumes import mounting, tree_of

FILES = {
    "configMap": Volume("v", config_map=ConfigMapVolumeSource("c")),
    "secret": Volume("v", secret=SecretVolumeSource("s")),
    "downwardAPI": Volume("v", downward_api=DownwardAPIVolumeSource()),
    "projected": Volume("v", projected=ProjectedVolumeSource()),
}
IMAGE = Volume("v", image=ImageVolumeSource("localhost/two:1"))
EMPTY = f"/run/minipod/pods/{UID}/0/empty"


def planned(
    of: Pod, layers: tuple[str, ...] = (), facts: Facts = V2
) -> tuple[tuple[s.Step, ...], s.Launch]:
    """Return the host steps of *of*'s sandbox, and its launch."""
    images = {volume.name: layers for volume in of.spec.volumes if volume.image}
    steps = compile_sandbox(of, replace(context(of), image_layers=images), facts)
    launch = launch_of(steps)
    check(launch)
    return steps, launch


@pytest.mark.parametrize("volume", FILES.values(), ids=FILES.keys())
def test_files_are_in_memory_and_writable_by_root_alone(volume: Volume) -> None:
    _, launch = planned(pod(volumes=[volume]))
    mount = next(
        i for i, x in enumerate(launch.steps) if isinstance(x, s.Attach) and x.path == "/volumes/v"
    )
    made = launch.steps[mount - 1]
    assert isinstance(made, s.NewFilesystem)
    assert (made.type, made.options) == ("tmpfs", ("mode=0755", "size=134217728", "noswap"))
    assert made.attributes == ("nosuid", "nodev")
    assert made.source == "spec.volumes[0]"


def test_an_old_kernel_may_swap_them() -> None:
    facts = replace(V2, tmpfs_stays_in_memory=False)
    _, launch = planned(pod(volumes=[FILES["secret"]]), facts=facts)
    made = [x for x in launch.steps if isinstance(x, s.NewFilesystem) and x.source]
    assert made[0].options == ("mode=0755", "size=134217728")


@pytest.mark.parametrize("volume", [*FILES.values(), IMAGE], ids=[*FILES, "image"])
def test_a_container_only_reads_them(volume: Volume) -> None:
    taken = tree_of(mounting(volume))
    assert (taken.path, taken.type, taken.attributes) == ("/volumes/v", "directory", ("ro",))


@pytest.mark.parametrize(
    ("layers", "lower"),
    [
        (("/a", "/b", "/c"), ("/c", "/b", "/a")),
        (("/a",), ("/a", f"{EMPTY}/0")),
        ((), (f"{EMPTY}/0", f"{EMPTY}/1")),
    ],
)
def test_an_image_is_a_read_only_overlay(layers: tuple[str, ...], lower: tuple[str, ...]) -> None:
    steps, launch = planned(pod(volumes=[IMAGE]), layers)
    (overlay,) = [x for x in launch.steps if isinstance(x, s.NewOverlay)]
    assert (overlay.lower, overlay.upper) == (lower, "")
    assert overlay.attributes == ("ro", "nosuid", "nodev", "noexec")
    assert overlay.source == "spec.volumes[0].image"
    made = {step.path for step in steps if isinstance(step, s.MakeDirectory)}
    assert {path for path in lower if path.startswith(EMPTY)} == {x for x in made if EMPTY in x}


def test_an_overlay_comes_before_the_sandboxs_root() -> None:
    """Its legacy form leaves the mount namespace, and what was mounted there before."""
    facts = replace(V2, overlay_appends_layers=False)
    _, launch = planned(pod(volumes=[IMAGE]), ("/a", "/b"), facts)
    kinds = [type(step) for step in launch.steps]
    assert kinds.index(s.MakePrivate) < kinds.index(s.NewOverlay) < kinds.index(s.Attach)
    (overlay,) = [x for x in launch.steps if isinstance(x, s.NewOverlay)]
    assert overlay.legacy


def test_a_pod_without_such_volumes_plans_nothing_for_them() -> None:
    steps, launch = planned(pod())
    assert not [step for step in launch.steps if "/volumes/" in step.describe()]
    assert not [x for x in steps if isinstance(x, s.MakeDirectory) and "empty" in x.path]
