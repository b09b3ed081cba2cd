# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests ask of the machine again and again: pods, cgroups, units."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.features import requires
from tests.vm.machine import Vm

# The disks are made of packages for x86_64, whose scripts are run.
NEEDED = ("root", "x86_64", "tool:qemu-system-x86_64", "tool:mmdebstrap", "tool:mkfs.ext4")
SUITES = ("bookworm", "trixie", "noble")
in_vm = requires(*NEEDED)
# What `make test-vm` adds, because with an emulated CPU it takes long.
ALL = os.environ.get("MINIPOD_TEST_VM_ALL", "") not in ("", "0")
SYSTEMS = (*SUITES[:2], pytest.param(SUITES[2], marks=requires("ubuntu-archive")))
# Everything is tried on one release, much on each of Debian, and the core of it all on Ubuntu, too.
each_system = pytest.mark.parametrize("vm", SYSTEMS, indirect=True)
every_release = pytest.mark.parametrize("vm", SYSTEMS if ALL else SYSTEMS[:2], indirect=True)

SCOPE = "/sys/fs/cgroup/system.slice/minipod.scope"
SERVICE = "/sys/fs/cgroup/system.slice/minipod-agent.service"
UNIT = "/etc/systemd/system/minipod-agent.service"
SOCKET_UNIT = "/etc/systemd/system/minipod-agent.socket"

Run = Callable[..., dict[str, Any]]


def get(vm: Vm, name: str) -> dict[str, Any]:
    """Return the pod as the agent has it."""
    pod: dict[str, Any] = json.loads(vm.run("minipod", "get", "pod", name, "-o", "json").stdout)
    return pod


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what systemd or the agent does by itself."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, f"not within two minutes: {what}"
        time.sleep(0.3)


def pod_cgroup(pod: dict[str, Any]) -> str:
    quality = pod["status"]["qosClass"]
    level = "" if quality == "Guaranteed" else f"/{quality.lower()}"
    return f"{SCOPE}/minipod{level}/pod{pod['metadata']['uid']}"


def processes(vm: Vm, cgroup: str) -> dict[int, str]:
    """Return name and start time of each process in *cgroup* and below: equal before and after means untouched."""
    script = 'for p in $(find "$1" -name cgroup.procs -exec cat {} +); do cat /proc/$p/stat; done'
    lines = vm.sh(script, cgroup).splitlines()
    return {int(x.split()[0]): f"{x.split()[1]} {x.rsplit(')', 1)[1].split()[19]}" for x in lines}


def show(vm: Vm, unit: str, *properties: str) -> list[str]:
    """Return properties of a unit."""
    flags = [f"--property={name}" for name in properties]
    lines = vm.run("systemctl", "show", *flags, unit).stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return [found[name] for name in properties]


def agent_pid(vm: Vm) -> str:
    return show(vm, "minipod-agent.service", "MainPID")[0]


def weight(vm: Vm, cgroup: str) -> int:
    return int(vm.sh(f"cat {cgroup}/cpu.weight"))


def container_pid(vm: Vm, name: str) -> str:
    cgroup = pod_cgroup(get(vm, name))
    return vm.sh(f"head -n1 {cgroup}/c.*/cgroup.procs").strip()
