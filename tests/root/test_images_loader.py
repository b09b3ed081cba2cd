# SPDX-License-Identifier: GPL-3.0-or-later
"""The loader process: its messages, and what it has given up before it reads an image."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minipod.images import ImageStore, builder
from minipod.images.loader import KEPT_CAPABILITIES

pytestmark = pytest.mark.requires("root")

LAYERS = [{"a": b"1", ".wh.b": b"", "d/.wh..wh..opq": b""}]


def run(request: Any, **more: Any) -> tuple[int, list[dict[str, Any]]]:
    line = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
    command = [sys.executable, "-m", "minipod.images.loader"]
    done = subprocess.run(command, input=line, stdout=subprocess.PIPE, check=False, **more)
    return done.returncode, [json.loads(message) for message in done.stdout.splitlines()]


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    built = builder.write_oci_archive(path, "localhost/a:1", LAYERS)
    code, messages = run({"root": str(tmp_path / "store"), "path": str(path)})
    assert code == 0
    assert messages[-1] == {"done": ["localhost/a:1"], "images": [built.manifest.digest]}
    assert all(set(message) == {"progress"} for message in messages[:-1])
    assert messages[0]["progress"]["total"] == built.layers[0].size
    assert ImageStore(str(tmp_path / "store")).get("localhost/a:1")


def test_name_and_inherited_fd(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    builder.write_docker_archive(path, "", LAYERS)
    fd = os.open(path, os.O_RDONLY)
    try:
        request = {"root": str(tmp_path / "store"), "fd": fd, "name": "x", "platform": None}
        code, messages = run(request, pass_fds=[fd])
    finally:
        os.close(fd)
    assert (code, messages[-1]["done"]) == (0, ["docker.io/library/x:latest"])


def test_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    builder.write_oci_archive(path, "localhost/a:1", [[("../x", b"")]])
    code, messages = run({"root": str(tmp_path / "store"), "path": str(path)})
    error = messages[-1]["error"]
    assert (code, error["reason"], error["exitCode"]) == (1, "Invalid", 2)
    assert error["what"].startswith(str(path)) and '".."' in error["what"] and error["remedy"]


@pytest.mark.parametrize(
    "request_", [b"", b"{}\n", b"[]\n", b"nonsense\n", {"root": "/tmp"}, {"path": "/x"}]
)
def test_bad_requests(request_: Any) -> None:
    code, messages = run(request_)
    assert code == 1
    assert set(messages[-1]) == {"error"}


def test_confined() -> None:
    code = (
        "from minipod.images.loader import confine; confine();"
        "print(open('/proc/self/status').read()); print('net', *open('/proc/self/net/dev'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    status = dict(
        line.split(":\t", 1) for line in said.split("net")[0].splitlines() if ":\t" in line
    )
    numbers = {
        "chown": 0,
        "dac_override": 1,
        "fowner": 3,
        "fsetid": 4,
        "sys_admin": 21,
        "setfcap": 31,
    }
    kept = sum(1 << numbers[name] for name in KEPT_CAPABILITIES)
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[kind], 16) == kept
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    devices = [
        line.split(":")[0].strip() for line in said.splitlines() if ":" in line and "|" not in line
    ]
    assert "lo" in devices and "eth0" not in devices


INSIDE = """
import json, os, socket, sys
from minipod.images import loader
from minipod.images.layout import Layout

store, agent, outside, network = sys.argv[1:]
loader.confine(network=bool(network))
loader._seclude({"root": store}, network=bool(network))

def tried(act):
    try:
        act()
    except OSError as error:
        return error.strerror
    return ""

def unix():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(agent)

def listened():
    with socket.socket(socket.AF_INET) as sock:
        sock.bind(("127.0.0.1", 0))

def written():
    with open(f"{store}/tmp/new", "w") as file:
        file.write("new")
    os.setxattr(f"{store}/tmp/new", "trusted.overlay.opaque", b"y")
    os.chown(f"{store}/tmp/new", 1000, 1000)
    os.mknod(f"{store}/tmp/whiteout", 0o020000, 0)

def looked_up():
    import stringprep  # which nobody has needed so far
    socket.getaddrinfo("localhost", 1)

import ctypes
libc = ctypes.CDLL(None, use_errno=True)

def called(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

acts = {
    "agent": unix,
    "agent's path": lambda: os.stat(agent),
    "outside": lambda: os.stat(outside),
    "write outside": lambda: open(outside, "w"),
    "shadow": lambda: open("/etc/shadow"),
    "proc": lambda: os.listdir("/proc/1"),
    "system": lambda: open("/usr/evil", "w"),
    "root": lambda: open("/evil", "w"),
    "up": lambda: os.stat(f"{store}/.." * 9 + "/etc/shadow"),
    "socket pair": lambda: socket.socketpair(),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "exec": lambda: os.execv("/usr/bin/env", ["env"]),
    "fork": lambda: os.fork() or os._exit(0),
    "kill": lambda: os.kill(os.getppid(), 0),
    "mount": lambda: called("mount", b"none", store.encode(), b"tmpfs", 0, None),
    "unmount": lambda: called("umount2", store.encode(), 2),
    "chroot": lambda: os.chroot(store),
    "namespace": lambda: called("unshare", 0x00020000),
    "device": lambda: os.mknod(f"{store}/tmp/null", 0o020000, os.makedev(1, 3)),
    "terminal": lambda: called("ioctl", 0, 0x5412, b"x"),
    "freeze": lambda: called("ioctl", os.open(store, os.O_RDONLY), 0xC0045877, 0),
    "io_uring": lambda: called("syscall", 425, 1, None),
    "internet": listened,
    "store": written,
    "names": looked_up,
}
print(json.dumps({name: tried(act) for name, act in acts.items()} | {"/": sorted(os.listdir("/"))}))
"""


@pytest.mark.parametrize("network", ["1", ""])
def test_secluded(tmp_path: Path, network: str) -> None:
    """Seen from inside: neither the agent nor anything else of the host, but the store."""
    store, outside = tmp_path / "store", tmp_path / "outside"
    outside.write_text("keep")
    with socket.socket(socket.AF_UNIX) as agent:
        path = tmp_path / "agent.sock"
        agent.bind(str(path))
        agent.listen()
        command = [sys.executable, "-c", INSIDE, *map(str, (store, path, outside)), network]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    no, missing, fixed = (
        "Operation not permitted",
        "No such file or directory",
        "Read-only file system",
    )
    tops = seen.pop("/")
    assert (seen.pop("names") == "") == bool(network)
    assert seen == {
        "agent": "Permission denied",
        "agent's path": missing,
        "outside": missing,
        "write outside": fixed,
        "shadow": missing,
        "proc": missing,
        "system": fixed,
        "root": fixed,
        "up": missing,
        "socket pair": no,
        "netlink": "Permission denied",
        "exec": no,
        "fork": no,
        "kill": no,
        "mount": no,
        "unmount": no,
        "chroot": no,
        "namespace": no,
        "device": no,
        "terminal": no,
        "freeze": no,
        "io_uring": no,
        "internet": "" if network else "Permission denied",
        "store": "",
    }
    assert not {"proc", "sys", "dev", "run", "boot"} & set(tops)
    assert outside.read_text() == "keep"
