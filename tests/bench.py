# SPDX-License-Identifier: GPL-3.0-or-later
"""How long things take, for people to read; no test depends on it: ``make bench``.

Each command runs in a throw-away instance, with the agent up, a few times; the least and the median are shown.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.instance import TOP, Instance

ROUNDS = 10
POD = """
apiVersion: v1
kind: Pod
metadata: {name: bench}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: localhost/busybox:1, command: ["true"]}
"""


def measure(
    what: str, action: Callable[[], object], after: Callable[[], object] = lambda: None
) -> None:
    """Print the least and the median duration of *action* in ms; *after* is not measured."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        times.append((time.perf_counter() - start) * 1000)
        after()
    print(f"{what:<34} least {min(times):7.1f} ms   median {statistics.median(times):7.1f} ms")


def main() -> int:
    """Measure the command line alone, then a pod from the command to its end."""
    instance = Instance()
    complaints = []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch, "busybox.tar")
            subprocess.run([TOP / "examples" / "busybox-image", archive], check=True)
            instance.load(archive)
        manifest = instance.write("bench.yaml", POD)
        measure(
            "python -c pass", lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)
        )
        measure("minipod version", lambda: instance.cli("version"))
        measure("minipod --help", lambda: instance.cli("--help"))
        measure("minipod get pods", lambda: instance.cli("get", "pods"))
        measure(
            "minipod run (a pod that runs true)",
            lambda: instance.cli("run", manifest),
            lambda: instance.cli("delete", "pod", "bench", check=False),
        )
    finally:
        complaints = instance.stop()
    for line in complaints:
        print(line, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
