# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan is compiled from besides the manifest: facts of this machine, and decisions already taken.

The agent gathers these (they need I/O); the compiler only reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted cgroup hierarchy.

    Attributes:
        directory: where it is mounted on the host.
        controllers: what it controls; empty for a bare cgroup2 beside v1 controllers.
        version: 1 or 2.
    """

    directory: str
    controllers: tuple[str, ...]
    version: int

    @property
    def name(self) -> str:
        """Return the last part of the directory, as it is shown to a container ("cpu", "memory")."""
        return self.directory.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Facts:
    """What this machine and the agent's own privileges can do; each one tried, never guessed.

    Attributes:
        hierarchies: the cgroup hierarchies in use; the cgroup2 one, if any, first.
        capabilities: mask of the capabilities that the agent holds.
        overlay_appends_layers: Linux 6.5; else the legacy mount is planned.
        tmpfs_stays_in_memory: Linux 6.4; else the kernel may swap out what is in one.
        nofile_hard: the agent's own hard limit of open files.
        can_raise_limits: CAP_SYS_RESOURCE is held.
        memory: bytes of memory of the machine.
        cpus: how many CPUs it has.
        storage: bytes of the filesystem that containers write to.
        page: bytes of a page.
        hugepages: bytes of each size of huge pages that the kernel has.
        single_process_oom_kill: out of memory kills one process of a container, not all (the kubelet's setting).
        protects_memory: ``memory.min`` of our cgroups holds against the whole machine, because they lie at the root.
        machine: ``uname -m``.
        masked_sys: further paths to mask in this machine's /sys (thermal_throttle of each cpu).
        boot: names this run of the kernel (``random(4)``, boot_id): another one after each reboot.
    """

    hierarchies: tuple[Hierarchy, ...]
    capabilities: int
    overlay_appends_layers: bool = True
    tmpfs_stays_in_memory: bool = True
    nofile_hard: int = 1048576
    can_raise_limits: bool = True
    memory: int = 1 << 34
    cpus: int = 1
    storage: int = 0
    page: int = 4096
    hugepages: tuple[int, ...] = ()
    single_process_oom_kill: bool = False
    protects_memory: bool = True
    machine: str = "x86_64"
    masked_sys: tuple[str, ...] = ()
    boot: str = ""

    @property
    def cgroup2(self) -> Hierarchy | None:
        """Return the cgroup2 hierarchy, with or without controllers."""
        return next((h for h in self.hierarchies if h.version == 2), None)

    def controls(self, controller: str) -> Hierarchy | None:
        """Return the hierarchy that has *controller*."""
        return next((h for h in self.hierarchies if controller in h.controllers), None)


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the host that is a pod's.

    Attributes:
        address: of the host; 0.0.0.0 for all.
        protocol: TCP, UDP or SCTP.
        host_port: the host's.
        port: the pod's.
    """

    address: str
    protocol: str
    host_port: int
    port: int

    def __str__(self) -> str:
        host = "" if self.address == "0.0.0.0" else f"{self.address}:"
        return f"{host}{self.host_port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Link:
    """A pod's place in the flat network, as the address pool and the bridge give it, and its ports of the host."""

    owner: str
    address: str
    prefix_len: int
    gateway: str
    host_ifname: str
    mac: str
    ports: tuple[HostPort, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the content of a volume lies.

    Attributes:
        path: of the host, or of the sandbox's own root when *in_sandbox*.
        type: what is there, a key of ``steps.FILE_TYPES``; it is checked when it is opened.
        recursive: the mounts below belong to it.
        read_only: every container sees it read-only, whatever its mount says.
        in_sandbox: it is mounted in the sandbox's mount namespace only.
        managed: ``fsGroup`` may give it to a group.
        create: "directory" or "file": what is made on the host, because nothing is there.
    """

    path: str
    type: str = "directory"
    recursive: bool = False
    read_only: bool = False
    in_sandbox: bool = False
    create: str = ""
    managed: bool = True


@dataclass(frozen=True, slots=True)
class NfsMount:
    """How a network volume is mounted: the server's *address*, ``server:/path``, and options of ``nfs(5)``."""

    address: str
    source: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """What the pods of a machine ask for together.

    Attributes:
        burstable_cpu: thousandths of a CPU, of the pods of class Burstable.
        burstable_memory: bytes, of these.
        memory: bytes, of all pods.
    """

    burstable_cpu: int = 0
    burstable_memory: int = 0
    memory: int = 0


USER_IDS = 65536


@dataclass(frozen=True, slots=True)
class Users:
    """The ids of a pod's user namespace: 0 to 65535 in it are *first* and up outside."""

    first: int

    def outside(self, number: int) -> int:
        """Return the host's id for *number* of the pod."""
        return self.first + number


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of the host.

    Attributes:
        path: below /dev, ``/input/event0``; of a volume, from the root.
        block: a block device; else a character device.
        major, minor: its number.
        mode: its permissions.
        uid, gid: its owner.
        read_only: of a volume: it may be read and not written.
    """

    path: str
    block: bool
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class PodContext:
    """Decisions about a pod's sandbox.

    Attributes:
        run_dir: ``<run_dir>/pods/<uid>/<sandbox attempt>``, where the shim listens.
        pod_dir: ``<root_dir>/pods/<uid>``.
        log_dir: ``<log_dir>/<namespace>_<pod>_<uid>``.
        cgroup: the pod's cgroup, relative to each hierarchy.
        parent: the common cgroup of all pods.
        bridge: name of the bridge link.
        hostname: what the containers see: a DNS label, or a whole name.
        hosts, resolv_conf: the text of these files.
        warnings: what is to be told of them, as events.
        link: None for a pod on the host's network.
        demand: what all pods ask for together, this one among them.
        host_paths: per ``hostPath`` volume, what is there: a key of ``steps.FILE_TYPES``.
        places: per volume that the manifest alone does not place (a claim, say), where it is.
        users: its ids, of a pod with a user namespace of its own.
        image_layers: per image volume, the directories of the image's layers, bottom first.
        devices: per volume that is a block device, which one.
        nfs: per network volume, how it is mounted; needed by the sandbox only.
    """

    run_dir: str
    pod_dir: str
    log_dir: str
    cgroup: str
    bridge: str
    hostname: str
    hosts: str
    resolv_conf: str
    link: Link | None
    parent: str = "minipod"
    demand: Demand = field(default_factory=Demand)
    host_paths: dict[str, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    nfs: dict[str, NfsMount] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    image_layers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    users: Users | None = None

    def outside(self, number: int) -> int:
        """Return the host's user or group id for *number* of the pod."""
        return self.users.outside(number) if self.users else number


@dataclass(frozen=True, slots=True)
class ContainerContext:
    """Decisions about one run of a container.

    Attributes:
        attempt: 0 for the first run, then 1, 2, …
        layers: directories of the image's layers, bottom first.
        entrypoint, cmd, image_env, working_dir: from the image's config.
        declared_volumes: clean paths that the image wants to be volumes.
        uid, gid, groups, home: whom the image's user resolves to.
        env: the variables that the manifest gives it, all references resolved; some may be secret.
        seccomp: the compiled filter; empty for none.
        seccomp_profile, seccomp_flags: how it is called, and its ``SECCOMP_FILTER_FLAG_*``.
        apparmor: the name of the AppArmor profile to change to, or "".
        devices: the host's devices, of a privileged container.
        target: the shim's key of the run whose PID namespace it shares, or "".
    """

    attempt: int
    layers: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    image_env: tuple[str, ...]
    working_dir: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    seccomp: bytes = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    seccomp_profile: str = "RuntimeDefault"
    seccomp_flags: int = 0
    apparmor: str = ""
    devices: tuple[Device, ...] = ()
    target: str = ""
    declared_volumes: tuple[str, ...] = ()
