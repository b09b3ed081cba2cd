# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespace steps for what a process is part of and holds: cgroups, namespaces, settings, limits, fds."""

from __future__ import annotations

from dataclasses import dataclass

from minipod.plan.steps.base import NamespaceStep, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Harden(NamespaceStep):
    """Close the door on the processes of the pod before any of their namespaces is entered."""

    def describe(self) -> str:
        return "prctl PR_SET_DUMPABLE 0, umask 0"

    def record(self) -> Record:
        return Record("HARDEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCgroup(NamespaceStep):
    """Move the clone into a cgroup v1 directory (on cgroup v2 it is born there)."""

    directory: str

    def describe(self) -> str:
        return f"write own pid to {self.directory}/cgroup.procs"

    def record(self) -> Record:
        return Record("CGROUP_JOIN", strings=(self.directory,))


NAMESPACES = {
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "net": 0x40000000,
}


def _namespace_bits(names: tuple[str, ...]) -> int:
    bits = 0
    for name in names:
        bits |= NAMESPACES[name]
    return bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Unshare(NamespaceStep):
    """Make new namespaces (``unshare(2)``)."""

    namespaces: tuple[str, ...]

    def describe(self) -> str:
        return f"unshare {' '.join(self.namespaces)}"

    def record(self) -> Record:
        return Record("UNSHARE", numbers=(_namespace_bits(self.namespaces),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNs(NamespaceStep):
    """Enter the namespaces of the process behind a pidfd (``setns(2)``)."""

    pidfd: int
    of: str
    namespaces: tuple[str, ...]

    def describe(self) -> str:
        return f"setns into {' '.join(self.namespaces)} of {self.of}"

    def record(self) -> Record:
        return Record("SETNS", in_=self.pidfd, numbers=(_namespace_bits(self.namespaces),))


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeUserNamespace(NamespaceStep):
    """Make a user namespace in which ids from 0 on are those from *first* on outside; held by an fd, entered later."""

    slot: int
    proc: int
    first: int
    count: int

    def describe(self) -> str:
        return f"make a user namespace, ids 0-{self.count - 1} are {self.first} and up outside"

    def record(self) -> Record:
        return Record("USERNS", in_=self.proc, out=self.slot, numbers=(self.first, self.count))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterUserNamespace(NamespaceStep):
    """Become the root of a user namespace, which has all power in it and none outside; *slot* has it, or a pidfd."""

    slot: int

    def describe(self) -> str:
        return "setns into the pod's user namespace, as its root"

    def record(self) -> Record:
        return Record("ENTER_USERNS", in_=self.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFiles(NamespaceStep):
    """Have all that is made from here on belong to the pod's root: setfsuid, with the capabilities kept."""

    uid: int
    gid: int

    def describe(self) -> str:
        return f"setfsuid {self.uid}, setfsgid {self.gid}"

    def record(self) -> Record:
        return Record("OWN_FILES", numbers=(self.uid, self.gid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl(NamespaceStep):
    """Set a namespaced sysctl through a private procfs; an *optional* one may be missing in this kernel."""

    proc: int
    name: str
    value: str
    optional: bool = False

    @property
    def path(self) -> str:
        """Return where it is below /proc/sys; a slash in the name stands for a dot (``sysctl.d(5)``)."""
        return self.name.translate(str.maketrans("./", "/."))

    def describe(self) -> str:
        return f"sysctl {self.name} = {self.value}"

    def record(self) -> Record:
        flags = ("OPTIONAL",) if self.optional else ()
        return Record("SYSCTL", flags, in_=self.proc, strings=(self.path, self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHostname(NamespaceStep):
    """Set the host name of this UTS namespace."""

    name: str

    def describe(self) -> str:
        return f"sethostname {self.name}"

    def record(self) -> Record:
        return Record("HOSTNAME", strings=(self.name,))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUp(NamespaceStep):
    """Set a network link up."""

    name: str

    def describe(self) -> str:
        return f"ip link set {self.name} up"

    def record(self) -> Record:
        return Record("LINK_UP", strings=(self.name,))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNetlink(NamespaceStep):
    """Open a routing socket in this network namespace, through which the agent configures it."""

    slot: int

    def describe(self) -> str:
        return "open a netlink socket in this network namespace"

    def record(self) -> Record:
        return Record("NETLINK", out=self.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile(NamespaceStep):
    """Open a path for reading: of the process's own root, or below the slot *root*, where no symlink is followed.

    *proc* says that *root* is a procfs of our own: its links, as those to namespaces, are the kernel's, and followed.
    """

    slot: int
    path: str
    root: int = -1
    proc: bool = False

    def describe(self) -> str:
        return f"open {self.path}"

    def record(self) -> Record:
        flags = ("PROC",) if self.proc else ()
        return Record("OPEN", flags, out=self.slot, root=self.root, strings=(self.path,))


@dataclass(frozen=True, slots=True, kw_only=True)
class SendFd(NamespaceStep):
    """Hand an fd to the agent."""

    slot: int
    what: str

    def describe(self) -> str:
        return f"send {self.what} to the agent"

    def record(self) -> Record:
        return Record("SEND_FD", in_=self.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession(NamespaceStep):
    """Lead a session of one's own."""

    def describe(self) -> str:
        return "setsid"

    def record(self) -> Record:
        return Record("SETSID")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeyring(NamespaceStep):
    """Join a new, empty session keyring, so that the host's keys stay out of reach (``keyctl(2)``)."""

    def describe(self) -> str:
        return "keyctl: new session keyring"

    def record(self) -> Record:
        return Record("KEYRING")


RLIMITS = {
    "cpu": 0,
    "fsize": 1,
    "data": 2,
    "stack": 3,
    "core": 4,
    "rss": 5,
    "nproc": 6,
    "nofile": 7,
    "memlock": 8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRlimit(NamespaceStep):
    """Set a resource limit (``setrlimit(2)``)."""

    name: str
    soft: int
    hard: int

    def describe(self) -> str:
        return f"setrlimit {self.name} {self.soft}:{self.hard}"

    def record(self) -> Record:
        return Record("RLIMIT", numbers=(RLIMITS[self.name], self.soft, self.hard))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOomScoreAdj(NamespaceStep):
    """Say how early the kernel may kill this process when memory runs out (``proc(5)``)."""

    proc: int
    value: int

    def describe(self) -> str:
        return f"oom_score_adj {self.value}"

    def record(self) -> Record:
        return Record("OOM_SCORE_ADJ", in_=self.proc, numbers=(self.value,))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPty(NamespaceStep):
    """Open a terminal in the container's own devpts; its master goes up, its slave becomes stdio."""

    slot: int
    root: int
    rows: int = 0
    columns: int = 0
    console: bool = False

    def describe(self) -> str:
        console = ", bound to /dev/console" if self.console else ""
        return f"open a pty in the container's devpts{console}"

    def record(self) -> Record:
        flags = ("CONSOLE",) if self.console else ()
        return Record(
            "OPEN_PTY", flags, out=self.slot, root=self.root, numbers=(self.rows, self.columns)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStdio(NamespaceStep):
    """Put the fds of three slots on 0, 1 and 2; *terminal* makes them the controlling terminal."""

    slots: tuple[int, int, int]
    terminal: bool = False

    def describe(self) -> str:
        return "dup2 stdin, stdout, stderr" + (
            " to the pty, as controlling terminal" if self.terminal else ""
        )

    def record(self) -> Record:
        return Record("STDIO", ("CTTY",) if self.terminal else (), numbers=self.slots)
