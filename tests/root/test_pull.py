# SPDX-License-Identifier: GPL-3.0-or-later
"""The store and registries: what a pull leaves behind when it works, when it fails, and when it is killed."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images import ImageStore, builder
from minipod.images.documents import Descriptor, digest_of, to_json
from minipod.images.platforms import Platform, host_platform
from minipod.images.registry.http import Patience
from minipod.images.registry.settings import Settings
from minipod.images.registry.source import Access
from tests.patience import patience
from tests.registries import FakeRegistry, Registry, Seen, debian_registry, fake_registry, token

pytestmark = pytest.mark.requires("root", "tool:docker-registry", "tool:openssl")

LAYERS: list[builder.Layer] = [
    {"a": os.urandom(300_000)},
    {"b/c": b"2"},
    {"b/.wh.c": b"", "d": b"3"},
    {"e": b"4"},
]
IMAGE = builder.build_image(LAYERS)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"))


@pytest.fixture
def access(tmp_path: Path) -> Access:
    settings = Settings(str(tmp_path / "c"), str(tmp_path / "d"), str(tmp_path / "config.json"))
    return Access(settings, patience=Patience(attempts=2, pause=0.01, connect=5, idle=5))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        found.add(IMAGE)
        yield found


def rest(store: ImageStore) -> dict[str, list[str]]:
    """Return what lies in the store's directories."""
    names = ("tmp", "blobs/sha256", "layers")
    return {name: sorted(os.listdir(f"{store.root}/{name}")) for name in names}


NOTHING: dict[str, list[str]] = {"tmp": [], "blobs/sha256": [], "layers": []}


@pytest.mark.parametrize("kind", ["plain", "tls", "users"])
def test_from_debians_registry(
    store: ImageStore, access: Access, tmp_path: Path, kind: str
) -> None:
    directory = tmp_path / "registry"
    with debian_registry(directory, tls=kind != "plain", users=kind == "users") as registry:
        reference = registry.push(IMAGE, "team/app", "1")
        if registry.ca:
            certs = Path(access.settings.docker_dir, "certs.d", registry.host)
            certs.mkdir(parents=True)
            (certs / "ca.crt").write_bytes(registry.ca.read_bytes())
        if kind == "users":
            with pytest.raises(MinipodError, match="wants to know who asks"):
                store.pull(reference, access)
            assert rest(store) == NOTHING
            auths = {"auths": {registry.host: {"auth": token()}}}
            Path(access.settings.docker_config).write_text(json.dumps(auths))
        steps: list[dict[str, object]] = []
        image = store.pull(reference, access, progress=steps.append)
        assert (image.reference, image.digest) == (reference, IMAGE.manifest.digest)
        assert Path(image.layers[0], "a").read_bytes() == LAYERS[0]["a"]  # type: ignore[index]
        assert {step["layer"] for step in steps} == {layer.digest for layer in IMAGE.layers}
        assert {"downloading", "unpacking", "done"} <= {step["status"] for step in steps}
        steps.clear()
        assert store.pull(reference, access, progress=steps.append) == image
        assert steps == []
        with pytest.raises(NotFound, match="does not have it"):
            store.pull(f"{registry.host}/team/none", access)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def test_indexes(store: ImageStore, access: Access, registry: Registry) -> None:
    other = Platform("linux", "s390x", "")
    theirs = builder.build_image([{"z": b"z"}], platform=other)
    digest = registry.push_index({host_platform(): IMAGE, other: theirs}, "multi", "1")
    reference = f"{registry.host}/multi:1"
    assert store.pull(reference, access).digest == IMAGE.manifest.digest
    by_digest = f"{registry.host}/multi@{digest}"
    assert store.pull(by_digest, access).digest == IMAGE.manifest.digest
    assert store.get(by_digest)
    steps: list[dict[str, object]] = []
    store.pull(reference, access, progress=steps.append)
    assert steps == [], "the index is the same"
    assert store.pull(reference, access, platform="linux/s390x").architecture == "s390x"
    assert store.pull(reference, access).digest == IMAGE.manifest.digest


