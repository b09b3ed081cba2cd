# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the pod: its plan is sound, the same every time, and made without touching the machine."""

from __future__ import annotations

import builtins
import contextlib
import copy
import io
import os
import posix
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
from minipod.plan import (
    Facts,
    compile_container,
    compile_exec,
    compile_sandbox,
)
from minipod.plan import steps as s
from minipod.plan.explain import PodPlan, document
from tests.unit.test_plan_checker import FULL, MACHINES, check, context, launch_of, pod, run

# ---- any pod that the manifest rules let through ------------------------------------------------

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
PATHS = st.builds(
    lambda parts, tail: "/" + "/".join(parts) + tail,
    st.lists(st.sampled_from(["data", "etc", "dev", "shm", "hosts", "x", "."]), min_size=1),
    st.sampled_from(["", "/", "//"]),
).filter(lambda path: path.strip("/.") != "")
HOST_PATH_KINDS = {
    "": ("directory", "file", "socket", "char", "block"),
    "Directory": ("directory",),
    "DirectoryOrCreate": ("directory",),
    "File": ("file",),
    "FileOrCreate": ("file",),
    "Socket": ("socket",),
    "CharDevice": ("char",),
    "BlockDevice": ("block",),
}
AMOUNTS = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["0", "1m", "500m", "2"]),
        "memory": st.sampled_from(["0", "64Mi", "1.5", "1Gi"]),
    },
)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[Volume, str]:
    """A volume without its name, and what is at its host path."""
    kind = draw(st.sampled_from(["disk", "memory", "host"]))
    if kind == "host":
        type_ = draw(st.sampled_from(sorted(HOST_PATH_KINDS)))
        found = draw(st.sampled_from(HOST_PATH_KINDS[type_]))
        return Volume(host_path=HostPathVolumeSource(draw(PATHS), type_)), found
    if kind == "memory":
        size = draw(st.sampled_from([None, "1Mi", "0"]))
        return Volume(empty_dir=EmptyDirVolumeSource("Memory", size)), ""
    return Volume(empty_dir=EmptyDirVolumeSource()), ""


@st.composite
def containers(draw: st.DrawFn, volume_names: list[str]) -> Container:
    """A container that mounts some of the volumes."""
    mounted = draw(st.lists(st.sampled_from(volume_names), max_size=4)) if volume_names else []
    paths = draw(st.lists(PATHS, min_size=len(mounted), max_size=len(mounted), unique=True))
    return Container(
        image="img",
        command=draw(st.lists(TEXTS, max_size=3)),
        args=draw(st.lists(TEXTS, max_size=3)),
        working_dir=draw(st.none() | PATHS),
        env=[EnvVar(name, draw(TEXTS)) for name in draw(st.lists(NAMES, max_size=3))],
        resources=ResourceRequirements(draw(AMOUNTS), draw(AMOUNTS)),
        volume_mounts=[
            VolumeMount(name, path, draw(st.booleans()))
            for name, path in zip(mounted, paths, strict=True)
        ],
        stdin=draw(st.booleans()),
        tty=draw(st.booleans()),
    )


@st.composite
def pods(draw: st.DrawFn) -> tuple[Pod, dict[str, str]]:
    """A pod, and what is at the host paths of its volumes."""
    drawn = draw(st.lists(volumes(), max_size=4))
    named = []
    kinds = {}
    for i, (volume, kind) in enumerate(drawn):
        volume.name = f"v{i}"
        named.append(volume)
        if kind:
            kinds[volume.name] = kind
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    made = []
    for name in names:
        one = draw(containers([volume.name for volume in named]))
        one.name = name
        made.append(one)
    host_pid = draw(st.booleans())
    result = pod(
        *made,
        volumes=named,
        host_network=draw(st.booleans()),
        host_ipc=draw(st.booleans()),
        host_pid=host_pid,
        share_process_namespace=draw(st.booleans()) and not host_pid,
    )
    return result, kinds


