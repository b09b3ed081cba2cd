# SPDX-License-Identifier: GPL-3.0-or-later
"""The pod network for real, each test in network namespaces of its own; the host's is never touched.

A test runs in a thread that has left the host's network for a new one, which plays the host. Pods and the outside
world are further namespaces, entered by short-lived threads; a socket made there stays there.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

from minipod.config import Config
from minipod.errors import MinipodError
from minipod.network import Network, PodLink, pod_link
from minipod.network.elements import Element, ElementSocket
from tests.patience import patience

pytestmark = pytest.mark.requires("root", "nft", "veth", "tool:ip")

T = TypeVar("T")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
CONFIG = Config(bridge="mptbr0", link_prefix="mpt", pod_cidr="10.99.0.0/16", nft_table="mptest")
# A link that is not ours; not of type dummy, which not every kernel has.
FOREIGN = "ip link add {0} type veth peer name {0}p"
TIMEOUT = patience(5)
BROADCAST = b"\xff" * 6


def check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def in_thread(function: Callable[[], T]) -> T:
    """Run *function* in a thread of its own, whose namespaces nobody uses afterwards."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def isolated(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Make an async test run in a network namespace of its own, with the loopback up."""

    def body() -> None:
        check(LIBC.unshare(CLONE_NEWNET))
        assert {link["ifname"] for link in ip("link")} <= {"lo", "tunl0", "sit0"}
        run("ip", "link", "set", "lo", "up")
        asyncio.run(test())  # type: ignore[arg-type]

    # Not functools.wraps: pytest would find the coroutine function behind it.
    def wrapper() -> None:
        in_thread(body)

    wrapper.__name__ = test.__name__
    wrapper.__doc__ = test.__doc__
    return wrapper


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ip(*command: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("ip", "-j", "-d", *command) or "[]")
    return [entry for entry in found if entry]


def link_names() -> set[str]:
    return {link["ifname"] for link in ip("link")} - {"lo", "tunl0", "sit0"}


def tables() -> set[str]:
    listed = json.loads(run("nft", "-j", "list", "tables"))["nftables"]
    return {
        f"{entry['table']['family']} {entry['table']['name']}"
        for entry in listed
        if "table" in entry
    }


def elements() -> set[tuple[str, ...]]:
    listed = json.loads(run("nft", "-j", "list", "set", "bridge", CONFIG.nft_table, "pods"))[
        "nftables"
    ]
    found = next(entry["set"] for entry in listed if "set" in entry).get("elem", [])
    return {tuple(element["concat"]) for element in found}


def element(link: PodLink) -> tuple[str, ...]:
    return (link.host_ifname, link.mac, link.address)


class Namespace:
    """A network namespace, with a netlink socket made inside."""

    def __init__(self) -> None:
        self.fd, self.netlink = in_thread(self._make)

    @staticmethod
    def _make() -> tuple[int, int]:
        check(LIBC.unshare(CLONE_NEWNET))
        run("ip", "link", "set", "lo", "up")
        route = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY), route.detach()

    def __call__(self, function: Callable[[], T]) -> T:
        def body() -> T:
            check(LIBC.setns(self.fd, CLONE_NEWNET))
            return function()

        return in_thread(body)

    def run(self, *command: str) -> str:
        return self(lambda: run(*command))

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        made = self(lambda: socket.socket(family, kind, protocol))
        made.settimeout(TIMEOUT)
        return made

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.netlink)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pod(Namespace):
    """A namespace with a link to it."""

    def __init__(self, last: int, owner: str = "") -> None:
        super().__init__()
        address = str(IPv4Address("10.99.0.0") + last)
        self.link = pod_link(CONFIG, owner or f"pod-{last}", address)

    async def attach(self, network: Network) -> Pod:
        await network.attach(self.link, self.fd, self.netlink)
        return self

    def raw(self) -> socket.socket:
        """Return a packet socket on eth0: sends whole frames, and hears all protocols."""
        made = self.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        made.bind(("eth0", 0))
        return made


async def opened(*pods: Pod) -> Network:
    network = await Network.open(CONFIG)
    await asyncio.gather(*(pod.attach(network) for pod in pods))
    return network


def peer_seen(
    client: Callable[[], socket.socket], server: socket.socket, target: str
) -> tuple[str, str]:
    """Connect over TCP; return the address the server sees and the answer the client gets."""
    with server, client() as caller:
        server.bind(("0.0.0.0", 0))
        server.listen()
        caller.connect((target, server.getsockname()[1]))
        connection, (source, _) = server.accept()
        with connection:
            connection.sendall(b"hello")
        return source, caller.recv(16).decode()


