# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes that an image declares (``VOLUME`` of a Dockerfile): directories that each run has anew."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests import features
from tests.conftest import Images
from tests.features import requires
from tests.instance import Instance

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

IMAGE = "localhost/declares:1"
# As a hostile image would: out of the root, over what every container has, through a link, on a file.
DECLARED = ("/data", "made/up/", "../../x", "/", "/proc", "/dev/shm", "/out", "/file")
SEALED = {"readOnlyRootFilesystem": True}


@pytest.fixture(scope="module", params=["shared_instance", "fallback_instance"])
def loaded(request: pytest.FixtureRequest, images: Images) -> Instance:
    """An instance with the image, on a new kernel and on one before 6.5."""
    instance: Instance = request.getfixturevalue(request.param)
    files = (("data/seed", b"of the image", ""), ("file", b"text", ""), ("out", None, "../../etc"))
    config = {"Volumes": {path: {} for path in DECLARED}, "Cmd": ["report", "hold"]}
    instance.load(images.probe("declares", config, *files))
    return instance


@pytest.fixture
def node(loaded: Instance) -> Iterator[Instance]:
    yield loaded
    loaded.delete("p")


def start(node: Instance, security: dict[str, Any], **more: Any) -> None:
    mounts = more.pop("volumeMounts", [])
    one = {"image": IMAGE, "securityContext": security, "volumeMounts": mounts}
    node.start_pod("p", one, **more)


def written(node: Instance, path: str) -> Any:
    answer = node.probe("p", "write", path, "x")
    return answer.get("errno", answer.get("written"))


def test_they_can_be_written_below_a_read_only_root(node: Instance) -> None:
    before = set(os.listdir("/")), os.stat("/etc").st_mtime_ns
    start(node, SEALED)
    for path in ("/data/new", "/data/seed", "/made/up/new", "/x/new", "/etc/new", "/file"):
        assert written(node, path) == 1, path
    for path in ("/new", "/made/new", "/var"):
        assert written(node, path) == errno.EROFS, path
    types = {m["target"]: m["type"] for m in node.probe("p", "mounts")}
    assert {types[path] for path in ("/", "/data", "/made/up", "/x", "/etc")} == {"overlay"}
    assert (types["/proc"], types["/dev/shm"]) == ("proc", "tmpfs")
    assert (set(os.listdir("/")), os.stat("/etc").st_mtime_ns) == before


def test_each_run_has_its_own_with_what_the_image_has_there(node: Instance) -> None:
    start(node, {}, restartPolicy="Always")
    assert node.probe("p", "read", "/data/seed") == {"text": "of the image"}
    assert written(node, "/data/seed") == 1
    os.kill(node.pid("p"), signal.SIGKILL)
    node.until("p", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1)
    node.wait("p", "condition=Ready")
    assert node.probe("p", "read", "/data/seed") == {"text": "of the image"}


def test_what_the_manifest_mounts_is_on_top(node: Instance) -> None:
    mounts = [{"name": "v", "mountPath": "/data/"}, {"name": "v", "mountPath": "/made"}]
    start(node, SEALED, volumeMounts=mounts, volumes=[{"name": "v", "emptyDir": {}}])
    assert written(node, "/data/new") == 1
    assert set(node.probe("p", "list", "/made")) == {"new"}, "neither the image's nor a mount point"


def test_they_belong_to_the_pods_root_in_a_user_namespace(node: Instance) -> None:
    if reason := features.missing("userns", "idmap"):
        pytest.skip(reason)
    start(node, SEALED, hostUsers=False)
    assert written(node, "/data/new") == 1 and written(node, "/made/up/new") == 1
    for path in ("/data", "/data/new", "/made/up", "/made/up/new"):
        assert node.probe("p", "stat", path)["uid"] == 0, path
