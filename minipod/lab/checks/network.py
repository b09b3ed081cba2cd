# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the labs about links, bridges and address translation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minipod.lab import kernel
from minipod.lab.kernel import Network, addresses
from minipod.lab.look import Bench, NotYet


def veth(bench: Bench) -> Iterator[str]:
    """A named network namespace with one end of a veth pair, the other on the host, both with addresses."""
    inside, host = _named("lab6"), Network()
    yield "there is a network namespace lab6"
    outer = _link(
        host, "lab6", "on the host", "ip link add lab6 type veth peer name eth0 netns lab6"
    )
    inner = _link(inside, "eth0", "in lab6", "ip link set NAME netns lab6 name eth0")
    if (outer.get("link_index"), inner.get("link_index")) != (inner["ifindex"], outer["ifindex"]):
        raise NotYet(
            "lab6 and eth0 are not the two ends of one veth pair", "ip -d link shows the peers"
        )
    yield f"lab6 (link {outer['ifindex']}) and its eth0 (link {inner['ifindex']}) are one veth pair"
    yield from _addressed(outer, "lab6", "198.51.100.1/30", "")
    yield from _addressed(inner, "eth0", "198.51.100.2/30", "ip netns exec lab6 ")
    yield from _reached(host, "198.51.100.2", "the host")


def _named(name: str) -> Network:
    if not any(
        each.kind == "nsfs" and each.target == f"/run/netns/{name}" for each in kernel.mounts()
    ):
        raise NotYet(f"there is no network namespace {name}", f"ip netns add {name}")
    return Network(name)


def _link(network: Network, name: str, where: str, hint: str) -> dict[str, Any]:
    found = network.links().get(name)
    if found is None:
        raise NotYet(f"there is no link {name} {where}", hint)
    return found


def _addressed(link: dict[str, Any], name: str, address: str, before: str) -> Iterator[str]:
    if address not in addresses(link):
        has = ", ".join(addresses(link)) or "none"
        raise NotYet(
            f"{name} has not the address {address} (it has {has})",
            f"{before}ip address add {address} dev {name}",
        )
    if "UP" not in link["flags"]:
        raise NotYet(f"{name} is down", f"{before}ip link set {name} up")
    yield f"{name} is up and has {address}"


def _reached(network: Network, address: str, who: str) -> Iterator[str]:
    if not network.reaches(address):
        raise NotYet(
            f"{who} gets no answer from {address}",
            "ip neigh shows whether the other side was found; a firewall may drop forwarded packets",
        )
    yield f"{who} gets an answer from {address}"


def bridge(bench: Bench) -> Iterator[str]:
    """Two network namespaces on one bridge of the host, which reach each other."""
    host = Network()
    switch = _link(host, "lab7", "on the host", "ip link add lab7 type bridge")
    if switch.get("linkinfo", {}).get("info_kind") != "bridge":
        raise NotYet("lab7 is no bridge", "ip link delete lab7; ip link add lab7 type bridge")
    if "UP" not in switch["flags"]:
        raise NotYet("the bridge lab7 is down", "ip link set lab7 up")
    yield "there is a bridge lab7, and it is up"
    for letter, address in (("a", "198.51.100.17/28"), ("b", "198.51.100.18/28")):
        inside = _named(f"lab7{letter}")
        inner = _link(inside, "eth0", f"in lab7{letter}", "ip link set NAME netns lab7a name eth0")
        yield from _addressed(inner, "eth0", address, f"ip netns exec lab7{letter} ")
        outer = _other_end(host, inner, f"eth0 in lab7{letter}")
        name = outer["ifname"]
        if outer.get("master") != "lab7":
            raise NotYet(f"{name} is in no bridge", f"ip link set {name} master lab7")
        if "UP" not in outer["flags"]:
            raise NotYet(f"{name} is down", f"ip link set {name} up")
        yield f"its other end, {name}, is a port of lab7"
    yield from _reached(Network("lab7a"), "198.51.100.18", "lab7a")


def _other_end(network: Network, link: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the other end of a veth pair in *network*."""
    for other in network.links().values():
        ends = (other["ifindex"], other.get("link_index"))
        if other.get("linkinfo", {}).get("info_kind") == "veth" and ends == (
            link.get("link_index"),
            link["ifindex"],
        ):
            return other
    raise NotYet(f"the other end of {name} is not on the host", "ip -d link shows what it is")


def masquerade(bench: Bench) -> Iterator[str]:
    """A client behind a router which changes the source address, and a server that knows no way back."""
    client, router, server = _named("lab8in"), _named("lab8r"), _named("lab8out")
    yield "there are the network namespaces lab8in, lab8r and lab8out"
    ends = (
        (client, "lab8in", "eth0", "198.51.100.33/30"),
        (router, "lab8r", "in", "198.51.100.34/30"),
        (router, "lab8r", "out", "203.0.113.1/30"),
        (server, "lab8out", "eth0", "203.0.113.2/30"),
    )
    for network, where, name, address in ends:
        link = _link(network, name, f"in {where}", f"ip link add {name} netns {where} type veth …")
        yield from _addressed(link, name, address, f"ip netns exec {where} ")
    gateways = [route.get("gateway") for route in client.routes() if route.get("dst") == "default"]
    if gateways != ["198.51.100.34"]:
        raise NotYet(
            "lab8in has no default route via 198.51.100.34",
            "ip -n lab8in route add default via 198.51.100.34",
        )
    if others := [route["dst"] for route in server.routes() if route["dst"] != "203.0.113.0/30"]:
        raise NotYet(
            f"lab8out has a route to {others[0]}: it shall know its own network only",
            f"ip -n lab8out route delete {others[0]}",
        )
    yield "lab8in sends what is not near to the router; lab8out knows its own network only"
    if router.sysctl("net/ipv4/ip_forward") != "1":
        raise NotYet(
            "lab8r does not forward", "ip netns exec lab8r sysctl -w net.ipv4.ip_forward=1"
        )
    yield "lab8r forwards"
    rules = [each["rule"] for each in router.rules() if "rule" in each]
    if not any(
        "masquerade" in part for rule in rules if rule["table"] == "lab8" for part in rule["expr"]
    ):
        raise NotYet(
            "no rule of a table lab8 in lab8r masquerades", "ip netns exec lab8r nft list ruleset"
        )
    yield "its table lab8 masquerades"
    yield from _reached(client, "203.0.113.2", "lab8in")
