# SPDX-License-Identifier: GPL-3.0-or-later
"""Host steps: what the agent does itself, in Python."""

from __future__ import annotations

from dataclasses import dataclass

from minipod.plan.context import HostPort
from minipod.plan.steps.base import NamespaceStep, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory(Step):
    """Make a directory of minipod's own, with parents; *owner* is its user and group."""

    path: str
    mode: int = 0o700
    owner: int = 0

    def describe(self) -> str:
        owner = f", owner {self.owner}" if self.owner else ""
        return f"make directory {self.path} (mode {self.mode:04o}{owner})"


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeHostPath(Step):
    """Make what a ``hostPath`` volume of type DirectoryOrCreate (0755) or FileOrCreate (0644) needs."""

    path: str
    directory: bool

    def describe(self) -> str:
        what = "directory" if self.directory else "file"
        return f"make {what} {self.path} on the host unless it is there"


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveToGroup(Step):
    """Give a volume to a group, with all that is in it (``fsGroup``); see ``runtime/ownership.py``."""

    path: str
    gid: int
    on_root_mismatch: bool = False

    def describe(self) -> str:
        unless = " unless its top is so already" if self.on_root_mismatch else ""
        return f"chgrp -R {self.gid} {self.path}, chmod ug+rw, directories ug+x,g+s{unless}"


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

    *devices* says whether the default device allow-list is put on it (as a BPF program on cgroup v2);
    *more_devices* are allowed besides: ("b" or "c", major, minor, "rwm").
    """

    path: str
    writes: tuple[CgroupWrite, ...] = ()
    devices: bool = False
    more_devices: tuple[tuple[str, int, int, str], ...] = ()

    def describe(self) -> str:
        limits = ", ".join(f"{w.file}={w.value.strip()}" for w in self.writes)
        devices = " with the default device list" if self.devices else ""
        devices += "".join(f", {kind} {a}:{b} {c}" for kind, a, b, c in self.more_devices)
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
    ports: tuple[HostPort, ...] = ()

    def describe(self) -> str:
        forwards = "".join(
            f"; forward the host's port {port} to {port.port}" for port in self.ports
        )
        return (
            f"make veth {self.host_ifname} on bridge {self.bridge} with its peer as eth0 in the sandbox, "
            f"{self.address}/{self.prefix_len}, MAC {self.mac}, default route via {self.gateway}{forwards}"
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
        user_slot: gets the user namespace of *join*, or -1.
        join_pid_namespace: clone inside the PID namespace of *pid_of*, or of *join* when that is "".
        pid_of: key of a process whose PID namespace is shared, if that is not *join*'s; or "".
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
    pid_of: str = ""
    into_cgroup: str = ""
    pause_slot: int = -1
    user_slot: int = -1
    stdio: str = "NULL"
    stdio_slots: tuple[int, int, int] = (-1, -1, -1)
    keep_stdin: bool = False
    log_path: str = ""
    log_max_bytes: int = 10 * 1024 * 1024
    log_max_files: int = 5

    def describe(self) -> str:
        where = ", in a new PID namespace" if self.new_pid_namespace else ""
        if self.join_pid_namespace:
            where = f", in the PID namespace of {self.pid_of or self.join}"
        if self.into_cgroup:
            where += f", in cgroup {self.into_cgroup}"
        return f"clone3 {self.key}{where}; in it:"
