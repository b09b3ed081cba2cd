# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's restart back-off: at once, then 10 s, 20 s, 40 s … 300 s; forgotten after 10 minutes without a restart.

Source: Kubernetes, "Pod lifecycle: How Pods handle problems with containers", and client-go's ``flowcontrol.Backoff``
with the kubelet's constants.
"""

from __future__ import annotations

INITIAL = 10.0
MAXIMUM = 300.0
RESET_AFTER = 2 * MAXIMUM


def delay(current: float, updated: float, ended: float) -> float:
    """Return for how many seconds after *ended* a container waits before it is started again.

    *current* and *updated* are what :func:`after_start` returned last; 0, 0 when it never did.
    """
    if not current or ended - updated > RESET_AFTER:
        return 0.0
    return current


def after_start(current: float, updated: float, ended: float, now: float) -> tuple[float, float]:
    """Return the back-off to keep once a container that had ended at *ended* is started again at *now*."""
    if not current or ended - updated > RESET_AFTER:
        return INITIAL, now
    return min(MAXIMUM, current * 2), now
