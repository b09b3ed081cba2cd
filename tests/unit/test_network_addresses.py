# SPDX-License-Identifier: GPL-3.0-or-later
"""The address pool, alone and under many hands, and what follows from an address."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.config import Config
from minipod.errors import AlreadyExists, MinipodError, UsageError
from minipod.network import AddressPool, pod_link

CREATORS = 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


def test_addresses_come_in_order_and_skip_network_and_bridge() -> None:
    with closing(memory()) as db:
        pool = AddressPool(db, "10.99.0.0/16")
        assert [pool.allocate(name) for name in "abc"] == ["10.99.0.2", "10.99.0.3", "10.99.0.4"]
        assert pool.all() == {"a": "10.99.0.2", "b": "10.99.0.3", "c": "10.99.0.4"}


def test_a_released_address_is_not_given_at_once() -> None:
    with closing(memory()) as db:
        pool = AddressPool(db, "10.99.0.0/29")  # .2 to .6
        assert pool.allocate("a") == "10.99.0.2"
        pool.release("a")
        assert [pool.allocate(name) for name in "abcd"] == [f"10.99.0.{n}" for n in (3, 4, 5, 6)]
        pool.release("b")
        assert pool.allocate("e") == "10.99.0.2"
        assert pool.allocate("f") == "10.99.0.4"


def test_exhausted_pool_says_what_to_do() -> None:
    with closing(memory()) as db:
        pool = AddressPool(db, "10.99.0.0/30")
        assert pool.allocate("a") == "10.99.0.2"
        with pytest.raises(
            MinipodError, match=r"all 1 addresses of the pod range 10\.99\.0\.0/30"
        ) as caught:
            pool.allocate("b")
        assert "MINIPOD_POD_CIDR" in caught.value.remedy
        assert pool.all() == {"a": "10.99.0.2"}
        pool.release("a")
        assert pool.allocate("b") == "10.99.0.2"


def test_one_owner_has_one_address() -> None:
    with closing(memory()) as db:
        pool = AddressPool(db, "10.99.0.0/16")
        pool.allocate("a")
        with pytest.raises(AlreadyExists, match=r"a already has the address 10\.99\.0\.2"):
            pool.allocate("a")


def test_release_of_nobody_is_nothing() -> None:
    with closing(memory()) as db:
        AddressPool(db, "10.99.0.0/16").release("nobody")


def test_allocations_and_the_round_survive_a_restart(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        pool = AddressPool(db, "10.99.0.0/16")
        pool.allocate("a")
        pool.allocate("b")
        pool.release("b")
    with closing(sqlite3.connect(path)) as db:
        pool = AddressPool(db, "10.99.0.0/16")
        assert pool.all() == {"a": "10.99.0.2"}
        assert pool.allocate("c") == "10.99.0.4"


def test_a_changed_range_starts_at_its_own_beginning(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        AddressPool(db, "10.99.0.0/16").allocate("a")
        assert AddressPool(db, "10.50.0.0/16").allocate("b") == "10.50.0.2"


@pytest.mark.parametrize("isolation", [None, "DEFERRED", "IMMEDIATE"])
def test_inside_the_callers_transaction(
    path: Path, isolation: Literal["DEFERRED", "IMMEDIATE"] | None
) -> None:
    with closing(sqlite3.connect(path, isolation_level=isolation)) as db:
        pool = AddressPool(db, "10.99.0.0/16")
        db.execute("BEGIN IMMEDIATE")
        pool.allocate("a")
        db.execute("ROLLBACK")
        assert pool.all() == {}
        pool.allocate("b")
        assert not db.in_transaction


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_any_sequence_keeps_addresses_unique_and_usable(steps: list[tuple[bool, int]]) -> None:
    network = IPv4Network("10.99.0.0/29")
    usable = set(network.hosts()) - {network.network_address + 1}
    with closing(memory()) as db:
        pool = AddressPool(db, str(network))
        held: dict[str, str] = {}
        for allocate, number in steps:
            owner = str(number)
            if not allocate:
                pool.release(owner)
                held.pop(owner, None)
            elif owner in held or len(held) == len(usable):
                with pytest.raises(MinipodError):
                    pool.allocate(owner)
            else:
                held[owner] = pool.allocate(owner)
            assert pool.all() == held
            assert len(set(held.values())) == len(held)
            assert {IPv4Address(address) for address in held.values()} <= usable


def test_parallel_threads_never_share_an_address(path: Path) -> None:
    def create(number: int) -> list[str]:
        with closing(sqlite3.connect(path, timeout=60)) as db:
            pool = AddressPool(db, "10.99.0.0/16")
            kept = []
            for turn in range(5):
                kept.append(pool.allocate(f"{number}-{turn}"))
                pool.allocate(f"{number}-{turn}-short")
                pool.release(f"{number}-{turn}-short")
            return kept

    with ThreadPoolExecutor(CREATORS) as threads:
        addresses = [address for kept in threads.map(create, range(CREATORS)) for address in kept]
    assert len(set(addresses)) == CREATORS * 5
    with closing(sqlite3.connect(path)) as db:
        assert sorted(AddressPool(db, "10.99.0.0/16").all().values()) == sorted(addresses)


def test_parallel_processes_never_share_an_address(path: Path) -> None:
    program = (
        "import sqlite3, sys\n"
        "from minipod.network.addresses import AddressPool\n"
        "pool = AddressPool(sqlite3.connect(sys.argv[1], timeout=60), '10.99.0.0/24')\n"
        "print(*(pool.allocate(f'{sys.argv[2]}-{n}') for n in range(20)))\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, path, str(n)], stdout=subprocess.PIPE, text=True
        )
        for n in range(8)
    ]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * 8
    assert len({address for line in printed for address in line.split()}) == 8 * 20


@pytest.mark.parametrize(
    "cidr",
    ["", "10.99.0.0", "10.99.0.1/16", "10.99.0.0/31", "fd00::/64", "pods", "10.99.0.0/16; drop"],
)
def test_unusable_ranges_are_refused(cidr: str) -> None:
    with closing(memory()) as db, pytest.raises(UsageError, match="pod range") as caught:
        AddressPool(db, cidr)
    assert "MINIPOD_POD_CIDR" in caught.value.remedy


def test_the_link_follows_from_the_address() -> None:
    link = pod_link(Config(link_prefix="mp", pod_cidr="10.99.0.0/16"), "uid", "10.99.1.254")
    assert link.host_ifname == "mp0a6301fe"
    assert link.mac == "0a:58:0a:63:01:fe"
    assert (link.address, link.prefix_len, link.gateway) == ("10.99.1.254", 16, "10.99.0.1")
    assert link == pod_link(Config(link_prefix="mp", pod_cidr="10.99.0.0/16"), "uid", "10.99.1.254")


@given(st.integers(2, 2**16 - 2))
def test_link_names_fit_and_differ(host: int) -> None:
    config = Config(link_prefix="abcd", pod_cidr="10.99.0.0/16")
    link = pod_link(config, "uid", str(IPv4Address("10.99.0.0") + host))
    assert len(link.host_ifname) <= 15
    assert IPv4Address(bytes.fromhex(link.host_ifname[4:])) == IPv4Address(link.address)


@pytest.mark.parametrize(
    "address", ["10.99.0.0", "10.99.0.1", "10.99.255.255", "10.98.0.2", "10.99.0.2\n", ""]
)
def test_addresses_that_no_pod_can_have_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="pod uid"):
        pod_link(Config(), "uid", address)


@pytest.mark.parametrize("prefix", ["", "toolong", "m1", 'm"', "m*", "mp\n"])
def test_link_prefixes_that_are_no_letters_are_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="link prefix"):
        pod_link(Config(link_prefix=prefix), "uid", "10.99.0.2")
