# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry can do to whoever pulls from it: redirects, lies about lengths and digests, slowness, storms."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from minipod.images import builder
from minipod.images.bounds import BadImage, Limits
from minipod.images.documents import OCI_MANIFEST, Descriptor
from minipod.images.reference import parse_reference
from minipod.images.registry.http import Patience
from minipod.images.registry.settings import Settings
from minipod.images.registry.source import Access, RegistrySource
from tests.registries import FakeRegistry, Seen, fake_registry, make_certificate, send

PATIENCE = Patience(
    connect=5, idle=2, window=0.5, slowest=1000, attempts=3, pause=0.01, longest_pause=0.2
)
IMAGE = builder.build_image([{"a": b"1" * 100_000}], compression="")
LAYER = IMAGE.layers[0]
DATA = IMAGE.blobs[LAYER.digest]
Request = BaseHTTPRequestHandler


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        found.add(IMAGE)
        yield found


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    """Another host, as far as anybody can tell: the port is another one."""
    with fake_registry() as found:
        found.add(IMAGE)
        yield found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(str(tmp_path / "c"), str(tmp_path / "d"), str(tmp_path / "config.json"))


@pytest.fixture
def open_source(settings: Settings) -> Callable[..., RegistrySource]:
    def opened(
        fake: FakeRegistry, name: str = "team/app:1", user: str = "", patience: Patience = PATIENCE
    ) -> RegistrySource:
        auths: list[dict[str, Any]] = []
        if user:
            token = base64.b64encode(f"{user}:secret".encode()).decode()
            auths = [{"auths": {fake.host: {"auth": token}}}]
        access = Access(settings, auths, {}, patience)
        return RegistrySource(parse_reference(f"{fake.host}/{name}"), access, Limits())

    return opened


Opener = Callable[..., RegistrySource]


def read(source: RegistrySource, layer: Descriptor = LAYER) -> bytes:
    """Find the image and read a layer of it."""
    source.roots()
    with source.open_blob(layer) as data:
        return b"".join(iter(lambda: data.read(1 << 20), b""))


def on(pattern: str, act: Callable[[Request, Seen], bool]) -> Callable[[Request, Seen], bool]:
    """Return a responder that does *act* where the path fits."""
    return lambda handler, seen: bool(re.search(pattern, seen.path)) and act(handler, seen)


def redirect(url: str) -> Callable[[Request, Seen], bool]:
    return lambda handler, seen: send(handler, 307, b"", {"Location": url})


def wants_basic(then: Callable[[Request, Seen], bool]) -> Callable[[Request, Seen], bool]:
    """Return a responder that wants a password before *then*."""

    def respond(handler: Request, seen: Seen) -> bool:
        if "Authorization" not in seen.headers:
            return send(handler, 401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
        return then(handler, seen)

    return respond


def test_an_honest_one(fake: FakeRegistry, open_source: Opener) -> None:
    with open_source(fake) as source:
        assert source.digest() == IMAGE.manifest.digest
        assert read(source) == DATA


# ---- redirects ----------------------------------------------------------------------------------


def test_credentials_do_not_follow_to_another_host(
    fake: FakeRegistry, other: FakeRegistry, open_source: Opener
) -> None:
    there = f"http://{other.host}/v2/x/blobs/{LAYER.digest}"
    fake.respond = wants_basic(on("/blobs/", redirect(there)))
    with open_source(fake, user="ali") as source:
        assert read(source) == DATA
    assert [seen.path for seen in other.seen] == [f"/v2/x/blobs/{LAYER.digest}"]
    assert not any("authorization" in map(str.lower, seen.headers) for seen in other.seen)
    assert any("Authorization" in seen.headers for seen in fake.seen)


def test_nor_come_back_with_a_detour(
    fake: FakeRegistry, other: FakeRegistry, open_source: Opener
) -> None:
    fake.respond = wants_basic(on("/blobs/", redirect(f"http://{other.host}/away")))
    other.respond = on("away", redirect(f"http://{fake.host}/v2/stolen"))
    with open_source(fake, user="ali") as source, pytest.raises(MinipodError):
        read(source)
    assert all("Authorization" not in seen.headers for seen in fake.seen if "stolen" in seen.path)


def test_another_host_gets_no_token_by_asking(
    fake: FakeRegistry, other: FakeRegistry, open_source: Opener
) -> None:
    fake.respond = wants_basic(on("/blobs/", redirect(f"http://{other.host}/blob")))
    challenge = f'Bearer realm="http://{other.host}/token",service="x"'
    other.respond = on("/blob$", lambda h, s: send(h, 401, b"", {"WWW-Authenticate": challenge}))
    with open_source(fake, user="ali") as source, pytest.raises(MinipodError, match="redirects"):
        read(source)
    assert not any("token" in path for path in other.paths())


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:pw@127.0.0.1/x"]
)
def test_redirects_to_something_else(fake: FakeRegistry, open_source: Opener, url: str) -> None:
    fake.respond = on("/blobs/", redirect(url))
    with open_source(fake) as source, pytest.raises(MinipodError, match="leads to something else"):
        read(source)