def tcp(namespace: Namespace) -> socket.socket:
    return namespace.socket(socket.AF_INET, socket.SOCK_STREAM)


def host_tcp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(TIMEOUT)
    return made


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def udp_frame(mac_from: str, mac_to: bytes, ip_from: str, ip_to: str, payload: bytes) -> bytes:
    datagram = struct.pack("!HHHH", 1000, 4000, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP, 0)
    addresses = socket.inet_aton(ip_from) + socket.inet_aton(ip_to)
    head = head[:10] + struct.pack("!H", checksum(head + addresses)) + addresses
    return mac_to + mac_bytes(mac_from) + b"\x08\x00" + head + datagram


def arp_frame(mac_from: str, sender_mac: str, sender_ip: str, target_ip: str) -> bytes:
    request = (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        + mac_bytes(sender_mac)
        + socket.inet_aton(sender_ip)
    )
    return (
        BROADCAST
        + mac_bytes(mac_from)
        + b"\x08\x06"
        + request
        + bytes(6)
        + socket.inet_aton(target_ip)
    )


def heard_until(listener: socket.socket, last: bytes) -> list[bytes]:
    """Return the frames that *listener* gets up to the one with *last* in it."""
    frames: list[bytes] = []
    while not frames or last not in frames[-1]:
        frames.append(listener.recv(4096))
    return frames


def assert_no_ipv6(link: str) -> None:
    conf = Path("/proc/sys/net/ipv6/conf")
    if conf.exists():
        assert (conf / link / "disable_ipv6").read_text() == "1\n"
        assert (conf / link / "accept_ra").read_text() == "0\n"


@isolated
async def test_open_makes_bridge_sysctls_and_tables() -> None:
    network = await Network.open(CONFIG)
    (bridge,) = ip("addr", "show", "dev", CONFIG.bridge)
    assert bridge["linkinfo"]["info_kind"] == "bridge"
    assert bridge["address"] == "0a:58:0a:63:00:01"
    assert "UP" in bridge["flags"]
    assert [(a["local"], a["prefixlen"]) for a in bridge["addr_info"]] == [("10.99.0.1", 16)]
    conf = Path("/proc/sys/net")
    assert (conf / "ipv4/ip_forward").read_text() == "1\n"
    assert (conf / f"ipv4/conf/{CONFIG.bridge}/route_localnet").read_text() == "0\n"
    assert_no_ipv6(CONFIG.bridge)
    assert tables() == {"inet mptest", "bridge mptest"}
    assert network.host_ip() == "10.99.0.1"
    await network.close()


@isolated
async def test_attach_gives_the_pod_its_link() -> None:
    with Pod(2) as pod:
        network = await opened(pod)
        (port,) = ip("link", "show", "dev", "mpt0a630002")
        assert port["master"] == CONFIG.bridge
        assert port["linkinfo"]["info_slave_data"]["state"] == "forwarding"
        assert_no_ipv6(port["ifname"])
        (eth0,) = json.loads(pod.run("ip", "-j", "addr", "show", "dev", "eth0"))
        assert eth0["address"] == "0a:58:0a:63:00:02"
        assert [
            (a["local"], a["prefixlen"]) for a in eth0["addr_info"] if a["family"] == "inet"
        ] == [("10.99.0.2", 16)]
        (route,) = json.loads(pod.run("ip", "-j", "route", "show", "default"))
        assert (route["gateway"], route["dev"]) == ("10.99.0.1", "eth0")
        assert elements() == {element(pod.link)}
        await network.close()


@isolated
async def test_mtu_and_host_address_follow_the_default_route() -> None:
    run(*FOREIGN.format("up0").split())
    run("ip", "link", "set", "up0", "up", "mtu", "1400")
    run("ip", "addr", "add", "198.51.100.2/24", "dev", "up0")
    run("ip", "route", "add", "default", "via", "198.51.100.1")
    with Pod(2) as pod:
        network = await opened(pod)
        assert network.host_ip() == "198.51.100.2"
        assert [link["mtu"] for link in ip("link") if link["ifname"].startswith("mpt")] == [
            1400,
            1400,
        ]
        assert json.loads(pod.run("ip", "-j", "link", "show", "dev", "eth0"))[0]["mtu"] == 1400
        await network.close()


