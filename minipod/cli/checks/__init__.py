# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``doctor`` checks: one small function for each thing that pods need, which tries it and cleans up.

What is made for a trial is made in a child process and in namespaces of its own, and goes with them. What is only
read is judged by a pure function (``judge_…``).
"""

from __future__ import annotations

from minipod.cli.checks import host, kernel, network
from minipod.cli.checks.base import Check, Result, examine, in_child
from minipod.cli.checks.network import admitting, dropping_chains

CHECKS = (*host.FIRST, *kernel.CHECKS, *network.CHECKS, *host.LAST)

__all__ = ["CHECKS", "Check", "Result", "admitting", "dropping_chains", "examine", "in_child"]
