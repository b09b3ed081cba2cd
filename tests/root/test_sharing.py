# SPDX-License-Identifier: GPL-3.0-or-later
"""What the containers of a pod share, what they do not, and what a pod may share with the host."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from tests.conftest import Images
from tests.features import requires
from tests.instance import Instance, Json
from tests.patience import patience

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

SERVER: Json = {"command": ["/probe", "tcp-serve", "8080"]}


@pytest.fixture(scope="module")
def pods(shared_instance: Instance) -> Iterator[Instance]:
    """Two pods, ``left`` with two containers and ``right`` with two; the first of each serves port 8080."""
    for name in ("left", "right"):
        shared_instance.start_pod(name, SERVER, {})
        assert shared_instance.first_line(name, "c0") == '{"listening":8080}'
    yield shared_instance
    shared_instance.delete("left", "right")


def namespace(pid: int | str, name: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{name}").st_ino


def pause_pid(instance: Instance, name: str) -> int:
    uid = instance.pod(name)["metadata"]["uid"]
    found = [
        p.pid for p in instance.processes() if f"pod{uid}/sandbox" in p.cgroup and p.comm != "init"
    ]
    assert len(found) == 1, found
    return found[0]


# ---- network and host name ------------------------------------------------------------------------------------


def test_localhost_is_the_pods(pods: Instance) -> None:
    answer = pods.probe("left", "tcp-connect", "127.0.0.1", "8080", container="c1")
    assert answer == {"answer": "127.0.0.1"}
    assert '"peer":"127.0.0.1"' in pods.output("left", "c0")
    assert '"peer"' not in pods.output("right", "c0"), "the other pod's server was not asked"


def test_two_pods_have_the_same_port(pods: Instance) -> None:
    for name in ("left", "right"):
        address = pods.pod(name)["status"]["podIP"]
        with socket.create_connection((address, 8080), timeout=patience(10)) as connection:
            assert connection.recv(64) == connection.getsockname()[0].encode()
    busy = pods.probe("left", "tcp-serve", "8080", container="c1")
    assert busy["errno"] == errno.EADDRINUSE, "within a pod there is one port 8080"


def test_host_name(pods: Instance) -> None:
    for name in ("left", "right"):
        for container in ("c0", "c1"):
            done = pods.exec(name, "hostname", container=container)
            assert done.stdout == f"{name}\n"
    left = [namespace(pods.pid("left", c), "uts") for c in ("c0", "c1")]
    assert left[0] == left[1]
    assert left[0] not in (namespace(pods.pid("right"), "uts"), namespace("self", "uts"))


# ---- inter-process communication ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("send", "receive", "none"),
    [
        (("sysv-send", "77"), ("sysv-recv", "77"), errno.ENOENT),
        (("mq-send", "/queue"), ("mq-recv", "/queue"), errno.ENOENT),
        (("shm-write", "name"), ("shm-read", "name"), errno.ENOENT),
    ],
    ids=["System V", "POSIX message queue", "POSIX shared memory"],
)
def test_ipc(pods: Instance, send: tuple[str, str], receive: tuple[str, str], none: int) -> None:
    assert "error" not in pods.probe("left", *send, "hello", container="c0")
    assert pods.probe("right", *receive)["errno"] == none
    assert pods.probe("left", *receive, container="c1") == {"text": "hello"}
    for path in ("/dev/shm/name", "/dev/mqueue/queue"):
        assert not os.path.exists(path), "nor does the host see it"


def test_dev_shm_is_one_tmpfs_of_the_pod(pods: Instance) -> None:
    def device(name: str, container: str) -> int:
        return os.stat(f"/proc/{pods.pid(name, container)}/root/dev/shm").st_dev

    assert device("left", "c0") == device("left", "c1")
    assert device("left", "c0") not in (device("right", "c0"), os.stat("/dev/shm").st_dev)


def test_dev_shm_has_64_mib(pods: Instance) -> None:
    # On cgroup v1, what it holds counts for whoever wrote it.
    done = pods.exec("right", "dd", "if=/dev/zero", "of=/dev/shm/full", "bs=1M", "count=65")
    assert "No space left on device" in done.stdout
    assert pods.probe("right", "stat", "/dev/shm/full")["size"] == 64 << 20
    pods.exec("right", "rm", "/dev/shm/full")


# ---- processes and mounts -------------------------------------------------------------------------------------


def test_each_container_sees_its_own_processes_only(pods: Instance) -> None:
    lines = pods.exec("left", "ps", "-o", "pid,args", container="c0").stdout.splitlines()[1:]
    assert [line.split(None, 1) for line in lines] == [
        ["1", "/probe tcp-serve 8080"],
        [lines[1].split()[0], "ps -o pid,args"],
    ]
    assert namespace(pods.pid("left", "c0"), "pid") != namespace(pods.pid("left", "c1"), "pid")


def test_each_container_has_its_own_files(pods: Instance) -> None:
    pods.probe("left", "write", "/tmp/mine", "x", container="c0")
    assert pods.probe("left", "read", "/tmp/mine", container="c1")["errno"] == errno.ENOENT
    assert namespace(pods.pid("left", "c0"), "mnt") != namespace(pods.pid("left", "c1"), "mnt")
    # Also where both have the same file of the image.
    pods.probe("left", "write", "/etc/passwd", "x", container="c0")
    assert pods.probe("left", "read", "/etc/passwd", container="c1")["text"].startswith("root:")
    assert pods.probe("right", "read", "/etc/passwd")["text"].startswith("root:")


def test_a_container_cannot_signal_another(pods: Instance) -> None:
    pid = pods.pid("left", "c1")
    assert "No such process" in pods.exec("left", "kill", "-9", str(pid), container="c0").stdout


# ---- shareProcessNamespace ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def together(shared_instance: Instance, images: Images) -> Iterator[Instance]:
    """Pod ``together``: two containers of one PID namespace, and one whose user is the pause process's."""
    shared_instance.load(images.probe("pauseuser", {"User": "65535:65535"}))
    held = ["report", "hold"]
    shared_instance.start_pod(
        "together",
        {},
        {"command": ["sleep", "1000"]},
        {"image": "localhost/pauseuser:1", "args": held},
        shareProcessNamespace=True,
    )
    yield shared_instance
    shared_instance.delete("together")


