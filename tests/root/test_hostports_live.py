# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of the host, in network namespaces of their own: who reaches a pod through them, and as whom."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from minipod.network import Network, pod_link
from minipod.plan import HostPort
from tests.patience import patience
from tests.root.test_network_live import CONFIG, Namespace, Pod, isolated, run

pytestmark = pytest.mark.requires("root", "nft", "veth", "tool:ip")

ANY = "0.0.0.0"
HOST, OTHER_HOST, CLIENT = "198.51.100.2", "203.0.113.2", "198.51.100.1"
STREAM = (socket.SOCK_STREAM, 0)
DATAGRAM = (socket.SOCK_DGRAM, 0)
SCTP = (socket.SOCK_STREAM, socket.IPPROTO_SCTP)
SOCKETS = {"TCP": STREAM, "UDP": DATAGRAM, "SCTP": SCTP}
BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
LOCALNET = Path(f"/proc/sys/net/ipv4/conf/{CONFIG.bridge}/route_localnet")
QUIET = 0.4  # seconds in which nothing comes


def with_ports(last: int, *ports: HostPort) -> Pod:
    """Return a pod that has these ports of the host; not attached yet."""
    pod = Pod(last)
    pod.link = pod_link(CONFIG, pod.link.owner, pod.link.address, ports)
    return pod


@contextlib.contextmanager
def world() -> Iterator[Namespace]:
    """A host with two addresses, and another machine that reaches both."""
    with Namespace() as outside:
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0")
        run("ip", "link", "set", "out0", "netns", f"/proc/{os.getpid()}/fd/{outside.fd}")
        run("ip", "link", "set", "up0", "up")
        run("ip", "addr", "add", f"{HOST}/24", "dev", "up0")
        run("ip", "addr", "add", f"{OTHER_HOST}/32", "dev", "up0")
        run("ip", "route", "add", "default", "via", CLIENT)
        outside.run("ip", "link", "set", "out0", "up")
        outside.run("ip", "addr", "add", f"{CLIENT}/24", "dev", "out0")
        outside.run("ip", "route", "add", f"{OTHER_HOST}/32", "via", HOST)
        yield outside


@contextlib.asynccontextmanager
async def network_of(*pods: Pod) -> AsyncIterator[Network]:
    network = await Network.open(CONFIG)
    try:
        await network.ensure([])
        await asyncio.gather(*(pod.attach(network) for pod in pods))
        yield network
    finally:
        await network.close()


