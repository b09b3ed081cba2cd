# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge, the pods' veth pairs and the sysctls around them: what is asked of the kernel.

Blocking and not thread-safe: :class:`~minipod.network.podnet.Network` calls it from one thread of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from minipod.config import Config
from minipod.errors import MinipodError
from minipod.network import conntrack, netlink
from minipod.network.addresses import PodLink, bridge_address, mac_of, parse_range
from minipod.network.collision import HostRange, check, network_of

_NET_SYSCTL = Path("/proc/sys/net")
_DEFAULT_MTU = 1500
_TABLE_MAIN = 254
_UNICAST = 1


@dataclass(frozen=True, slots=True)
class Uplink:
    """How the host reaches the world: the default route's link MTU (bytes) and source address."""

    mtu: int
    address: str | None


class HostLinks:
    """The host's side of the pod network, in the network namespace this was made in."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pods = parse_range(config.pod_cidr)
        self._gateway = str(bridge_address(self._pods))
        self._mac = mac_of(bridge_address(self._pods))
        self._socket = netlink.RouteSocket()
        self._bridge = 0
        self.uplink = Uplink(_DEFAULT_MTU, None)

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def check_range(self) -> None:
        """Refuse a pod range that the host's routes or addresses overlap.

        Raises:
            MinipodError: names what is in the way, and a free range.
        """
        links = self._socket.links()
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in links}
        ours = {index for index, name in names.items() if name == self._config.bridge}
        taken = [
            _route_range(route, names)
            for route in self._socket.routes()
            if _device(route) not in ours
        ]
        for address in self._socket.addresses():
            if address["index"] not in ours:
                taken.append(_address_range(address, names))
        check(self._pods, taken)

    def repair_bridge(self) -> None:
        """Make the bridge and the sysctls right, and leave the ports alone; raises what :meth:`repair` raises."""
        links = self._socket.links()
        self.uplink = _uplink(self._socket.routes(), self._socket.addresses(), links)
        self._repair_bridge(
            next(
                (link for link in links if link.get_attr("IFLA_IFNAME") == self._config.bridge),
                None,
            )
        )

    def repair(self, wanted: Callable[[], Iterable[PodLink]]) -> None:
        """Make bridge, sysctls and ports right; delete the ports that belong to none of *wanted*.

        Raises:
            OSError: the kernel refused a request.
            MinipodError: the bridge's name is taken by a link of another kind.
        """
        self.repair_bridge()
        names = {link.host_ifname for link in wanted()}
        self.remove(set(self._ports()) - names)
        _raise_unless_gone(
            self._socket.attempt(
                [
                    netlink.set_link(name, up=True, attrs=[("IFLA_MASTER", self._bridge)])
                    for name in names
                ]
            )
        )
        for name in names:
            self._no_ipv6(name)
        hairpins = [netlink.hairpin(link.host_ifname) for link in wanted() if link.ports]
        _raise_unless_gone(self._socket.attempt(hairpins))
        self.open_loopback(any(link.ports for link in wanted()))

    def open_loopback(self, on: bool) -> None:
        """Let the host's own connections to ports on 127.0.0.1 go to pods, or not (route_localnet, ip-sysctl).

        The other direction, from a pod to the host's loopback, is what the ruleset drops in both of its tables
        (CVE-2020-8558).
        """
        # A bridge that was deleted is made anew by repair(), which comes here again.
        with contextlib.suppress(FileNotFoundError):
            _sysctl(f"ipv4/conf/{self._config.bridge}/route_localnet", "1" if on else "0")

    def forget_stale_flows(self, links: Collection[PodLink]) -> None:
        """Forget connections that the ports of *links* would translate in another way, were they new."""
        addresses = self._socket.addresses()
        local = {IPv4Address(address.get_attr("IFA_LOCAL")) for address in addresses}
        conntrack.forget_stale(links, self._pods, local)

    def connect(
        self, link: PodLink, netns_fd: int, netlink_fd: int, wanted: Callable[[], Iterable[PodLink]]
    ) -> None:
        """Make *link* between the bridge and the namespace *netns_fd*, and configure its end there.

        *netlink_fd* is a rtnetlink socket of that namespace; neither fd is closed. *wanted* as in :meth:`repair`,
        which runs when the bridge turns out to be gone.

        Raises:
            OSError: the kernel refused a request; the link is gone again.
        """
        self._add_veth(link, netns_fd, wanted)
        try:
            self._no_ipv6(link.host_ifname)
            if link.ports:
                # For a pod that asks for its own port of the host, where bridge-nf-call-iptables is on: there a
                # packet that is sent back to its port does not pass through the host.
                self._socket.run(netlink.hairpin(link.host_ifname))
            with netlink.RouteSocket(os.dup(netlink_fd)) as pod:
                index = pod.index("eth0")
                if index is None:
                    raise OSError(
                        errno.ENODEV,
                        "the pod's netlink socket is of another namespace",
                        "link show eth0",
                    )
                pod.run(
                    netlink.set_link("eth0", up=True),
                    netlink.add_address(index, link.address, link.prefix_len),
                    netlink.add_default_route(link.gateway),
                )
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove([link.host_ifname])
            raise

    def remove(self, names: Iterable[str]) -> None:
        """Delete the links *names*, and thereby their peers; those that are gone are no error.

        Several are deleted as a group: the kernel then waits once for the packets in flight, not once for each.

        Raises:
            OSError: the kernel refused.
        """
        names = list(dict.fromkeys(names))
        if not names:
            return
        if len(names) == 1:
            _raise_unless_gone(self._socket.attempt([netlink.delete_link(names[0])]))
            return
        # A number nobody else uses: the kernel deletes every link of the group.
        group = secrets.randbits(30) | 1 << 30
        _raise_unless_gone(
            self._socket.attempt(
                [netlink.set_link(n, attrs=[("IFLA_GROUP", group)]) for n in names]
            )
        )
        _raise_unless_gone(self._socket.attempt([netlink.delete_group(group)]))

    def remove_all(self) -> None:
        """Delete all ports of ours and the bridge; no error when they are gone.

        Raises:
            OSError: the kernel refused.
        """
        self._bridge = self._socket.index(self._config.bridge) or 0
        self.remove(self._ports())
        self.remove([self._config.bridge])

    def _repair_bridge(self, found: Any) -> None:
        name = self._config.bridge
        if found is None:
            self._socket.run(netlink.add_bridge(name, self._mac, self.uplink.mtu))
            self.open_loopback(False)
        elif (kind := _link_kind(found)) != "bridge":
            raise MinipodError(
                f"the link {name} is there, and it is no bridge but {kind or 'a device'}",
                "set MINIPOD_BRIDGE to another name, or remove the link",
            )
        index = self._socket.index(name)
        if index is None:
            raise OSError(errno.ENODEV, "the bridge was deleted by somebody else", name)
        self._bridge = index
        # Before it comes up, so that it never has an IPv6 address or hears a router's advertisement (CVE-2020-10749).
        self._no_ipv6(name)
        # The MTU again: only a set MTU keeps the bridge from following its smallest port.
        self._socket.run(
            netlink.set_link(
                name, up=True, attrs=[("IFLA_ADDRESS", self._mac), ("IFLA_MTU", self.uplink.mtu)]
            ),
            netlink.add_address(index, self._gateway, self._pods.prefixlen),
        )
        for address in self._socket.addresses():
            local = (address.get_attr("IFA_LOCAL"), address["prefixlen"])
            if address["index"] == index and local != (self._gateway, self._pods.prefixlen):
                self._socket.run(netlink.delete_address(index, *local))
        _turn_on_forwarding()

    def _add_veth(
        self, link: PodLink, netns_fd: int, wanted: Callable[[], Iterable[PodLink]]
    ) -> None:
        def request() -> netlink.Request:
            return netlink.add_veth(
                link.host_ifname, self._bridge, self.uplink.mtu, link.mac, netns_fd
            )

        (error,) = self._socket.attempt([request()])
        if error is None:
            return
        if self._socket.index(self._config.bridge) != self._bridge:
            # Somebody deleted the bridge, and the other pods' ports with it lost their master.
            self.repair(wanted)
        elif error.errno != errno.EEXIST or link.host_ifname not in self._ports():
            raise error
        # What is left of an attach that was cut short; the name follows from the address, which is this owner's.
        self.remove([link.host_ifname])
        self._socket.run(request())

    def _ports(self) -> list[str]:
        """Return the names of all ports of ours, wanted or not."""
        named = [(str(link.get_attr("IFLA_IFNAME")), link) for link in self._socket.links()]
        return [name for name, link in named if self._is_port(link, name)]

    def _is_port(self, link: Any, name: str) -> bool:
        """Is *link* a port of ours, by name and master; a port of a bridge that was deleted has no master."""
        prefix = self._config.link_prefix
        if not name.startswith(prefix) or name == self._config.bridge:
            return False
        master = link.get_attr("IFLA_MASTER")
        if master is not None:
            return bool(master == self._bridge)
        digits = name.removeprefix(prefix)
        try:
            address = IPv4Address(bytes.fromhex(digits))
        except ValueError:
            return False
        return _link_kind(link) == "veth" and address in self._pods

    def _no_ipv6(self, name: str) -> None:
        _sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
        _sysctl(f"ipv6/conf/{name}/accept_ra", "0")


def _sysctl(name: str, value: str) -> None:
    """Write a sysctl of the caller's network namespace; one that is missing (no IPv6 in the kernel) is right."""
    path = _NET_SYSCTL / name
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except FileNotFoundError:
        if path.parts[4] != "ipv6":
            raise


