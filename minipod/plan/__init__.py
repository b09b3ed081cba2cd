# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure compiler from a Pod to the list of steps that make it run. No I/O anywhere in this package.

The same list is executed (``minipod.runtime``), explained (``explain``) and, when a step fails, quoted.
"""

from __future__ import annotations

from minipod.plan.container import compile_container
from minipod.plan.context import (
    ContainerContext,
    Demand,
    Facts,
    Hierarchy,
    HostPort,
    Link,
    Place,
    PodContext,
)
from minipod.plan.execute import compile_exec
from minipod.plan.resources import class_cgroups
from minipod.plan.sandbox import KEY as SANDBOX_KEY
from minipod.plan.sandbox import compile_sandbox
from minipod.plan.slots import (
    TERMINATION,
    class_cgroup,
    container_cgroup,
    container_dir,
    pod_cgroup,
    process_key,
    termination_file,
)

__all__ = [
    "SANDBOX_KEY",
    "TERMINATION",
    "ContainerContext",
    "Demand",
    "Facts",
    "Hierarchy",
    "HostPort",
    "Link",
    "Place",
    "PodContext",
    "class_cgroup",
    "class_cgroups",
    "compile_container",
    "compile_exec",
    "compile_sandbox",
    "container_cgroup",
    "container_dir",
    "pod_cgroup",
    "process_key",
    "termination_file",
]
