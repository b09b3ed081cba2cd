# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the nftables ruleset, whole and in parts; pure.

Two tables of one name. ``inet``: masquerade what leaves the machine, let pod traffic be forwarded, and forward ports
of the host. ``bridge``: a pod's port passes only packets with the MAC and the address that are the pod's
(CVE-2020-10749 and its kin); whatever is not in the set ``pods`` is dropped, so a port without its element is a dead
port.

Ports of the host are two maps, of those of one address and of those of all. A connection is looked up once, for its
first packet; conntrack remembers it. The client's address stays, but where the answer would not come back to where
the translation is undone: to the host's loopback, and to a pod, which its peer would answer over the bridge.

What is counted costs nothing per packet: a port of the host and masquerading count connections, by their first packet;
else only what is dropped.

Lines end where nft 1.0.6 wants them to: it takes no ``}`` behind a statement without a separator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from minipod.config import Config
from minipod.errors import UsageError
from minipod.network.addresses import PodLink, check_prefix, parse_range

if TYPE_CHECKING:
    from minipod.plan.context import HostPort

_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
SET = "pods"
PORTS, PORTS_OF_ADDRESS = "hostports", "hostports_of_address"
_ANY = "0.0.0.0"


def full(config: Config, links: Iterable[PodLink], *, replace: bool = True) -> str:
    """Return the whole ruleset with an element per link, as one transaction.

    Args:
        config: names the tables, the bridge, the link prefix and the pod range.
        links: the pods that may send.
        replace: replace tables that exist; otherwise the transaction fails on them with "File exists".

    Raises:
        UsageError: a name of *config* could not stand in an nft file.
    """
    check_names(config)
    table, bridge = config.nft_table, config.bridge
    pods = parse_range(config.pod_cidr)
    links = list(links)
    all_ports, ports_of_one = (
        _filled(_port_elements(links, which)) for which in (PORTS, PORTS_OF_ADDRESS)
    )
    # "add" first, because deleting a table that is not there fails the whole transaction.
    start = "add table {0} {1}\ndelete table {0} {1}\n" if replace else "create table {0} {1}\n"
    head = "".join(start.format(family, table) for family in ("inet", "bridge"))
    arp_sender = f"iifname . arp saddr ether . arp saddr ip @{SET}"
    return f"""{head}table inet {table} {{
	map {PORTS} {{
		type inet_proto . inet_service : ipv4_addr . inet_service
		counter{all_ports}
	}}
	map {PORTS_OF_ADDRESS} {{
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		counter{ports_of_one}
	}}
	chain prerouting {{
		comment "link-local groups skip the bridge and its filter (br_handle_frame); the loopback is the host's alone"
		type filter hook prerouting priority raw; policy accept;
		iifname "{ports(config)}" iifname != "{bridge}" drop
		iifname "{bridge}" ip daddr 127.0.0.0/8 drop
	}}
	chain hostports {{
		dnat ip to ip daddr . meta l4proto . th dport map @{PORTS_OF_ADDRESS}
		dnat ip to meta l4proto . th dport map @{PORTS}
	}}
	chain from_others {{
		comment "not what claims to be for the loopback: the kernel drops that, but only after this"
		type nat hook prerouting priority dstnat; policy accept;
		meta l4proto {{ tcp, udp, sctp }} ip daddr != 127.0.0.0/8 fib daddr type local jump hostports
	}}
	chain from_here {{
		type nat hook output priority -100; policy accept;
		meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump hostports
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname "{bridge}" ip saddr {pods} accept
		oifname "{bridge}" ip daddr {pods} accept
		iifname "{bridge}" counter drop
		oifname "{bridge}" counter drop
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {pods} ip daddr != {pods} oifname != "{bridge}" counter masquerade
		ct status dnat ip saddr {{ 127.0.0.0/8, {pods} }} ip daddr {pods} oifname "{bridge}" counter masquerade
	}}
}}
table bridge {table} {{
	set {SET} {{
		type ifname . ether_addr . ipv4_addr{_filled(map(element, links))}
	}}
	chain guard {{
		comment "only a pod's own MAC and address; never to the host's loopback (CVE-2020-8558)"
		ether type ip iifname . ether saddr . ip saddr @{SET} ip daddr != 127.0.0.0/8 accept
		ether type arp iifname . ether saddr . arp saddr ip @{SET} {arp_sender} accept
		counter drop
	}}
	chain prerouting {{
		type filter hook prerouting priority filter; policy accept;
		iifname "{ports(config)}" jump guard
	}}
}}
"""


def _filled(elements: Iterable[str]) -> str:
    text = ",\n".join(f"\t\t\t{each}" for each in elements)
    return f"\n\t\telements = {{\n{text}\n\t\t}}" if text else ""


def _port_elements(links: Iterable[PodLink], which: str) -> Iterator[str]:
    """Yield the elements of one of the two maps; the first of two pods that claim a port has it."""
    seen = set()
    for link in links:
        for port in link.ports:
            key = f"{port.protocol.lower()} . {port.host_port}"
            if port.address != _ANY:
                key = f"{port.address} . {key}"
            if map_of(port) == which and key not in seen:
                seen.add(key)
                yield f"{key} : {link.address} . {port.port}"


def map_of(port: HostPort) -> str:
    """Return the map that *port* belongs into."""
    return PORTS if port.address == _ANY else PORTS_OF_ADDRESS


def absent(config: Config) -> str:
    """Return the transaction that leaves neither table."""
    return "".join(
        f"add table {family} {config.nft_table}\ndelete table {family} {config.nft_table}\n"
        for family in ("inet", "bridge")
    )


def ports(config: Config) -> str:
    """Return the pattern of the names of the pods' ports (see ``pod_link``): the prefix, and what their digits share.

    The prefix alone would be a pattern for the links of others too: "mp*" for those of an instance with "mpa".
    """
    pods = parse_range(config.pod_cidr)
    digits = f"{int(pods.network_address):08x}"[: pods.prefixlen // 4]
    return f"{config.link_prefix}{digits}*"


def element(link: PodLink) -> str:
    """Return *link* as an element of the set."""
    return f'"{link.host_ifname}" . {link.mac} . {link.address}'


def check_names(config: Config) -> None:
    """Refuse names that could not stand in an nft file or name a link.

    Raises:
        UsageError: names the setting.
    """
    if not _TABLE.fullmatch(config.nft_table):
        raise UsageError(
            f"nft table {config.nft_table!r} is not a name",
            "use letters, digits and _ in MINIPOD_NFT_TABLE",
        )
    if not _LINK.fullmatch(config.bridge):
        raise UsageError(
            f"bridge {config.bridge!r} is not a link name",
            "use up to 15 letters, digits, _ - . in MINIPOD_BRIDGE",
        )
    check_prefix(config.link_prefix)
