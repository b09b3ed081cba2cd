# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource limits as values for cgroup files, on cgroup v2 and on v1 controllers.

The conversions are the kubelet's: cpu quota in a period of 100 ms (at least 1 ms), shares = max(2, milli·1024/1000),
weight = 1 + (shares-2)·9999/262142 (KEP-2254), memory in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from minipod.api import Container, Pod, parse_bytes, parse_cpu_millis, qos_class
from minipod.plan.context import Facts
from minipod.plan.defaults import POD_PIDS
from minipod.plan.steps import CgroupWrite

PERIOD_US = 100_000


def cpu_quota_us(millis: int) -> int:
    """Return the quota per period for *millis* of a cpu, never under 1 ms."""
    return max(1000, millis * PERIOD_US // 1000)


def cpu_shares(millis: int) -> int:
    """Return cgroup v1 ``cpu.shares`` for *millis*."""
    return min(262144, max(2, millis * 1024 // 1000))


def cpu_weight(shares: int) -> int:
    """Return cgroup v2 ``cpu.weight`` for v1 *shares* (KEP-2254's linear formula)."""
    return 1 + (shares - 2) * 9999 // 262142


def _writes(
    facts: Facts, cpu_limit: int, cpu_request: int, memory: int, pids: int
) -> tuple[CgroupWrite, ...]:
    result: list[CgroupWrite] = []
    version = {name: h.version for name in ("cpu", "memory", "pids") if (h := facts.controls(name))}
    shares = cpu_shares(cpu_request)
    if version.get("cpu") == 2:
        result.append(CgroupWrite("cpu", "cpu.weight", str(cpu_weight(shares))))
        if cpu_limit:
            result.append(CgroupWrite("cpu", "cpu.max", f"{cpu_quota_us(cpu_limit)} {PERIOD_US}"))
    elif version.get("cpu") == 1:
        result.append(CgroupWrite("cpu", "cpu.shares", str(shares)))
        if cpu_limit:
            result.append(CgroupWrite("cpu", "cpu.cfs_period_us", str(PERIOD_US)))
            result.append(CgroupWrite("cpu", "cpu.cfs_quota_us", str(cpu_quota_us(cpu_limit))))
    if memory and version.get("memory") == 2:
        result.append(CgroupWrite("memory", "memory.max", str(memory)))
        result.append(CgroupWrite("memory", "memory.swap.max", "0", optional=True))
    elif memory and version.get("memory") == 1:
        result.append(CgroupWrite("memory", "memory.limit_in_bytes", str(memory)))
        result.append(
            CgroupWrite("memory", "memory.memsw.limit_in_bytes", str(memory), optional=True)
        )
    if pids and version.get("pids"):
        result.append(CgroupWrite("pids", "pids.max", str(pids)))
    return tuple(result)


def _amounts(containers: Iterable[Container], which: str, resource: str) -> list[int]:
    parse = parse_cpu_millis if resource == "cpu" else parse_bytes
    result = []
    for container in containers:
        resources = container.resources
        limits = resources.limits if resources else {}
        requests = resources.requests if resources else {}
        # A request that is not given is the limit (Kubernetes: "Requests and limits").
        text = (
            limits.get(resource)
            if which == "limits"
            else requests.get(resource, limits.get(resource))
        )
        result.append(parse(text) if text is not None else 0)
    return result


def container_writes(container: Container, facts: Facts) -> tuple[CgroupWrite, ...]:
    """Return what a container's cgroup files are set to."""
    pids = container.resources.limits.get("pids") if container.resources else None
    return _writes(
        facts,
        _amounts([container], "limits", "cpu")[0],
        _amounts([container], "requests", "cpu")[0],
        _amounts([container], "limits", "memory")[0],
        parse_bytes(pids) if pids is not None else 0,
    )


def pod_memory_limit(pod: Pod) -> int:
    """Return the bytes of memory that the pod may use, 0 when a container of it has no limit."""
    memory = _amounts(pod.spec.containers, "limits", "memory")
    return sum(memory) if all(memory) else 0


def pod_writes(pod: Pod, facts: Facts) -> tuple[CgroupWrite, ...]:
    """Return what the pod's cgroup is set to: sums where every container has a limit, and the pids limit always."""
    cpu = _amounts(pod.spec.containers, "limits", "cpu")
    return _writes(
        facts,
        sum(cpu) if all(cpu) else 0,
        sum(_amounts(pod.spec.containers, "requests", "cpu")),
        pod_memory_limit(pod),
        POD_PIDS,
    )


def missing_controllers(pod: Pod, facts: Facts) -> list[str]:
    """Return the limits that the manifest asks for and this machine has no controller for."""
    asked = {name for c in pod.spec.containers if c.resources for name in c.resources.limits}
    return [
        name for name in ("cpu", "memory", "pids") if name in asked and not facts.controls(name)
    ]


def oom_score_adj(pod: Pod, container: Container, memory: int) -> int:
    """Return the container's ``oom_score_adj`` (Kubernetes: "Node out of memory behavior").

    *memory* is the machine's, in bytes.
    """
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return -997
    if quality == "BestEffort":
        return 1000
    request = _amounts([container], "requests", "memory")[0]
    return min(999, max(3, 1000 - 1000 * request // memory))
