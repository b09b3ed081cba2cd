# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP requests of probes and hooks.

The rules are those of ``k8s.io/kubernetes/pkg/probe/http``: 200 to 399 is success, redirects are followed on the same
host only, 10 KiB of a body are read, certificates are not verified, every request has a connection of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, urljoin, urlsplit

from minipod.api import HTTPHeader
from minipod.pods.probes.channel import Channel, ConnectError, connect, join_host_port
from minipod.pods.probes.outcome import Outcome, Verdict, failure

MAX_HEAD = 64 * 1024
MAX_BODY = 10 * 1024
MAX_REDIRECTS = 10
MAX_INFORMATIONAL = 5
MAX_CHUNK_LINE = 1024
VERSION = "1.37"
"""Whose kubelet we ask like."""

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_HEX = re.compile(rb"[0-9a-fA-F]{1,8}")
_SAFE = "!#$%&'()*+,/:;=?@[]~"
_FOLLOWED = (301, 302, 303, 307, 308)
# Those that say how the request is framed are ours to say.
_OURS = ("host", "connection", "content-length", "transfer-encoding", "trailer", "upgrade", "te")


class HTTPError(Exception):
    """There was no answer that one could understand; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One GET request.

    Attributes:
        url: absolute, ``http`` or ``https``.
        headers: name and value, in order; those that frame a request are not among them.
        authority: what to call the server, when it is not the URL's host and port.
        http2: HTTP/2 with prior knowledge, without TLS.
    """

    url: str
    headers: tuple[tuple[str, str], ...]
    authority: str = ""
    http2: bool = False

    @property
    def host(self) -> str:
        """Return the name or address in the URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Return the port in the URL, or that of its scheme."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def target(self) -> str:
        """Return path and query, with what HTTP does not allow in them escaped."""
        parts = urlsplit(self.url)
        target = quote(parts.path or "/", safe=_SAFE)
        return f"{target}?{quote(parts.query, safe=_SAFE)}" if parts.query else target


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, of whose body at most 10 KiB are kept."""

    status: int
    location: str
    body: bytes


def request(
    scheme: str,
    host: str,
    port: int,
    path: str,
    headers: Sequence[HTTPHeader] = (),
    *,
    http2: bool = False,
    agent: str = "probe",
) -> Request:
    """Return the request that a kubelet would send; *agent* is ``probe`` or ``lifecycle``."""
    given: dict[str, list[str]] = {}
    for header in headers:
        name = "-".join(part.capitalize() for part in header.name.split("-"))
        given.setdefault(name, []).append(header.value.strip())
    given.setdefault("User-Agent", [f"kube-{agent}/{VERSION}"])
    given.setdefault("Accept", ["*/*"])
    for name in ("User-Agent", "Accept"):
        if not given[name][0]:
            del given[name]
    authority = given.get("Host", [""])[0]
    pairs = tuple(
        (name, value)
        for name, values in given.items()
        for value in values
        if name.lower() not in _OURS
    )
    # A path that is none ("https://elsewhere/") does not lead anywhere else.
    where = path if path.startswith("/") else f"/{path}"
    url = f"{scheme.lower()}://{join_host_port(host, port)}{where.partition('#')[0]}"
    return Request(url, pairs, authority, http2)


def without_tls(request: Request) -> Request:
    """Return the same request by HTTP."""
    headers = tuple(pair for pair in request.headers if pair[0] != "Authorization")
    return replace(request, url=request.url.replace("https:", "http:", 1), headers=headers)


async def probe(first: Request) -> Outcome:
    """Ask, follow redirects on the same host, and judge the answer."""
    try:
        response = await follow(first)
    except (HTTPError, ConnectError, OSError, ValueError) as error:
        # OSError: also what TLS says. ValueError: an address that cannot be (in a redirect).
        return failure(f'Get "{first.url}": {_words(error)}')
    if 300 <= response.status < 400:
        body = response.body.decode(errors="replace")
        text = f"Probe terminated redirects, Response body: {body}"
        return Outcome(Verdict.WARNING, text[:1024])
    if 200 <= response.status < 300:
        return Outcome(Verdict.SUCCESS)
    return failure(f"HTTP probe failed with statuscode: {response.status}")


