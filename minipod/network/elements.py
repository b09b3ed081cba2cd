# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements of nftables sets and maps, put in and taken out by netlink: what every start and end of a pod needs.

The whole ruleset is a text for nft (``nft.py``), written once per agent. Changing one element of it does not take
a process: that would be a fifth of the time in which a pod starts.

pyroute2 encodes the messages; it takes a tenth of a second to import: import this module late.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWSETELEM,
    nft_set_elem_list_msg,
)

from minipod.network.addresses import PodLink
from minipod.network.ruleset import PORTS_OF_ADDRESS, SET, map_of

if TYPE_CHECKING:
    from minipod.plan.context import HostPort

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_NLMSG_ERROR = 2
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400
_BATCH_BEGIN, _BATCH_END = 16, 17  # NFNL_MSG_BATCH_*
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_FAMILIES = {"inet": 1, "bridge": 7}  # NFPROTO_*
_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
_RECEIVE = 1 << 17
_CHUNK = 128  # messages per transaction: their acknowledgements must fit the receive buffer


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a set, or with *data* of a map.

    Attributes:
        family: of the table: inet or bridge.
        set: the name of the set.
        key, data: each part is padded to a multiple of four bytes.
    """

    family: str
    set: str
    key: bytes
    data: bytes = b""


class ElementSocket:
    """A NETLINK_NETFILTER socket for the sets of the tables of one name; not thread-safe, blocking for some 0.1 ms."""

    def __init__(self, table: str) -> None:
        """Work on the tables called *table*, in the network namespace of the caller."""
        self._table = table
        self._sequence = int.from_bytes(os.urandom(3), "little")
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def change(self, add: Sequence[Element], remove: Sequence[Element]) -> None:
        """Put *add* in and take *remove* out, both idempotent; in one transaction unless there are many.

        Raises:
            OSError: the kernel refused; ENOENT when the table or the set is gone, EEXIST or EBUSY when a map has
                other data for a key.
        """
        # What is removed is added first: deleting an absent element would fail the whole transaction.
        work = [(NFT_MSG_NEWSETELEM, element) for element in (*add, *remove)]
        work += [(NFT_MSG_DELSETELEM, element) for element in remove]
        for start in range(0, len(work), _CHUNK):
            self._transact(work[start : start + _CHUNK])

    def _transact(self, work: Sequence[tuple[int, Element]]) -> None:
        first = self._sequence = (self._sequence + len(work) + 2) & 0x7FFFFFFF
        messages = [self._limit(_BATCH_BEGIN, first)]
        for number, (kind, element) in enumerate(work, first + 1):
            messages.append(self._element(kind, element, number))
        messages.append(self._limit(_BATCH_END, first + len(work) + 1))
        self._socket.send(b"".join(messages))
        # The kernel works inside send: all answers are there. An error of the whole is told for its first message.
        acknowledged = 0
        while acknowledged < len(work):
            data = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            offset = 0
            while offset + _HEADER.size + 4 <= len(data):
                length, kind, _, number, _ = _HEADER.unpack_from(data, offset)
                if kind == _NLMSG_ERROR and first <= number <= first + len(work) + 1:
                    (code,) = struct.unpack_from("=i", data, offset + _HEADER.size)
                    if code:
                        failed = work[max(0, min(number - first - 1, len(work) - 1))][1]
                        what = f"nft element of {failed.family} {self._table} {failed.set}"
                        raise OSError(-code, os.strerror(-code), what)
                    acknowledged += 1
                offset += (length + 3) & ~3

    def _limit(self, kind: int, number: int) -> bytes:
        message = nfgen_msg()
        message.update(nfgen_family=socket.AF_UNSPEC, version=0, res_id=_NFTABLES)
        message["header"].update(type=kind, flags=_REQUEST, sequence_number=number, pid=0)
        message.encode()
        return bytes(message.data)

    def _element(self, kind: int, element: Element, number: int) -> bytes:
        message = nft_set_elem_list_msg()
        message.update(nfgen_family=_FAMILIES[element.family], version=0, res_id=0)
        parts = [("NFTA_SET_ELEM_KEY", element.key)]
        parts += [("NFTA_SET_ELEM_DATA", element.data)] if element.data else []
        message["attrs"] = [
            ("NFTA_SET_ELEM_LIST_TABLE", self._table),
            ("NFTA_SET_ELEM_LIST_SET", element.set),
            (
                "NFTA_SET_ELEM_LIST_ELEMENTS",
                [
                    {
                        "attrs": [
                            (part, {"attrs": [("NFTA_DATA_VALUE", value)]}) for part, value in parts
                        ]
                    }
                ],
            ),
        ]
        flags = _REQUEST | _ACK | (_CREATE if kind == NFT_MSG_NEWSETELEM else 0)
        message["header"].update(
            type=_NFTABLES << 8 | kind, flags=flags, sequence_number=number, pid=0
        )
        message.encode()
        return bytes(message.data)


def elements_of(link: PodLink) -> list[Element]:
    """Return what stands for *link* in the ruleset: its port of the bridge, and its ports of the host."""
    # ifname . ether_addr . ipv4_addr
    key = (
        link.host_ifname.encode().ljust(16, b"\0")
        + bytes.fromhex(link.mac.replace(":", "")).ljust(8, b"\0")
        + socket.inet_aton(link.address)
    )
    return [Element("bridge", SET, key), *(_forward(link, port) for port in link.ports)]


def _forward(link: PodLink, port: HostPort) -> Element:
    # [ipv4_addr .] inet_proto . inet_service : ipv4_addr . inet_service
    key = bytes([_PROTOCOLS[port.protocol]]).ljust(4, b"\0") + _service(port.host_port)
    if map_of(port) == PORTS_OF_ADDRESS:
        key = socket.inet_aton(port.address) + key
    return Element("inet", map_of(port), key, socket.inet_aton(link.address) + _service(port.port))


def _service(port: int) -> bytes:
    return port.to_bytes(2, "big").ljust(4, b"\0")
