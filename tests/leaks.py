# SPDX-License-Identifier: GPL-3.0-or-later
"""What minipod may leave on a host, as sets that can be compared: a test that leaks fails.

A :class:`Scope` says which objects are an instance's own, by the names that its config gave them; so test runs
beside each other do not see each other's. With ``MINIPOD_TEST_ALONE=1`` (a CI's machine, where nobody else
works) everything new on the host counts that minipod could have made, whatever its name.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from minipod.config import Config
from tests.features import cgroup_mounts

CGROUP_DEPTH = 6
# What minipod mounts; others' automounts are squashfs, ramfs, autofs.
MOUNT_TYPES = {"overlay", "nsfs", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}
NOT_OURS = ("/run/user/", "/run/credentials/", "/run/lock", "/run/snapd/", "/run/systemd/")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose objects count.

    Attributes:
        config: the names that the instance gives to its objects.
        base: the directory that holds everything of the instance.
        alone: whether nobody else works on this host.
    """

    config: Config
    base: str
    alone: bool = False

    @classmethod
    def of(cls, config: Config, base: Path) -> Scope:
        """Return the scope of an instance, with *alone* from the environment."""
        return cls(config, str(base), os.environ.get("MINIPOD_TEST_ALONE", "") not in ("", "0"))

    def owns_process(self, process: Process) -> bool:
        """Whether a process is the instance's, by its cgroup, or by its arguments, environment and open files."""
        setting = f"MINIPOD_CGROUP_PARENT={self.config.cgroup_parent}\0"
        return (
            self.owns_cgroup(process.cgroup)
            or self.base in process.words
            or setting in process.words
        )

    def owns_cgroup(self, path: str) -> bool:
        """Whether paths within cgroup hierarchies lie below the instance's parent."""
        return self.config.cgroup_parent in path.replace(" ", "/").split("/")

    def owns_link(self, name: str) -> bool:
        """Whether a network link is the instance's."""
        return name == self.config.bridge or name.startswith(self.config.link_prefix)

    def owns_address(self, text: str) -> bool:
        """Whether an address or a route's destination lies in the pods' range."""
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return False
        pods = ipaddress.ip_network(self.config.pod_cidr)
        return (
            network.version == pods.version
            and network.overlaps(pods)
            and network.prefixlen >= pods.prefixlen
        )

    @property
    def roots(self) -> tuple[Path, ...]:
        """Directories whose entries belong to pods, one each."""
        return (
            Path(self.config.root_dir, "pods"),
            Path(self.config.run_dir, "pods"),
            Path(self.config.log_dir),
        )


@dataclass(frozen=True, slots=True)
class Process:
    """A process, for good: a pid is used again, a pid with its start time is not."""

    pid: int
    start: int
    parent: int
    comm: str
    state: str
    cgroup: str
    words: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.comm}, state {self.state}, parent {self.parent}, cgroup {self.cgroup})"


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """The objects of one scope that exist at one moment, each as a line that names it."""

    processes: frozenset[str]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    addresses: frozenset[str]
    cgroups: frozenset[str]
    nftables: frozenset[str]
    directories: frozenset[str]

    @classmethod
    def take(cls, scope: Scope) -> HostSnapshot:
        """Look at the host. Needs root to see everything."""
        own = own_processes(scope)
        return cls(
            processes=frozenset(f"{p.pid}@{p.start} {p.comm}" for p in own),
            namespaces=frozenset(net_namespaces(own)),
            mounts=frozenset(mounts(scope)),
            links=frozenset(links(scope)),
            addresses=frozenset(addresses(scope)),
            cgroups=frozenset(str(path) for path in cgroups(scope)),
            nftables=frozenset(nftables(scope)),
            directories=frozenset(directories(scope)),
        )


def diff(before: HostSnapshot, after: HostSnapshot) -> list[str]:
    """Return a line for each object that is left, and for each that was the host's and is gone."""
    lines = []
    for field in fields(HostSnapshot):
        old: frozenset[str] = getattr(before, field.name)
        new: frozenset[str] = getattr(after, field.name)
        lines += [f"{field.name}: left behind: {item}" for item in sorted(new - old)]
        if field.name not in ("processes", "namespaces"):
            lines += [f"{field.name}: gone: {item}" for item in sorted(old - new)]
    return lines


def processes() -> Iterator[Process]:
    """Yield every process that can be read, but not ourselves; those that end meanwhile are left out."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError, IndexError):
            stat = (entry / "stat").read_text()
            comm = stat[stat.index("(") + 1 : stat.rindex(")")]
            rest = stat[stat.rindex(")") + 2 :].split()
            cgroup = " ".join(
                sorted({x.split(":", 2)[2] for x in (entry / "cgroup").read_text().splitlines()})
            )
            words = (entry / "cmdline").read_bytes()
            with contextlib.suppress(OSError):  # a kernel thread, a zombie
                words += (entry / "environ").read_bytes()
            text = words.decode(errors="replace") + " " + " ".join(_open_files(entry))
            yield Process(int(entry.name), int(rest[19]), int(rest[1]), comm, rest[0], cgroup, text)


def _open_files(entry: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for fd in (entry / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(fd.readlink())


def own_processes(scope: Scope) -> list[Process]:
    """Return the instance's processes: by arguments, environment, open files or cgroup, and all their descendants."""
    # What has ended and waits for pid 1 is pid 1's affair.
    everyone = [p for p in processes() if (p.state, p.parent) != ("Z", 1)]
    ours = _ancestors(everyone, os.getpid())
    own = {
        p.pid: p
        for p in everyone
        if p.pid not in ours
        and (scope.owns_process(p) or (scope.alone and p.comm.startswith("minipod")))
    }
    grown = True
    while grown:
        children = {p.pid: p for p in everyone if p.parent in own and p.pid not in own}
        own |= children
        grown = bool(children)
    return sorted(own.values(), key=lambda p: p.pid)