@pytest.mark.field("PodSpec.shareProcessNamespace")
def test_shared_process_namespace(together: Instance) -> None:
    lines = together.exec("together", "ps", "-o", "pid,args").stdout.splitlines()[1:]
    found = {words[1]: words[0] for words in (line.split(None, 1) for line in lines)}
    assert found.keys() == {
        "minipod-pause",
        "/probe report hold",  # twice
        "sleep 1000",
        "ps -o pid,args",
    }
    assert found["minipod-pause"] == "1"
    inside = {namespace(together.pid("together", f"c{i}"), "pid") for i in range(3)}
    assert (
        inside == {namespace(pause_pid(together, "together"), "pid")} != {namespace("self", "pid")}
    )
    # Mounts stay each container's own.
    assert len({namespace(together.pid("together", f"c{i}"), "mnt") for i in range(3)}) == 3


def test_a_neighbour_can_be_signalled(together: Instance) -> None:
    together.create("signalled", {}, {"command": ["sleep", "1000"]}, shareProcessNamespace=True)
    together.wait("signalled", "condition=Ready")
    assert together.exec("signalled", "killall", "-9", "sleep").returncode == 0
    pod = together.until(
        "signalled",
        lambda pod: "terminated" in pod["status"]["containerStatuses"][1]["state"],
    )
    assert pod["status"]["containerStatuses"][1]["state"]["terminated"]["exitCode"] == 137
    assert "running" in pod["status"]["containerStatuses"][0]["state"]
    together.delete("signalled")


def test_the_pause_process_leads_nowhere(together: Instance) -> None:
    # c2 runs as the same user: not even that leads anywhere, because the pause process is not dumpable.
    for container in ("c0", "c2"):
        for path in ("root/files/hosts", "cwd/files", "ns/net", "environ", "maps", "mem"):
            answer = together.probe("together", "read", f"/proc/1/{path}", container=container)
            assert answer.get("errno") == errno.EACCES, path
    # And if it did, there would be nothing but the pod's own.
    root = Path(f"/proc/{pause_pid(together, 'together')}/root")
    assert set(os.listdir(root)) == {"files", "rootfs", "shm", "termination", "volumes"}
    assert os.listdir(root / "rootfs") == []
    together.exec("together", "kill", "-9", "1")
    together.exec("together", "kill", "-TERM", "1")
    assert together.probe("together", "ps")["1"] == "minipod-pause", "a container cannot end it"


# ---- the host's namespaces ------------------------------------------------------------------------------------


