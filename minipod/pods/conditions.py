# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's conditions, as the kubelet generates them (``pkg/kubelet/status/generate.go``). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from minipod.api import Pod, PodCondition
from minipod.pods import order, readiness
from minipod.pods.record import PodRecord
from minipod.pods.times import timestamp

OURS = (
    "PodScheduled",
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
    "DisruptionTarget",
    "PodResizePending",
    "PodResizeInProgress",
    "minipod.dev/Degraded",
)
"""The types that nobody else may set."""


@dataclass(frozen=True, slots=True)
class _Truth:
    """Whether a condition holds, and if not, why."""

    holds: bool
    reason: str | None = None
    message: str | None = None


def conditions(
    pod: Pod, record: PodRecord, phase: str, notes: Iterable[str], now: float
) -> list[PodCondition]:
    """Return all conditions; a transition time changes with the status alone. Those set by others are kept."""
    ready = _containers_ready(pod, record, phase)
    truths = {
        "PodScheduled": _scheduled(record),
        "PodReadyToStartContainers": _Truth(record.sandbox_up),
        "Initialized": _initialized(pod, record, phase),
        "ContainersReady": ready,
        "Ready": ready if not ready.holds else _gates(pod),
    }
    if record.failure is not None and record.failure.reason == "Evicted":
        why = "TerminationByKubelet"
        truths["DisruptionTarget"] = _Truth(True, why, record.failure.message)
    truths.update(_resize(record))
    if degraded := "; ".join(notes):
        # Not Kubernetes': what this machine cannot give the pod, said once.
        truths["minipod.dev/Degraded"] = _Truth(True, "MachineLacks", degraded)
    before = {condition.type: condition for condition in pod.status.conditions}
    result = [_condition(name, truth, before.get(name), now) for name, truth in truths.items()]
    return result + [c for c in pod.status.conditions if c.type not in OURS]


def _resize(record: PodRecord) -> dict[str, _Truth]:
    """Return the conditions of a resize that is under way (KEP-1287); there are none without one."""
    resize = record.resize
    if resize is None:
        return {}
    result = {}
    if resize.pending:
        result["PodResizePending"] = _Truth(True, "Infeasible", resize.pending)
    if resize.started:
        why = "Error" if resize.error else None
        result["PodResizeInProgress"] = _Truth(True, why, resize.error or None)
    return result


def set_condition(pod: Pod, wanted: PodCondition, now: float) -> None:
    """Put a condition that is not ours into the status of *pod*."""
    before = {condition.type: condition for condition in pod.status.conditions}
    truth = _Truth(wanted.status == "True", wanted.reason, wanted.message)
    made = _condition(wanted.type, truth, before.get(wanted.type), now, wanted.status)
    others = [c for c in pod.status.conditions if c.type != wanted.type]
    pod.status.conditions = [*others, made]


def _condition(
    name: str, truth: _Truth, old: PodCondition | None, now: float, status: str = ""
) -> PodCondition:
    status = status or ("True" if truth.holds else "False")
    same = old is not None and old.status == status
    return PodCondition(
        type=name,
        status=status,
        reason=truth.reason,
        message=truth.message,
        last_transition_time=old.last_transition_time if same and old else timestamp(now),
    )


def _scheduled(record: PodRecord) -> _Truth:
    if record.waits_for:
        return _Truth(False, "Unschedulable", record.waits_for)
    return _Truth(True)


def _initialized(pod: Pod, record: PodRecord, phase: str) -> _Truth:
    if phase == "Succeeded":
        return _Truth(True, "PodCompleted")
    if order.is_initialized(pod, record):
        return _Truth(True)
    incomplete = [
        member.name
        for member, container in order.pairs(pod, record)
        if member.kind == "init"
        and not (readiness.started if member.is_sidecar else readiness.ready)(member, container)
    ]
    message = f"containers with incomplete status: [{' '.join(incomplete)}]"
    return _Truth(False, "ContainersNotInitialized", message)


def _containers_ready(pod: Pod, record: PodRecord, phase: str) -> _Truth:
    unready = [
        member.name
        for member, container in order.pairs(pod, record)
        if (member.kind == "app" or member.is_sidecar) and not readiness.ready(member, container)
    ]
    if phase in order.TERMINAL:
        return _Truth(False, "PodCompleted" if phase == "Succeeded" else "PodFailed")
    if unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        return _Truth(False, "ContainersNotReady", message)
    return _Truth(True)


def _gates(pod: Pod) -> _Truth:
    found = {condition.type: condition.status for condition in pod.status.conditions}
    words = []
    for gate in pod.spec.readiness_gates:
        name = gate.condition_type
        if name not in found:
            words.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif found[name] != "True":
            words.append(
                f'the status of pod readiness gate "{name}" is not "True", but {found[name]}'
            )
    return _Truth(False, "ReadinessGatesNotReady", ", ".join(words)) if words else _Truth(True)
