# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's status from its record: pure, so that every row of Kubernetes' rules is one line of a test."""

from __future__ import annotations

from minipod.api import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ContainerUser,
    HostIP,
    LinuxContainerUser,
    Member,
    Pod,
    PodIP,
    PodStatus,
    ResourceRequirements,
    qos_class,
)
from minipod.pods import order, readiness
from minipod.pods.conditions import conditions
from minipod.pods.mountstatus import mount_statuses
from minipod.pods.record import ContainerRecord, Ended, PodRecord
from minipod.pods.times import timestamp

MESSAGE_BYTES = (
    12 * 1024
)  # of the termination messages of all containers (MaxPodTerminationMessageLogLength)


def phase(pod: Pod, record: PodRecord) -> str:
    """Return the pod's phase (Kubernetes: "Pod phase"; the kubelet's ``getPhase``).

    As long as anything of the pod runs it is not over, whatever the others' ends.
    """
    rows = list(order.pairs(pod, record))
    apps = [container for member, container in rows if member.kind == "app"]
    if order.is_ending(pod, record) and not order.live(record):
        if record.failure is not None or order.failed_init(pod, record):
            return "Failed"
        succeeded = all(c.ended is not None and c.ended.exit_code == 0 for c in apps)
        return "Succeeded" if succeeded else "Failed"
    if not order.is_initialized(pod, record):
        return "Pending"
    if any(c.state in ("waiting", "starting") and c.ended is None for c in apps):
        return "Pending"
    return "Running"


def _terminated(ended: Ended, room: int) -> ContainerStateTerminated:
    message = ended.message.encode("utf-8", "surrogateescape")[:room].decode(errors="ignore")
    return ContainerStateTerminated(
        exit_code=ended.exit_code,
        signal=ended.signal or None,
        reason=ended.reason,
        message=message or None,
        started_at=timestamp(ended.started),
        finished_at=timestamp(ended.finished),
        container_id=ended.container_id or None,
    )


def container_id(uid: str, name: str, attempt: int) -> str:
    """Return the id by which a run of a container is known to the outside."""
    return f"minipod://{uid}/{name}/{attempt}"


def container_status(
    pod: Pod, member: Member, record: ContainerRecord, room: int = MESSAGE_BYTES
) -> ContainerStatus:
    """Return the status of one container; *room* is for how many bytes its messages have."""
    state, last = ContainerState(), ContainerState()
    ended, before = record.ended, record.ended
    if record.state == "running":
        state.running = ContainerStateRunning(started_at=timestamp(record.started))
    elif ended and (record.is_over or not record.reason or record.state == "starting"):
        # Until there is something to say of the next run, the last one's end is shown.
        state.terminated = _terminated(ended, room)
        before = record.previous
    else:
        reason = record.reason
        if reason in ("", "ContainerCreating") and pod.spec.init_containers and not ended:
            reason = "PodInitializing" if record.state == "waiting" else "ContainerCreating"
        state.waiting = ContainerStateWaiting(
            reason=reason or "ContainerCreating", message=record.message or None
        )
    if before:
        last.terminated = _terminated(before, room)
    return ContainerStatus(
        name=record.name,
        state=state,
        last_state=last,
        ready=readiness.ready(member, record),
        started=readiness.started(member, record),
        restart_count=max(0, record.attempt),
        image=member.container.image,
        image_id=record.image_id,
        container_id=container_id(pod.metadata.uid, record.name, record.attempt)
        if record.attempt >= 0
        else None,
        volume_mounts=mount_statuses(member.container),
        user=_user(record),
        allocated_resources=_counted((record.allocated or member.container.resources).requests),
        resources=_resources(member, record),
    )


def _resources(member: Member, record: ContainerRecord) -> ResourceRequirements:
    """Return what a container has now, or would have: while a resize is under way that is not what the spec says."""
    has = record.applied or record.allocated or member.container.resources
    return ResourceRequirements(_counted(has.limits), _counted(has.requests))


def _counted(quantities: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in quantities.items() if name != "pids"}


def _user(record: ContainerRecord) -> ContainerUser | None:
    if record.user is None:
        return None
    who = record.user
    return ContainerUser(LinuxContainerUser(who.uid, who.gid, list(who.groups)))


def exit_of(status: int) -> tuple[int, int]:
    """Return (exit code, signal) for a wait status; 128+n for signal n, as every shell and Kubernetes has it."""
    if status & 0x7F:
        return 128 + (status & 0x7F), status & 0x7F
    return status >> 8 & 0xFF, 0


def pod_status(
    pod: Pod, record: PodRecord, *, host_ip: str, notes: list[str], now: float
) -> PodStatus:
    """Return *pod*'s status; transition times, and conditions that others have set, are kept from its present one."""
    current = phase(pod, record)
    address = host_ip if pod.spec.host_network else record.address
    # The address stays shown after the pod's end, as in Kubernetes.
    address = address or pod.status.pod_ip or ""
    failure = record.failure if current == "Failed" else None
    room = MESSAGE_BYTES // len(record.containers)
    statuses: dict[str, list[ContainerStatus]] = {"init": [], "app": [], "ephemeral": []}
    for member, container in order.pairs(pod, record):
        statuses[member.kind].append(container_status(pod, member, container, room))
    return PodStatus(
        observed_generation=pod.metadata.generation,
        phase=current,
        reason=failure.reason if failure else pod.status.reason,
        message=failure.message if failure else pod.status.message,
        conditions=conditions(pod, record, current, notes, now),
        host_ip=host_ip,
        host_ips=[HostIP(ip=host_ip)],
        pod_ip=address or None,
        pod_ips=[PodIP(ip=address)] if address else [],
        start_time=pod.status.start_time or timestamp(now),
        qos_class=qos_class(pod),
        init_container_statuses=statuses["init"],
        container_statuses=statuses["app"],
        ephemeral_container_statuses=statuses["ephemeral"],
    )