def test_redirects_from_https_to_http(
    other: FakeRegistry, open_source: Opener, settings: Settings, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    with fake_registry(certificate) as fake:
        fake.add(IMAGE)
        fake.respond = on("/blobs/", redirect(f"http://{other.host}/x"))
        trust(settings, fake, certificate)
        with open_source(fake) as source, pytest.raises(MinipodError, match="from https to http"):
            read(source)
    assert other.seen == []


def test_redirects_without_an_end(fake: FakeRegistry, open_source: Opener) -> None:
    fake.respond = on("/blobs/", lambda h, s: send(h, 302, b"", {"Location": s.path + "x"}))
    with open_source(fake) as source, pytest.raises(MinipodError, match="without an end"):
        read(source)
    assert len(fake.seen) < 10


# ---- tokens -------------------------------------------------------------------------------------


def with_tokens(fake: FakeRegistry, valid: list[str], user: str = "") -> None:
    """Have *fake* want the last of *valid*, of which its token server gives one after the other."""
    issued: list[str] = []

    def respond(handler: Request, seen: Seen) -> bool:
        if seen.path.startswith("/token"):
            if user and user not in base64.b64decode(seen.headers["Authorization"][6:]).decode():
                return send(handler, 401)
            issued.append(valid[min(len(issued), len(valid) - 1)])
            return send(handler, 200, json.dumps({"token": issued[-1]}).encode())
        if seen.headers.get("Authorization") == f"Bearer {valid[-1]}":
            return False
        if issued and "manifests" in seen.path and seen.headers.get("Authorization"):
            return False  # the first token is good for the manifest
        challenge = f'Bearer realm="http://{fake.host}/token",service="some service"'
        return send(handler, 401, b"", {"WWW-Authenticate": challenge})

    fake.respond = respond


def test_a_token(fake: FakeRegistry, open_source: Opener) -> None:
    with_tokens(fake, ["t1"])
    with open_source(fake) as source:
        assert read(source) == DATA
    (asked,) = (path for path in fake.paths() if path.startswith("/token"))
    assert asked == "/token?scope=repository%3Ateam%2Fapp%3Apull&service=some+service"


def test_a_token_that_runs_out_is_renewed(fake: FakeRegistry, open_source: Opener) -> None:
    with_tokens(fake, ["t1", "t2"])
    with open_source(fake) as source:
        assert read(source) == DATA


def test_credentials_are_tried_one_after_the_other(fake: FakeRegistry, settings: Settings) -> None:
    with_tokens(fake, ["t1"], user="bea")
    auths = [{"auths": {fake.host: {"username": name, "password": "x"}}} for name in ("ali", "bea")]
    access = Access(settings, auths, {}, PATIENCE)
    reference = parse_reference(f"{fake.host}/team/app:1")
    with RegistrySource(reference, access, Limits()) as source:
        assert read(source) == DATA
    with RegistrySource(reference, Access(settings, auths[:1], {}, PATIENCE), Limits()) as source:
        with pytest.raises(MinipodError, match="does not give it to user 'ali'") as error:
            source.roots()
        assert "secret" not in str(error.value) and "docker login" in error.value.remedy


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "gopher://x/"])
def test_a_token_server_that_is_none(fake: FakeRegistry, open_source: Opener, realm: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    fake.respond = lambda handler, seen: send(handler, 401, b"", challenge)
    with open_source(fake, user="ali") as source, pytest.raises(MinipodError, match="for a token"):
        source.roots()


def test_a_token_server_without_tls(
    other: FakeRegistry, open_source: Opener, settings: Settings, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    with fake_registry(certificate) as fake:
        trust(settings, fake, certificate)
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{other.host}/token"'}
        fake.respond = lambda handler, seen: send(handler, 401, b"", challenge)
        with open_source(fake, user="ali") as source, pytest.raises(MinipodError, match="TLS"):
            source.roots()
    assert other.seen == []


@pytest.mark.parametrize("token", ["", "a\r\nX: y", 5, None, ["x"]])
def test_tokens_that_are_none(fake: FakeRegistry, open_source: Opener, token: Any) -> None:
    with_tokens(fake, [token])
    with open_source(fake) as source, pytest.raises(MinipodError, match="gives no token"):
        source.roots()


# ---- storms and slowness ------------------------------------------------------------------------


def test_what_fails_for_a_moment_is_tried_again(fake: FakeRegistry, open_source: Opener) -> None:
    failures = iter([500, 503])

    def respond(handler: Request, seen: Seen) -> bool:
        status = next(failures, 0)
        return bool(status) and send(handler, status)

    fake.respond = respond
    with open_source(fake) as source:
        assert read(source) == DATA


def test_a_storm_has_an_end(fake: FakeRegistry, open_source: Opener) -> None:
    fake.respond = lambda handler, seen: send(handler, 502)
    with open_source(fake) as source, pytest.raises(MinipodError, match="it answers with 502"):
        source.roots()
    assert len(fake.seen) == PATIENCE.attempts


def test_too_many_requests(fake: FakeRegistry, open_source: Opener) -> None:
    words = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "pull rate limit"}]})
    fake.respond = lambda h, s: send(h, 429, words.encode(), {"Retry-After": "3600"})
    with open_source(fake) as source, pytest.raises(MinipodError) as error:
        source.roots()
    assert "limits how often" in error.value.what and "pull rate limit" in error.value.what
    assert "wait 3600 seconds" in error.value.remedy and "log in" in error.value.remedy
    assert len(fake.seen) == 1


