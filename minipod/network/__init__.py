# SPDX-License-Identifier: GPL-3.0-or-later
"""The flat pod network: one bridge, one address and one veth pair per pod, two nftables tables.

Every pod gets an address of ``Config.pod_cidr`` and talks to every other pod and to the host with that
address, never translated; only what leaves the machine is masqueraded. A room per kernel resource::

    addresses   which pod has which address (SQLite), and the names and MACs that follow from it
    bridge      the bridge, the veth pairs, the sysctls: what the kernel is asked, over netlink
    netlink     rtnetlink sockets; with elements, the only door to pyroute2
    ruleset     the nftables text (pure)
    nft         running nft on it, once per agent
    elements    changing single elements of it, by netlink
    conntrack   forgetting connections whose translation has become wrong
    collision   does the pod range clash with the host's routes (pure)
    files       the text of /etc/hosts and /etc/resolv.conf (pure)
    batch       many small requests, few runs
    podnet      Network: all of it put together, on asyncio

All host objects follow from the set of :class:`PodLink` that should exist, and can be rebuilt from it.
"""

from __future__ import annotations

from minipod.network.addresses import AddressPool, PodLink, pod_link
from minipod.network.podnet import Network

__all__ = ["AddressPool", "Network", "PodLink", "pod_link"]
