# SPDX-License-Identifier: GPL-3.0-or-later
"""Which container may start, is started again, or may be stopped, and when a pod is at its end. Pure.

The rules are those of Kubernetes' "Init Containers", "Sidecar Containers" and "Pod Lifecycle", and of the kubelet's
``computePodActions``, ``ShouldContainerBeRestarted`` and ``terminationOrdering``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from minipod.api import Container, Member, Pod, members
from minipod.pods import readiness
from minipod.pods.record import ContainerRecord, PodRecord

TERMINAL = ("Succeeded", "Failed")
LIVE = ("starting", "running")


def pairs(pod: Pod, record: PodRecord) -> Iterator[tuple[Member, ContainerRecord]]:
    """Yield every container with its record, in the order of :func:`minipod.api.members`."""
    records = {container.name: container for container in record.containers}
    for member in members(pod):
        yield member, records[member.name]


def live(record: PodRecord) -> list[ContainerRecord]:
    """Return the containers that run, or are just being started."""
    return [container for container in record.containers if container.state in LIVE]


# ---- starting ----


def startable(pod: Pod, record: PodRecord) -> list[ContainerRecord]:
    """Return the containers whose turn it is: they may run now, whether they do or not.

    Init containers take their turns: each waits until the one before it has succeeded or, if that is a sidecar, has
    started. All others wait for all of them, and for the first run of a postStart hook of one before them. A sidecar
    that is restarted later holds nobody up.
    """
    every = list(pairs(pod, record))
    # Who looks into a pod does so above all when its init containers do not get on.
    result = [container for member, container in every if member.kind == "ephemeral"]
    rows = [row for row in every if row[0].kind != "ephemeral"]
    for i, (member, container) in enumerate(rows):
        if member.kind == "init" and not member.is_sidecar:
            if not _has_succeeded(container, record):
                return [*result, container]
            continue
        result.append(container)
        waits = member.is_sidecar and not readiness.started(member, container)
        if waits or _holds_up(member, container, record):
            later = (other for _, other in rows[i + 1 :])
            if not any(other.sandbox == record.sandbox for other in later):
                return result
    return result


def _holds_up(member: Member, container: ContainerRecord, record: PodRecord) -> bool:
    """Whether those after a container wait for its postStart hook, as they do where one is started after the other."""
    lifecycle = member.container.lifecycle
    if lifecycle is None or lifecycle.post_start is None:
        return False
    if container.state == "waiting":
        return container.sandbox != record.sandbox and container.reason in ("", "ContainerCreating")
    return container.state == "starting"


def is_initialized(pod: Pod, record: PodRecord) -> bool:
    """Whether all init containers of the present sandbox have done their work.

    Once an ordinary container has run in it, they have: a sidecar's restart does not change that.
    """
    for member, container in pairs(pod, record):
        if member.kind == "app":
            if container.sandbox >= 0 and container.sandbox == record.sandbox:
                return True
        elif member.is_sidecar or member.kind == "ephemeral":
            continue
        elif not _has_succeeded(container, record):
            return False
    return all(
        readiness.started(member, container)
        for member, container in pairs(pod, record)
        if member.is_sidecar
    )


def _has_succeeded(container: ContainerRecord, record: PodRecord) -> bool:
    """Whether a regular init container has done its work in the present sandbox: in a new one it does it again."""
    ended = container.ended
    in_this = container.sandbox == record.sandbox
    return container.state == "ended" and in_this and ended is not None and ended.exit_code == 0


# ---- starting again ----


def restarts(pod: Pod, member: Member, exit_code: int) -> bool:
    """Whether a container is started again that has ended with *exit_code*: by its rules, its own policy, the pod's."""
    container = member.container
    if member.is_sidecar:
        return True
    if member.kind == "ephemeral" or (member.kind == "init" and exit_code == 0):
        return False
    if any(_matches(container, i, exit_code) for i in range(len(container.restart_policy_rules))):
        return True
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _matches(container: Container, index: int, exit_code: int) -> bool:
    codes = container.restart_policy_rules[index].exit_codes
    return codes is not None and (exit_code in codes.values) is (codes.operator == "In")


# ---- ending ----


def failed_init(pod: Pod, record: PodRecord) -> ContainerRecord | None:
    """Return the init container that has failed for good, if one has."""
    for member, container in pairs(pod, record):
        ended = container.ended if container.is_over else None
        regular = member.kind == "init" and not member.is_sidecar
        if regular and ended is not None and ended.exit_code != 0:
            return container
    return None


def is_ending(pod: Pod, record: PodRecord) -> bool:
    """Whether nothing of the pod will be started any more: what still runs of it is to be stopped.

    Sidecars do not keep a pod alive whose other containers have ended.
    """
    if record.failure is not None or failed_init(pod, record):
        return True
    return all(c.is_over for member, c in pairs(pod, record) if member.kind == "app")


def may_stop(pod: Pod, record: PodRecord, name: str) -> bool:
    """Whether it is container *name*'s turn to be stopped.

    A sidecar's comes when the ordinary containers have ended and the sidecars after it, too; anyone else's at once.
    """
    waits = False
    for member, container in pairs(pod, record):
        if waits and container.state in LIVE and (member.kind == "app" or member.is_sidecar):
            return False
        if member.name == name:
            if not member.is_sidecar:
                return True
            waits = True
    return True


def deadline(pod: Pod) -> float | None:
    """Return when ``activeDeadlineSeconds`` is over, in seconds since the epoch; None: never."""
    seconds, start = pod.spec.active_deadline_seconds, pod.status.start_time
    if seconds is None or start is None:
        return None
    return datetime.fromisoformat(start).timestamp() + seconds
