# SPDX-License-Identifier: GPL-3.0-or-later
"""Resizes the containers of a running pod, as a kubelet does (Kubernetes, "Resize CPU and Memory Resources").

What is wanted stands in the pod's spec, what was granted in each container's record (``allocated``), and what its
cgroup has there, too (``applied``). :meth:`Resizer.go_on` brings the three together, step by step, from the record
alone, so an agent that comes back goes on where another one died. Each step can be repeated.

minipod takes no account of what all pods together ask for, so a resize is never deferred: it is granted at once, or is
infeasible on this machine.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from minipod.api import Container, Pod, ResourceRequirements, amounts, member, members
from minipod.api.resize import changes, needs_restart
from minipod.plan.resources import (
    Bounds,
    allocatable,
    container_bounds,
    pod_bounds,
    resize_writes,
)
from minipod.plan.steps import MakeCgroup
from minipod.pods.core import PodCore
from minipod.pods.record import ContainerRecord, Resize

RETRY = 10.0  # seconds until a step that could not be done is tried again

Stop = Callable[[ContainerRecord, float, str], None]
"""Has a container stopped that is killed at a time in seconds since the epoch; with words for the event."""


class Resizer:
    """Brings what a pod's containers have to what its spec wants."""

    def __init__(self, core: PodCore, stop: Stop) -> None:
        self._core = core
        self._stop = stop
        self._next: float | None = None

    def want(self, pod: Pod) -> None:
        """Take the resources of *pod*, which is checked, for those that are wanted."""
        core = self._core
        for found in members(core.pod):
            record, wanted = core.record.container(found.name), member(pod, found.name).container
            if record.allocated is None:
                record.allocated = _copy(found.container.resources)
            if record.applied is None:
                record.applied = _copy(record.allocated)
            found.container.resources = _copy(wanted.resources)
        core.record.resize = Resize()
        core.save()
        core.wake.set()

    def next_due(self) -> float | None:
        """Return when :meth:`go_on` is to be called although nothing happens."""
        return self._next if self._core.record.resize is not None else None

    def go_on(self) -> None:
        """Do what can be done now; without a resize that is under way, nothing."""
        if self._core.record.resize is None:
            return
        self._next = None
        self._grant()
        if self._apply():
            self._complete()

    # ---- granting ----

    def _grant(self) -> None:
        core, resize = self._core, self._core.record.resize
        wanted = {found.name: found.container.resources for found in members(core.pod)}
        records = core.record.containers
        if resize is None or all(r.allocated == wanted[r.name] for r in records):
            return
        words = infeasible(core.pod, allocatable(core.tools.runtime.facts))
        if words:
            if words != resize.pending:
                core.event("Warning", "ResizeInfeasible", f"Pod resize Infeasible: {words}")
            resize.pending = words
            return
        for record in records:
            record.allocated = _copy(wanted[record.name])
        resize.pending, resize.started = "", True
        core.save()  # before the act
        core.event("Normal", "ResizeStarted", f"Pod resize started: {_summary(core.pod)}")
        core.tools.demands.enter(core.pod)
        core.tools.demands.settle()

    # ---- applying ----

    def _apply(self) -> bool:
        """Give running containers what was granted; return whether all have it."""
        core, resize = self._core, self._core.record.resize
        assert resize is not None, "only called while there is one"
        done = not resize.pending
        if not core.record.sandbox_up:
            return done
        try:
            self._write_pod(final=False)
            for found in members(core.pod):
                record = core.record.container(found.name)
                done = self._apply_to(found.container, record) and done
            if done:
                self._write_pod(final=True)
        except (OSError, ValueError) as error:
            self._failed(str(error))
            return False
        resize.error = ""
        return done

    def _apply_to(self, container: Container, record: ContainerRecord) -> bool:
        if record.applied == record.allocated or record.applied is None:
            return True
        if record.state == "starting" or (record.renew and record.state != "running"):
            return False
        if record.state != "running":
            return True  # its next run begins with what was granted
        assert record.allocated is not None, "granted before it is applied"
        changed = changes(record.applied, record.allocated)
        if needs_restart(container, changed):
            if not record.renew:
                record.renew = True
                grace = self._core.pod.spec.termination_grace_period_seconds
                words = f"Container {record.name} resize requires restart"
                self._stop(record, self._core.now() + grace, words)
                self._core.save()  # before the act
            return False
        self._write_container(record)
        record.applied = _copy(record.allocated)
        return True

    def _write_container(self, record: ContainerRecord) -> None:
        core = self._core
        facts, cgroups = core.tools.runtime.facts, core.tools.runtime.cgroups
        old, new = (
            container_bounds(pod, member(pod, record.name).container, facts)
            for pod in (core.with_resources("applied"), core.with_resources("allocated"))
        )
        path = core.cgroup_of(record)
        shrinks = new.memory_limit > 0 and not 0 < old.memory_limit <= new.memory_limit
        if shrinks and (usage := cgroups.memory_usage(path)) >= new.memory_limit:
            # On v2 the kernel would kill it, on v1 refuse.
            raise ValueError(
                f'attempting to set container "{record.name}" memory limit ({new.memory_limit}) '
                f"below current usage ({usage})"
            )
        cgroups.create(MakeCgroup(path=path, writes=resize_writes(old, new, facts)))

    def _write_pod(self, *, final: bool) -> None:
        """Set the pod's cgroup: to the larger of what was and what will be, and in the end to what is."""
        core = self._core
        facts = core.tools.runtime.facts
        old, new = (
            pod_bounds(core.with_resources(which), facts) for which in ("applied", "allocated")
        )
        bounds = new if final else _larger(old, new)
        writes = resize_writes(old if not final else _larger(old, new), bounds, facts)
        core.tools.runtime.cgroups.create(MakeCgroup(path=core.cgroup, writes=writes))

    def _failed(self, words: str) -> None:
        core, resize = self._core, self._core.record.resize
        assert resize is not None, "only called while there is one"
        if words != resize.error:
            core.event("Warning", "ResizeError", f"Pod resize error: {words}")
        resize.error = words
        self._next = core.now() + RETRY

    def _complete(self) -> None:
        core, resize = self._core, self._core.record.resize
        core.record.resize = None
        for record in core.record.containers:
            record.applied = record.allocated = None
        core.save()
        if resize is not None and resize.started:
            core.event("Normal", "ResizeCompleted", f"Pod resize completed: {_summary(core.pod)}")