class Server:
    """Answers everybody with the name of its pod and the address that it sees."""

    def __init__(self, pod: Pod, port: int, kind: tuple[int, int] = STREAM, name: str = "") -> None:
        self._name = name or pod.link.address
        self._socket = pod.socket(socket.AF_INET, *kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.settimeout(None)
        self._socket.bind((ANY, port))
        if kind[0] == socket.SOCK_STREAM:
            self._socket.listen()
        self._task = asyncio.create_task(asyncio.to_thread(self._serve, kind[0]))

    def _serve(self, kind: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                if kind == socket.SOCK_DGRAM:
                    _, peer = self._socket.recvfrom(64)
                    self._socket.sendto(f"{self._name} sees {peer[0]}".encode(), peer)
                    continue
                connection, peer = self._socket.accept()
                with connection:
                    connection.sendall(f"{self._name} sees {peer[0]}".encode())

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        await asyncio.wait([self._task], timeout=5)


def host_socket(*kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, *kind)
    made.settimeout(patience(5))
    return made


def ask(made: socket.socket, address: str, port: int) -> str:
    """Return what is answered, or what went wrong; *made* is closed."""
    with made:
        try:
            made.connect((address, port))
            if made.type == socket.SOCK_DGRAM:
                made.send(b"?")
            return made.recv(64).decode()
        except OSError as error:
            return type(error).__name__


async def answer(
    who: Namespace | None, address: str, port: int, kind: tuple[int, int] = STREAM
) -> str:
    """Return the answer that *who* (None: the host) gets."""

    def body() -> str:
        made = who.socket(socket.AF_INET, *kind) if who else host_socket(*kind)
        return ask(made, address, port)

    return await asyncio.to_thread(body)


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, *SCTP).close()
    except OSError:
        return False
    return True


def protocols() -> list[str]:
    return ["TCP", "UDP", *(["SCTP"] if has_sctp() else [])]


def both_bridges(test: Callable[[], None]) -> Callable[[str], None]:
    """Run a test with bridged packets passing iptables, as on a host with Docker or Kubernetes, and without."""

    def wrapper(bridge_netfilter: str) -> None:
        before = BRIDGE_NETFILTER.read_text() if BRIDGE_NETFILTER.exists() else None
        if before is None and bridge_netfilter == "1":
            pytest.skip("br_netfilter is not loaded")
        wanted.append(bridge_netfilter)
        try:
            test()
        finally:
            wanted.clear()

    wrapper.__name__ = test.__name__
    return pytest.mark.parametrize("bridge_netfilter", ["0", "1"])(wrapper)


wanted: list[str] = []


def set_bridge_netfilter() -> None:
    """Set what :func:`both_bridges` wants, in the namespace of the caller."""
    if wanted and BRIDGE_NETFILTER.exists():
        BRIDGE_NETFILTER.write_text(wanted[0])


@both_bridges
@isolated
async def test_everybody_reaches_the_pod_and_whoever_can_is_seen_as_himself() -> None:
    set_bridge_netfilter()
    for protocol in protocols():
        kind = SOCKETS[protocol]
        port = HostPort(ANY, protocol, 8080, 80)
        with world() as outside, with_ports(2, port) as pod, Pod(3) as other:
            async with network_of(pod, other), Server(pod, 80, kind):
                for address in (HOST, OTHER_HOST):
                    seen = await answer(outside, address, 8080, kind)
                    assert seen == f"10.99.0.2 sees {CLIENT}", (protocol, address)
                    seen = await answer(None, address, 8080, kind)
                    assert seen == f"10.99.0.2 sees {address}", (protocol, address)
                    # Over the host, so that the answer comes back over it.
                    for neighbour in (other, pod):
                        seen = await answer(neighbour, address, 8080, kind)
                        assert seen == "10.99.0.2 sees 10.99.0.1", (protocol, address, neighbour)
                for address in ("127.0.0.1", "127.0.0.2", "10.99.0.1"):
                    seen = await answer(None, address, 8080, kind)
                    assert seen == "10.99.0.2 sees 10.99.0.1", (protocol, address)
                assert await answer(other, "10.99.0.1", 8080, kind) == "10.99.0.2 sees 10.99.0.1"
                # What is none of the host's addresses is not forwarded, nor is another port.
                assert await answer(other, "10.99.0.2", 80, kind) == "10.99.0.2 sees 10.99.0.3"
                assert await answer(None, HOST, 8081, kind) == "ConnectionRefusedError"
                assert await answer(other, "10.99.0.2", 8080, kind) == "ConnectionRefusedError"
        run("ip", "link", "del", "up0")
        run("ip", "link", "del", CONFIG.bridge)


@isolated
async def test_one_port_on_several_addresses() -> None:
    ports = [HostPort(HOST, "TCP", 80, 80), HostPort(OTHER_HOST, "TCP", 80, 81)]
    rest = HostPort(ANY, "TCP", 443, 82)
    with world() as outside, with_ports(2, ports[0]) as one, with_ports(3, ports[1], rest) as two:
        async with network_of(one, two), Server(one, 80), Server(two, 81), Server(two, 82):
            assert await answer(outside, HOST, 80) == f"10.99.0.2 sees {CLIENT}"
            assert await answer(outside, OTHER_HOST, 80) == f"10.99.0.3 sees {CLIENT}"
            assert await answer(outside, HOST, 443) == f"10.99.0.3 sees {CLIENT}"
            assert await answer(None, "127.0.0.1", 80) == "ConnectionRefusedError"


@isolated
async def test_a_port_of_the_loopback_is_the_hosts_alone() -> None:
    """A packet for 127.0.0.1 from elsewhere is dropped by the kernel, but only behind the translation."""
    with world() as outside, with_ports(2, HostPort("127.0.0.1", "TCP", 80, 80)) as pod:
        async with network_of(pod), Server(pod, 80):
            assert await answer(None, "127.0.0.1", 80) == "10.99.0.2 sees 10.99.0.1"
            assert await answer(outside, HOST, 80) == "ConnectionRefusedError"
            # A neighbour that sends what no honest one does.
            outside.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
            outside.run("sysctl", "-qw", "net.ipv4.conf.out0.route_localnet=1")
            outside.run("ip", "route", "add", "127.0.0.1/32", "via", HOST)
            made = outside.socket(socket.AF_INET, socket.SOCK_STREAM)
            made.settimeout(QUIET)
            assert await asyncio.to_thread(ask, made, "127.0.0.1", 80) == "TimeoutError"


@isolated
async def test_the_hosts_loopback_stays_closed_to_pods() -> None:
    """route_localnet lets the host's 127.0.0.1 be forwarded to pods; the way back is shut (CVE-2020-8558)."""
    with with_ports(2, HostPort(ANY, "TCP", 80, 80)) as pod:
        async with network_of(pod) as network, Server(pod, 80):
            assert LOCALNET.read_text() == "1\n"
            server = host_socket(*STREAM)
            with server:
                server.bind(("127.0.0.1", 4000))
                server.listen()
                pod.run("sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1")
                pod.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
                pod.run("ip", "route", "add", "127.0.0.1/32", "via", "10.99.0.1")
                # Without the bridge's own filter: the other table stands alone.
                run("nft", "flush", "chain", "bridge", CONFIG.nft_table, "guard")
                with pod.socket(socket.AF_INET, *STREAM) as made:
                    made.settimeout(QUIET)
                    assert made.connect_ex(("127.0.0.1", 4000)) == errno.EAGAIN, "nothing came"
            await network.detach(pod.link)
            assert LOCALNET.read_text() == "0\n", "only as long as there are ports"


@isolated
async def test_what_is_removed_and_what_comes_back() -> None:
    port = HostPort(ANY, "TCP", 80, 80)
    with world() as outside, with_ports(2, port) as one, with_ports(3, port) as two:
        async with network_of(one) as network:
            async with Server(one, 80):
                assert await answer(outside, HOST, 80) == f"10.99.0.2 sees {CLIENT}"
                # Somebody has thrown the tables away; an agent that comes back makes them again.
                run("nft", "flush", "ruleset")
                assert await answer(outside, HOST, 80) == "ConnectionRefusedError"
                await network.ensure([one.link])
                assert await answer(outside, HOST, 80) == f"10.99.0.2 sees {CLIENT}"
                assert LOCALNET.read_text() == "1\n"
            # The next pod is admitted before the last one is quite gone.
            await two.attach(network)
            await network.detach(one.link)
            async with Server(two, 80):
                assert await answer(outside, HOST, 80) == f"10.99.0.3 sees {CLIENT}"
            await network.detach(two.link)
            assert await answer(outside, HOST, 80) == "ConnectionRefusedError"
            listed = json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]
            assert all("elem" not in entry["map"] for entry in listed if "map" in entry)
            assert LOCALNET.read_text() == "0\n"


