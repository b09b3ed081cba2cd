# SPDX-License-Identifier: GPL-3.0-or-later
"""What minipod itself needs of the machine: its own files, Python, settings, disk, systemd, the agent."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from minipod import __version__
from minipod.cli.checks.base import Check, Result, package
from minipod.cli.client import as_root
from minipod.config import HELPER_ENV, Config

_ANEW = "install minipod anew, for this machine and this Python"
_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}  # elf.h
_UNIT_PLACES = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")


def _root(config: Config) -> Result:
    if os.geteuid() != 0:
        return Result("fail", f"running as uid {os.geteuid()}", as_root("doctor"))
    return Result("ok", "running as root")


def _python(config: Config) -> Result:
    version = ".".join(map(str, sys.version_info[:3]))
    return Result("ok", f"{version} ({sys.executable}), minipod {__version__}")


def _executables(config: Config) -> Result:
    from minipod import native

    found = {name: native.executable(name) for name in ("minipod-shim", "minipod-pause")}
    machine = os.uname().machine
    for name, path in found.items():
        if not os.access(path, os.X_OK):
            return Result("fail", f"{path} is missing or not executable", _ANEW)
        with path.open("rb") as file:
            made_for = _ELF_MACHINES.get(elf_machine(file.read(20)), "an unknown machine")
        if made_for != machine:
            return Result("fail", f"{name} is for {made_for}, this is {machine}", _ANEW)
    return Result("ok", f"{' and '.join(found)} for {machine} in {found['minipod-shim'].parent}")


def elf_machine(head: bytes) -> int:
    """Return the number of the machine that an executable is for (``e_machine``, elf(5)); -1 for none."""
    return int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" else -1


def _libraries(config: Config) -> Result:
    from importlib import import_module

    for name in ("_cffi_backend", "isal", "msgspec", "prctl", "pyroute2", "yaml"):
        try:
            import_module(name)
        except Exception as error:
            return Result("fail", f"{name}: {error}", _ANEW)
    try:
        import_module("pyseccomp")
    except Exception as error:  # it looks for the C library when it is loaded
        return Result("fail", f"pyseccomp: {error}", package("libseccomp2"))
    return Result("ok", "all Python packages load")


def _settings(config: Config) -> Result:
    from minipod.config import DEFAULT_FILE

    path = os.environ.get("MINIPOD_CONFIG") or DEFAULT_FILE
    changed = [name for name, value in config.to_env().items() if value != Config().to_env()[name]]
    where = f"from {path}" if os.path.exists(path) else f"no {path}"
    named = f"; not as usual: {', '.join(changed)}" if changed else ""
    return Result("ok", f"{where}{named}")


def _registries(config: Config) -> Result:
    from minipod.images.reference import parse_reference
    from minipod.images.registry.settings import Settings, endpoints

    settings = Settings(config.containers_dir, config.docker_dir, config.docker_config)
    # Any name has all files read.
    endpoints(settings, parse_reference("localhost:1/x"))
    return Result("ok", f"nothing wrong in {config.containers_dir} and {config.docker_dir}")


def _disk(config: Config) -> Result:
    base = Path(config.root_dir)
    while not base.is_dir():
        base = base.parent
    found = os.statvfs(base)
    size = found.f_blocks * found.f_frsize
    return judge_disk(
        str(base), found.f_bavail * found.f_frsize, size, found.f_favail, found.f_files
    )


def judge_disk(place: str, free: int, size: int, inodes: int, all_inodes: int) -> Result:
    """Say whether images and writable layers have room; the shares are those at which a kubelet evicts.

    Args:
        place: what is on that file system.
        free: bytes.
        size: bytes.
        inodes: that are free.
        all_inodes: 0 where the file system makes them as needed.
    """
    words = f"{free >> 20} MiB free for {place}"
    if free < 256 << 20:
        return Result(
            "fail", words, "minipod image ls shows what takes how much; remove what you do not need"
        )
    if free * 10 < size or inodes * 20 < all_inodes:
        few = f", {inodes} inodes" if inodes * 20 < all_inodes else ""
        return Result("warn", f"only {words}{few}", "remove what you do not need: minipod image ls")
    return Result("ok", words)


def _limits(config: Config) -> Result:
    directory = Path("/proc/sys/fs/inotify")
    return judge_inotify(
        int((directory / "max_user_instances").read_text()),
        int((directory / "max_user_watches").read_text()),
    )


def judge_inotify(instances: int, watches: int) -> Result:
    """Say whether there are inotify instances and watches for many pods (a few each; ``inotify(7)``)."""
    words = f"{instances} inotify instances, {watches} watches for root"
    if instances < 64 or watches < 4096:
        return Result(
            "warn",
            f"{words}: too few for many pods",
            "sudo sysctl -w fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536",
        )
    return Result("ok", words)


def _clock(config: Config) -> Result:
    return judge_clock(time.time(), os.stat(__file__).st_mtime)


def judge_clock(now: float, made: float) -> Result:
    """Say whether the clock can be right: *made* is when minipod was packaged, seconds since the epoch."""
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    if now < made - 86400:
        return Result(
            "warn",
            f"it is not {day}: minipod is younger; certificates of registries will not be valid yet",
            "sudo timedatectl set-ntp true",
        )
    return Result("ok", f"{day}, UTC")


def _systemd(config: Config) -> Result:
    booted = os.path.isdir("/run/systemd/system")  # sd_booted(3)
    has_run = shutil.which("systemd-run", path=HELPER_ENV["PATH"]) is not None
    units = [x for x in _UNIT_PLACES if os.path.exists(f"{x}/minipod-agent.service")]
    return judge_systemd(booted, has_run, bool(units))


def judge_systemd(booted: bool, has_run: bool, has_unit: bool) -> Result:
    """Say how the agent is started, and whether it comes back at boot."""
    if not booted:
        return Result("ok", "not the init here: the agent is a daemon of its own")
    if not has_run:
        return Result(
            "warn",
            "there is no systemd-run: the agent is a child of your session",
            package("systemd"),
        )
    if not has_unit:
        return Result("ok", "starts the agent on demand; no unit is installed to start it at boot")
    return Result(
        "ok", "starts the agent on demand, and at boot after: systemctl enable minipod-agent"
    )


def _agent(config: Config) -> Result:
    from minipod.cli.client import AgentDown, call

    try:
        with call(config, {"verb": "agent-status"}, start=False, timeout=5.0) as answer:
            done = answer.finish()
    except AgentDown:
        return Result("ok", "not running; the first command that needs it starts it")
    return judge_agent(int(done.get("pid", 0)), int(done.get("pods", 0)), str(done.get("version")))


def judge_agent(pid: int, pods: int, version: str) -> Result:
    """Say whether the running agent is of the version of this command."""
    words = f"running, pid {pid}, {pods} pods"
    if version != __version__:
        return Result(
            "warn",
            f"{words}, but it is minipod {version} and this is {__version__}",
            "minipod agent stop; the next command starts the new one, pods go on",
        )
    return Result("ok", words)


FIRST = (
    Check("root", _root, needs_root=False),
    Check("python", _python, needs_root=False),
    Check("executables", _executables, _ANEW, needs_root=False),
    Check("libraries", _libraries, needs_root=False),
    Check("settings", _settings, needs_root=False),
)
LAST = (
    Check("registries", _registries, needs_root=False),
    Check("disk", _disk, needs_root=False),
    Check("limits", _limits, needs_root=False),
    Check("clock", _clock, needs_root=False),
    Check("systemd", _systemd, needs_root=False),
    Check(
        "agent",
        _agent,
        "minipod agent status; its log: journalctl -u minipod-agent, or agent.log in the root directory",
    ),
)
