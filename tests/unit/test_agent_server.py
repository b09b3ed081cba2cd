# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's socket: one request, its events, one end; and what a client may do to it without harm."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from minipod.agent import server as module
from minipod.agent.server import MAX_REQUEST, Call, Server
from minipod.errors import MinipodError, NotFound, UsageError


class Bench:
    """A server with a few verbs, and what they saw."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[Call] = []
        self.fds: list[int] = []
        self.cancelled: list[str] = []
        self.begun = asyncio.Event()
        self.server = Server(
            str(path),
            {
                "echo": self.echo,
                "count": self.count,
                "fail": self.fail,
                "wait": self.wait,
                "fds": self.take,
                "send": self.send,
            },
        )

    async def echo(self, call: Call) -> dict[str, Any]:
        self.calls.append(call)
        return {"you": call.request.get("text"), "fds": len(call.fds)}

    async def count(self, call: Call) -> dict[str, Any]:
        for i in range(int(call.request["to"])):
            await call.event({"number": i})
        return {}

    async def fail(self, call: Call) -> dict[str, Any]:
        raise {
            "usage": UsageError("bad", "write it well"),
            "none": NotFound("no such pod"),
            "os": FileNotFoundError(2, "No such file or directory", "/x"),
            "bug": ZeroDivisionError("oops"),
        }[call.text("how")]

    async def wait(self, call: Call) -> dict[str, Any]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(call.text("name", "?"))
            raise
        return {}

    async def take(self, call: Call) -> dict[str, Any]:
        self.fds = list(call.fds)
        assert not any(os.get_inheritable(fd) for fd in call.fds)
        if call.request.get("keep"):
            call.fds.clear()
        return {"read": [os.read(fd, 10).decode() for fd in self.fds]}

    async def send(self, call: Call) -> dict[str, Any]:
        reading, writing = os.pipe()
        os.write(writing, b"from the agent")
        await call.event({"started": True}, [reading])
        os.close(reading)
        os.close(writing)
        return {}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A server that listens; nothing of it is left behind, and no task died unseen."""
    unseen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, info: unseen.append(info))
    before = len(os.listdir("/proc/self/fd"))
    made = Bench(tmp_path / "agent.sock")
    made.server.listen()
    yield made
    await made.server.close()
    assert unseen == []
    kept = [fd for fd in made.fds if is_open(fd)]
    assert len(os.listdir("/proc/self/fd")) == before + len(kept)
    for fd in kept:
        os.close(fd)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class Client:
    """One connection, in the loop's time."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.sock.connect(str(path))
        self._loop = asyncio.get_running_loop()
        self._data = b""

    async def write(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            data = data[self.sock.sendmsg([data[:1]], rights) :]
        await self._loop.sock_sendall(self.sock, data)

    async def ask(self, fds: Sequence[int] = (), **request: Any) -> None:
        await self.write(json.dumps(request).encode() + b"\n", fds)

    async def line(self) -> dict[str, Any] | None:
        """Return the next line, or None at the end."""
        while b"\n" not in self._data:
            async with asyncio.timeout(30):
                chunk = await self._loop.sock_recv(self.sock, 65536)
            if not chunk:
                assert self._data == b""
                return None
            self._data += chunk
        line, _, self._data = self._data.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    async def answer(self) -> dict[str, Any]:
        """Return the one line that comes, and see that it is the last."""
        found = await self.line()
        assert found is not None
        assert await self.line() is None
        return found

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[Client]:
    made = Client(bench.path)
    yield made
    made.close()


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop its turns until *condition* holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


# ---- requests and answers -----------------------------------------------------------------------


async def test_a_request_and_its_end(client: Client) -> None:
    await client.ask(verb="echo", text="hällo \udcff")
    assert await client.answer() == {"done": {"you": "hällo \udcff", "fds": 0}}


async def test_events_come_before_the_end(client: Client) -> None:
    await client.ask(verb="count", to=3)
    lines = [await client.line() for _ in range(4)]
    assert lines == [{"event": {"number": i}} for i in range(3)] + [{"done": {}}]
    assert await client.line() is None


async def test_a_request_may_come_in_pieces(client: Client) -> None:
    data = json.dumps({"verb": "echo", "text": "x" * 1000}).encode() + b"\n"
    for i in range(0, len(data), 97):
        await client.write(data[i : i + 97])
        await asyncio.sleep(0)
    assert (await client.answer())["done"]["you"] == "x" * 1000


async def test_a_manifest_of_a_mebibyte_fits(client: Client) -> None:
    text = "\x01" * (1 << 20)  # six bytes each as JSON
    assert len(json.dumps({"verb": "echo", "text": text})) < MAX_REQUEST
    await client.ask(verb="echo", text=text)
    found = await client.line()
    assert found and found["done"]["you"] == text


async def test_many_clients_at_once(bench: Bench) -> None:
    waiting = Client(bench.path)
    await waiting.ask(verb="wait")
    await bench.begun.wait()
    clients = [Client(bench.path) for _ in range(20)]
    for i, one in enumerate(clients):
        await one.ask(verb="echo", text=i)
    assert [(await one.answer())["done"]["you"] for one in clients] == list(range(20))
    for one in (*clients, waiting):
        one.close()


@pytest.mark.parametrize(
    ("how", "reason", "message", "remedy"),
    [
        ("usage", "Invalid", "bad", "write it well"),
        ("none", "NotFound", "no such pod", ""),
        ("os", "InternalError", "[Errno 2] No such file or directory: '/x'", ""),
        ("bug", "InternalError", "internal error: ZeroDivisionError('oops')", "the agent's log"),
    ],
)
async def test_errors_are_statuses(
    client: Client, how: str, reason: str, message: str, remedy: str
) -> None:
    await client.ask(verb="fail", how=how)
    status = (await client.answer())["error"]
    assert (status["kind"], status["status"]) == ("Status", "Failure")
    assert (status["reason"], status["message"]) == (reason, message)
    assert remedy in status["details"]["remedy"]
    rebuilt = MinipodError.from_status(status)
    assert rebuilt.exit_code == (2 if how == "usage" else 1)


@pytest.mark.parametrize("verb", ["nope", None, 5, ["echo"], {}])
async def test_an_unknown_verb(client: Client, verb: Any) -> None:
    await client.ask(verb=verb)
    status = (await client.answer())["error"]
    assert "unknown request" in status["message"]
    assert "upgrade" in status["details"]["remedy"]


def test_text_must_be_text() -> None:
    async def look() -> None:
        one, other = socket.socketpair()
        call = Call(one, {"verb": "x", "a": "text", "b": 5, "c": None}, [])
        assert call.text("a") == "text"
        assert call.text("z", "default") == "default"
        for name in ("b", "c", "z"):
            with pytest.raises(UsageError, match=f"request x: {name} must be a string"):
                call.text(name)
        one.close()
        other.close()

    asyncio.run(look())


# ---- what a client may do -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"no json\n",
        b"[]\n",
        b'"text"\n',
        b"5\n",
        b"null\n",
        b"{\n",
        b'{"verb": "echo"\xff}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"a":' * 100_000 + b"\n",
        b'{"verb": ' + b"9" * 5000 + b"}\n",
    ],
    ids=lambda data: repr(data[:12]),
)
async def test_a_malformed_request_is_told_so(bench: Bench, client: Client, data: bytes) -> None:
    reading, writing = os.pipe()
    await client.write(data, [reading])
    status = (await client.answer())["error"]
    assert status["reason"] == "Invalid"
    assert bench.calls == []
    os.close(reading)
    with pytest.raises(BrokenPipeError):  # the fd that came along is closed
        os.write(writing, b"x")
    os.close(writing)


async def test_a_request_without_end_is_cut_off(bench: Bench, client: Client) -> None:
    with contextlib.suppress(ConnectionError):
        await client.write(b"x" * (MAX_REQUEST + (1 << 20)))
    with contextlib.suppress(ConnectionError):
        while line := await client.line():
            assert "too long" in line["error"]["message"]
    other = Client(bench.path)  # and nobody else has noticed
    await other.ask(verb="echo", text="x")
    assert "done" in await other.answer()
    other.close()


@pytest.mark.parametrize("data", [b"", b'{"verb": "ec'])
async def test_a_client_that_leaves_in_the_middle_of_its_request(
    bench: Bench, client: Client, data: bytes
) -> None:
    reading, writing = os.pipe()
    await client.write(b" " + data, [reading])
    client.close()
    os.close(reading)

    def closed() -> bool:
        try:
            os.write(writing, b"x")
        except BrokenPipeError:
            return True
        return False

    await until(closed)
    os.close(writing)
    assert bench.calls == []


async def test_a_client_that_goes_cancels_what_it_asked_for(bench: Bench, client: Client) -> None:
    await client.ask(verb="wait", name="first")
    await bench.begun.wait()
    assert bench.cancelled == []
    client.close()
    await until(lambda: bench.cancelled == ["first"])


async def test_a_client_that_does_not_read_is_let_go(bench: Bench, client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await client.ask(verb="count", to=10**6)
    for _ in range(10):
        await asyncio.sleep(0)
    client.close()
    other = Client(bench.path)
    await other.ask(verb="echo")
    assert "done" in await other.answer()
    other.close()


async def test_only_our_own_user_may_ask(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_peer_uid", lambda sock: 12345)
    with contextlib.suppress(ConnectionError):
        await client.ask(verb="echo", text="secret")
        assert await client.line() is None
    assert bench.calls == []


async def test_the_peer_is_known_by_the_kernel() -> None:
    one, other = socket.socketpair()
    assert module._peer_uid(one) == os.getuid()
    one.close()
    other.close()


# ---- fds ----------------------------------------------------------------------------------------


async def test_fds_come_along_and_are_closed_at_the_end(bench: Bench, client: Client) -> None:
    pipes = [os.pipe() for _ in range(3)]
    for i, (_, writing) in enumerate(pipes):
        os.write(writing, b"%d" % i)
    await client.ask([reading for reading, _ in pipes], verb="fds")
    assert await client.answer() == {"done": {"read": ["0", "1", "2"]}}
    for reading, _ in pipes:
        os.close(reading)
    for _, writing in pipes:
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        os.close(writing)


async def test_fds_that_a_verb_takes_are_its_own(bench: Bench, client: Client) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    await client.ask([reading], verb="fds", keep=True)
    await client.answer()
    (kept,) = bench.fds
    assert is_open(kept)
    os.close(reading)
    os.close(writing)


async def test_fds_of_a_call_that_is_cancelled_are_closed(bench: Bench, client: Client) -> None:
    reading, writing = os.pipe()
    await client.ask([reading], verb="wait")
    await bench.begun.wait()
    os.close(reading)
    client.close()
    await until(lambda: bench.cancelled != [])
    for _ in range(10):
        await asyncio.sleep(0)
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


async def test_fds_go_with_an_event(client: Client) -> None:
    await client.ask(verb="send")
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(client.sock.fileno(), ready.set)
    await ready.wait()
    loop.remove_reader(client.sock.fileno())
    data, ancillary, _, _ = client.sock.recvmsg(65536, socket.CMSG_SPACE(4))
    received = array.array("i")
    received.frombytes(ancillary[0][2])
    assert os.read(received[0], 100) == b"from the agent"
    os.close(received[0])
    client._data = data
    assert await client.line() == {"event": {"started": True}}
    assert await client.answer() == {"done": {}}


# ---- coming and going ---------------------------------------------------------------------------


async def test_the_socket_is_the_owners_alone(bench: Bench) -> None:
    assert bench.path.stat().st_mode & 0o777 == 0o600


async def test_a_stale_socket_gives_way_and_a_long_path_is_fine(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)  # sun_path has 108 bytes
    deep.mkdir()
    path = deep / "agent.sock"
    first = Server(str(path), {})
    first.listen()
    second = Bench(path)
    second.server.listen()
    fd = os.open(deep, os.O_RDONLY)
    client = Client(Path(f"/proc/self/fd/{fd}/agent.sock"))
    await client.ask(verb="echo")
    assert "done" in await client.answer()
    client.close()
    os.close(fd)
    await second.server.close()
    await first.close()
    assert not path.exists()


async def test_the_umask_is_as_it_was(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        server = Server(str(tmp_path / "s"), {})
        server.listen()
        assert os.umask(0o027) == 0o027
        await server.close()
    finally:
        os.umask(before)


async def test_closing_ends_all_calls(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "agent.sock")
    bench.server.listen()
    clients = [Client(bench.path) for _ in range(3)]
    for i, one in enumerate(clients):
        await one.ask(verb="wait", name=str(i))
        await bench.begun.wait()
        bench.begun.clear()
    await bench.server.close()
    assert sorted(bench.cancelled) == ["0", "1", "2"]
    assert not bench.path.exists()
    for one in clients:
        assert await one.line() is None
        one.close()


async def test_out_of_fds_is_no_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    accept, sleep = loop.sock_accept, asyncio.sleep
    failures = [OSError(24, "Too many open files")]
    slept: list[float] = []

    async def failing(sock: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return await accept(sock)

    async def quick(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(loop, "sock_accept", failing)
    monkeypatch.setattr(asyncio, "sleep", quick)
    first, second = Client(bench.path), Client(bench.path)
    await first.ask(verb="echo")
    assert "done" in await first.answer()
    await second.ask(verb="echo")
    assert "done" in await second.answer()
    assert slept == [0.1]
    first.close()
    second.close()


async def test_a_socket_that_another_made_stays(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        bench = Bench(path)
        bench.server.listen(made.dup())
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"verb": "echo", "text": "x"}\n')
        assert json.loads(await reader.readline()) == {"done": {"you": "x", "fds": 0}}
        writer.close()
        await writer.wait_closed()
        await bench.server.close()
        assert path.exists()
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(str(path))  # it waits for the next agent
