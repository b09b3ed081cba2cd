# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushing: what a registry has afterwards is what the store has; what a registry can do to whoever pushes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images import ImageStore, builder
from minipod.images.documents import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    Descriptor,
    digest_of,
    to_json,
)
from minipod.images.registry import upload
from minipod.images.registry.http import Patience
from minipod.images.registry.settings import Settings
from minipod.images.registry.source import Access
from tests.registries import (
    FakeRegistry,
    Seen,
    debian_registry,
    fake_registry,
    make_certificate,
    send,
    token,
)

pytestmark = pytest.mark.requires("root", "tool:docker-registry", "tool:openssl")

NAME = "localhost/app:1"
BIG = os.urandom(1_000_000)
IMAGE = builder.build_image([{"a": BIG}, {"b/c": b"2"}, {"d": b"3"}], {"Cmd": ["/a"]})
BIG_LAYER = IMAGE.layers[0]


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    store = ImageStore(str(tmp_path / "store"))
    builder.write_archive(tmp_path / "a.tar", builder.oci_files({NAME: IMAGE}))
    store.load(str(tmp_path / "a.tar"))
    return store


@pytest.fixture
def access(tmp_path: Path) -> Access:
    settings = Settings(str(tmp_path / "c"), str(tmp_path / "d"), str(tmp_path / "config.json"))
    patience = Patience(attempts=3, pause=0.01, connect=5, idle=5, window=5, longest_pause=0.1)
    return Access(settings, patience=patience)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


def log_in(access: Access, host: str) -> None:
    document = {"auths": {host: {"auth": token()}}}
    Path(access.settings.docker_config).write_text(json.dumps(document))


def assert_there(fake: FakeRegistry, tag: str = "1") -> None:
    """The whole image is there, byte for byte."""
    assert fake.manifests[tag] == (IMAGE.manifest.media_type, IMAGE.blobs[IMAGE.manifest.digest])
    for blob in (IMAGE.config, *IMAGE.layers):
        assert fake.blobs[blob.digest] == IMAGE.blobs[blob.digest]