@pytest.mark.field("PodSpec.hostNetwork")
def test_host_network(shared_instance: Instance) -> None:
    pod = shared_instance.start_pod("hostnet", {}, hostNetwork=True)
    report = json.loads(shared_instance.first_line("hostnet"))
    assert report["ns"]["net"] == namespace("self", "net")
    assert report["ns"]["uts"] == namespace("self", "uts")
    for name in ("ipc", "pid", "mnt", "cgroup"):
        assert report["ns"][name] != namespace("self", name), name
    assert report["hostname"] == os.uname().nodename
    assert report["env"]["HOSTNAME"] == os.uname().nodename
    assert pod["status"]["podIP"] == pod["status"]["hostIP"]
    hosts = shared_instance.probe("hostnet", "read", "/etc/hosts")["text"]
    heading = "# Kubernetes-managed hosts file (host network).\n"
    assert hosts == heading + Path("/etc/hosts").read_text()
    resolver = shared_instance.probe("hostnet", "read", "/etc/resolv.conf")["text"]
    assert resolver == Path("/etc/resolv.conf").read_text()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(patience(10))
        port = str(server.getsockname()[1])
        # The connection is made from the kernel's queue; nobody answers, and that is said in time.
        answer = shared_instance.probe("hostnet", "tcp-connect", "127.0.0.1", port, "100")
        assert answer["errno"] == errno.ETIMEDOUT and answer["error"] == "answer"
    # It shares the network, not the right to change it.
    assert shared_instance.exec("hostnet", "ip", "link", "set", "lo", "mtu", "60000").returncode
    assert shared_instance.exec("hostnet", "hostname", "x").returncode
    shared_instance.delete("hostnet")


def test_host_network_port_that_is_taken(shared_instance: Instance) -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(MinipodError, match=f"port {port}/TCP is taken on this host"):
            shared_instance.create("taken", {"ports": [{"containerPort": port}]}, hostNetwork=True)


@pytest.mark.field("PodSpec.hostPID")
def test_host_pid(shared_instance: Instance) -> None:
    shared_instance.start_pod("hostpid", {}, hostPID=True)
    report = json.loads(shared_instance.first_line("hostpid"))
    assert report["ns"]["pid"] == namespace("self", "pid")
    assert report["ids"]["pid"] == shared_instance.pid("hostpid")
    assert str(os.getpid()) in report["ps"]
    # It sees the host's processes, and gets nowhere through them.
    for pid in (1, os.getpid()):
        for path in ("root/etc/passwd", "cwd/x", "fd/0", "ns/net", "environ", "maps", "mem"):
            answer = shared_instance.probe("hostpid", "read", f"/proc/{pid}/{path}")
            assert answer.get("errno") == errno.EACCES, path
    assert shared_instance.exec("hostpid", "chroot", f"/proc/{os.getpid()}/root", "true").returncode
    shared_instance.delete("hostpid")


@pytest.mark.field("PodSpec.hostIPC")
def test_host_ipc(shared_instance: Instance) -> None:
    shared_instance.start_pod("hostipc", {}, hostIPC=True)
    pid = shared_instance.pid("hostipc")
    assert namespace(pid, "ipc") == namespace("self", "ipc")
    name = shared_instance.config.nft_table
    path = Path(f"/dev/shm/{name}")
    try:
        assert shared_instance.probe("hostipc", "shm-write", name, "hello") == {"written": 5}
        assert path.read_text() == "hello"
    finally:
        path.unlink(missing_ok=True)
    shared_instance.delete("hostipc")


def test_the_ends_of_processes_are_clean_in_every_mode(shared_instance: Instance) -> None:
    """What a first process leaves behind ends with its container, also without a PID namespace of its own."""
    for number, mode in enumerate(("", "shareProcessNamespace", "hostPID")):
        name = f"ends{number}"
        command = ["sh", "-c", "sleep 1000 & sleep 1000 & exit 3"]
        pod = shared_instance.run_pod(name, {"command": command}, **({mode: True} if mode else {}))
        assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
        shared_instance.delete(name)
        uid = pod["metadata"]["uid"]
        # The agent may be measuring a directory of the pod for an instant more.
        end = time.monotonic() + patience(5)
        while left := [p for p in shared_instance.processes() if uid in p.cgroup + p.words]:
            assert time.monotonic() < end, [w for p in left for w in p.words.split() if uid in w]
            time.sleep(0.05)
