# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe or a hook says is done, once: the target, the time limit, the words."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any, cast

import pytest

from minipod.api import (
    Container,
    ContainerPort,
    EnvVar,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    LifecycleHandler,
    Probe,
    SleepAction,
    TCPSocketAction,
)
from minipod.errors import MinipodError
from minipod.pods.commands import MAX_OUTPUT, Commands, Output
from minipod.pods.handlers import Handlers, HookFailed, port_number
from minipod.pods.probes import Outcome, Verdict, duration
from tests.servers import Service, health, server


class FakeCommands:
    """Commands that do what a test says: exit with a code, write, hang, fail."""

    def __init__(self, code: int = 0, writes: bytes = b"", error: str = "") -> None:
        self.code, self.writes, self.error = code, writes, error
        self.asked: list[tuple[str, ...]] = []
        self.hangs = self.killed = False

    async def run(self, name: str, command: tuple[str, ...], output: Output) -> int:
        self.asked.append((name, *command))
        if self.error:
            raise MinipodError(self.error)
        with output.fds() as (_, stdout, _):
            if self.writes:
                os.write(stdout, self.writes)
        try:
            await asyncio.sleep(1000 if self.hangs else 0)
        except asyncio.CancelledError:
            self.killed = True
            raise
        return self.code


def handlers(commands: FakeCommands | None = None, address: str = "127.0.0.1") -> Handlers:
    return Handlers(cast(Commands, commands or FakeCommands()), lambda: address)


CONTAINER = Container(
    name="c",
    ports=[ContainerPort(name="web", container_port=8080), ContainerPort(container_port=9)],
    env=[EnvVar(name="A", value="a b"), EnvVar(name="B", value="$(A)")],
)


def execs(*command: str, **fields: Any) -> Probe:
    return Probe(exec=ExecAction(command=list(command)), **fields)


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (FakeCommands(0, b"fine"), Outcome(Verdict.SUCCESS, "fine")),
        (FakeCommands(1, b"bad\xff"), Outcome(Verdict.FAILURE, "bad\ufffd")),
        (FakeCommands(error="not there"), Outcome(Verdict.ERROR, "not there")),
        (FakeCommands(1, b"x" * 50_000), Outcome(Verdict.FAILURE, "x" * 1024)),
    ],
)
async def test_commands(commands: FakeCommands, expected: Outcome) -> None:
    assert await handlers(commands).probe(CONTAINER, execs("x")) == expected


async def test_a_command_has_the_variables_that_the_manifest_gives_and_no_others() -> None:
    commands = FakeCommands()
    await handlers(commands).probe(CONTAINER, execs("$(A)", "$(B)", "$(C)", "$$(A)"))
    assert commands.asked == [("c", "a b", "$(A)", "$(C)", "$(A)")]


async def test_a_hook_s_command_is_taken_as_it_is() -> None:
    commands = FakeCommands()
    hook = LifecycleHandler(exec=ExecAction(command=["$(A)"]))
    await handlers(commands).hook(CONTAINER, hook, unwarned)
    assert commands.asked == [("c", "$(A)")]


async def test_a_command_that_hangs_is_killed_in_time() -> None:
    commands = FakeCommands()
    commands.hangs = True
    outcome = await handlers(commands).probe(CONTAINER, execs("sleep", "9", timeout_seconds=0))
    assert outcome == Outcome(Verdict.FAILURE, 'command timed out: "sleep 9" timed out after 0s')
    assert commands.killed


async def test_an_endless_output_is_kept_to_a_bound_and_read_at_leisure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("minipod.pods.commands._PAUSE", 1000)
    output = Output()
    with output.fds() as (_, stdout, _):
        mine = os.dup(stdout)
    os.set_blocking(mine, False)
    written = 0
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            written += os.write(mine, b"x" * 65536)
        await asyncio.sleep(0)
    assert written <= 3 * 65536  # read once, and once more by nobody for a while
    assert len(output.text()) == MAX_OUTPUT
    output.close()
    with pytest.raises(BrokenPipeError):
        os.write(mine, b"x")
    os.close(mine)


@pytest.mark.parametrize(("port", "expected"), [(80, 80), ("web", 8080)])
def test_ports_by_number_and_by_name(port: int | str, expected: int) -> None:
    assert port_number(CONTAINER, port) == expected


@pytest.mark.parametrize(
    "probe",
    [
        Probe(tcp_socket=TCPSocketAction(port="wed")),
        Probe(http_get=HTTPGetAction(port="wed")),
    ],
)
async def test_a_port_that_there_is_not_counts_neither_way(probe: Probe) -> None:
    assert await handlers().probe(CONTAINER, probe) == Outcome(Verdict.ERROR, "port wed not found")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1000)