def compile_all(of: Pod, kinds: dict[str, str], facts: Facts) -> list[tuple[s.Step, ...]]:
    """Return the plans of the sandbox, of each container, and of a command in each."""
    around, inside = context(of, kinds), run()
    plans = [compile_sandbox(of, around, facts)]
    for one in of.spec.containers:
        plans.append(compile_container(of, one, around, inside, facts))
        for tty in (False, True):
            launch = compile_exec(of, one, around, inside, facts, ("ls",), number=1, tty=tty)
            plans.append((launch,))
    return plans


@settings(max_examples=80, deadline=None)
@given(pods(), st.sampled_from(sorted(MACHINES)))
@example((FULL, {"host": "directory"}), "v2")
def test_every_plan_is_sound(drawn: tuple[Pod, dict[str, str]], machine: str) -> None:
    of, kinds = drawn
    facts = MACHINES[machine]
    before = copy.deepcopy(of)
    plans = compile_all(of, kinds, facts)
    assert of == before, "the pod is only read"
    assert compile_all(copy.deepcopy(of), dict(kinds), facts) == plans, "the same every time"
    for plan in plans:
        launch = launch_of(plan)
        # The host's /dev/shm is opened for hostIPC even where a volume takes its place.
        check(launch, unread=("detached tree",) if of.spec.host_ipc else ())
        for step in (*plan, *launch.steps):
            words = step.describe()
            assert words and words.isprintable(), words
            assert hash(step) == hash(step)
        found = document(PodPlan("default/p", "pod.yaml", {}, plan, ()))
        assert len(found["steps"]) == len(plan) + len(launch.steps)


@settings(max_examples=30, deadline=None)
@given(pods())
def test_host_paths_are_never_looked_up_inside_the_pod(drawn: tuple[Pod, dict[str, str]]) -> None:
    of, kinds = drawn
    around = context(of, kinds)
    for one in of.spec.containers:
        launch = launch_of(compile_container(of, one, around, run(), MACHINES["v2"]))
        entered = next(i for i, step in enumerate(launch.steps) if isinstance(step, s.SetNs))
        inside = {x.path for x in launch.steps[entered:] if isinstance(x, s.OpenTree)}
        memory = {
            f"/volumes/{v.name}"
            for v in of.spec.volumes
            if v.empty_dir and v.empty_dir.medium == "Memory"
        }
        own = {"/shm", "/files/hosts", "/files/resolv.conf", "/files/hostname"}
        own.add(f"/termination/{one.name}.0")
        assert inside <= own | memory


# ---- purity -------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_machine() -> Iterator[None]:
    """Make every way to the machine raise."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"the compiler reached for the machine: {args!r}")

    harmless = {"fspath", "_path_normpath"}
    with pytest.MonkeyPatch.context() as patch:
        for module in (os, posix):
            for name in dir(posix):
                value = getattr(module, name, None)
                if callable(value) and not isinstance(value, type) and name not in harmless:
                    patch.setattr(module, name, refuse)
        for module, name in (
            (builtins, "open"),
            (io, "open"),
            (os, "fdopen"),
            (os, "getenv"),
            (socket, "socket"),
            (subprocess, "Popen"),
            (time, "time"),
            (time, "monotonic"),
        ):
            patch.setattr(module, name, refuse)
        patch.setattr(os, "environ", None)
        yield


def test_the_poison_works() -> None:
    reaches: list[Callable[[], object]] = [
        Path("/etc/hostname").read_text,
        lambda: os.stat("/"),
        lambda: os.listdir("/"),
        lambda: os.uname(),  # noqa: PLW0108 - looked up when it is poisoned
        lambda: socket.socket(),  # noqa: PLW0108
    ]
    for reach in reaches:
        with no_machine(), pytest.raises(AssertionError, match="reached for the machine"):
            reach()


@pytest.mark.parametrize("machine", MACHINES)
def test_compiling_touches_nothing(machine: str) -> None:
    from tests.unit.test_plan_container import PODS

    expected = {
        name: compile_all(one, {"host": "directory"}, MACHINES[machine])
        for name, one in PODS.items()
    }
    with no_machine():
        made = {
            name: compile_all(one, {"host": "directory"}, MACHINES[machine])
            for name, one in PODS.items()
        }
        shown = [
            document(PodPlan("p", "", {}, plan, ())) for plans in made.values() for plan in plans
        ]
    assert made == expected
    assert all(shown)
