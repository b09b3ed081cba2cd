# SPDX-License-Identifier: GPL-3.0-or-later
"""From manifest, image and machine to the decisions that a plan is compiled from."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from minipod.api import Container, HostPathVolumeSource, Pod, Volume
from minipod.config import Config
from minipod.errors import MinipodError, NotFound
from minipod.images import Image, ImageConfig, ImageStore
from minipod.pods import credentials, names, resolve
from minipod.runtime.filters import Filter, Filters
from tests.unit.test_plan_checker import UID, pod
from tests.unit.test_pods_worker import IMAGE

CONFIG = Config()
IMAGES = cast(ImageStore, {"img": IMAGE})
FILTERS = cast(Filters, SimpleNamespace(of=lambda security: Filter(b"x", "RuntimeDefault")))


@pytest.fixture(autouse=True)
def root_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image's user is root, and the host's files are two lines."""
    identity = SimpleNamespace(uid=0, gid=0, groups=(), home="/root")
    monkeypatch.setattr(names, "_read", lambda path: "nameserver 192.0.2.53\n")
    monkeypatch.setattr(credentials, "resolve_user", lambda image, user: identity)


def of_image(made: Image) -> tuple[Pod, Container, Image]:
    """Return a pod, its container, and the container's image."""
    of = pod(Container(name="app", image="img"))
    return of, of.spec.containers[0], made


def image(**config: Any) -> Image:
    """Return an image with this config."""
    return replace(IMAGE, config=ImageConfig(**config))


@pytest.mark.parametrize(
    "directory",
    [
        "/proc",
        "/proc/",
        "/proc/self/fd/8",  # runc CVE-2024-21626
        "//proc/self/cwd",
        "/./proc/self",
        "/a/../proc/self",
        "proc/self/fd/8",
        "./proc/self/fd/8",
        "../proc/self",
    ],
)
def test_a_working_directory_below_proc_is_refused(directory: str) -> None:
    with pytest.raises(MinipodError, match="working directory below /proc") as error:
        resolve.container_context(*of_image(image(working_dir=directory)), 0, FILTERS)
    assert "workingDir" in error.value.remedy


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("", ""),
        ("/", "/"),
        ("/srv", "/srv"),
        ("/srv/", "/srv"),
        ("srv/www", "/srv/www"),  # as Docker: below the root
        ("/processes", "/processes"),
        ("/srv/proc", "/srv/proc"),
        ("../../x", "/x"),
    ],
)
def test_other_working_directories_are_absolute(directory: str, expected: str) -> None:
    made = resolve.container_context(*of_image(image(working_dir=directory)), 3, FILTERS)
    assert made.working_dir == expected
    assert (made.attempt, made.seccomp, made.layers) == (3, b"x", ("/layer",))


def test_declared_volumes_are_clean_paths() -> None:
    declared = (
        "b",
        "/a/",
        "/a/b",
        "../../c",
        "/",
        "/proc/x",
        "/dev",
        "/sys/fs",
        "/processes",
        "/a/./b",
    )
    made = resolve.container_context(*of_image(image(volumes=declared)), 0, FILTERS)
    assert made.declared_volumes == ("/a", "/a/b", "/b", "/c", "/processes")
    many = image(volumes=tuple(f"/v{i}" for i in range(129)))
    with pytest.raises(MinipodError, match="declares 129 volumes"):
        resolve.container_context(*of_image(many), 0, FILTERS)


def test_an_image_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="image other is not in the store") as error:
        resolve.find_image(IMAGES, Container(name="app", image="other"))
    assert "minipod image load" in error.value.remedy


def test_places_are_named_by_the_uid() -> None:
    assert resolve.pod_directories(CONFIG, pod()) == (
        f"/var/lib/minipod/pods/{UID}",
        f"/var/log/pods/default_web_{UID}",
    )
    context = resolve.pod_context(CONFIG, "minipod", pod(), 3, "10.99.0.5")
    assert context.run_dir == f"/run/minipod/pods/{UID}/3"
    assert context.cgroup == f"minipod/besteffort/pod{UID}"
    assert context.link and context.link.address == "10.99.0.5"
    assert "10.99.0.5\tweb" in context.hosts
    shared = resolve.pod_context(CONFIG, "minipod", pod(host_network=True), 0, "")
    assert shared.link is None


# ---- host paths ---------------------------------------------------------------------------------


def with_path(path: Path, type_: str) -> Pod:
    return pod(volumes=[Volume("v", host_path=HostPathVolumeSource(str(path), type_))])


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """A directory with one of each."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    (tmp_path / "char").symlink_to("/dev/null")
    return tmp_path


# Kubernetes, "hostPath volume types".
RIGHT = {
    "": {"directory": "directory", "file": "file", "socket": "socket", "char": "char"},
    "Directory": {"directory": "directory"},
    "DirectoryOrCreate": {"directory": "directory"},
    "File": {"file": "file"},
    "FileOrCreate": {"file": "file"},
    "Socket": {"socket": "socket"},
    "CharDevice": {"char": "char"},
    "BlockDevice": {},
}
CREATED = {"": "directory", "DirectoryOrCreate": "directory", "FileOrCreate": "file"}


@pytest.mark.parametrize("type_", RIGHT)
@pytest.mark.parametrize("there", ["directory", "file", "socket", "char", "nothing"])
def test_host_path_types(things: Path, type_: str, there: str) -> None:
    one = with_path(things / there, type_)
    expected = CREATED.get(type_) if there == "nothing" else RIGHT[type_].get(there)
    if expected:
        context = resolve.pod_context(CONFIG, "minipod", one, 0, "10.99.0.5")
        assert context.host_paths == {"v": expected}
    else:
        with pytest.raises(MinipodError, match="volume v: hostPath") as error:
            resolve.pod_context(CONFIG, "minipod", one, 0, "10.99.0.5")
        assert ("does not exist" if there == "nothing" else "is a") in error.value.what


# ---- preflight ----------------------------------------------------------------------------------


def problems(of: Pod, images: dict[str, Image] | None = None) -> list[tuple[int, str, str]]:
    """Return line, path and words of what would keep *of* from starting."""
    lines = {"spec": 5, "spec.volumes": 6, "spec.containers[0].image": 9, "spec.containers[0]": 8}
    store = cast(ImageStore, {"img": IMAGE} if images is None else images)
    found = resolve.preflight(of, store, "pod.yaml", lines, Config())
    return [(problem.line, problem.path, problem.message) for problem in found]


def test_a_pod_that_can_start() -> None:
    assert problems(pod()) == []


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    one = with_path(tmp_path / "none", "Directory")
    one.spec.containers[0].image = "localhost/other"
    (volume, image_) = problems(one)
    assert volume[:2] == (6, "spec.volumes") and "does not exist" in volume[2]
    assert image_[:2] == (9, "spec.containers[0].image") and "not in the store" in image_[2]


def test_nothing_to_execute() -> None:
    silent = {"img": image()}
    (found,) = problems(pod(Container(name="app", image="img")), silent)
    assert found[:2] == (8, "spec.containers[0]")
    assert "what to execute" in found[2] and "set command" in found[2]
    assert problems(pod(Container(name="app", image="img", command=["x"])), silent) == []
