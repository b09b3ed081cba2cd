# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user of the command line does in these tests: writes manifests, watches output come, presses keys."""

from __future__ import annotations

import json
import os
import pty
import re
import selectors
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from typing import Any

import typer.main

from minipod.cli.app import app
from tests.instance import TEST_IMAGE, Instance
from tests.patience import patience

Json = dict[str, Any]

PATIENCE = patience(60)  # seconds that output may stay away; other tests run on the same processors
ESCAPE = "\x1b"
FOREVER = 'trap "exit 0" TERM; while :; do sleep 1000 & wait $!; done'
# A shell starts what it puts into the background with Ctrl-C ignored, and that is inherited.
HEARS = ("env", "--default-signal=INT")
OWNS = ("setsid", "--ctty")  # the terminal that is its standard input
_ADDRESS = re.compile(r"10\.\d+\.\d+\.\d+")


def shell(script: str = FOREVER, name: str = "c0", **more: Any) -> Json:
    """Return a container that runs *script*."""
    return {"name": name, "image": TEST_IMAGE, "command": ["sh", "-c", script], **more}


def pod(
    name: str,
    *containers: Json,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    **spec: Any,
) -> Json:
    """Return a pod that is not restarted, of one container that runs for ever unless *containers* are given."""
    meta: Json = {"name": name}
    if namespace:
        meta["namespace"] = namespace
    if labels:
        meta["labels"] = dict(labels)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": list(containers) or [shell()],
            **spec,
        },
    }


def manifest(*pods: Json) -> str:
    """Return a manifest of *pods*, a document each."""
    return "\n---\n".join(json.dumps(each, indent=1) for each in pods) + "\n"


def create(instance: Instance, *pods: Json) -> None:
    """Create *pods*; returns when the agent has them."""
    request = {"manifest": manifest(*pods), "source": "test", "namespace": "default"}
    instance.call("create", request)


def address_in(text: str) -> str:
    """Return the first pod address in *text*."""
    found = _ADDRESS.search(text)
    assert found, f"no address in {text!r}"
    return found[0]


def check_error(
    done: subprocess.CompletedProcess[str], code: int, *words: str, hint: bool = True
) -> None:
    """Check that a command failed as one should: the exit code, one line with *words*, and what to do about it."""
    assert done.returncode == code, done
    assert done.stdout == "", done
    assert "Traceback" not in done.stderr, done
    assert ESCAPE not in done.stderr, done
    lines = done.stderr.splitlines()
    assert lines and lines[0].startswith("minipod: "), done
    assert [line[:8] for line in lines[1:]] == ["  hint: "] * hint, done
    for word in words:
        assert word in done.stderr, (word, done)


def verbs(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield ``minipod`` itself, every verb, and every verb of a verb, each with its command."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from verbs(command.get_command(None, name), (*path, name))


def commands(line: str) -> Iterator[list[str]]:
    """Yield the words after ``minipod`` of each command of minipod in a line for a shell: pipes, files, comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>")
    lexer.whitespace_split = True
    words: list[str] = []
    over = False
    for word in (*lexer, "|"):
        if word == "|":
            words = words[1:] if words[:1] == ["sudo"] else words
            if words[:1] == ["minipod"]:
                yield words[1:]
            words, over = [], False
        elif word in ("<", ">"):
            over = True
        elif not over:
            words.append(word)


def understand(words: list[str]) -> None:
    """Parse the arguments of a command line as minipod does, without doing what they say.

    Raises:
        Exception: what minipod would say about wrong ones.
    """
    command: Any = typer.main.get_command(app)
    parent = None
    while True:
        context = command.make_context(command.name, words, parent=parent)
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "get_command") or not rest:
            return
        _, command, words = command.resolve_command(context, rest)
        parent = context


class Running:
    """A command in progress, whose output is read as it comes. A context manager: its end is the command's.

    Attributes:
        out, err: what it has written so far.
    """

    def __init__(
        self, instance: Instance, *arguments: object, env: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [*HEARS, sys.executable, "-m", "minipod", *map(str, arguments)],
            cwd="/",
            env={**instance.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.out = self.err = ""
        self._selector = selectors.DefaultSelector()
        for stream, name in ((self.process.stdout, "out"), (self.process.stderr, "err")):
            assert stream
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, name)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        self._selector.close()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def _read(self, deadline: float, waiting_for: str) -> None:
        ready = self._selector.select(max(0.0, deadline - time.monotonic()))
        assert ready, f"no {waiting_for} in time; stdout: {self.out!r}, stderr: {self.err!r}"
        for key, _ in ready:
            data = os.read(key.fd, 65536)
            if not data:
                self._selector.unregister(key.fileobj)
            setattr(self, key.data, getattr(self, key.data) + data.decode(errors="replace"))

    def until_out(self, text: str) -> str:
        """Return what was written to stdout, once *text* is in it."""
        return self._until("out", text)

    def until_err(self, text: str) -> str:
        """Return what was written to stderr, once *text* is in it."""
        return self._until("err", text)

    def _until(self, stream: str, text: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while text not in getattr(self, stream):
            assert self._selector.get_map(), (text, self.process.wait(), self.out, self.err)
            self._read(deadline, f"{text!r} on std{stream}")
        return str(getattr(self, stream))

    def signal(self, number: int = signal.SIGINT) -> None:
        """Press Ctrl-C, or send another signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end of the command and return its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._selector.get_map():
            self._read(deadline, "end of output")
        return self.process.wait(PATIENCE)


class Terminal:
    """A command on a terminal of its own. A context manager: its end is the command's.

    Attributes:
        screen: the bytes that the terminal was sent, as text.
    """

    def __init__(
        self,
        instance: Instance,
        *arguments: object,
        size: tuple[int, int] = (24, 80),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(self._master, size)
        self.before = termios.tcgetattr(slave)
        self._slave = slave

        self.process = subprocess.Popen(
            [*HEARS, *OWNS, sys.executable, "-m", "minipod", *map(str, arguments)],
            cwd="/",
            env={**instance.env, "TERM": "xterm", **(env or {})},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        self.screen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def type(self, keys: str) -> None:
        """Press *keys*."""
        os.write(self._master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, as a terminal emulator does."""
        termios.tcsetwinsize(self._master, (rows, columns))
        self.process.send_signal(signal.SIGWINCH)

    def settings(self) -> list[Any]:
        """Return the terminal's present settings."""
        return termios.tcgetattr(self._slave)

    def until(self, text: str) -> str:
        """Return the screen once *text* is on it."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.screen:
            self._read(deadline, repr(text))
        return self.screen

    def _read(self, deadline: float, waiting_for: str) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._master, selectors.EVENT_READ)
            ready = selector.select(max(0.0, deadline - time.monotonic()))
        assert ready, f"no {waiting_for} in time; the screen: {self.screen!r}"
        self.screen += os.read(self._master, 65536).decode(errors="replace")

    def end(self) -> int:
        """Wait for the end of the command and return its exit code; what it wrote last is on the screen then."""
        code = self.process.wait(PATIENCE)
        os.set_blocking(self._master, False)
        try:
            while data := os.read(self._master, 65536):
                self.screen += data.decode(errors="replace")
        except BlockingIOError:
            pass
        return code
