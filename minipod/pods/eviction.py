# SPDX-License-Identifier: GPL-3.0-or-later
"""Evicts a pod that takes up more of the disk than it may: limits of ``ephemeral-storage``, and ``sizeLimit``.

As under a kubelet (``localStorageEviction``) nothing stops a write: every ten seconds the pod is measured, and one that
is above a limit is killed and has Failed, with the reason Evicted. What counts is the containers' writable layers,
their logs, and emptyDirs on disk. Pods without such a limit are never measured.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from minipod.api import Pod, amounts, members, parse_bytes
from minipod.plan import container_dir
from minipod.pods import order
from minipod.pods.core import PodCore
from minipod.runtime.usage import disk_usage

log = logging.getLogger(__name__)

PERIOD = 10.0  # seconds between two looks: the kubelet's evictionMonitoringPeriod
GRACE = 1.0  # seconds: the kubelet's immediateEvictionGracePeriodSeconds
REASON = "Evicted"
STORAGE = "ephemeral-storage"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a pod takes up on the disk, in bytes.

    Attributes:
        containers: writable layer and logs, by container.
        volumes: by the name of the emptyDir.
    """

    containers: dict[str, int]
    volumes: dict[str, int]


def is_limited(pod: Pod) -> bool:
    """Whether there is any limit that a measured pod could be above."""
    storage = any(STORAGE in member.container.resources.limits for member in members(pod))
    return storage or any(volume_limit > 0 for volume_limit in _volume_limits(pod).values())


def verdict(pod: Pod, usage: Usage) -> str:
    """Return why *pod* is evicted, in the kubelet's words and by its order of rules; "" when it is not."""
    for volume in pod.spec.volumes:
        limit, used = _volume_limits(pod).get(volume.name, 0), usage.volumes.get(volume.name, 0)
        if 0 < limit < used and volume.empty_dir is not None:
            text = volume.empty_dir.size_limit
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{text}".'
    most = amounts.of_pod(pod, "limits").get(STORAGE)
    total = sum(usage.containers.values()) + sum(usage.volumes.values())
    if most is not None and total > most:
        return (
            "Pod ephemeral local storage usage exceeds the total limit of containers "
            f"{amounts.text(STORAGE, most)}."
        )
    for member in members(pod):
        limits = member.container.resources.limits
        if STORAGE in limits and usage.containers.get(member.name, 0) > parse_bytes(
            limits[STORAGE]
        ):
            return f'Container {member.name} exceeded its local ephemeral storage limit "{limits[STORAGE]}".'
    return ""


def _volume_limits(pod: Pod) -> dict[str, int]:
    """Return the size limits of the emptyDirs on disk; those in memory cannot grow above theirs."""
    return {
        volume.name: parse_bytes(volume.empty_dir.size_limit)
        for volume in pod.spec.volumes
        if volume.empty_dir and not volume.empty_dir.medium and volume.empty_dir.size_limit
    }


async def measure(core: PodCore) -> Usage:
    """Return what the pod takes up now."""
    parts: dict[str, list[str]] = {}
    for record in core.record.containers:
        parts[record.name] = [f"{core.log_dir}/{record.name}"]
        if record.attempt >= 0:
            layer = container_dir(core.directory, record.name, record.attempt)
            parts[record.name].append(f"{layer}/upper")
    volumes = {
        volume.name: f"{core.directory}/volumes/{volume.name}"
        for volume in core.pod.spec.volumes
        if volume.empty_dir and not volume.empty_dir.medium
    }
    used = await disk_usage([*(p for paths in parts.values() for p in paths), *volumes.values()])
    return Usage(
        {name: sum(used[path] for path in paths) for name, paths in parts.items()},
        {name: used[path] for name, path in volumes.items()},
    )


async def watch(core: PodCore, fail: Callable[[str, str, float], None]) -> None:
    """Measure the pod for as long as it has a limit and lives; *fail* ends it, with a reason and words."""
    if not is_limited(core.pod):
        return
    while not core.deleting and not order.is_ending(core.pod, core.record):
        await asyncio.sleep(PERIOD)
        if not core.record.sandbox_up:
            continue
        try:
            used = await measure(core)
        except OSError as error:  # no process for du, say: there will be a next time
            log.warning("pod %s: its disk usage could not be measured: %s", core.name, error)
            continue
        if words := verdict(core.pod, used):
            fail(REASON, words, GRACE)
            return