@isolated
async def test_everybody_sees_the_real_source_address() -> None:
    with Pod(2) as one, Pod(3) as two:
        network = await opened(one, two)
        talk = asyncio.to_thread
        assert await talk(peer_seen, lambda: tcp(one), tcp(two), "10.99.0.3") == (
            "10.99.0.2",
            "hello",
        )
        assert await talk(peer_seen, lambda: tcp(one), host_tcp(), "10.99.0.1") == (
            "10.99.0.2",
            "hello",
        )
        assert await talk(peer_seen, host_tcp, tcp(two), "10.99.0.3") == ("10.99.0.1", "hello")
        await network.close()


@isolated
async def test_only_what_leaves_the_machine_is_masqueraded() -> None:
    with Namespace() as outside, Pod(2) as pod:
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0")
        run("ip", "link", "set", "out0", "netns", f"/proc/{os.getpid()}/fd/{outside.fd}")
        run("ip", "link", "set", "up0", "up")
        run("ip", "addr", "add", "198.51.100.2/24", "dev", "up0")
        run("ip", "route", "add", "default", "via", "198.51.100.1")
        outside.run("ip", "link", "set", "out0", "up")
        outside.run("ip", "addr", "add", "198.51.100.1/24", "dev", "out0")
        network = await opened(pod)
        seen = await asyncio.to_thread(peer_seen, lambda: tcp(pod), tcp(outside), "198.51.100.1")
        assert seen == ("198.51.100.2", "hello")
        seen = await asyncio.to_thread(peer_seen, lambda: tcp(pod), host_tcp(), "198.51.100.2")
        assert seen == ("10.99.0.2", "hello")
        outside.run("ip", "route", "add", "10.99.0.0/16", "via", "198.51.100.2")
        seen = await asyncio.to_thread(peer_seen, lambda: tcp(outside), tcp(pod), "10.99.0.2")
        assert seen == ("198.51.100.1", "hello")
        await network.close()


@isolated
async def test_spoofed_ip_packets_are_dropped() -> None:
    with Pod(2) as liar, Pod(3) as victim, Pod(4) as third:
        network = await opened(liar, victim, third)
        own, to = liar.link, mac_bytes(victim.link.mac)
        ipv6 = to + mac_bytes(own.mac) + b"\x86\xdd" + bytes(40) + b"spoof-ipv6"
        vlan = udp_frame(own.mac, to, "10.99.0.4", victim.link.address, b"spoof-vlan")
        with liar.raw() as sender, victim.raw() as listener:
            sender.send(udp_frame(own.mac, to, "10.99.0.4", victim.link.address, b"spoof-ip"))
            sender.send(
                udp_frame(third.link.mac, to, own.address, victim.link.address, b"spoof-mac")
            )
            sender.send(
                udp_frame(third.link.mac, to, "10.99.0.4", victim.link.address, b"spoof-both")
            )
            sender.send(udp_frame(own.mac, to, "10.99.0.1", victim.link.address, b"spoof-gateway"))
            sender.send(udp_frame(own.mac, BROADCAST, "0.0.0.0", "255.255.255.255", b"spoof-dhcp"))
            sender.send(vlan[:12] + b"\x81\x00\x00\x05" + vlan[12:])
            sender.send(ipv6)
            sender.send(udp_frame(own.mac, to, own.address, victim.link.address, b"honest"))
            frames = heard_until(listener, b"honest")
        assert not [frame for frame in frames if b"spoof" in frame]
        await network.close()


@isolated
async def test_spoofed_arp_is_dropped() -> None:
    with Pod(2) as liar, Pod(3) as victim:
        network = await opened(liar, victim)
        own, other = liar.link.mac, "0a:58:0a:63:00:01"
        lies = [
            arp_frame(own, own, "10.99.0.1", "10.99.0.3"),
            arp_frame(own, other, "10.99.0.2", "10.99.0.3"),
            arp_frame(other, other, "10.99.0.1", "10.99.0.3"),
            arp_frame(other, own, "10.99.0.2", "10.99.0.3"),
        ]
        honest = arp_frame(own, own, "10.99.0.2", "10.99.0.3")
        with liar.raw() as sender, victim.raw() as listener:
            for frame in [*lies, honest]:
                sender.send(frame)
            frames = heard_until(listener, honest)
        assert not [frame for frame in frames if frame in lies]
        await network.close()