def _ancestors(everyone: Iterable[Process], pid: int) -> set[int]:
    parents = {p.pid: p.parent for p in everyone}
    found = {os.getppid()}
    current = os.getppid()
    while current in parents and parents[current] not in found:
        current = parents[current]
        found.add(current)
    return found | {pid}


def net_namespaces(own: Iterable[Process]) -> Iterator[str]:
    """Yield the network namespaces, other than ours, that *own* processes hold."""
    here = os.readlink("/proc/self/ns/net")
    for process in own:
        with contextlib.suppress(OSError):
            there = os.readlink(f"/proc/{process.pid}/ns/net")
            if there != here:
                yield there


def mounts(scope: Scope) -> Iterator[str]:
    """Yield the mounts in our own mount namespace (where nothing of a pod may ever be)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        target, kind = before.split()[4], after.split(" ", 1)[0]
        possible = scope.alone and kind in MOUNT_TYPES and not target.startswith(NOT_OURS)
        if possible or scope.base in line or scope.owns_cgroup(before.split()[3]):
            yield f"{kind} on {target}"


def links(scope: Scope) -> Iterator[str]:
    """Yield the names of network links."""
    for name in os.listdir("/sys/class/net"):
        if scope.alone or scope.owns_link(name):
            yield name


def addresses(scope: Scope) -> Iterator[str]:
    """Yield addresses and routes of the pods' range, and those of the instance's links."""
    for link in _json("ip", "-j", "addr"):
        for address in link.get("addr_info", []):
            text = f"{address.get('local')}/{address.get('prefixlen')}"
            if scope.owns_link(link["ifname"]) or scope.owns_address(text):
                yield f"address {text} on {link['ifname']}"
    for route in _json("ip", "-j", "route", "show", "table", "all"):
        if scope.owns_link(route.get("dev", "")) or scope.owns_address(route.get("dst", "")):
            yield f"route to {route['dst']} by {route.get('dev')}"


def cgroups(scope: Scope) -> Iterator[Path]:
    """Yield the cgroup directories of every hierarchy, parents first."""
    for _, top, _ in cgroup_mounts():
        for path, names, _ in os.walk(top):
            if len(Path(path).relative_to(top).parts) >= CGROUP_DEPTH:
                names.clear()
            below = path.removeprefix(str(top))
            if scope.owns_cgroup(below) or (scope.alone and "minipod" in below):
                yield Path(path)


def nftables(scope: Scope) -> Iterator[str]:
    """Yield nftables' tables, and the elements of their sets and maps."""
    ruleset = _json("nft", "-j", "list", "ruleset")
    for item in ruleset.get("nftables", []) if isinstance(ruleset, dict) else []:
        kind, value = next(iter(item.items()))
        table = (
            value.get("name" if kind == "table" else "table") if isinstance(value, dict) else None
        )
        if table is None or not (scope.alone or table == scope.config.nft_table):
            continue
        if kind == "table":
            yield f"table {value['family']} {table}"
        for element in value.get("elem", []) if kind in ("set", "map") else []:
            yield f"element of {value['family']} {table} {value['name']}: {json.dumps(uncounted(element))}"


def uncounted(element: Any) -> Any:
    """Return an element of a set or a map, as nft shows it, without its counter."""
    if isinstance(element, list):  # of a map: key and value
        return [uncounted(element[0]), *element[1:]]
    is_counted = isinstance(element, dict) and "elem" in element
    return element["elem"]["val"] if is_counted else element


def directories(scope: Scope) -> Iterator[str]:
    """Yield the entries of the directories that hold one entry per pod."""
    for root in scope.roots:
        with contextlib.suppress(FileNotFoundError):
            yield from (str(entry) for entry in root.iterdir())


def _json(*command: str) -> list[dict] | dict:  # type: ignore[type-arg]  # whatever the tool says
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []


def clean(scope: Scope) -> None:
    """Remove by force what is left of an instance, so that the next test starts clean. Touches nobody else's."""
    scope = replace(scope, alone=False)
    for _ in range(5):
        own = own_processes(scope)
        if not [p for p in own if p.state != "Z"]:
            break
        for process in own:
            _kill(process)
    targets = [line.partition(" on ")[2] for line in mounts(scope)]
    for target in reversed(targets):
        subprocess.run(["umount", "--lazy", target], capture_output=True)
    for link in links(scope):
        subprocess.run(["ip", "link", "delete", link], capture_output=True)
    for line in nftables(scope):
        if line.startswith("table "):
            subprocess.run(["nft", "delete", *line.split()], capture_output=True)
    for path in reversed(list(cgroups(scope))):
        with contextlib.suppress(OSError):
            path.rmdir()


def _kill(process: Process) -> None:
    """Kill a process that is still the one that was seen, and wait for its end."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        if int(stat[stat.rindex(")") + 2 :].split()[19]) != process.start:
            return
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(5000)
    except OSError:
        return
    finally:
        os.close(pidfd)
