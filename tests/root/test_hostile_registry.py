# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls from a registry that means harm, down to the store: what is there before is there after, and nothing else.

What single requests do has its tests in ``tests/unit/test_registry_hostile.py``.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from minipod.images import ImageStore, builder
from minipod.images.documents import OCI_INDEX, to_json
from minipod.images.platforms import host_platform
from minipod.images.registry.http import Patience
from minipod.images.registry.settings import Settings
from minipod.images.registry.source import Access
from tests.registries import FakeRegistry, Responder, Seen, fake_registry, send, token

pytestmark = pytest.mark.requires("root")

GOOD = builder.build_image([{"etc/motd": b"good"}])
IMAGE = builder.build_image([{"a": os.urandom(200_000)}, {"b": os.urandom(9)}, {"c": b"3"}])
LAYER = IMAGE.layers[0]
GIB = 1 << 30


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory: there a commit has no disk to wait for."""
    with tempfile.TemporaryDirectory(prefix="mpt-", dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        found.add(IMAGE)
        found.add(GOOD, "good")
        yield found


@pytest.fixture
def store(place: Path, fake: FakeRegistry) -> ImageStore:
    """A store that has an image already, of the same repository."""
    store = ImageStore(str(place / "store"))
    store.pull(f"{fake.host}/app:good", access(place))
    return store


def access(place: Path, auths: Sequence[Mapping[str, object]] = ()) -> Access:
    settings = Settings(str(place / "c"), str(place / "d"), str(place / "config.json"))
    patience = Patience(
        attempts=3, pause=0.01, connect=5, idle=1, window=0.5, slowest=4096, longest_pause=0.1
    )
    return Access(settings, auths, patience=patience)


def files(store: ImageStore) -> dict[str, bytes]:
    found = (path for path in Path(store.root).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in found}


def on(end: str, act: Responder) -> Responder:
    """Return a responder that does *act* where the path ends so."""
    return lambda handler, seen: seen.path.endswith(end) and act(handler, seen)


def answer(status: int, data: bytes = b"", **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, seen: send(handler, status, data, named)


def endless(piece: bytes, pause: float = 0, head: str = "") -> Responder:
    """Return what sends *piece* for ever."""

    def act(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Type", IMAGE.manifest.media_type)
        if head:
            handler.send_header("Content-Length", head)
        handler.end_headers()
        handler.close_connection = True
        while True:
            handler.wfile.write(piece)
            time.sleep(pause)

    return act


def silence(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
    time.sleep(3)
    handler.close_connection = True
    return True


HOSTILE: dict[str, tuple[Responder, str]] = {
    "manifest from a file": (
        on("/manifests/1", answer(302, Location="file:///etc/passwd")),
        "not an http or https address",
    ),
    "layer from a file": (
        on(LAYER.digest, answer(307, Location="file:///etc/shadow")),
        "not an http or https address",
    ),
    "layer from itself": (on(LAYER.digest, answer(301, Location="?")), "without an end"),
    "layer from a socket": (
        on(LAYER.digest, answer(302, Location="unix:///run/minipod/agent.sock")),
        "not an http or https address",
    ),
    "layer shorter": (on(LAYER.digest, answer(200, bytes(LAYER.size - 1))), "bytes instead of"),
    "layer longer": (on(LAYER.digest, answer(200, bytes(LAYER.size + 1))), "bytes instead of"),
    "layer without an end": (on(LAYER.digest, endless(bytes(1 << 16))), "longer than"),
    "layer of other bytes": (on(LAYER.digest, answer(200, bytes(LAYER.size))), "has the digest"),
    "layer that drips": (on(LAYER.digest, endless(b"x", 0.1, str(LAYER.size))), "registry"),
    "layer that is silent": (on(LAYER.digest, silence), "registry"),
    "config without an end": (on(IMAGE.config.digest, endless(bytes(1 << 16))), "longer than"),
    "manifest of a gigabyte": (
        on("/manifests/1", endless(b" " * 4096, 0.01, str(GIB))),
        "more than 4194304",
    ),
    "manifest without an end": (on("/manifests/1", endless(b" " * (1 << 16))), "more than 4194304"),
    "manifest of brackets": (
        on("/manifests/1", answer(200, b"[" * 200_000, Content_Type=IMAGE.manifest.media_type)),
        "manifest",
    ),
    "a storm": (lambda handler, seen: send(handler, 503), "answers with 503"),
    "a storm about a layer": (on(LAYER.digest, answer(500)), "answers with 500"),
    "too many requests": (lambda handler, seen: send(handler, 429), "429"),
    "too many requests for a layer": (on(LAYER.digest, answer(429)), "429"),
    "a layer that is gone": (on(LAYER.digest, answer(404)), "does not have it"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_comes_of_it(store: ImageStore, fake: FakeRegistry, place: Path, name: str) -> None:
    fake.respond, why = HOSTILE[name]
    before = files(store)
    with pytest.raises(MinipodError, match=why):
        store.pull(f"{fake.host}/app:1", access(place))
    assert files(store) == before
    fake.respond = lambda handler, seen: False
    assert store.pull(f"{fake.host}/app:1", access(place)).digest == IMAGE.manifest.digest


def test_a_storm_that_passes(store: ImageStore, fake: FakeRegistry, place: Path) -> None:
    """Every request fails once, and every layer breaks off once."""
    failed: set[str] = set()

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if seen.path not in failed:
            failed.add(seen.path)
            return send(handler, 503)
        if (broken := f"broken {seen.path}") not in failed and "/blobs/" in seen.path:
            failed.add(broken)
            data = fake.blobs[seen.path.rpartition("/")[2]]
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[: len(data) // 2])
            handler.close_connection = True
            return True
        return False

    fake.respond = respond
    image = store.pull(f"{fake.host}/app:1", access(place))
    assert image.digest == IMAGE.manifest.digest
    ranges = [seen.headers["Range"] for seen in fake.seen if "Range" in seen.headers]
    assert f"bytes={LAYER.size // 2}-" in ranges, "it goes on where it broke off"


def test_layers_of_another_host_are_asked_for_by_nobody(
    store: ImageStore, fake: FakeRegistry, place: Path
) -> None:
    with fake_registry() as other:
        other.add(IMAGE)

        def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
            if "Authorization" not in seen.headers:
                return send(handler, 401, b"", {"WWW-Authenticate": "Basic realm=x"})
            there = f"http://{other.host}{seen.path}"
            return "/blobs/" in seen.path and send(handler, 307, b"", {"Location": there})

        fake.respond = respond
        auths = ({"auths": {fake.host: {"auth": token()}, other.host: {"auth": token("x")}}},)
        image = store.pull(f"{fake.host}/app:1", access(place, auths))
        assert image.digest == IMAGE.manifest.digest
        assert len(other.seen) == 4
        assert not any("Authorization" in seen.headers for seen in other.seen)


def test_a_tag_that_is_another_each_time(
    store: ImageStore, fake: FakeRegistry, place: Path
) -> None:
    """What is in the store then is one of them, whole."""
    images = [builder.build_image([{"n": str(n).encode()}, {"same": b""}]) for n in range(4)]
    for image in images:
        fake.add(image, image.manifest.digest)
    turn = iter(range(99))

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if seen.path.endswith("/manifests/1"):
            image = images[next(turn) % len(images)]
            data = image.blobs[image.manifest.digest]
            return send(handler, 200, data, {"Content-Type": image.manifest.media_type})
        return False

    fake.respond = respond
    for _ in range(3):
        pulled = store.pull(f"{fake.host}/app:1", access(place))
        number = [image.manifest.digest for image in images].index(pulled.digest)
        assert Path(pulled.layers[0], "n").read_bytes() == str(number).encode()


def test_an_index_that_leads_to_another_manifest(
    store: ImageStore, fake: FakeRegistry, place: Path
) -> None:
    words = {"os": host_platform().os, "architecture": host_platform().architecture}
    manifests = [{**IMAGE.manifest.to_json(), "platform": words}]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    fake.manifests["1"] = OCI_INDEX, to_json(document)
    media_type, _ = fake.manifests[IMAGE.manifest.digest]
    fake.manifests[IMAGE.manifest.digest] = media_type, GOOD.blobs[GOOD.manifest.digest]
    before = files(store)
    with pytest.raises(MinipodError, match=r"bytes instead of|is longer than|has the digest"):
        store.pull(f"{fake.host}/app:1", access(place))
    assert files(store) == before