@isolated
async def test_spoofed_packets_do_not_reach_the_host() -> None:
    with Pod(2) as liar:
        network = await opened(liar)
        # As other software on the host may have set it (CVE-2020-8558); the bridge's own 0 does not undo it.
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
        own, bridge = liar.link.mac, mac_bytes("0a:58:0a:63:00:01")
        # Frames to these groups go to the host past all hooks of the bridge, in the port's own name.
        group = bytes.fromhex("0180c200000e")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, liar.raw() as sender:
            server.settimeout(TIMEOUT)
            server.bind(("0.0.0.0", 4000))
            sender.send(udp_frame(own, bridge, "10.99.0.77", "10.99.0.1", b"spoof-ip"))
            sender.send(udp_frame(own, group, "10.99.0.77", "10.99.0.1", b"spoof-group"))
            sender.send(udp_frame(own, bridge, "10.99.0.2", "127.0.0.1", b"loopback"))
            sender.send(udp_frame(own, bridge, "10.99.0.2", "10.99.0.1", b"honest"))
            assert server.recv(64) == b"honest"
        await network.close()


@isolated
async def test_a_port_without_its_element_is_dead() -> None:
    with Pod(2) as pod, Pod(3) as victim:
        network = await opened(pod, victim)
        own, to = pod.link, mac_bytes(victim.link.mac)
        with pod.raw() as sender, victim.raw() as listener:
            inner = f'{{ "{own.host_ifname}" . {own.mac} . {own.address} }}'
            run("nft", "delete", "element", "bridge", CONFIG.nft_table, "pods", inner)
            sender.send(udp_frame(own.mac, to, own.address, victim.link.address, b"unknown"))
            run("nft", "add", "element", "bridge", CONFIG.nft_table, "pods", inner)
            sender.send(udp_frame(own.mac, to, own.address, victim.link.address, b"known"))
            frames = heard_until(listener, b"known")
        assert not [frame for frame in frames if b"unknown" in frame]
        await network.close()


@isolated
async def test_parallel_attaches_share_transactions() -> None:
    pods = [Pod(last) for last in range(2, 34)]
    network = await Network.open(CONFIG)
    texts: list[object] = []
    original = ElementSocket.change

    def counted(self: ElementSocket, add: list[Element], remove: list[Element]) -> None:
        texts.append((add, remove))
        original(self, add, remove)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ElementSocket, "change", counted)
        await asyncio.gather(*(pod.attach(network) for pod in pods))
        assert 0 < len(texts) <= 8
        texts.clear()
        assert elements() == {element(pod.link) for pod in pods}
        assert {pod.link.host_ifname for pod in pods} <= link_names()
        await asyncio.gather(*(network.detach(pod.link) for pod in pods))
        assert 0 < len(texts) <= 8
    assert elements() == set()
    assert link_names() == {CONFIG.bridge}
    await network.close()
    for pod in pods:
        pod.close()


@isolated
async def test_detach_is_idempotent_and_leaves_nothing() -> None:
    with Pod(2) as pod, Pod(3) as other:
        network = await opened(pod, other)
        await network.detach(pod.link)
        await network.detach(pod.link)
        assert link_names() == {CONFIG.bridge, other.link.host_ifname}
        assert elements() == {element(other.link)}
        assert "eth0" not in pod.run("ip", "link")
        await network.close()


@isolated
async def test_detach_after_the_namespace_died() -> None:
    pod = await asyncio.to_thread(Pod, 2)
    network = await opened(pod)
    pod.close()
    await network.detach(pod.link)
    assert link_names() == {CONFIG.bridge}
    assert elements() == set()
    await network.close()


@isolated
async def test_no_fd_is_left() -> None:
    async def fds() -> int:
        for _ in range(10):  # asyncio closes the pipes of an ended process in its next rounds
            await asyncio.sleep(0)
        return len(os.listdir("/proc/self/fd"))

    with Pod(2) as pod:
        before = await fds()
        network = await opened(pod)
        await network.detach(pod.link)
        idle = await fds()
        for _ in range(50):
            await pod.attach(network)
            await network.detach(pod.link)
        assert await fds() == idle
        await network.close()
        assert await fds() == before


@isolated
async def test_flushed_ruleset_is_rebuilt_at_the_next_attach() -> None:
    with Pod(2) as one, Pod(3) as two, Pod(4) as three:
        network = await opened(one)
        run("nft", "flush", "ruleset")
        await two.attach(network)
        assert tables() == {"inet mptest", "bridge mptest"}
        assert elements() == {element(one.link), element(two.link)}
        run("nft", "delete", "table", "bridge", CONFIG.nft_table)
        await network.detach(one.link)
        assert elements() == {element(two.link)}
        run("nft", "delete", "table", "bridge", CONFIG.nft_table)
        await three.attach(network)
        assert elements() == {element(two.link), element(three.link)}
        await network.close()


