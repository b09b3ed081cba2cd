# SPDX-License-Identifier: GPL-3.0-or-later
"""What shows a pod from inside, as its user sees it: trace, and the others beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.user import Terminal
from tests.features import requires
from tests.instance import Instance

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth")

MANIFEST = """\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: localhost/test:1
    command: [sleep, "100000"]
  - name: side
    image: localhost/test:1
    command: [sleep, "100000"]
"""


@pytest.fixture(scope="module")
def web(shared_instance: Instance) -> Iterator[Instance]:
    """An instance with the pod web, whose start was shown."""
    path = shared_instance.write("web.yaml", MANIFEST)
    done = shared_instance.cli("run", "-d", "--trace", path)
    steps = done.stderr.splitlines()
    assert done.stdout.startswith("web  10.")
    assert any(
        re.fullmatch(r" *\d+\.\d{3} ms +[\d.]+ (?:µs|ms|s)  sandbox +launch +unshare mnt .*", s)
        for s in steps
    ), steps
    for container in ("app", "side"):
        assert any(f" {container} " in s and "execve sleep 100000" in s for s in steps)
    yield shared_instance
    shared_instance.delete("web")


def test_trace_as_text(web: Instance) -> None:
    short = web.cli("trace", "pod/web").stdout.splitlines()
    assert short[0].startswith("pod default/web: ")
    assert {"sandbox", "container app", "container side"} <= set(short)
    assert any(line.startswith("* ") for line in short)
    assert max(map(len, short)) <= 80 and "\x1b" not in "".join(short)
    wide = web.cli("trace", "web", "--all", env={"COLUMNS": "200"}).stdout.splitlines()
    assert len(wide) > 150 and any(len(line) > 80 for line in wide)
    one = web.cli("trace", "web", "-c", "side").stdout
    assert "container side" in one and "container app" not in one
    with Terminal(web, "trace", "web") as terminal:
        assert terminal.end() == 0
        assert "\x1b[31m" in terminal.screen


def test_trace_as_files(web: Instance, tmp_path: Path) -> None:
    page = web.cli("trace", "web", "-o", "html").stdout
    assert page.startswith("<!DOCTYPE html>") and "unshare" in page
    made = json.loads(web.cli("trace", "web", "-o", "chrome").stdout)
    assert {e["ph"] for e in made["traceEvents"]} == {"M", "X"}
    data = json.loads(web.cli("trace", "web", "-o", "json").stdout)
    assert {start["container"] for start in data["starts"]} == {"", "app", "side"}


def test_trace_of_what_is_not_there(web: Instance) -> None:
    said = web.cli("trace", "nobody", check=False)
    assert said.returncode and "pod default/nobody not found" in said.stderr
    said = web.cli("trace", "web", "-c", "x", check=False)
    assert said.returncode and "no container x\n  hint: there are: app, side" in said.stderr


@pytest.mark.parametrize("width", ["80", "200"])
@pytest.mark.parametrize("verb", ["ns", "ps", "cgroup", "fs", "net"])
def test_tables_fit_and_have_no_colour_off_a_terminal(web: Instance, verb: str, width: str) -> None:
    lines = web.cli(verb, "web", env={"COLUMNS": width}).stdout.splitlines()
    assert len(lines) > 3 and "\x1b" not in "".join(lines)
    assert max(map(len, lines)) <= int(width)


def test_what_the_tables_say(web: Instance) -> None:
    names = web.cli("ns", "web").stdout
    assert re.search(r"^net +\d+ h +(\d+) A +\1 A +\1 A$", names, re.MULTILINE)
    processes = web.cli("ps", "web").stdout
    assert re.search(r"^ *\d+ +1 +app +0 .*├─ sleep 100000$", processes, re.MULTILINE)
    assert "minipod-pause" in processes and "minipod-shim" in processes
    assert "container app" in web.cli("cgroup", "web").stdout
    assert "container app" not in web.cli("cgroup", "web", "-c", "side").stdout
    files = web.cli("fs", "web", "-c", "side").stdout
    assert "hardening: masked" in files and "a mount point" in files
    assert "in through a port of the host" in web.cli("net", "web").stdout
    for verb in ("ns", "ps", "cgroup", "fs", "net"):
        assert json.loads(web.cli(verb, "web", "-o", "json").stdout)
    with Terminal(web, "ns", "web") as terminal:
        assert terminal.end() == 0
        assert "\x1b[36m" in terminal.screen


def test_cgroup_goes_on(web: Instance) -> None:
    with Terminal(web, "cgroup", "web", "-w") as terminal:
        terminal.until("m now")  # a rate needs a second look
        terminal.type("\x03")
        assert terminal.end() == 130


def test_enter(web: Instance) -> None:
    done = web.cli("enter", "web", "--", "sh", "-c", "cat /proc/net/dev; exit 3", check=False)
    assert done.returncode == 3 and "eth0" in done.stdout
    assert "there is no such program" in web.cli("enter", "web", "--", "nope", check=False).stderr
