# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from /proc: of ourselves, and of texts as the kernel writes them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minipod.agent.netview import devices, routes
from minipod.api import Pod, load_manifests
from minipod.plan import steps as s
from minipod.pods.origins import MountOrigin, mount_origins
from minipod.runtime import mountinfo, procfs


def test_ourselves() -> None:
    info = procfs.process_info(os.getpid())
    assert (info.pid, info.parent, info.uid) == (os.getpid(), os.getppid(), os.geteuid())
    assert info.pids[0] == os.getpid() and info.rss > 1 << 20 and info.threads >= 1
    assert "pytest" in " ".join(info.command)
    assert procfs.namespaces()["net"] == os.stat("/proc/self/ns/net").st_ino


def test_a_name_that_looks_like_fields() -> None:
    """A program may call itself anything, and have no command line."""
    code = "import prctl, time; prctl.set_name('a) R 1 (b'); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        info = procfs.process_info(child.pid)
        child.kill()
    assert (info.name, info.parent, info.state in "SRD") == ("a) R 1 (b", os.getpid(), True)


def test_what_has_ended() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    for look in (procfs.process_info, procfs.namespaces):
        with pytest.raises(OSError):
            look(child.pid)


def test_mountinfo() -> None:
    text = (
        "36 35 98:0 /sub /mnt\\0402 rw,noatime shared:1 master:2 - ext3 /dev/ro\\134ot rw,errors=x\n"
        "37 35 0:5 / /proc rw - proc proc rw\n"
        "38 cut off"
    )
    first, second = mountinfo.parse(text)
    assert (first.point, first.root, first.type, first.source) == (
        "/mnt 2",
        "/sub",
        "ext3",
        "/dev/ro\\ot",
    )
    assert first.options == ("rw", "noatime") and first.propagation == ("shared:1", "master:2")
    assert (second.point, second.propagation, second.device) == ("/proc", (), "0:5")


def test_counters_and_routes() -> None:
    text = (
        "Inter-|   Receive  |  Transmit\n face |bytes packets …\n"
        "  eth0: 100 2 0 1 0 0 0 0 200 3 0 4 0 0 0 0\nbroken: 1\n"
    )
    assert devices(text) == {
        "eth0": {
            "rx_packets": 2,
            "rx_bytes": 100,
            "rx_dropped": 1,
            "tx_packets": 3,
            "tx_bytes": 200,
            "tx_dropped": 4,
        }
    }
    head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    lines = "eth0 00000000 0100630A 0003 0 0 0 00000000 0 0 0\neth0 0000630A 00000000 0001 0 0 0 0000FFFF 0 0 0\n"
    assert routes(head + lines + "short line\n") == [
        {"to": "default", "via": "10.99.0.1", "dev": "eth0"},
        {"to": "10.99.0.0/16", "via": "", "dev": "eth0"},
    ]


POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: c
    image: i
    volumeMounts:
    - {name: data, mountPath: /data//x/, subPath: sub}
  volumes:
  - {name: data, hostPath: {path: /srv}}
"""


def test_where_mounts_come_from() -> None:
    (document,) = load_manifests(POD, "p.yaml")
    pod = document.object
    assert isinstance(pod, Pod)
    launch = s.Launch(
        key="c/0",
        kind="CONTAINER",
        steps=(
            s.Attach(slot=1, path="/proc", root=2),
            s.Attach(slot=1, path="/data/x", root=2, source="spec.containers[0].volumeMounts[0]"),
            s.ReadonlyPaths(root=2, paths=("/proc/sys", "/proc/keys")),
            s.MaskPaths(root=2, paths=("/proc/keys",)),
        ),
    )
    origins = mount_origins(pod, pod.spec.containers[0], [launch])
    assert origins == {
        "/": MountOrigin("image", "i, and its own changes"),
        "/proc": MountOrigin("default", ""),
        "/proc/sys": MountOrigin("hardening", "read-only"),
        "/proc/keys": MountOrigin("hardening", "masked"),
        "/data/x": MountOrigin(
            "volume", "volume data (hostPath), sub", "spec.containers[0].volumeMounts[0]"
        ),
    }
