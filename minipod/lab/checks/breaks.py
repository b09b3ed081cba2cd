# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the labs in which pods of minipod break, and are mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minipod.lab import kernel
from minipod.lab.kernel import Process
from minipod.lab.look import Bench, NotYet

Json = dict[str, Any]

_SIGTERM = 15
_LISTEN = "0A"  # TCP_LISTEN in /proc/PID/net/tcp
_NOTHING = 1 << 60  # bytes: what version 1 shows where there is no limit is about 2^63


def memory(bench: Bench) -> Iterator[str]:
    """A container that was killed for its memory, and lives with more."""
    pod = bench.pod()
    status = _status(pod, "hungry")
    ended = status.get("lastState", {}).get("terminated", {})
    if (ended.get("exitCode"), ended.get("reason")) != (137, "OOMKilled"):
        raise NotYet(
            "the container's last run did not end as OOMKilled",
            "minipod describe pod lab14 -n lab; minipod lab start 14 begins anew",
        )
    yield f"its last run was killed: {ended['reason']}, exit code 137, which is 128 + SIGKILL"
    process = _running(bench, pod, "hungry", "minipod resize lab14 -n lab --limits memory=256Mi")
    path, limit = _memory_limit(process)
    if limit < 64 << 20:
        raise NotYet(f"{path} is {limit}", "minipod resize lab14 -n lab --limits memory=256Mi")
    yield f"{process} runs now; {path} is {'max' if limit >= _NOTHING else limit}"


def zombies(bench: Bench) -> Iterator[str]:
    """A pod whose orphans are reaped by pause, its PID 1."""
    pod = bench.pod()
    first = _running(bench, pod, "careless", "minipod get pods -n lab")
    (pause,) = bench.sandbox(pod)[:1] or (None,)
    everyone = [*bench.inside(pod, "careless"), *([pause] if pause else [])]
    if dead := kernel.zombies({each.pid for each in everyone}):
        raise NotYet(
            f"there are {len(dead)} zombies, children of {first}",
            "its PID 1 does not wait for children; give the pod one that does: "
            "shareProcessNamespace: true",
        )
    yield "no process of the pod has a zombie for a child"
    if pause is None or first.ns("pid") != pause.ns("pid"):
        raise NotYet(
            f"{first} is PID 1 itself, of {first.ns('pid')}",
            "delete the pod, and create it with shareProcessNamespace: true",
        )
    yield f"{first} is in {pause.ns('pid')}, whose PID 1 is {pause}"


def deaf(bench: Bench) -> Iterator[str]:
    """A container whose first process has a handler for SIGTERM."""
    pod = bench.pod()
    process = _running(bench, pod, "deaf", "minipod get pods -n lab")
    yield f"{process} is PID {process.status('NSpid')[-1]} of its namespace"
    caught = int((process.status("SigCgt") or ["0"])[0], 16)
    if not caught >> (_SIGTERM - 1) & 1:
        raise NotYet(
            f"it has no handler for SIGTERM (SigCgt in {process.proc}/status): PID 1 does not get it",
            "create the pod anew with a command that has: trap 'exit 0' TERM",
        )
    yield "it has a handler for SIGTERM"


def disk(bench: Bench) -> Iterator[str]:
    """A container that writes its data to a volume with a size, and not to its own layer."""
    pod = bench.pod()
    if pod["status"].get("reason") == "Evicted":
        raise NotYet(
            "the pod was evicted: " + str(pod["status"].get("message", "")),
            "delete it, and create it with a volume at /data: emptyDir, medium Memory, sizeLimit 32Mi",
        )
    process = _running(bench, pod, "hoarder", "minipod get pods -n lab")
    found = [each for each in process.mounts() if each.target == "/data"]
    if not found or found[-1].kind != "tmpfs" or not found[-1].option("size"):
        kind = found[-1].kind if found else "the container's own layer"
        raise NotYet(
            f"/data of {process} is on {kind}",
            "mount an emptyDir there, with medium: Memory and sizeLimit: 32Mi",
        )
    yield f"/data of {process} is a tmpfs with size={found[-1].option('size')}"
    file = process.proc / "root/data/file"
    size = file.stat().st_size if file.exists() else 0
    if size < 20 << 20:
        raise NotYet(f"/data/file has {size} of 20971520 bytes", "minipod logs lab17 -n lab")
    yield f"/data/file has {size} bytes"


def loop(bench: Bench) -> Iterator[str]:
    """A container that failed again and again, and has what it needs now."""
    pod = bench.pod()
    status = _status(pod, "needy")
    if not status.get("restartCount"):
        raise NotYet("it was never restarted", "minipod lab start 18 begins anew")
    yield f"it was restarted {status['restartCount']} times"
    process = _running(
        bench, pod, "needy", "minipod logs lab18 -n lab -p says why; then wait for the back-off"
    )
    yield f"{process} runs now"
    file = process.proc / "root/config/greeting"
    if not file.is_file():
        raise NotYet("there is no /config/greeting", "the pod has it from the ConfigMap lab18")
    yield "it has /config/greeting"


def clash(bench: Bench) -> Iterator[str]:
    """Two containers of one pod, each with a port of its own."""
    pod = bench.pod()
    both = [
        _running(bench, pod, name, f"minipod logs lab19 -n lab -c {name} says why")
        for name in ("one", "two")
    ]
    yield f"{both[0]} and {both[1]} run"
    if both[0].ns("net") != both[1].ns("net"):
        raise NotYet("they are not in one network namespace", "both belong into the pod lab19")
    yield f"both are in {both[0].ns('net')}"
    ports = _listening(both[0])
    if len(ports) < 2:
        raise NotYet(
            f"only the ports {sorted(ports)} are listened on in there", "give each its own port"
        )
    yield f"in there the ports {', '.join(map(str, sorted(ports)))} are listened on"


def _status(pod: Json, name: str) -> Json:
    statuses: list[Json] = pod.get("status", {}).get("containerStatuses", [])
    return next((each for each in statuses if each["name"] == name), {})


def _running(bench: Bench, pod: Json, name: str, hint: str) -> Process:
    """Return the first process of a container, by its cgroup."""
    found = bench.inside(pod, name)
    if not found:
        states: Json = _status(pod, name).get("state", {})
        reasons = [each["reason"] for each in states.values() if "reason" in each]
        why = (reasons or ["not started"])[0]
        raise NotYet(f"no process of the container {name} lives: {why}", hint)
    here = {each.pid for each in found}
    return next(each for each in found if each.parent not in here)


def _memory_limit(process: Process) -> tuple[Path, int]:
    """Return the file with the memory limit of a process's cgroup, and the limit in bytes."""
    top = kernel.hierarchies()["memory"]
    is_v2 = (top / "cgroup.controllers").exists()
    cgroup = process.cgroups()["" if is_v2 else "memory"]
    path = top / cgroup.lstrip("/") / ("memory.max" if is_v2 else "memory.limit_in_bytes")
    text = path.read_text().strip()
    return path, _NOTHING if text == "max" else int(text)


def _listening(process: Process) -> set[int]:
    """Return the TCP ports that are listened on where a process is."""
    ports = set()
    for name in ("tcp", "tcp6"):
        for line in (process.proc / "net" / name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTEN:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports
