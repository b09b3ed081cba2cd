# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlap of the pod range with the host's, and the search for a free one."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.errors import MinipodError
from minipod.network.collision import HostRange, check, find_collision, free_range

PRIVATE = [
    IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]


@st.composite
def networks(draw: st.DrawFn, shortest: int = 0) -> IPv4Network:
    length = draw(st.integers(shortest, 32))
    # Half of them in 10.0.0.0/8, where they meet.
    start = draw(st.one_of(st.integers(0, 2**32 - 1), st.integers(10 << 24, (11 << 24) - 1)))
    return IPv4Network((start, length), strict=False)


def used(*texts: str) -> list[HostRange]:
    return [HostRange(IPv4Network(text), f"route {text}") for text in texts]


@pytest.mark.parametrize(
    "text", ["10.99.0.0/16", "10.0.0.0/8", "10.99.200.0/24", "10.99.0.7/32", "8.0.0.0/5"]
)
def test_overlaps_are_found(text: str) -> None:
    assert (
        find_collision(IPv4Network("10.99.0.0/16"), used("192.168.0.0/16", text)) == used(text)[0]
    )


@pytest.mark.parametrize(
    "text", ["0.0.0.0/0", "0.0.0.0/1", "10.98.0.0/16", "10.100.0.0/14", "192.0.2.0/24"]
)
def test_default_routes_and_neighbours_are_no_overlap(text: str) -> None:
    pods = IPv4Network("10.99.0.0/16")
    assert find_collision(pods, used(text)) is None
    check(pods, used(text))


@given(networks(shortest=8), st.lists(networks(), max_size=8))
def test_a_collision_is_an_overlap(pods: IPv4Network, taken: list[IPv4Network]) -> None:
    ranges = [HostRange(network, str(network)) for network in taken]
    overlapping = [n for n in taken if n.prefixlen > 1 and set_of_ends(n, pods)]
    found = find_collision(pods, ranges)
    assert (found.network if found else None) == (overlapping[0] if overlapping else None)


def set_of_ends(one: IPv4Network, two: IPv4Network) -> bool:
    """Say whether two ranges meet, by their first and last addresses alone."""
    return int(one[0]) <= int(two[-1]) and int(two[0]) <= int(one[-1])


@given(st.integers(8, 30), st.lists(networks(), max_size=12))
def test_the_proposal_is_free_and_private(length: int, taken: list[IPv4Network]) -> None:
    ranges = [HostRange(network, str(network)) for network in taken]
    found = free_range(length, ranges)
    if found is None:
        # Nothing left: the private space is (nearly) all taken.
        assert all(any(n.prefixlen > 1 and n.overlaps(space) for n in taken) for space in PRIVATE)
        return
    assert find_collision(found, ranges) is None
    assert found.prefixlen >= length
    assert any(found.subnet_of(space) for space in PRIVATE)


@given(st.integers(11, 13), st.lists(networks(shortest=10), max_size=6))
def test_a_range_of_the_wanted_size_is_found_if_there_is_one(
    length: int, taken: list[IPv4Network]
) -> None:
    ranges = [HostRange(network, str(network)) for network in taken]
    spaces = [space for space in PRIVATE if space.prefixlen <= length]
    fits = any(
        find_collision(candidate, ranges) is None
        for space in spaces
        for candidate in space.subnets(new_prefix=length)
    )
    found = free_range(length, ranges)
    assert fits == (found is not None and found.prefixlen == length)


def test_smaller_range_when_none_of_the_size_is_left() -> None:
    taken = used("10.0.0.0/8", "172.16.0.0/12", "100.64.0.0/10", "192.168.0.0/17")
    assert free_range(16, taken) == IPv4Network("192.168.128.0/17")
    assert free_range(16, [*taken, *used("192.168.128.0/17")]) is None


def test_the_error_names_the_route_and_a_free_range() -> None:
    with pytest.raises(MinipodError) as caught:
        check(IPv4Network("10.99.0.0/16"), used("10.99.0.0/24"))
    assert caught.value.what == "the pod range 10.99.0.0/16 overlaps the host's route 10.99.0.0/24"
    assert caught.value.remedy == (
        "set MINIPOD_POD_CIDR to a range that is free, for example MINIPOD_POD_CIDR=10.96.0.0/16"
    )
    everything = used("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
    with pytest.raises(MinipodError) as caught:
        check(IPv4Network("10.99.0.0/16"), everything)
    assert caught.value.remedy == "set MINIPOD_POD_CIDR to a range that is free"
