# SPDX-License-Identifier: GPL-3.0-or-later
"""The loader process: its messages, and what it has given up before it reads an image."""

from __future__ import annotations

import json
import os
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
        "mknod": 27,
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
