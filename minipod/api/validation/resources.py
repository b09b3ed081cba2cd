# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for a container's ``resources``: cpu, memory, and minipod's own ``pids``.

``pids`` (limits only) is the most processes and threads the container may have, as ``pids.max`` of its cgroup;
Kubernetes has that only per node.
"""

from __future__ import annotations

from minipod.api.names import qualified_name
from minipod.api.objects import ResourceRequirements
from minipod.api.problems import NOT_HONOURED, Report, did_you_mean
from minipod.api.quantity import parse_quantity
from minipod.api.yaml import join, shown

KNOWN = ("cpu", "memory", "pids")
MAX_PIDS = 4 * 1024 * 1024
"""The kernel's PID_MAX_LIMIT; ``pids.max`` takes no more."""

_NOT_HERE = ("ephemeral-storage", "storage")


def check_resources(resources: ResourceRequirements, path: str, report: Report) -> None:
    """Check names and amounts, and that no request is above its limit; the quantities parse."""
    for kind, quantities in (("limits", resources.limits), ("requests", resources.requests)):
        for name, text in quantities.items():
            if kind == "requests" and name in KNOWN and resources.limits.get(name) == text:
                continue  # it was filled in from the limit, where it is checked
            where = join(f"{path}.{kind}", name)
            if name not in KNOWN:
                report.error(where, _unknown(name))
            elif parse_quantity(text) < 0:
                report.error(where, "must be 0 or more")
            elif name == "memory" and parse_quantity(text) % 1:
                report.warn(where, f"{text} is not a whole number of bytes, it is rounded up")
    if "pids" in resources.requests:  # also when it equals the limit
        report.error(
            f"{path}.requests.pids", "pids can be limited, not requested: move it to limits"
        )
    if "pids" in resources.limits:
        pids = parse_quantity(resources.limits["pids"])
        if pids % 1 or not 0 < pids <= MAX_PIDS:
            report.error(f"{path}.limits.pids", f"must be a whole number, 1 to {MAX_PIDS}")
    for name, text in resources.requests.items():
        limit = resources.limits.get(name)
        if name in KNOWN and limit is not None and parse_quantity(text) > parse_quantity(limit):
            report.error(f"{path}.requests.{name}", f"{text} is above the limit of {limit}")


def _unknown(name: str) -> str:
    if name in _NOT_HERE or name.startswith("hugepages-"):
        return NOT_HONOURED
    if "/" in name and not qualified_name(name):
        return f"{NOT_HONOURED}: there are no device plugins"
    return f"unknown resource {shown(name)}" + (
        did_you_mean(name, KNOWN) or f": known are {', '.join(KNOWN)}"
    )
