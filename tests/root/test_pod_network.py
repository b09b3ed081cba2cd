# SPDX-License-Identifier: GPL-3.0-or-later
"""The pods' network, with real pods: who reaches whom, from which address, and what a pod finds in its files."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from tests.features import requires
from tests.instance import Instance
from tests.patience import patience

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

TCP, UDP = {"command": ["/probe", "tcp-serve", "80"]}, {"command": ["/probe", "udp-serve", "53"]}


@pytest.fixture(scope="module")
def pods(shared_instance: Instance) -> Iterator[Instance]:
    """Pods ``one`` and ``two``, each with a TCP server (c0, port 80) and a UDP server (c1, port 53)."""
    for name in ("one", "two"):
        shared_instance.start_pod(name, TCP, UDP)
    for name in ("one", "two"):
        for container in ("c0", "c1"):
            assert "listening" in shared_instance.first_line(name, container)
    yield shared_instance
    shared_instance.delete("one", "two")


def address(instance: Instance, name: str) -> str:
    found: str = instance.pod(name)["status"]["podIP"]
    return found


def gateway(instance: Instance) -> str:
    return str(next(ipaddress.ip_network(instance.config.pod_cidr).hosts()))


def ip(*arguments: str, pid: int | None = None) -> Any:
    """Return what ``ip -j`` says, on the host or in the network namespace of a process."""
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net"] if pid else []
    done = subprocess.run(
        [*enter, "ip", "-j", *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout or "[]")


@contextlib.contextmanager
def listening(instance: Instance, where: str) -> Iterator[tuple[socket.socket, str]]:
    """A TCP server of the host at *where*, with its port."""
    with socket.socket() as server:
        server.bind((where, 0))
        server.listen()
        server.settimeout(patience(10))
        yield server, str(server.getsockname()[1])


# ---- who reaches whom, and as whom ----------------------------------------------------------------------------


@pytest.mark.parametrize(("sender", "receiver"), [("one", "two"), ("two", "one")])
def test_pod_to_pod(pods: Instance, sender: str, receiver: str) -> None:
    """Every pod sees the address that the other sees itself as (Kubernetes, "the network model")."""
    source, target = address(pods, sender), address(pods, receiver)
    assert pods.probe(sender, "tcp-connect", target, "80") == {"answer": source}
    assert pods.probe(sender, "udp-send", target, "53", "hello") == {"answer": source}
    assert f'"peer":"{source}"' in pods.output(receiver, "c0")
    assert f'"peer":"{source}"' in pods.output(receiver, "c1")
    assert pods.probe(sender, "ping", target) == {"type": 0}


def test_a_pod_to_itself(pods: Instance) -> None:
    own = address(pods, "one")
    assert pods.probe("one", "tcp-connect", own, "80", container="c1") == {"answer": own}


def test_host_to_pod(pods: Instance) -> None:
    for name in ("one", "two"):
        with socket.create_connection(
            (address(pods, name), 80), timeout=patience(10)
        ) as connection:
            seen = connection.recv(64).decode()
            assert seen == connection.getsockname()[0] == gateway(pods), "the host, not a NAT of it"


def test_pod_to_host(pods: Instance) -> None:
    host_ip = pods.pod("one")["status"]["hostIP"]
    for where in {gateway(pods), host_ip}:
        with listening(pods, where) as (server, port):
            # Answered by the kernel's queue; that no data comes is not what this is about.
            pods.probe("one", "tcp-connect", where, port, "100")
            connection, peer = server.accept()
            connection.close()
            assert peer[0] == address(pods, "one"), "no NAT between a pod and its host"


def test_a_closed_port_is_refused_at_once(pods: Instance) -> None:
    answer = pods.probe("one", "tcp-connect", address(pods, "two"), "81")
    assert answer["text"] == "Connection refused"


def test_the_hosts_loopback_is_not_reached(pods: Instance) -> None:
    with listening(pods, "127.0.0.1") as (server, port):
        server.settimeout(0.3)
        answer = pods.probe("one", "tcp-connect", "127.0.0.1", port, "200")
        assert answer["text"] == "Connection refused", "127.0.0.1 is the pod's own"
        with pytest.raises(TimeoutError):
            server.accept()


# ---- the links ------------------------------------------------------------------------------------------------


def test_addresses_are_of_the_range_and_differ(pods: Instance) -> None:
    found = [address(pods, name) for name in ("one", "two")]
    network = ipaddress.ip_network(pods.config.pod_cidr)
    assert len({*found, gateway(pods)}) == 3
    assert all(ipaddress.ip_address(text) in network for text in found)


def test_inside(pods: Instance) -> None:
    pid = pods.pid("one")
    links = {link["ifname"]: link for link in ip("addr", pid=pid)}
    assert set(links) == {"lo", "eth0"}
    assert "UP" in links["lo"]["flags"] and "UP" in links["eth0"]["flags"]
    own = [
        (a["local"], a["prefixlen"]) for a in links["eth0"]["addr_info"] if a["family"] == "inet"
    ]
    prefix = ipaddress.ip_network(pods.config.pod_cidr).prefixlen
    assert own == [(address(pods, "one"), prefix)]
    routes = ip("route", pid=pid)
    assert [(r["dst"], r.get("gateway"), r["dev"]) for r in routes if r["dst"] == "default"] == [
        ("default", gateway(pods), "eth0")
    ]
    assert len(routes) == 2


def test_outside(pods: Instance) -> None:
    """Each pod's host end is a port of the bridge, and the filter knows its MAC and its address."""
    ports = {link["ifname"]: link for link in ip("link", "show", "master", pods.config.bridge)}
    assert len(ports) == 2
    done = subprocess.run(
        ["nft", "-j", "list", "set", "bridge", pods.config.nft_table, "pods"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = next(i["set"]["elem"] for i in json.loads(done.stdout)["nftables"] if "set" in i)
    allowed = {tuple(element["concat"]) for element in found}
    expected = set()
    for name in ("one", "two"):
        (inner,) = (x for x in ip("addr", pid=pods.pid(name)) if x["ifname"] == "eth0")
        (outer,) = (port for port in ports.values() if port["ifindex"] == inner["link_index"])
        assert outer["ifname"].startswith(pods.config.link_prefix)
        expected.add((outer["ifname"], inner["address"], address(pods, name)))
        path = Path(f"/proc/sys/net/ipv6/conf/{outer['ifname']}/accept_ra")
        assert not path.exists() or path.read_text() == "0\n"
    assert allowed == expected


def test_sysctls(pods: Instance) -> None:
    for name, value in (
        ("net/ipv4/ping_group_range", "0\t2147483647"),
        ("net/ipv4/conf/all/route_localnet", "0"),
    ):
        assert pods.probe("one", "read", f"/proc/sys/{name}") == {"text": f"{value}\n"}


def test_a_container_cannot_change_its_network(pods: Instance) -> None:
    for command in (
        "ip addr add 10.0.0.1/8 dev eth0",
        "ip link set eth0 address 02:00:00:00:00:01",
        "ip link set eth0 down",
        "ip route add 192.0.2.0/24 dev eth0",
        "ip link add x type dummy",
    ):
        done = pods.exec("one", *command.split())
        assert done.returncode != 0 and "not permitted" in done.stdout, command


def test_no_raw_or_packet_sockets(pods: Instance) -> None:
    inet, packet, raw, dgram, icmp = "2", "17", "3", "2", "1"
    for wanted in ((inet, raw, icmp), (packet, raw, "0"), (packet, dgram, "0")):
        answer = pods.probe("one", "try-syscall", "socket", *wanted)
        assert answer["errno"] == errno.EPERM, wanted


# ---- spoofing, by someone who could -----------------------------------------------------------------------------

SEND = """
import socket, sys
source, target = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((source, 0))
    sock.settimeout(float(0.5))
    sock.sendto(b"hello", (target, 53))
    try:
        print(sock.recv(64).decode())
    except OSError as error:
        print(type(error).__name__)
"""


def send_as(pid: int, source: str, target: str) -> str:
    """Send a datagram with all privileges in a pod's network namespace; return the answer or the error."""
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
    command = [*enter, sys.executable, "-c", SEND, source, target]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_spoofed_packets_do_not_leave(pods: Instance) -> None:
    """Even root with CAP_NET_ADMIN in the pod's namespace sends from nothing but the pod's own MAC and address."""
    pods.start_pod("spoof", {})
    pid, own = pods.pid("spoof"), address(pods, "spoof")
    target = address(pods, "two")
    assert send_as(pid, own, target) == own
    foreign = str(ipaddress.ip_network(pods.config.pod_cidr)[4242])
    ip("addr", "add", f"{foreign}/32", "dev", "eth0", pid=pid)
    for other in (foreign, address(pods, "one")):
        if other != foreign:
            ip("addr", "add", f"{other}/32", "dev", "eth0", pid=pid)
        assert send_as(pid, other, target) == "TimeoutError", other
    log = pods.output("two", "c1")
    assert f'"peer":"{own}"' in log and foreign not in log
    assert send_as(pid, own, target) == own, "what is its own still leaves"
    ip("link", "set", "eth0", "address", "02:00:00:00:00:99", pid=pid)
    ip("neigh", "flush", "all", pid=pid)
    assert send_as(pid, own, target) in ("TimeoutError", "OSError")
    pods.delete("spoof")


# ---- names and files ------------------------------------------------------------------------------------------


def hosts(own: str, name: str) -> str:
    """The kubelet's file (managedHostsFileContent)."""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        f"{own}\t{name}",
    ]
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("plain", {}, "plain"),
        ("with.dots", {}, "with.dots"),
        ("named", {"hostname": "other"}, "other"),
        ("n" * 70, {}, "n" * 63),
        ("m" * 62 + ".x", {}, "m" * 62),
    ],
)
def test_host_name(
    shared_instance: Instance, name: str, spec: dict[str, str], expected: str
) -> None:
    shared_instance.start_pod(name, {}, {}, **spec)
    report = json.loads(shared_instance.first_line(name, "c1"))
    assert report["hostname"] == report["env"]["HOSTNAME"] == expected
    for container in ("c0", "c1"):

        def read(path: str, container: str = container) -> str:
            text: str = shared_instance.probe(name, "read", path, container=container)["text"]
            return text

        assert read("/etc/hostname") == f"{expected}\n"
        assert read("/etc/hosts") == hosts(address(shared_instance, name), expected)
    assert os.uname().nodename != expected, "the host's own name is untouched"
    shared_instance.delete(name)


