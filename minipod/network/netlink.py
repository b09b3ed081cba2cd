# SPDX-License-Identifier: GPL-3.0-or-later
"""rtnetlink requests over sockets of ours; the only door to pyroute2, which encodes and decodes them.

Why not AsyncIPRoute: it sends from the event loop, and the kernel serves rtnetlink inside ``send``: deleting one
veth pair would hold the loop for some 16 ms (synchronize_net). Here the calls block, so that a thread can make
them, several requests go out in one datagram, and a pod's socket costs nothing to open: 1.2 ms per pod, not 2.6.

pyroute2 takes a tenth of a second to import: import this module late.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_DUMP_INTR = 0x10
_ACK_TLVS = 0x200
_ATTR_MSG = 1  # NLMSGERR_ATTR_MSG
CREATE = 0x400 | 0x200  # NLM_F_CREATE | NLM_F_EXCL
REPLACE = 0x400 | 0x100  # NLM_F_CREATE | NLM_F_REPLACE
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_IFF_UP = 1
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS
_TABLE_MAIN, _PROTO_BOOT, _UNICAST = 254, 3, 1  # scope 0 is universe

_RECEIVE = 1 << 17
# An ACK takes about 800 bytes of the receive buffer's account (skb truesize); the default buffer is 208 KiB.
_PER_DATAGRAM = 64
_DUMP_TRIES = 5
# Replies are there when send returns; only a broken kernel makes this count.
_REPLY_TIMEOUT_MS = 5000

Attrs = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """One rtnetlink request.

    Attributes:
        what: what it does, in the words of ip(8), for errors.
        kind: the message type (RTM_*).
        family: the class of pyroute2 that encodes it.
        fields: the fixed header's fields.
        attrs: the attributes.
        flags: flags besides NLM_F_REQUEST and NLM_F_ACK.
    """

    what: str
    kind: int
    family: Any
    fields: dict[str, int] = field(default_factory=dict)
    attrs: Attrs = field(default_factory=list)
    flags: int = 0

    def encode(self, sequence: int, flags: int) -> bytes:
        """Return the message's bytes."""
        message = self.family()
        message.update(self.fields)
        message["attrs"] = self.attrs
        message["header"].update(
            type=self.kind, flags=_REQUEST | self.flags | flags, sequence_number=sequence, pid=0
        )
        message.encode()
        return bytes(message.data)


