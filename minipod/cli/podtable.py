# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows about objects, computed as kubectl does (``pkg/printers/internalversion/printers.go``, ``printPod``). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

Json = dict[str, Any]

POD_TITLES = ("NAME", "READY", "STATUS", "RESTARTS", "AGE")
POD_TITLES_WIDE = (*POD_TITLES, "IP", "NODE")
EVENT_TITLES = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")
NONE = "<none>"
UNKNOWN = "<unknown>"
TERMINAL = ("Succeeded", "Failed")


class Summary(NamedTuple):
    """A pod in a line.

    Attributes:
        ready, total: how many containers are ready, of how many.
        status: a phase, or the reason that says more.
        restarts: of all containers.
        last_restart: when the last container ended that was restarted (RFC 3339), or an empty string.
    """

    ready: int
    total: int
    status: str
    restarts: int
    last_restart: str


def summarize(pod: Json) -> Summary:
    """Return what ``get pods`` shows of *pod*."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    sidecars = {
        c["name"] for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"
    }
    total = len(spec.get("containers", [])) + len(sidecars)
    reason = status.get("reason") or status.get("phase") or "Pending"
    if any(c.get("reason") == "SchedulingGated" for c in _conditions(pod, "PodScheduled")):
        reason = "SchedulingGated"

    inits = status.get("initContainerStatuses", [])
    initializing, ready, init_reason = _initialization(pod, sidecars)
    reason = init_reason or reason
    counted = inits
    if not initializing or is_true(pod, "Initialized"):
        containers = status.get("containerStatuses", [])
        counted = [c for c in inits if c["name"] in sidecars] + containers
        running = 0
        for container in reversed(containers):
            reason = _state_reason(container) or reason
            running += _is_ready(container)
        ready += running
        # One that ended does not make the pod look ended while others run.
        if reason == "Completed" and running:
            reason = "Running" if is_true(pod, "Ready") else "NotReady"

    if pod["metadata"].get("deletionTimestamp") and status.get("phase") not in TERMINAL:
        reason = "Terminating"
    ends = (c.get("lastState", {}).get("terminated", {}).get("finishedAt") or "" for c in counted)
    return Summary(
        ready, total, reason, sum(c.get("restartCount", 0) for c in counted), max(ends, default="")
    )


def _initialization(pod: Json, sidecars: set[str]) -> tuple[bool, int, str]:
    """Return whether the init containers are at work, how many sidecars are ready, and the reason to show."""
    ready = 0
    number = len(pod.get("spec", {}).get("initContainers", []))
    for i, container in enumerate(pod.get("status", {}).get("initContainerStatuses", [])):
        state = container.get("state", {})
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if container["name"] in sidecars and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if ended is not None:
            return True, ready, f"Init:{_end_reason(ended)}"
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return True, ready, f"Init:{waiting['reason']}"
        return True, ready, f"Init:{i}/{number}"
    return False, ready, ""


def _state_reason(container: Json) -> str:
    state = container.get("state", {})
    if reason := (state.get("waiting") or {}).get("reason"):
        return str(reason)
    return _end_reason(state["terminated"]) if state.get("terminated") is not None else ""


def _end_reason(ended: Json) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return (
        f"Signal:{ended['signal']}"
        if ended.get("signal")
        else f"ExitCode:{ended.get('exitCode', 0)}"
    )


def _is_ready(container: Json) -> bool:
    return bool(container.get("ready")) and container.get("state", {}).get("running") is not None


def _conditions(pod: Json, kind: str) -> Iterator[Json]:
    return (c for c in pod.get("status", {}).get("conditions", []) if c.get("type") == kind)


def is_true(pod: Json, condition: str) -> bool:
    """Whether the pod has *condition* with status True."""
    return any(c.get("status") == "True" for c in _conditions(pod, condition))


def is_finished(pod: Json) -> bool:
    """Whether none of the pod's containers runs or will run again."""
    return pod.get("status", {}).get("phase") in TERMINAL


def pod_row(pod: Json, now: float, *, wide: bool = False) -> list[str]:
    """Return the cells of ``get pods``; *now* is in seconds since the epoch."""
    summary = summarize(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts += f" ({age(summary.last_restart, now)} ago)"
    meta, status = pod["metadata"], pod.get("status", {})
    row = [meta["name"], f"{summary.ready}/{summary.total}", summary.status, restarts]
    row.append(age(meta.get("creationTimestamp"), now))
    if wide:
        row += [
            status.get("podIP") or NONE,
            pod.get("spec", {}).get("nodeName") or status.get("hostIP") or NONE,
        ]
    return row


def event_row(event: Json, now: float) -> list[str]:
    """Return the cells of ``get events``."""
    about = event.get("involvedObject", {})
    thing = f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"
    message = str(event.get("message", "")).strip()
    return [event_age(event, now), event.get("type", ""), event.get("reason", ""), thing, message]


def event_age(event: Json, now: float) -> str:
    """Return how long ago an event was seen, and how often: ``10s (x3 over 2m)``."""
    last = event.get("lastTimestamp") or event["metadata"].get("creationTimestamp")
    count = event.get("count", 1)
    if count > 1 and event.get("firstTimestamp"):
        return f"{age(last, now)} (x{count} over {age(event['firstTimestamp'], now)})"
    return age(last, now)


def event_time(event: Json) -> str:
    """Return what events are sorted by."""
    return str(event.get("lastTimestamp") or event["metadata"].get("creationTimestamp") or "")


def age(timestamp: str | None, now: float) -> str:
    """Return how long before *now* (seconds since the epoch) an RFC 3339 *timestamp* was."""
    try:
        return human_duration(now - datetime.fromisoformat(timestamp or "").timestamp())
    except ValueError:
        return UNKNOWN


def human_duration(seconds: float) -> str:
    """Return a duration with two or three digits, as ``k8s.io/apimachinery/pkg/util/duration.HumanDuration``."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 120:
        return f"{max(whole, 0)}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    return _pair(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _pair(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def exit_code(pod: Json) -> int:
    """Return what ``run`` exits with: 0 for a pod that succeeded, else the first failed container's exit code."""
    status = pod.get("status", {})
    if status.get("phase") == "Succeeded":
        return 0
    failed = [
        (ended.get("finishedAt") or "", ended["exitCode"])
        for container in (
            *status.get("initContainerStatuses", []),
            *status.get("containerStatuses", []),
        )
        if (ended := container.get("state", {}).get("terminated")) and ended.get("exitCode")
    ]
    # min() keeps the first of those that ended within the same second.
    return min(failed, key=lambda end: end[0])[1] if failed else 1
