# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP connection of a probe, plain or TLS, on the event loop's own socket calls.

No transport and no protocol object: a probe is one question and one answer, and a node asks hundreds a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

CHUNK = 8192
MAX_TLS_BYTES = 256 * 1024
"""Of one TLS connection: what a server sends beside the answer, session tickets say, may have no end."""


class ConnectError(Exception):
    """There is no connection; its text is what Go's dialer would say."""


class PlainHTTPError(OSError):
    """A server was asked by TLS, and answered by HTTP without it."""

    def __init__(self) -> None:
        super().__init__("http: server gave HTTP response to HTTPS client")


class Channel:
    """A connection; owned by whoever opened it."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock

    async def send(self, data: bytes) -> None:
        """Write all of *data*."""
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        """Return what has come, at least one byte; ``b""`` at the end."""
        return await self._loop.sock_recv(self._sock, CHUNK)


class TlsChannel(Channel):
    """The same with TLS, through memory: nothing of OpenSSL touches the socket."""

    def __init__(self, sock: socket.socket, host: str, protocols: tuple[str, ...]) -> None:
        super().__init__(sock)
        import ssl

        self._want_read = ssl.SSLWantReadError
        self._ended = (ssl.SSLZeroReturnError, ssl.SSLEOFError)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._count = 0
        name = None if _is_address(host) else host
        self._tls = _context(protocols).wrap_bio(self._incoming, self._outgoing, False, name)

    async def handshake(self) -> None:
        """Agree on keys; whose they are is not asked.

        Raises:
            ssl.SSLError: the other side does not speak TLS, or none that we do.
        PlainHTTPError: it speaks HTTP.
        """
        while True:
            try:
                self._tls.do_handshake()
            except self._want_read:
                await self._flush()
                await self._feed()
            else:
                return await self._flush()

    async def send(self, data: bytes) -> None:
        """Write all of *data*."""
        self._tls.write(data)  # into memory, which takes it all
        await self._flush()

    async def receive(self) -> bytes:
        """Return what has come, at least one byte; ``b""`` at the end."""
        while True:
            try:
                return self._tls.read(CHUNK)
            except self._want_read:
                await self._flush()
                await self._feed()
            except self._ended:
                return b""

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await super().send(data)

    async def _feed(self) -> None:
        data = await super().receive()
        if not data:
            self._incoming.write_eof()
            return
        if not self._count and data.startswith(b"HTTP/"):
            raise PlainHTTPError
        self._count += len(data)
        if self._count > MAX_TLS_BYTES:
            raise ConnectError(f"the server sent more than {MAX_TLS_BYTES} bytes")
        self._incoming.write(data)


@contextlib.asynccontextmanager
async def connect(
    host: str, port: int, *, tls: bool = False, protocols: tuple[str, ...] = ()
) -> AsyncIterator[Channel]:
    """Open a connection for as long as the block lasts; *protocols* are those to offer by ALPN.

    Raises:
        ConnectError: nobody answers there.
        ssl.SSLError: whoever does speaks no TLS.
    """
    sock = await _dial(host, port)
    try:
        if not tls:
            yield Channel(sock)
            return
        channel = TlsChannel(sock, host, protocols)
        await channel.handshake()
        yield channel
    finally:
        sock.close()


async def _dial(host: str, port: int) -> socket.socket:
    error: OSError | None = None
    for family, address in await _addresses(host, port):
        try:
            return await _connected(family, address)
        except OSError as failed:
            error = failed
    why = os.strerror(error.errno or 0).lower() if error else "no address"
    raise ConnectError(f"dial tcp {join_host_port(host, port)}: connect: {why}")


async def _connected(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Return where to connect to; only a name takes a thread, and never one that others wait for."""
    if _is_address(host):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [(family, (host.strip("[]"), port))]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(
            _resolvers(), lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
    except (OSError, UnicodeError) as error:
        raise ConnectError(f"dial tcp: lookup {host}: no such host") from error
    return [(family, (str(address[0]), port)) for family, _, _, _, address in found[:4]]


@cache
def _resolvers() -> ThreadPoolExecutor:
    # A resolver may take half a minute to give up: probes of names wait for each other at worst.
    return ThreadPoolExecutor(max_workers=16, thread_name_prefix="probe-names")


@cache
def _context(protocols: tuple[str, ...]) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Nothing is secret here, and whether a key is long enough is not what was asked.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def join_host_port(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
