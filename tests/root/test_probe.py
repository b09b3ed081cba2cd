# SPDX-License-Identifier: GPL-3.0-or-later
"""The in-container test program says the truth, seen on the host where the truth is known (tests/probe/probe.c)."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.features import requires

pytestmark = requires("root", "namespaces")


def run(program: Path, *arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_report_has_every_section(probe_program: Path) -> None:
    report = run(probe_program, "report")
    assert report["ids"]["uid"] == os.getuid()
    assert report["cwd"] == os.getcwd()
    assert report["env"].items() >= {"PATH": os.environ["PATH"]}.items()
    assert report["ns"]["net"] == os.stat("/proc/self/ns/net").st_ino
    assert report["dev"]["null"]["rdev"] == [1, 3]
    assert report["hostname"] == os.uname().nodename
    assert report["caps"]["effective"] == report["status"]["CapEff"]
    assert report["mounts"][0].keys() >= {
        "root",
        "target",
        "options",
        "propagation",
        "type",
        "source",
        "super",
    }
    assert report["fds"]["0"] == "/dev/null"
    assert report["ps"][str(os.getpid())]


def test_failures_carry_their_errno(probe_program: Path, tmp_path: Path) -> None:
    assert run(probe_program, "read", str(tmp_path / "none"), code=1)["errno"] == errno.ENOENT
    assert (
        run(probe_program, "tcp-connect", "127.0.0.1", "1", code=1)["errno"] == errno.ECONNREFUSED
    )
    assert run(probe_program, "try-syscall", "511")["errno"] == errno.ENOSYS


def test_text_survives(probe_program: Path, tmp_path: Path) -> None:
    text = 'quote " backslash \\ bell \a umlaut ü'
    run(probe_program, "write", str(tmp_path / "file"), text)
    assert run(probe_program, "read", str(tmp_path / "file"))["text"] == text


def test_signals_are_named(probe_program: Path) -> None:
    with subprocess.Popen(
        [probe_program, "signal-log"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["ready"] == process.pid
        for number, name in ((signal.SIGUSR1, "USR1"), (signal.SIGTERM, "TERM")):
            process.send_signal(number)
            assert json.loads(process.stdout.readline())["signal"] == name
    assert process.returncode == 0


def test_it_runs_alone_in_a_root(probe_program: Path, tmp_path: Path) -> None:
    (tmp_path / "probe").write_bytes(probe_program.read_bytes())
    (tmp_path / "probe").chmod(0o755)
    command = ["unshare", "--pid", "--fork", "chroot", str(tmp_path), "/probe", "ids"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["pid"] == 1
