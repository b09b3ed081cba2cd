# SPDX-License-Identifier: GPL-3.0-or-later
"""Image volumes: the files of an image in another's container, read-only and not to be executed."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from minipod.images.builder import Entries, File, Link, write_oci_archive
from tests.features import requires
from tests.instance import Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

BELOW: Entries = {
    "model/weights": b"1 2 3",
    "model/old": b"gone",
    "run": File(b"#!/bin/sh\necho ran\n", 0o755),
    "out": Link("/etc"),
}
ABOVE: Entries = {"model/.wh.old": b"", "model/weights": b"4 5 6"}
IMAGES: dict[str, tuple[Entries, ...]] = {
    "localhost/two:1": (BELOW, ABOVE),
    "localhost/one:1": (BELOW,),
    "localhost/none:1": (),
}


def volume(reference: str) -> Json:
    return {"volumes": [{"name": "v", "image": {"reference": reference}}]}


def at(path: str = "/v", **more: object) -> Json:
    return {"volumeMounts": [{"name": "v", "mountPath": path, **more}]}


def load(instance: Instance, directory: Path, images: dict[str, tuple[Entries, ...]]) -> None:
    path = directory / "volumes.tar"
    for name, layers in images.items():
        write_oci_archive(path, name, layers)
        instance.load(path)


@pytest.fixture(scope="module", params=["shared_instance", "fallback_instance"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """An instance with the images, on a new kernel and on one before 6.5."""
    instance: Instance = request.getfixturevalue(request.param)
    load(instance, tmp_path_factory.mktemp("images"), IMAGES)
    return instance


@pytest.fixture
def node(loaded: Instance) -> Iterator[Instance]:
    yield loaded
    done, _ = loaded.call("get", {"kind": "pods"})
    if names := [pod["metadata"]["name"] for pod in done["items"]]:
        loaded.delete(*names)


@pytest.mark.field("Volume.image", "ImageVolumeSource.reference")
def test_all_layers_are_there(node: Instance) -> None:
    node.start_pod("p", at(), at("/deep/er"), **volume("localhost/two:1"))
    for path, container in (("/v", "c0"), ("/deep/er", "c1")):
        seen = node.probe("p", "list", f"{path}/model", container=container)
        assert set(seen) == {"weights"}, "a whiteout hides"
        answer = node.probe("p", "read", f"{path}/model/weights", container=container)
        assert answer == {"text": "4 5 6"}


@pytest.mark.parametrize(("name", "files"), [("one", {"model", "run", "out"}), ("none", set())])
def test_images_of_few_layers(node: Instance, name: str, files: set[str]) -> None:
    node.start_pod("p", at(), **volume(f"localhost/{name}:1"))
    assert set(node.probe("p", "list", "/v")) == files


def test_it_is_read_only_and_nothing_is_executed(node: Instance) -> None:
    node.start_pod("p", at(readOnly=False), **volume("localhost/two:1"))
    assert node.probe("p", "write", "/v/new", "x")["errno"] == errno.EROFS
    assert node.probe("p", "write", "/v/model/weights", "x")["errno"] == errno.EROFS
    with pytest.raises(MinipodError, match=r"execve /v/run.*EACCES"):
        node.exec("p", "/v/run")
    lines = Path(f"/proc/{node.pid('p')}/mountinfo").read_text().splitlines()
    options = next(line.split()[5] for line in lines if line.split()[4] == "/v").split(",")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options)


def test_a_link_of_the_image_leads_nowhere_else(node: Instance) -> None:
    Path(node.base, "etc-of-the-host").touch()
    node.start_pod("p", at(), **volume("localhost/one:1"))
    assert node.exec("p", "readlink", "/v/out").stdout == "/etc\n"
    mount = {"name": "v", "mountPath": "/sub", "subPath": "out"}
    node.create("q", {"volumeMounts": [mount]}, **volume("localhost/one:1"))
    pod = node.until("q", lambda pod: "containerStatuses" in pod["status"] and failed_or_runs(pod))
    if "running" in pod["status"]["containerStatuses"][0]["state"]:
        assert "shadow" not in node.probe("q", "list", "/sub")


def failed_or_runs(pod: Json) -> bool:
    status = pod["status"]["containerStatuses"][0]
    return "running" in status["state"] or "terminated" in {
        **status["state"],
        **status.get("lastState", {}),
    }


def test_sub_path(node: Instance) -> None:
    one = {"name": "v", "mountPath": "/weights", "subPath": "model/weights"}
    two = {"name": "v", "mountPath": "/model", "subPath": "model"}
    node.start_pod("p", {"volumeMounts": [one, two]}, **volume("localhost/two:1"))
    assert node.probe("p", "read", "/weights") == {"text": "4 5 6"}
    assert set(node.probe("p", "list", "/model")) == {"weights"}
    assert node.probe("p", "write", "/weights", "x")["errno"] == errno.EROFS


def test_an_image_that_is_missing_is_said_at_once(node: Instance) -> None:
    with pytest.raises(
        MinipodError, match=r"spec.volumes\[0\].image.reference: image localhost/no:1"
    ):
        node.create("p", at(), **volume("localhost/no:1"))


def test_an_image_in_use_stays(node: Instance) -> None:
    node.start_pod("p", at(), **volume("localhost/two:1"))
    for force in (False, True):
        request = {"op": "rm", "references": ["localhost/two:1"], "force": force}
        with pytest.raises(MinipodError, match="delete those pods first"):
            node.call("image", request)
    assert node.probe("p", "read", "/v/model/weights") == {"text": "4 5 6"}


def test_the_files_stay_the_same_over_a_restart(node: Instance, tmp_path: Path) -> None:
    """Another image of that name is taken by the next pod, as with Kubernetes."""
    node.start_pod("p", at(), restartPolicy="Always", **volume("localhost/one:1"))
    load(node, tmp_path, {"localhost/one:1": ({"model/weights": b"other"},)})
    os.kill(node.pid("p"), signal.SIGKILL)
    node.until(
        "p",
        lambda pod: (
            (one := pod["status"]["containerStatuses"][0])["restartCount"] == 1
            and "running" in one["state"]
        ),
    )
    assert node.probe("p", "read", "/v/model/weights") == {"text": "1 2 3"}
    node.start_pod("q", at(), **volume("localhost/one:1"))
    assert node.probe("q", "read", "/v/model/weights") == {"text": "other"}
    load(node, tmp_path, {"localhost/one:1": IMAGES["localhost/one:1"]})


def test_the_plan_shows_it(node: Instance) -> None:
    path = node.write(
        "image.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"
        "  volumes: [{name: v, image: {reference: localhost/two:1}}]\n"
        "  containers: [{name: a, image: localhost/test:1,"
        " volumeMounts: [{name: v, mountPath: /v}]}]\n",
    )
    text = node.cli("plan", path).stdout
    assert re.search(r"fsmount overlay of 2 layer\(s\), read-only", text)


@requires("userns", "idmap")
def test_a_user_namespace(node: Instance) -> None:
    node.start_pod("p", at(), hostUsers=False, **volume("localhost/two:1"))
    assert node.probe("p", "read", "/v/model/weights") == {"text": "4 5 6"}
    assert node.probe("p", "stat", "/v/model/weights")["uid"] == 0
    assert node.probe("p", "write", "/v/new", "x")["errno"] == errno.EROFS