@isolated
async def test_a_pod_without_ports_costs_no_connection_and_no_sysctl() -> None:
    with Pod(2) as pod:
        async with network_of(pod):
            assert LOCALNET.read_text() == "0\n"
            listed = json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]
            assert all("elem" not in entry["map"] for entry in listed if "map" in entry)
            (link,) = json.loads(run("ip", "-j", "-d", "link", "show", "master", CONFIG.bridge))
            assert not link["linkinfo"]["info_slave_data"]["hairpin"]


@isolated
async def test_a_udp_client_that_never_pauses_finds_the_pod_that_is_there() -> None:
    """Conntrack asks the ruleset once per flow, and this flow is older than each of the pods."""
    port = HostPort(ANY, "UDP", 53, 53)
    with world() as outside, with_ports(2, port) as one, with_ports(3, port) as two:
        async with network_of() as network:
            with outside.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:

                def heard() -> str:
                    client.settimeout(QUIET)
                    with contextlib.suppress(OSError):
                        client.recv(64)  # what was refused before
                    try:
                        client.sendto(b"?", (HOST, 53))
                        return client.recv(64).decode()
                    except OSError as error:
                        return type(error).__name__

                def send() -> None:
                    client.sendto(b"?", (HOST, 53))

                client.bind((CLIENT, 5353))
                await asyncio.to_thread(send)
                for pod in (one, two):
                    await pod.attach(network)
                    async with Server(pod, 53, DATAGRAM):
                        seen = await asyncio.to_thread(heard)
                        assert seen == f"{pod.link.address} sees {CLIENT}"
                    await network.detach(pod.link)
                    await asyncio.to_thread(send)


@isolated
async def test_other_flows_are_left_alone() -> None:
    """A pod's own questions to port 53 elsewhere are no business of the port 53 of the host."""
    with world() as outside, Pod(2) as asker, with_ports(3, HostPort(ANY, "UDP", 53, 53)) as pod:
        async with network_of(asker) as network:
            server = outside.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client = asker.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with server, client:
                server.bind((CLIENT, 53))
                client.sendto(b"?", (CLIENT, 53))
                _, peer = server.recvfrom(64)
                assert peer[0] == HOST, "masqueraded"
                await pod.attach(network)
                server.sendto(b"late", peer)
                assert client.recv(64) == b"late"