def test_resolv_conf(pods: Instance) -> None:
    text = pods.probe("one", "read", "/etc/resolv.conf")["text"]
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    servers = [line for line in lines if line.startswith("nameserver")]
    if any(ipaddress.ip_address(line.split()[1]).is_loopback for line in servers):
        lines = Path("/run/systemd/resolve/resolv.conf").read_text().splitlines()
        servers = [line for line in lines if line.startswith("nameserver")]
    assert [x for x in text.splitlines() if x.startswith("nameserver")] == servers[:3]
    assert {x.split()[0] for x in text.splitlines()} <= {"nameserver", "search", "options"}


@pytest.mark.field(
    "PodSpec.hostname", "PodSpec.subdomain", "PodSpec.setHostnameAsFQDN", "PodSpec.hostnameOverride"
)
def test_names_of_every_kind(shared_instance: Instance) -> None:
    """What the kubelet writes into /etc/hosts, and what the kernel calls the host (``hostname`` and ``uname -n``)."""
    longer = "h.sub.default.svc.cluster.local"
    for name, spec, kernel, line in (
        ("sub", {"hostname": "h", "subdomain": "sub"}, "h", f"{longer}\th"),
        (
            "fqdn",
            {"hostname": "h", "subdomain": "sub", "setHostnameAsFQDN": True},
            longer,
            f"{longer}\th",
        ),
        (
            "over",
            {"hostname": "h", "subdomain": "sub", "hostnameOverride": "www.example.com"},
            "www.example.com",
            "www.example.com",
        ),
        ("longest", {"hostnameOverride": "a" * 64}, "a" * 64, "a" * 64),
    ):
        shared_instance.start_pod(name, {}, **spec)
        report = json.loads(shared_instance.first_line(name))
        assert report["hostname"] == report["env"]["HOSTNAME"] == kernel
        read = shared_instance.probe(name, "read", "/etc/hosts")["text"]
        assert read.splitlines()[-1] == f"{address(shared_instance, name)}\t{line}"
        assert shared_instance.probe(name, "read", "/etc/hostname") == {"text": f"{kernel}\n"}
        shared_instance.delete(name)


