# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC and HTTP/2 clients of probes against servers on loopback, most of them hostile."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from minipod.api import HTTPHeader
from minipod.pods.probes import Outcome, Verdict, grpc, http
from tests.servers import Serve, Service, certificate, health, server

HEALTHY = Outcome(Verdict.SUCCESS, "service healthy")
PREFACE = b"\0\0\0\4\0\0\0\0\0"  # an empty SETTINGS frame


def raw(data: bytes, *, hold: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(data)
        await writer.drain()
        if hold:
            await asyncio.sleep(60)

    return serve


async def ask(port: int, service: str = "", *, tls: bool = False) -> Outcome:
    async with asyncio.timeout(10):
        return await grpc.probe("127.0.0.1", port, service, tls=tls)


async def test_what_is_asked() -> None:
    served = Service(body=health(1))
    async with server(served.serve) as port:
        assert await ask(port) == HEALTHY
        assert await ask(port, "my.Service" * 30) == HEALTHY
    headers, body = served.asked[0]
    assert body == b"\0\0\0\0\0"
    assert headers[b":path"] == b"/grpc.health.v1.Health/Check"
    assert headers[b"content-type"] == b"application/grpc"
    assert headers[b"te"] == b"trailers"
    assert headers[b"user-agent"] == b"kube-probe/1.37"
    message = b"\x0a\xac\x02" + b"my.Service" * 30
    assert served.asked[1][1] == b"\0" + len(message).to_bytes(4, "big") + message


@pytest.mark.parametrize(
    ("number", "name"),
    [(0, "UNKNOWN"), (2, "NOT_SERVING"), (3, "SERVICE_UNKNOWN"), (77, "77")],
)
async def test_all_but_serving_is_a_failure(number: int, name: str) -> None:
    async with server(Service(body=health(number)).serve) as port:
        assert await ask(port) == Outcome(
            Verdict.FAILURE, f'service unhealthy (responded with "{name}")'
        )


async def test_fields_of_a_later_protocol_are_skipped() -> None:
    others = b"\x10\x05" + b"\x19" + b"\0" * 8 + b"\x22\x03abc" + b"\x2d" + b"\0" * 4
    async with server(Service(body=health(1, others)).serve) as port:
        assert await ask(port) == HEALTHY


@pytest.mark.parametrize(
    ("trailers", "words"),
    [
        (
            [("grpc-status", "12"), ("grpc-message", "unknown%20service")],
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
            "unknown service",
        ),
        (
            [("grpc-status", "5"), ("grpc-message", "who?")],
            "error: health rpc probe failed: rpc error: code = NotFound desc = who?",
        ),
        ([("grpc-status", "99")], "code = Code(99) desc = "),
        ([("x", "y")], "unexpected HTTP status code received from server: 200"),
        ([("grpc-status", "-1")], "unexpected HTTP status code"),
    ],
)
async def test_what_the_call_says(trailers: list[tuple[str, str]], words: str) -> None:
    async with server(Service(trailers=trailers).serve) as port:
        outcome = await ask(port)
        assert outcome.verdict is Verdict.FAILURE
        assert words in outcome.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\1\0\0\0\2\x08\x01",
        b"\0\0\0\0\3\x08\x01",
        b"\0\0\0\0\1\x08",
        b"\0\0\0\0\1\x0b",
        b"\0\0\0\0\x0b\x08" + b"\xff" * 10,
    ],
)
async def test_messages_that_are_none(body: bytes) -> None:
    async with server(Service(body=body).serve) as port:
        outcome = await ask(port)
        assert outcome.verdict is Verdict.FAILURE
        assert "no HealthCheckResponse" in outcome.text


async def test_nobody_there() -> None:
    async with server(Service().serve) as port:
        pass
    where = f"127.0.0.1:{port}"
    words = f'error: failed to connect service at "{where}": dial tcp {where}: connect: connection refused'
    assert await ask(port) == Outcome(Verdict.FAILURE, words)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """The server's side, with a certificate that nobody vouches for."""
    context = certificate(tmp_path_factory.mktemp("tls"))
    context.set_alpn_protocols(["h2"])
    return context


