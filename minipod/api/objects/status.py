# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod and its containers are."""

from __future__ import annotations

import msgspec

from minipod.api.objects.base import Object, spelled_out
from minipod.api.objects.resources import ResourceRequirements


class ContainerStateWaiting(Object):
    """Why a container does not run yet, or not again."""

    reason: str | None = None
    message: str | None = None


class ContainerStateRunning(Object):
    """Since when a container runs (RFC 3339)."""

    started_at: str | None = None


class ContainerStateTerminated(Object):
    """How a container ended; *exit_code* is 128+n for signal n."""

    exit_code: int = spelled_out(0)
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str | None = None


class ContainerState(Object):
    """At most one of the three; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class VolumeMountStatus(Object):
    """How a volume is mounted; *recursive_read_only* is Enabled or Disabled for one that is read-only."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None


class LinuxContainerUser(Object):
    """Whom a container's first process was started as; the process may have changed it since."""

    uid: int = spelled_out(0)
    gid: int = spelled_out(0)
    supplemental_groups: list[int] = msgspec.field(default_factory=list)


class ContainerUser(Object):
    """Whom a container's first process was started as."""

    linux: LinuxContainerUser | None = None


class ContainerStatus(Object):
    """What a container is now, and was before its last restart.

    *allocated_resources* are the requests that were granted, *resources* what its cgroup has.
    """

    name: str = ""
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)
    ready: bool = msgspec.field(default_factory=lambda: False)
    restart_count: int = spelled_out(0)
    image: str = ""
    image_id: str = ""
    container_id: str | None = None
    started: bool | None = None
    user: ContainerUser | None = None
    allocated_resources: dict[str, str] = msgspec.field(default_factory=dict)
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    volume_mounts: list[VolumeMountStatus] = msgspec.field(default_factory=list)


class PodCondition(Object):
    """One condition of a pod; *status* is ``"True"``, ``"False"`` or ``"Unknown"``."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None
    last_probe_time: str | None = None


class PodIP(Object):
    """An address of the pod, in the list ``podIPs``."""

    ip: str = ""


class HostIP(Object):
    """An address of the host, in the list ``hostIPs``."""

    ip: str = ""


class PodStatus(Object):
    """What the pod is; *phase* is Pending, Running, Succeeded, Failed, Unknown, or ``""`` before any."""

    observed_generation: int | None = None
    phase: str = ""
    reason: str | None = None
    message: str | None = None
    conditions: list[PodCondition] = msgspec.field(default_factory=list)
    host_ip: str | None = None
    host_ips: list[HostIP] = msgspec.field(default_factory=list)
    pod_ip: str | None = None
    pod_ips: list[PodIP] = msgspec.field(default_factory=list)
    start_time: str | None = None
    qos_class: str | None = None
    init_container_statuses: list[ContainerStatus] = msgspec.field(default_factory=list)
    ephemeral_container_statuses: list[ContainerStatus] = msgspec.field(default_factory=list)
    container_statuses: list[ContainerStatus] = msgspec.field(default_factory=list)
