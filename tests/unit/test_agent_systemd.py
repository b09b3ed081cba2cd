# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd hands to the agent, and what the agent tells it."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from minipod.agent import systemd

# Plays systemd, then the agent: a socket as fd 3, the variables, and what the agent makes of them.
PROGRAM = """
import os, socket, sys
path, count, kind, listens, wanted = sys.argv[1:]
sock = socket.socket(socket.AF_UNIX, getattr(socket, kind))
sock.bind(path)
if listens == "yes":
    sock.listen()
os.dup2(sock.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=count, LISTEN_FDNAMES="minipod-agent.socket")
from minipod.agent import systemd
from minipod.errors import MinipodError
try:
    got = systemd.inherited_socket(wanted)
    print(got.fileno(), got.getsockname() == path, got.get_inheritable())
except MinipodError as error:
    print(error.what, "|", error.remedy)
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def play(
    path: Path, wanted: str = "", count: str = "1", kind: str = "SOCK_STREAM", listens: str = "yes"
) -> str:
    command = [sys.executable, "-c", PROGRAM, str(path), count, kind, listens, wanted or str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, left = done.stdout.splitlines()
    assert left == "[]", "what we start is told nothing of it"
    return said


def test_a_listening_socket_is_taken_over(tmp_path: Path) -> None:
    assert play(tmp_path / "s") == "3 True False"


@pytest.mark.parametrize(
    "how", [{"count": "2"}, {"listens": "no"}, {"kind": "SOCK_DGRAM", "listens": "no"}]
)
def test_anything_else_is_refused(tmp_path: Path, how: dict[str, str]) -> None:
    assert play(tmp_path / "s", **how).endswith(f"one line, ListenStream={tmp_path}/s")


def test_a_socket_where_nobody_looks_is_refused(tmp_path: Path) -> None:
    said = play(tmp_path / "s", wanted="/run/minipod/agent.sock")
    assert said.startswith(f"systemd listens for the agent at '{tmp_path}/s' (sockets: 1)")


def test_variables_that_were_for_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.inherited_socket("/run/minipod/agent.sock") is None
    assert "LISTEN_FDS" not in os.environ
    assert systemd.inherited_socket("/run/minipod/agent.sock") is None


def test_readiness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd.notify_ready()  # nobody waits
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.notify_ready()
        assert sock.recv(100) == b"READY=1"
    assert "NOTIFY_SOCKET" not in os.environ
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    systemd.notify_ready()  # its loss is no reason to fail


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)],
)
def test_each_line_has_its_priority(level: int, number: int) -> None:
    record = logging.LogRecord("minipod.x", level, "", 1, "one\ntwo", None, None)
    text = systemd.JournalFormatter().format(record)
    assert text == f"<{number}>minipod.x: one\n<{number}>two"


@pytest.mark.parametrize("journal", [True, False])
def test_the_journal_has_a_form_of_its_own(tmp_path: Path, journal: bool) -> None:
    script = """
import logging, os
from minipod.agent import systemd
systemd.set_up_log()
logging.getLogger("a").warning("b")
assert "JOURNAL_STREAM" not in os.environ
"""
    with (tmp_path / "log").open("w+") as log:
        state = os.fstat(log.fileno())
        place = f"{state.st_dev}:{state.st_ino if journal else state.st_ino + 1}"
        env = {**os.environ, "JOURNAL_STREAM": place}
        subprocess.run([sys.executable, "-c", script], stderr=log, env=env, check=True)
        log.seek(0)
        text = log.read()
    assert (text == "<4>a: b\n") == journal
    assert text.endswith("a: b\n")
