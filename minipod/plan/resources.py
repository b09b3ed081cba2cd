# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and limits as values for cgroup files, on cgroup v2 and on v1 controllers, and as the ``oom_score_adj``.

The conversions are the kubelet's and the runtimes':

- cpu: quota in a period of 100 ms, at least 1 ms; shares = max(2, milli·1024/1000). cgroup v2's weight is
  10^(L²/612 + 125·L/612 - 7/34) with L = log2(shares), rounded up: the formula of runc 1.3.2 and crun 1.23, by which a
  container that asks for one CPU weighs 100, as every other cgroup of the machine does, and shares of 1024 did on v1.
  KEP-2254's older linear one gave it 39, and nothing finer than a quarter of a tenth of a CPU.
- memory on v2 (KEP-2570, "memory QoS"): ``memory.min`` is the request; ``memory.high``, where allocations are slowed
  down, is request + 0.9·(limit - request), down to a whole page; without a limit, the machine's memory takes its place.
  All of a container is killed when it is out of memory (``memory.oom.group``), so that no half of it goes on.
- swap is off: the limit is one of memory and swap together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from minipod.api import Container, Pod, QosClass, amounts, parse_bytes, qos_class
from minipod.api.amounts import HUGEPAGES, Amounts, millis, whole
from minipod.plan.context import Demand, Facts
from minipod.plan.defaults import POD_PIDS
from minipod.plan.slots import class_cgroup
from minipod.plan.steps import CgroupWrite, MakeCgroup

PERIOD_US = 100_000
MIN_SHARES = 2
THROTTLING = 0.9  # the kubelet's memoryThrottlingFactor


