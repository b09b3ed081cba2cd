# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside the virtual machine: executes the host's commands, one JSON line each, over a virtio serial port.

Request: ``{"command": [...], "input": text, "env": {...}, "timeout": seconds}``; answer: ``{"code", "stdout",
"stderr"}``, with code -1 when the time was over. The first line is ours: ``{"ready": true}``.
"""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import tempfile
import time
from typing import Any

PORTS = "/dev/vport*p1"  # the device's number depends on what else there is
LIMIT = 8 << 20  # of what is sent back, per stream


def execute(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command; its output goes to files, so that a daemon that keeps them open does not hold us."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            request["command"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd="/root",
            env={**os.environ, **request.get("env", {})},
            start_new_session=True,
        )
        try:
            process.communicate(request.get("input", "").encode(), request["timeout"])
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = -1
        texts = []
        for file in (out, err):
            file.seek(max(0, file.seek(0, os.SEEK_END) - LIMIT))
            texts.append(file.read().decode(errors="replace"))
    return {"code": code, "stdout": texts[0], "stderr": texts[1]}


def main() -> None:
    """Serve until the machine is switched off."""
    # What systemd says to this service is not for the commands that it runs.
    for name in ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"):
        os.environ.pop(name, None)
    while not (ports := glob.glob(PORTS)):
        time.sleep(0.05)
    with open(ports[0], "r+b", buffering=0) as port:
        port.write(b'{"ready": true}\n')
        data = b""
        while True:
            data += port.read(65536)
            while b"\n" in data:
                line, _, data = data.partition(b"\n")
                try:
                    answer = execute(json.loads(line))
                except OSError as error:
                    answer = {"code": -1, "stdout": "", "stderr": str(error)}
                text = json.dumps(answer).encode() + b"\n"
                while text:
                    text = text[port.write(text) :]


if __name__ == "__main__":
    main()
