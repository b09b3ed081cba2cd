# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods with ports of the host: reached, refused, given back, and there again after the agent's death.

Who is seen as whom is in test_hostports_live.py, in network namespaces; here the host is the real one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from tests import leaks
from tests.instance import Instance
from tests.patience import patience

pytestmark = pytest.mark.requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

SERVER = ["/probe", "tcp-serve", "80"]
UDP_SERVER = ["/probe", "udp-serve", "53"]


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port of the host that nobody has, from outside of the range that the kernel hands out."""
    for number in range(20000, 30000):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("0.0.0.0", number))
                udp.bind(("0.0.0.0", number))
            except OSError:
                continue
        yield number
        return


def ports(number: int, **more: Any) -> dict[str, Any]:
    return {
        "command": SERVER,
        "ports": [{"containerPort": 80, "hostPort": number, **more}],
    }


def peer(address: str, port: int) -> str:
    """Return the address that the pod behind a port of the host sees."""
    with socket.create_connection((address, port), timeout=patience(5)) as connection:
        connection.settimeout(patience(5))
        return connection.recv(64).decode()


def host_address(instance: Instance, name: str) -> str:
    found: str = instance.pod(name)["status"]["hostIP"]
    return found


def maps(instance: Instance) -> list[Any]:
    """Return the elements of the two maps, as nft shows them."""
    listed = subprocess.run(
        ["nft", "-j", "list", "table", "inet", instance.config.nft_table],
        capture_output=True,
        text=True,
        check=True,
    )
    entries = json.loads(listed.stdout)["nftables"]
    found = [e for entry in entries if "map" in entry for e in entry["map"].get("elem", [])]
    return [leaks.uncounted(element) for element in found]


@pytest.mark.field(
    "ContainerPort.containerPort", "ContainerPort.hostPort", "ContainerPort.protocol"
)
def test_reached_from_the_host_and_from_pods(shared_instance: Instance, free_port: int) -> None:
    udp = {
        "command": UDP_SERVER,
        "ports": [{"containerPort": 53, "hostPort": free_port, "protocol": "UDP"}],
    }
    shared_instance.start_pod("ported", ports(free_port), udp)
    shared_instance.start_pod("other", {})
    for container in ("c0", "c1"):
        assert "listening" in shared_instance.first_line("ported", container)
    own = shared_instance.pod("ported")["status"]["podIP"]
    gateway = own.rsplit(".", 2)[0] + ".0.1"
    host = host_address(shared_instance, "ported")
    assert peer("127.0.0.1", free_port) == gateway
    assert peer(host, free_port) == host
    for name in ("other", "ported"):
        for verb in ("tcp-connect", "udp-send"):
            words = (verb, host, str(free_port), *(["hello"] if verb == "udp-send" else []))
            answer = shared_instance.probe(
                name, *words, container=None if name == "other" else "c0"
            )
            assert answer == {"answer": gateway}, (name, verb)
    assert sorted(maps(shared_instance), key=str) == [
        [{"concat": ["tcp", free_port]}, {"concat": [own, 80]}],
        [{"concat": ["udp", free_port]}, {"concat": [own, 53]}],
    ]
    shared_instance.delete("ported", "other")
    assert maps(shared_instance) == []
    with pytest.raises(ConnectionRefusedError):
        peer("127.0.0.1", free_port)


def test_a_taken_port_is_refused_whole(shared_instance: Instance, free_port: int) -> None:
    shared_instance.start_pod("first", ports(free_port))
    words = f"{free_port}/TCP of the host is taken by pod default/first"
    for name, container, spec in (
        ("second", ports(free_port), {}),
        ("third", ports(free_port, hostIP="127.0.0.1"), {}),
        ("fourth", {"ports": [{"containerPort": free_port}]}, {"hostNetwork": True}),
    ):
        with pytest.raises(MinipodError, match=words):
            shared_instance.create(name, container, **spec)
        with pytest.raises(MinipodError, match="not found"):
            shared_instance.pod(name)
    # Another protocol is another port.
    shared_instance.start_pod("fifth", ports(free_port, protocol="UDP"))
    shared_instance.delete("first", "fifth")
    with socket.create_server(("127.0.0.1", free_port)):
        with pytest.raises(MinipodError, match=f"port {free_port}/TCP is taken on this host"):
            shared_instance.create("sixth", ports(free_port))
        assert shared_instance.call("get", {"kind": "pods"})[0]["items"] == []
    shared_instance.start_pod("seventh", ports(free_port))
    shared_instance.delete("seventh")


@pytest.mark.field("ContainerPort.hostIP")
def test_several_pods_with_one_port_on_several_addresses(
    shared_instance: Instance, free_port: int
) -> None:
    shared_instance.start_pod("here", ports(free_port, hostIP="127.0.0.1"))
    host = host_address(shared_instance, "here")
    shared_instance.start_pod("there", ports(free_port, hostIP=host))
    for name in ("here", "there"):
        assert "listening" in shared_instance.first_line(name)
    peer("127.0.0.1", free_port)
    peer(host, free_port)
    assert shared_instance.output("here").count("peer") == 1
    assert shared_instance.output("there").count("peer") == 1
    shared_instance.delete("here", "there")


def test_a_pod_that_has_ended_gives_its_port_back(
    shared_instance: Instance, free_port: int
) -> None:
    ended = ports(free_port) | {"command": ["/probe", "exit", "0"]}
    shared_instance.run_pod("ended", ended)
    shared_instance.start_pod("next", ports(free_port))
    assert "listening" in shared_instance.first_line("next")
    peer("127.0.0.1", free_port)
    shared_instance.delete("ended", "next")


def test_a_pod_that_replaces_itself_keeps_its_port(
    shared_instance: Instance, free_port: int
) -> None:
    ended = ports(free_port) | {"command": ["/probe", "exit", "0"]}
    shared_instance.run_pod("again", ended)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "again"},
        "spec": {"containers": [{"name": "c0", "image": "localhost/test:1", **ports(free_port)}]},
    }
    request = {"manifest": json.dumps(pod), "source": "x", "replaceFinished": True}
    shared_instance.call("create", request)
    shared_instance.wait("again", "condition=Ready")
    assert "listening" in shared_instance.first_line("again")
    peer("127.0.0.1", free_port)
    shared_instance.delete("again")


def test_ports_outlive_the_agent(instance: Instance, test_archive: Path, free_port: int) -> None:
    """They go on while there is none, are not cut when one comes, and are made again when they are gone by then."""
    instance.load(test_archive)
    instance.start_pod("lasting", ports(free_port), restartPolicy="Always")
    assert "listening" in instance.first_line("lasting")
    address = instance.pod("lasting")["status"]["podIP"]
    pid = instance.call("agent-status", {})[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    peer("127.0.0.1", free_port)
    table = instance.config.nft_table
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        peer("127.0.0.1", free_port)
    instance.cli("get", "pods")
    peer("127.0.0.1", free_port)
    with pytest.raises(MinipodError, match="is taken by pod default/lasting"):
        instance.create("late", ports(free_port))
    # A sandbox that is rebuilt has another address, and takes the port along.
    pause = next(p for p in instance.processes() if p.comm == "minipod-pause")
    os.kill(pause.pid, signal.SIGKILL)
    instance.until("lasting", lambda pod: pod["status"].get("podIP") not in (None, address))
    instance.wait("lasting", "condition=Ready")
    assert "listening" in instance.first_line("lasting")
    peer("127.0.0.1", free_port)
    instance.delete("lasting")
    assert maps(instance) == []


def test_the_plan_tells(shared_instance: Instance, free_port: int) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "planned"},
        "spec": {"containers": [{"name": "c0", "image": "localhost/test:1", **ports(free_port)}]},
    }
    done, _ = shared_instance.call("plan", {"manifest": json.dumps(pod), "source": "x"})
    (plan,) = done["plans"]
    (attached,) = [step for step in plan["steps"] if step["kind"] == "AttachNetwork"]
    assert f"forward the host's port {free_port}/TCP to 80" in attached["step"]
