# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says: processes, namespaces, mounts, links, cgroups. Everything that a check believes.

A process belongs to lab N when it was started with ``MINIPOD_LAB=N`` in its environment, which ``/proc/PID/environ``
shows as it was at the exec. What is inside of a network namespace is asked by the host's ``ip`` and ``nft`` in it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minipod.config import HELPER_ENV

MARK = "MINIPOD_LAB"
_TIMEOUT = 20.0  # seconds for a program of the host
_NUMBER = re.compile(r"[1-9][0-9]?")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, as the host sees it."""

    pid: int
    parent: int
    comm: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.comm})"

    @property
    def proc(self) -> Path:
        """Its directory in procfs."""
        return Path("/proc", str(self.pid))

    def ns(self, kind: str) -> str:
        """Return a namespace as ``uts:[4026531838]``; ``""`` when the process is gone."""
        return namespace(kind, self.pid)

    def status(self, field: str) -> list[str]:
        """Return the words of a line of ``/proc/PID/status``."""
        for line in _lines(self.proc / "status"):
            if line.startswith(f"{field}:"):
                return line.split()[1:]
        return []

    def capabilities(self, which: str) -> set[int]:
        """Return the numbers of a set, ``CapEff``, ``CapBnd`` and so on (capabilities(7))."""
        bits = int((self.status(which) or ["0"])[0], 16)
        return {number for number in range(64) if bits >> number & 1}

    def mounts(self) -> list[Mount]:
        """Return the mounts that it sees, in the order in which they were made."""
        return mounts(self.pid)

    def cgroups(self) -> dict[str, str]:
        """Return its cgroup in each hierarchy: the controller (``""`` for v2) → the path in the hierarchy."""
        found = {}
        for line in _lines(self.proc / "cgroup"):
            _, controllers, path = line.split(":", 2)
            found.update(dict.fromkeys(controllers.split(","), path))
        return found

    def id_map(self, kind: str) -> list[str]:
        """Return the words of its ``uid`` or ``gid`` map (user_namespaces(7))."""
        return _read(self.proc / f"{kind}_map").split()

    def arguments(self) -> list[str]:
        """Return its command line."""
        return _read(self.proc / "cmdline").rstrip("\0").split("\0")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo (proc_pid_mountinfo(5)).

    Attributes:
        device: ``MAJOR:MINOR``.
        root: which directory of the file system is mounted.
        target: where, as the process sees it.
        propagation: ``shared:N``, ``master:N``; empty for a private mount.
        kind: the file system's type.
        options: of the mount.
        data: the options of the file system.
    """

    device: str
    root: str
    target: str
    propagation: tuple[str, ...]
    kind: str
    options: tuple[str, ...]
    data: tuple[str, ...]

    def option(self, name: str) -> str:
        """Return the value of the file system's ``NAME=…``, or an empty string."""
        start = f"{name}="
        return next((each[len(start) :] for each in self.data if each.startswith(start)), "")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def _lines(path: Path) -> list[str]:
    return _read(path).splitlines()


def namespace(kind: str, pid: int | str = "self") -> str:
    """Return a process's namespace as ``uts:[4026531838]``, or ``""`` when the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def processes() -> Iterator[Process]:
    """Yield all processes but zombies."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            comm, parenthesis, rest = (
                _read(Path("/proc", name, "stat")).partition(" (")[2].rpartition(")")
            )
            words = rest.split()
            if parenthesis and words[0] != "Z":
                yield Process(int(name), int(words[1]), comm)


def zombies(parents: set[int]) -> list[int]:
    """Return the pids of the zombies that are children of *parents*."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            words = _read(Path("/proc", name, "stat")).rpartition(")")[2].split()
            if words[:1] == ["Z"] and int(words[1]) in parents:
                found.append(int(name))
    return found


def environment(pid: int) -> dict[str, str]:
    """Return the environment with which a process's program was started."""
    pairs = (each.partition("=") for each in _read(Path(f"/proc/{pid}/environ")).split("\0"))
    return {name: value for name, _, value in pairs if name}


def learners() -> dict[int, list[Process]]:
    """Return the processes of each lab: none in pods, whose environment is the manifest's, none that we come from."""
    everyone = {process.pid: process for process in processes()}
    ours = set(_line(os.getpid(), everyone))
    found: dict[int, list[Process]] = {}
    for pid, process in sorted(everyone.items()):
        mark = environment(pid).get(MARK, "")
        if _NUMBER.fullmatch(mark) and pid not in ours:
            line = (everyone[each].comm for each in _line(pid, everyone))
            if not any(comm.startswith("minipod-") for comm in line):
                found.setdefault(int(mark), []).append(process)
    return found


