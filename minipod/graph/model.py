# SPDX-License-Identifier: GPL-3.0-or-later
"""What a picture of pods is made from: plain data, with nothing in it that would have to be looked up."""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = ("user", "net", "uts", "ipc", "time", "pid", "mnt", "cgroup")
"""Namespaces, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a container.

    Attributes:
        pid: its number in the container's own PID namespace.
        host_pid: the host's number for it.
        command: its arguments, or its name in brackets.
        depth: how many processes of the container stand above it.
    """

    pid: int
    host_pid: int
    command: str
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume in a container."""

    volume: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """One container.

    Attributes:
        role: ``init``, ``sidecar``, ``ephemeral``, or empty.
        state: ``running``, ``waiting``, ``done``, ``failed``.
        reason: the word of Kubernetes for the state, or empty.
        namespaces: its own, which neither the pod nor the host has: kind → inode.
        limits: words like ``cpu 500m``.
    """

    name: str
    image: str
    role: str = ""
    state: str = "running"
    reason: str = ""
    namespaces: dict[str, str] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    limits: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of a pod.

    Attributes:
        kind: ``emptyDir`` and so on.
        detail: what else is to be said of it, or empty.
    """

    name: str
    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod.

    Attributes:
        phase: Running, Pending …
        quality: its QoS class.
        address: its IPv4 address, or empty.
        host_network: whether it has no network namespace of its own.
        link: the host's end of its veth pair, or empty when there is none (now).
        hostname: the name in its UTS namespace.
        pause: the host's PID of its pause process, or 0.
        namespaces: those that its containers share: kind → inode.
        ports: ``8080/TCP → web 80``, those of the host that lead to it.
    """

    namespace: str
    name: str
    phase: str = "Running"
    quality: str = ""
    address: str = ""
    host_network: bool = False
    link: str = ""
    hostname: str = ""
    pause: int = 0
    namespaces: dict[str, str] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    ports: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """``NAMESPACE/NAME``."""
        return f"{self.namespace}/{self.name}"

    @property
    def is_wired(self) -> bool:
        """Whether a veth pair leads from it to the bridge."""
        return bool(self.link)


@dataclass(frozen=True, slots=True)
class Picture:
    """Pods on a host.

    Attributes:
        host: the host's name.
        bridge: the bridge's link name.
        bridge_address: its address with the prefix length.
        table: the nftables table that masquerades what leaves the machine.
    """

    host: str
    bridge: str
    bridge_address: str
    table: str
    pods: tuple[Pod, ...]

    @property
    def title(self) -> str:
        """What the picture is of, one line."""
        return f"pod {self.pods[0].full_name}" if len(self.pods) == 1 else f"pods on {self.host}"


def short(inode: str) -> str:
    """Return a namespace's inode number without the digits that nearly all of them have in common."""
    return inode if len(inode) <= 5 else f"…{inode[-4:]}"
