# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a cgroup that tell of limits, use and pressure, by the names that this machine's hierarchies give them.

Sources: cgroup-v2.rst, cgroup-v1/memory.rst, sched-bwc.rst, blkio-controller.rst, psi.rst of the kernel.
"""

from __future__ import annotations

import contextlib
from typing import Any

from minipod.plan.context import Facts
from minipod.runtime.procfs import read_text

_V2 = {
    "memory": (
        *("memory.max", "memory.high", "memory.min", "memory.swap.max", "memory.oom.group"),
        *("memory.current", "memory.peak", "memory.events"),
    ),
    "cpu": ("cpu.max", "cpu.weight"),
    "pids": ("pids.max", "pids.current", "pids.peak", "pids.events"),
    "io": ("io.stat", "io.max"),
}
_V1 = {
    "memory": (
        *("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"),
        *("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"),
        "memory.oom_control",
    ),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "cpu.stat"),
    "cpuacct": ("cpuacct.usage",),
    "pids": ("pids.max", "pids.current", "pids.events"),
    "blkio": ("blkio.throttle.io_service_bytes_recursive",),
}
_EVERY_V2 = ("cpu.stat", "cpu.pressure", "memory.pressure", "io.pressure", "cgroup.events")
_MOST = 65536


def read_all(facts: Facts, path: str) -> list[dict[str, Any]]:
    """Return a dictionary per hierarchy: ``directory`` of the cgroup, ``version``, ``controllers``, ``files``.

    What the kernel does not have, or counts nothing in (blkio without the throttle policy), is left out.
    """
    result = []
    for hierarchy in facts.hierarchies:
        version = hierarchy.version
        known = _V2 if version == 2 else _V1
        names = [name for c in hierarchy.controllers for name in known.get(c, ())]
        names += _EVERY_V2 if version == 2 else ()
        directory = f"{hierarchy.directory}/{path}"
        files = {}
        for name in names:
            with contextlib.suppress(OSError):
                files[name] = read_text(f"{directory}/{name}", _MOST).strip()
        if files:
            result.append(
                {
                    "directory": directory,
                    "version": version,
                    "controllers": list(hierarchy.controllers),
                    "files": files,
                }
            )
    return result