def _line(pid: int, everyone: dict[int, Process]) -> Iterator[int]:
    """Yield a process and those that it descends from."""
    while pid in everyone:
        yield pid
        pid = everyone[pid].parent


def mounts(pid: int | str = "self") -> list[Mount]:
    """Return the mounts that a process sees, in the order in which they were made."""
    found = []
    for line in _lines(Path(f"/proc/{pid}/mountinfo")):
        before, _, after = line.partition(" - ")
        words, more = before.split(" "), after.split(" ")
        found.append(
            Mount(
                words[2],
                _plain(words[3]),
                _plain(words[4]),
                tuple(words[6:]),
                more[0],
                tuple(words[5].split(",")),
                tuple(more[2].split(",")),
            )
        )
    return found


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def run(*command: str, input: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program of the host; an absent one counts as one that failed."""
    try:
        return subprocess.run(
            command,
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
            cwd="/",
            env=HELPER_ENV,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _json(*command: str) -> Any:
    try:
        return json.loads(run(*command).stdout or "[]")
    except ValueError:
        return []


class Network:
    """A network namespace: the host's own, a named one (``ip netns``), or a process's."""

    def __init__(self, name: str = "", pid: int = 0) -> None:
        self._enter: tuple[str, ...] = ()
        if pid:
            self._enter = ("nsenter", f"--net=/proc/{pid}/ns/net")
        elif name:
            self._enter = ("nsenter", f"--net=/run/netns/{name}")

    def links(self) -> dict[str, dict[str, Any]]:
        """Return the links by name, each as ``ip -j -d address`` shows it."""
        links = _json(*self._enter, "ip", "-j", "-d", "address")
        return {link["ifname"]: link for link in links if "ifname" in link}

    def routes(self) -> list[dict[str, Any]]:
        """Return the IPv4 routes of the main table, as ``ip -j route`` shows them."""
        found: list[dict[str, Any]] = _json(*self._enter, "ip", "-j", "-4", "route")
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return the packet filter, as ``nft -j list ruleset`` shows it."""
        done = _json(*self._enter, "nft", "-j", "list", "ruleset")
        return list(done.get("nftables", [])) if isinstance(done, dict) else []

    def sysctl(self, name: str) -> str:
        """Return a sysctl of the network, by its path below /proc/sys."""
        # Each opener of /proc/sys/net sees the network namespace that it is in itself.
        return run(*self._enter, "cat", f"/proc/sys/{name}").stdout.strip()

    def reaches(self, address: str) -> bool:
        """Whether an echo request to *address* is answered."""
        # busybox's, because iputils may be absent.
        return run(*self._enter, "busybox", "ping", "-c1", "-W2", address).returncode == 0

    def fetch(self, url: str) -> str:
        """Return the first line of the page at *url*, or an empty string."""
        command = ("timeout", "3", "busybox", "wget", "-q", "-O", "-", url)
        return run(*self._enter, *command).stdout.partition("\n")[0][:80]


def addresses(link: dict[str, Any]) -> list[str]:
    """Return the IPv4 addresses of a link, ``ADDRESS/LENGTH``."""
    return [
        f"{each['local']}/{each['prefixlen']}"
        for each in link.get("addr_info", [])
        if each.get("family") == "inet"
    ]


def hierarchies() -> dict[str, Path]:
    """Return where cgroups are: each controller (``""`` for v2's own) → the directory of the host's root cgroup.

    A controller of v2 is at the v2 hierarchy, unless a v1 hierarchy has it.
    """
    found: dict[str, Path] = {}
    for mount in mounts():
        if mount.root != "/":
            continue
        if mount.kind == "cgroup2":
            found[""] = Path(mount.target)
            for controller in _read(Path(mount.target, "cgroup.controllers")).split():
                found.setdefault(controller, Path(mount.target))
        elif mount.kind == "cgroup":
            found.update(dict.fromkeys(mount.data, Path(mount.target)))
    return found


def members(fragment: str) -> list[Process]:
    """Return the processes whose cgroup's path has *fragment* in it."""
    return sorted(
        (each for each in processes() if any(fragment in path for path in each.cgroups().values())),
        key=lambda each: each.pid,
    )
