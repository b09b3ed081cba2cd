# SPDX-License-Identifier: GPL-3.0-or-later
"""What ns, ps, cgroup, fs and net print of what the agent tells: all pure."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from minipod.cli import cgrouptable, fs, netpaths, ns, ps
from minipod.cli.inside import cut, size
from minipod.runtime.overlaydiff import Change

Json = dict[str, Any]
EVIL = "x\x1b[31m\u202e"


def plain(text: str, colour: str) -> str:
    return text


def coloured(text: str, colour: str) -> str:
    return f"<{colour}>{text}</>"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_cut() -> None:
    assert [cut("abcdef", width) for width in (6, 5, 1, 0)] == ["abcdef", "abcd…", "…", "…"]


# ---- ns ----------------------------------------------------------------------------------------

KINDS = ("net", "pid", "user")


def member(name: str, *numbers: int) -> Json:
    return {
        "name": name,
        "kind": "app",
        "pid": 7,
        "namespaces": dict(zip(KINDS, numbers, strict=True)),
    }


NS: Json = {
    "host": {"net": 1, "pid": 2, "user": 3},
    "processes": [member("", 11, 2, 3), member("a", 11, 12, 3), member(EVIL, 11, 13, 3)],
}


def test_shared_namespaces_have_one_letter() -> None:
    assert ns.letters(NS, "net") == {1: "h", 11: "A"}
    assert ns.letters(NS, "pid") == {2: "h"}
    lines = list(ns.lines(NS, 80, plain))
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["net"] == ["1", "h", "11", "A", "11", "A", "11", "A"]
    assert rows["pid"] == ["2", "h", "2", "h", "12", "13"]
    assert max(map(len, lines)) <= 80 and "\x1b" not in "".join(lines)
    colours = [line for line in ns.lines(NS, 80, coloured) if line.startswith("net")]
    assert colours[0].count("<cyan>11 A</>") == 3 and "<dim>1 h</>" in colours[0]


def test_what_does_not_fit_stands_below() -> None:
    many = {**NS, "processes": [member(f"c{i}", 11, 20 + i, 3) for i in range(9)]}
    lines = list(ns.lines(many, 60, plain))
    assert max(map(len, lines)) <= 60
    assert sum(line.startswith("net") for line in lines) == 5  # two beside the host in each
    assert {f"c{i}" for i in range(9)} <= set(" ".join(lines).split())


def test_a_kernel_without_time_namespaces() -> None:
    data = {"host": {"net": 1, "time": 5}, "processes": [{**member("a", 1, 2, 3)}]}
    assert any(line.split() == ["time", "5", "h", "-"] for line in ns.lines(data, 80, plain))


# ---- ps ----------------------------------------------------------------------------------------


def process(pid: int, parent: int, container: str | None = "a", **more: Any) -> Json:
    base: Json = {
        "pid": pid,
        "parent": parent,
        "pids": [pid, pid - 100],
        "name": "p",
        "command": [f"cmd{pid}"],
        "state": "S",
        "uid": 0,
        "inner_uid": 0,
        "ticks": 50,
        "started": 1000,
        "rss": 4096,
    }
    return {**base, **({"container": container} if container is not None else {}), **more}


PS: Json = {
    "shim": process(100, 1, None, command=["minipod-shim"], pids=[100]),
    "pause": 101,
    "uptime": 20.0,
    "ticks": 100,
    "processes": [
        process(101, 100, "", pids=[101]),
        process(102, 100),
        process(103, 102, uid=70000, inner_uid=5, command=[EVIL]),
        process(104, 102, command=[], name="gone", state="Z"),
        process(105, 9, "b"),
    ],
}


def test_the_tree_of_processes() -> None:
    lines = list(ps.lines(PS, 100, plain))
    assert [line.split("KiB  ")[1] for line in lines[1:]] == [
        "minipod-shim",
        "├─ cmd101",
        "├─ cmd102",
        r"│  ├─ x\x1b[31m\u202e",
        "│  └─ [gone]",
        "└─ cmd105",  # its parent is not the pod's
    ]
    assert lines[0].split() == ["PID", "INSIDE", "CONTAINER", "USER", "S", "%CPU", "RSS", "COMMAND"]
    assert lines[2].split()[:4] == ["101", "=", "(pause)", "0"]
    assert lines[4].split()[:4] == ["103", "3", "a", "70000→5"]
    assert lines[3].split()[5] == "5.0"  # half a second of ten


def test_a_deep_tree_fits() -> None:
    deep = {
        **PS,
        "processes": [process(101, 100, "")] + [process(n, n - 1) for n in range(102, 1200)],
    }
    assert max(map(len, ps.lines(deep, 80, plain))) <= 80


# ---- cgroup ------------------------------------------------------------------------------------

V2 = {
    "memory.max": "67108864",
    "memory.high": "max",
    "memory.min": "33554432",
    "memory.current": "1048576",
    "memory.peak": "2097152",
    "memory.events": "low 0\nhigh 3\nmax 2\noom 1\noom_kill 1",
    "cpu.max": "50000 100000",
    "cpu.weight": "20",
    "cpu.stat": "usage_usec 2000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 12345",
    "pids.max": "100",
    "pids.current": "5",
    "pids.peak": "9",
    "pids.events": "max 0",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2",
    "cpu.pressure": "some avg10=1.50 avg60=0.10 avg300=0.00 total=5",
}
V1 = {
    "memory.limit_in_bytes": "67108864",
    "memory.memsw.limit_in_bytes": "67108864",
    "memory.usage_in_bytes": "1048576",
    "memory.max_usage_in_bytes": "2097152",
    "memory.failcnt": "0",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1",
    "cpu.cfs_quota_us": "-1",
    "cpu.cfs_period_us": "100000",
    "cpu.shares": "256",
    "cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0",
    "cpuacct.usage": "2000000000",
    "pids.max": "max",
    "pids.current": "1",
}


def group(files: Json, version: int) -> Json:
    return {
        "name": "app",
        "kind": "container",
        "path": "minipod/pod1/app.0",
        "manifest": {"limits": {"memory": "64Mi", "cpu": "500m"}, "requests": {"memory": "32Mi"}},
        "hierarchies": [
            {"directory": "/x", "version": version, "controllers": ["memory"], "files": files}
        ],
    }


def found(files: Json, version: int) -> dict[str, tuple[str, str, str, str]]:
    return {row[1]: row for row in cgrouptable.rows(group(files, version), None, 0.0)}


def test_cgroup_v2() -> None:
    rows = found(V2, 2)
    assert rows["memory.max"] == (
        "memory limit 64Mi",
        "memory.max",
        "64.0 MiB",
        "1.0 MiB now, peak 2.0 MiB",
    )
    assert rows["memory.min"][0] == "memory request 32Mi"
    assert rows["memory.events"][3] == "max 2, oom 1, oom_kill 1 !"
    assert rows["cpu.max"] == ("cpu limit 500m", "cpu.max", "50000 of 100000", "2.000 s")
    assert rows["cpu.weight"] == ("cpu request -", "cpu.weight", "20", "")
    assert rows["cpu.stat"][3] == "throttled in 4 of 10 periods, 12.3 ms !"
    assert rows["pids.max"][3] == "5 now, peak 9"
    assert rows["io.stat"][3] == "4.0 KiB read, 8.0 KiB written"
    assert rows["cpu.pressure"][3] == "some 1.50/0.10%"


def test_cgroup_v1() -> None:
    rows = found(V1, 1)
    assert rows["memory.limit_in_bytes"][0] == "memory limit 64Mi"
    assert "memory.memsw.limit_in_bytes" not in rows  # it says the same
    assert rows["memory.failcnt"][3] == "oom_kill 1 !"
    assert rows["cpu.cfs_quota_us"][2:] == ("none", "2.000 s")
    assert rows["cpu.shares"][2] == "256"
    assert not any(name.startswith("memory.max") for name in rows)


def test_rates_need_two_looks() -> None:
    later = {**V2, "cpu.stat": "usage_usec 2500000", "io.stat": "8:0 rbytes=8192 wbytes=8192"}
    rows = {r[1]: r for r in cgrouptable.rows(group(later, 2), group(V2, 2), 1.0)}
    assert rows["cpu.max"][3] == "2.500 s, 500m now"
    assert rows["io.stat"][3].endswith("; 4.0 KiB/s, 0 B/s now")
    # Another run of the container counts from zero again.
    other = {**group(later, 2), "path": "minipod/pod1/app.1"}
    assert "now" not in {r[1]: r for r in cgrouptable.rows(other, group(V2, 2), 1.0)}["cpu.max"][3]


@pytest.mark.parametrize("width", [80, 200])
def test_the_tables_fit(width: int) -> None:
    data = {
        "namespace": "default",
        "name": "web",
        "time": 1.0,
        "cgroups": [group(V2, 2), group(V1, 1)],
    }
    lines = list(cgrouptable.lines(data, None, width, plain))
    assert max(map(len, lines)) <= width
    painted = "\n".join(cgrouptable.lines(data, data, 200, coloured))
    assert re.search(r"<yellow>.*oom_kill 1 !</>", painted)


def test_half_a_cgroup() -> None:
    """Controllers may be missing, and files of an older kernel."""
    assert list(cgrouptable.rows(group({}, 2), None, 0.0))
    assert list(cgrouptable.rows(group({"memory.current": "1", "cpu.weight": "1"}, 2), None, 0.0))


# ---- fs ----------------------------------------------------------------------------------------

FS: Json = {
    "namespace": "default",
    "name": "web",
    "container": "app",
    "image": "busybox",
    "layers": [{"path": "/l", "digest": "sha256:" + "a" * 64, "diffID": "", "size": 2048}],
    "mounts": [
        {
            "point": "/data",
            "type": "ext4",
            "options": ["ro", "relatime"],
            "propagation": ["shared:3"],
            "origin": {"kind": "volume", "words": "data (hostPath)", "field": "spec.x[0]"},
        },
        {
            "point": f"/{EVIL}",
            "type": "tmpfs",
            "options": ["rw"],
            "propagation": [],
            "origin": {"kind": "unknown", "words": "made by the container", "field": ""},
        },
    ],
}


def test_files_and_mounts() -> None:
    changes = [
        Change("C", "/etc", "directory"),
        Change("D", "/etc/group"),
        Change("A", "/data", "directory"),
        Change("A", f"/{EVIL}", "file", 3),
        Change("A", "/l", "link"),
    ]
    lines = list(fs.lines(FS, changes, 100, plain))
    text = "\n".join(lines)
    assert "  C  /etc/" in lines and "  D  /etc/group" in lines
    assert "  A  /data/  (a mount point)" in lines
    assert r"  A  /x\x1b[31m\u202e  (3 B, a mount point)" in lines and "  A  /l  (link)" in lines
    assert "  3 added, 1 changed, 1 deleted; 3 B in files" in lines
    assert re.search(r"/data +ext4 +ro,shared:3 +volume: data \(hostPath\) \[spec.x\[0\]\]", text)
    assert f"  sha256:{'a' * 64}     2.0 KiB" in lines
    assert "\x1b" not in text and max(map(len, fs.lines(FS, changes, 60, plain))) <= 60
    assert "  none" in list(fs.lines(FS, [], 80, plain))


# ---- net ---------------------------------------------------------------------------------------


def pod(name: str, address: str, **more: Any) -> Json:
    base: Json = {
        "namespace": "default",
        "name": name,
        "phase": "Running",
        "hostNetwork": False,
        "address": address,
        "prefixLength": 16,
        "gateway": "10.99.0.1",
        "mac": "0a:58:0a:63:00:02",
        "veth": {
            "name": "mp0a630002",
            "ifindex": 7,
            "iflink": 2,
            "operstate": "up",
            "master": "minipod0",
            "rx_packets": 1,
            "rx_bytes": 60,
            "tx_packets": 2,
            "tx_bytes": 2048,
        },
        "ports": [
            {"hostIP": "0.0.0.0", "hostPort": 80, "protocol": "TCP", "containerPort": 8080},
            {"hostIP": "192.0.2.1", "hostPort": 53, "protocol": "UDP", "containerPort": 53},
        ],
    }
    return {**base, **more}


def rule(chain: str, *expressions: Json) -> Json:
    return {"rule": {"chain": chain, "expr": list(expressions)}}


def counted(packets: int) -> Json:
    return {"counter": {"packets": packets, "bytes": 1}}


def element(*key: Any, packets: int) -> list[Json]:
    return [
        {"elem": {"val": {"concat": list(key)}, **counted(packets)}},
        {"concat": ["10.99.0.2", 1]},
    ]


FILTER = {
    "inet": {
        "nftables": [
            {"metainfo": {}},
            {"map": {"name": "hostports", "elem": [element("tcp", 80, packets=5)]}},
            {"map": {"name": "hostports_of_address"}},
            rule("forward", {"match": {}}, counted(4), {"drop": None}),
            rule("postrouting", {"match": {}}, counted(3), {"masquerade": None}),
            rule(
                "postrouting",
                {"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}},
                counted(99),
                {"masquerade": None},
            ),
        ]
    },
    "bridge": {
        "nftables": [
            {
                "set": {
                    "name": "pods",
                    "elem": [{"concat": ["mp0a630002", "0a:58:0a:63:00:02", "10.99.0.2"]}],
                }
            },
            rule("guard", counted(1), {"drop": None}),
        ]
    },
}
CHAINS = {
    "nftables": [
        {
            "chain": {
                "family": "ip",
                "table": "filter",
                "name": "FORWARD",
                "hook": "forward",
                "policy": "drop",
            }
        }
    ]
}
NET: Json = {
    "range": "10.99.0.0/16",
    "size": 65533,
    "used": 2,
    "bridge": {"name": "minipod0", "address": "10.99.0.1", "operstate": "up", "mtu": 1500},
    "table": "minipod",
    "hostIP": "192.0.2.7",
    "pods": [pod("web", "10.99.0.2"), pod("host", "", hostNetwork=True)],
    "pod": {
        **pod("web", "10.99.0.2"),
        "eth0": {"rx_packets": 2, "rx_bytes": 2048, "tx_packets": 1, "tx_bytes": 60},
        "routes": [{"to": "default", "via": "10.99.0.1", "dev": "eth0"}],
        "hostRoutes": [{"to": "default", "via": "192.0.2.254", "dev": "eth0"}],
        "forwarding": True,
        "filter": FILTER,
        "chains": CHAINS,
        "legacyForward": "-P FORWARD DROP\n",
    },
}


def test_all_pods() -> None:
    lines = list(netpaths.overview(NET))
    assert lines[:2] == [
        "bridge minipod0  10.99.0.1  up, mtu 1500",
        "range 10.99.0.0/16  2 of 65533 addresses used",
    ]
    assert lines[4].split()[2] == "(host's"
    words = lines[5].split()
    assert words[:7] == ["default", "web", "10.99.0.2", "mp0a630002", "2.0", "KiB", "60"]
    assert words[8] == "80→8080/tcp,192.0.2.1:53→53/udp"


def test_the_ways_of_a_pod() -> None:
    text = "\n".join(netpaths.ways(NET, 200, plain))
    for words in (
        "default via 10.99.0.1",
        "sent 1 packet (60 B), received 2 packets (2.0 KiB)",
        "up, port of minipod0, peer of the pod's link 2",
        "it is known; dropped so far, of all pods: 1 packet",
        "dropped: 4 packets",
        "as 192.0.2.7; 3 connections of all pods so far",
        "0.0.0.0:80/TCP → 10.99.0.2:8080; 5 connections",
        "192.0.2.1:53/UDP is another's, or not there!",
        "ip filter FORWARD drops what it does not know!",
        "iptables-legacy FORWARD drops",
        "iptables -I FORWARD -i minipod0 -j ACCEPT",
    ):
        assert words in text, words
    assert max(map(len, netpaths.ways(NET, 80, plain))) <= 80 + 10  # a word may be longer
    assert "<yellow>" in "\n".join(netpaths.ways(NET, 80, coloured))


def test_ways_that_are_broken() -> None:
    own = NET["pod"]
    gone = {**NET, "pod": {**own, "veth": {"name": "mp0a630002"}, "eth0": None, "routes": []}}
    text = "\n".join(netpaths.ways(gone, 200, plain))
    assert "is not there!" in text and "cannot be seen" in text
    strange = json.loads(json.dumps(NET))
    strange["pod"]["filter"]["bridge"] = {"nftables": []}
    strange["pod"]["forwarding"] = False
    text = "\n".join(netpaths.ways(strange, 200, plain))
    assert "NOT KNOWN" in text and "ip_forward is off" in text
    for other in (pod("web", "", hostNetwork=True), pod("web", "")):
        assert len(list(netpaths.ways({**NET, "pod": other}, 200, plain))) == 1