def test_a_tag_that_moves(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    reference = f"{fake.host}/app:1"
    first = store.pull(reference, access)
    newer = builder.build_image([*LAYERS, {"new": b"5"}])
    fake.add(newer)
    fake.seen.clear()
    assert store.pull(reference, access).digest == newer.manifest.digest
    fetched = {path.rpartition("/")[2] for path in fake.paths() if "/blobs/" in path}
    assert fetched == {newer.config.digest, newer.layers[-1].digest}, "the rest is here"
    kept = store.get(first.digest)
    assert kept and kept.references == (), "a pod may run from it"


def test_names_of_this_machine(store: ImageStore, access: Access) -> None:
    with pytest.raises(NotFound, match="names images of this machine"):
        store.pull("localhost/app", access)


@pytest.mark.parametrize("number", range(4))
def test_a_layer_of_another_digest(
    store: ImageStore, access: Access, fake: FakeRegistry, number: int
) -> None:
    layer = IMAGE.layers[number]
    fake.blobs[layer.digest] = bytes(layer.size)
    with pytest.raises(UsageError, match="has the digest sha256"):
        store.pull(f"{fake.host}/app:1", access)
    assert rest(store) == NOTHING and store.list() == []


def test_a_layer_that_is_missing(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    del fake.blobs[IMAGE.layers[2].digest]
    with pytest.raises(MinipodError, match="does not have it"):
        store.pull(f"{fake.host}/app:1", access)
    assert rest(store) == NOTHING and store.list() == []


def test_layers_come_side_by_side(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    together = threading.Barrier(3)

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if any(seen.path.endswith(layer.digest) for layer in IMAGE.layers[:3]):
            together.wait(patience(20))  # nobody goes on before all are asked for
        return False

    fake.respond = respond
    assert store.pull(f"{fake.host}/app:1", access).digest == IMAGE.manifest.digest


def test_a_layer_is_unpacked_while_it_comes(
    store: ImageStore, access: Access, fake: FakeRegistry
) -> None:
    """The rest of the layer is sent when the file at its beginning is there."""
    image = builder.build_image([{"first": b"1" * 1000, "rest": os.urandom(2 << 20)}])
    fake.add(image)
    seen_first: list[bool] = []

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if not seen.path.endswith(image.layers[0].digest):
            return False
        data = image.blobs[image.layers[0].digest]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        seen_first.append(until(lambda: glob.glob(f"{store.root}/tmp/*/*/first")))
        handler.wfile.write(data[len(data) // 2 :])
        return True

    fake.respond = respond
    assert store.pull(f"{fake.host}/app:1", access).digest == image.manifest.digest
    assert seen_first == [True]


def until(holds: Callable[[], object], seconds: float = 20) -> bool:
    """Wait until *holds* gives something; return whether it did."""
    end = time.monotonic() + patience(seconds)
    while not (found := bool(holds())) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def test_a_layer_that_is_there_twice(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    image = builder.build_image([{"a": b"1"}, {"b": b"2"}, {"a": b"1"}])
    fake.add(image)
    pulled = store.pull(f"{fake.host}/app:1", access)
    assert len(pulled.layers) == 2 and Path(pulled.layers[-1], "a").read_bytes() == b"1"
    asked = [path.rpartition("/")[2] for path in fake.paths() if "/blobs/" in path]
    assert sorted(asked) == sorted({image.config.digest, *(x.digest for x in image.layers)})


def test_an_image_does_not_borrow_the_layer_of_another(
    store: ImageStore, access: Access, fake: FakeRegistry
) -> None:
    """Its digest says nothing about its content: that comes only with the blob."""
    private, public = builder.build_image([{"secret": b"s"}]), builder.build_image([{"p": b"p"}])
    for tag, image in (("private", private), ("public", public)):
        fake.add(image, tag)
        store.pull(f"{fake.host}/app:{tag}", access)
    config = json.loads(public.blobs[public.config.digest])
    config["rootfs"]["diff_ids"] = list(private.diff_ids)
    thief = with_config(public, config)
    fake.add(thief, "thief")
    before = rest(store)
    with pytest.raises(UsageError, match="but the config says"):
        store.pull(f"{fake.host}/app:thief", access)
    assert rest(store) == before
    fake.add(with_config(public, {**json.loads(public.blobs[public.config.digest]), "x": 1}), "new")
    fake.seen.clear()
    steps: list[dict[str, object]] = []
    store.pull(f"{fake.host}/app:new", access, progress=steps.append)
    assert [step["status"] for step in steps] == ["present"], "it is known what that blob is"


def with_config(image: builder.BuiltImage, config: dict[str, Any]) -> builder.BuiltImage:
    """Return *image* with another config."""
    data = to_json(config)
    described = Descriptor(image.config.media_type, digest_of(data), len(data))
    manifest = json.loads(image.blobs[image.manifest.digest])
    manifest["config"] = described.to_json()
    document = to_json(manifest)
    named = Descriptor(image.manifest.media_type, digest_of(document), len(document))
    blobs = {**image.blobs, described.digest: data, named.digest: document}
    return replace(image, manifest=named, config=described, blobs=blobs)


def holding(fake: FakeRegistry) -> tuple[threading.Event, threading.Event]:
    """Have *fake* hold the first layer back; return what says that it is asked for, and what lets it go."""
    asked, go = threading.Event(), threading.Event()

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if seen.path.endswith(IMAGE.layers[0].digest):
            asked.set()
            go.wait(patience(30))
        return False

    fake.respond = respond
    return asked, go


def loader(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "minipod.images.loader"]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdin
    started.stdin.write(json.dumps(request).encode() + b"\n")
    started.stdin.close()
    return started


def request(store: ImageStore, reference: str, tmp_path: Path) -> dict[str, Any]:
    settings = {
        "containers_dir": str(tmp_path / "c"),
        "docker_dir": str(tmp_path / "d"),
        "docker_config": str(tmp_path / "config.json"),
    }
    return {
        "root": store.root,
        "reference": reference,
        "settings": settings,
        "auths": [],
        "proxies": {},
    }


def test_a_killed_pull(store: ImageStore, fake: FakeRegistry, tmp_path: Path) -> None:
    asked, go = holding(fake)
    with loader(request(store, f"{fake.host}/app:1", tmp_path)) as process:
        assert asked.wait(patience(20))
        process.send_signal(signal.SIGKILL)
    go.set()
    assert store.list() == [] and rest(store)["tmp"] != []
    store.sweep()
    assert rest(store) == NOTHING


def test_what_a_pulling_loader_keeps(store: ImageStore, fake: FakeRegistry, tmp_path: Path) -> None:
    asked, go = holding(fake)
    with loader(request(store, f"{fake.host}/app:1", tmp_path)) as process:
        assert asked.wait(patience(20))
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        same = os.readlink(f"/proc/{process.pid}/ns/ipc") == os.readlink("/proc/self/ns/ipc")
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        masks = set()
        for task in tasks:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
                masks.add(_capabilities(task / "status"))
        go.set()
        assert process.stdout
        messages = [json.loads(line) for line in process.stdout]
    assert messages[-1] == {
        "done": [f"{fake.host}/app:1"],
        "images": [IMAGE.manifest.digest],
    }
    assert status["NoNewPrivs"] == "1" and not same
    net_admin, setuid, ptrace = 12, 7, 19
    for mask in masks:
        assert not any(mask >> number & 1 for number in (net_admin, setuid, ptrace))


def _capabilities(status: Path) -> int:
    lines = status.read_text().splitlines()
    return int(next(line for line in lines if line.startswith("CapPrm")).split()[1], 16)
