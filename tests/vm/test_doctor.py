# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor on each release, with systemd, cgroup v2 alone and AppArmor: what is there, and what is taken away."""

from __future__ import annotations

import json
from typing import Any

from tests.vm.machine import Vm
from tests.vm.pods import each_system, in_vm

pytestmark = in_vm

# Two of the host's programs, and what their absence means.
MISSING = {
    "nft": ("nftables", "fail", "sudo apt install nftables"),
    "apparmor_parser": ("apparmor", "warn", "sudo apt install apparmor"),
}


def examined(vm: Vm, code: int = 0) -> dict[str, dict[str, Any]]:
    """Return what the doctor says of each thing."""
    done = vm.run("minipod", "doctor", "-o", "json", check=False)
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    found = json.loads(done.stdout)
    assert found["ok"] is (code == 0)
    return {check["name"]: check for check in found["checks"]}


@each_system
def test_nothing_is_missing(vm: Vm) -> None:
    found = examined(vm)
    wrong = {name: check["text"] for name, check in found.items() if check["level"] != "ok"}
    assert wrong.keys() <= {"disk"}, wrong  # the test's disk is small
    cgroups = found["cgroups"]["text"]
    assert cgroups.startswith("v2 with ") and "v1" not in cgroups
    assert all(name in cgroups for name in ("cpu", "memory", "pids"))
    assert "confines" in found["apparmor"]["text"]
    assert "starts the agent on demand" in found["systemd"]["text"]
    assert vm.sh("uname -r").strip() in found["kernel"]["text"]
    for line in vm.run("minipod", "doctor").stdout.splitlines():
        assert line.startswith(("ok    ", "warn  ", "      hint: ")), line


@each_system
def test_what_is_missing_is_named_with_the_command_that_mends_it(vm: Vm) -> None:
    for program, (check, level, command) in MISSING.items():
        path = vm.sh(f"command -v {program}").strip()
        vm.run("mv", path, f"{path}.away")
        try:
            found = examined(vm, 1 if level == "fail" else 0)[check]
        finally:
            vm.run("mv", f"{path}.away", path)
        assert (found["level"], found["remedy"]) == (level, command)
    assert examined(vm)["nftables"]["level"] == "ok"
