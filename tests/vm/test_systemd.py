# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as a service: transient, shipped, activated by its socket; and what its end means to pods."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.machine import SOURCES, Vm
from tests.vm.pods import (
    SCOPE,
    SERVICE,
    SOCKET_UNIT,
    UNIT,
    Run,
    agent_pid,
    each_system,
    every_release,
    get,
    in_vm,
    pod_cgroup,
    processes,
    show,
    until,
)

pytestmark = in_vm


@each_system
def test_the_agent_is_a_service_and_pods_are_in_a_delegated_scope(vm: Vm, run: Run) -> None:
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
    # systemctl of systemd 255 speaks to whoever NOTIFY_SOCKET names.
    said = vm.sh("journalctl --unit=minipod-agent --output=cat")
    assert "Got notification message" not in said, "what the agent runs has its environment"


ENDS = {
    "killed": "systemctl kill --signal=KILL --kill-whom=main minipod-agent",
    "restarted": "systemctl restart minipod-agent",
    "told": "minipod agent stop",
}


@pytest.mark.parametrize("how", ENDS)
def test_pods_outlive_the_agent(vm: Vm, run: Run, how: str) -> None:
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


def test_a_scope_that_was_taken_away_is_made_again(vm: Vm, run: Run) -> None:
    run("first", "sleep", "1000")
    vm.sh("systemctl stop minipod.scope")
    pod = run("second", "sleep", "1000")
    assert show(vm, "minipod.scope", "ActiveState", "Delegate") == ["active", "yes"]
    assert len(processes(vm, pod_cgroup(pod))) == 2


@pytest.fixture
def shipped_unit(vm: Vm) -> Iterator[None]:
    """The agent is one that `make install` brought (for another Python), started at boot; not running yet."""
    install_units(vm)
    vm.sh("systemctl --quiet enable minipod-agent")
    yield
    vm.sh("systemctl --quiet disable --now minipod-agent")
    remove_units(vm)


def install_units(vm: Vm) -> None:
    vm.sh("minipod agent stop")
    shipped = f"{SOURCES}/minipod/agent/minipod-agent"
    vm.sh(f"sed 's,^ExecStart=[^ ]*,ExecStart=/usr/bin/python3,' {shipped}.service >{UNIT}")
    vm.sh(f"cp {shipped}.socket {SOCKET_UNIT}; systemctl daemon-reload")
    vm.sh("systemd-analyze verify minipod-agent.service minipod-agent.socket")


def remove_units(vm: Vm) -> None:
    vm.sh(f"rm {UNIT} {SOCKET_UNIT}; systemctl daemon-reload")


@pytest.fixture
def socket_unit(vm: Vm) -> Iterator[None]:
    """systemd listens in the agent's place, which does not run."""
    install_units(vm)
    vm.sh("systemctl start minipod-agent.socket")
    yield
    vm.sh("systemctl stop minipod-agent.socket minipod-agent.service")
    remove_units(vm)


@every_release
@pytest.mark.usefixtures("socket_unit")
def test_the_first_connection_starts_the_agent(vm: Vm, run: Run) -> None:
    assert vm.sh("stat -c '%a %U %F' /run/minipod /run/minipod/agent.sock").splitlines() == [
        "700 root directory",
        "600 root socket",
    ]
    assert show(vm, "minipod-agent.service", "ActiveState") == ["inactive"]
    pod = run("caller", "sleep", "1000")
    state = show(vm, "minipod-agent.service", "ActiveState", "FragmentPath", "TriggeredBy")
    assert state == ["active", UNIT, "minipod-agent.socket"]
    assert (
        vm.sh("tr '\\0' '\\n' </proc/$1/environ | grep -c ^LISTEN_", agent_pid(vm)).strip() == "3"
    )
    before, old = processes(vm, pod_cgroup(pod)), agent_pid(vm)
    # It goes, the socket stays, the pod too; then the next command.
    said = vm.run("minipod", "agent", "stop").stdout
    assert said == "the agent has stopped; 1 pod goes on running\n"
    states = [show(vm, f"minipod-agent.{kind}", "ActiveState")[0] for kind in ("service", "socket")]
    assert states == ["inactive", "active"]
    assert processes(vm, pod_cgroup(pod)) == before
    assert get(vm, "caller")["status"]["containerStatuses"][0]["restartCount"] == 0
    assert agent_pid(vm) not in (old, "0")
    # Stopped by the very connection that starts it. Its peer is systemd, which does not end: to wait for that fails.
    vm.run("minipod", "agent", "stop")
    assert vm.run("minipod", "agent", "stop").stdout == said
    vm.sh("systemctl restart minipod-agent")
    assert processes(vm, pod_cgroup(pod)) == before


def test_a_socket_where_nobody_looks_is_refused(vm: Vm) -> None:
    path = "/run/elsewhere.sock"
    script = f"systemd-socket-activate --listen={path} python3 -P -m minipod.agent"
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{path}')"
    vm.sh("minipod agent stop")
    done = vm.sh(
        f'{script} 2>&1 & until [ -S {path} ]; do sleep 0.1; done; python3 -c "$1"; wait $! || true; rm {path}',
        connect,
    )
    assert f"systemd listens for the agent at '{path}'" in done


def test_the_journal_has_what_the_agent_says(vm: Vm, run: Run) -> None:
    vm.sh("minipod agent stop")
    run("told", "sleep", "1000")
    script = "journalctl --unit=minipod-agent --output=json _PID=$1"
    lines = [json.loads(line) for line in vm.sh(script, agent_pid(vm)).splitlines()]
    ready = [line for line in lines if "is ready, pid" in line["MESSAGE"]]
    assert [line["PRIORITY"] for line in ready] == ["6"]
    assert ready[0]["MESSAGE"].startswith("minipod.agent: minipod agent"), (
        "time and level are fields"
    )
    assert vm.run("test", "-e", "/var/lib/minipod/agent.log", check=False).returncode == 1
    # What keeps an agent from starting is told by the command, and stands in the journal as an error.
    vm.sh("minipod agent stop; mkdir -p /etc/minipod; echo 'bridge = 5' >/etc/minipod/config.toml")
    try:
        script = "python3 -m minipod.agent; systemd-run --quiet --wait --unit=failing /usr/bin/python3 -m minipod.agent"
        vm.run("bash", "-c", script, check=False)
    finally:
        vm.sh("rm /etc/minipod/config.toml")
    text = vm.sh("journalctl --unit=failing --priority=err --output=cat")
    assert "minipod.agent:" in text and "bridge" in text


@every_release
@pytest.mark.usefixtures("shipped_unit")
def test_the_shipped_unit(vm: Vm, run: Run) -> None:
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
def test_a_reset_under_running_pods(vm: Vm, run: Run) -> None:
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


@every_release
def test_nothing_is_left(vm: Vm) -> None:
    assert vm.sh("minipod get pods -A -o name") == ""
    vm.sh("minipod agent stop")
    until(lambda: vm.sh("pgrep -c minipod || true") == "0\n", "the agent is gone")
    assert vm.sh("systemctl list-units --all --plain --no-legend 'minipod*'") == ""
    assert vm.sh("find /sys/fs/cgroup -name '*minipod*'") == ""
    places = "/run/minipod/pods /var/lib/minipod/pods /var/log/pods"
    assert vm.sh(f"find {places} -mindepth 1 2>/dev/null || true") == ""
    assert vm.sh("nft list ruleset") == ""
    assert vm.sh("ls /sys/class/net").split() == ["lo"]
    assert vm.sh("grep -e overlay -e minipod /proc/self/mountinfo || true") == ""