@isolated
async def test_deleted_bridge_is_rebuilt_at_the_next_attach() -> None:
    with Pod(2) as one, Pod(3) as two:
        network = await opened(one)
        run("ip", "link", "delete", CONFIG.bridge)
        await two.attach(network)
        seen = await asyncio.to_thread(peer_seen, lambda: tcp(one), tcp(two), "10.99.0.3")
        assert seen == ("10.99.0.2", "hello")
        await network.close()


@isolated
async def test_ensure_repairs_and_removes_strays() -> None:
    with Pod(2) as kept, Pod(3) as stray, Pod(4) as orphan:
        network = await opened(kept, stray, orphan)
        await network.close()
        run("ip", "link", "set", orphan.link.host_ifname, "nomaster")
        run("ip", "link", "set", kept.link.host_ifname, "nomaster")
        run("ip", "link", "set", kept.link.host_ifname, "down")
        run("ip", "link", "set", CONFIG.bridge, "down", "address", "02:00:00:00:00:01")
        run("ip", "addr", "add", "10.98.0.1/16", "dev", CONFIG.bridge)
        run(*FOREIGN.format("mptforeign").split())
        run("nft", "flush", "chain", "bridge", CONFIG.nft_table, "guard")
        network = await Network.open(CONFIG)
        assert element(stray.link) in elements(), "open leaves the pods of a previous agent alone"
        await network.ensure([kept.link])
        assert link_names() == {CONFIG.bridge, kept.link.host_ifname, "mptforeign", "mptforeignp"}
        assert elements() == {element(kept.link)}
        assert "drop" in run("nft", "list", "chain", "bridge", CONFIG.nft_table, "guard")
        (bridge,) = ip("addr", "show", "dev", CONFIG.bridge)
        assert [a["local"] for a in bridge["addr_info"]] == ["10.99.0.1"]
        assert bridge["address"] == "0a:58:0a:63:00:01"
        seen = await asyncio.to_thread(peer_seen, lambda: tcp(kept), host_tcp(), "10.99.0.1")
        assert seen == ("10.99.0.2", "hello")
        await network.close()


@isolated
async def test_ensure_keeps_what_is_being_attached() -> None:
    with Pod(2) as one, Pod(3) as two:
        network = await opened(one)
        await asyncio.gather(two.attach(network), network.ensure([one.link]))
        assert elements() == {element(one.link), element(two.link)}
        assert link_names() == {CONFIG.bridge, one.link.host_ifname, two.link.host_ifname}
        await network.close()


@isolated
async def test_an_address_is_attached_once() -> None:
    with Pod(2, "first") as first, Pod(2, "second") as second, Pod(3, "first") as moved:
        network = await opened(first)
        with pytest.raises(MinipodError, match=r"first is attached at 10\.99\.0\.2"):
            await second.attach(network)
        with pytest.raises(MinipodError, match="detach it first"):
            await moved.attach(network)
        assert "eth0" in first.run("ip", "link")
        assert "eth0" not in second.run("ip", "link")
        await network.detach(first.link)
        await second.attach(network)
        await network.detach(first.link)  # late and again: the address is the second's now
        assert "eth0" in second.run("ip", "link")
        assert elements() == {element(second.link)}
        await network.close()


@isolated
async def test_attach_again_replaces_the_port() -> None:
    with Pod(2) as old, Pod(2) as new:
        network = await opened(old)
        await new.attach(network)
        assert "eth0" not in old.run("ip", "link")
        assert "eth0" in new.run("ip", "link")
        assert link_names() == {CONFIG.bridge, new.link.host_ifname}
        await network.close()


@isolated
async def test_failed_attach_is_undone() -> None:
    with Pod(2) as pod, Pod(3) as elsewhere:
        network = await Network.open(CONFIG)
        with pytest.raises(OSError, match="another namespace"):
            await network.attach(pod.link, pod.fd, elsewhere.netlink)
        pod.run(*FOREIGN.format("eth0").split())
        with pytest.raises(OSError) as caught:
            await pod.attach(network)
        assert caught.value.errno == errno.EEXIST
        assert "link add mpt0a630002 type veth" in str(caught.value)
        assert link_names() == {CONFIG.bridge}
        assert elements() == set()
        pod.run("ip", "link", "delete", "eth0")
        await pod.attach(network)
        await network.close()


