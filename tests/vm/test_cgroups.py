# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits on cgroup v2 alone, with all capabilities: what the kernel has been told, and what programs meet."""

from __future__ import annotations

import json

from tests.vm.machine import Vm
from tests.vm.pods import (
    SCOPE,
    Run,
    agent_pid,
    each_system,
    every_release,
    get,
    in_vm,
    pod_cgroup,
    until,
    weight,
)

pytestmark = in_vm


KERNELS = {"bookworm": "6.1.", "trixie": "6.12.", "noble": "6.8."}


@each_system
def test_the_machine_is_another_one(vm: Vm) -> None:
    assert vm.sh("cat /proc/1/comm").strip() == "systemd"
    assert vm.sh("stat -f -c %T /sys/fs/cgroup").strip() == "cgroup2fs"
    assert "cgroup\n" not in vm.sh("awk '{print $3}' /proc/mounts")
    assert vm.sh("uname -r").startswith(KERNELS[vm.release.suite])
    assert vm.sh("grep CapEff /proc/self/status").split()[1] == "000001ffffffffff"


@each_system
def test_limits_and_privileges(vm: Vm, run: Run) -> None:
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


def test_classes_and_memory_on_cgroup2(vm: Vm, run: Run) -> None:
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


@every_release
def test_out_of_memory_ends_the_whole_container(vm: Vm, run: Run) -> None:
    """memory.oom.group: the shell that waits for the one who took too much does not go on without it."""
    limits = {"cpu": "1", "memory": "32Mi"}
    script = "tail /dev/zero & wait; sleep 1000"
    run("group", "sh", "-c", script, resources={"limits": limits})
    until(lambda: bool(get(vm, "group")["status"]["phase"] == "Failed"), "all of it is killed")
    state = get(vm, "group")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)


def test_resize_on_cgroup2(vm: Vm, run: Run) -> None:
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


@every_release
def test_processes_are_born_in_their_cgroup(vm: Vm, run: Run) -> None:
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


def test_huge_pages(vm: Vm, run: Run) -> None:
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


def test_out_of_memory_is_told(vm: Vm, run: Run) -> None:
    run("greedy", "tail", "/dev/zero", resources={"limits": {"memory": "32Mi"}})

    def ended() -> bool:
        return bool(get(vm, "greedy")["status"]["phase"] == "Failed")

    until(ended, "the container is killed")
    state = get(vm, "greedy")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)


def counter(vm: Vm, file: str, name: str) -> int:
    """Return a number of a cgroup's file of names and numbers."""
    return int(vm.sh('awk -v name="$2" \'$1 == name {print $2}\' "$1"', file, name) or 0)


@every_release
def test_who_takes_more_than_its_cpu_is_stopped_for_a_while(vm: Vm, run: Run) -> None:
    spin = ("sh", "-c", "while :; do :; done")
    pod = run("slow", *spin, resources={"limits": {"cpu": "100m"}})
    usage = f"{pod_cgroup(pod)}/c.0/cpu.stat"
    until(lambda: counter(vm, usage, "nr_throttled") >= 10, "it has been throttled")
    # A tenth of a CPU. The clock is the machine's own, which runs as slowly as the pod.
    script = 'read -r _ a <"$1"; read -r x _ </proc/uptime; sleep 5; read -r _ b <"$1"; read -r y _ </proc/uptime'
    used, passed = vm.sh(f'{script}; echo $((b - a)) "$x $y"', usage).split(" ", 1)
    before, after = map(float, passed.split())
    assert 0 < int(used) / 1e6 < 0.2 * (after - before)


@every_release
def test_processes_are_counted(vm: Vm, run: Run) -> None:
    pod = run("many", "sleep", "1000", resources={"limits": {"pids": "20"}})
    fork = "i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i + 1)); done"
    done = vm.run("minipod", "exec", "many", "--", "sh", "-c", fork, check=False)
    assert done.returncode != 0 and "can't fork" in done.stderr, done
    assert counter(vm, f"{pod_cgroup(pod)}/c.0/pids.events", "max") > 0
    assert int(vm.sh(f"cat {pod_cgroup(pod)}/c.0/pids.current")) <= 20


def test_memory_above_high_is_reclaimed_and_nobody_killed(vm: Vm, run: Run) -> None:
    resources = {"requests": {"memory": "16Mi"}, "limits": {"memory": "32Mi"}}
    write = "dd if=/dev/zero of=/tmp/file bs=1M count=64 2>/dev/null; echo written; sleep 1000"
    pod = run("high", "sh", "-c", write, resources=resources)
    until(lambda: vm.run("minipod", "logs", "high").stdout == "written\n", "it has written")
    events = f"{pod_cgroup(pod)}/c.0/memory.events"
    assert counter(vm, events, "high") > 0
    assert (counter(vm, events, "max"), counter(vm, events, "oom_kill")) == (0, 0)
    assert counter(vm, f"{pod_cgroup(pod)}/c.0/memory.stat", "file") < 32 << 20


@every_release
def test_what_forks_all_the_time_is_killed_at_once(vm: Vm, run: Run) -> None:
    fork = "f() { while :; do sleep 0.01 & done; }; f & f & f"
    pod = run("bomb", "sh", "-c", fork, resources={"limits": {"pids": "100"}})
    script = """
    strace -f -o /root/kill.strace -e trace=openat,pidfd_send_signal -p "$1" 2>/root/kill.err &
    until grep -q attached /root/kill.err; do sleep 0.1; done
    minipod delete pod bomb --grace-period=0
    kill $!; wait $! || true; cat /root/kill.strace
    """
    seen = vm.sh(script, agent_pid(vm))
    assert "/cgroup.kill" in seen and "pidfd_send_signal" not in seen
    assert vm.run("test", "-d", pod_cgroup(pod), check=False).returncode == 1
