# SPDX-License-Identifier: GPL-3.0-or-later
"""Termination messages: what is read, how much of it, and what is never followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.api import Container, Member
from minipod.pods.messages import Messages
from minipod.pods.record import ContainerRecord, Ended
from minipod.pods.status import MESSAGE_BYTES, container_status
from tests.unit.test_plan_checker import pod

FALLBACK = "FallbackToLogsOnError"


@pytest.fixture
def messages(tmp_path: Path) -> Messages:
    """Messages whose files are in ``tmp_path/files``."""
    made = Messages()
    (tmp_path / "files").mkdir()
    made._directory = os.open(tmp_path / "files", os.O_RDONLY | os.O_DIRECTORY)
    return made


def read(messages: Messages, top: Path, policy: str = "File", code: int = 1) -> str:
    container = Container(name="app", termination_message_policy=policy)
    return messages.read(container, ContainerRecord("app", attempt=3), str(top / "3.log"), code)


def log(top: Path, *lines: str) -> None:
    text = "".join(f"2027-01-15T08:00:00.000000000Z stdout F {line}\n" for line in lines)
    (top / "3.log").write_text(text)


def test_the_file_of_the_run_is_the_message(messages: Messages, tmp_path: Path) -> None:
    (tmp_path / "files" / "app.2").write_text("of another run")
    assert read(messages, tmp_path) == ""
    (tmp_path / "files" / "app.3").write_text("bye")
    assert read(messages, tmp_path) == "bye"
    messages.discard(ContainerRecord("app", attempt=3))
    messages.discard(ContainerRecord("app", attempt=3))
    assert read(messages, tmp_path) == ""


def test_the_last_4096_bytes_count(messages: Messages, tmp_path: Path) -> None:
    (tmp_path / "files" / "app.3").write_bytes(b"x" * 4096 + b"y" * 4096)
    assert read(messages, tmp_path) == "y" * 4096


def test_what_is_no_text_is_a_message(messages: Messages, tmp_path: Path) -> None:
    (tmp_path / "files" / "app.3").write_bytes(b"a\xff")
    assert read(messages, tmp_path) == "a\ufffd"


@pytest.mark.parametrize("what", ["symlink", "fifo", "directory"])
def test_only_a_file_is_read(messages: Messages, tmp_path: Path, what: str) -> None:
    (tmp_path / "secret").write_text("secret")
    place = tmp_path / "files" / "app.3"
    if what == "symlink":
        place.symlink_to(tmp_path / "secret")
    elif what == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    assert read(messages, tmp_path) == ""


@pytest.mark.parametrize(
    ("policy", "code", "message", "expected"),
    [
        ("File", 1, "", ""),
        (FALLBACK, 1, "", "one\ntwo\n"),
        (FALLBACK, 0, "", ""),
        (FALLBACK, 1, "m", "m"),
    ],
)
def test_the_log_instead(
    messages: Messages, tmp_path: Path, policy: str, code: int, message: str, expected: str
) -> None:
    log(tmp_path, "one", "two")
    (tmp_path / "files" / "app.3").write_text(message)
    assert read(messages, tmp_path, policy, code) == expected


def test_the_log_of_a_run_that_wrote_none(messages: Messages, tmp_path: Path) -> None:
    assert read(messages, tmp_path, FALLBACK) == ""


def test_the_last_80_lines_or_2048_bytes_count(messages: Messages, tmp_path: Path) -> None:
    log(tmp_path, *map(str, range(100)))
    assert read(messages, tmp_path, FALLBACK).split() == list(map(str, range(20, 100)))
    log(tmp_path, "x" * 4000, "y" * 1000)
    assert read(messages, tmp_path, FALLBACK) == "x" * 1046 + "\n" + "y" * 1000 + "\n"
    log(tmp_path, *("z" * 10 for _ in range(100_000)))
    assert len(read(messages, tmp_path, FALLBACK).split()) == 80


def test_a_sandbox_that_is_gone_has_no_messages(tmp_path: Path) -> None:
    made = Messages()
    made.attach(2**22 + 1)  # no such process
    assert read(made, tmp_path) == ""
    made.close()


@pytest.mark.parametrize(("containers", "room"), [(1, 4096), (3, 4096), (8, 1536)])
def test_all_messages_together_have_12_kib(containers: int, room: int) -> None:
    record = ContainerRecord("a", "ended", 0, ended=Ended(1, "Error", 0, 0, message="m" * 4096))
    member = Member(Container(name="a", image="i"), "app", "spec.containers[0]")
    status = container_status(pod(), member, record, MESSAGE_BYTES // containers)
    assert status.state.terminated and status.state.terminated.message == "m" * room