async def follow(first: Request) -> Response:
    """Ask, follow redirects on the same host, and return the last answer.

    Raises:
        ConnectError, OSError, HTTPError: see :func:`fetch`.
        ValueError: a redirect leads to what is no address.
    """
    current = first
    for _ in range(MAX_REDIRECTS):
        response = await fetch(current)
        if response.status not in _FOLLOWED or not response.location:
            return response
        url = urljoin(current.url, response.location)
        parts = urlsplit(url)
        if parts.hostname != first.host:
            return response
        if parts.scheme not in ("http", "https"):
            raise HTTPError(f"unsupported protocol scheme {parts.scheme[:20]!r}")
        relative = not urlsplit(response.location).netloc
        current = replace(current, url=url, authority=current.authority if relative else "")
    raise HTTPError(f"stopped after {MAX_REDIRECTS} redirects")


async def fetch(request: Request) -> Response:
    """Send one request over a connection of its own and return the answer.

    Raises:
        ConnectError: nobody answers there.
        OSError: the connection broke, or TLS could not be agreed on.
        HTTPError: what came is no answer, or too much of one.
    """
    tls = request.url.startswith("https:")
    async with connect(request.host, request.port, tls=tls) as channel:
        if request.http2:
            from minipod.pods.probes import http2

            return await http2.get(channel, request)
        await channel.send(_head(request))
        return await _answer(channel)


def authority(request: Request) -> str:
    """Return what to call the server: ``Host`` or ``:authority``."""
    return request.authority or urlsplit(request.url).netloc.rpartition("@")[2]


def _head(request: Request) -> bytes:
    lines = [f"GET {request.target} HTTP/1.1", f"Host: {authority(request)}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


async def _answer(channel: Channel) -> Response:
    data = bytearray()
    for _ in range(MAX_INFORMATIONAL + 1):
        head, data = await _read_head(channel, data)
        status, headers = _parse_head(head)
        if status >= 200:
            break
        if status == 101:
            raise HTTPError("the server switched to a protocol that was not asked for")
    else:
        raise HTTPError(f"more than {MAX_INFORMATIONAL} informational responses")
    body = _Body(status, headers)
    body.feed(bytes(data))
    while not body.complete:
        more = await channel.receive()
        if not more:
            break
        body.feed(more)
    return Response(status, headers.get("location", ""), bytes(body.content[:MAX_BODY]))


async def _read_head(channel: Channel, data: bytearray) -> tuple[bytes, bytearray]:
    seen = 0
    while (end := data.find(b"\r\n\r\n", max(0, seen - 3))) < 0:
        if len(data) > MAX_HEAD:
            raise HTTPError(f"the response's header has more than {MAX_HEAD} bytes")
        seen = len(data)
        more = await channel.receive()
        if not more:
            raise HTTPError("EOF" if not data else "unexpected EOF")
        data += more
    return bytes(data[:end]), data[end + 4 :]


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.split(b"\r\n")
    match = _STATUS.fullmatch(first)
    if not match:
        shown = first[:80].decode("latin-1")
        raise HTTPError(f"malformed HTTP response {shown!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(name.decode("latin-1").lower(), value.strip().decode("latin-1"))
    return int(match[1]), headers


class _Body:
    """Takes a body in, as far as it is kept, and finds its end.

    Attributes:
        content: what has come of it.
        complete: there is no more, or no more is wanted.
    """

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.content = bytearray()
        self._raw = bytearray()  # of a chunked body, what is not taken apart yet
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length", "")
        self._wanted = MAX_BODY
        if status in (204, 304):
            self._wanted, self._chunked = 0, False
        elif not self._chunked and length.isascii() and length.isdecimal() and len(length) < 20:
            self._wanted = min(MAX_BODY, int(length))
        self.complete = self._wanted == 0

    def feed(self, data: bytes) -> None:
        """Take in what has come."""
        if not self._chunked:
            self.content += data[: self._wanted - len(self.content)]
        else:
            self._raw += data
            self._unchunk()
        if len(self.content) >= self._wanted:
            self.complete = True

    def _unchunk(self) -> None:
        """Move every whole chunk to the content; a part of one stays for when there is more of it."""
        place = 0
        while not self.complete:
            end = self._raw.find(b"\r\n", place, place + MAX_CHUNK_LINE)
            if end < 0:
                self.complete = len(self._raw) - place >= MAX_CHUNK_LINE
                break
            size = self._raw[place:end].partition(b";")[0].strip()
            length = int(size, 16) if _HEX.fullmatch(size) else 0
            self.complete = length == 0  # the last one, or no chunk at all
            rest = self._wanted - len(self.content)
            if len(self._raw) < end + 2 + min(length + 2, rest):
                break
            self.content += self._raw[end + 2 : end + 2 + min(length, rest)]
            self.complete = self.complete or length >= rest
            place = end + 2 + length + 2
        del self._raw[:place]


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
