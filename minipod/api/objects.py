# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes objects of minipod, as typed structs: Pod (spec and status) and Event.

Attributes are the snake_case of the Kubernetes names. Lists and mappings default to empty, optional scalars to
``None``, names to ``""``. A field with a Kubernetes default that depends on nothing else has that default here,
so that no reader ever meets ``None`` in it; defaults that depend on other fields are in ``defaults.py``.

Only what minipod honours has an attribute: what a manifest may say, and what becomes of each field, is declared
in ``fields.py``. Field meanings are those of the Kubernetes API reference, core/v1.
"""

from __future__ import annotations

from typing import Any, TypeVar, overload

import msgspec

_NAMES = {
    "pod_ip": "podIP",
    "pod_ips": "podIPs",
    "host_ip": "hostIP",
    "host_ips": "hostIPs",
    "host_ipc": "hostIPC",
    "host_pid": "hostPID",
    "image_id": "imageID",
    "container_id": "containerID",
}


def camel(name: str) -> str:
    """Return the Kubernetes spelling of an attribute's name."""
    head, *tail = name.split("_")
    return _NAMES.get(name) or head + "".join(map(str.capitalize, tail))


def _spelled_out(value: str | int) -> Any:
    """Declare a default that ``to_dict`` writes, as Kubernetes shows it in ``get -o yaml``."""
    return msgspec.field(default_factory=lambda: value)


class _Object(msgspec.Struct, rename=camel, omit_defaults=True):
    """What all structs share: camelCase names in JSON, and defaults left out."""


class ObjectMeta(_Object):
    """Name, namespace and bookkeeping of an object; times are RFC 3339 in UTC."""

    name: str = ""
    generate_name: str | None = None
    namespace: str = ""
    uid: str = ""
    resource_version: str | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class EnvVar(_Object):
    """One variable of a container's environment."""

    name: str = ""
    value: str = ""


class ContainerPort(_Object):
    """A port that a container says it listens on: documentation, and a name for it."""

    name: str | None = None
    container_port: int = 0
    protocol: str = _spelled_out("TCP")
    host_port: int | None = None


class ResourceRequirements(_Object):
    """Quantities (see ``quantity.py``) by resource: cpu, memory, and in limits minipod's pids."""

    limits: dict[str, str] = msgspec.field(default_factory=dict)
    requests: dict[str, str] = msgspec.field(default_factory=dict)


class VolumeMount(_Object):
    """Where a container sees a volume of its pod; *mount_path* is absolute."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False


class Container(_Object):
    """One container; *command* replaces the image's entrypoint, *args* its command.

    ``image_pull_policy`` is ``""``, IfNotPresent or Never.
    """

    name: str = ""
    image: str = ""
    command: list[str] = msgspec.field(default_factory=list)
    args: list[str] = msgspec.field(default_factory=list)
    working_dir: str | None = None
    env: list[EnvVar] = msgspec.field(default_factory=list)
    ports: list[ContainerPort] = msgspec.field(default_factory=list)
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    volume_mounts: list[VolumeMount] = msgspec.field(default_factory=list)
    image_pull_policy: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class EmptyDirVolumeSource(_Object):
    """A directory that lives as long as the pod; *medium* is ``""`` (disk) or Memory (tmpfs)."""

    medium: str = ""
    size_limit: str | None = None


class HostPathVolumeSource(_Object):
    """A path of the host; *type* says what must be there, or is made (``""``: no check)."""

    path: str = ""
    type: str = ""


class Volume(_Object):
    """A volume of a pod, with exactly one source."""

    name: str = ""
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None


class PodSpec(_Object):
    """What the pod should be."""

    containers: list[Container] = msgspec.field(default_factory=list)
    volumes: list[Volume] = msgspec.field(default_factory=list)
    restart_policy: str = _spelled_out("Always")
    termination_grace_period_seconds: int = _spelled_out(30)
    dns_policy: str = _spelled_out("ClusterFirst")
    hostname: str | None = None
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    service_account_name: str = ""
    automount_service_account_token: bool = True
    enable_service_links: bool = True


class ContainerStateWaiting(_Object):
    """Why a container does not run yet, or not again."""

    reason: str | None = None
    message: str | None = None


class ContainerStateRunning(_Object):
    """Since when a container runs (RFC 3339)."""

    started_at: str | None = None


class ContainerStateTerminated(_Object):
    """How a container ended; *exit_code* is 128+n for signal n."""

    exit_code: int = _spelled_out(0)
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str | None = None


class ContainerState(_Object):
    """At most one of the three; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(_Object):
    """What a container is now, and was before its last restart."""

    name: str = ""
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)
    ready: bool = msgspec.field(default_factory=lambda: False)
    restart_count: int = _spelled_out(0)
    image: str = ""
    image_id: str = ""
    container_id: str | None = None
    started: bool | None = None


class PodCondition(_Object):
    """One condition of a pod; *status* is ``"True"``, ``"False"`` or ``"Unknown"``."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None
    last_probe_time: str | None = None


class PodIP(_Object):
    """An address of the pod, in the list ``podIPs``."""

    ip: str = ""


class HostIP(_Object):
    """An address of the host, in the list ``hostIPs``."""

    ip: str = ""


class PodStatus(_Object):
    """What the pod is; *phase* is Pending, Running, Succeeded, Failed, Unknown, or ``""`` before any."""

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
    container_statuses: list[ContainerStatus] = msgspec.field(default_factory=list)


class Pod(_Object):
    """A Kubernetes Pod."""

    api_version: str = _spelled_out("v1")
    kind: str = _spelled_out("Pod")
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class ObjectReference(_Object):
    """Which object an event is about; *field_path* may name a part of it."""

    api_version: str | None = None
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str | None = None
    field_path: str | None = None


class EventSource(_Object):
    """Who reports an event."""

    component: str = ""
    host: str | None = None


class Event(_Object):
    """Something that happened to an object; *type* is Normal or Warning, *count* how often."""

    api_version: str = _spelled_out("v1")
    kind: str = _spelled_out("Event")
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    reason: str = ""
    message: str = ""
    type: str = _spelled_out("Normal")
    count: int = _spelled_out(1)
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    source: EventSource = msgspec.field(default_factory=EventSource)


_PRUNED = frozenset(
    ("metadata", "spec", "status", "resources", "state", "lastState", "involvedObject", "source")
)
"""Structs that say nothing when empty, unlike ``emptyDir: {}``."""

_T = TypeVar("_T")


def to_dict(obj: msgspec.Struct) -> dict[str, Any]:
    """Return an object as JSON-ready builtins, camelCase, without what is empty or at its default."""
    data: dict[str, Any] = _without_empty(msgspec.to_builtins(obj))
    return data


@overload
def from_dict(data: dict[str, Any]) -> Pod: ...
@overload
def from_dict(data: dict[str, Any], type_: type[_T]) -> _T: ...
def from_dict(data: dict[str, Any], type_: Any = Pod) -> Any:
    """Return the object that :func:`to_dict` wrote. For trusted data: nothing but types is checked.

    Raises:
        msgspec.ValidationError: a value has the wrong type.
    """
    return msgspec.convert(data, type_)


def _without_empty(data: Any) -> Any:
    if isinstance(data, dict):
        pairs = ((key, _without_empty(value)) for key, value in data.items())
        return {key: value for key, value in pairs if value != {} or key not in _PRUNED}
    if isinstance(data, list):
        return [_without_empty(item) for item in data]
    return data
