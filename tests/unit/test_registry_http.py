# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to a registry: which are used again, and what is sent again when one breaks."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from minipod.images.registry.http import Http, Patience
from minipod.images.registry.proxies import Proxies
from tests.registries import FakeRegistry, Seen, fake_registry, send

_PIECES = (b"one", b"two")
_LENGTH = {"Content-Length": "6"}


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


@pytest.fixture
def http() -> Iterator[Http]:
    patience = Patience(connect=5, idle=5, window=5)
    made = Http(Proxies({}), lambda host, port: ssl.create_default_context(), patience)
    yield made
    made.close()


class Connections:
    """Answers everything with 202, and tells connections apart; cuts those off of which *cut* has the method."""

    def __init__(self, fake: FakeRegistry) -> None:
        self.clients: list[int] = []
        self.cut = ""
        fake.respond = self._respond

    def _respond(self, handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        self.clients.append(handler.client_address[1])
        if seen.method == self.cut:
            handler.close_connection = True
            return True
        return send(handler, 202)


def ask(http: Http, fake: FakeRegistry, method: str) -> int:
    pieces = (lambda: iter(_PIECES)) if method == "PATCH" else None
    headers = _LENGTH if pieces else {}
    with http.request(method, f"http://{fake.host}/v2/", headers, pieces) as answer:
        return answer.status


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PATCH"])
def test_an_answer_without_a_body_leaves_the_connection_usable(
    fake: FakeRegistry, http: Http, method: str
) -> None:
    seen = Connections(fake)
    assert [ask(http, fake, method) for _ in range(3)] == [202] * 3
    assert len(set(seen.clients)) == 1


def test_pieces_are_not_sent_again_unasked(fake: FakeRegistry, http: Http) -> None:
    """Nobody knows how many of them have come through."""
    seen = Connections(fake)
    ask(http, fake, "GET")
    seen.cut = "PATCH"
    with pytest.raises(ConnectionError):
        ask(http, fake, "PATCH")
    assert len(fake.paths("PATCH")) == 1


def test_what_can_be_asked_twice_is(fake: FakeRegistry, http: Http) -> None:
    """A server may close a kept connection at the very moment."""
    seen = Connections(fake)
    ask(http, fake, "GET")
    seen.cut = "HEAD"
    with pytest.raises(ConnectionError):
        ask(http, fake, "HEAD")
    assert len(fake.paths("HEAD")) == 2 and len(set(seen.clients)) == 2


def test_a_connection_that_was_closed_meanwhile_is_not_used(
    fake: FakeRegistry, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Connections(fake)

    def respond(handler: BaseHTTPRequestHandler, _: Seen) -> bool:
        seen.clients.append(handler.client_address[1])
        handler.close_connection = len(seen.clients) == 1  # without having said so
        return send(handler, 202)

    fake.respond = respond
    ask(http, fake, "GET")
    fake.gone.acquire(timeout=10)
    assert ask(http, fake, "PATCH") == 202
    assert len(set(seen.clients)) == 2 and len(fake.paths("PATCH")) == 1
