# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements of an nftables set, put in and taken out by netlink: what every start and end of a pod needs.

The whole ruleset is a text for nft (``nft.py``), written once per agent. Changing one element of it does not take
a process: that would be a fifth of the time in which a pod starts.

pyroute2 encodes the messages; it takes a tenth of a second to import: import this module late.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWSETELEM,
    nft_set_elem_list_msg,
)

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_NLMSG_ERROR = 2
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400
_BATCH_BEGIN, _BATCH_END = 16, 17  # NFNL_MSG_BATCH_*
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_BRIDGE = 7  # NFPROTO_BRIDGE
_RECEIVE = 1 << 17
_CHUNK = 128  # messages per transaction: their acknowledgements must fit the receive buffer


class ElementSocket:
    """A NETLINK_NETFILTER socket for one set of a ``bridge`` table; not thread-safe, blocking for some 0.1 ms."""

    def __init__(self, table: str, name: str) -> None:
        """Work on set *name* of *table*, in the network namespace of the caller."""
        self._table = table
        self._name = name
        self._sequence = int.from_bytes(os.urandom(3), "little")
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def change(self, add: Sequence[bytes], remove: Sequence[bytes]) -> None:
        """Put the keys *add* in and take *remove* out, both idempotent; in one transaction unless there are many.

        Raises:
            OSError: the kernel refused; ENOENT when the table or the set is gone.
        """
        # What is removed is added first: deleting an absent element would fail the whole transaction.
        work = [(NFT_MSG_NEWSETELEM, key) for key in (*add, *remove)]
        work += [(NFT_MSG_DELSETELEM, key) for key in remove]
        for start in range(0, len(work), _CHUNK):
            self._transact(work[start : start + _CHUNK])

    def _transact(self, work: Sequence[tuple[int, bytes]]) -> None:
        first = self._sequence = (self._sequence + len(work) + 2) & 0x7FFFFFFF
        messages = [self._limit(_BATCH_BEGIN, first)]
        for number, (kind, key) in enumerate(work, first + 1):
            messages.append(self._element(kind, key, number))
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
                        what = f"nft element of bridge {self._table} {self._name}"
                        raise OSError(-code, os.strerror(-code), what)
                    acknowledged += 1
                offset += (length + 3) & ~3

    def _limit(self, kind: int, number: int) -> bytes:
        message = nfgen_msg()
        message.update(nfgen_family=socket.AF_UNSPEC, version=0, res_id=_NFTABLES)
        message["header"].update(type=kind, flags=_REQUEST, sequence_number=number, pid=0)
        message.encode()
        return bytes(message.data)

    def _element(self, kind: int, key: bytes, number: int) -> bytes:
        message = nft_set_elem_list_msg()
        message.update(nfgen_family=_BRIDGE, version=0, res_id=0)
        message["attrs"] = [
            ("NFTA_SET_ELEM_LIST_TABLE", self._table),
            ("NFTA_SET_ELEM_LIST_SET", self._name),
            (
                "NFTA_SET_ELEM_LIST_ELEMENTS",
                [{"attrs": [("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", key)]})]}],
            ),
        ]
        flags = _REQUEST | _ACK | (_CREATE if kind == NFT_MSG_NEWSETELEM else 0)
        message["header"].update(
            type=_NFTABLES << 8 | kind, flags=flags, sequence_number=number, pid=0
        )
        message.encode()
        return bytes(message.data)


def key(host_ifname: str, mac: str, address: str) -> bytes:
    """Return the key of ``ifname . ether_addr . ipv4_addr``; each part is padded to a multiple of four bytes."""
    return (
        host_ifname.encode().ljust(16, b"\0")
        + bytes.fromhex(mac.replace(":", "")).ljust(8, b"\0")
        + socket.inet_aton(address)
    )
