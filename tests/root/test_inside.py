# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a pod's inside, held against the kernel: namespaces, processes, cgroups, files, the network."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.runtime.overlaydiff import changes
from tests import features
from tests.features import requires
from tests.instance import Instance
from tests.patience import patience

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

Json = dict[str, Any]
SLEEP = ["sleep", "100000"]


@pytest.fixture(scope="module")
def inside(shared_instance: Instance) -> Iterator[Instance]:
    """An instance with the pod web: app, which has changed files, and side, which has a child."""
    script = (
        "mkdir /made && echo hello > /made/file && rm /etc/group && echo >> /etc/passwd; "
        "httpd -p 8080 -h /made; exec sleep 100000"
    )
    shared_instance.start_pod(
        "web",
        {
            "name": "app",
            "command": ["sh", "-c", script],
            "ports": [{"containerPort": 8080, "hostPort": 18973, "hostIP": "127.0.0.1"}],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
        },
        {"name": "side", "command": ["sh", "-c", "sleep 100000 & wait"]},
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    yield shared_instance
    shared_instance.delete("web")


def ask(instance: Instance, verb: str, **request: Any) -> Json:
    done, _ = instance.call(verb, {"pod": "web", **request})
    return done


def test_namespaces(inside: Instance) -> None:
    found = ask(inside, "namespaces")
    by_name = {each["name"]: each for each in found["processes"]}
    assert by_name.keys() == {"", "app", "side"}
    for name in ("app", "side"):
        pid = inside.pid("web", name)
        assert by_name[name]["pid"] == pid
        for kind, inode in by_name[name]["namespaces"].items():
            assert os.stat(f"/proc/{pid}/ns/{kind}").st_ino == inode
    app, side, pause = (by_name[name]["namespaces"] for name in ("app", "side", ""))
    for kind in ("net", "uts", "ipc"):
        assert app[kind] == side[kind] == pause[kind] != found["host"][kind]
    for kind in ("pid", "mnt", "cgroup"):
        assert len({app[kind], side[kind], pause[kind], found["host"][kind]}) >= 3
    assert found["host"]["net"] == os.stat("/proc/self/ns/net").st_ino


def test_processes(inside: Instance) -> None:
    found = ask(inside, "processes")
    own = {each["pid"]: each for each in found["processes"]}
    first = inside.pid("web", "side")
    child = next(each for each in own.values() if each["parent"] == first)
    assert (child["container"], child["command"]) == ("side", SLEEP)
    assert own[first]["pids"] == [first, 1] and child["pids"][0] == child["pid"]
    assert own[found["pause"]]["uid"] == 65535
    assert found["shim"]["pid"] == own[first]["parent"] == own[found["pause"]]["parent"]
    # All that the pod's cgroup has, and nothing else.
    there = set()
    for _, top, _ in features.cgroup_mounts():
        for path in (top / inside.pod_cgroup("web")).rglob("cgroup.procs"):
            there |= {int(word) for word in path.read_text().split()}
    assert own.keys() == there


def test_cgroups(inside: Instance) -> None:
    found = {each["name"]: each for each in ask(inside, "cgroup")["cgroups"]}
    assert found.keys() == {"", "app", "side"}
    app = found["app"]
    assert app["manifest"]["limits"] == {"memory": "64Mi", "cpu": "500m"}
    values: dict[str, str] = {}
    for hierarchy in app["hierarchies"]:
        assert Path(hierarchy["directory"]).is_dir()
        values |= hierarchy["files"]
    if "memory.max" in values or "memory.limit_in_bytes" in values:
        limit = values.get("memory.max") or values["memory.limit_in_bytes"]
        assert int(limit) == 64 << 20
    assert values.get("cpu.max", "50000 100000") == "50000 100000"
    assert values.get("cpu.cfs_quota_us", "50000") == "50000"
    assert int(values["pids.current"]) >= 1
    only = ask(inside, "cgroup", container="side")["cgroups"]
    assert [each["name"] for each in only] == ["side"]


def test_files(inside: Instance) -> None:
    found = json.loads(inside.cli("fs", "web", "-c", "app", "-o", "json").stdout)
    seen = {(change["kind"], change["path"]): change for change in found["changes"]}
    assert seen["A", "/made/file"]["size"] == 6
    assert {("A", "/made"), ("D", "/etc/group"), ("C", "/etc/passwd"), ("C", "/etc")} <= seen.keys()
    assert not any(path.startswith(("/bin", "/probe")) for _, path in seen)
    assert [layer["digest"][:7] for layer in found["layers"]] == ["sha256:"] * 2
    assert all(layer["size"] > 100 for layer in found["layers"])

    pid = inside.pid("web", "app")
    kernel = [line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    assert [mount["point"] for mount in found["mounts"]] == kernel
    origins = {mount["point"]: mount["origin"] for mount in found["mounts"]}
    assert origins["/data"]["kind"] == "volume"
    assert origins["/data"]["field"] == "spec.containers[0].volumeMounts[0]"
    assert origins["/"]["kind"] == "image" and origins["/proc"]["kind"] == "default"
    assert origins["/proc/sys"] == {"kind": "hardening", "words": "read-only", "field": ""}
    assert "unknown" not in {origin["kind"] for origin in origins.values()}


def test_the_network(inside: Instance) -> None:
    def counted() -> tuple[str, Json]:
        found = ask(inside, "network")
        return inside.cli("net", "web").stdout, found

    before, found = counted()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", 18973), timeout=patience(10)) as sock:
            sock.sendall(b"GET /file HTTP/1.0\r\n\r\n")
            with contextlib.closing(sock.makefile("rb")) as answer:
                assert answer.read().endswith(b"hello\n")
    after, _ = counted()
    assert "127.0.0.1:18973/TCP → " in before and before.split("8080; ")[1].startswith(
        "no connections"
    )
    assert after.split("8080; ")[1].startswith("3 connections")

    pod = found["pod"]
    veth = pod["veth"]
    assert veth["ifindex"] == socket.if_nametoindex(veth["name"])
    assert veth["master"] == found["bridge"]["name"] == inside.config.bridge
    assert pod["eth0"]["tx_packets"] > 0
    assert {route["to"] for route in pod["routes"]} == {"default", inside.config.pod_cidr}
    assert "it is known" in after and pod["address"] in inside.cli("net").stdout


def test_spoofed_packets_are_counted(inside: Instance) -> None:
    def dropped() -> int:
        out = subprocess.run(
            ["nft", "-j", "list", "chain", "bridge", inside.config.nft_table, "guard"],
            capture_output=True,
            check=True,
        )
        rules = [item["rule"] for item in json.loads(out.stdout)["nftables"] if "rule" in item]
        return int(rules[-1]["expr"][0]["counter"]["packets"])

    before = dropped()
    # An address that is not the pod's: its own network, entered by a tool of the host.
    code = (
        "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); "
        "s.send(b'\\xff' * 6 + b'\\x02\\0\\0\\0\\0\\1' + b'\\x08\\x06' + bytes(46))"
    )
    inside.cli("enter", "web", "--net", "--", "python3", "-c", code)
    assert dropped() > before
    assert "of all pods: no packets" not in " ".join(inside.cli("net", "web").stdout.split())


def test_a_pod_on_the_hosts_network(inside: Instance) -> None:
    inside.start_pod("host", {"command": SLEEP}, hostNetwork=True)
    done, _ = inside.call("namespaces", {"pod": "host"})
    assert done["processes"][1]["namespaces"]["net"] == done["host"]["net"]
    assert "on the host's network" in inside.cli("net", "host").stdout
    inside.delete("host")


def test_what_has_no_sandbox(inside: Instance) -> None:
    inside.run_pod("over", {"command": ["true"]})
    for verb in ("ns", "ps", "cgroup", "fs"):
        done = inside.cli(verb, "over", check=False)
        assert done.returncode == 1 and "over" in done.stderr and "internal" not in done.stderr
    assert "has no address" in inside.cli("net", "over").stdout or True
    inside.delete("over")


# ---- the overlay's marks -------------------------------------------------------------------------


def test_changes_of_a_tree(tmp_path: Path) -> None:
    """Whiteouts and opaque directories, in the upper directory and between the layers."""
    base, middle, upper = (tmp_path / name for name in ("base", "middle", "upper"))
    for top in (base, middle, upper):
        top.mkdir()
    for path in ("a/x", "a/y", "gone/z", "opaque/old", "opaque/kept", "hidden/f"):
        (base / path).parent.mkdir(exist_ok=True)
        (base / path).write_text("base")
    # The layer in the middle takes away "gone" and begins "hidden" anew.
    os.mknod(middle / "gone", 0o020000, os.makedev(0, 0))
    (middle / "hidden").mkdir()
    os.setxattr(middle / "hidden", "trusted.overlay.opaque", b"y")

    (upper / "a").mkdir()
    (upper / "a" / "x").write_text("changed")
    os.mknod(upper / "a" / "y", 0o020000, os.makedev(0, 0))
    (upper / "gone").mkdir()
    (upper / "gone" / "z").write_text("")
    (upper / "opaque").mkdir()
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    (upper / "opaque" / "kept").write_text("new")
    (upper / "hidden").mkdir()
    (upper / "hidden" / "f").write_text("!")
    (upper / "link").symlink_to("/etc/passwd")
    os.mkfifo(upper / "pipe")
    os.mknod(upper / "never", 0o020000, os.makedev(0, 0))  # of what was never there

    fds = [os.open(top, os.O_PATH | os.O_DIRECTORY) for top in (upper, middle, base)]
    try:
        found = [(c.kind, c.path, c.type) for c in changes(fds[0], fds[1:])]
        notes = {c.path: c.note for c in changes(fds[0], fds[1:]) if c.note}
    finally:
        for fd in fds:
            os.close(fd)
    assert found == [
        ("C", "/a", "directory"),
        ("C", "/a/x", "file"),
        ("D", "/a/y", ""),
        ("A", "/gone", "directory"),
        ("A", "/gone/z", "file"),
        ("C", "/hidden", "directory"),
        ("A", "/hidden/f", "file"),
        ("A", "/link", "link"),
        ("C", "/opaque", "directory"),
        ("D", "/opaque/old", ""),
        ("C", "/opaque/kept", "file"),
        ("A", "/pipe", "fifo"),
    ]
    assert notes.keys() == {"/opaque"}


def test_a_hostile_upper_directory(tmp_path: Path) -> None:
    """Links are not followed, and what is too deep for a path is told, not entered."""
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    upper.mkdir()
    lower.mkdir()
    (lower / "etc").symlink_to("/etc")
    (upper / "etc").mkdir()
    (upper / "etc" / "passwd").write_text("")
    top = os.open(upper, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 250, dir_fd=top)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = below
    os.close(top)
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (upper, lower)]
    try:
        found = list(changes(fds[0], fds[1:]))
    finally:
        for fd in fds:
            os.close(fd)
        subprocess.run(["rm", "-rf", upper], check=True)
    assert ("A", "/etc/passwd") in {
        (c.kind, c.path) for c in found
    }  # the image has no such directory
    assert found[-1].note == "too deep to be looked into" or any(c.note for c in found)
    assert len(found) < 40
