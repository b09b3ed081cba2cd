# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP client of probes against servers on loopback, most of them hostile."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from minipod.api import HTTPHeader
from minipod.pods.probes import Outcome, Verdict, http
from minipod.pods.probes.channel import PlainHTTPError
from tests.servers import Serve, certificate, server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def says(*answers: bytes, seen: list[bytes] | None = None, hold: bool = False) -> Serve:
    """Return a server that reads the head of a request and writes *answers*; *hold* keeps the connection."""
    rest = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(rest.pop(0) if len(rest) > 1 else rest[0])
        await writer.drain()
        if hold:
            await asyncio.sleep(60)

    return serve


async def ask(port: int, path: str = "/", scheme: str = "HTTP", **options: object) -> Outcome:
    request = http.request(scheme, "127.0.0.1", port, path, **options)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        return await http.probe(request)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (b"199 x", None),
        (b"200 OK", Verdict.SUCCESS),
        (b"204", Verdict.SUCCESS),
        (b"299 x", Verdict.SUCCESS),
        (b"304 Not Modified", Verdict.WARNING),
        (b"399 x", Verdict.WARNING),
        (b"400 x", Verdict.FAILURE),
        (b"503 x", Verdict.FAILURE),
    ],
)
async def test_200_to_399_is_success(status: bytes, verdict: Verdict | None) -> None:
    async with server(says(b"HTTP/1.1 " + status + b"\r\n\r\n")) as port:
        outcome = await ask(port)
        if verdict is None:  # an informational one is no answer
            assert outcome.text.endswith("EOF")
            return
        assert outcome.verdict is verdict
        if verdict is Verdict.FAILURE:
            assert outcome.text == f"HTTP probe failed with statuscode: {status[:3].decode()}"


async def test_what_is_sent() -> None:
    seen: list[bytes] = []
    async with server(says(OK, seen=seen)) as port:
        await ask(port, "/a b?q=1 2#f")
        head = f"GET /a%20b?q=1%202 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        assert seen == [
            f"{head}User-Agent: kube-probe/1.37\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()
        ]


async def test_headers_of_the_manifest() -> None:
    seen: list[bytes] = []
    given = {"host": "web", "X-a": "1", "accept": "", "user-agent": "me", "connection": "x"}
    headers = [HTTPHeader(name=n, value=v) for n, v in given.items()]
    headers.append(HTTPHeader(name="x-A", value="2"))
    async with server(says(OK, seen=seen)) as port:
        await ask(port, headers=headers)
    assert seen[0].decode().split("\r\n") == [
        *("GET / HTTP/1.1", "Host: web", "X-A: 1", "X-A: 2", "User-Agent: me"),
        *("Connection: close", "", ""),
    ]


@pytest.mark.parametrize("path", ["//elsewhere/x", "http://elsewhere/", "x", "@elsewhere/"])
async def test_a_path_leads_nowhere_else(path: str) -> None:
    seen: list[bytes] = []
    async with server(says(OK, seen=seen)) as port:
        assert (await ask(port, path)).good
        assert f"Host: 127.0.0.1:{port}\r\n".encode() in seen[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5 + OK,
    ],
)
async def test_answers_of_every_kind(answer: bytes) -> None:
    async with server(says(answer)) as port:
        assert await ask(port) == Outcome(Verdict.SUCCESS)


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 204 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * http.MAX_BODY,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * http.MAX_BODY,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"fffffff\r\n" + b"x" * 9000,
    ],
    ids=["length", "204", "chunked", "limit", "limit with length", "limit with chunks"],
)  # fmt: skip
async def test_a_server_that_does_not_hang_up_is_not_waited_for(answer: bytes) -> None:
    async with server(says(answer, hold=True)) as port:
        assert (await ask(port)).good


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\n", "unexpected EOF"),
        (b"SSH-2.0-x\r\n\r\n", "malformed HTTP response 'SSH-2.0-x'"),
        (b"HTTP/2 200\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 9999\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 101 x\r\n\r\n", "switched to a protocol"),
        (b"\r\n\r\n", "malformed HTTP response ''"),
        (b"\x1b[2J\x00\xff\r\n\r\n", r"malformed HTTP response '\x1b[2J\x00ÿ'"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, "more than 65536 bytes"),
        (b"HTTP/1.1 100 x\r\n\r\n" * 100_000, "more than 5 informational responses"),
    ],
)
async def test_what_is_no_answer_is_a_failure(answer: bytes, words: str) -> None:
    async with server(says(answer)) as port:
        outcome = await ask(port)
        assert outcome.verdict is Verdict.FAILURE
        assert outcome.text.startswith(f'Get "http://127.0.0.1:{port}/": ')
        assert words in outcome.text


