# SPDX-License-Identifier: GPL-3.0-or-later
"""Does what a probe or a hook says, once: a command, a request, a connection, a call, a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from minipod.api import Container, HTTPGetAction, LifecycleHandler, Probe
from minipod.errors import MinipodError
from minipod.plan.command import Room, expand
from minipod.pods.commands import Commands, Output
from minipod.pods.probes import Outcome, Verdict, duration, grpc, http, tcp
from minipod.pods.probes.channel import ConnectError, PlainHTTPError, join_host_port
from minipod.pods.probes.outcome import failure

Warn = Callable[[str, str], None]
"""Tells a warning event: its reason and its message."""


class HookFailed(Exception):
    """A hook failed; the text says how, and is for the agent's log: it may hold what a server wrote."""


class Handlers:
    """Does what the probes and hooks of one pod say; *address* returns the pod's own."""

    def __init__(self, commands: Commands, address: Callable[[], str]) -> None:
        self._commands = commands
        self._address = address

    # ---- probes ----

    async def probe(self, container: Container, probe: Probe) -> Outcome:
        """Ask once, for no longer than the probe's timeout."""
        limit = probe.timeout_seconds
        output = None
        try:
            if probe.exec:
                output = Output()
            async with asyncio.timeout(limit):
                return await self._ask(container, probe, output)
        except TimeoutError:
            return self._timed_out(container, probe)
        except MinipodError as error:
            return Outcome(Verdict.ERROR, str(error))
        finally:
            if output:
                output.close()

    async def _ask(self, container: Container, probe: Probe, output: Output | None) -> Outcome:
        if probe.exec and output:
            # Kubernetes expands what the manifest itself gives, and nothing else, in probes only.
            given = {variable.name: variable.value or "" for variable in container.env}
            room = Room()
            command = tuple(room.take(expand(word, given)) for word in probe.exec.command)
            code = await self._commands.run(container.name, command, output)
            text = output.text()
            return Outcome(Verdict.SUCCESS, text) if code == 0 else failure(text.rstrip("\n"))
        if probe.http_get:
            return await http.probe(self._request(container, probe.http_get, "probe"))
        if probe.tcp_socket:
            host = probe.tcp_socket.host or self._address()
            return await tcp.probe(host, port_number(container, probe.tcp_socket.port))
        assert probe.grpc, "a probe has a handler"
        action = probe.grpc
        tls = action.mode == "TLS"
        return await grpc.probe(self._address(), action.port, action.service, tls=tls)

    def _timed_out(self, container: Container, probe: Probe) -> Outcome:
        limit = duration(probe.timeout_seconds)
        if probe.exec:
            return failure(
                f'command timed out: "{" ".join(probe.exec.command)}" timed out after {limit}'
            )
        if probe.http_get:
            url = self._request(container, probe.http_get, "probe").url
            words = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return failure(f'Get "{url}": {words}')
        if probe.tcp_socket:
            host = probe.tcp_socket.host or self._address()
            port = port_number(container, probe.tcp_socket.port)
            return failure(f"dial tcp {join_host_port(host, port)}: i/o timeout")
        assert probe.grpc, "a probe has a handler"
        return grpc.timed_out(self._address(), probe.grpc.port, limit)

    def _request(self, container: Container, action: HTTPGetAction, agent: str) -> http.Request:
        return http.request(
            action.scheme,
            action.host or self._address(),
            port_number(container, action.port),
            action.path,
            action.http_headers,
            http2=action.protocol == "HTTP2",
            agent=agent,
        )

    # ---- hooks ----

    async def hook(self, container: Container, handler: LifecycleHandler, warn: Warn) -> None:
        """Do what a hook says, for as long as it takes; the caller limits the time.

        Raises:
            HookFailed: it failed.
        """
        try:
            if handler.exec:
                await self._command(container, handler.exec.command)
            elif handler.http_get:
                await self._get(container, handler.http_get, warn)
            elif handler.sleep:
                await asyncio.sleep(handler.sleep.seconds)
        except MinipodError as error:
            raise HookFailed(str(error)) from error

    async def _command(self, container: Container, command: list[str]) -> None:
        output = Output()
        try:
            code = await self._commands.run(container.name, tuple(command), output)
            text = output.text()
        finally:
            output.close()
        if code:
            raise HookFailed(f"command {command} exited with {code}: {text[:200]!r}")

    async def _get(self, container: Container, action: HTTPGetAction, warn: Warn) -> None:
        # As the kubelet: any answer will do, and an answer without TLS to a question with it asks for another try.
        request = self._request(container, action, "lifecycle")
        try:
            try:
                await http.follow(request)
            except PlainHTTPError:
                await http.follow(http.without_tls(request))
                where = join_host_port(request.host, request.port)
                what = f"request to HTTPS lifecycle hook {where} got HTTP response, retry with HTTP succeeded"
                warn("LifecycleHTTPFallback", what)
        except (http.HTTPError, ConnectError, OSError, ValueError) as error:
            raise HookFailed(f"{request.url}: {error}") from error


def port_number(container: Container, port: int | str) -> int:
    """Return a port by its number, or by its name among the container's.

    Raises:
        MinipodError: the container has no port of that name.
    """
    if isinstance(port, int):
        return port
    for known in container.ports:
        if known.name == port:
            return known.container_port
    raise MinipodError(f"port {port} not found")
