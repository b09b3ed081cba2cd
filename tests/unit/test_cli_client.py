# SPDX-License-Identifier: GPL-3.0-or-later
"""The client side of the socket, against a small agent that answers with scripted lines."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from minipod.cli import client
from minipod.cli.client import AgentDown, call, try_connect
from minipod.config import Config
from minipod.errors import MinipodError, NotFound

Json = dict[str, Any]


class Conversation:
    """The agent's side of one request."""

    def __init__(self, sock: socket.socket, request: Json, fds: list[int]) -> None:
        self.sock = sock
        self.request = request
        self.fds = fds

    def send(self, line: Json, fds: Sequence[int] = ()) -> None:
        """Send a line, with *fds* beside it; a client that went away is none of our business."""
        with suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.sock, [json.dumps(line).encode() + b"\n"], list(fds))

    def event(self, **data: Any) -> None:
        """Send an event."""
        self.send({"event": data})

    def gone(self) -> None:
        """Wait until the client closes the connection."""
        with suppress(ConnectionResetError):
            while self.sock.recv(4096):
                pass

    def close_fds(self) -> None:
        """Close what the client sent along."""
        while self.fds:
            os.close(self.fds.pop())


Answer = Callable[[Conversation], None]


def interrupt_us(number: int = signal.SIGINT) -> None:
    """Send a signal to the thread that runs the command line; another one would not be woken from its wait."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, number)


class FakeAgent:
    """A unix socket in a thread, with an answer for each verb.

    Attributes:
        requests: what it was asked, in order.
        answers: by verb (``image-OP`` for images): called with the conversation, or the lines to send.
    """

    def __init__(self, directory: Path) -> None:
        self.config = Config(root_dir=str(directory), run_dir=str(directory))
        self.requests: list[Json] = []
        self.answers: dict[str, Answer | list[Json]] = {}
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.config.socket)
        self._listener.listen(16)
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def env(self) -> dict[str, str]:
        """The variables that lead a command here."""
        return self.config.to_env()

    def asked(self, verb: str) -> list[Json]:
        """Return the requests of one verb."""
        return [request for request in self.requests if request["verb"] == verb]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            data, fds, _, _ = socket.recv_fds(sock, 1 << 20, 8)
            while data and not data.endswith(b"\n"):
                data += sock.recv(1 << 20)
            if not data:
                return
            request = json.loads(data)
            self.requests.append(request)
            talk = Conversation(sock, request, fds)
            verb = request["verb"]
            key = f"image-{request['op']}" if verb == "image" else verb
            answer = self.answers.get(key, [{"done": {}}])
            if callable(answer):
                answer(talk)
            else:
                for line in answer:
                    talk.send(line)
            talk.close_fds()

    def close(self) -> None:
        """Stop, and wait for the conversations to end."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    fake = FakeAgent(tmp_path)
    yield fake
    fake.close()


def test_events_then_done(agent: FakeAgent) -> None:
    agent.answers["x"] = [{"event": {"a": 1}}, {"event": {"a": 2}}, {"done": {"b": 3}}]
    with call(agent.config, {"verb": "x"}) as answer:
        assert list(answer) == [{"a": 1}, {"a": 2}]
        assert answer.done == {"b": 3}
        assert answer.finish() == {"b": 3}


def test_lines_arrive_in_any_pieces(agent: FakeAgent) -> None:
    def answer(talk: Conversation) -> None:
        for byte in b'{"event": {"text": "\xc3\xa4"}}\n{"done": {}}\n':
            talk.sock.send(bytes([byte]))

    agent.answers["x"] = answer
    with call(agent.config, {"verb": "x"}) as got:
        assert list(got) == [{"text": "ä"}]


def test_an_error_keeps_its_kind_and_exit_code(agent: FakeAgent) -> None:
    status = NotFound("pod default/web not found", "minipod get pods").to_status()
    status["details"]["exitCode"] = 4
    agent.answers["x"] = [{"error": status}]
    with call(agent.config, {"verb": "x"}) as answer, pytest.raises(MinipodError) as caught:
        answer.finish()
    assert (caught.value.reason, caught.value.exit_code) == ("NotFound", 4)
    assert caught.value.remedy == "minipod get pods"


