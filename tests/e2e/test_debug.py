# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod debug`` and ``minipod attach`` as a user has them."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator

import pytest

from tests.instance import Instance
from tests.patience import patience

pytestmark = pytest.mark.requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")
IMAGE = "localhost/busybox:1"
BUSYBOX = ("--image", IMAGE)


@pytest.fixture
def web(instance: Instance) -> Iterator[Instance]:
    """An instance with a pod ``web`` whose one container sleeps."""
    instance.start_pod("web", {"name": "app", "image": IMAGE, "command": ["sleep", "1000"]})
    yield instance


def says(master: int, send: bytes, wanted: bytes) -> bool:
    """Type *send*, again and again, until *wanted* is on the screen."""
    text = b""
    for _ in range(60):
        os.write(master, send)
        while select.select([master], [], [], 0.5)[0] and wanted not in text:
            text += os.read(master, 1000)
        if wanted in text:
            return True
    raise AssertionError(text)


def test_debug_in_the_background(web: Instance) -> None:
    done = web.cli("debug", "web", *BUSYBOX, "-c", "look", "--", "echo", "seen")
    assert (done.stdout, done.stderr) == ("", "")
    assert web.first_line("web", "look") == "seen"
    assert web.cli("logs", "web", "-c", "look").stdout == "seen\n"
    named = web.cli("debug", "web", *BUSYBOX, "--", "true")
    assert named.stderr.startswith("Defaulting debug container name to debugger-")


@pytest.mark.field("EphemeralContainer.stdin", "EphemeralContainer.stdinOnce")
def test_debug_with_streams(web: Instance) -> None:
    command = ("--", "sh", "-c", "cat; ps -o comm; echo oops >&2; exit 3")
    done = web.cli(
        "debug", "-i", "web", *BUSYBOX, "--target", "app", *command, input="hello\n", check=False
    )
    assert done.returncode == 3
    assert done.stdout.startswith("hello\n") and "sleep" in done.stdout
    assert "oops" in done.stderr


@pytest.mark.field("EphemeralContainer.tty")
def test_debug_on_a_terminal(web: Instance) -> None:
    master, slave = os.openpty()
    process = web.start(
        "debug", "-it", "web", *BUSYBOX, "--", "sh", stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    # As a user would: what is typed before the terminal is the container's is dropped.
    assert says(master, b"\n", b"# ") and says(master, b"echo $((40+2))\n", b"42")
    os.write(master, b"exit 5\n")
    assert process.wait(timeout=patience(30)) == 5
    os.close(master)


@pytest.mark.field("Container.stdinOnce")
def test_attach(instance: Instance) -> None:
    loop = "while read line; do echo got $line; done; echo end"
    instance.start_pod(
        "cat",
        {
            "name": "app",
            "image": IMAGE,
            "stdin": True,
            "stdinOnce": True,
            "command": ["sh", "-c", loop],
        },
    )
    done = instance.cli("attach", "-i", "cat", input="one\ntwo\n")
    assert done.stdout == "got one\ngot two\nend\n"
    assert instance.cli("logs", "cat").stdout == done.stdout, "the log has it, too"
    instance.start_pod("deaf", {"name": "app", "image": IMAGE, "command": ["sleep", "1000"]})
    refused = instance.cli("attach", "-i", "deaf", check=False)
    assert refused.returncode == 2 and "has no stdin" in refused.stderr


def test_a_reader_that_stops_holds_nobody_up(instance: Instance) -> None:
    """It loses its pipe, and the container goes on to its end."""
    loop = "sleep 1; dd if=/dev/zero bs=65536 count=64 2>/dev/null | tr '\\0' 'a'; echo done >&2"
    instance.start_pod("loud", {"name": "app", "image": IMAGE, "command": ["sh", "-c", loop]})
    reader = instance.start("attach", "loud", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        instance.until("loud", lambda pod: pod["status"]["phase"] == "Succeeded")
    finally:
        reader.kill()
        reader.communicate()
