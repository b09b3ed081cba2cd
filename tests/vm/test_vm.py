# SPDX-License-Identifier: GPL-3.0-or-later
"""minipod as it is installed, on a machine with Linux 6.1, cgroup v2 alone, systemd as PID 1 and all capabilities.

The tests share one virtual machine and run in this order; each removes its own pods. The last ones run files of
``tests/root`` in there (:data:`SUITES`), whose instances have agents that systemd did not start.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import Images
from tests.features import requires
from tests.vm import image, machine
from tests.vm.machine import SOURCES, Vm

TOOLS = ("qemu-system-x86_64", "mmdebstrap", "mkfs.ext4")
pytestmark = requires("root", *(f"tool:{name}" for name in TOOLS))

SCOPE = "/sys/fs/cgroup/system.slice/minipod.scope"
SERVICE = "/sys/fs/cgroup/system.slice/minipod-agent.service"
UNIT = "/etc/systemd/system/minipod-agent.service"
# Of tests/root; with MINIPOD_TEST_VM_ALL=1 (make test-vm) only, because emulation is slow: about a quarter of an hour.
SUITES = ["containers", "deletion", "leaks", "network_live", "posture", "recovery", "resources"]
SUITES += ["restarts", "seccomp_filter", "sharing", "volumes"]


@pytest.fixture(scope="session")
def vm(
    busybox_archive: Path,
    probe_program: Path,
    images: Images,
    image_maker: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Vm]:
    """The machine, with images to load and the probe beside the sources."""
    entry, layer = image_maker.Entry, image_maker.layer
    lower = [layer([entry("where", 0o644, b"lowest\n"), entry("low", 0o644, b"low\n")])]
    lower += [layer([entry("where", 0o644, b"middle\n"), entry("middle", 0o644, b"middle\n")])]
    layers = images.probe("layers", {}, ("where", b"top\n", ""), layers=lower)
    directory = tmp_path_factory.mktemp("vm")
    payload = machine.payload(directory, busybox_archive, probe_program, layers)
    vm = machine.boot(image.image(), payload)
    try:
        for archive in (busybox_archive, layers):
            vm.run("minipod", "image", "load", f"{SOURCES}/{archive.name}")
        yield vm
    finally:
        vm.stop()


@pytest.fixture
def run(vm: Vm) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes pods and removes them at the end: ``run(name, *command, **container)`` returns the running pod.

    *spec* is for fields of the pod; containers in there come in place of the one that is described here.
    """
    made: list[str] = []

    def start(
        name: str, *command: str, spec: dict[str, Any] | None = None, **container: Any
    ) -> dict[str, Any]:
        made.append(name)
        box = {"name": "c", "image": "localhost/busybox:1", "command": command, **container}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
        manifest["spec"] = {"containers": [box], "restartPolicy": "Never", **(spec or {})}
        vm.sh('cat >"$1"; minipod run -d "$1"', f"/root/{name}.json", input=json.dumps(manifest))
        return get(vm, name)

    yield start
    for name in made:
        vm.run("minipod", "delete", "pod", name, "--grace-period=0")


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


# ---- the machine is what we want to test on --------------------------------------------------------------------


def test_the_machine_is_another_one(vm: Vm) -> None:
    assert vm.sh("cat /proc/1/comm").strip() == "systemd"
    assert vm.sh("stat -f -c %T /sys/fs/cgroup").strip() == "cgroup2fs"
    assert "cgroup\n" not in vm.sh("awk '{print $3}' /proc/mounts")
    assert vm.sh("uname -r").startswith("6.1.")
    assert vm.sh("grep CapEff /proc/self/status").split()[1] == "000001ffffffffff"


# ---- under systemd -----------------------------------------------------------------------------------------------


