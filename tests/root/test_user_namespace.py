# SPDX-License-Identifier: GPL-3.0-or-later
"""``hostUsers: false``: what a pod with a user namespace of its own is from inside, and what its root is outside."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from tests import features
from tests.conftest import Images
from tests.instance import Instance, Json

pytestmark = features.requires(
    "root", "namespaces", "overlay", "nft", "veth", "cgroup:pids", "userns", "idmap"
)

# Of the default setting, user_ids.
FIRST = 1879048192
COUNT = 65536
ALL = (1 << 41) - 1
SYS_ADMIN = 1 << 21


def create(instance: Instance, name: str, *containers: Json, **spec: Any) -> None:
    instance.start_pod(name, *containers, hostUsers=False, **spec)


def first_id(instance: Instance, name: str) -> int:
    """Return where the pod's ids begin on the host, as the kernel has it."""
    words = Path(f"/proc/{instance.pid(name)}/uid_map").read_text().split()
    assert words[0] == "0" and words[2] == str(COUNT)
    assert Path(f"/proc/{instance.pid(name)}/gid_map").read_text().split() == words
    return int(words[1])


@pytest.fixture(scope="module")
def box(shared_instance: Instance) -> Iterator[str]:
    """Pod ``box``: root in c0, user 1000 in c1, both with volumes."""
    outside = shared_instance.base / "of-the-host"
    outside.mkdir()
    (outside / "roots").write_text("root's")
    os.chmod(outside / "roots", 0o600)
    (outside / "users").write_text("1000's")
    os.chown(outside / "users", 1000, 1000)
    os.chmod(outside / "users", 0o600)
    names = ("disk", "memory", "host", "facts")
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in names]
    fact = {"path": "deep/name", "fieldRef": {"fieldPath": "metadata.name"}}
    create(
        shared_instance,
        "box",
        {"volumeMounts": mounts},
        {"volumeMounts": mounts, "securityContext": {"runAsUser": 1000, "runAsGroup": 1000}},
        volumes=[
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "host", "hostPath": {"path": str(outside)}},
            {"name": "facts", "downwardAPI": {"items": [fact], "defaultMode": 0o400}},
        ],
        securityContext={"fsGroup": 2000},
    )
    yield "box"
    shared_instance.delete("box")


def test_the_map_from_inside(shared_instance: Instance, box: str) -> None:
    first = first_id(shared_instance, box)
    assert first >= FIRST and (first - FIRST) % COUNT == 0
    for name in ("uid_map", "gid_map"):
        text = shared_instance.probe(box, "read", f"/proc/self/{name}")["text"]
        assert text.split() == ["0", str(first), str(COUNT)]
    assert shared_instance.probe(box, "read", "/proc/self/setgroups")["text"] == "allow\n"


