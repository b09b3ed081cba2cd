# SPDX-License-Identifier: GPL-3.0-or-later
"""What probes cost the agent: ``sudo python -m tests.bench.probes ARCHIVE [http|tcp|exec] [PODS]``.

ARCHIVE is what ``examples/busybox-image`` makes. Each pod has one probe a second; the figure is the agent's own
processor time, in percent of one core. It is to stay below 10 for 100 pods.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests import node
from tests.instance import Instance

PROBES: dict[str, node.Json] = {
    "http": {"httpGet": {"path": "/", "port": 8080}},
    "tcp": {"tcpSocket": {"port": 8080}},
    "exec": {"exec": {"command": ["true"]}},
}
SERVER = "mkdir /tmp/w; echo hi > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"
SECONDS = 20.0


def used(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(archive: str, kind: str = "http", count: str = "100") -> None:
    """Measure once and print the figure."""
    instance = Instance()
    try:
        instance.load(Path(archive))
        probe = {**PROBES[kind], "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 30}
        container = {"name": "c", "command": ["sh", "-c", SERVER], "livenessProbe": probe}
        names = [f"p{number}" for number in range(int(count))]
        for name in names:
            spec: node.Json = {"terminationGracePeriodSeconds": 0}
            node.create(instance, node.manifest(name, containers=[container], **spec))
        for name in names:
            node.wait_for(instance, name, node.ready, timeout=120)
        time.sleep(3)
        agent = node.agent(instance)
        before, then = used(agent), time.monotonic()
        time.sleep(SECONDS)
        percent = (used(agent) - before) / (time.monotonic() - then) * 100
        print(f"{count} pods, a {kind} probe a second each: {percent:.1f} % of a core")
    finally:
        for complaint in instance.stop():
            print(complaint)


if __name__ == "__main__":
    main(*sys.argv[1:])
