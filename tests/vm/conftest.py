# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of the tests in a virtual machine: the machine, and pods in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import features
from tests.conftest import Images
from tests.instance import TOP
from tests.vm import image, machine
from tests.vm.machine import SOURCES, Vm
from tests.vm.pods import NEEDED, SUITES, Run, get
from tests.vm.release import RELEASES

BUILDER = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the disks be built while the tests before ours run: most of it is waiting for packages.

    What goes wrong is not looked at here: who needs a disk builds it, or waits until it is built.
    """
    ours = [item for item in session.items if item.path.parent == Path(__file__).parent]
    if ours and len(ours) < len(session.items) and not features.missing(*NEEDED):
        session.config.stash[BUILDER] = subprocess.Popen(
            [sys.executable, "-m", "tests.vm.prepare", *SUITES],
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what still builds: the tests have been interrupted."""
    builder = config.stash.get(BUILDER, None)
    if builder is not None and builder.poll() is None:
        os.killpg(builder.pid, signal.SIGTERM)
        builder.wait()


@dataclass(frozen=True)
class Payload:
    """What is brought into each machine: a disk with minipod, and which images there are to load."""

    disk: Path
    archives: tuple[Path, ...]


@pytest.fixture(scope="session")
def payload(
    busybox_archive: Path,
    probe_program: Path,
    images: Images,
    image_maker: ModuleType,
    distributions: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Payload:
    """minipod, images, and the probe beside the sources."""
    entry, layer = image_maker.Entry, image_maker.layer
    lower = [layer([entry("where", 0o644, b"lowest\n"), entry("low", 0o644, b"low\n")])]
    lower += [layer([entry("where", 0o644, b"middle\n"), entry("middle", 0o644, b"middle\n")])]
    layers = images.probe("layers", {}, ("where", b"top\n", ""), layers=lower)
    archives = (busybox_archive, layers)
    disk = tmp_path_factory.mktemp("vm") / "payload.tar"
    machine.payload(disk, distributions[1], probe_program, *archives)
    return Payload(disk, archives)


@pytest.fixture(scope="session", params=SUITES[:1])
def vm(request: pytest.FixtureRequest, payload: Payload) -> Iterator[Vm]:
    """The machine, with images loaded."""
    booted = machine.boot(image.image(RELEASES[request.param]), payload.disk)
    try:
        for archive in payload.archives:
            booted.run("minipod", "image", "load", f"{SOURCES}/{archive.name}")
        yield booted
    finally:
        booted.stop()


@pytest.fixture
def run(vm: Vm) -> Iterator[Run]:
    """Makes pods and removes them at the end: ``run(name, *command, **container)`` returns the running pod.

    *spec* is for fields of the pod; containers in there come in place of the one that is described here.
    """
    made: list[str] = []

    def start(
        name: str, *command: str, spec: dict[str, Any] | None = None, **container: Any
    ) -> dict[str, Any]:
        made.append(name)
        box = {"name": "c", "image": "localhost/busybox:1", "command": command, **container}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
        manifest["spec"] = {"containers": [box], "restartPolicy": "Never", **(spec or {})}
        vm.sh('cat >"$1"; minipod run -d "$1"', f"/root/{name}.json", input=json.dumps(manifest))
        return get(vm, name)

    yield start
    for name in made:
        vm.run("minipod", "delete", "pod", name, "--grace-period=0", "--ignore-not-found")