def test_the_agent_is_a_service_and_pods_are_in_a_delegated_scope(
    vm: Vm, run: Callable[..., dict[str, Any]]
) -> None:
    pod = run("tree", "sleep", "1000")
    kind = show(vm, "minipod-agent.service", "ActiveState", "Type", "KillMode", "Transient")
    assert kind == ["active", "notify", "process", "yes"]
    scope = show(vm, "minipod.scope", "ActiveState", "Delegate", "ControlGroup", "TasksMax")
    assert scope == ["active", "yes", "/system.slice/minipod.scope", "infinity"]
    assert list(processes(vm, SERVICE)) == [int(agent_pid(vm))], "shims are not in the service"
    names = [x.split()[0] for x in processes(vm, f"{SCOPE}/shims").values()]
    assert sorted(names) == ["(minipod-shim)", "(sleep)"]
    names = [x.split()[0] for x in processes(vm, pod_cgroup(pod)).values()]
    assert sorted(names) == ["(minipod-pause)", "(sleep)"]
    assert vm.sh("ls /sys/fs/cgroup | grep minipod || true") == "", "nothing at the tree's root"


def test_limits_and_privileges(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    limits = {"cpu": "500m", "memory": "64Mi"}
    pod = run("limited", "sleep", "1000", resources={"limits": limits})
    assert pod["status"]["qosClass"] == "Guaranteed"
    expected = {
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "cpu.max": "50000 100000",
        "cpu.weight": "59",
        "memory.min": "67108864",
        "pids.max": "4096",
    }
    for name, value in expected.items():
        assert vm.sh(f"cat {pod_cgroup(pod)}/{name}").strip() == value, name
        if name != "pids.max":
            assert vm.sh(f"cat {pod_cgroup(pod)}/c.0/{name}").strip() == value, name
    inside = "cat /proc/self/cgroup /proc/1/oom_score_adj; ulimit -Hn; ulimit -Sn"
    seen = vm.run("minipod", "exec", "limited", "--", "sh", "-c", inside).stdout.split()
    assert seen == ["0::/", "-997", "1048576", "1048576"]
    notes = json.loads(vm.run("minipod", "agent", "status", "-o", "json").stdout)["notes"]
    assert notes == [], "this machine lacks nothing"


def weight(vm: Vm, cgroup: str) -> int:
    return int(vm.sh(f"cat {cgroup}/cpu.weight"))


def test_classes_and_memory_on_cgroup2(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    resources = {
        "requests": {"cpu": "100m", "memory": "32Mi"},
        "limits": {"memory": "64Mi"},
    }
    pod = run("burst", "sleep", "1000", resources=resources)
    run("best", "sleep", "1000")
    expected = {
        "cpu.weight": "17",
        "cpu.max": "max 100000",
        "memory.min": str(32 << 20),
        "memory.high": str(int(60.8 * (1 << 20)) // 4096 * 4096),
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
    }
    for name, value in expected.items():
        assert vm.sh(f"cat {pod_cgroup(pod)}/c.0/{name}").strip() == value, name
    assert pod_cgroup(pod).startswith(f"{SCOPE}/minipod/burstable/pod")
    assert weight(vm, f"{SCOPE}/minipod/burstable") == 17
    assert weight(vm, f"{SCOPE}/minipod/besteffort") == 1
    assert weight(vm, f"{SCOPE}/minipod") >= 100, "all pods weigh what the machine has"
    assert vm.sh(f"cat {SCOPE}/minipod/memory.min").strip() == str(32 << 20)
    conditions = {c["type"]: c for c in pod["status"]["conditions"]}
    assert "below systemd's slices" in conditions["minipod.dev/Degraded"]["message"]


def test_out_of_memory_ends_the_whole_container(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    """memory.oom.group: the shell that waits for the one who took too much does not go on without it."""
    limits = {"cpu": "1", "memory": "32Mi"}
    script = "tail /dev/zero & wait; sleep 1000"
    run("group", "sh", "-c", script, resources={"limits": limits})
    until(lambda: bool(get(vm, "group")["status"]["phase"] == "Failed"), "all of it is killed")
    state = get(vm, "group")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)


def test_resize_on_cgroup2(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    resources = {
        "requests": {"cpu": "100m", "memory": "16Mi"},
        "limits": {"cpu": "500m", "memory": "64Mi"},
    }
    pod = run("resized", "sleep", "1000", resources=resources)
    vm.run("minipod", "resize", "resized", "--limits", "cpu=250m,memory=32Mi")
    for place in (pod_cgroup(pod), f"{pod_cgroup(pod)}/c.0"):
        assert vm.sh(f"cat {place}/memory.max").strip() == str(32 << 20)
        assert vm.sh(f"cat {place}/cpu.max").strip() == "25000 100000"
    high = int(30.4 * (1 << 20)) // 4096 * 4096
    assert vm.sh(f"cat {pod_cgroup(pod)}/c.0/memory.high").strip() == str(high)
    # Guaranteed in memory: nothing is slowed down any more. The class stays, for cpu.
    vm.run("minipod", "resize", "resized", "--requests", "memory=32Mi")
    assert vm.sh(f"cat {pod_cgroup(pod)}/c.0/memory.high").strip() == "max"
    assert vm.sh(f"cat {pod_cgroup(pod)}/memory.min").strip() == str(32 << 20)
    status = get(vm, "resized")["status"]["containerStatuses"][0]
    assert status["restartCount"] == 0
    assert status["resources"]["limits"] == {"cpu": "250m", "memory": "32Mi"}
    assert "resized" in vm.run("minipod", "top", "pods").stdout


def test_processes_are_born_in_their_cgroup(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    run("born", "sleep", "1000")
    script = """
    shim=$(pgrep -x minipod-shim)
    strace -f -o /root/born.strace -e trace=clone3 -p $shim 2>/root/born.err &
    until grep -q attached /root/born.err; do sleep 0.1; done
    minipod exec born -- cat /proc/self/cgroup
    kill $!; wait $! || true; cat /root/born.strace
    """
    seen = vm.sh(script)
    assert seen.startswith("0::/"), seen
    assert "CLONE_INTO_CGROUP" in seen, seen


def test_devices_are_filtered(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    run("devices", "sleep", "1000")
    # A container cannot make nodes (no MKNOD), so we do. The null device is the counter-proof.
    disk = vm.sh("stat -c '%Hr %Lr' /dev/vda").strip()
    dev = f"/proc/{container_pid(vm, 'devices')}/root/dev"
    vm.sh(f"mknod -m 666 {dev}/n c 1 3; mknod -m 666 {dev}/d b {disk}; head -c1 {dev}/d >/dev/null")
    vm.run("minipod", "exec", "devices", "--", "cat", "/dev/n")
    done = vm.run("minipod", "exec", "devices", "--", "head", "-c1", "/dev/d", check=False)
    assert done.returncode == 1
    assert "/dev/d: Operation not permitted" in done.stderr


# Refuses what no default does; "file" is all that is not denied.
PROFILE = """profile vm-test flags=(attach_disconnected,mediate_deleted) {
  capability, file, mount, network, ptrace, signal, umount,
  deny /etc/passwd r,
}
"""


def test_apparmor(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    """Each container says who confines it, and what of it works: to mount, and to read a file."""
    vm.run("apparmor_parser", "--replace", "--skip-cache", input=PROFILE)
    script = "cat /proc/self/attr/current; mount -t tmpfs none /tmp && echo mounts"
    script = f"{script}; cat /etc/passwd >/tmp/x && echo reads; sleep 1000"
    may = {"capabilities": {"add": ["SYS_ADMIN"]}, "seccompProfile": {"type": "Unconfined"}}
    profiles = {
        "default": {"type": "RuntimeDefault"},
        "own": {"type": "Localhost", "localhostProfile": "vm-test"},
        "none": {"type": "Unconfined"},
    }
    boxes = [
        {
            "name": name,
            "image": "localhost/busybox:1",
            "command": ["sh", "-c", script],
            "securityContext": {**may, "appArmorProfile": profile},
        }
        for name, profile in profiles.items()
    ]
    boxes.append({**boxes[0], "name": "silent", "securityContext": may})
    run("armor", spec={"containers": boxes})
    seen: dict[str, list[str]] = {}

    def told() -> bool:
        seen.clear()
        lines = vm.run("minipod", "logs", "armor", "--all-containers", "--prefix").stdout
        for line in lines.splitlines():
            who, _, text = line.partition("] ")
            seen.setdefault(who.rsplit("/", 1)[1], []).append(text)
        return (
            len(seen) == len(boxes)
            and "reads" in seen["default"]
            and "mounts" in seen["own"]
            and "reads" in seen["silent"]
        )

    until(told, "all have told")
    assert seen["none"] == ["unconfined", "mounts", "reads"]
    assert seen["default"][0] == "minipod-default (enforce)" and seen["default"][-1] == "reads"
    assert "mounts" not in seen["default"] and "Permission denied" in seen["default"][1]
    assert seen["silent"] == seen["default"], "who does not say has the default profile"
    assert seen["own"][:2] == ["vm-test (enforce)", "mounts"]
    assert "reads" not in seen["own"]


def test_a_user_namespace(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    """Linux 6.1 maps ids of overlayfs's layers and of tmpfs by other means than newer ones: refusals are seen here."""
    script = "cat /proc/self/uid_map; touch /made /disk/made; stat -c %u:%g / /bin/busybox /made"
    script = f"{script} /disk /disk/made; sleep 1000"
    spec = {
        "hostUsers": False,
        "securityContext": {"fsGroup": 2000},
        "volumes": [{"name": "disk", "emptyDir": {}}],
    }
    mounts = [{"name": "disk", "mountPath": "/disk"}]
    pod = run("users", "sh", "-c", script, spec=spec, volumeMounts=mounts)
    lines: list[str] = []

    def told() -> bool:
        lines[:] = vm.run("minipod", "logs", "users").stdout.splitlines()
        return len(lines) == 6

    until(told, "it has told")
    inside, first, count = lines[0].split()
    assert (inside, count) == ("0", "65536") and int(first) >= 65536
    assert lines[1:] == ["0:0", "0:0", "0:0", "0:2000", "0:2000"]
    process = f"/proc/{container_pid(vm, 'users')}"
    assert vm.sh(f"stat -c %u {process} {process}/root/made").split() == [first] * 2
    # On disk a volume's files have the ids that the pod sees.
    volume = f"/var/lib/minipod/pods/{pod['metadata']['uid']}/volumes/disk"
    assert vm.sh(f"stat -c %u:%g {volume}/made").split() == ["0:2000"]


def test_huge_pages(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    vm.sh("echo 4 >/proc/sys/vm/nr_hugepages; grep -q '^HugePages_Total: *4$' /proc/meminfo")
    try:
        limits = {"cpu": "1", "memory": "32Mi", "hugepages-2Mi": "4Mi"}
        spec = {"volumes": [{"name": "v", "emptyDir": {"medium": "HugePages"}}]}
        mounts = [{"name": "v", "mountPath": "/v"}]
        script = (
            "fallocate -l 4194304 /v/fits && grep HugePages_Free /proc/meminfo; exec sleep 1000"
        )
        pod = run(
            "huge", "sh", "-c", script, spec=spec, volumeMounts=mounts, resources={"limits": limits}
        )
        until(
            lambda: vm.run("minipod", "logs", "huge").stdout.split() == ["HugePages_Free:", "2"],
            "two of the four are taken",
        )
        conditions = {c["type"]: c for c in pod["status"]["conditions"]}
        # systemd hands this controller to nobody.
        assert "huge pages are not limited" in conditions["minipod.dev/Degraded"]["message"]
    finally:
        vm.sh("echo 0 >/proc/sys/vm/nr_hugepages")


def test_out_of_memory_is_told(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    run("greedy", "tail", "/dev/zero", resources={"limits": {"memory": "32Mi"}})

    def ended() -> bool:
        return bool(get(vm, "greedy")["status"]["phase"] == "Failed")

    until(ended, "the container is killed")
    state = get(vm, "greedy")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)


def test_three_layers_on_an_old_overlayfs(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    run("layers", "/probe", "report", "hold", image="localhost/layers:1")
    plan = vm.run("minipod", "plan", "/root/layers.json").stdout
    assert "3 layer(s)" in plan
    root = f"/proc/{container_pid(vm, 'layers')}/root"
    assert vm.sh(f"cat {root}/where {root}/middle {root}/low").split() == ["top", "middle", "low"]


def container_pid(vm: Vm, name: str) -> str:
    cgroup = pod_cgroup(get(vm, name))
    return vm.sh(f"head -n1 {cgroup}/c.*/cgroup.procs").strip()


def test_a_terminal(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    run("tty", "sleep", "1000")
    inside = "tty; test -t 0 && test -t 1 && echo both; exit 7"
    command = f"minipod exec -it tty -- sh -c '{inside}'"
    done = vm.run("script", "-qec", command, "/dev/null", check=False)
    assert done.returncode == 7, done.stdout + done.stderr
    assert done.stdout.split() == ["/dev/pts/0", "both"]


def test_network(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    server = run("server", "/probe", "tcp-serve", "8080", image="localhost/layers:1")
    address = server["status"]["podIP"]
    run("client", "/probe", "report", "hold", image="localhost/layers:1")
    host = f"import socket; print(socket.create_connection(('{address}', 8080), 60).recv(64))"
    until(lambda: vm.run("python3", "-c", host, check=False).returncode == 0, "the server answers")
    assert vm.run("python3", "-c", host).stdout == "b'10.99.0.1'\n", "who asks is told its address"
    command = ["minipod", "exec", "client", "--", "/probe", "tcp-connect", address, "8080"]
    client = get(vm, "client")["status"]["podIP"]
    assert json.loads(vm.run(*command).stdout) == {"answer": client}
    assert "table inet minipod" in vm.sh("nft list tables")


# ---- the agent goes, pods stay ---------------------------------------------------------------------------------------

ENDS = {
    "killed": "systemctl kill --signal=KILL --kill-whom=main minipod-agent",
    "restarted": "systemctl restart minipod-agent",
    "told": "minipod agent stop",
}


@pytest.mark.parametrize("how", ENDS)
def test_pods_outlive_the_agent(vm: Vm, run: Callable[..., dict[str, Any]], how: str) -> None:
    pod = run(f"alive-{how}", "sleep", "1000")
    before, old = processes(vm, pod_cgroup(pod)), agent_pid(vm)
    vm.sh(ENDS[how])
    until(lambda: vm.run("test", "-d", f"/proc/{old}", check=False).returncode == 1, "it is gone")
    assert processes(vm, pod_cgroup(pod)) == before
    again = get(vm, f"alive-{how}")
    assert agent_pid(vm) not in (old, "0")
    assert again["status"]["phase"] == "Running"
    assert again["status"]["containerStatuses"][0]["restartCount"] == 0
    assert again["status"]["podIP"] == pod["status"]["podIP"]
    seen = vm.run("minipod", "exec", f"alive-{how}", "--", "echo", "still here").stdout
    assert seen == "still here\n"
    assert processes(vm, pod_cgroup(pod)) == before
    assert show(vm, "minipod-agent.service", "ActiveState") == ["active"]


def test_a_scope_that_was_taken_away_is_made_again(
    vm: Vm, run: Callable[..., dict[str, Any]]
) -> None:
    run("first", "sleep", "1000")
    vm.sh("systemctl stop minipod.scope")
    pod = run("second", "sleep", "1000")
    assert show(vm, "minipod.scope", "ActiveState", "Delegate") == ["active", "yes"]
    assert len(processes(vm, pod_cgroup(pod))) == 2


@pytest.fixture
def shipped_unit(vm: Vm) -> Iterator[None]:
    """The agent is one that `make install` brought (for another Python), started at boot; not running yet."""
    vm.sh("minipod agent stop")
    shipped = f"{SOURCES}/minipod/agent/minipod-agent.service"
    vm.sh(f"sed 's,^ExecStart=[^ ]*,ExecStart=/usr/bin/python3,' {shipped} >{UNIT}")
    vm.sh("systemd-analyze verify minipod-agent.service; systemctl --quiet enable minipod-agent")
    yield
    vm.sh("systemctl --quiet disable --now minipod-agent")
    vm.sh(f"rm {UNIT}; systemctl daemon-reload")


@pytest.mark.usefixtures("shipped_unit")
def test_the_shipped_unit(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    # The first command starts it, as it would start a transient one.
    pod = run("served", "sleep", "1000")
    state = show(vm, "minipod-agent.service", "ActiveState", "FragmentPath", "Transient")
    assert state == ["active", UNIT, "no"]
    before, old = processes(vm, pod_cgroup(pod)), agent_pid(vm)
    vm.sh("systemctl kill --signal=KILL --kill-whom=main minipod-agent")
    until(lambda: agent_pid(vm) not in (old, "0"), "systemd starts it again")
    assert get(vm, "served")["status"]["phase"] == "Running"
    assert processes(vm, pod_cgroup(pod)) == before


@pytest.mark.usefixtures("shipped_unit")
def test_a_reset_under_running_pods(vm: Vm, run: Callable[..., dict[str, Any]]) -> None:
    """What lies on the disk is all that is left; nobody says anything to the agent that comes with the machine."""
    spec = {"restartPolicy": "Always", "volumes": [{"name": "v", "emptyDir": {}}]}
    mounts = [{"name": "v", "mountPath": "/v"}]
    count = ("sh", "-c", "echo run >>/v/runs; exec sleep 1000")
    old = run("again", *count, spec=spec, volumeMounts=mounts)
    run("once", "sleep", "1000")
    vm.reset()
    runs = f"/var/lib/minipod/pods/{old['metadata']['uid']}/volumes/v/runs"
    until(lambda: vm.sh(f"cat {runs}") == "run\nrun\n", "it runs again, with its volume")
    new = get(vm, "again")
    status = new["status"]["containerStatuses"][0]
    assert new["metadata"]["uid"] == old["metadata"]["uid"]
    assert (status["restartCount"], list(status["state"])) == (1, ["running"])
    assert len(processes(vm, pod_cgroup(new))) == 2
    assert vm.run("minipod", "exec", "again", "--", "echo", "here").stdout == "here\n"
    failed = get(vm, "once")["status"]
    assert failed["phase"] == "Failed"
    ended = failed["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("Unknown", 255)


def test_nothing_is_left(vm: Vm) -> None:
    assert vm.sh("minipod get pods -A -o name") == ""
    vm.sh("minipod agent stop")
    until(lambda: vm.sh("pgrep -c minipod || true") == "0\n", "the agent is gone")
    assert vm.sh("systemctl list-units --all --plain --no-legend 'minipod*'") == ""
    assert vm.sh("find /sys/fs/cgroup -name '*minipod*'") == ""
    assert vm.sh(
        "ls /run/minipod/pods /var/lib/minipod/pods /var/log/pods 2>/dev/null || true"
    ).split() == [*("/run/minipod/pods:", "/var/lib/minipod/pods:", "/var/log/pods:")]
    assert vm.sh("nft list ruleset") == ""
    assert vm.sh("ls /sys/class/net").split() == ["lo"]
    assert vm.sh("grep -e overlay -e minipod /proc/self/mountinfo || true") == ""


# ---- the suites of tests/root --------------------------------------------------------------------------------------


def run_suite(vm: Vm, probe_program: Path, name: str) -> None:
    env = {
        "MINIPOD_TEST_PROBE": f"{SOURCES}/{probe_program.name}",
        "MINIPOD_TEST_STRICT": "1",
    }
    vm.sh("minipod agent stop || true")  # another agent is not what these tests expect
    script = f"cd {SOURCES}; exec python3 -m pytest -q tests/root/test_{name}.py"
    done = vm.run("bash", "-c", script, env=env, timeout=1200, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"tests/root/test_{name}.py fails in the virtual machine"


# Left out, not skipped: a skip would be a failure where skips are.
if os.environ.get("MINIPOD_TEST_VM_ALL", "") not in ("", "0"):

    @pytest.mark.parametrize("name", SUITES)
    def test_suite(vm: Vm, probe_program: Path, name: str) -> None:
        run_suite(vm, probe_program, name)
