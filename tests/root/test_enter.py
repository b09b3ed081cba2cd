# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod enter``: which namespaces a host's program gets, what it keeps, and what the pod gets of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.user import Terminal
from tests.features import requires
from tests.instance import Instance

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth")

Json = dict[str, Any]
SLEEP = ["sleep", "100000"]
# Says which of its namespaces are the host's.
WHERE = (
    "import os, sys; print(*(k for k in sys.argv[2:] if "
    "os.stat(f'/proc/{sys.argv[1]}/ns/{k}').st_ino == os.stat(f'/proc/self/ns/{k}').st_ino))"
)


@pytest.fixture(scope="module")
def web(shared_instance: Instance) -> Iterator[Instance]:
    shared_instance.start_pod(
        "web", {"command": SLEEP, "env": [{"name": "X", "value": "1"}]}, hostname="named"
    )
    yield shared_instance
    shared_instance.delete("web")


def enter(instance: Instance, *arguments: str, **options: Any) -> Any:
    return instance.cli("enter", *arguments, **options)


def shared(instance: Instance, *flags: str) -> set[str]:
    """Return which namespaces a command shares with the container."""
    pid = str(instance.pid("web"))
    kinds = ("net", "uts", "ipc", "mnt", "pid", "cgroup", "user")
    done = enter(instance, "web", *flags, "--", sys.executable, "-c", WHERE, pid, *kinds)
    return set(done.stdout.split())


def test_what_is_entered(web: Instance) -> None:
    # The user namespace is the host's, and the container's.
    assert shared(web) == {"net", "uts", "ipc", "user"}
    assert shared(web, "--net") == {"net", "user"}
    assert shared(web, "--uts", "--cgroup") == {"uts", "cgroup", "user"}


def test_the_hosts_files_stay(web: Instance) -> None:
    said = enter(
        web, "web", "--", "sh", "-c", "hostname; cat /proc/net/dev; ls -A /; exit 7", check=False
    )
    assert said.returncode == 7
    assert said.stdout.startswith("named\n") and "eth0" in said.stdout
    assert set(os.listdir("/")) <= set(said.stdout.split())


def test_pid_has_its_own_proc(web: Instance) -> None:
    code = (
        "import os; print(os.getpid(), open('/proc/1/cmdline').read(), os.listdir('/root') != None)"
    )
    said = enter(web, "web", "--pid", "--", sys.executable, "-c", code).stdout
    assert int(said.split()[0]) > 1
    assert "\0".join(SLEEP) in said
    # Nothing of that is seen in the container, or on the host.
    assert web.probe("web", "mounts") is not None
    assert "minipod" not in web.exec("web", "cat", "/proc/mounts").stdout


def test_mnt_runs_what_the_container_has_with_its_capabilities(web: Instance) -> None:
    status = Path(f"/proc/{web.pid('web')}/status").read_text()
    own = status.partition("CapBnd:\t")[2].split()[0]
    script = "grep -E '^Cap(Bnd|Eff|Prm)' /proc/self/status; env; ls -l /proc/self/fd; ls /probe"
    env = {"SECRET_OF_ROOT": "1"}
    said = enter(web, "web", "--mnt", "--pid", "--", "sh", "-c", script, env=env).stdout
    assert said.count(own) == 3
    assert "SECRET_OF_ROOT" not in said and "/probe" in said
    missing = enter(web, "web", "--mnt", "--", sys.executable, "-c", "pass", check=False)
    assert missing.returncode == 127 and "no such program in the container" in missing.stderr


def test_who_could_look_back(web: Instance) -> None:
    """A container with CAP_SYS_PTRACE would reach the host by way of the command."""
    powers = {"capabilities": {"add": ["SYS_PTRACE"]}}
    web.start_pod("strong", {"command": SLEEP, "securityContext": powers})
    refused = enter(web, "strong", "--pid", "--", "true", check=False)
    assert refused.returncode == 1 and "container c0 may look into" in refused.stderr
    assert enter(web, "strong", "--net", "--", "true").returncode == 0
    assert enter(web, "strong", "--pid", "--mnt", "--", "true").returncode == 0
    web.delete("strong")


def test_the_container_cannot_look_back(web: Instance) -> None:
    """It sees the command, and gets neither at its files nor at its program."""
    with Terminal(web, "enter", "web", "--pid", "--", "sleep", "4321") as terminal:
        look = (
            "for i in $(seq 100); do p=$(pgrep -f 'sleep 4321' | head -n 1); [ -n \"$p\" ] && break; "
            "sleep 0.1; done; ls /proc/$p/root/ || echo no root; readlink /proc/$p/exe || echo no exe"
        )
        said = web.exec("web", "sh", "-c", look).stdout
        assert "no root" in said and "no exe" in said
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM


def test_ctrl_c_reaches_the_command(web: Instance) -> None:
    # No shell: one that is interrupted while it starts its child waits for that.
    code = "import time; print('up', flush=True); time.sleep(1000)"
    for flags in (["--net"], ["--pid"]):
        with Terminal(web, "enter", "web", *flags, "--", sys.executable, "-c", code) as terminal:
            terminal.until("up")
            terminal.type("\x03")
            assert terminal.end() in (130, -signal.SIGINT)


def test_a_user_namespace(web: Instance) -> None:
    web.start_pod("mapped", {"command": SLEEP}, hostUsers=False)
    first = Path(f"/proc/{web.pid('mapped')}/uid_map").read_text().split()[1]
    code = "import os; print(os.getuid(), open('/proc/self/uid_map').read())"
    done = enter(web, "mapped", "--user", "--net", "--", sys.executable, "-c", code, check=False)
    if done.returncode == 0:  # where the host's Python may be read by everybody
        assert done.stdout.split()[:3] == ["0", "0", first]
    done = enter(web, "mapped", "--user", "--mnt", "--pid", "--", "id", "-u")
    assert done.stdout == "0\n"
    web.delete("mapped")


def test_mistakes(web: Instance) -> None:
    assert enter(web, "web", "--", "/no/such", check=False).returncode == 127
    assert enter(web, "web", "--", "/etc/passwd", check=False).returncode == 126
    assert "no command is given" in enter(web, "web", check=False).stderr
    assert "not found" in enter(web, "nobody", "--", "true", check=False).stderr
    assert "no container" in enter(web, "web", "-c", "x", "--", "true", check=False).stderr.lower()
