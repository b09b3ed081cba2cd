# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries for the tests: Debian's ``docker-registry`` on loopback, and one whose answers a test makes up."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from minipod.images.builder import BuiltImage
from minipod.images.documents import OCI_INDEX, to_json
from minipod.images.platforms import Platform
from tests.patience import patience

PROGRAM = "docker-registry"
USER, PASSWORD = "ali", "open sesame"
_BCRYPT = "$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW"  # of PASSWORD
_PATIENCE = patience(20)


def is_installed() -> bool:
    """Whether this machine has Debian's registry."""
    return shutil.which(PROGRAM) is not None


@dataclass
class Registry:
    """A registry that runs.

    Attributes:
        host: with its port, as it stands in references.
        ca: the certificate to trust, when it speaks TLS.
        authorization: the header that it wants, or "".
    """

    host: str
    ca: Path | None = None
    authorization: str = ""
    _pushed: dict[str, str] = field(default_factory=dict)  # a repository that has the blob

    def push(self, image: BuiltImage, name: str, tag: str) -> str:
        """Push *image*; return its reference."""
        for descriptor in (image.config, *image.layers):
            self._push_blob(name, descriptor.digest, image.blobs)
        data = image.blobs[image.manifest.digest]
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", data, image.manifest.media_type)
        return f"{self.host}/{name}:{tag}"

    def push_index(self, images: Mapping[Platform, BuiltImage], name: str, tag: str) -> str:
        """Push an index with an image for each platform; return its digest."""
        manifests = []
        for platform, image in images.items():
            self.push(image, name, image.manifest.digest)
            words = {"os": platform.os, "architecture": platform.architecture}
            manifests.append({**image.manifest.to_json(), "platform": words})
        index = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", index, OCI_INDEX)
        return f"sha256:{hashlib.sha256(index).hexdigest()}"

    def _push_blob(self, name: str, digest: str, blobs: Mapping[str, bytes]) -> None:
        known = self._pushed.get(digest)
        shared = f"?mount={digest}&from={known}" if known else ""
        location = self._ask("POST", f"/v2/{name}/blobs/uploads/{shared}", b"")
        if "/blobs/uploads/" not in location:
            return  # it has taken that one's
        data, self._pushed[digest] = blobs[digest], name
        target = location.partition(self.host)[2] or location
        mark = "&" if "?" in target else "?"
        self._ask("PUT", f"{target}{mark}digest={digest}", data, "application/octet-stream")

    def _ask(self, method: str, path: str, body: bytes, kind: str = "") -> str:
        connection = self.connection()
        headers = {"Content-Type": kind} if kind else {}
        if self.authorization:
            headers["Authorization"] = self.authorization
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        said = response.read()
        connection.close()
        assert response.status < 300, f"{method} {path}: {response.status} {said!r}"
        return response.headers.get("Location") or ""

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection to it."""
        host, _, port = self.host.partition(":")
        if self.ca is None:
            return http.client.HTTPConnection(host, int(port), timeout=patience(30))
        context = ssl.create_default_context(cafile=str(self.ca))
        return http.client.HTTPSConnection(host, int(port), timeout=patience(30), context=context)


@contextlib.contextmanager
def debian_registry(
    directory: Path, *, tls: bool = False, users: bool = False, port: int = 0
) -> Iterator[Registry]:
    """Run Debian's registry with its data in *directory*; with TLS or with one user where asked for.

    Without a *port* it takes one that is free.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of the tests"},
    }
    registry = Registry(f"127.0.0.1:{port}")
    if tls:
        registry.ca = make_certificate(directory)
        config["http"]["tls"] = {
            "certificate": str(registry.ca),
            "key": str(registry.ca.with_suffix(".key")),
        }
    if users:
        (directory / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
        registry.authorization = f"Basic {token()}"
    path = directory / "config.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    log = (directory / "log").open("wb")
    with log, subprocess.Popen([PROGRAM, "serve", path], stdout=log, stderr=log) as process:
        try:
            _wait_for(registry)
            yield registry
        finally:
            process.terminate()


def token(user: str = USER, password: str = PASSWORD) -> str:
    """Return *user* and *password* as Docker's config file has them."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def make_certificate(directory: Path) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself; return its file, whose key lies beside it."""
    path = directory / "ca.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def free_port() -> int:
    """Return a port of loopback that nobody has, right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_for(registry: Registry) -> None:
    host, _, port = registry.host.partition(":")
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"{registry.host}: no registry came up"
            time.sleep(0.02)


@dataclass
class Seen:
    """One request that a :class:`FakeRegistry` has had."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


Responder = Callable[[BaseHTTPRequestHandler, Seen], bool]


@dataclass
class FakeRegistry:
    """Serves what it is given, honestly, unless *respond* says that it has answered in another way.

    Attributes:
        host: with its port.
        blobs: by digest.
        manifests: media type and bytes, by tag or digest.
        uploads: what came of the blobs that are being pushed.
        mountable: digests of what can be mounted from other repositories.
        seen: all requests so far.
        gone: released once for each connection that has ended.
        respond: asked first; whether it has answered.
    """

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    mountable: set[str] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)
    gone: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _names: Iterator[int] = field(default_factory=itertools.count)
    respond: Responder = lambda handler, seen: False

    def add(self, image: BuiltImage, tag: str = "1") -> None:
        """Have *image* under *tag*."""
        self.blobs |= image.blobs
        found = image.manifest.media_type, image.blobs[image.manifest.digest]
        self.manifests |= {tag: found, image.manifest.digest: found}

    def paths(self, method: str = "GET") -> list[str]:
        """Return what was asked for."""
        return [seen.path for seen in self.seen if seen.method == method]

    def answer(self, handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        """Answer as the distribution specification wants it."""
        if self.respond(handler, seen):
            return
        if "/blobs/uploads/" in seen.path:
            self._take(handler, seen)
            return
        kind, _, name = seen.path.rpartition("/")
        if seen.method == "PUT" and kind.endswith("/manifests"):
            found = seen.headers["Content-Type"], seen.body
            digest = f"sha256:{hashlib.sha256(seen.body).hexdigest()}"
            self.manifests |= {name: found, digest: found}
            send(handler, 201, headers={"Docker-Content-Digest": digest})
        elif kind.endswith("/manifests") and name in self.manifests:
            media_type, data = self.manifests[name]
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            send(handler, 200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest})
        elif kind.endswith("/blobs") and name in self.blobs:
            data, wanted = self.blobs[name], seen.headers.get("Range", "")
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if wanted else {}
            send(handler, 206 if wanted else 200, data[start:], more)
        else:
            send(handler, 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}')

    def _take(self, handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        """Take a part of a blob, or the last of it."""
        path, _, text = seen.path.partition("?")
        query = dict(parse_qsl(text))
        name = path.rpartition("/")[2]
        if seen.method == "POST":
            if query.get("mount") in self.mountable:
                send(handler, 201)
                return
            name = str(next(self._names))  # several may ask at once
            self.uploads[name] = bytearray()
            send(handler, 202, headers={"Location": f"{path}{name}"})
        elif name not in self.uploads:
            send(handler, 404)
        elif seen.method == "GET":
            end = max(0, len(self.uploads[name]) - 1)
            send(handler, 204, headers={"Location": path, "Range": f"0-{end}"})
        else:
            start = int(seen.headers.get("Content-Range", "0-").partition("-")[0])
            if start != len(self.uploads[name]):
                send(handler, 416)
                return
            self.uploads[name] += seen.body
            if seen.method == "PATCH":
                send(handler, 202, headers={"Location": path})
                return
            data = bytes(self.uploads[name])
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            assert digest == query["digest"], "what was pushed is what it was said to be"
            self.blobs[digest] = data
            send(handler, 201)


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    data: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> bool:
    """Send a whole answer."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)
    return True


@contextlib.contextmanager
def fake_registry(certificate: Path | None = None) -> Iterator[FakeRegistry]:
    """Run a registry in threads of the test; with TLS when there is a *certificate*."""
    fake = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen = Seen(self.command, self.path, dict(self.headers), body)
            fake.seen.append(seen)
            with contextlib.suppress(OSError):
                fake.answer(self, seen)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class QuietServer(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that went away

        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            fake.gone.release()

    with QuietServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        fake.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
