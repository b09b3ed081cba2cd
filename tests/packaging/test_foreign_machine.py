# SPDX-License-Identifier: GPL-3.0-or-later
"""The other architecture's wheel in a machine of that architecture: its containers run, on a kernel of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from native.packaging import cross
from tests.features import requires
from tests.instance import TOP
from tests.packaging.conftest import Built
from tests.vm import machine
from tests.vm.image import Kind, image
from tests.vm.machine import SOURCES, Vm
from tests.vm.release import FOREIGN

ARCH = cross.ARCHITECTURES[FOREIGN.machine]
TOOLS = ("tool:mmdebstrap", "tool:mkfs.ext4", f"tool:qemu-system-{ARCH.name}")
pytestmark = requires("root", "x86_64", *TOOLS)

# With MINIPOD_TEST_VM_ALL=1 only: what of minipod is not the same C and Python as here.
SUITES = ("posture", "seccomp_filter", "sharing", "native_steps", "user_namespace")
TREE = "for n in sh cat id sleep uname; do ln -s busybox $n; done"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "foreign"},
    "spec": {
        "restartPolicy": "Never",
        "volumes": [{"name": "shared", "emptyDir": {"medium": "Memory"}}],
        "containers": [
            {
                "name": "says",
                "image": "localhost/tree:1",
                "command": ["sh", "-c", "uname -m; cat /proc/1/status; sleep 1000"],
                "resources": {"limits": {"memory": "64Mi", "cpu": "1"}},
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            },
            {
                "name": "hears",
                "image": "localhost/tree:1",
                "command": ["sh", "-c", "id -u; echo 1 >/shared/one; sleep 1000"],
                "securityContext": {"runAsUser": 1000},
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            },
        ],
    },
}


@pytest.fixture(scope="module")
def vm(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """The machine, with the wheel and the probe."""
    directory = tmp_path_factory.mktemp("foreign")
    probe = directory / "probe"
    flags = ("-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static")
    compiler = cross.musl_compiler(ARCH, directory)
    subprocess.run([compiler, *flags, TOP / "tests/probe/probe.c", "-o", probe], check=True)
    disk = directory / "payload.tar"
    machine.payload(disk, built.foreign, probe)
    booted = machine.boot(image(FOREIGN, Kind.FOREIGN), disk)
    try:
        # What is compiled in the checkout is this machine's.
        wheel = f"/usr/local/lib/python{FOREIGN.python}/dist-packages/minipod"
        booted.sh(f"rm -r {SOURCES}/minipod; ln -s {wheel} {SOURCES}/minipod")
        yield booted
    finally:
        booted.stop()


def test_a_pod_runs(vm: Vm) -> None:
    vm.sh(f"mkdir -p /srv/bin; cp /bin/busybox /srv/bin; cd /srv/bin; {TREE}")
    vm.run("minipod", "image", "from-dir", "/srv", "localhost/tree:1", timeout=300)
    tree = json.loads(vm.run("minipod", "image", "inspect", "localhost/tree:1").stdout)
    assert tree["architecture"] == FOREIGN.architecture
    vm.sh("cat >pod.json; minipod run -d pod.json", input=json.dumps(POD), timeout=300)
    said = vm.run("minipod", "logs", "foreign", "-c", "says").stdout
    status = dict(line.split(":\t", 1) for line in said.splitlines()[1:])
    assert said.splitlines()[0] == FOREIGN.machine
    assert (status["Name"], status["NSpid"], status["Seccomp"]) == ("sh", "1", "2")
    assert status["CapEff"] == status["CapBnd"] == "00000000800405fb"  # containerd's defaults
    assert vm.run("minipod", "logs", "foreign", "-c", "hears").stdout == "1000\n"
    done = vm.run("minipod", "exec", "foreign", "-c", "says", "--", "cat", "/shared/one")
    assert done.stdout == "1\n"
    limits = vm.sh("find /sys/fs/cgroup -name memory.max -exec cat {} +").split()
    assert str(64 << 20) in limits
    vm.run("minipod", "delete", "pod", "foreign", "--grace-period=0")
    assert not vm.sh("ip -o link show type veth; pgrep -x minipod-shim || true")
    vm.run("minipod", "agent", "stop")


# Left out, not skipped: a skip would be a failure where skips are.
if os.environ.get("MINIPOD_TEST_VM_ALL", "") not in ("", "0"):

    @pytest.mark.parametrize("name", SUITES)
    def test_suite(vm: Vm, name: str) -> None:
        env = {"MINIPOD_TEST_PROBE": f"{SOURCES}/probe", "MINIPOD_TEST_STRICT": "1"}
        script = f"cd {SOURCES}; exec python3 -m pytest -q tests/root/test_{name}.py"
        done = vm.run("bash", "-c", script, env=env, timeout=3600, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
