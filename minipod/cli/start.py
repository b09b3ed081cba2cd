# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the agent when the first command needs it: under systemd as a transient service, else as a daemon.

However many commands come at once, one starts it and the others wait: a lock on ``<run_dir>/start.lock``.
The agent says through a pipe that it is ready, or why it cannot be. Its log is systemd's journal, or a file.
"""

from __future__ import annotations

import _socket as socket
import fcntl
import json
import os
import select
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import minipod
from minipod.cli.client import try_connect
from minipod.config import Config
from minipod.errors import MinipodError

if TYPE_CHECKING:
    import subprocess

UNIT = "minipod-agent"
# Seconds. On a slow machine that has just booted Python takes a minute to load the agent, and who gives up ends it: it
# would never come up.
_READY_TIMEOUT = 300.0
_PATIENCE = 10.0  # seconds until the user is told what takes so long
_SYSTEMD = "/run/systemd/system"  # sd_booted(3)
_LOG_TAIL = 4096


def is_service(config: Config) -> bool:
    """Whether the agent of *config* is (to be) a service of systemd's: the machine's own one is, where that runs."""
    return config == Config() and os.path.isdir(_SYSTEMD) and bool(shutil.which("systemd-run"))


def log_place(config: Config) -> str:
    """Return where to read the agent's log: a command, or a file."""
    return f"journalctl -u {UNIT}" if is_service(config) else f"{config.root_dir}/agent.log"


class _Journal:
    """The log of the agent as a service."""

    where = f"journalctl -u {UNIT}"

    def last_line(self) -> str:
        """Return the last line of the last run, or an empty string."""
        try:
            lines = _ask_systemd(
                "journalctl", f"--unit={UNIT}", "--lines=20", "--output=json"
            ).stdout
        except FileNotFoundError:
            return ""
        said = [json.loads(line) for line in lines.splitlines()]
        # What systemd tells of the service is in there, too.
        own = [entry for entry in said if entry.get("_SYSTEMD_UNIT") == f"{UNIT}.service"]
        text = own[-1].get("MESSAGE") if own else ""
        return text.strip() if isinstance(text, str) else ""


