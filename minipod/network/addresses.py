# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pod has which address, and what follows from an address: link name, MAC, gateway.

The pool lives in SQLite so that an address is handed out in the same store, and with the same durability,
as the pod that gets it. The UNIQUE constraints are the guarantee; the search for a free one is only speed.
"""

from __future__ import annotations

import ipaddress
import re
import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from minipod.config import Config
from minipod.errors import AlreadyExists, MinipodError, UsageError
from minipod.transactions import transaction

if TYPE_CHECKING:
    from minipod.plan.context import HostPort

# IFNAMSIZ is 16 with the final NUL; a prefix of 4 and 8 hex digits stay below it.
_PREFIX = re.compile(r"[A-Za-z]{1,4}")
_SMALLEST_RANGE = 30

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS pod_address (
        owner TEXT PRIMARY KEY NOT NULL,
        address INTEGER NOT NULL UNIQUE
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS pod_address_last (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        address INTEGER NOT NULL
    )""",
)


def parse_range(cidr: str) -> IPv4Network:
    """Return the pod range *cidr*, such as ``10.99.0.0/16``.

    Raises:
        UsageError: *cidr* is not an IPv4 network, or has no room for a bridge and a pod.
    """
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise UsageError(
            f"pod range {cidr!r}: {error}",
            "set MINIPOD_POD_CIDR to an IPv4 network such as 10.99.0.0/16",
        ) from error
    if network.prefixlen > _SMALLEST_RANGE:
        raise UsageError(
            f"pod range {cidr} has no room for a bridge and a pod",
            f"set MINIPOD_POD_CIDR to a /{_SMALLEST_RANGE} or bigger, for example 10.99.0.0/16",
        )
    return network


def bridge_address(network: IPv4Network) -> IPv4Address:
    """Return the address of the bridge: the first usable one of *network*."""
    return network.network_address + 1


def check_prefix(prefix: str) -> None:
    """Refuse a link prefix that is not 1 to 4 letters.

    Raises:
        UsageError: it is not.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"link prefix {prefix!r} is not 1 to 4 letters",
            "set MINIPOD_LINK_PREFIX, for example to mp",
        )


def mac_of(address: IPv4Address) -> str:
    """Return the MAC that belongs to *address*: ``0a:58`` (locally administered) and the four address bytes."""
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + address.packed)


@dataclass(frozen=True, slots=True)
class PodLink:
    """The link of one pod: everything the kernel has to know, all derived from the address.

    Attributes:
        owner: who has the address, as given to :meth:`AddressPool.allocate` (the pod's uid).
        address: the pod's IPv4 address, dotted.
        prefix_len: the prefix length of the pod range.
        gateway: the bridge's address, the pod's default route.
        host_ifname: the name of the host end of the veth pair, 15 bytes at most.
        mac: the MAC of the pod end (``eth0``).
        ports: the ports of the host that are forwarded to the pod.
    """

    owner: str
    address: str
    prefix_len: int
    gateway: str
    host_ifname: str
    mac: str
    ports: tuple[HostPort, ...] = ()


def pod_link(config: Config, owner: str, address: str, ports: tuple[HostPort, ...] = ()) -> PodLink:
    """Return the link of *owner* at *address*; the same input always gives the same link.

    Raises:
        UsageError: the address is not one that the pool of *config* could hand out, or the link prefix
            of *config* is not 1 to 4 letters.
    """
    network = parse_range(config.pod_cidr)
    try:
        parsed = IPv4Address(address)
    except ValueError as error:
        raise UsageError(f"pod {owner}: {error}") from error
    gateway = bridge_address(network)
    if parsed not in network or parsed in (
        network.network_address,
        gateway,
        network.broadcast_address,
    ):
        raise UsageError(f"pod {owner}: {address} is not a pod address of {network}")
    check_prefix(config.link_prefix)
    return PodLink(
        owner=owner,
        address=str(parsed),
        prefix_len=network.prefixlen,
        gateway=str(gateway),
        host_ifname=f"{config.link_prefix}{int(parsed):08x}",
        mac=mac_of(parsed),
        ports=ports,
    )


class AddressPool:
    """The addresses of a pod range, and who has them.

    Works over a connection that the caller owns, in its thread. Several pools, on connections of their own and
    in processes of their own, may share one database: each change is one ``BEGIN IMMEDIATE`` transaction, or part
    of the caller's when one is open.
    """

    def __init__(self, db: sqlite3.Connection, cidr: str) -> None:
        """Use (and create, where missing) the pool's tables in *db* for the range *cidr*.

        Raises:
            UsageError: *cidr* is not an IPv4 network with room for a pod.
        """
        self._db = db
        self._network = parse_range(cidr)
        self._first = int(bridge_address(self._network)) + 1
        self._last = int(self._network.broadcast_address) - 1
        with self._transaction():
            for statement in _SCHEMA:
                db.execute(statement)

    def allocate(self, owner: str) -> str:
        """Give *owner* the next free address after the one given last, and return it.

        Round robin, so that a released address rests as long as possible: neighbours may still hold its old
        ARP entry, and clients its connections.

        Raises:
            AlreadyExists: *owner* has an address.
            MinipodError: every address is in use.
        """
        with self._transaction():
            row = self._db.execute(
                "SELECT address FROM pod_address WHERE owner = ?", (owner,)
            ).fetchone()
            if row:
                raise AlreadyExists(
                    f"{owner} already has the address {IPv4Address(row[0])}", "release it first"
                )
            row = self._db.execute("SELECT address FROM pod_address_last").fetchone()
            start = row[0] + 1 if row and self._first <= row[0] < self._last else self._first
            address = self._free(start, self._last) or self._free(self._first, start - 1)
            if address is None:
                raise MinipodError(
                    f"all {self._last - self._first + 1} addresses of the pod range {self._network} are in use",
                    "delete pods, or stop the agent and set MINIPOD_POD_CIDR to a bigger range",
                )
            self._db.execute(
                "INSERT INTO pod_address (owner, address) VALUES (?, ?)", (owner, address)
            )
            self._db.execute(
                "INSERT OR REPLACE INTO pod_address_last (id, address) VALUES (0, ?)", (address,)
            )
        return str(IPv4Address(address))

    def release(self, owner: str) -> None:
        """Take *owner*'s address back; nothing happens when it has none."""
        with self._transaction():
            self._db.execute("DELETE FROM pod_address WHERE owner = ?", (owner,))

    def all(self) -> dict[str, str]:
        """Return every owner's address."""
        rows = self._db.execute("SELECT owner, address FROM pod_address")
        return {owner: str(IPv4Address(address)) for owner, address in rows}

    def _free(self, first: int, last: int) -> int | None:
        """Return the lowest free address in *first* to *last*; reads no further than the first gap."""
        if first > last:
            return None
        candidate = first
        rows = self._db.execute(
            "SELECT address FROM pod_address WHERE address BETWEEN ? AND ? ORDER BY address",
            (first, last),
        )
        for (taken,) in rows:
            if taken != candidate:
                break
            candidate += 1
        rows.close()
        return candidate if candidate <= last else None

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._db, "the pool of pod addresses")
