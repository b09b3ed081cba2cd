# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections are forgotten when ports of the host change hands; and ctnetlink's messages."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from minipod.config import Config
from minipod.network import conntrack, pod_link
from minipod.network.conntrack import Flow, stale
from minipod.plan import HostPort

PODS = IPv4Network("10.99.0.0/16")
HOST = "192.0.2.1"
LOCAL = {IPv4Address(HOST)}
ANY = "0.0.0.0"
LINKS = [
    pod_link(
        Config(),
        "one",
        "10.99.0.2",
        (HostPort(ANY, "UDP", 53, 5353), HostPort(ANY, "TCP", 80, 8080)),
    ),
    pod_link(Config(), "two", "10.99.0.3", (HostPort("127.0.0.1", "UDP", 53, 53),)),
]


def flow(protocol: str, target: str, port: int, answerer: str, answering_port: int) -> Flow:
    return Flow(protocol, IPv4Address(target), port, IPv4Address(answerer), answering_port, b"name")


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        # Translated as it should be.
        (flow("UDP", HOST, 53, "10.99.0.2", 5353), False),
        (flow("TCP", HOST, 80, "10.99.0.2", 8080), False),
        (flow("UDP", "127.0.0.1", 53, "10.99.0.3", 53), False),
        # To a pod that is gone, to another port of it, to the pod of another address.
        (flow("UDP", HOST, 53, "10.99.0.9", 5353), True),
        (flow("TCP", HOST, 80, "10.99.0.9", 8080), True),
        (flow("TCP", HOST, 80, "10.99.0.2", 80), True),
        (flow("TCP", HOST, 81, "10.99.0.2", 81), True),
        (flow("UDP", "127.0.0.1", 53, "10.99.0.2", 5353), True),
        # Not translated, since it is older than the pod: UDP never ends, TCP does.
        (flow("UDP", HOST, 53, HOST, 53), True),
        (flow("UDP", "127.0.0.1", 53, "127.0.0.1", 53), True),
        (flow("TCP", HOST, 80, HOST, 80), False),
        # Others' affairs: elsewhere, another port, translated by somebody else, a pod at its own address.
        (flow("UDP", "198.51.100.1", 53, "198.51.100.1", 53), False),
        (flow("UDP", HOST, 54, HOST, 54), False),
        (flow("UDP", HOST, 53, "172.17.0.2", 53), False),
        (flow("UDP", "10.99.0.9", 5353, "10.99.0.9", 5353), False),
    ],
)
def test_stale(one: Flow, expected: bool) -> None:
    assert list(stale([one], LINKS, PODS, LOCAL)) == ([one] if expected else [])


def test_a_message_of_the_kernel() -> None:
    """Taken from Linux 6.18: a UDP datagram of 198.51.100.1:5353 to 192.0.2.1:53, answered by 10.99.0.2:5353."""

    def attribute(kind: int, value: bytes, *, nested: bool = False) -> bytes:
        return conntrack._attribute(kind | (0x8000 if nested else 0), value)

    def side(source: str, target: str, source_port: int, target_port: int) -> bytes:
        addresses = b"".join(
            attribute(kind, IPv4Address(text).packed) for kind, text in ((1, source), (2, target))
        )
        proto = attribute(1, b"\x11") + b"".join(
            attribute(kind, number.to_bytes(2, "big"))
            for kind, number in ((2, source_port), (3, target_port))
        )
        return attribute(1, addresses, nested=True) + attribute(2, proto, nested=True)

    original = side("198.51.100.1", HOST, 5353, 53)
    body = bytes([2, 0, 0, 0]) + attribute(1, original, nested=True)
    body += attribute(2, side("10.99.0.2", "198.51.100.1", 5353, 5353), nested=True)
    body += attribute(3, bytes(4))
    assert conntrack._flow(body) == Flow(
        "UDP", IPv4Address(HOST), 53, IPv4Address("10.99.0.2"), 5353, original
    )
    icmp = body.replace(b"\x05\x00\x01\x00\x11", b"\x05\x00\x01\x00\x01")
    assert icmp != body and conntrack._flow(icmp) is None