@pytest.mark.parametrize("kind", ["plain", "tls", "users"])
def test_to_debians_registry(store: ImageStore, access: Access, tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "registry"
    with debian_registry(directory, tls=kind != "plain", users=kind == "users") as registry:
        there = f"{registry.host}/team/app:1"
        if registry.ca:
            certs = Path(access.settings.docker_dir, "certs.d", registry.host)
            certs.mkdir(parents=True)
            (certs / "ca.crt").write_bytes(registry.ca.read_bytes())
        if kind == "users":
            with pytest.raises(MinipodError, match="takes nothing from nobody in particular"):
                store.push(NAME, there, access)
            log_in(access, registry.host)
        steps: list[dict[str, object]] = []
        assert store.push(NAME, there, access, progress=steps.append) == IMAGE.manifest.digest
        assert {"uploading", "done"} == {step["status"] for step in steps}
        other = ImageStore(str(tmp_path / "other"))
        image = other.pull(there, access)
        assert (image.digest, image.id) == (IMAGE.manifest.digest, IMAGE.config.digest)
        steps.clear()
        store.push(NAME, there, access, progress=steps.append)
        assert {step["status"] for step in steps} == {"present"} and len(steps) == 4
        # Another name in another repository: the registry has it all, and is told so.
        other.push(there, f"{registry.host}/team/copy@{image.digest}", access)
        again = ImageStore(str(tmp_path / "again"))
        assert again.pull(f"{registry.host}/team/copy@{image.digest}", access).id == image.id


def test_docker_media_types_stay(access: Access, tmp_path: Path, fake: FakeRegistry) -> None:
    config = Descriptor(DOCKER_CONFIG, IMAGE.config.digest, IMAGE.config.size)
    layers = [Descriptor(f"{DOCKER_LAYER}.gzip", d.digest, d.size).to_json() for d in IMAGE.layers]
    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": layers}
    data = to_json({**document, "config": config.to_json()})
    fake.blobs |= IMAGE.blobs
    fake.manifests["1"] = DOCKER_MANIFEST, data
    store = ImageStore(str(tmp_path / "store"))
    store.pull(f"{fake.host}/app:1", access)
    assert store.push(f"{fake.host}/app:1", f"{fake.host}/app:2", access) == digest_of(data)
    assert fake.manifests["2"] == (DOCKER_MANIFEST, data)


def test_in_pieces(
    store: ImageStore, access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_PIECE", 300_000)
    with debian_registry(tmp_path / "registry") as registry:
        there = f"{registry.host}/app:1"
        store.push(NAME, there, access)
        other = ImageStore(str(tmp_path / "other"))
        assert Path(other.pull(there, access).layers[0], "a").read_bytes() == BIG


def lost(when: Callable[[Seen, int], bool], keep: Callable[[FakeRegistry, Seen], None]) -> Any:
    """Return what breaks connections off: those that *when* says of the request and how many were cut so far."""

    def make(fake: FakeRegistry) -> None:
        cut = 0

        def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
            nonlocal cut
            if not when(seen, cut):
                return False
            cut += 1
            keep(fake, seen)
            handler.close_connection = True
            return True

        fake.respond = respond

    return make


def half(fake: FakeRegistry, seen: Seen) -> None:
    """Keep the first half of what came, where it goes on from what is there."""
    name = seen.path.partition("?")[0].rpartition("/")[2]
    start = int(seen.headers.get("Content-Range", "0-").partition("-")[0])
    if name in fake.uploads and start == len(fake.uploads[name]):
        fake.uploads[name] += seen.body[: len(seen.body) // 2]


def whole(fake: FakeRegistry, seen: Seen) -> None:
    """Keep all that came; only the answer is lost."""
    path, _, query = seen.path.partition("?")
    fake.blobs[dict(parse_qsl(query))["digest"]] = bytes(
        fake.uploads.pop(path.rpartition("/")[2]) + seen.body
    )


def nothing(fake: FakeRegistry, seen: Seen) -> None:
    pass


BREAKS = {
    "a piece": lost(lambda seen, cut: seen.method == "PATCH" and cut < 2, half),
    "a piece, unseen": lost(lambda seen, cut: seen.method == "PATCH" and cut < 2, nothing),
    "the last piece": lost(lambda seen, cut: seen.method == "PUT" and cut < 1, half),
    "the last answer": lost(lambda seen, cut: seen.method == "PUT" and cut < 1, whole),
    "the beginning": lost(lambda seen, cut: seen.method == "POST" and cut < 2, nothing),
    "a question": lost(lambda seen, cut: seen.method == "HEAD" and cut < 1, nothing),
    "the manifest": lost(lambda seen, cut: "/manifests/" in seen.path and cut < 2, nothing),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_connection_that_breaks(
    store: ImageStore,
    access: Access,
    fake: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(upload, "_PIECE", 300_000)
    BREAKS[name](fake)
    store.push(NAME, f"{fake.host}/app:1", access)
    assert_there(fake)


def test_a_resumed_piece_is_not_sent_twice(
    store: ImageStore, access: Access, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_PIECE", 300_000)
    BREAKS["a piece"](fake)
    store.push(NAME, f"{fake.host}/app:1", access)
    sent = [seen for seen in fake.seen if seen.method in ("PATCH", "PUT")]
    ranges = [seen.headers["Content-Range"] for seen in sent if "Content-Range" in seen.headers]
    assert ranges[:3] == ["0-299999", "150000-449999", "300000-599999"]


def late(status: int) -> Any:
    """Return what breaks the first piece off, and does not agree with what it has said itself of how far it is.

    So does a registry that still writes what came before the connection broke; to the next piece it answers *status*.
    """

    def make(fake: FakeRegistry) -> None:
        patches = 0

        def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
            nonlocal patches
            patches += seen.method == "PATCH"
            if seen.method == "PATCH" and patches == 1:
                half(fake, seen)
                handler.close_connection = True
                return True
            if seen.method == "PATCH" and patches == 2:
                fake.uploads[seen.path.rpartition("/")[2]] += seen.body[: len(seen.body) // 4]
                return send(handler, status)
            return False

        fake.respond = respond

    return make


@pytest.mark.parametrize("status", [400, 404, 416])
def test_a_registry_that_has_not_seen_the_end_yet(
    store: ImageStore,
    access: Access,
    fake: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.setattr(upload, "_PIECE", 300_000)
    late(status)(fake)
    store.push(NAME, f"{fake.host}/app:1", access)
    assert_there(fake)
    begun = [path for path in fake.paths("POST") if path.endswith("/uploads/")]
    assert len(begun) == 4 + (status != 416), "only where nobody can tell how far it is"


def test_a_question_that_fails_for_a_moment(
    store: ImageStore, access: Access, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come through is not given up because nobody could say at once how much that was."""
    monkeypatch.setattr(upload, "_PIECE", 300_000)
    patches: list[Seen] = []
    asked: list[Seen] = []

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if seen.method == "PATCH" and not asked:
            patches.append(seen)
            half(fake, seen)
            handler.close_connection = True
            return True
        if seen.method == "GET" and not asked:
            asked.append(seen)
            return send(handler, 503)
        return False

    fake.respond = respond
    store.push(NAME, f"{fake.host}/app:1", access)
    assert_there(fake)
    assert len(patches) == 1 and len(fake.paths("POST")) == 4, "one upload for each blob"


def test_a_blob_that_never_gets_further_ends(
    store: ImageStore, access: Access, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that forgets what was broken off takes the first piece again and again: that is no progress."""
    monkeypatch.setattr(upload, "_PIECE", 300_000)
    begun = []

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if seen.method == "PATCH" and not seen.headers["Content-Range"].startswith("0-"):
            handler.close_connection = True
            return True
        if seen.method == "POST":
            begun.append(seen)
            return len(begun) > 20 and send(handler, 418)
        return seen.method == "GET" and send(handler, 404)

    fake.respond = respond
    with pytest.raises(MinipodError, match="broken answer"):
        store.push(NAME, f"{fake.host}/app:1", access)


def test_what_is_there_after_all_is_not_sent_again(
    store: ImageStore, access: Access, fake: FakeRegistry
) -> None:
    BREAKS["the last answer"](fake)
    store.push(NAME, f"{fake.host}/app:1", access)
    assert_there(fake)
    sent = [path for path in fake.paths("PUT") if "/blobs/" in path]
    assert len(sent) == 4, "each of them once"


def test_a_storm_ends(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    fake.respond = lambda handler, seen: (
        seen.method == "POST" and send(handler, 503, b'{"errors":[{"message":"stormy"}]}')
    )
    with pytest.raises(MinipodError, match="answers with 503: stormy"):
        store.push(NAME, f"{fake.host}/app:1", access)
    assert len(fake.paths("POST")) == access.patience.attempts and not fake.manifests


def test_a_refusal_before_the_end(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    """A proxy that takes no large bodies says so while they are still being sent."""
    fake.respond = lambda handler, seen: (
        seen.method == "PUT" and len(seen.body) > 1000 and send(handler, 413)
    )
    with pytest.raises(MinipodError, match="answers with 413"):
        store.push(NAME, f"{fake.host}/app:1", access)
    assert not fake.manifests, "a manifest is last"


def test_mounting(store: ImageStore, access: Access, tmp_path: Path, fake: FakeRegistry) -> None:
    fake.add(IMAGE)
    other = ImageStore(str(tmp_path / "other"))
    other.pull(f"{fake.host}/one/app:1", access)
    fake.blobs.clear()  # of the new repository
    fake.mountable = {BIG_LAYER.digest, IMAGE.layers[1].digest}
    other.push(f"{fake.host}/one/app:1", f"{fake.host}/two/app:2", access)
    asked = [path for path in fake.paths("POST") if "mount" in path]
    assert len(asked) == 4 and all("from=one%2Fapp" in path for path in asked)
    assert fake.mountable.isdisjoint(fake.blobs) and IMAGE.layers[2].digest in fake.blobs


def test_token_scopes(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if seen.path.startswith("/token"):
            assert seen.headers["Authorization"] == f"Basic {token()}"
            return send(handler, 200, b'{"token":"T"}')
        if seen.headers.get("Authorization") == "Bearer T":
            return False
        realm = f'Bearer realm="http://{fake.host}/token",service="s"'
        return send(handler, 401, headers={"WWW-Authenticate": realm})

    fake.respond = respond
    log_in(access, fake.host)
    store.push(NAME, f"{fake.host}/team/app:1", access)
    assert_there(fake)
    (asked,) = (path for path in fake.paths() if path.startswith("/token"))
    assert "scope=repository%3Ateam%2Fapp%3Apull%2Cpush" in asked and "service=s" in asked


def located(url: str) -> Any:
    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        return seen.method == "POST" and send(handler, 202, headers={"Location": url})

    return respond


@pytest.mark.parametrize("url", ["file:///etc/shadow", "ftp://x/y", "http://u:p@x/"])
def test_where_nobody_should_be_led(
    store: ImageStore, access: Access, fake: FakeRegistry, url: str
) -> None:
    fake.respond = located(url)
    with pytest.raises(MinipodError, match="leads to something else"):
        store.push(NAME, f"{fake.host}/app:1", access)


def test_no_upload_without_tls(store: ImageStore, access: Access, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with fake_registry(certificate) as secure, fake_registry() as plain:
        certs = Path(access.settings.docker_dir, "certs.d", secure.host)
        certs.mkdir(parents=True)
        (certs / "ca.crt").write_bytes(certificate.read_bytes())
        secure.respond = located(f"http://{plain.host}/v2/app/blobs/uploads/1")
        with pytest.raises(MinipodError, match="leads from https to http"):
            store.push(NAME, f"{secure.host}/app:1", access)
        assert plain.seen == []


def test_credentials_do_not_follow(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    """An upload may lie at another host, which is told no password."""

    def challenge(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if "Authorization" not in seen.headers:
            return send(handler, 401, headers={"WWW-Authenticate": "Basic"})
        answered: bool = located(f"http://{other.host}/v2/app/blobs/uploads/0")(handler, seen)
        return answered

    log_in(access, fake.host)
    with fake_registry() as other:
        other.uploads["0"] = bytearray()
        fake.respond = challenge
        with pytest.raises(MinipodError):
            store.push(NAME, f"{fake.host}/app:1", access)
        assert other.seen and all("Authorization" not in seen.headers for seen in other.seen)


def test_a_registry_that_keeps_something_else(
    store: ImageStore, access: Access, fake: FakeRegistry
) -> None:
    digest = f"sha256:{'0' * 64}"
    fake.respond = lambda handler, seen: (
        "/manifests/" in seen.path and send(handler, 201, headers={"Docker-Content-Digest": digest})
    )
    with pytest.raises(MinipodError, match="kept something else"):
        store.push(NAME, f"{fake.host}/app:1", access)


def test_what_cannot_be_pushed(store: ImageStore, access: Access, fake: FakeRegistry) -> None:
    with pytest.raises(NotFound):
        store.push("localhost/none", f"{fake.host}/app", access)
    with pytest.raises(UsageError, match="not of a registry"):
        store.push(NAME, NAME, access)
    with pytest.raises(UsageError, match="the image's digest is"):
        store.push(NAME, f"{fake.host}/app@sha256:{'0' * 64}", access)
    with pytest.raises(UsageError, match="invalid image reference"):
        store.push(NAME, f"{fake.host}/App", access)
    assert fake.seen == []
    os.truncate(Path(store.root, "blobs/sha256", BIG_LAYER.hex), 1000)
    with pytest.raises(MinipodError, match="cut off in the store"):
        store.push(NAME, f"{fake.host}/app", access)
    assert not fake.manifests
