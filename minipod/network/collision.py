# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the pod range clash with what the host already routes, and which range would not.

Pure: ranges in, verdict out. A clash is refused, not worked around: the more specific route would win in
silence, and either the pods or the host's own peers would be unreachable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from minipod.errors import MinipodError

# RFC 1918 and RFC 6598 space; the parts that clouds and home routers use least come first.
_PRIVATE = tuple(
    IPv4Network(text)
    for text in ("10.96.0.0/11", "172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16", "100.64.0.0/10")
)
_SMALLEST_PROPOSAL = 28
# A VPN's 0.0.0.0/1 and 128.0.0.0/1 are a default route in two halves, and no range could avoid them.
_DEFAULT_ROUTE_LEN = 1


@dataclass(frozen=True, slots=True)
class HostRange:
    """A range that the host uses.

    Attributes:
        network: the range.
        what: what uses it, in the words of ``ip route`` or ``ip addr``.
    """

    network: IPv4Network
    what: str


def find_collision(pods: IPv4Network, taken: Iterable[HostRange]) -> HostRange | None:
    """Return the first of *taken* that overlaps *pods*; default routes overlap nothing."""
    for used in taken:
        if used.network.prefixlen > _DEFAULT_ROUTE_LEN and used.network.overlaps(pods):
            return used
    return None


def free_range(prefix_len: int, taken: Iterable[HostRange]) -> IPv4Network | None:
    """Return a private range that overlaps none of *taken*: a /*prefix_len*, else the biggest smaller one."""
    used = [
        (int(r.network.network_address), int(r.network.broadcast_address))
        for r in taken
        if r.network.prefixlen > _DEFAULT_ROUTE_LEN
    ]
    for length in range(prefix_len, max(prefix_len, _SMALLEST_PROPOSAL) + 1):
        for space in _PRIVATE:
            if space.prefixlen <= length and (found := _first_gap(space, length, used)):
                return found
    return None


def _first_gap(space: IPv4Network, length: int, used: list[tuple[int, int]]) -> IPv4Network | None:
    size = 1 << (32 - length)
    start = int(space.network_address)
    while start + size - 1 <= int(space.broadcast_address):
        ends = [last for first, last in used if first < start + size and last >= start]
        if not ends:
            return IPv4Network((start, length))
        # The next multiple of the size behind all that is in the way.
        start = (max(ends) // size + 1) * size
    return None


def check(pods: IPv4Network, taken: Iterable[HostRange]) -> None:
    """Refuse *pods* when it overlaps one of *taken*.

    Raises:
        MinipodError: names the route or address in the way, and a range that is free.
    """
    taken = list(taken)
    used = find_collision(pods, taken)
    if used is None:
        return
    free = free_range(pods.prefixlen, taken)
    proposal = f", for example MINIPOD_POD_CIDR={free}" if free else ""
    raise MinipodError(
        f"the pod range {pods} overlaps the host's {used.what}",
        f"set MINIPOD_POD_CIDR to a range that is free{proposal}",
    )


def network_of(address: str, prefix_len: int) -> IPv4Network:
    """Return the network that *address* with *prefix_len* lies in (host bits are dropped)."""
    return IPv4Network((int(IPv4Address(address)), prefix_len), strict=False)
