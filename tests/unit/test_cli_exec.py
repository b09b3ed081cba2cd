# SPDX-License-Identifier: GPL-3.0-or-later
"""``exec``: streams through pipes, and a terminal, against a small agent that plays the container."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.cli.client import peer_pid
from minipod.cli.main import main
from minipod.errors import NotFound
from tests.unit.test_cli_client import Conversation, FakeAgent

TOP = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "minipod"]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    fake = FakeAgent(tmp_path)
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    yield fake
    fake.close()


def container(command: str) -> Callable[[Conversation], None]:
    """Return an answer that runs a shell *command* on the fds that the client sent."""

    def answer(talk: Conversation) -> None:
        stdin, stdout, stderr = talk.fds
        with subprocess.Popen(
            ["sh", "-c", command], stdin=stdin, stdout=stdout, stderr=stderr
        ) as process:
            talk.close_fds()
            talk.event(started=True)
            process.wait()
        talk.send({"done": {"exitCode": process.returncode}})

    return answer


def execute(*argv: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, "exec", *argv], cwd=TOP, capture_output=True, **options)


def test_what_is_asked(agent: FakeAgent, capfd: pytest.CaptureFixture[str]) -> None:
    agent.answers["exec"] = container("true")
    assert main(["exec", "pod/web", "-c", "main", "-n", "demo", "--", "ls", "-l", "--", "-n"]) == 0
    assert agent.requests[0] == {
        "verb": "exec",
        "namespace": "demo",
        "pod": "web",
        "container": "main",
        "command": ["ls", "-l", "--", "-n"],
        "tty": False,
        "stdin": False,
        "size": [0, 0],
        "term": "",
    }


def test_streams_and_exit_code(agent: FakeAgent) -> None:
    agent.answers["exec"] = container("echo out; echo err >&2; exit 7")
    done = execute("web", "--", "x")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_without_i_the_input_is_empty(agent: FakeAgent) -> None:
    agent.answers["exec"] = container("cat; echo end")
    assert execute("web", "--", "x", input=b"not for you").stdout == b"end\n"


def test_a_megabyte_there_and_back(agent: FakeAgent) -> None:
    agent.answers["exec"] = container("cat")
    data = os.urandom(1 << 20)
    assert execute("-i", "web", "--", "cat", input=data).stdout == data


def test_a_command_that_does_not_read_ends_all_the_same(agent: FakeAgent) -> None:
    agent.answers["exec"] = container("head -c 5; echo; exit 3")
    done = execute("-i", "web", "--", "x", input=b"hello" * (1 << 18))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"hello\n", b"")


def test_output_comes_while_input_is_not_read(agent: FakeAgent) -> None:
    agent.answers["exec"] = container("head -c 1000000 /dev/zero; cat >/dev/null")
    done = execute("-i", "web", "--", "x", input=bytes(1 << 20))
    assert len(done.stdout) == 1_000_000


def test_a_background_process_that_keeps_the_output_is_not_waited_for(agent: FakeAgent) -> None:
    go, wait = os.pipe()

    def answer(talk: Conversation) -> None:
        os.write(talk.fds[1], b"said before the end")
        talk.send({"done": {"exitCode": 0}})
        os.read(go, 1)  # until the client is gone, the stdout stays open here

    agent.answers["exec"] = answer
    done = execute("web", "--", "x")
    os.write(wait, b"!")
    os.close(wait)
    assert (done.returncode, done.stdout) == (0, b"said before the end")
    agent.close()
    agent.close = lambda: None  # type: ignore[method-assign]
    os.close(go)


def test_what_is_left_in_the_pipes_at_the_end_is_printed(agent: FakeAgent) -> None:
    size = 1 << 19

    def answer(talk: Conversation) -> None:
        # The client is held until the pipe is full and the end is said: it sees both at once.
        pid, _ = peer_pid(talk.sock)
        os.kill(pid, signal.SIGSTOP)
        fcntl.fcntl(talk.fds[1], fcntl.F_SETPIPE_SZ, size)
        os.write(talk.fds[1], bytes(size))
        talk.close_fds()
        talk.send({"done": {"exitCode": 0}})
        os.kill(pid, signal.SIGCONT)

    agent.answers["exec"] = answer
    assert execute("web", "--", "x").stdout == bytes(size)


def test_an_error_of_the_agent(agent: FakeAgent) -> None:
    agent.answers["exec"] = [{"error": NotFound("pod default/web not found").to_status()}]
    done = execute("web", "--", "x")
    assert (done.returncode, done.stderr) == (1, b"minipod: pod default/web not found\n")


def test_a_reader_that_leaves(agent: FakeAgent) -> None:
    agent.answers["exec"] = container("yes 2>/dev/null; true")
    with subprocess.Popen(
        [*COMMAND, "exec", "web", "--", "yes"],
        cwd=TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_no_command(agent: FakeAgent, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "web"]) == 2
    assert main(["exec", "web", "--"]) == 2
    assert agent.requests == []


def test_a_terminal_needs_a_terminal(agent: FakeAgent) -> None:
    agent.answers["exec"] = container("cat")
    done = execute("-it", "web", "--", "x", input=b"typed")
    assert done.stdout == b"typed"
    assert done.stderr == b"Unable to use a TTY - input is not a terminal\n"
    assert agent.requests[0]["tty"] is False


class Terminal:
    """The user's terminal, with a ``minipod exec -it`` on it."""

    def __init__(self, *argv: str) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 80))
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [*COMMAND, *argv],
            cwd=TOP,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-test"},
        )

    def read(self, wanted: bytes) -> bytes:
        """Read until *wanted* is seen."""
        seen = b""
        while wanted not in seen:
            assert select.select([self.master], [], [], 30)[0], seen
            seen += os.read(self.master, 4096)
        return seen

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def read_line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(fd, 1)
    return line


