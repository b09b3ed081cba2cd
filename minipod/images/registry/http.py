# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP request over a connection that may be used again; through a proxy where the environment says so.

On the standard library's ``http.client``, which follows no redirect, knows no credentials and retries nothing: that is
decided in ``client``, where hostile answers are thought of.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from urllib.parse import SplitResult, urlsplit

from minipod import __version__
from minipod.images.registry.proxies import Proxies

USER_AGENT = f"minipod/{__version__}"
Body = bytes | Callable[[], Iterable[bytes]] | None
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a registry may take.

    Attributes:
        connect: seconds until a connection stands, TLS included.
        idle: seconds between two pieces of an answer.
        window: seconds over which a transfer is judged.
        slowest: bytes that have to come in each window.
        attempts: how often what fails for a moment is tried.
        pause: seconds before the second attempt; it doubles from there.
        longest_pause: seconds that a registry may ask to be left alone without that being an error.
    """

    connect: float = 15.0
    idle: float = 30.0
    window: float = 60.0
    slowest: int = 64 << 10
    attempts: int = 5
    pause: float = 0.5
    longest_pause: float = 20.0


class TooSlow(OSError):
    """Fewer bytes came than :class:`Patience` asks for."""


class Address:
    """A host and a port that are spoken to with http or https."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self.scheme, self.host, self.port = scheme, host, port

    @classmethod
    def of(cls, url: str) -> Address:
        """Return where *url* leads.

        Raises:
            ValueError: it is not an http or https URL of a host, or has a user in it.
        """
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
            raise ValueError(f"{url[:200]!a} is not an http or https address")
        return cls(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes two of them the same."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class Answer:
    """What a server has answered; to be closed, or read to its end so that the connection is used again.

    Attributes:
        url: what was asked for.
        status: the HTTP status.
        headers: the header fields.
        length: bytes of the body, or None when the server does not say.
    """

    def __init__(
        self,
        url: str,
        response: http.client.HTTPResponse,
        patience: Patience,
        done: Callable[[bool], None],
    ) -> None:
        self.url = url
        self.status = response.status
        self.headers: Message = response.headers
        self.length = response.length
        self._response = response
        self._patience = patience
        self._done: Callable[[bool], None] | None = done
        self._window_end = time.monotonic() + patience.window
        self._window_bytes = 0
        if response.length == 0:  # http.client leaves it open until somebody reads nothing
            response.close()
        if response.isclosed():
            self._release(True)

    def read(self, size: int, /) -> bytes:
        """Return at least one byte and at most *size*; nothing at the end, which may be too early.

        Raises:
            OSError: the connection broke, or is too slow.
        """
        response = self._response
        if response.isclosed():
            return b""
        before = response.length
        try:
            data = response.read1(size)
        except http.client.HTTPException as error:
            self.close()
            raise ConnectionError(f"broken answer: {type(error).__name__}") from error
        if before is not None:
            # Python before 3.11.8 does not count what read1 takes, and would wait for more (gh-113199).
            if response.length == before:
                response.length = before - len(data)
            if not response.length:
                response.close()
        self._judge(len(data))
        if response.isclosed() or not data:
            self._release(before is None or response.length == 0)
        return data

    def whole(self, limit: int) -> bytes:
        """Return the whole body, or its first *limit* bytes, and close."""
        parts, left = [], limit
        try:
            while left and (data := self.read(min(left, 1 << 16))):
                parts.append(data)
                left -= len(data)
        finally:
            self.close()
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection up, unless it was read to the end."""
        self._release(False)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _judge(self, count: int) -> None:
        self._window_bytes += count
        now = time.monotonic()
        if now >= self._window_end:
            if self._window_bytes < self._patience.slowest and not self._response.isclosed():
                self.close()
                raise TooSlow(
                    f"only {self._window_bytes} bytes came in {self._patience.window:g} seconds"
                )
            self._window_end, self._window_bytes = now + self._patience.window, 0

    def _release(self, reusable: bool) -> None:
        if self._done is not None:
            done, self._done = self._done, None
            done(reusable and not self._response.will_close)


class Http:
    """Makes requests; several threads may.

    Args:
        proxies: which proxy leads where.
        context: gives the TLS context for a host and port.
        patience: how long anything may take.
    """

    def __init__(
        self, proxies: Proxies, context: Callable[[str, int], ssl.SSLContext], patience: Patience
    ) -> None:
        self._proxies = proxies
        self._context = context
        self._patience = patience
        self._lock = threading.Lock()
        self._busy: set[http.client.HTTPConnection] = set()
        self._idle: dict[tuple[str, str, int], list[http.client.HTTPConnection]] = {}
        self._is_closed = False

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None
    ) -> Answer:
        """Return the answer to one request.

        Args:
            method: GET, HEAD, POST, PATCH or PUT.
            url: what is asked.
            headers: of the request; with a *body* that comes in pieces, its ``Content-Length`` is among them.
            body: bytes, or what makes the pieces of one. These are never sent twice: what belongs to them may have come
                through, so that the caller has to ask before it goes on.

        Raises:
            ValueError: *url* is not an http or https URL.
            OSError: there is no connection, or no answer on it.
        """
        address = Address.of(url)
        connection = self._kept(address)
        if connection is not None:
            # A server may close it at this very moment: that says nothing about the server.
            try:
                return self._ask(connection, address, method, url, headers, body)
            except BaseException as error:
                connection.close()
                if callable(body) or not isinstance(error, OSError):
                    raise
        connection = self._connect(address)
        try:
            return self._ask(connection, address, method, url, headers, body)
        except BaseException:
            connection.close()
            raise

    def abort(self) -> None:
        """Make all requests that are under way fail."""
        with self._lock:
            busy = list(self._busy)
        for connection in busy:
            _shut(connection)

    def close(self) -> None:
        """Close the connections that nobody uses, and keep none from now on."""
        with self._lock:
            self._is_closed = True
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def _kept(self, address: Address) -> http.client.HTTPConnection | None:
        """Take a connection that was used before, and that the server has not closed since."""
        while True:
            with self._lock:
                kept = self._idle.get(address.key)
                connection = kept.pop() if kept else None
            if connection is None or not _has_spoken(connection):
                return connection
            connection.close()

    def _connect(self, address: Address) -> http.client.HTTPConnection:
        proxy = self._proxies.find(address.scheme, address.host, address.port)
        timeout = self._patience.connect
        host, port = (proxy.host, proxy.port) if proxy else (address.host, address.port)
        connection: http.client.HTTPConnection
        if address.scheme == "https":
            context = self._context(address.host, address.port)
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
            if proxy:
                connection.set_tunnel(address.host, address.port, headers=proxy.headers())
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            connection.connect()
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(f"broken answer of the proxy: {type(error).__name__}") from error
        except BaseException:
            connection.close()
            raise
        assert isinstance(connection.sock, socket.socket), "connected"
        connection.sock.settimeout(self._patience.idle)
        return connection

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        address: Address,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body,
    ) -> Answer:
        parts = urlsplit(url)
        target = _target(parts)
        proxy = self._proxies.find(address.scheme, address.host, address.port)
        extra: dict[str, str] = {}
        if proxy and address.scheme == "http":
            target, extra = f"http://{parts.netloc}{target}", proxy.headers()
        everything = {"Host": str(address), "User-Agent": USER_AGENT, **headers, **extra}
        # The timeout of a socket is for each of its pieces: a head that comes byte by byte would never be too late.
        with self._lock:
            self._busy.add(connection)
        watch = _Watch(connection, self._patience.window)
        try:
            cut = False
            pieces = watch.watched(body()) if callable(body) else body
            try:
                connection.request(method, target, body=pieces, headers=everything)
            except (BrokenPipeError, ConnectionResetError):
                if body is None:
                    raise
                cut = True  # who does not want the rest of a body has often said why before closing
            response = connection.getresponse()
            if watch.late:  # to http.client, a head that breaks off is whole
                response.close()
                raise TooSlow(f"no whole head came in {self._patience.window:g} seconds")
        except BaseException as error:
            with self._lock:
                self._busy.discard(connection)
            if watch.late and isinstance(error, OSError):
                raise TooSlow(f"nothing came in {self._patience.window:g} seconds") from error
            if isinstance(error, http.client.HTTPException):
                raise ConnectionError(f"broken answer: {type(error).__name__}") from error
            raise
        finally:
            watch.stop()

        def done(reusable: bool) -> None:
            with self._lock:
                self._busy.discard(connection)
                kept = reusable and not cut and not self._is_closed
                if kept:
                    self._idle.setdefault(address.key, []).append(connection)
            if not kept:
                response.close()
                connection.close()

        return Answer(url, response, self._patience, done)


class _Watch:
    """Cuts a connection off on which nothing happens for *window* seconds, be it sent or answered."""

    def __init__(self, connection: http.client.HTTPConnection, window: float) -> None:
        self._connection = connection
        self._window = window
        self._timer = self._started()
        self.late = False

    def watched(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield *pieces*; each has the whole time to be sent in."""
        for piece in pieces:
            self._timer.cancel()
            self._timer = self._started()
            yield piece

    def stop(self) -> None:
        self._timer.cancel()

    def _started(self) -> threading.Timer:
        timer = threading.Timer(self._window, self._abort)
        timer.daemon = True
        timer.start()
        return timer

    def _abort(self) -> None:
        self.late = True
        _shut(self._connection)


def _has_spoken(connection: http.client.HTTPConnection) -> bool:
    """Whether something has come that nobody asked for: the end, as a rule."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _shut(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError):
        if isinstance(connection.sock, socket.socket):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path
