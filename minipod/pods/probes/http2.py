# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP/2 exchange over one connection, on the state machine of ``h2``.

HTTP/2 is needed for gRPC and for ``httpGet.protocol: HTTP2``. A client of one's own would have to decode HPACK, with
its Huffman code and its table that the other side steers, from hostile servers; h2 has been attacked for years, is
pure Python without I/O, and is loaded only when the first such probe runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minipod.pods.probes.channel import Channel
from minipod.pods.probes.http import MAX_BODY, HTTPError, Request, Response, authority

if TYPE_CHECKING:
    from h2.connection import H2Connection
    from h2.events import Event

MAX_BYTES = 64 * 1024
"""Of one answer with all its frames: their headers are decoded in Python, so that a flood of them costs time."""

_SLICE = 1024
"""Bytes that are decoded at once; between two slices the loop does other work."""


@dataclass(slots=True)
class Exchange:
    """What has come: the pseudo-headers and headers of answer and trailer, and the body."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


async def exchange(
    channel: Channel, headers: list[tuple[str, str]], body: bytes | None = None
) -> Exchange:
    """Send one request and return the whole answer.

    Raises:
        HTTPError: the server reset the stream, broke the protocol, hung up, or sent too much.
        OSError: the connection broke.
    """
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.exceptions import H2Error

    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    answer, count = Exchange(), 0
    try:
        connection.initiate_connection()
        stream = connection.get_next_available_stream_id()
        connection.send_headers(stream, headers, end_stream=body is None)
        if body is not None:
            connection.send_data(stream, body, end_stream=True)
        while True:
            await channel.send(connection.data_to_send())
            data = await channel.receive()
            if not data:
                raise HTTPError("EOF")
            count += len(data)
            if count > MAX_BYTES:
                raise HTTPError(f"the response has more than {MAX_BYTES} bytes")
            if await _take(connection, data, answer):
                return answer
    except (H2Error, ValueError, UnicodeError) as error:
        raise HTTPError(f"http2: {type(error).__name__}: {error}"[:200]) from error


async def _take(connection: H2Connection, data: bytes, answer: Exchange) -> bool:
    """Decode *data*; whether the answer is complete, or as much of it as is wanted."""
    for start in range(0, len(data), _SLICE):
        if start:
            await asyncio.sleep(0)
        for event in connection.receive_data(data[start : start + _SLICE]):
            if _handle(connection, event, answer):
                return True
    return False


def _handle(connection: H2Connection, event: Event, answer: Exchange) -> bool:
    from h2 import events

    if isinstance(event, events.ResponseReceived | events.TrailersReceived):
        for name, value in event.headers or ():
            answer.headers.setdefault(_text(name), _text(value))
    elif isinstance(event, events.DataReceived):
        answer.body += event.data or b""
        connection.acknowledge_received_data(
            event.flow_controlled_length or 0, event.stream_id or 0
        )
        return len(answer.body) >= MAX_BODY
    elif isinstance(event, events.StreamReset):
        raise HTTPError(f"the server reset the stream (HTTP/2 error {event.error_code})")
    elif isinstance(event, events.ConnectionTerminated):
        raise HTTPError(f"the server closed the connection (HTTP/2 error {event.error_code})")
    return isinstance(event, events.StreamEnded)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


async def get(channel: Channel, request: Request) -> Response:
    """Send *request* with prior knowledge that the server speaks HTTP/2, and return its answer.

    Raises:
        HTTPError: see :func:`exchange`.
        OSError: the connection broke.
    """
    headers = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", authority(request)),
        (":path", request.target),
        *((name.lower(), value) for name, value in request.headers),
    ]
    answer = await exchange(channel, headers)
    status = answer.headers.get(":status", "")
    if not (status.isascii() and status.isdecimal() and len(status) == 3):
        raise HTTPError(f"malformed HTTP status {status[:20]!r}")
    return Response(int(status), answer.headers.get("location", ""), bytes(answer.body[:MAX_BODY]))