async def test_time_limits_have_the_kubelet_s_words() -> None:
    async with server(silent) as port:
        where = f"127.0.0.1:{port}"
        get = HTTPGetAction(port=port, path="/x")
        outcome = await handlers().probe(CONTAINER, Probe(http_get=get, timeout_seconds=0))
        assert outcome == Outcome(
            Verdict.FAILURE,
            f'Get "http://{where}/x": context deadline exceeded '
            "(Client.Timeout exceeded while awaiting headers)",
        )
        call = Probe(grpc=GRPCAction(port=port), timeout_seconds=0)
        outcome = await handlers().probe(CONTAINER, call)
        assert outcome.verdict is Verdict.FAILURE
        assert outcome.text.startswith(f'timeout: failed to connect service "{where}"')
        tcp = Probe(tcp_socket=TCPSocketAction(port=port), timeout_seconds=0)
        outcome = await handlers().probe(CONTAINER, tcp)
        assert outcome == Outcome(Verdict.FAILURE, f"dial tcp {where}: i/o timeout")


async def test_the_pod_s_address_unless_a_host_is_named() -> None:
    async with server(Service(body=health(1)).serve) as port:
        tcp = TCPSocketAction(port=port)
        assert (await handlers().probe(CONTAINER, Probe(tcp_socket=tcp))).good
        assert not (
            await handlers(address="127.0.0.2").probe(CONTAINER, Probe(tcp_socket=tcp))
        ).good
        tcp.host = "127.0.0.1"
        assert (await handlers(address="127.0.0.2").probe(CONTAINER, Probe(tcp_socket=tcp))).good
        call = Probe(grpc=GRPCAction(port=port))
        assert await handlers().probe(CONTAINER, call) == Outcome(
            Verdict.SUCCESS, "service healthy"
        )


# ---- hooks -------------------------------------------------------------------------------------------


def unwarned(reason: str, message: str) -> None:
    raise AssertionError(f"{reason}: {message}")


async def test_hooks_that_fail() -> None:
    hook = LifecycleHandler(exec=ExecAction(command=["x"]))
    with pytest.raises(HookFailed, match="exited with 3"):
        await handlers(FakeCommands(3)).hook(CONTAINER, hook, unwarned)
    with pytest.raises(HookFailed, match="gone"):
        await handlers(FakeCommands(error="gone")).hook(CONTAINER, hook, unwarned)
    async with server(silent) as port:
        pass
    with pytest.raises(HookFailed, match="connection refused"):
        get = LifecycleHandler(http_get=HTTPGetAction(port=port))
        await handlers().hook(CONTAINER, get, unwarned)
    with pytest.raises(HookFailed, match="port wed not found"):
        get = LifecycleHandler(http_get=HTTPGetAction(port="wed"))
        await handlers().hook(CONTAINER, get, unwarned)


async def test_any_answer_to_an_http_hook_is_a_success() -> None:
    seen = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 500 no\r\n\r\n")

    async with server(refuse) as port:
        hook = LifecycleHandler(http_get=HTTPGetAction(port=port, path="/bye"))
        await handlers().hook(CONTAINER, hook, unwarned)
    assert seen[0].startswith(b"GET /bye HTTP/1.1\r\n")
    assert b"User-Agent: kube-lifecycle/1.37\r\n" in seen[0]


async def test_an_https_hook_falls_back_to_http() -> None:
    told = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2000)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async with server(plain) as port:
        hook = LifecycleHandler(http_get=HTTPGetAction(port=port, scheme="HTTPS"))
        await handlers().hook(CONTAINER, hook, lambda *words: told.append(words))
    assert told == [
        (
            "LifecycleHTTPFallback",
            f"request to HTTPS lifecycle hook 127.0.0.1:{port} got HTTP response, "
            "retry with HTTP succeeded",
        )
    ]


async def test_a_sleep() -> None:
    hook = LifecycleHandler(sleep=SleepAction(seconds=1000))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await handlers().hook(CONTAINER, hook, unwarned)
    await handlers().hook(CONTAINER, LifecycleHandler(sleep=SleepAction(seconds=0)), unwarned)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1s"), (59, "59s"), (60, "1m0s"), (3599, "59m59s"), (7201, "2h0m1s")],
)
def test_durations_as_go_writes_them(seconds: int, words: str) -> None:
    assert duration(seconds) == words