class RouteSocket:
    """A NETLINK_ROUTE socket with an owner; not thread-safe, blocking (microseconds to some 20 ms)."""

    def __init__(self, fd: int | None = None) -> None:
        """Own *fd*, a socket made in the network namespace to work in; without it, open one in the caller's."""
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        self._socket = (
            socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            if fd is None
            else socket.socket(fileno=fd)
        )
        self._sequence = int.from_bytes(os.urandom(3), "little")
        for option in (_CAP_ACK, _EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def run(self, *requests: Request) -> None:
        """Send *requests* together; the kernel runs them in order, all of them.

        Raises:
            OSError: the first that failed: errno, the kernel's own words, and what it was.
        """
        for error in self.attempt(requests):
            if error is not None:
                raise error

    def attempt(self, requests: Sequence[Request]) -> list[OSError | None]:
        """Send *requests* as :meth:`run` does, and return each one's error or None."""
        results: list[OSError | None] = []
        for start in range(0, len(requests), _PER_DATAGRAM):
            results += self._acknowledged(requests[start : start + _PER_DATAGRAM])
        return results

    def _acknowledged(self, requests: Sequence[Request]) -> list[OSError | None]:
        first = self._take(len(requests))
        sequences = range(first, first + len(requests))
        encoded = [
            request.encode(number, _ACK)
            for number, request in zip(sequences, requests, strict=True)
        ]
        self._socket.send(b"".join(encoded))
        results: dict[int, OSError | None] = {}
        for kind, flags, number, body in self._replies(sequences):
            if kind == _NLMSG_ERROR:
                results[number] = _error(body, flags, requests[number - first].what)
            if len(results) == len(requests):
                break
        return [results[number] for number in sequences]

    def index(self, name: str) -> int | None:
        """Return the ifindex of the link *name*, or None when there is no such link."""
        attrs: Attrs = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", _SKIP_STATS)]
        request = Request(f"link show {name}", rtnl.RTM_GETLINK, ifinfmsg, {}, attrs)
        number = self._take(1)
        self._socket.send(request.encode(number, 0))
        kind, flags, _, body = next(self._replies((number,)))
        if kind != _NLMSG_ERROR:
            return int.from_bytes(body[4:8], sys.byteorder)  # struct ifinfomsg: ifi_index
        error = _error(body, flags, request.what)
        if error is not None and error.errno != errno.ENODEV:
            raise error
        return None

    def links(self) -> list[Any]:
        """Return all links, decoded by pyroute2."""
        return self._dump(
            Request("link show", rtnl.RTM_GETLINK, ifinfmsg, {}, [("IFLA_EXT_MASK", _SKIP_STATS)])
        )

    def addresses(self) -> list[Any]:
        """Return all IPv4 addresses, decoded by pyroute2."""
        return self._dump(
            Request("address show", rtnl.RTM_GETADDR, ifaddrmsg, {"family": socket.AF_INET})
        )

    def routes(self) -> list[Any]:
        """Return the IPv4 routes of all tables, decoded by pyroute2."""
        return self._dump(
            Request("route show table all", rtnl.RTM_GETROUTE, rtmsg, {"family": socket.AF_INET})
        )

    def _dump(self, request: Request) -> list[Any]:
        for _ in range(_DUMP_TRIES):
            number = self._take(1)
            self._socket.send(request.encode(number, _DUMP))
            found: list[Any] = []
            torn = False
            for kind, flags, _number, body in self._replies((number,)):
                torn |= bool(flags & _DUMP_INTR)
                if kind == _NLMSG_DONE:
                    break
                if kind == _NLMSG_ERROR:
                    raise _error(body, flags, request.what) or OSError(
                        errno.EPROTO, "no list", request.what
                    )
                message = request.family(
                    _HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body
                )
                message.decode()
                found.append(message)
            if not torn:
                return found
        raise OSError(errno.EAGAIN, "the list changed while it was read, every time", request.what)

    def _take(self, count: int) -> int:
        first = self._sequence
        self._sequence = (first + count) & 0x7FFFFFFF
        return first

    def _replies(self, sequences: Collection[int]) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield type, flags, sequence number and body of what answers *sequences*; stale messages are dropped."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while True:
            # Polled, since the socket's mode is its maker's affair: a pod's socket is shared with its maker.
            if not poll.poll(_REPLY_TIMEOUT_MS):
                raise OSError(errno.ETIMEDOUT, "the kernel does not answer on the netlink socket")
            data = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, kind, flags, number, _ = _HEADER.unpack_from(data, offset)
                if number in sequences:
                    yield kind, flags, number, data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3


def _error(body: bytes, flags: int, what: str) -> OSError | None:
    """Return the error of an NLMSG_ERROR *body*, None for a plain ACK."""
    (code,) = struct.unpack_from("=i", body)
    if code == 0:
        return None
    words = os.strerror(-code)
    # struct nlmsgerr: the error, the request's header (NETLINK_CAP_ACK: no more of it), then attributes.
    offset = 4 + _HEADER.size
    while flags & _ACK_TLVS and offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if kind == _ATTR_MSG:
            words = f"{words}: {body[offset + 4 : offset + length].rstrip(bytes(1)).decode(errors='replace')}"
        offset += max((length + 3) & ~3, 4)
    return OSError(-code, words, what)


def add_bridge(name: str, mac: str, mtu: int) -> Request:
    """``ip link add NAME type bridge``, down."""
    attrs: Attrs = [
        ("IFLA_IFNAME", name),
        ("IFLA_ADDRESS", mac),
        ("IFLA_MTU", mtu),
        _kind("bridge"),
    ]
    return Request(f"link add {name} type bridge", rtnl.RTM_NEWLINK, ifinfmsg, {}, attrs, CREATE)


def add_veth(name: str, bridge: int, mtu: int, peer_mac: str, netns_fd: int) -> Request:
    """Make a veth pair: *name* here, up and in the bridge, and ``eth0``, down, in *netns_fd*'s namespace.

    The peer cannot be made up: veth_open fails with ENOTCONN until the pair is whole.
    """
    peer: Attrs = [
        ("IFLA_IFNAME", "eth0"),
        ("IFLA_NET_NS_FD", netns_fd),
        ("IFLA_MTU", mtu),
        ("IFLA_ADDRESS", peer_mac),
    ]
    attrs: Attrs = [
        ("IFLA_IFNAME", name),
        ("IFLA_MTU", mtu),
        ("IFLA_MASTER", bridge),
        _kind("veth", [("VETH_INFO_PEER", {"attrs": peer})]),
    ]
    fields = {"flags": _IFF_UP, "change": _IFF_UP}
    return Request(
        f"link add {name} type veth peer eth0", rtnl.RTM_NEWLINK, ifinfmsg, fields, attrs, CREATE
    )


def set_link(name: str, *, up: bool = False, attrs: Iterable[tuple[str, Any]] = ()) -> Request:
    """``ip link set NAME``: up if asked, and *attrs* (IFLA_*)."""
    fields = {"flags": _IFF_UP, "change": _IFF_UP} if up else {}
    all_attrs: Attrs = [("IFLA_IFNAME", name), *attrs]
    words = " ".join(f"{key.removeprefix('IFLA_').lower()} {value}" for key, value in attrs)
    what = f"link set {name}{' up' if up else ''}{' ' + words if words else ''}"
    return Request(what, rtnl.RTM_NEWLINK, ifinfmsg, fields, all_attrs)


def hairpin(name: str) -> Request:
    """``ip link set NAME type bridge_slave hairpin on``: what a port of a bridge sent may be sent back to it."""
    data: Attrs = [("IFLA_BRPORT_MODE", 1)]
    info: Attrs = [
        ("IFLA_INFO_SLAVE_KIND", "bridge"),
        ("IFLA_INFO_SLAVE_DATA", {"attrs": data}),
    ]
    attrs: Attrs = [("IFLA_IFNAME", name), ("IFLA_LINKINFO", {"attrs": info})]
    what = f"link set {name} type bridge_slave hairpin on"
    return Request(what, rtnl.RTM_NEWLINK, ifinfmsg, {}, attrs)


def delete_link(name: str) -> Request:
    """``ip link delete NAME``."""
    return Request(f"link delete {name}", rtnl.RTM_DELLINK, ifinfmsg, {}, [("IFLA_IFNAME", name)])


def delete_group(group: int) -> Request:
    """``ip link delete group GROUP``: all its links in one go, for the price of one."""
    return Request(
        f"link delete group {group}", rtnl.RTM_DELLINK, ifinfmsg, {}, [("IFLA_GROUP", group)]
    )


def add_address(index: int, address: str, prefix_len: int) -> Request:
    """``ip address replace ADDRESS/PREFIX_LEN``."""
    fields, attrs = _address(index, address, prefix_len)
    return Request(
        f"address replace {address}/{prefix_len}",
        rtnl.RTM_NEWADDR,
        ifaddrmsg,
        fields,
        attrs,
        REPLACE,
    )


def delete_address(index: int, address: str, prefix_len: int) -> Request:
    """``ip address delete ADDRESS/PREFIX_LEN``."""
    fields, attrs = _address(index, address, prefix_len)
    return Request(
        f"address delete {address}/{prefix_len}", rtnl.RTM_DELADDR, ifaddrmsg, fields, attrs
    )


def add_default_route(gateway: str) -> Request:
    """``ip route replace default via GATEWAY``."""
    fields = {
        "family": socket.AF_INET,
        "table": _TABLE_MAIN,
        "proto": _PROTO_BOOT,
        "type": _UNICAST,
    }
    attrs: Attrs = [("RTA_GATEWAY", gateway)]
    return Request(
        f"route replace default via {gateway}", rtnl.RTM_NEWROUTE, rtmsg, fields, attrs, REPLACE
    )


def _kind(kind: str, data: Attrs | None = None) -> tuple[str, Any]:
    info: Attrs = [("IFLA_INFO_KIND", kind)]
    if data:
        info.append(("IFLA_INFO_DATA", {"attrs": data}))
    return ("IFLA_LINKINFO", {"attrs": info})


def _address(index: int, address: str, prefix_len: int) -> tuple[dict[str, int], Attrs]:
    fields = {"family": socket.AF_INET, "prefixlen": prefix_len, "index": index}
    return fields, [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