def test_a_terminal(agent: FakeAgent) -> None:
    sizes = []

    def answer(talk: Conversation) -> None:
        master, slave = pty.openpty()
        talk.send({"event": {"started": True}}, [master])
        os.close(master)
        os.write(slave, b"\x1b[1mhello\n")
        assert read_line(slave) == b"typed\n"
        sizes.append(termios.tcgetwinsize(slave))
        os.write(slave, b"resize\n")
        assert read_line(slave) == b"resized\n"
        sizes.append(termios.tcgetwinsize(slave))
        os.write(slave, b"bye")
        os.close(slave)
        talk.send({"done": {"exitCode": 5}})

    agent.answers["exec"] = answer
    with Terminal("exec", "-it", "web", "--", "sh") as terminal:
        terminal.read(b"\x1b[1mhello\r\n")
        raw = termios.tcgetattr(terminal.slave)
        assert not raw[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        os.write(terminal.master, b"typed\r")
        terminal.read(b"resize")
        termios.tcsetwinsize(terminal.slave, (50, 120))
        terminal.process.send_signal(signal.SIGWINCH)
        os.write(terminal.master, b"resized\r")
        terminal.read(b"bye")
        assert terminal.process.wait() == 5
        assert termios.tcgetattr(terminal.slave) == terminal.before
    assert sizes == [(24, 80), (50, 120)]
    asked = agent.requests[0]
    assert (asked["tty"], asked["stdin"], asked["size"]) == (True, True, [24, 80])
    assert asked["term"] == "xterm-test"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_mended_when_we_are_told_to_end(
    agent: FakeAgent, number: signal.Signals
) -> None:
    def answer(talk: Conversation) -> None:
        master, slave = pty.openpty()
        talk.send({"event": {"started": True}}, [master])
        os.close(master)
        os.write(slave, b"ready")
        talk.gone()
        os.close(slave)

    agent.answers["exec"] = answer
    with Terminal("exec", "-it", "web", "--", "sh") as terminal:
        terminal.read(b"ready")
        terminal.process.send_signal(number)
        assert terminal.process.wait() == 128 + number
        assert termios.tcgetattr(terminal.slave) == terminal.before


def test_an_error_before_the_terminal(agent: FakeAgent) -> None:
    agent.answers["exec"] = [{"error": NotFound("no such container").to_status()}]
    with Terminal("exec", "-it", "web", "--", "sh") as terminal:
        terminal.read(b"no such container")
        assert terminal.process.wait() == 1
        assert termios.tcgetattr(terminal.slave) == terminal.before
