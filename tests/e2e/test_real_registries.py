# SPDX-License-Identifier: GPL-3.0-or-later
"""Real images from registries: short names, shared layers, secrets, platforms, and registries that come and go."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from minipod.images import builder
from minipod.images.builder import BuiltImage
from minipod.images.platforms import Platform, host_platform
from tests.e2e.user import Json, create, manifest, pod
from tests.instance import Instance
from tests.registries import Registry, debian_registry, free_port, token

pytestmark = pytest.mark.requires("tool:docker-registry", "tool:mmdebstrap", "tool:openssl")

SMALL = re.compile(
    r"etc(/(passwd|group|debian_version))?|usr|(usr/)?(bin|lib|lib64)|usr/bin/(cat|id)"
    r"|usr/lib/[^/]*-linux-gnu(/(ld-|libc\.|libselinux|libpcre2)[^/]*)?|(usr/)?lib64/[^/]*"
)
VERSION = ["python3", "-c", "import sys; print('python', sys.version.split()[0])"]


def says_its_version(name: str, image: str, **spec: Any) -> Json:
    return pod(name, {"name": "c", "image": image, "command": VERSION}, **spec)


def waiting(found: Json) -> str:
    """Return why the first container of a pod waits."""
    statuses = found["status"].get("containerStatuses") or [{}]
    state: Json = statuses[0].get("state", {}).get("waiting") or {}
    return str(state.get("reason"))


def reasons(node: Instance, name: str) -> list[str]:
    return [event["reason"] for event in node.events(name)]


def test_short_names_and_shared_layers(
    node: Instance, real_images: Mapping[str, BuiltImage]
) -> None:
    """``image: redis`` is docker.io/library/redis:latest; layers that images share are there once."""
    made = pod("short", {"name": "c", "image": "redis", "command": ["redis-server", "--version"]})
    assert "Redis server v=7." in node.cli("run", "--rm", "-", input=manifest(made)).stdout
    node.cli("image", "pull", "nginx:1.22")
    wanted = {"docker.io/library/redis:latest", "docker.io/library/nginx:1.22"}
    assert wanted <= set(node.cli("image", "ls", "-o", "name").stdout.split())
    layers = Path(node.config.root_dir, "images", "layers")
    kept = {layer for image in real_images.values() for layer in image.diff_ids}
    names = [path.name for path in layers.iterdir()]
    assert len(names) <= len(kept), "more than the layers of all images"
    base = real_images["debian:12"].diff_ids[0].removeprefix("sha256:")
    assert sum(base in name for name in names) == 1


@pytest.fixture(scope="module")
def private(
    real_images: Mapping[str, BuiltImage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """A registry with a certificate of its own making, for those who log in; it has ``team/python``.

    Under ``1`` there is an index: this machine's image, and another one's.
    """
    directory = tmp_path_factory.mktemp("private")
    with debian_registry(directory, tls=True, users=True) as registry:
        foreign = "arm64" if host_platform().architecture == "amd64" else "amd64"
        other = Platform("linux", foreign, "")
        strange = builder.build_image([{"strange": b"not for here"}], platform=other)
        both = {other: strange, host_platform(): real_images["python:3.11"]}
        registry.push_index(both, "team/python", "1")
        yield registry


def trust(node: Instance, registry: Registry) -> None:
    """Put the registry's certificate where Podman and Docker look for it."""
    assert registry.ca
    directory = Path(node.config.containers_dir, "certs.d", registry.host)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ca.crt").write_bytes(registry.ca.read_bytes())


def pull_secret(registry: Registry) -> Json:
    document = json.dumps({"auths": {registry.host: {"auth": token()}}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(document.encode()).decode()},
    }


