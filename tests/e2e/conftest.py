# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry with real images, and a minipod that takes it for Docker Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from minipod.images.builder import BuiltImage
from tests import features
from tests.conftest import _instance
from tests.instance import Instance
from tests.registries import Registry, debian_registry

# The mirror is asked instead of docker.io, whatever the image's name says.
MIRROR = """
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "{host}"
"""


@pytest.fixture(scope="session")
def real_images() -> Mapping[str, BuiltImage]:
    """nginx, PostgreSQL, redis and python by ``name:tag``, made from Debian's packages."""
    if reason := features.missing("root", "overlay", "tool:mmdebstrap"):
        pytest.skip(reason)
    from tests.realimages.build import images

    return images()


@pytest.fixture(scope="session")
def hub(
    real_images: Mapping[str, BuiltImage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """Debian's registry with the real images, each as ``library/NAME`` with its tag and as ``latest``."""
    if reason := features.missing("tool:docker-registry"):
        pytest.skip(reason)
    with debian_registry(tmp_path_factory.mktemp("hub")) as registry:
        for reference, image in real_images.items():
            name, _, tag = reference.partition(":")
            for each in (tag, "latest"):
                registry.push(image, f"library/{name}", each)
        yield registry


def use_mirror(instance: Instance, registry: Registry) -> None:
    """Have *instance* ask *registry* for the images of Docker Hub."""
    directory = Path(instance.config.containers_dir)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "registries.conf").write_text(MIRROR.format(host=registry.host))


@pytest.fixture(scope="session")
def hub_instance(request: pytest.FixtureRequest, hub: Registry) -> Iterator[Instance]:
    """A minipod for all tests with real images: each is pulled once."""
    for instance in _instance(request, {}):
        use_mirror(instance, hub)
        yield instance


@pytest.fixture
def node(hub_instance: Instance) -> Iterator[Instance]:
    """The minipod for tests with real images; all that a test makes goes with it."""
    yield hub_instance
    for kind in ("pods", "configmaps", "secrets", "pvc", "pv"):
        hub_instance.cli("delete", kind, "--all", *(["--grace-period=0"] * (kind == "pods")))