def test_too_many_requests_for_a_moment(fake: FakeRegistry, open_source: Opener) -> None:
    answers = iter([429, 429])
    fake.respond = lambda h, s: bool(status := next(answers, 0)) and send(h, status)
    with open_source(fake) as source:
        assert read(source) == DATA


def cut(pieces: list[int], *, ranges: bool = True) -> Callable[[Request, Seen], bool]:
    """Return what breaks off a blob after so many bytes, one number for each request, and then no more."""
    left = list(pieces)

    def act(handler: Request, seen: Seen) -> bool:
        wanted = seen.headers.get("Range", "") if ranges else ""
        start = int(wanted[6:-1]) if wanted else 0
        count = left.pop(0) if left else len(DATA)
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        handler.send_header("Content-Length", str(len(DATA) - start))
        handler.end_headers()
        handler.wfile.write(DATA[start : start + count])
        handler.close_connection = True
        return True

    return act


@pytest.mark.parametrize("ranges", [True, False])
def test_a_blob_goes_on_where_it_broke_off(
    fake: FakeRegistry, open_source: Opener, ranges: bool
) -> None:
    fake.respond = on("/blobs/", cut([10_000, 50_000], ranges=ranges))
    with open_source(fake) as source:
        assert read(source) == DATA
    wanted = [seen.headers.get("Range") for seen in fake.seen if "/blobs/" in seen.path]
    assert wanted[:2] == [None, "bytes=10000-"]


def test_a_blob_that_always_breaks_off(fake: FakeRegistry, open_source: Opener) -> None:
    fake.respond = on("/blobs/", cut([0] * 99))
    with open_source(fake) as source, pytest.raises(MinipodError, match="ended early"):
        read(source)
    assert len(fake.seen) == 1 + PATIENCE.attempts


def drip(handler: Request, seen: Seen) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(DATA)))
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"x")
        time.sleep(0.05)
    return True


def test_a_stream_that_drips(fake: FakeRegistry, open_source: Opener) -> None:
    fake.respond = on("/blobs/", drip)
    patience = Patience(idle=2, window=0.3, slowest=1000, attempts=1)
    with open_source(fake, patience=patience) as source, pytest.raises(MinipodError, match="only"):
        read(source)


def test_a_head_that_drips(fake: FakeRegistry, open_source: Opener) -> None:
    def act(handler: Request, seen: Seen) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(200):
            handler.wfile.write(f"X-{number}: y\r\n".encode())
            handler.wfile.flush()
            time.sleep(0.05)
        return True

    fake.respond = act
    patience = Patience(idle=2, window=0.3, attempts=1)
    began = time.monotonic()
    with open_source(fake, patience=patience) as source, pytest.raises(MinipodError, match="came"):
        source.roots()
    assert time.monotonic() - began < 9, "it was waited for to its end"


def silent(handler: Request, seen: Seen) -> bool:
    time.sleep(1)
    return True


def test_silence(fake: FakeRegistry, open_source: Opener) -> None:
    fake.respond = silent
    patience = Patience(idle=0.2, attempts=1)
    with open_source(fake, patience=patience) as source:
        with pytest.raises(MinipodError, match="no answer in time") as error:
            source.roots()
        assert "minipod image load" in error.value.remedy


# ---- lies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [len(DATA) - 1, len(DATA) + 1, 1 << 40])
def test_blobs_of_another_length(fake: FakeRegistry, open_source: Opener, length: int) -> None:
    fake.respond = on("/blobs/", lambda h, s: send(h, 200, DATA, {"Content-Length": str(length)}))
    with open_source(fake) as source, pytest.raises(BadImage, match=f"{length} bytes instead of"):
        read(source)