def test_a_private_registry(
    node: Instance, private: Registry, real_images: Mapping[str, BuiltImage]
) -> None:
    """Its certificate must be trusted, the pod must have a secret; then the image of this platform is taken."""
    reference = f"{private.host}/team/python:1"
    create(node, says_its_version("untrusted", reference))
    node.until("untrusted", lambda it: waiting(it) in ("ErrImagePull", "ImagePullBackOff"))
    assert "certificate" in str(node.events("untrusted"))
    node.delete("untrusted")
    trust(node, private)
    create(node, says_its_version("unknown", reference))
    node.until("unknown", lambda it: waiting(it) in ("ErrImagePull", "ImagePullBackOff"))
    assert "wants to know who asks" in str(node.events("unknown"))
    node.delete("unknown")
    made = says_its_version("known", reference, imagePullSecrets=[{"name": "registry"}])
    text = manifest(pull_secret(private), made)
    assert "python 3.11" in node.cli("run", "-", input=text, timeout=120).stdout
    digest = real_images["python:3.11"].config.digest
    assert node.container("known", "c")["imageID"] == digest


def test_a_pinned_digest(
    node: Instance, hub: Registry, real_images: Mapping[str, BuiltImage]
) -> None:
    """By digest, with the tag only for the reader; another digest is not there, whatever the tag."""
    digest = real_images["python:3.11"].manifest.digest
    pinned = f"python:3.11@{digest}"
    done = node.cli("run", "--rm", "-", input=manifest(says_its_version("pinned", pinned)))
    assert "python 3.11" in done.stdout
    wrong = f"{hub.host}/library/python:3.11@sha256:{'0' * 64}"
    create(node, says_its_version("wrong", wrong))
    node.until("wrong", lambda it: waiting(it) in ("ErrImagePull", "ImagePullBackOff"))


def test_a_registry_that_comes_back(
    node: Instance, real_images: Mapping[str, BuiltImage], tmp_path: Path
) -> None:
    """While it is down the pod waits with Kubernetes' reasons; when it is back, the next attempt starts the pod."""
    port = free_port()
    with debian_registry(tmp_path / "registry", port=port) as registry:
        reference = registry.push(real_images["redis:7"], "team/redis", "7")
    container = {"name": "c", "image": reference, "command": ["redis-server", "--version"]}
    create(node, pod("patient", container))
    node.until("patient", lambda it: waiting(it) == "ErrImagePull")
    node.until("patient", lambda it: waiting(it) == "ImagePullBackOff")
    seen = reasons(node, "patient")
    assert seen[:4] == ["Pulling", "Failed", "Failed", "BackOff"], seen
    assert "connection refused" in node.events("patient")[1]["message"]
    with debian_registry(tmp_path / "registry", port=port):
        node.until("patient", lambda it: it["status"]["phase"] == "Succeeded", timeout=60)
    assert "Pulled" in reasons(node, "patient")
    assert "Redis server v=7." in node.output("patient")


def small_debian(debian: BuiltImage, path: Path) -> Path:
    """Write what ``cat`` and ``id`` need of Debian into a tar."""
    layer = io.BytesIO(gzip.decompress(debian.blobs[debian.layers[0].digest]))
    with tarfile.open(fileobj=layer) as whole, tarfile.open(path, "w") as small:
        for member in whole:
            if SMALL.fullmatch(member.name.removeprefix("./")):
                small.addfile(member, whole.extractfile(member) if member.isreg() else None)
    return path


def test_an_image_of_ones_own(
    node: Instance, hub: Registry, real_images: Mapping[str, BuiltImage], tmp_path: Path
) -> None:
    """A root file system becomes an image, goes to the registry, and comes back for a pod."""
    root = small_debian(real_images["debian:12"], tmp_path / "root.tar")
    options = ("--cmd", "cat /etc/debian_version", "--user", "backup", "--env", "LC_ALL=C.UTF-8")
    node.cli("image", "from-dir", root, "localhost/own:1", *options)
    node.cli("image", "push", "localhost/own:1", f"{hub.host}/library/own:1")
    node.cli("image", "rm", "localhost/own:1")
    made = pod("own", {"name": "c", "image": "own:1"}, securityContext={"runAsGroup": 34})
    assert node.cli("run", "--rm", "-", input=manifest(made)).stdout.startswith("[c] 12.")
    made = pod("whoami", {"name": "c", "image": "own:1", "command": ["id"]})
    said = node.cli("run", "--rm", "-", input=manifest(made)).stdout
    assert said.startswith("[c] uid=34(backup) gid=34(backup)"), said
    assert "docker.io/library/own:1" in node.cli("image", "ls", "-o", "name").stdout
