# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod graph`` draws what the kernel has; ``docs/images`` is what it draws of the examples.

``MINIPOD_WRITE_IMAGES=1`` writes those files instead of comparing them.
"""

from __future__ import annotations

import os
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minipod.cli.graphdata import Machine, picture
from minipod.graph.model import Container, Picture, Pod, Process
from minipod.graph.svg import svg
from tests.features import requires
from tests.instance import TOP, Instance
from tests.node import init, pause
from tests.patience import patience

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth")

IMAGES = TOP / "docs/images"
EXAMPLES = ("web", "share-processes")
PATIENCE = patience(30)


@pytest.fixture(scope="module")
def there(shared_instance: Instance, busybox_archive: Path) -> Iterator[Instance]:
    """An instance in which the examples run."""
    shared_instance.load(busybox_archive)
    for name in EXAMPLES:
        shared_instance.cli("run", "-d", TOP / f"examples/{name}.yaml")
    yield shared_instance
    shared_instance.delete(*EXAMPLES)


def draw(instance: Instance, *names: str) -> Picture:
    """Return the picture of pods as it would be on any machine, once the last of their containers does its work."""
    end = time.monotonic() + PATIENCE
    while True:
        found = normal(picture([instance.pod(name) for name in names], instance.config, Machine()))
        commands = [p.command for each in found.pods for c in each.containers for p in c.processes]
        if "sleep infinity" in commands or names == ("web",):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def normal(found: Picture) -> Picture:
    """Return *found* with what differs from machine to machine, and from moment to moment, made alike."""
    numbers = iter(range(4101, 5000))
    inodes: dict[str, str] = {}

    def same(namespaces: dict[str, str]) -> dict[str, str]:
        return {
            kind: inodes.setdefault(inode, str(4026532201 + len(inodes)))
            for kind, inode in namespaces.items()
            if kind != "time"
        }

    def process(each: Process, place: int) -> Process:
        return replace(each, pid=place, host_pid=next(numbers))

    def inner(each: Container, shared: bool) -> Container:
        # What the shells of the examples start comes and goes.
        lasting = [p for p in each.processes if p.depth == 0]
        start = next(numbers) - 4100 if shared else 1
        return replace(
            each,
            namespaces=same(each.namespaces),
            processes=tuple(process(p, start + i) for i, p in enumerate(lasting)),
        )

    def outer(each: Pod, place: int) -> Pod:
        return replace(
            each,
            pause=next(numbers),
            namespaces=same(each.namespaces),
            address=f"10.99.0.{place}",
            link=f"mp0a6300{place:02x}",
            containers=tuple(inner(c, "pid" in each.namespaces) for c in each.containers),
        )

    pods = tuple(outer(each, 2 + i) for i, each in enumerate(found.pods))
    return Picture("node", "minipod0", "10.99.0.1/16", "minipod", pods)


@pytest.mark.parametrize(("file", "names"), [("web", ("web",)), ("pods", EXAMPLES[::-1])])
def test_the_images_of_the_docs(there: Instance, file: str, names: tuple[str, ...]) -> None:
    made = svg(draw(there, *names))
    path = IMAGES / f"{file}.svg"
    if os.environ.get("MINIPOD_WRITE_IMAGES") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(made)
    assert made == path.read_text(), f"MINIPOD_WRITE_IMAGES=1 writes {path} anew"


def test_it_shows_what_the_kernel_has(there: Instance) -> None:
    pod = there.pod("web")
    found = picture([pod], there.config, Machine()).pods[0]
    first = init(there, pod, "server")
    assert found.pause == pause(there, pod)
    assert found.containers[0].processes[0] == Process(1, first, "httpd -f -v -p 8080 -h /site")
    for kind in ("net", "uts", "ipc"):
        assert os.readlink(f"/proc/{first}/ns/{kind}") == f"{kind}:[{found.namespaces[kind]}]"
    for kind in ("pid", "mnt", "cgroup"):
        own = found.containers[0].namespaces[kind]
        assert os.readlink(f"/proc/{first}/ns/{kind}") == f"{kind}:[{own}]"
    assert "user" not in found.namespaces and "user" not in found.containers[0].namespaces
    assert os.path.exists(f"/sys/class/net/{found.link}/master")
    assert (
        os.path.basename(os.readlink(f"/sys/class/net/{found.link}/master")) == there.config.bridge
    )


def test_each_format(there: Instance) -> None:
    shown = there.cli("graph", "web").stdout
    assert shown.startswith("┌─ pod default/web ") and "│ ┌─ server ─" in shown
    assert (
        there.cli("graph", "pod/web", "-o", "text").stdout.splitlines()[0] == shown.splitlines()[0]
    )
    assert ET.fromstring(there.cli("graph", "web", "-o", "svg").stdout).tag.endswith("}svg")
    assert there.cli("graph", "-o", "html").stdout.startswith("<!DOCTYPE html>")
    assert there.cli("graph", "web", "-o", "dot").stdout.startswith("digraph minipod {\n")
    made = there.cli("graph", "-A", "-o", "mermaid").stdout
    assert made.startswith("flowchart TB\n") and len(re.findall(r"subgraph p\d", made)) == 2


def test_what_is_not_there(there: Instance) -> None:
    done = there.cli("graph", "nosuch", check=False)
    assert done.returncode == 1 and "nosuch not found" in done.stderr
    assert there.cli("graph", "web", "-o", "png", check=False).returncode == 2
    assert "No resources found" in there.cli("graph", "-n", "empty").stderr