def infeasible(pod: Pod, machine: amounts.Amounts) -> str:
    """Return why this machine can never give *pod* what it asks for, in the kubelet's words; "" when it can."""
    asked = amounts.of_pod(pod, "requests")
    for name in ("memory", "cpu"):
        if asked.get(name, 0) > machine[name]:
            requested, capacity = (
                amounts.millis(each[name]) if name == "cpu" else amounts.whole(each[name])
                for each in (asked, machine)
            )
            return (
                f"Node didn't have enough capacity: {name}, requested: {requested}, "
                f"capacity: {capacity}"
            )
    return ""


def _larger(one: Bounds, other: Bounds) -> Bounds:
    def limit(a: int, b: int) -> int:
        return max(a, b) if a and b else 0  # 0 is no limit

    return Bounds(
        cpu_request=max(one.cpu_request, other.cpu_request),
        cpu_limit=limit(one.cpu_limit, other.cpu_limit),
        memory_min=max(one.memory_min, other.memory_min),
        memory_limit=limit(one.memory_limit, other.memory_limit),
        hugepages=other.hugepages,
        pids=other.pids,
    )


def _copy(resources: ResourceRequirements) -> ResourceRequirements:
    return ResourceRequirements(dict(resources.limits), dict(resources.requests))


def _summary(pod: Pod) -> str:
    containers = [
        {"name": found.name, "resources": msgspec.to_builtins(found.container.resources)}
        for found in members(pod)
    ]
    return msgspec.json.encode({"containers": containers}).decode()
