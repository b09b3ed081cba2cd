# SPDX-License-Identifier: GPL-3.0-or-later
"""The unix socket in front of the API: JSON lines, with fds passed beside them.

One request per connection: the client sends one line, the agent answers with any number of ``{"event": …}``
lines and one last ``{"done": …}`` or ``{"error": Status}``. A client that goes away cancels what it asked for.
Only the user that the agent runs as may connect: the socket is 0600 in a 0700 directory, and SO_PEERCRED is
checked (CVE-2020-15257).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from minipod.errors import MinipodError, UsageError

log = logging.getLogger(__name__)

MAX_REQUEST = 8 * 1024 * 1024  # a manifest of 1 MiB, escaped as JSON


class Call:
    """One request in progress.

    Attributes:
        request: what the client asked for.
        fds: what it sent along; closed at the end of the call unless taken.
    """

    def __init__(self, sock: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self.request = request
        self.fds = fds

    async def event(self, data: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send an intermediate line, with *fds* if any."""
        await self._send({"event": data}, fds)

    async def note(self, words: str) -> None:
        """Send *words* for the user to read, unless they are none."""
        if words:
            await self.event({"note": words})

    async def finish(self, kind: str, data: dict[str, Any]) -> None:
        """Send the last line."""
        await self._send({kind: data})

    async def _send(self, line: dict[str, Any], fds: Sequence[int] = ()) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if fds:
            # The fds travel with the first byte.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self._sock.sendmsg([data[:1]], rights)
            data = data[sent:]
        await self._loop.sock_sendall(self._sock, data)

    def text(self, name: str, default: str | None = None) -> str:
        """Return the string *name* of the request.

        Raises:
            UsageError: it is not there, or no string.
        """
        value = self.request.get(name, default)
        if not isinstance(value, str):
            raise UsageError(f"request {self.request.get('verb')}: {name} must be a string")
        return value

    async def client_gone(self) -> None:
        """Return when the client has closed its end."""
        while await self._loop.sock_recv(self._sock, 4096):
            pass


Handler = Callable[[Call], Awaitable[dict[str, Any]]]


class Server:
    """Accepts connections and hands each request to the handler of its verb."""

    def __init__(self, path: str, handlers: dict[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ours = True

    def listen(self, inherited: socket.socket | None = None) -> None:
        """Accept connections.

        Args:
            inherited: a socket that listens already; it stays when we go. None makes one, in place of a stale one of
                an agent that died.
        """
        if inherited is None:
            self._bind()
        else:
            self._listener.close()
            self._listener, self._ours = inherited, False
        self._listener.setblocking(False)
        # For an inherited one, too: clients see from now on who we are (SO_PEERCRED), not who made it.
        self._listener.listen(128)
        task = asyncio.ensure_future(self._accept())
        self._tasks.add(task)

    def _bind(self) -> None:
        directory, name = os.path.split(self._path)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
            before = os.umask(0o177)
            try:
                self._listener.bind(f"/proc/self/fd/{fd}/{name}")
            finally:
                os.umask(before)
        finally:
            os.close(fd)

    async def close(self) -> None:
        """Take the socket away, if we made it, and end all calls."""
        if self._ours:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        self._listener.close()
        current = asyncio.current_task()
        others = [task for task in self._tasks if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.error("accept: %s", error)
                await asyncio.sleep(0.1)  # out of fds: let some calls end
                continue
            sock.setblocking(False)
            task = asyncio.ensure_future(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        fds: list[int] = []
        try:
            if _peer_uid(sock) not in (0, os.geteuid()):
                return
            call = Call(sock, {}, fds)
            try:
                line = await _receive(sock, fds)
                if line is None:
                    return
                call.request = _parse(line)
            except UsageError as error:
                await call.finish("error", error.to_status())
                return
            await self._answer(call)
        except ConnectionError as error:
            log.debug("a client went away: %s", error)
        finally:
            for fd in fds:
                os.close(fd)
            sock.close()

    async def _answer(self, call: Call) -> None:
        handler = self._handlers.get(str(call.request.get("verb")))
        if handler is None:
            error = UsageError(
                f"unknown request {call.request.get('verb')!r}",
                "restart the agent after an upgrade",
            )
            await call.finish("error", error.to_status())
            return
        work = asyncio.ensure_future(handler(call))
        gone = asyncio.ensure_future(call.client_gone())
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return
            kind, data = _outcome(work)
            await call.finish(kind, data)
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


def _outcome(work: asyncio.Future[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    error = work.exception()
    if error is None:
        return "done", work.result()
    if isinstance(error, MinipodError):
        return "error", error.to_status()
    log.error("a request failed", exc_info=error)
    if isinstance(error, OSError):
        return "error", MinipodError(str(error)).to_status()
    words = MinipodError(f"internal error: {error!r}", "the agent's log has more; please report it")
    return "error", words.to_status()


def _peer_uid(sock: socket.socket) -> int:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


async def _receive(sock: socket.socket, fds: list[int]) -> bytes | None:
    """Read one line, and into *fds* what came with it."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    while b"\n" not in data:
        ready = asyncio.Event()
        loop.add_reader(sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sock.fileno())
        chunk, ancillary, _, _ = sock.recvmsg(
            262144, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        )
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
                fds.extend(received)
        if not chunk:
            return None
        data += chunk
        if len(data) > MAX_REQUEST:
            raise UsageError(f"the request is too long: over {MAX_REQUEST} bytes")
    return bytes(data.split(b"\n", 1)[0])


def _parse(line: bytes) -> dict[str, Any]:
    """Return the request that *line* is.

    Raises:
        UsageError: it is no JSON object.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise UsageError("the request is no JSON object")
    return request
