# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers on loopback for the clients of probes: each says what a test wants, and is gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve every connection by *serve*, on a port of 127.0.0.1 that is yielded."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(task)

    made = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        await asyncio.sleep(0.02)  # those that were accepted just now have begun by then
        made.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # the transports' own ends


def certificate_files(directory: Path) -> tuple[Path, Path]:
    """Make a key and a certificate that nobody vouches for; returns their paths."""
    key, made = directory / "key.pem", directory / "cert.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -subj /CN=nobody -days 1 -keyout"
    command = ["openssl", *words.split(), str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return key, made


def certificate(directory: Path) -> ssl.SSLContext:
    """Return a server's side of TLS, with such a certificate."""
    key, made = certificate_files(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


@dataclass
class Service:
    """A server of HTTP/2: what it answers, and what it was asked."""

    status: str = "200"
    headers: Sequence[tuple[str, str]] = (("content-type", "application/grpc"),)
    body: bytes = b""
    trailers: Sequence[tuple[str, str]] = (("grpc-status", "0"),)
    asked: list[tuple[dict[bytes, bytes], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        headers: dict[bytes, bytes] = {}
        body = b""
        while data := await reader.read(4096):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    headers = {bytes(k): bytes(v) for k, v in event.headers}
                elif isinstance(event, DataReceived):
                    body += event.data
                elif isinstance(event, StreamEnded):
                    self.asked.append((headers, body))
                    self._answer(connection, event.stream_id, self.answer_to(body))
            writer.write(connection.data_to_send())

    def answer_to(self, body: bytes) -> bytes:
        """Return what is answered to a request with this body."""
        return self.body

    def _answer(self, connection: H2Connection, stream: int, body: bytes) -> None:
        connection.send_headers(stream, [(":status", self.status), *self.headers])
        if body:
            connection.send_data(stream, body, end_stream=not self.trailers)
        if self.trailers:
            connection.send_headers(stream, self.trailers, end_stream=True)


def health(status: int, before: bytes = b"") -> bytes:
    """Return a HealthCheckResponse as gRPC frames it, after the fields *before*."""
    message = before + (b"\x08" + bytes([status]) if status else b"")
    return b"\0" + len(message).to_bytes(4, "big") + message