async def test_nobody_there() -> None:
    async with server(says(OK)) as port:
        pass
    outcome = await ask(port)
    assert outcome == Outcome(
        Verdict.FAILURE,
        f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused',
    )


# ---- redirects ----


def redirect(to: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} x\r\nLocation: {to}\r\nContent-Length: 2\r\n\r\nhi".encode()


async def test_redirects_on_the_same_host_are_followed() -> None:
    seen: list[bytes] = []
    for status in (301, 302, 303, 307, 308):
        seen.clear()
        async with server(says(redirect("/next?x", status), OK, seen=seen)) as port:
            headers = [HTTPHeader(name="Host", value="web"), HTTPHeader(name="X-A", value="1")]
            assert await ask(port, headers=headers) == Outcome(Verdict.SUCCESS)
        assert seen[1].startswith(b"GET /next?x HTTP/1.1\r\nHost: web\r\nX-A: 1\r\n")


async def test_another_port_of_the_same_host() -> None:
    async with (
        server(says(OK)) as other,
        server(says(redirect(f"http://127.0.0.1:{other}/"))) as port,
    ):
        assert await ask(port) == Outcome(Verdict.SUCCESS)


async def test_a_redirect_to_another_host_is_a_warning() -> None:
    seen: list[bytes] = []
    async with server(says(redirect("http://127.0.0.2:1/"), seen=seen)) as port:
        text = "Probe terminated redirects, Response body: hi"
        assert await ask(port) == Outcome(Verdict.WARNING, text)
        assert len(seen) == 1


async def test_redirects_in_a_circle_end() -> None:
    seen: list[bytes] = []
    async with server(says(redirect("/"), seen=seen)) as port:
        outcome = await ask(port)
    assert outcome.verdict is Verdict.FAILURE
    assert "stopped after 10 redirects" in outcome.text
    assert len(seen) == 10


@pytest.mark.parametrize("to", ["//127.0.0.1:99999/", "ftp://127.0.0.1/", "http://[/"])
async def test_redirects_that_lead_nowhere(to: str) -> None:
    async with server(says(redirect(to))) as port:
        assert (await ask(port)).verdict is Verdict.FAILURE


# ---- TLS ----


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """The server's side, with a certificate that nobody vouches for."""
    return certificate(tmp_path_factory.mktemp("tls"))


async def test_https_without_verification(tls: ssl.SSLContext) -> None:
    async with server(says(OK), tls) as port:
        assert await ask(port, scheme="HTTPS") == Outcome(Verdict.SUCCESS)
    async with server(says(b"HTTP/1.1 500 x\r\n\r\n"), tls) as port:
        assert (await ask(port, scheme="HTTPS")).text.endswith("statuscode: 500")


async def test_https_to_a_server_that_speaks_http(tls: ssl.SSLContext) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    async with server(plain) as port:
        outcome = await ask(port, scheme="HTTPS")
        assert "server gave HTTP response to HTTPS client" in outcome.text
        with pytest.raises(PlainHTTPError):
            await http.follow(http.request("HTTPS", "127.0.0.1", port, "/"))


@pytest.mark.parametrize("garbage", [b"", b"\x16\x03\x03\xff\xff" + b"\0" * 70_000, b"SSH-2.0"])
async def test_https_to_what_speaks_neither(garbage: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(garbage)

    async with server(serve) as port:
        assert (await ask(port, scheme="HTTPS")).verdict is Verdict.FAILURE


async def test_http_to_a_server_that_speaks_tls(tls: ssl.SSLContext) -> None:
    async with server(says(OK), tls) as port:
        assert (await ask(port)).verdict is Verdict.FAILURE


# ---- hostile servers hold nobody up ----


async def test_silent_and_trickling_servers_end_with_the_callers_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    for serve in (silent, trickle):
        async with server(serve) as port:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await http.probe(http.request("HTTP", "127.0.0.1", port, "/"))


@pytest.mark.parametrize("chunk", [b"x" * 65536, b"1\r\nx\r\n" * 1000, b"\r\n" * 1000])
async def test_a_flood_is_read_to_a_bound(chunk: bytes) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    async with server(flood) as port:
        assert (await ask(port)).good
    assert sent < 8_000_000  # what the kernel's buffers take, and not what a server can send


async def test_a_name_is_looked_up_and_an_unknown_one_is_a_failure() -> None:
    async with server(says(OK)) as port:
        assert (await http.probe(http.request("HTTP", "localhost", port, "/"))).good
    outcome = await http.probe(http.request("HTTP", "no-such-host.invalid", 80, "/"))
    assert outcome.verdict is Verdict.FAILURE
    assert "lookup no-such-host.invalid: no such host" in outcome.text
