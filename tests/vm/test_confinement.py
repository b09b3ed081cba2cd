# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container may touch and see, on kernels of Debian: devices, profiles, ids, layers, the network."""

from __future__ import annotations

import json

from tests.vm.machine import Vm
from tests.vm.pods import Run, container_pid, every_release, get, in_vm, until

pytestmark = in_vm


@every_release
def test_devices_are_filtered(vm: Vm, run: Run) -> None:
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


@every_release
def test_apparmor(vm: Vm, run: Run) -> None:
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


@every_release
def test_a_user_namespace(vm: Vm, run: Run) -> None:
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


def test_three_layers_on_an_old_overlayfs(vm: Vm, run: Run) -> None:
    run("layers", "/probe", "report", "hold", image="localhost/layers:1")
    plan = vm.run("minipod", "plan", "/root/layers.json").stdout
    assert "3 layer(s)" in plan
    root = f"/proc/{container_pid(vm, 'layers')}/root"
    assert vm.sh(f"cat {root}/where {root}/middle {root}/low").split() == ["top", "middle", "low"]


def test_a_terminal(vm: Vm, run: Run) -> None:
    run("tty", "sleep", "1000")
    inside = "tty; test -t 0 && test -t 1 && echo both; exit 7"
    command = f"minipod exec -it tty -- sh -c '{inside}'"
    done = vm.run("script", "-qec", command, "/dev/null", check=False)
    assert done.returncode == 7, done.stdout + done.stderr
    assert done.stdout.split() == ["/dev/pts/0", "both"]


@every_release
def test_network(vm: Vm, run: Run) -> None:
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
