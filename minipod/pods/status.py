# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's status from its record: pure, so that every row of Kubernetes' rules is one line of a test."""

from __future__ import annotations

from datetime import UTC, datetime

from minipod.api import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ContainerUser,
    HostIP,
    LinuxContainerUser,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
    qos_class,
)
from minipod.pods.mountstatus import mount_statuses
from minipod.pods.record import ContainerRecord, Ended, PodRecord

TERMINAL = ("Succeeded", "Failed")


def timestamp(seconds: float) -> str:
    """Return an instant as Kubernetes writes it (RFC 3339, UTC, whole seconds)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def restarts(pod: Pod, exit_code: int) -> bool:
    """Whether the pod's restart policy starts a container again that ended with *exit_code*."""
    policy = pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def phase(pod: Pod, record: PodRecord) -> str:
    """Return the pod's phase (Kubernetes: "Pod phase"; the kubelet's ``getPhase``)."""
    containers = record.containers
    if any(c.state in ("waiting", "starting") and c.ended is None for c in containers):
        return "Pending"
    if any(c.state in ("running", "starting") for c in containers):
        return "Running"
    # All have ended at least once; those that wait will be started again.
    if not all(c.is_over for c in containers):
        return "Running"
    succeeded = all(c.ended is not None and c.ended.exit_code == 0 for c in containers)
    return "Succeeded" if succeeded else "Failed"


def _terminated(ended: Ended) -> ContainerStateTerminated:
    return ContainerStateTerminated(
        exit_code=ended.exit_code,
        signal=ended.signal or None,
        reason=ended.reason,
        message=ended.message or None,
        started_at=timestamp(ended.started),
        finished_at=timestamp(ended.finished),
        container_id=ended.container_id or None,
    )


def container_id(uid: str, name: str, attempt: int) -> str:
    """Return the id by which a run of a container is known to the outside."""
    return f"minipod://{uid}/{name}/{attempt}"


def container_status(pod: Pod, record: ContainerRecord, image: str) -> ContainerStatus:
    """Return the status of one container."""
    state, last = ContainerState(), ContainerState()
    running = record.state == "running"
    if running:
        state.running = ContainerStateRunning(started_at=timestamp(record.started))
    elif record.is_over and record.ended:
        state.terminated = _terminated(record.ended)
    else:
        state.waiting = ContainerStateWaiting(reason=record.reason, message=record.message or None)
    if record.ended and not record.is_over:
        last.terminated = _terminated(record.ended)
    return ContainerStatus(
        name=record.name,
        state=state,
        last_state=last,
        ready=running,
        started=running,
        restart_count=max(0, record.attempt),
        image=image,
        image_id=record.image_id,
        container_id=container_id(pod.metadata.uid, record.name, record.attempt)
        if record.attempt >= 0
        else None,
        volume_mounts=mount_statuses(pod, record.name),
        user=_user(record),
    )


def _user(record: ContainerRecord) -> ContainerUser | None:
    if record.user is None:
        return None
    who = record.user
    return ContainerUser(LinuxContainerUser(who.uid, who.gid, list(who.groups)))


def _conditions(
    pod: Pod, record: PodRecord, current: str, notes: list[str], now: float
) -> list[PodCondition]:
    unready = [c.name for c in record.containers if c.state != "running"]
    ready = not unready
    why, message = None, None
    if current in TERMINAL:
        why = "PodCompleted" if current == "Succeeded" else "PodFailed"
    elif unready:
        why, message = (
            "ContainersNotReady",
            f"containers with unready status: [{' '.join(unready)}]",
        )
    wanted = [
        PodCondition(type="PodScheduled", status="True"),
        PodCondition(type="PodReadyToStartContainers", status=_truth(record.sandbox_up)),
        PodCondition(type="Initialized", status="True"),
        PodCondition(type="ContainersReady", status=_truth(ready), reason=why, message=message),
        PodCondition(type="Ready", status=_truth(ready), reason=why, message=message),
    ]
    if notes:
        # Not Kubernetes': what this machine cannot give the pod, said once.
        wanted.append(
            PodCondition(
                type="minipod.dev/Degraded",
                status="True",
                reason="MachineLacks",
                message="; ".join(notes),
            )
        )
    before = {c.type: c for c in pod.status.conditions}
    for condition in wanted:
        old = before.get(condition.type)
        same = old is not None and old.status == condition.status
        condition.last_transition_time = (
            old.last_transition_time if same and old else timestamp(now)
        )
    return wanted


def _truth(value: bool) -> str:
    return "True" if value else "False"


def pod_status(
    pod: Pod, record: PodRecord, *, host_ip: str, notes: list[str], now: float
) -> PodStatus:
    """Return *pod*'s status; transition times are kept from its present one."""
    current = phase(pod, record)
    address = host_ip if pod.spec.host_network else record.address
    images = {c.name: c.image for c in pod.spec.containers}
    # The address stays shown after the pod's end, as in Kubernetes.
    address = address or pod.status.pod_ip or ""
    return PodStatus(
        phase=current,
        reason=pod.status.reason,
        message=pod.status.message,
        conditions=_conditions(pod, record, current, notes, now),
        host_ip=host_ip,
        host_ips=[HostIP(ip=host_ip)],
        pod_ip=address or None,
        pod_ips=[PodIP(ip=address)] if address else [],
        start_time=pod.status.start_time or timestamp(now),
        qos_class=qos_class(pod),
        container_statuses=[container_status(pod, c, images[c.name]) for c in record.containers],
    )


def exit_of(status: int) -> tuple[int, int]:
    """Return (exit code, signal) for a wait status; 128+n for signal n, as every shell and Kubernetes has it."""
    if status & 0x7F:
        return 128 + (status & 0x7F), status & 0x7F
    return status >> 8 & 0xFF, 0
