# SPDX-License-Identifier: GPL-3.0-or-later
"""A server for probes, run by a test in a pod's network: ``KEY CERTIFICATE KIND PORT``.

It writes ``ready`` when it listens.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

from tests.servers import Serve, Service, health


class _Some(Service):
    """A server of gRPC that is healthy when it is asked for the service ``some``, and not otherwise."""

    def answer_to(self, body: bytes) -> bytes:
        # A HealthCheckRequest: field 1, of length 4, behind gRPC's frame of 5 bytes.
        return health(1 if body[5:] == b"\x0a\x04some" else 2)


async def _https(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    await writer.drain()


async def _main(key: str, certificate: str, kind: str, port: str) -> None:
    grpc = Service(body=health(1))

    kinds: dict[str, Serve] = {
        "grpc": grpc.serve,
        "grpc-some": _Some().serve,
        "grpc-tls": grpc.serve,
        "h2c": Service(status="204", headers=(), trailers=(("x", "y"),)).serve,
        "https": _https,
    }
    tls = None
    if kind in ("grpc-tls", "https"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        tls.set_alpn_protocols(["h2", "http/1.1"])
    server = await asyncio.start_server(kinds[kind], "0.0.0.0", int(port), ssl=tls)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
