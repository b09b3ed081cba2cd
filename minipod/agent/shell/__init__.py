# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as scripts: ``minipod plan -o sh``. Nothing on the way of a pod to its start imports this."""

from __future__ import annotations

from minipod.agent.shell.script import Handmade, own_names, script, teardown

__all__ = ["Handmade", "own_names", "script", "teardown"]