@dataclass(frozen=True, slots=True)
class _Log:
    """The log of the agent as a daemon, and where it ended before this start."""

    where: str
    start: int

    def last_line(self) -> str:
        """Return the last line written since, or an empty string."""
        with open(self.where, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(self.start, file.tell() - _LOG_TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


def ensure_agent(config: Config) -> socket.socket:
    """Start the agent unless another command did meanwhile; return a connection to it.

    Raises:
        MinipodError: what the agent said, or that it ended without a word.
    """
    _make_private(config.run_dir)
    os.makedirs(config.root_dir, mode=0o700, exist_ok=True)
    with _locked(f"{config.run_dir}/start.lock"):
        if sock := try_connect(config):
            return sock
        if is_service(config):
            _start_service(config)
        else:
            _start_daemon(config)
        if sock := try_connect(config):
            return sock
    raise MinipodError("the agent ended right after its start", f"its log: {log_place(config)}")


def _make_private(path: str) -> None:
    """Make the directory of sockets, 0700; refuse one that others could write into (CVE-2020-15257)."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    state = os.lstat(path)
    if (
        not stat.S_ISDIR(state.st_mode)
        or state.st_uid not in (0, os.geteuid())
        or state.st_mode & 0o022
    ):
        raise MinipodError(
            f"{path} is not a directory that only root can write to", "choose another --run-dir"
        )


@contextmanager
def _locked(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _environment(config: Config) -> dict[str, str]:
    """Return the agent's environment: ours, without what steers Python, with the whole config."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env.update(config.to_env())
    # The agent is of the same tree as this command, when that is not where Python looks by itself.
    top = os.path.dirname(os.path.dirname(os.path.abspath(minipod.__file__)))
    if os.path.basename(top) not in ("site-packages", "dist-packages"):
        env["PYTHONPATH"] = top
    return env


def _command() -> list[str]:
    # -P: the working directory is no place to import from.
    return [sys.executable, "-P", "-m", "minipod.agent"]


def _start_daemon(config: Config) -> None:
    path = log_place(config)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    log_fd = os.open(path, flags, 0o600)
    try:
        _daemon(config, _Log(path, os.fstat(log_fd).st_size), log_fd)
    finally:
        os.close(log_fd)


def _daemon(config: Config, log: _Log, log_fd: int) -> None:
    import subprocess

    ready, said = os.pipe()
    try:
        try:
            process = subprocess.Popen(
                [*_command(), "--ready-fd", str(said)],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=(said,),
                start_new_session=True,
                cwd="/",
                env=_environment(config),
            )
        finally:
            os.close(said)
        try:
            _await_ready(ready, log)
        except MinipodError:
            if process.poll() is None:
                process.terminate()
            raise
        finally:
            process.returncode = process.returncode or 0  # it outlives us: nobody waits for it
    finally:
        os.close(ready)


def _start_service(config: Config) -> None:
    """Start the agent as a transient service, which outlives the session."""
    # systemd hands no pipe of ours to a service, so the agent's ready pipe is a FIFO in our own directory.
    fifo = f"{config.run_dir}/ready.{os.getpid()}"
    os.mkfifo(fifo, 0o600)
    try:
        ready = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _run_systemd(config, fifo, ready)
        finally:
            os.close(ready)
    finally:
        os.unlink(fifo)


def _run_systemd(config: Config, fifo: str, ready: int) -> None:
    env = _environment(config)
    kept = {name: env[name] for name in (*config.to_env(), "PATH", "PYTHONPATH") if name in env}
    options = [
        "--quiet",
        "--collect",
        f"--unit={UNIT}",
        "--description=minipod agent",
        "--property=Type=notify",
        f"--property=TimeoutStartSec={_READY_TIMEOUT:.0f}",
        "--property=KillMode=process",
        "--property=WorkingDirectory=/",
        *(f"--setenv={name}={value}" for name, value in kept.items()),
    ]
    # No shell that would open it: a "$" in a transient unit does not survive systemd's daemon-reload.
    done = _ask_systemd("systemd-run", *options, "--", *_command(), "--ready-fifo", fifo)
    # systemd-run waits for Type=notify's word. When that does not come, the agent's own is in the FIFO.
    if done.returncode != 0 and not select.select([ready], [], [], 0)[0]:
        # The shipped unit is installed, or an earlier one failed.
        if "already loaded" in done.stderr:
            done = _ask_systemd("systemctl", "start", UNIT)
            if done.returncode == 0:
                return
        words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise MinipodError(
            f"systemd-run could not start the agent: {words}", f"systemctl status {UNIT}"
        )
    _await_ready(ready, _Journal())


def _ask_systemd(*command: str) -> subprocess.CompletedProcess[str]:
    import subprocess

    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
    )


def _await_ready(fd: int, log: _Log | _Journal) -> None:
    """Wait until the agent writes its line to the pipe *fd*.

    Raises:
        MinipodError: it wrote an error, wrote nothing, or took too long.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    if not poll.poll(_PATIENCE * 1000):
        from minipod.cli.output import warn

        warn(f"the agent takes long to start (its log: {log.where})")
    while not data.endswith(b"\n"):
        if not poll.poll(_READY_TIMEOUT * 1000):
            raise MinipodError(
                f"the agent was not ready within {_READY_TIMEOUT:.0f} s", f"its log: {log.where}"
            )
        chunk = os.read(fd, 65536)
        if not chunk:
            why = log.last_line()
            raise MinipodError(
                f"the agent ended before it was ready{': ' + why if why else ''}",
                f"its log: {log.where}",
            )
        data += chunk
    if data.strip() != b"ok":
        raise MinipodError.from_status(json.loads(data))