def cpu_quota_us(milli: int) -> int:
    """Return the quota per period for *milli* of a cpu, never under 1 ms."""
    return max(1000, milli * PERIOD_US // 1000)


def cpu_shares(milli: int) -> int:
    """Return cgroup v1 ``cpu.shares`` for *milli* of a cpu."""
    return min(262144, max(MIN_SHARES, milli * 1024 // 1000))


def cpu_weight(shares: int) -> int:
    """Return cgroup v2 ``cpu.weight`` for v1 *shares*: 1 for 2, 100 for 1024, 10000 for 262144."""
    if shares <= MIN_SHARES:
        return 1
    log = math.log2(shares)
    return min(10_000, math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34)))


def memory_high(request: int, limit: int, page: int) -> int:
    """Return where ``memory.high`` is for a request and a limit (or the machine's memory) in bytes; 0 for nowhere."""
    high = int((request + (limit - request) * THROTTLING) // page * page)
    return high if high > request else 0


def hugetlb_name(page: int) -> str:
    """Return how the hugetlb controller's files call a page size in bytes: 2MB, 1GB, 64KB."""
    for bits, unit in ((30, "GB"), (20, "MB"), (10, "KB")):
        if page >= 1 << bits:
            return f"{page >> bits}{unit}"
    raise ValueError(f"no page has {page} bytes")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a cgroup is set to.

    Attributes:
        cpu_request: thousandths of a CPU, 0 for none.
        cpu_limit: thousandths of a CPU, 0 for none.
        memory_min, memory_limit, memory_high: bytes, 0 for none.
        hugepages: bytes by page size, for every size of the machine.
        pids: the most processes and threads, 0 for no limit.
        whole: all processes are killed when it is out of memory.
    """

    cpu_request: int = 0
    cpu_limit: int = 0
    memory_min: int = 0
    memory_limit: int = 0
    memory_high: int = 0
    hugepages: dict[int, int] = field(default_factory=dict)
    pids: int = 0
    whole: bool = False


def container_bounds(pod: Pod, container: Container, facts: Facts) -> Bounds:
    """Return the bounds of one of *pod*'s containers; without a limit of its own, the pod's binds it."""
    requests = amounts.of_container(container, "requests")
    limits = amounts.effective_limits(pod, container, {})
    request, limit = _memory(requests), _memory(limits)
    own_limit = _memory(amounts.of_container(container, "limits"))
    high = 0
    if request != own_limit:  # Guaranteed in memory: its limit is what it has asked for
        high = memory_high(request, limit or facts.memory, facts.page)
    pids = container.resources.limits.get("pids")
    return Bounds(
        cpu_request=_cpu(requests),
        cpu_limit=_cpu(limits),
        memory_min=request,
        memory_limit=limit,
        memory_high=high,
        hugepages=_hugepages(limits, facts),
        pids=parse_bytes(pids) if pids is not None else 0,
        whole=not facts.single_process_oom_kill,
    )


def pod_bounds(pod: Pod, facts: Facts) -> Bounds:
    """Return the bounds of a pod: its own, else sums where every container has a limit; the pids limit always."""
    requests, limits = amounts.of_pod(pod, "requests"), amounts.of_pod(pod, "limits")
    return Bounds(
        cpu_request=_cpu(requests),
        cpu_limit=_cpu(limits) if amounts.declares_for_all(pod, "cpu") else 0,
        memory_min=_memory(requests),
        memory_limit=pod_memory_limit(pod),
        hugepages=_hugepages(limits, facts),
        pids=POD_PIDS,
    )


def pod_memory_limit(pod: Pod) -> int:
    """Return the bytes of memory that the pod may use; 0 when neither it nor every container has a limit."""
    limits = amounts.of_pod(pod, "limits")
    return _memory(limits) if amounts.declares_for_all(pod, "memory") else 0


def _cpu(of: Amounts) -> int:
    return millis(of.get("cpu", Decimal(0)))


def _memory(of: Amounts) -> int:
    return whole(of.get("memory", Decimal(0)))


def _hugepages(limits: Amounts, facts: Facts) -> dict[int, int]:
    asked = {
        parse_bytes(name.removeprefix(HUGEPAGES)): whole(amount)
        for name, amount in limits.items()
        if name.startswith(HUGEPAGES)
    }
    return {page: asked.get(page, 0) for page in facts.hugepages}


# ---- files ------------------------------------------------------------------------------------------------------


def writes(bounds: Bounds, facts: Facts) -> tuple[CgroupWrite, ...]:
    """Return what the files of a cgroup are set to, as far as this machine has controllers."""
    version = {
        name: hierarchy.version
        for name in ("cpu", "memory", "hugetlb", "pids")
        if (hierarchy := facts.controls(name))
    }
    result = _cpu_writes(bounds, version.get("cpu", 0))
    result += _memory_writes(bounds, version.get("memory", 0))
    result += _hugetlb_writes(bounds, version.get("hugetlb", 0))
    if bounds.pids and "pids" in version:
        result.append(CgroupWrite("pids", "pids.max", str(bounds.pids)))
    return tuple(result)


def _cpu_writes(bounds: Bounds, version: int) -> list[CgroupWrite]:
    shares, quota = cpu_shares(bounds.cpu_request), cpu_quota_us(bounds.cpu_limit)
    if version == 2:
        result = [CgroupWrite("cpu", "cpu.weight", str(cpu_weight(shares)))]
        if bounds.cpu_limit:
            result.append(CgroupWrite("cpu", "cpu.max", f"{quota} {PERIOD_US}"))
        return result
    if version == 1:
        result = [CgroupWrite("cpu", "cpu.shares", str(shares))]
        if bounds.cpu_limit:
            result.append(CgroupWrite("cpu", "cpu.cfs_period_us", str(PERIOD_US)))
            result.append(CgroupWrite("cpu", "cpu.cfs_quota_us", str(quota)))
        return result
    return []


def _memory_writes(bounds: Bounds, version: int) -> list[CgroupWrite]:
    result: list[CgroupWrite] = []
    if version == 2:
        if bounds.memory_min:
            result.append(CgroupWrite("memory", "memory.min", str(bounds.memory_min)))
        if bounds.memory_high:
            result.append(CgroupWrite("memory", "memory.high", str(bounds.memory_high)))
        if bounds.memory_limit:
            result.append(CgroupWrite("memory", "memory.max", str(bounds.memory_limit)))
        if bounds.whole:
            result.append(CgroupWrite("memory", "memory.oom.group", "1"))
        result.append(CgroupWrite("memory", "memory.swap.max", "0", optional=True))
    elif version == 1 and bounds.memory_limit:
        limit = str(bounds.memory_limit)
        result.append(CgroupWrite("memory", "memory.limit_in_bytes", limit))
        result.append(CgroupWrite("memory", "memory.memsw.limit_in_bytes", limit, optional=True))
    elif version == 1:
        result.append(CgroupWrite("memory", "memory.swappiness", "0", optional=True))
    return result


def _hugetlb_writes(bounds: Bounds, version: int) -> list[CgroupWrite]:
    file = {1: "limit_in_bytes", 2: "max"}.get(version)
    if file is None:
        return []
    result = []
    for page, most in sorted(bounds.hugepages.items()):
        name = hugetlb_name(page)
        result.append(CgroupWrite("hugetlb", f"hugetlb.{name}.{file}", str(most)))
        # Reservations too: else a mapping succeeds, and touching it is a SIGBUS.
        rsvd = f"hugetlb.{name}.rsvd.{file}"
        result.append(CgroupWrite("hugetlb", rsvd, str(most), optional=True))
    return result


def resize_writes(old: Bounds, new: Bounds, facts: Facts) -> tuple[CgroupWrite, ...]:
    """Return what the files of a cgroup in use are set to, from *old* to *new* bounds; limits do not go away."""
    result = list(writes(new, facts))
    home = facts.controls("memory")
    if home and home.version == 2:
        # A file that is not written at the start has its default then, and something else now.
        files = {"memory.min": ("0", new.memory_min), "memory.high": ("max", new.memory_high)}
        result = [
            *(CgroupWrite("memory", f, none) for f, (none, amount) in files.items() if not amount),
            *result,
        ]
    elif home and 0 < old.memory_limit < new.memory_limit:
        # On v1 the limit of memory is never above that of memory and swap: raise that one first.
        memsw = next(w for w in result if w.file == "memory.memsw.limit_in_bytes")
        result = [memsw, *(w for w in result if w is not memsw)]
    return tuple(result)


def container_writes(pod: Pod, container: Container, facts: Facts) -> tuple[CgroupWrite, ...]:
    """Return what a container's cgroup files are set to."""
    return writes(container_bounds(pod, container, facts), facts)


def pod_writes(pod: Pod, facts: Facts) -> tuple[CgroupWrite, ...]:
    """Return what the pod's cgroup files are set to."""
    return writes(pod_bounds(pod, facts), facts)


# ---- classes ----------------------------------------------------------------------------------------------------


def demand(pods: Iterable[Pod]) -> Demand:
    """Return what *pods* ask for together."""
    cpu = memory = total = 0
    for pod in pods:
        requests = amounts.of_pod(pod, "requests")
        total += _memory(requests)
        if qos_class(pod) == "Burstable":
            cpu += _cpu(requests)
            memory += _memory(requests)
    return Demand(cpu, memory, total)


def class_bounds(of: Demand, facts: Facts) -> dict[str, Bounds]:
    """Return the bounds of the cgroups above the pods', by class, and of the one above these, as "".

    Burstable pods together weigh what they have asked for, pods of best effort next to nothing, and all pods together
    what the machine has (the kubelet's ``qosContainerManager`` and ``enforceNodeAllocatable``).
    """
    return {
        "": Bounds(cpu_request=facts.cpus * 1000, memory_min=of.memory),
        "Burstable": Bounds(cpu_request=of.burstable_cpu, memory_min=of.burstable_memory),
        "BestEffort": Bounds(),
    }


def class_cgroups(parent: str, quality: QosClass, of: Demand, facts: Facts) -> list[MakeCgroup]:
    """Return the steps that make the cgroups above a pod of class *quality*, with the weights for *of*."""
    bounds = class_bounds(of, facts)
    result = [MakeCgroup(path=parent, writes=_class_writes(bounds[""], facts))]
    if quality in bounds:
        path = class_cgroup(parent, quality)
        result.append(MakeCgroup(path=path, writes=_class_writes(bounds[quality], facts)))
    return result


def _class_writes(bounds: Bounds, facts: Facts) -> tuple[CgroupWrite, ...]:
    kept = ("cpu.weight", "cpu.shares")
    result = [write for write in writes(bounds, facts) if write.file in kept]
    if (home := facts.controls("memory")) and home.version == 2:
        # Also when it is none: what was asked for by pods that are gone is given back.
        result.append(CgroupWrite("memory", "memory.min", str(bounds.memory_min)))
    return tuple(result)


# ---- what this machine has, and has not -------------------------------------------------------------------------


def allocatable(facts: Facts) -> Amounts:
    """Return what the machine has for pods: ``resourceFieldRef`` shows it where there is no limit."""
    return {
        "cpu": Decimal(facts.cpus),
        "memory": Decimal(facts.memory),
        "ephemeral-storage": Decimal(facts.storage),
    }


def unmet(pod: Pod, facts: Facts) -> list[str]:
    """Say what *pod* asks for that this machine does not give; shown in its status."""
    every = [*pod.spec.containers, *pod.spec.init_containers]
    asked = [pod.spec.resources, *(container.resources for container in every)]
    limits = {name for resources in asked for name in resources.limits}
    names = {name for resources in asked for name in resources.requests} | limits
    result = []
    if any(name.startswith(HUGEPAGES) for name in limits) and not facts.controls("hugetlb"):
        result.append("no cgroup controller for hugetlb: huge pages are not limited")
    memory = facts.controls("memory")
    if "memory" in names and memory is not None:
        if memory.version == 1:
            result.append(
                "on cgroup v1 memory is not set aside (memory.min), allocations are not slowed down near "
                "the limit (memory.high), and out of memory kills one process, not its container"
            )
        elif not facts.protects_memory:
            result.append(
                "below systemd's slices memory requests (memory.min) protect pods from each other only"
            )
    result += _beyond(pod, facts)
    return result


def _beyond(pod: Pod, facts: Facts) -> list[str]:
    requests, machine = amounts.of_pod(pod, "requests"), allocatable(facts)
    too_much = [name for name, most in machine.items() if most and requests.get(name, 0) > most]
    if not too_much:
        return []
    return [f"requests of {', '.join(too_much)} are above what this machine has"]


def oom_score_adj(pod: Pod, container: Container, memory: int) -> int:
    """Return the container's ``oom_score_adj`` (the kubelet's ``GetContainerOOMScoreAdjust``).

    Memory that the pod asks for beyond its containers is shared evenly by them. A sidecar is not killed before the
    containers that it serves. *memory* is the machine's, in bytes.
    """
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return -997
    if quality == "BestEffort":
        return 1000
    extra = _beyond_containers(pod)
    request = _memory(amounts.of_container(container, "requests")) + extra
    score = 1000 - 1000 * request // memory
    if container in pod.spec.init_containers and amounts.is_sidecar(container):
        least = min(_memory(amounts.of_container(c, "requests")) for c in pod.spec.containers)
        score = min(score, 1000 - 1000 * (least + extra) // memory)
    return min(999, max(3, score))


def _beyond_containers(pod: Pod) -> int:
    declared = pod.spec.resources.requests.get("memory")
    if not declared:
        return 0
    left = parse_bytes(declared) - _memory(amounts.sum_of_containers(pod, "requests"))
    return left // (len(pod.spec.containers) + len(pod.spec.init_containers))
