# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a plan: small frozen values that say what will be done, to what, and because of which manifest field.

There are two families. *Host steps* are executed by the agent in Python. *Namespace steps* are executed by the C
interpreter inside the clone that becomes the sandbox or a container; each of them turns itself into one
:class:`Record`, whose meaning is documented beside ``enum mp_op`` in ``native/wire.h``.

Nothing here does any I/O, so a plan can be compiled, compared and explained anywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

Operand = str | bytes | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One namespace step as the C interpreter takes it.

    Attributes:
        op: the name of the ``MP_OP_*`` constant, without its prefix.
        flags: names of ``MP_F_*`` constants.
        in_, out, root: fd slots, -1 for none.
        strings: up to four operands: a string, a list of strings, or a blob.
        numbers: up to four unsigned 64-bit numbers (a negative one is sent as its two's complement).
    """

    op: str
    flags: tuple[str, ...] = ()
    in_: int = -1
    out: int = -1
    root: int = -1
    strings: tuple[Operand, ...] = ()
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(ABC):
    """What every step has: the path of the manifest field that it comes from, or "" when it is a default."""

    source: str = ""

    @abstractmethod
    def describe(self) -> str:
        """Say in one line what the step does, in the words of the field."""


# ---- host steps -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory(Step):
    """Make a directory of minipod's own, with parents."""

    path: str
    mode: int = 0o700

    def describe(self) -> str:
        return f"make directory {self.path} (mode {self.mode:04o})"


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeHostPath(Step):
    """Make what a ``hostPath`` volume of type DirectoryOrCreate (0755) or FileOrCreate (0644) needs."""

    path: str
    directory: bool

    def describe(self) -> str:
        what = "directory" if self.directory else "file"
        return f"make {what} {self.path} on the host unless it is there"


@dataclass(frozen=True, slots=True)
class CgroupWrite:
    """A value for a file of a cgroup; *optional* ones may be missing in this kernel."""

    controller: str
    file: str
    value: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeCgroup(Step):
    """Make a cgroup in every hierarchy that is used, and set its limits.

    *devices* says whether the default device allow-list is put on it (as a BPF program on cgroup v2).
    """

    path: str
    writes: tuple[CgroupWrite, ...] = ()
    devices: bool = False

    def describe(self) -> str:
        limits = ", ".join(f"{w.file}={w.value.strip()}" for w in self.writes)
        devices = " with the default device list" if self.devices else ""
        return f"make cgroup {self.path}{devices}" + (f" ({limits})" if limits else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartShim(Step):
    """Start the pod's shim, which outlives the agent and is the parent of all that runs in the pod."""

    run_dir: str
    label: str

    def describe(self) -> str:
        return f"start minipod-shim for {self.label}, listening on {self.run_dir}/shim.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachNetwork(Step):
    """Connect the sandbox's network namespace to the bridge."""

    owner: str
    address: str
    prefix_len: int
    gateway: str
    bridge: str
    host_ifname: str
    mac: str

    def describe(self) -> str:
        return (
            f"make veth {self.host_ifname} on bridge {self.bridge} with its peer as eth0 in the sandbox, "
            f"{self.address}/{self.prefix_len}, MAC {self.mac}, default route via {self.gateway}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch(Step):
    """Have the shim clone a process and run *steps* in it, the last of which is an exec.

    Attributes:
        key: the shim's name for the process: ``sandbox``, ``<container>/<attempt>`` or ``exec/<n>``.
        kind: ``SANDBOX``, ``CONTAINER`` or ``EXEC``.
        fds: what the fds sent along are, in order; the i-th fills slot i.
        new_pid_namespace: clone with ``CLONE_NEWPID``.
        join: key of the process whose pidfd goes to *join_slot*, or "".
        join_pid_namespace: clone inside the PID namespace of *join*.
        into_cgroup: the cgroup that the clone is born in (cgroup v2), or "".
        stdio: ``NULL``, ``LOG``, ``TTY_LOG``, ``FDS`` or ``TTY``.
    """

    key: str
    kind: str
    steps: tuple[NamespaceStep, ...]
    fds: tuple[str, ...] = ()
    new_pid_namespace: bool = False
    join: str = ""
    join_slot: int = -1
    join_pid_namespace: bool = False
    into_cgroup: str = ""
    pause_slot: int = -1
    stdio: str = "NULL"
    stdio_slots: tuple[int, int, int] = (-1, -1, -1)
    keep_stdin: bool = False
    log_path: str = ""
    log_max_bytes: int = 10 * 1024 * 1024
    log_max_files: int = 5

    def describe(self) -> str:
        where = ", in a new PID namespace" if self.new_pid_namespace else ""
        if self.join_pid_namespace:
            where = f", in the PID namespace of {self.join}"
        if self.into_cgroup:
            where += f", in cgroup {self.into_cgroup}"
        return f"clone3 {self.key}{where}; in it:"


# ---- namespace steps ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceStep(Step):
    """A step that the C interpreter runs in the clone."""

    @abstractmethod
    def record(self) -> Record:
        """Return the step as the interpreter takes it."""


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
class MakePrivate(NamespaceStep):
    """Cut the propagation of mounts between this mount namespace and the one that it was copied from."""

    def describe(self) -> str:
        return "mount --make-rprivate /"

    def record(self) -> Record:
        return Record("PROPAGATION", numbers=((1 << 18) | 16384,))


MOUNT_ATTRIBUTES = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}


def _attribute_bits(names: tuple[str, ...]) -> int:
    return sum(MOUNT_ATTRIBUTES[name] for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFilesystem(NamespaceStep):
    """Make a filesystem as a detached mount (``fsopen``, ``fsconfig``, ``fsmount``)."""

    slot: int
    type: str
    options: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    def describe(self) -> str:
        options = ",".join(self.attributes + self.options)
        return f"fsmount {self.type}" + (f" ({options})" if options else "")

    def record(self) -> Record:
        numbers = (_attribute_bits(self.attributes), len(self.options))
        return Record("FS", out=self.slot, strings=(self.type, self.options), numbers=numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOverlay(NamespaceStep):
    """Make a container's root filesystem: the image's layers below, a directory of its own above.

    *lower* is topmost first. *legacy* mounts through ``mount(2)`` on *scratch* (Linux before 6.5).
    """

    slot: int
    lower: tuple[str, ...]
    upper: str
    work: str
    scratch: str
    attributes: tuple[str, ...] = ()
    legacy: bool = False

    def describe(self) -> str:
        return f"fsmount overlay of {len(self.lower)} layer(s), upper dir {self.upper}"

    def record(self) -> Record:
        return Record(
            "OVERLAY",
            flags=("LEGACY",) if self.legacy else (),
            out=self.slot,
            strings=(self.lower, self.upper, self.work, self.scratch),
            numbers=(_attribute_bits(self.attributes), len(self.lower)),
        )


FILE_TYPES = {
    "": 0,
    "socket": 0o140000,
    "file": 0o100000,
    "block": 0o060000,
    "directory": 0o040000,
    "char": 0o020000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTree(NamespaceStep):
    """Take a mount source as a detached tree (``open_tree`` with ``OPEN_TREE_CLONE``), private, never by path again.

    *root* is the slot below which *path* lies, or -1 for the process's own root. *type* is checked on the same fd.
    """

    slot: int
    path: str
    root: int = -1
    type: str = ""
    recursive: bool = False
    attributes: tuple[str, ...] = ()

    def describe(self) -> str:
        what = ",".join(("rbind" if self.recursive else "bind", *self.attributes))
        return f"open_tree {self.path} ({what})"

    def record(self) -> Record:
        flags = (("RECURSIVE",) if self.recursive else ()) + (
            ("IN_PLACE",) if self.root >= 0 else ()
        )
        numbers = (_attribute_bits(self.attributes), FILE_TYPES[self.type])
        return Record(
            "OPEN_TREE", flags, out=self.slot, root=self.root, strings=(self.path,), numbers=numbers
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach(NamespaceStep):
    """Put a detached mount at *path* below the slot *root* (-1: this mount namespace's own root).

    *create* is "", "directory" or "file": what to make when there is no mount point.
    """

    slot: int
    path: str
    root: int
    create: str = ""
    no_symlinks: bool = False

    def describe(self) -> str:
        return f"move_mount it to {self.path}"

    def record(self) -> Record:
        flags = {"directory": ("CREATE_DIR",), "file": ("CREATE_FILE",), "": ()}[self.create]
        flags += ("NO_SYMLINKS",) if self.no_symlinks else ()
        return Record("ATTACH", flags, in_=self.slot, root=self.root, strings=(self.path,))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMountAttributes(NamespaceStep):
    """Change an attached mount (``mount_setattr``), once everything inside it is in place."""

    slot: int
    what: str
    attributes: tuple[str, ...]

    def describe(self) -> str:
        return f"mount_setattr {','.join(self.attributes)} on {self.what}"

    def record(self) -> Record:
        return Record("SETATTR", in_=self.slot, numbers=(_attribute_bits(self.attributes),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mkdir(NamespaceStep):
    """Make a directory below the slot *root*; with *parents* as ``mkdir -p``."""

    path: str
    root: int
    mode: int = 0o755
    parents: bool = False

    def describe(self) -> str:
        return f"mkdir {'-p ' if self.parents else ''}{self.path} (mode {self.mode:04o})"

    def record(self) -> Record:
        flags = ("EXIST_OK",) if self.parents else ()
        return Record("MKDIR", flags, root=self.root, strings=(self.path,), numbers=(self.mode,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mknod(NamespaceStep):
    """Make a character device node."""

    path: str
    root: int
    major: int
    minor: int
    mode: int = 0o666

    def describe(self) -> str:
        return f"mknod {self.path} c {self.major} {self.minor} (mode {self.mode:04o})"

    def record(self) -> Record:
        numbers = (0o020000 | self.mode, self.major, self.minor)
        return Record("MKNOD", root=self.root, strings=(self.path,), numbers=numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink(NamespaceStep):
    """Make a symbolic link."""

    path: str
    target: str
    root: int

    def describe(self) -> str:
        return f"symlink {self.path} -> {self.target}"

    def record(self) -> Record:
        return Record("SYMLINK", root=self.root, strings=(self.path, self.target))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile(NamespaceStep):
    """Make a new file with this content."""

    path: str
    root: int
    content: str = field(repr=False)
    mode: int = 0o644

    def describe(self) -> str:
        return f"write {self.path} ({len(self.content.encode())} bytes, mode {self.mode:04o})"

    def record(self) -> Record:
        blob = self.content.encode()
        return Record(
            "WRITE_FILE", root=self.root, strings=(self.path, blob), numbers=(self.mode, len(blob))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPaths(NamespaceStep):
    """Hide paths: /dev/null over a file, an empty read-only tmpfs over a directory; absent ones are skipped."""

    root: int
    paths: tuple[str, ...]
    on_proc: bool = False

    def describe(self) -> str:
        return f"mask {' '.join(self.paths)}"

    def record(self) -> Record:
        flags = ("PROC",) if self.on_proc else ()
        return Record(
            "MASK", flags, root=self.root, strings=(self.paths,), numbers=(0, len(self.paths))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadonlyPaths(NamespaceStep):
    """Make paths read-only by a bind mount of themselves; absent ones are skipped."""

    root: int
    paths: tuple[str, ...]
    on_proc: bool = False

    def describe(self) -> str:
        return f"make read-only {' '.join(self.paths)}"

    def record(self) -> Record:
        flags = ("PROC",) if self.on_proc else ()
        return Record(
            "READONLY", flags, root=self.root, strings=(self.paths,), numbers=(0, len(self.paths))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PivotRoot(NamespaceStep):
    """Make the mount in *slot* the root of this mount namespace and detach the old one."""

    slot: int

    def describe(self) -> str:
        return "pivot_root into it and detach the old root"

    def record(self) -> Record:
        return Record("PIVOT_ROOT", in_=self.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl(NamespaceStep):
    """Set a namespaced sysctl through a private procfs; an *optional* one may be missing in this kernel."""

    proc: int
    name: str
    value: str
    optional: bool = False

    def describe(self) -> str:
        return f"sysctl {self.name} = {self.value}"

    def record(self) -> Record:
        flags = ("OPTIONAL",) if self.optional else ()
        return Record(
            "SYSCTL", flags, in_=self.proc, strings=(self.name.replace(".", "/"), self.value)
        )


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
    """Open a path for reading: of the process's own root, or below the slot *root*, where no symlink is followed."""

    slot: int
    path: str
    root: int = -1

    def describe(self) -> str:
        return f"open {self.path}"

    def record(self) -> Record:
        return Record("OPEN", out=self.slot, root=self.root, strings=(self.path,))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SetIdentity(NamespaceStep):
    """Become a user: supplementary groups first, then gid, then uid."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    stdio_owner: bool = False

    def describe(self) -> str:
        groups = ",".join(map(str, self.groups)) or "none"
        return f"setgroups {groups}, setresgid {self.gid}, setresuid {self.uid}"

    def record(self) -> Record:
        blob = b"".join(gid.to_bytes(4, "little") for gid in self.groups)
        flags = ("STDIO_OWNER",) if self.stdio_owner else ()
        return Record(
            "IDENTITY", flags, strings=(blob,), numbers=(self.uid, self.gid, len(self.groups))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCapabilities(NamespaceStep):
    """Keep only these capabilities: *bounding* for what is exec'ed, *until_exec* for the steps that are left.

    ``execve`` of uid 0 then yields permitted = bounding; of another uid, none (``capabilities(7)``).
    Inheritable and ambient are emptied.
    """

    bounding: int
    until_exec: int
    names: tuple[str, ...]

    def describe(self) -> str:
        return f"capabilities: bounding set {' '.join(self.names) or 'empty'}; inheritable and ambient empty"

    def record(self) -> Record:
        return Record("CAPABILITIES", numbers=(self.bounding, self.until_exec, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoNewPrivs(NamespaceStep):
    """No exec gives privileges from here on (``prctl(2)``)."""

    def describe(self) -> str:
        return "prctl PR_SET_NO_NEW_PRIVS"

    def record(self) -> Record:
        return Record("NO_NEW_PRIVS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chdir(NamespaceStep):
    """Enter the working directory as the final user, and make sure that it is inside the root."""

    path: str

    def describe(self) -> str:
        return f"chdir {self.path}"

    def record(self) -> Record:
        return Record("CHDIR", strings=(self.path,))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSeccomp(NamespaceStep):
    """Load a system call filter (``seccomp(2)``): the last privileged act."""

    program: bytes = field(repr=False)
    profile: str

    def describe(self) -> str:
        return f"seccomp {self.profile} ({len(self.program) // 8} BPF instructions)"

    def record(self) -> Record:
        return Record("SECCOMP", strings=(self.program,), numbers=(0, len(self.program)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRange(NamespaceStep):
    """Mark every fd above 2 close-on-exec; *legacy* does so one by one (Linux before 5.11)."""

    legacy: bool = False

    def describe(self) -> str:
        return "close_range 3- at exec"

    def record(self) -> Record:
        return Record("CLOSE_RANGE", ("LEGACY",) if self.legacy else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec(NamespaceStep):
    """Become the container's program: the first of *candidates* that can be executed."""

    candidates: tuple[str, ...]
    argv: tuple[str, ...]
    env: tuple[str, ...] = field(repr=False)

    def describe(self) -> str:
        return f"execve {' '.join(_shown(word) for word in self.argv)}"

    def record(self) -> Record:
        strings = (self.candidates, self.argv, self.env)
        return Record(
            "EXEC", strings=strings, numbers=(len(self.candidates), len(self.argv), len(self.env))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecPause(NamespaceStep):
    """Become the pause process, from a sealed copy of its executable."""

    slot: int
    argv: tuple[str, ...]

    def describe(self) -> str:
        return f"execveat {self.argv[0]} from a sealed memfd"

    def record(self) -> Record:
        return Record(
            "EXEC_FD", in_=self.slot, strings=("", self.argv, ()), numbers=(0, len(self.argv), 0)
        )


def one_line(text: str) -> str:
    """Return *text* with what would break a line or steer a terminal escaped, as in the shell's ``$'...'``."""
    return "".join(
        c if c.isprintable() else _SHORT.get(c) or "".join(f"\\x{b:02x}" for b in _bytes(c))
        for c in text
    )


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, as JSON can say it: no byte stands for it
        return text.encode("utf-8", "surrogatepass")


def _shown(word: str) -> str:
    """Quote a word of a command for people, in the shell's manner, when it needs it."""
    if not word.isprintable():
        return "$'" + one_line(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"
    plain = word and all(c.isalnum() or c in "-_./:=@%+," for c in word)
    return word if plain else "'" + word.replace("'", "'\\''") + "'"


def to_json(step: Step) -> dict[str, Any]:
    """Return a step as plain data: its kind, its words, and the manifest field that it comes from."""
    return {"step": type(step).__name__, "what": step.describe(), "field": step.source}
