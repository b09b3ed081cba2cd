# SPDX-License-Identifier: GPL-3.0-or-later
"""How long tests wait for what must come: where the CPU is emulated, all takes 4 to 60 times as long.

A limit only ends a test that would hang. Nothing is asserted about time, and where all is well no limit costs anything.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time

# Seconds that a Python without libraries takes to start and end on the machines for which the limits were written;
# on an emulated one it takes 0.15 and more.
_USUAL = 0.02
_TRIES = 3
_MOST = 30.0


@functools.cache
def factor() -> float:
    """Return by what every limit is multiplied: 1 on a usual machine. It is found out by starting a process."""
    took = []
    for _ in range(_TRIES):
        before = time.monotonic()
        subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
        took.append(time.monotonic() - before)
    return min(max(1.0, min(took) / _USUAL), _MOST)


def patience(seconds: float) -> float:
    """Return how long to wait, in seconds, where a usual machine would be given *seconds*."""
    return seconds * factor()