def test_a_blob_that_goes_on_elsewhere(fake: FakeRegistry, open_source: Opener) -> None:
    def act(handler: Request, seen: Seen) -> bool:
        if "Range" in seen.headers:
            where = {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}
            return send(handler, 206, DATA[10_000:], where)
        return first(handler, seen)

    first = cut([10_000])
    fake.respond = on("/blobs/", act)
    with open_source(fake) as source, pytest.raises(BadImage, match="resumes elsewhere"):
        read(source)


def test_a_huge_manifest_is_not_read(fake: FakeRegistry, open_source: Opener) -> None:
    size = 1 << 30

    def act(handler: Request, seen: Seen) -> bool:
        return send(handler, 200, b"{", {"Content-Length": str(size), "Content-Type": OCI_MANIFEST})

    fake.respond = on("/manifests/", act)
    with open_source(fake) as source, pytest.raises(BadImage, match=f"{size} bytes, more than"):
        source.roots()


def test_a_manifest_without_an_end(fake: FakeRegistry, open_source: Opener) -> None:
    sent = 0

    def act(handler: Request, seen: Seen) -> bool:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            sent += 0x10000
        return True

    fake.respond = on("/manifests/", act)
    with open_source(fake) as source, pytest.raises(BadImage, match="manifest has more than"):
        source.roots()
    assert sent < 12 << 20


def test_a_tag_that_moves_changes_nothing_any_more(fake: FakeRegistry, open_source: Opener) -> None:
    with open_source(fake) as source:
        (root,) = source.roots()
        fake.add(builder.build_image([{"b": b"2"}]))
        with source.open_blob(root.manifests[0]) as data:
            assert data.read(1 << 20) == IMAGE.blobs[IMAGE.manifest.digest]


def test_another_manifest_than_was_named(fake: FakeRegistry, open_source: Opener) -> None:
    wanted = "sha256:" + "0" * 64
    fake.manifests[wanted] = fake.manifests["1"]
    name = f"team/app@{wanted}"
    with open_source(fake, name) as source, pytest.raises(BadImage, match="has the digest"):
        source.roots()


def test_its_words_are_made_harmless(fake: FakeRegistry, open_source: Opener) -> None:
    words = json.dumps({"errors": [{"message": "\x1b[2J" + "long " * 1000}]}).encode()
    fake.respond = lambda handler, seen: send(handler, 404, words)
    with open_source(fake) as source, pytest.raises(MinipodError) as error:
        source.roots()
    assert "\x1b" not in error.value.what and len(error.value.what) < 500


@pytest.mark.parametrize("words", [b"[]", b"{", b'{"errors":5}', b'{"errors":[5]}', b"[" * 60_000])
def test_words_that_are_none(fake: FakeRegistry, open_source: Opener, words: bytes) -> None:
    fake.respond = lambda handler, seen: send(handler, 418, words)
    with open_source(fake) as source, pytest.raises(MinipodError, match=r"answers with 418 \(ask"):
        source.roots()


@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 999]
)
def test_answers_that_are_not_http(fake: FakeRegistry, open_source: Opener, answer: bytes) -> None:
    def act(handler: Request, seen: Seen) -> bool:
        handler.wfile.write(answer)
        handler.close_connection = True
        return True

    fake.respond = act
    with open_source(fake) as source, pytest.raises(MinipodError, match=fake.host):
        source.roots()


# ---- TLS ----------------------------------------------------------------------------------------


def trust(settings: Settings, fake: FakeRegistry, certificate: Path) -> None:
    """Trust *fake*'s certificate, by certs.d."""
    directory = Path(settings.containers_dir) / "certs.d" / fake.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(certificate.read_bytes())


def test_certificates(open_source: Opener, settings: Settings, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with fake_registry(certificate) as fake:
        fake.add(IMAGE)
        with open_source(fake) as source, pytest.raises(MinipodError, match="not trusted") as error:
            source.roots()
        assert f"certs.d/{fake.host}/ca.crt" in error.value.remedy
        assert fake.seen == [], "nothing was said without TLS either"
        trust(settings, fake, certificate)
        with open_source(fake) as source:
            assert read(source) == DATA


def test_insecure(open_source: Opener, settings: Settings, tmp_path: Path) -> None:
    with fake_registry(make_certificate(tmp_path)) as fake:
        fake.add(IMAGE)
        directory = Path(settings.containers_dir)
        directory.mkdir()
        words = f'[[registry]]\nlocation = "{fake.host}"\ninsecure = true\n'
        (directory / "registries.conf").write_text(words)
        with open_source(fake) as source:
            assert read(source) == DATA