@isolated
async def test_cancelled_attach_is_undone() -> None:
    with Pod(2) as pod:
        network = await opened(pod)
        await network.detach(pod.link)
        # At every place where attach can be waiting.
        for steps in range(40):
            task = asyncio.ensure_future(pod.attach(network))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            finished = (await asyncio.gather(task, return_exceptions=True))[0] is pod
            assert finished == (pod.link.host_ifname in link_names())
            assert finished == bool(elements())
            await network.detach(pod.link)
        await network.close()


@isolated
async def test_a_refused_element_fails_closed_with_the_words_of_the_kernel() -> None:
    with Pod(2) as pod:
        network = await Network.open(CONFIG)
        run("nft", "delete", "table", "bridge", CONFIG.nft_table)
        run("nft", "add", "table", "bridge", CONFIG.nft_table)
        run("nft", "add", "set", "bridge", CONFIG.nft_table, "pods", "{ type ipv4_addr; }")
        with pytest.raises(MinipodError) as caught:
            await pod.attach(network)
        assert "element of bridge mptest pods: Invalid argument" in caught.value.what
        assert "eth0" not in pod.run("ip", "link")
        assert link_names() == {CONFIG.bridge}
        await network.ensure([])
        await pod.attach(network)
        assert elements() == {element(pod.link)}
        await network.close()


@isolated
async def test_teardown_leaves_nothing() -> None:
    with Pod(2) as pod:
        network = await opened(pod)
        with pytest.raises(MinipodError, match="1 pods are attached"):
            await network.teardown()
        await network.detach(pod.link)
        await network.teardown()
        await network.teardown()
        assert link_names() == set()
        assert tables() == set()
        await network.close()
        await network.close()


@pytest.mark.parametrize(
    ("commands", "named"),
    [
        (["ip route add 10.99.128.0/17 dev up0"], "route 10.99.128.0/17 dev up0"),
        (["ip route add 10.0.0.0/8 via 198.51.100.1"], "route 10.0.0.0/8 via 198.51.100.1 dev up0"),
        (["ip route add blackhole 10.99.7.0/24"], "route 10.99.7.0/24"),
        (["ip route add 10.99.0.0/16 dev up0 table 77"], "route 10.99.0.0/16 dev up0"),
        (["ip addr add 10.99.3.4/24 dev up0"], "10.99.3."),
        ([FOREIGN.format("down0"), "ip addr add 10.99.3.4/24 dev down0"], "10.99.3."),
    ],
)
def test_collision_is_refused(commands: list[str], named: str) -> None:
    async def body() -> None:
        run(*FOREIGN.format("up0").split())
        run("ip", "link", "set", "up0", "up")
        run("ip", "addr", "add", "198.51.100.2/24", "dev", "up0")
        run("ip", "route", "add", "default", "via", "198.51.100.1")
        network = await Network.open(CONFIG)
        await network.teardown()
        await network.close()
        for command in commands:
            run(*command.split())
        with pytest.raises(MinipodError, match="overlaps the host's") as caught:
            await Network.open(CONFIG)
        assert named in caught.value.what
        assert CONFIG.bridge not in link_names()
        free = caught.value.remedy.rpartition("MINIPOD_POD_CIDR=")[2]
        proposed = Config(
            bridge=CONFIG.bridge,
            link_prefix=CONFIG.link_prefix,
            pod_cidr=free,
            nft_table=CONFIG.nft_table,
        )
        await (await Network.open(proposed)).close()

    isolated(body)()


@isolated
async def test_bridge_name_taken_by_another_kind() -> None:
    run(*FOREIGN.format(CONFIG.bridge).split())
    with pytest.raises(MinipodError, match="no bridge but veth"):
        await Network.open(CONFIG)


@isolated
async def test_without_privileges_the_remedy_is_named() -> None:
    def drop_and_open() -> None:
        # A thread of its own: capabilities are per thread, and this one's are gone for good.
        header = struct.pack("=Ii", 0x20080522, 0)
        check(LIBC.capset(header, bytes(24)))
        with pytest.raises(MinipodError) as caught:
            asyncio.run(Network.open(CONFIG))
        assert caught.value.remedy == "run as root, with CAP_NET_ADMIN"

    await asyncio.to_thread(in_thread, drop_and_open)