@pytest.mark.field("PodSpec.hostUsers")
def test_who_it_is_inside_and_outside(shared_instance: Instance, box: str) -> None:
    first = first_id(shared_instance, box)
    for container, uid in (("c0", 0), ("c1", 1000)):
        reports = [
            json.loads(shared_instance.first_line(box, container)),
            shared_instance.probe(box, "report", container=container),
        ]
        for report in reports:
            ids = report["ids"]
            assert (ids["uids"], ids["gids"], ids["groups"]) == ([uid] * 3, [uid] * 3, [uid, 2000])
            assert report["seccomp"] == {"mode": "2", "filters": "1", "no_new_privs": "0"}
        status = Path(f"/proc/{shared_instance.pid(box, container)}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in status.splitlines())
        assert lines["Uid"].split() == lines["Gid"].split() == [str(first + uid)] * 4
    pause = [p for p in shared_instance.processes() if p.comm == "minipod-pause"]
    assert len(pause) == 1
    status = Path(f"/proc/{pause[0].pid}/status").read_text()
    assert f"Uid:\t{first + 65535}\t" in status


def test_namespaces_belong_to_it(shared_instance: Instance, box: str) -> None:
    """All but the PID namespace, which the shim makes; see docs/architecture.md."""
    own = os.stat(f"/proc/{shared_instance.pid(box)}/ns/user").st_ino
    assert own != os.stat("/proc/self/ns/user").st_ino
    neighbour, pause = (
        shared_instance.pid(box, "c1"),
        next(p.pid for p in shared_instance.processes() if p.comm == "minipod-pause"),
    )
    for pid in (neighbour, pause):
        assert os.stat(f"/proc/{pid}/ns/user").st_ino == own
    for name in ("mnt", "net", "uts", "ipc", "cgroup"):
        assert owner_of(f"/proc/{shared_instance.pid(box)}/ns/{name}") == own, name


def owner_of(path: str) -> int:
    """Return the inode of the user namespace that owns the one at *path* (``ioctl_ns(2)``, NS_GET_USERNS)."""
    import fcntl

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        users = fcntl.ioctl(fd, 0xB701)
    finally:
        os.close(fd)
    try:
        return os.fstat(users).st_ino
    finally:
        os.close(users)


def test_files_of_the_image_are_roots(shared_instance: Instance, box: str) -> None:
    for path in ("/", "/probe", "/bin", "/tmp", "/dev", "/dev/null", "/dev/shm", "/etc/hosts"):
        seen = shared_instance.probe(box, "stat", path)
        assert (seen["uid"], seen["gid"]) == (0, 0), path
    assert shared_instance.probe(box, "write", "/made", "x") == {"written": 1}
    assert shared_instance.probe(box, "write", "/etc/hosts", "x") == {"written": 1}
    assert shared_instance.probe(box, "stat", "/made")["uid"] == 0
    # On the host it belongs to nobody that the host knows.
    uid = shared_instance.pod(box)["metadata"]["uid"]
    made = Path(shared_instance.config.root_dir, "pods", uid, "containers/c0/0/upper/made")
    assert os.stat(made).st_uid == first_id(shared_instance, box)


def test_volumes(shared_instance: Instance, box: str) -> None:
    def seen(path: str, container: str = "c0") -> tuple[int, int]:
        found = shared_instance.probe(box, "stat", path, container=container)
        return found["uid"], found["gid"]

    for volume in ("disk", "memory"):
        assert seen(f"/{volume}") == (0, 2000), volume
        for container, uid in (("c0", 0), ("c1", 1000)):
            path = f"/{volume}/by-{container}"
            answer = shared_instance.probe(box, "write", path, "x", container=container)
            assert answer == {"written": 1}, path
            assert seen(path) == (uid, 2000)
    # On disk, files have the ids that the pod sees: a claim could be given to another pod.
    uid = shared_instance.pod(box)["metadata"]["uid"]
    disk = Path(shared_instance.config.root_dir, "pods", uid, "volumes/disk")
    assert (os.stat(disk).st_uid, os.stat(disk).st_gid) == (0, 2000)
    assert os.stat(disk / "by-c1").st_uid == 1000
    assert seen("/host/roots") == (0, 0) and seen("/host/users") == (1000, 1000)
    read = shared_instance.probe(box, "read", "/host/users", container="c1")
    assert read == {"text": "1000's"}
    denied = shared_instance.probe(box, "read", "/host/roots", container="c1")
    assert denied["errno"] == errno.EACCES
    assert shared_instance.probe(box, "write", "/host/by-root", "x") == {"written": 1}
    assert os.stat(shared_instance.base / "of-the-host" / "by-root").st_uid == 0


def test_volumes_of_files(shared_instance: Instance, box: str) -> None:
    seen = shared_instance.probe(box, "stat", "/facts/..data/deep/name")
    # fsGroup adds the group's bit, as with the kubelet: user 1000 may read by it.
    assert (seen["mode"], seen["uid"], seen["gid"]) == (0o440, 0, 2000)
    for container in ("c0", "c1"):
        answer = shared_instance.probe(box, "read", "/facts/deep/name", container=container)
        assert answer == {"text": "box"}


def test_what_works_as_elsewhere(shared_instance: Instance, box: str) -> None:
    gateway = shared_instance.config.pod_cidr.replace(".0.0/16", ".0.1")
    assert shared_instance.probe(box, "ping", gateway) == {"type": 0}
    assert shared_instance.probe(box, "ping", gateway, container="c1") == {"type": 0}
    assert shared_instance.probe(box, "write", "/dev/null", "x") == {"written": 1}
    for container in ("c0", "c1"):
        done = shared_instance.exec(box, "/probe", "write", "/dev/stdout", "x", container=container)
        assert done.stdout == 'x{"written":1}\n', container
    for path in ("/proc/sys/kernel/core_pattern", "/sys/class/x", "/sys/fs/cgroup/x"):
        assert shared_instance.probe(box, "write", path, "x")["errno"] in (
            errno.EROFS,
            errno.EACCES,
        )


def test_the_mounts_are_a_default_containers(shared_instance: Instance, box: str) -> None:
    shared_instance.start_pod("plain", {})
    options = [
        {
            m["target"]: (m["type"], m["options"])
            for m in shared_instance.probe(name, "mounts")
            if m["target"] not in ("/disk", "/memory", "/host", "/facts")
        }
        for name in ("plain", box)
    ]
    shared_instance.delete("plain")
    assert options[0] == options[1]


def test_capabilities_are_inside_only(shared_instance: Instance) -> None:
    none = {"type": "Unconfined"}
    context = {"capabilities": {"add": ["ALL"]}, "seccompProfile": none, "appArmorProfile": none}
    create(shared_instance, "mighty", {"securityContext": context})
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    every = f"{(1 << last + 1) - 1:016x}"
    caps = shared_instance.probe("mighty", "report")["caps"]
    assert caps["effective"] == caps["bounding"] == every

    def run(script: str) -> tuple[int, str]:
        done = shared_instance.exec("mighty", "sh", "-c", script)
        return done.returncode, done.stdout

    # It may do with its own what it likes …
    assert run("hostname other && hostname") == (0, "other\n")
    assert run("mkdir /mnt && mount -t tmpfs none /mnt && grep -c ' /mnt tmpfs' /proc/mounts") == (
        0,
        "1\n",
    )
    assert run("ip link set eth0 down && ip link set eth0 up")[0] == 0
    # … and with the host's nothing: not even show what was hidden.
    for forbidden in (
        "mknod /tmp/mem c 1 1",
        "umount /proc/kcore",
        "umount /sys/firmware",
        "mount -o remount,rw /sys",
        "mount -o remount,bind,rw /proc/sys",
        "echo x >/proc/sys/kernel/core_pattern",
        "mount -t proc none /mnt",
    ):
        code, said = run(forbidden)
        assert code != 0, (forbidden, said)
    assert "not permitted" in run("date -s 2000-01-01")[1]
    shared_instance.delete("mighty")


def test_privileged(shared_instance: Instance) -> None:
    create(shared_instance, "lord", {"securityContext": {"privileged": True}})
    found = shared_instance.probe("lord", "report")
    assert int(found["caps"]["effective"], 16) & SYS_ADMIN
    assert shared_instance.probe("lord", "write", "/sys/kernel/x", "x")["errno"] in (
        errno.EACCES,
        errno.EPERM,
    )
    assert found["ids"]["uid"] == 0
    shared_instance.delete("lord")


@pytest.mark.field("SecurityContext.procMount")
def test_unmasked(shared_instance: Instance) -> None:
    create(shared_instance, "bare", {"securityContext": {"procMount": "Unmasked"}})
    targets = {m["target"] for m in shared_instance.probe("bare", "mounts")}
    assert not [target for target in targets if target.startswith("/proc/")]
    answer = shared_instance.probe("bare", "write", "/proc/sys/kernel/core_pattern", "x")
    assert answer["errno"] in (errno.EACCES, errno.EPERM)
    shared_instance.delete("bare")


def test_sysctls(shared_instance: Instance) -> None:
    items = [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"},
        {"name": "kernel.shm_rmid_forced", "value": "1"},
    ]
    create(shared_instance, "tuned", {}, securityContext={"sysctls": items})
    for path, value in (
        ("net/ipv4/ip_unprivileged_port_start", "80"),
        ("kernel/shm_rmid_forced", "1"),
        ("net/ipv4/ping_group_range", "0\t65535"),
    ):
        assert shared_instance.probe("tuned", "read", f"/proc/sys/{path}")["text"].strip() == value
    shared_instance.delete("tuned")


def test_a_terminal(shared_instance: Instance) -> None:
    command = ["/probe", "report", "hold"]
    create(shared_instance, "tty", {"tty": True, "command": command})
    found = shared_instance.probe("tty", "stat", "/dev/console")
    assert (found["type"], found["uid"]) == ("char", 0)
    shared_instance.delete("tty")


def test_shared_pid_namespace(shared_instance: Instance) -> None:
    create(shared_instance, "seen", {}, {}, shareProcessNamespace=True)
    names = shared_instance.probe("seen", "ps").values()
    shared_instance.delete("seen")
    assert sorted(names) == ["minipod-pause", "probe", "probe", "probe"]


def test_a_restart_and_a_new_agent_keep_the_ids(shared_instance: Instance) -> None:
    create(shared_instance, "kept", {}, restartPolicy="Always")
    create(shared_instance, "other", {})
    before = first_id(shared_instance, "kept")
    assert before != first_id(shared_instance, "other"), "never the same for two"
    shared_instance.cli("agent", "stop")
    shared_instance.cli("get", "pods")
    assert first_id(shared_instance, "kept") == before
    assert shared_instance.probe("kept", "ids")["uid"] == 0
    pause = next(
        p.pid
        for p in shared_instance.processes()
        if p.comm == "minipod-pause"
        and f"Uid:\t{before + 65535}\t" in Path(f"/proc/{p.pid}/status").read_text()
    )
    os.kill(pause, 9)
    shared_instance.until(
        "kept",
        lambda pod: (
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
            and "running" in pod["status"]["containerStatuses"][0]["state"]
        ),
    )
    assert first_id(shared_instance, "kept") == before
    shared_instance.delete("kept", "other")


def test_the_ids_are_given_back(shared_instance: Instance, box: str) -> None:
    uid = shared_instance.pod(box)["metadata"]["uid"]
    path = f"file:{shared_instance.config.root_dir}/state.db?mode=ro"
    database = sqlite3.connect(path, uri=True)
    try:
        owners = [owner for (owner,) in database.execute("SELECT owner FROM pod_users")]
    finally:
        database.close()
    assert owners == [uid]


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC"])
def test_namespaces_of_the_host_are_excluded(shared_instance: Instance, field: str) -> None:
    with pytest.raises(MinipodError, match=f"spec.{field}: cannot be true while hostUsers is"):
        create(shared_instance, "both", {}, **{field: True})


def test_ids_that_it_does_not_have(shared_instance: Instance) -> None:
    shared_instance.create("large", {"securityContext": {"runAsUser": COUNT}}, hostUsers=False)
    pod = shared_instance.until(
        "large",
        lambda pod: (
            (s := pod["status"].get("containerStatuses"))
            and s[0]["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError"
        ),
    )
    shared_instance.delete("large")
    waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]
    assert "id 65536 does not exist" in waiting["message"]


def test_a_filesystem_that_cannot_map_ids_is_named(shared_instance: Instance) -> None:
    """sysfs has no idmapped mounts: never is a volume shown with the host's own ids instead."""
    pod = shared_instance.run_pod(
        "unmapped",
        {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        volumes=[{"name": "v", "hostPath": {"path": "/sys/kernel"}}],
        hostUsers=False,
    )
    shared_instance.delete("unmapped")
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "open_tree /sys/kernel (rbind,idmap)" in ended["message"]
    assert "this filesystem cannot map ids" in ended["message"]


def test_files_of_users_that_it_does_not_have_are_nobodys(
    shared_instance: Instance, images: Images
) -> None:
    assert images
    outside = shared_instance.base / "foreign"
    outside.mkdir()
    os.chown(outside, 70000, 70000)
    create(
        shared_instance,
        "foreign",
        {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        volumes=[{"name": "v", "hostPath": {"path": str(outside)}}],
    )
    seen = shared_instance.probe("foreign", "stat", "/v")
    denied = shared_instance.probe("foreign", "write", "/v/x", "x")
    shared_instance.delete("foreign")
    assert (seen["uid"], seen["gid"]) == (65534, 65534)
    assert denied["errno"] in (errno.EACCES, errno.EOVERFLOW)