def test_a_name_that_is_too_long_for_the_kernel_is_refused_whole(
    shared_instance: Instance,
) -> None:
    spec = {"subdomain": "s" * 40, "setHostnameAsFQDN": True}
    with pytest.raises(MinipodError, match="the kernel has room for 64"):
        shared_instance.create("toolong", {}, **spec)
    with pytest.raises(MinipodError, match="not found"):
        shared_instance.pod("toolong")


@pytest.mark.field("HostAlias.ip", "HostAlias.hostnames")
def test_host_aliases(shared_instance: Instance) -> None:
    aliases = [
        {"ip": "10.0.0.1", "hostnames": ["db", "db.lan"]},
        {"ip": "fd00::1", "hostnames": ["v6"]},
    ]
    expected = "\n# Entries added by HostAliases.\n10.0.0.1\tdb\tdb.lan\nfd00::1\tv6\n"
    for name, spec in (("own", {}), ("shared", {"hostNetwork": True})):
        shared_instance.start_pod(name, {}, hostAliases=aliases, **spec)
        text = shared_instance.probe(name, "read", "/etc/hosts")["text"]
        assert text.endswith(expected)
        if spec:
            head = "# Kubernetes-managed hosts file (host network).\n"
            assert text == head + Path("/etc/hosts").read_text() + expected
        shared_instance.delete(name)


