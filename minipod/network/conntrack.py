# SPDX-License-Identifier: GPL-3.0-or-later
"""Forgetting connections whose translation has become wrong: ctnetlink, nothing but what that takes.

Conntrack asks the ruleset once per connection, and UDP has no end: a client that goes on sending would be sent to a
pod that is gone, or past one that has come, for as long as it does not pause for half a minute (kube-proxy flushes for
the same reason). Which ones are wrong is decided from the wanted ports alone, so it is right after any crash.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from minipod.network.addresses import PodLink

if TYPE_CHECKING:
    from minipod.plan.context import HostPort

log = logging.getLogger(__name__)

_NETLINK_NETFILTER = 12
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_NEW, _GET, _DELETE = 0, 1, 2  # IPCTNL_MSG_CT_*
_ORIGINAL, _REPLY = 1, 2  # CTA_TUPLE_*
_IP, _PROTO = 1, 2  # CTA_TUPLE_IP, CTA_TUPLE_PROTO
_SOURCE, _TARGET = 1, 2  # CTA_IP_V4_*
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3  # CTA_PROTO_*
_NESTED = 0x8000
_RECEIVE = 1 << 17
_PROTOCOLS = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP", socket.IPPROTO_SCTP: "SCTP"}


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection: whom it was sent to, and who answers.

    Attributes:
        protocol: TCP, UDP or SCTP.
        target, port: where its first packet was sent to.
        answerer, answering_port: who answers, after translation.
        original: the kernel's name of it (CTA_TUPLE_ORIG).
    """

    protocol: str
    target: IPv4Address
    port: int
    answerer: IPv4Address
    answering_port: int
    original: bytes


def stale(
    flows: Iterable[Flow],
    links: Collection[PodLink],
    pods: IPv4Network,
    local: Collection[IPv4Address],
) -> Iterator[Flow]:
    """Yield the flows that the ports of *links* would translate in another way, were they new.

    Args:
        flows: all.
        links: the pods that there should be.
        pods: the pod range.
        local: the host's own addresses; all of 127.0.0.0/8 are, too.
    """
    wanted: dict[tuple[str, str, int], tuple[PodLink, HostPort]] = {}
    for link in links:
        for port in link.ports:
            wanted.setdefault((port.address, port.protocol, port.host_port), (link, port))
    for flow in flows:
        key = (flow.protocol, flow.port)
        found = wanted.get((str(flow.target), *key)) or wanted.get(("0.0.0.0", *key))
        if flow.answerer != flow.target and flow.answerer in pods:
            if found is None or (IPv4Address(found[0].address), found[1].port) != (
                flow.answerer,
                flow.answering_port,
            ):
                yield flow
        elif (
            found is not None
            and flow.protocol == "UDP"
            and flow.answerer == flow.target
            and (flow.target in local or flow.target.is_loopback)
        ):
            yield flow


def forget_stale(
    links: Collection[PodLink], pods: IPv4Network, local: Collection[IPv4Address]
) -> None:
    """Forget what :func:`stale` finds in the caller's network namespace; blocking.

    A kernel without ctnetlink keeps its flows until they time out, which is logged: no pod is refused for it.
    """
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        ) as sock:
            for flow in list(stale(_flows(sock), links, pods, local)):
                _delete(sock, flow)
    except OSError as error:
        log.warning("connections to ports of the host are not forgotten: %s", error.strerror)


def _flows(sock: socket.socket) -> Iterator[Flow]:
    sock.send(_message(_GET, _DUMP, b""))
    while True:
        data = sock.recv(_RECEIVE)
        for kind, body in _messages(data):
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise _failure(body) or OSError(errno.EPROTO, "conntrack: no list")
            if kind == _SUBSYSTEM | _NEW and (flow := _flow(body)):
                yield flow


def _delete(sock: socket.socket, flow: Flow) -> None:
    sock.send(_message(_DELETE, _ACK, _attribute(_ORIGINAL | _NESTED, flow.original)))
    for kind, body in _messages(sock.recv(_RECEIVE)):
        error = _failure(body) if kind == _ERROR else None
        if error and error.errno != errno.ENOENT:  # it may have ended by itself
            raise error


def _message(kind: int, flags: int, attributes: bytes) -> bytes:
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + attributes  # struct nfgenmsg
    head = _HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM | kind, _REQUEST | flags, 1, 0)
    return head + body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += max((length + 3) & ~3, _HEADER.size)


def _failure(body: bytes) -> OSError | None:
    (code,) = struct.unpack_from("=i", body)
    return OSError(-code, f"conntrack: {os.strerror(-code)}") if code else None


def _flow(body: bytes) -> Flow | None:
    """Return the flow of a message, unless it is of another protocol."""
    parts = _attributes(body[4:])
    original, reply = _attributes(parts[_ORIGINAL]), _attributes(parts[_REPLY])
    proto, answer = _attributes(original[_PROTO]), _attributes(reply[_PROTO])
    protocol = _PROTOCOLS.get(proto[_NUMBER][0])
    if protocol is None:
        return None
    return Flow(
        protocol,
        IPv4Address(_attributes(original[_IP])[_TARGET]),
        int.from_bytes(proto[_TARGET_PORT], "big"),
        IPv4Address(_attributes(reply[_IP])[_SOURCE]),
        int.from_bytes(answer[_SOURCE_PORT], "big"),
        parts[_ORIGINAL],
    )


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value.ljust((len(value) + 3) & ~3, b"\0")


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += max((length + 3) & ~3, 4)
    return found
