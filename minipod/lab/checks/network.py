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
