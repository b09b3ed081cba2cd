# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of ``tests/root`` in the machine, whose instances have agents that systemd did not start.

With MINIPOD_TEST_VM_ALL=1 (make test-vm) only: emulation is slow.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.machine import SOURCES, Vm
from tests.vm.pods import ALL, in_vm

pytestmark = in_vm

HOUR = 3600.0  # a file takes some minutes; on a busy host a quarter of an hour


SUITES = ["containers", "deletion", "leaks", "network_live", "posture", "recovery", "resources"]
SUITES += ["restarts", "seccomp_filter", "sharing", "volumes"]


def run_suite(vm: Vm, probe_program: Path, name: str) -> None:
    env = {
        "MINIPOD_TEST_PROBE": f"{SOURCES}/{probe_program.name}",
        "MINIPOD_TEST_STRICT": "1",
    }
    vm.sh("minipod agent stop || true")  # another agent is not what these tests expect
    script = f"cd {SOURCES}; exec python3 -m pytest -q tests/root/test_{name}.py"
    done = vm.run("bash", "-c", script, env=env, timeout=HOUR, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"tests/root/test_{name}.py fails in the virtual machine"


# Left out, not skipped: a skip would be a failure where skips are.
if ALL:

    @pytest.mark.parametrize("name", SUITES)
    def test_suite(vm: Vm, probe_program: Path, name: str) -> None:
        run_suite(vm, probe_program, name)
