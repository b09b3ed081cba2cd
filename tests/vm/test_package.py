# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian package with systemd: installed, enabled, used, removed, purged.

tests/packaging has the same without systemd, with apt, on Debian 12. Here minipod as the other tests have it is out of
the way. On Ubuntu only, unless with MINIPOD_TEST_VM_ALL=1 (make test-vm): with an emulated CPU it takes minutes each.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod import __version__
from tests.vm.machine import SOURCES, Vm
from tests.vm.pods import (
    ALL,
    SYSTEMS,
    agent_pid,
    get,
    in_vm,
    pod_cgroup,
    processes,
    show,
    until,
)
from tests.vm.test_doctor import examined

pytestmark = in_vm

HOME = "/usr/lib/minipod"
DEB = "/root/minipod.deb"
# The tests' disks are made without documents; what a user's dpkg would unpack is wanted here.
INSTALL = ("dpkg", "--path-include=/usr/share/*", "--install", DEB)
COMPILING = 600.0  # seconds; hundreds of modules, by an emulated CPU
# What dpkg, systemd and Python write about themselves.
NOT_OURS = "proc sys dev run tmp root src var/lib/dpkg var/lib/systemd var/log var/cache/ldconfig"
STAYS = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "stay"},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "localhost/busybox:1",
                "command": ["sleep", "1000"],
                "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
            }
        ]
    },
}


def files(vm: Vm) -> set[str]:
    """Return all paths, but those where others write."""
    leave = " ".join(f"-path /{name} -o" for name in NOT_OURS.split())
    found = vm.sh(f"find / \\( {leave} -name __pycache__ \\) -prune -o -print")
    return set(found.splitlines())


@pytest.fixture
def without(vm: Vm) -> Iterator[None]:
    """minipod as the other tests have it, its Python packages and its data are away meanwhile."""
    vm.sh("minipod agent stop")
    packages = f"/usr/local/lib/python{vm.release.python}/dist-packages"
    moved = ("/usr/local/bin/minipod", packages, "/var/lib/minipod")
    for path in moved:
        vm.run("mv", path, f"{path}.away")
    try:
        yield
    finally:
        vm.sh(f"dpkg --purge minipod; rm -rf {DEB} /var/lib/minipod")
        for path in moved:
            vm.run("mv", f"{path}.away", path)


@pytest.mark.parametrize("vm", SYSTEMS if ALL else SYSTEMS[2:], indirect=True)
@pytest.mark.usefixtures("without")
def test_the_package(vm: Vm, package: Path, busybox_archive: Path) -> None:
    assert vm.run("sh", "-c", "command -v minipod", check=False).stdout == ""
    vm.sh(f"base64 -d >{DEB}", input=base64.b64encode(package.read_bytes()).decode())
    before = files(vm)
    # As if a command of another minipod had started its agent.
    vm.sh("systemd-run --quiet --collect --unit=minipod-agent sleep 1000")
    vm.run(*INSTALL, timeout=COMPILING)
    is_installed(vm)
    vm.run("systemctl", "--quiet", "enable", "minipod-agent.service")
    vm.run("systemctl", "--quiet", "enable", "--now", "minipod-agent.socket")
    runs_pods(vm, busybox_archive)
    said = vm.run("dpkg", "--remove", "minipod", timeout=COMPILING).stdout
    assert "deleting all pods" in said
    until(lambda: vm.sh("pgrep -c minipod || true") == "0\n", "all processes are gone")
    assert vm.sh("systemctl list-units --plain --no-legend 'minipod*'") == ""
    assert vm.sh("find /sys/fs/cgroup -name '*minipod*'") == ""
    assert vm.sh("nft list ruleset") == ""
    assert vm.sh("ls /sys/class/net").split() == ["lo"]
    assert vm.sh("ls /var/lib/minipod/images"), "they stay until it is purged"
    assert vm.run("test", "-e", HOME, check=False).returncode == 1
    vm.run("dpkg", "--purge", "minipod")
    assert files(vm) == before
    assert vm.sh("systemctl list-units --all --plain --no-legend 'minipod*'") == ""
    assert vm.run("test", "-e", "/run/minipod", check=False).returncode == 1


def is_installed(vm: Vm) -> None:
    """Nothing runs any more, all is there, and the doctor is content."""
    assert vm.sh('readlink -f "$(command -v minipod)"').strip() == f"{HOME}/bin/minipod"
    assert vm.run("minipod", "version").stdout == f"minipod {__version__}\n"
    for unit in ("minipod-agent.service", "minipod-agent.socket"):
        assert show(vm, unit, "ActiveState", "UnitFileState") == ["inactive", "disabled"]
    found = examined(vm)
    wrong = {name: check["text"] for name, check in found.items() if check["level"] != "ok"}
    assert wrong.keys() <= {"disk"}, wrong
    assert "at boot after: systemctl enable" in found["systemd"]["text"]
    assert f"{HOME}/" in found["executables"]["text"]
    assert f"minipod {__version__}" in vm.sh("zcat /usr/share/man/man1/minipod.1.gz | head -n3")
    vm.sh("zcat /usr/share/man/man1/minipod-run.1.gz | grep -q '^.SH'")
    script = ". /usr/share/bash-completion/completions/minipod; complete -p minipod"
    assert "minipod" in vm.sh(script)
    vm.sh("test -s /usr/share/zsh/vendor-completions/_minipod")
    vm.sh("test -s /usr/share/fish/vendor_completions.d/minipod.fish")


def runs_pods(vm: Vm, busybox_archive: Path) -> None:
    """The package's own files do it; a pod stays when the service is restarted, and when it is installed anew."""
    vm.run("minipod", "image", "load", f"{SOURCES}/{busybox_archive.name}")
    said = vm.run("minipod", "run", f"{SOURCES}/examples/hello.yaml").stdout
    assert "Hello from a pod" in said
    state = show(vm, "minipod-agent.service", "ActiveState", "FragmentPath", "TriggeredBy")
    unit = "/lib/systemd/system/minipod-agent.service"
    assert [state[0], state[1].removeprefix("/usr"), state[2]] == [
        "active",
        unit,
        "minipod-agent.socket",
    ]
    vm.sh("cat >/root/stay.json; minipod run -d /root/stay.json", input=json.dumps(STAYS))
    pod = get(vm, "stay")
    assert vm.sh(f"cat {pod_cgroup(pod)}/c.0/memory.max").strip() == str(64 << 20)
    agent = vm.sh("tr '\\0' ' ' </proc/$1/cmdline", agent_pid(vm))
    assert agent.startswith(f"{HOME}/bin/python ")
    core = vm.sh("grep -o '/[^ ]*/minipod/native/_core.*' /proc/$1/maps", agent_pid(vm)).split()
    assert {Path(path).parent for path in core} == {Path(HOME, "site-packages/minipod/native")}
    running = processes(vm, pod_cgroup(pod))
    # Installing it anew takes as long as the first time; tests/packaging does that, too, without systemd.
    for command in (("systemctl", "restart", "minipod-agent"), *([INSTALL] * ALL)):
        old = agent_pid(vm)
        vm.run(*command, timeout=COMPILING)
        assert get(vm, "stay")["status"]["containerStatuses"][0]["restartCount"] == 0
        assert agent_pid(vm) not in (old, "0")
        assert processes(vm, pod_cgroup(pod)) == running
    assert vm.run("minipod", "exec", "stay", "--", "echo", "still here").stdout == "still here\n"