async def test_tls_and_plaintext_do_not_understand_each_other(tls: ssl.SSLContext) -> None:
    async with server(Service(body=health(1)).serve, tls) as port:
        assert await ask(port, tls=True) == HEALTHY
        assert (await ask(port)).verdict is Verdict.FAILURE
    async with server(Service(body=health(1)).serve) as port:
        assert (await ask(port, tls=True)).verdict is Verdict.FAILURE


# ---- hostile servers -------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PREFACE,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff" * 1000,
        PREFACE + frame(1, 4, 1, b"\x88"),  # an answer without an end
        PREFACE + frame(1, 4, 1, b"\xff" * 100),  # what is no HPACK
        PREFACE + frame(1, 4, 99, b"\x88"),  # a stream that there is not
        PREFACE + frame(3, 0, 1, b"\0\0\0\1"),  # reset
        PREFACE + frame(7, 0, 0, b"\0\0\0\0\0\0\0\1"),  # go away
        PREFACE + frame(5, 4, 1, b"\0\0\0\2\x88"),  # a push that was not allowed
        PREFACE + frame(0, 0, 1, b"x" * 100),  # data before an answer
        PREFACE + frame(6, 0, 0, b"\0" * 8) * 20_000,  # pings without end
        PREFACE + frame(1, 0, 1, b"\x88") + frame(9, 0, 1, b"") * 20_000,  # headers without end
        PREFACE + frame(4, 0, 0, b"\0\3\0\0\0\1") * 20_000,  # settings without end
    ],
)
async def test_a_broken_protocol_is_a_failure(data: bytes) -> None:
    async with server(raw(data)) as port:
        outcome = await ask(port)
        assert outcome.verdict is Verdict.FAILURE
        assert outcome.text.startswith("error: health rpc probe failed: rpc error: code = ")


async def test_a_silent_server_ends_with_the_callers_timeout() -> None:
    async with server(raw(PREFACE, hold=True)) as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await grpc.probe("127.0.0.1", port, "", tls=False)


async def test_a_flood_does_not_hold_up_the_loop() -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - before)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(frame(6, 0, 0, b"\0" * 8) * 1000)
            await writer.drain()

    watcher = asyncio.ensure_future(watch())
    async with server(flood) as port:
        assert "more than 65536 bytes" in (await ask(port)).text
    watcher.cancel()
    assert longest < 1  # all of it at once would be 4,000 frames


# ---- HTTP/2 without gRPC ----------------------------------------------------------------------------


async def get(port: int, path: str = "/", **options: object) -> Outcome:
    request = http.request("HTTP", "127.0.0.1", port, path, http2=True, **options)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        return await http.probe(request)


async def test_get_by_http2() -> None:
    served = Service(status="204", headers=(), trailers=(("x", "y"),))
    async with server(served.serve) as port:
        headers = [HTTPHeader(name="X-A", value="1"), HTTPHeader(name="Connection", value="x")]
        assert await get(port, "/ready?x=1", headers=headers) == Outcome(Verdict.SUCCESS)
    headers_seen, body = served.asked[0]
    assert body == b""
    assert headers_seen == {
        b":method": b"GET",
        b":scheme": b"http",
        b":authority": f"127.0.0.1:{port}".encode(),
        b":path": b"/ready?x=1",
        b"x-a": b"1",
        b"user-agent": b"kube-probe/1.37",
        b"accept": b"*/*",
    }


async def test_statuses_redirects_and_bodies_by_http2() -> None:
    async with server(Service(status="503", headers=()).serve) as port:
        assert (await get(port)).text == "HTTP probe failed with statuscode: 503"
    elsewhere = Service(status="302", headers=(("location", "http://127.0.0.2/"),), body=b"hi")
    async with server(elsewhere.serve) as port:
        text = "Probe terminated redirects, Response body: hi"
        assert await get(port) == Outcome(Verdict.WARNING, text)
    async with server(Service(headers=(), body=b"x" * 12_000, trailers=()).serve) as port:
        assert (await get(port)).good


async def test_http2_to_a_server_of_http1() -> None:
    async with server(raw(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        assert (await get(port)).verdict is Verdict.FAILURE