def _turn_on_forwarding() -> None:
    try:
        _sysctl("ipv4/ip_forward", "1")
    except OSError as error:
        raise MinipodError(
            f"cannot turn on IPv4 forwarding: {error.strerror}",
            "run `sysctl -w net.ipv4.ip_forward=1`, then try again",
        ) from error


def _raise_unless_gone(results: Iterable[OSError | None]) -> None:
    for error in results:
        if error is not None and error.errno != errno.ENODEV:
            raise error


def _link_kind(link: Any) -> str | None:
    info = link.get_attr("IFLA_LINKINFO")
    return info.get_attr("IFLA_INFO_KIND") if info else None


def _device(route: Any) -> int | None:
    if (index := route.get_attr("RTA_OIF")) is not None:
        return int(index)
    hops = route.get_attr("RTA_MULTIPATH") or []
    return int(hops[0]["oif"]) if hops else None


def _route_range(route: Any, names: dict[int, str]) -> HostRange:
    destination = route.get_attr("RTA_DST") or "0.0.0.0"
    network = network_of(destination, route["dst_len"])
    device = _device(route)
    via = f" via {gateway}" if (gateway := route.get_attr("RTA_GATEWAY")) else ""
    dev = f" dev {names.get(device, device)}" if device is not None else ""
    return HostRange(network, f"route {network}{via}{dev}")


