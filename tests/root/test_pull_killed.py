# SPDX-License-Identifier: GPL-3.0-or-later
"""A pull that is killed, at points that are named and at any others: the store is as before or has the image whole.

What the killed one has left is found and removed, and the next pull does not stumble over it.
"""

from __future__ import annotations

import glob
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from minipod.images import ImageStore, builder
from minipod.images.registry.settings import Settings
from minipod.images.registry.source import Access
from tests.patience import patience
from tests.registries import FakeRegistry, Seen, fake_registry

pytestmark = pytest.mark.requires("root")

SHARED: dict[str, builder.Entry] = {"shared": b"1"}
THERE = builder.build_image([SHARED])
REST = os.urandom(1 << 20)
IMAGE = builder.build_image([SHARED, {"first": b"2", "rest": REST}, {"c": b"3"}])
CONTENT = {"shared": b"1", "rest": REST, "c": b"3"}  # of each layer
ENDED = 9
CALLS = ("rename", "mkdir", "fsync", "unlink", "rmdir")

# The loader, which ends before its nth call of one of CALLS, as by SIGKILL: that it may send to nobody, not to itself.
KILLED = """
import os, sys
from minipod.images import loader
left, lock = int(sys.argv[1]), __import__("threading").Lock()
def traced(name):
    real = getattr(os, name)
    def call(*args, **more):
        global left
        with lock:
            left -= 1
            if left == 0:
                os._exit(9)
        return real(*args, **more)
    setattr(os, name, call)
for name in sys.argv[2:]:
    traced(name)
sys.exit(loader.main())
"""


class Place:
    """A store that has one image, and a registry with another, of which it has a layer."""

    def __init__(self, top: Path, fake: FakeRegistry) -> None:
        self.fake = fake
        self.store = ImageStore(str(top / "store"))
        self.settings = {
            "containers_dir": str(top / "c"),
            "docker_dir": str(top / "d"),
            "docker_config": str(top / "config.json"),
        }
        fake.add(THERE, "there")
        fake.add(IMAGE, "new")
        self.reference = f"{fake.host}/app:new"
        self.pull("there")
        self.before = self.files()

    def pull(self, tag: str) -> None:
        """Pull without being killed."""
        self.store.pull(f"{self.fake.host}/app:{tag}", Access(Settings(**self.settings)))

    def files(self) -> dict[str, list[str]]:
        """Return what lies in the store's directories."""
        names = ("tmp", "blobs/sha256", "layers")
        return {name: sorted(os.listdir(f"{self.store.root}/{name}")) for name in names}

    def start(self, nth: int = 0) -> subprocess.Popen[bytes]:
        """Start a loader that pulls; with *nth*, it kills itself."""
        command = [sys.executable, "-c", KILLED, str(nth), *CALLS]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        request = {"root": self.store.root, "reference": self.reference, "auths": []}
        assert process.stdin
        line = json.dumps({**request, "settings": self.settings, "proxies": {}}).encode()
        process.stdin.write(line + b"\n")
        process.stdin.close()
        return process

    def check(self) -> bool:
        """See that nothing is half there; return whether the image is, and remove it."""
        fresh = ImageStore(self.store.root)
        image = fresh.get(self.reference)
        references = [name for each in fresh.list() for name in each.references]
        assert references == [*([image.reference] if image else []), self.there]
        fresh.sweep()
        if image is None:
            assert self.files() == self.before
            self.fake.respond = lambda handler, seen: False
            self.pull("new")
        again = fresh.get(self.reference)
        assert again
        for layer, (name, data) in zip(again.layers, CONTENT.items(), strict=True):
            assert Path(layer, name).read_bytes() == data
        fresh.sweep()
        blobs = {*IMAGE.blobs, *THERE.blobs}
        assert self.files() == {
            "tmp": [],
            "blobs/sha256": sorted(digest[7:] for digest in blobs),
            "layers": sorted(digest[7:] for digest in IMAGE.diff_ids),
        }
        fresh.remove(self.reference)
        assert self.files() == self.before
        return image is not None

    @property
    def there(self) -> str:
        return f"{self.fake.host}/app:there"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with (
        tempfile.TemporaryDirectory(prefix="mpt-", dir="/dev/shm") as name,
        fake_registry() as fake,
    ):
        yield Place(Path(name), fake)


def test_before_any_change_that_it_makes(place: Place) -> None:
    """Killed before its first, second … call that changes the file system, until it is never killed."""
    outcomes = []
    for nth in range(1, 100):
        with place.start(nth) as process:
            process.wait(patience(60))
        assert process.returncode in (0, ENDED)
        outcomes.append((process.returncode, place.check()))
        if process.returncode == 0:
            break
    assert outcomes[-1] == (0, True)
    assert (ENDED, False) in outcomes and (ENDED, True) in outcomes
    there = [is_there for _, is_there in outcomes]
    assert there == sorted(there), "the image comes in one instant"


@pytest.mark.parametrize("point", ["download", "unpacking"])
def test_in_the_middle_of_a_layer(place: Place, point: str) -> None:
    sent, go = threading.Event(), threading.Event()

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if not seen.path.endswith(IMAGE.layers[1].digest):
            return False
        data = IMAGE.blobs[IMAGE.layers[1].digest]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: 100 if point == "download" else len(data) // 2])
        sent.set()
        go.wait(patience(30))
        return True

    place.fake.respond = respond
    with place.start() as process:
        assert sent.wait(patience(30))
        end = time.monotonic() + patience(20)
        while point == "unpacking" and not glob.glob(f"{place.store.root}/tmp/*/*/first"):
            assert time.monotonic() < end, "it is not unpacked while it comes"
            time.sleep(0.01)
        process.kill()
    go.set()
    assert place.files()["tmp"] != []
    assert not place.check()


def test_at_random_times(place: Place) -> None:
    start = time.monotonic()
    with place.start() as process:
        pass
    assert process.returncode == 0 and place.check()
    took = time.monotonic() - start
    chance = random.Random()
    moments = [chance.uniform(0.3, 1) * took for _ in range(8)]
    for moment in moments:
        with place.start() as process:
            time.sleep(moment)
            process.kill()
        place.check()


def test_two_at_once_of_which_one_is_killed(place: Place) -> None:
    asked, go = threading.Event(), threading.Event()

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if seen.path.endswith(IMAGE.layers[1].digest):
            asked.set()
            go.wait(patience(30))
        return False

    place.fake.respond = respond
    with place.start() as killed, place.start() as living:
        assert asked.wait(patience(30))
        killed.kill()
        killed.wait()
        place.store.sweep()  # while the other is at work
        go.set()
    assert living.returncode == 0
    assert place.check()