def test_an_agent_that_goes_away_is_an_error(agent: FakeAgent) -> None:
    agent.answers["x"] = [{"event": {}}]
    with (
        call(agent.config, {"verb": "x"}) as answer,
        pytest.raises(MinipodError, match="went away"),
    ):
        answer.finish()


def test_fds_travel_both_ways(agent: FakeAgent) -> None:
    def answer(talk: Conversation) -> None:
        os.write(talk.fds[0], b"from the agent")
        read, write = os.pipe()
        os.write(write, b"an answer")
        os.close(write)
        talk.send({"event": {}}, [read])
        os.close(read)
        talk.send({"done": {}})

    agent.answers["x"] = answer
    read, write = os.pipe()
    with call(agent.config, {"verb": "x"}, [write]) as got:
        os.close(write)
        got.finish()
        assert os.read(read, 100) == b"from the agent"
        assert os.read(got.fds[0], 100) == b"an answer"
        assert not os.get_inheritable(got.fds[0])
        received = got.fds[0]
    os.close(read)
    with pytest.raises(OSError):
        os.fstat(received)  # closed with the call


def test_a_big_request_arrives_whole(agent: FakeAgent) -> None:
    with call(agent.config, {"verb": "x", "manifest": "ü" * 500_000}) as answer:
        answer.finish()
    assert agent.requests[0]["manifest"] == "ü" * 500_000


def test_an_error_is_seen_although_the_request_was_not_read(agent: FakeAgent) -> None:
    status = NotFound("no").to_status()
    agent.answers["x"] = [{"error": status}]
    with call(agent.config, {"verb": "x"}) as answer:
        # The agent has answered and closed; what is sent now finds nobody.
        while answer.done is None:
            with pytest.raises(MinipodError, match="no"):
                answer.receive()
            break
        answer.send({"resize": [1, 2]})


def test_nobody_listens(tmp_path: Path) -> None:
    config = Config(root_dir=str(tmp_path), run_dir=str(tmp_path))
    assert try_connect(config) is None
    with pytest.raises(AgentDown):
        call(config, {"verb": "x"}, start=False)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(config.socket)
    assert try_connect(config) is None


def test_a_socket_path_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    short = tmp_path / "s"
    short.symlink_to(directory)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/agent.sock")
        listener.listen()
        config = Config(run_dir=str(directory))
        sock = try_connect(config)
        assert sock is not None
        sock.close()


def test_a_user_who_may_not_is_told_to_be_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["minipod", "get", "pods", "-l", "a in (b)"])
    config = Config(root_dir=str(tmp_path), run_dir=str(tmp_path / "none"))
    with pytest.raises(MinipodError) as caught:
        call(config, {"verb": "x"})
    assert caught.value.what == "must run as root"
    assert caught.value.remedy == "sudo minipod get pods -l 'a in (b)'"


def test_sudo_is_told_a_path_where_it_knows_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "bin" / "minipod"
    program = tmp_path / "of a clone" / "minipod"
    for path in (known, program):
        path.parent.mkdir()
        path.touch(0o755)
    monkeypatch.setattr(client, "_SUDO_PATH", str(known.parent))
    for called, expected in (
        (str(program), f"'{program}'"),
        (str(known), "minipod"),
        ("minipod", "minipod"),
        ("/x/minipod/__main__.py", "minipod"),
    ):
        monkeypatch.setattr("sys.argv", [called])
        assert client.as_root("get", "pods") == f"sudo {expected} get pods"
    monkeypatch.setattr("sys.argv", [str(program)])
    known.unlink()
    assert client.as_root("doctor") == f"sudo '{program}' doctor"


def test_a_socket_without_permission_is_the_same(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("minipod.cli.client._connect", refuse)
    with pytest.raises(MinipodError, match="must run as root"):
        call(agent.config, {"verb": "x"})


def test_a_stranger_behind_the_socket_is_refused(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minipod.cli.client.peer_pid", lambda sock: (1, 4711))
    with pytest.raises(MinipodError, match="uid 4711"):
        call(agent.config, {"verb": "x"})