@pytest.mark.field(
    "PodSpec.dnsPolicy",
    "PodDNSConfig.nameservers",
    "PodDNSConfig.searches",
    "PodDNSConfigOption.name",
    "PodDNSConfigOption.value",
)
def test_dns_policies(shared_instance: Instance) -> None:
    own = {
        "nameservers": ["192.0.2.1", "192.0.2.2"],
        "searches": ["a.example", "b.example."],
        "options": [{"name": "ndots", "value": "3"}, {"name": "edns0"}],
    }
    text = (
        "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a.example b.example.\n"
        "options ndots:3 edns0\n"
    )
    shared_instance.start_pod("own", {}, dnsPolicy="None", dnsConfig=own)
    assert shared_instance.probe("own", "read", "/etc/resolv.conf") == {"text": text}
    for policy in ("ClusterFirst", "ClusterFirstWithHostNet", "Default"):
        shared_instance.start_pod(policy.lower(), {}, dnsPolicy=policy, dnsConfig=own)
        found = shared_instance.probe(policy.lower(), "read", "/etc/resolv.conf")["text"]
        host = Path("/etc/resolv.conf").read_text().split()
        assert "nameserver 192.0.2.1\n" in found and "a.example" in found, policy
        servers = [x.split()[1] for x in found.splitlines() if x.startswith("nameserver")]
        assert all(s in host for s in servers if not s.startswith("192.0.2.")), policy
        shared_instance.delete(policy.lower())
    shared_instance.start_pod("net", {}, hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    found = shared_instance.probe("net", "read", "/etc/resolv.conf")["text"]
    assert found == Path("/etc/resolv.conf").read_text()
    shared_instance.delete("own", "net")


def test_the_files_are_one_of_all_containers(pods: Instance) -> None:
    """As in Kubernetes, what a container appends to /etc/hosts is seen by the pod's others, and by no other pod."""
    done = pods.exec("one", "sh", "-c", "echo 192.0.2.9 extra >>/etc/hosts", container="c0")
    assert done.returncode == 0
    assert "192.0.2.9 extra" in pods.probe("one", "read", "/etc/hosts", container="c1")["text"]
    assert "192.0.2.9 extra" not in pods.probe("two", "read", "/etc/hosts")["text"]
    assert "192.0.2.9" not in Path("/etc/hosts").read_text()
    # It lies on a tmpfs of a bounded size (CVE-2020-8557).
    done = pods.exec("one", "sh", "-c", "dd if=/dev/zero bs=1M count=2 >>/etc/hosts")
    assert "No space left on device" in done.stdout


def test_what_is_deleted_is_gone(shared_instance: Instance) -> None:
    shared_instance.start_pod("short", {})
    own, pid = address(shared_instance, "short"), shared_instance.pid("short")
    (inner,) = (x for x in ip("addr", pid=pid) if x["ifname"] == "eth0")
    shared_instance.delete("short")
    assert inner["link_index"] not in {link["ifindex"] for link in ip("link")}
    table = ["nft", "list", "set", "bridge", shared_instance.config.nft_table, "pods"]
    done = subprocess.run(table, capture_output=True, text=True, check=True)
    assert own not in done.stdout and inner["address"] not in done.stdout