def _address_range(address: Any, names: dict[int, str]) -> HostRange:
    local = address.get_attr("IFA_LOCAL")
    length = address["prefixlen"]
    network = network_of(address.get_attr("IFA_ADDRESS") or local, length)
    return HostRange(
        network, f"address {local}/{length} dev {names.get(address['index'], address['index'])}"
    )


def _uplink(routes: Iterable[Any], addresses: Iterable[Any], links: Iterable[Any]) -> Uplink:
    """Return the uplink by the main table's default route of the lowest metric."""
    defaults = [
        route
        for route in routes
        if route["dst_len"] == 0
        and route["type"] == _UNICAST
        and (route.get_attr("RTA_TABLE") or route["table"]) == _TABLE_MAIN
        and _device(route) is not None
    ]
    if not defaults:
        return Uplink(_DEFAULT_MTU, None)
    best = min(defaults, key=lambda route: route.get_attr("RTA_PRIORITY") or 0)
    device = _device(best)
    mtu = next((link.get_attr("IFLA_MTU") for link in links if link["index"] == device), None)
    own = [a for a in addresses if a["index"] == device]
    own.sort(key=lambda a: a["scope"])  # global (0) before link (253)
    source = best.get_attr("RTA_PREFSRC") or (own[0].get_attr("IFA_LOCAL") if own else None)
    return Uplink(int(mtu or _DEFAULT_MTU), source)
