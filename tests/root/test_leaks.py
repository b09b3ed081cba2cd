# SPDX-License-Identifier: GPL-3.0-or-later
"""The leak detector sees each kind of leak, and the forced clean-up removes it (tests/leaks.py)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.features import cgroup_mounts, requires
from tests.instance import Instance
from tests.leaks import HostSnapshot, clean, diff

pytestmark = requires("root", "namespaces", "nft", "veth")


@pytest.fixture
def place() -> Iterator[Instance]:
    """An instance that no command has touched; what a test leaves in it is removed."""
    instance = Instance()
    try:
        yield instance
    finally:
        instance.stop()


def run(*command: str | Path, stdin: str = "") -> None:
    subprocess.run(command, input=stdin, check=True, text=True)


def leave_process(place: Instance) -> None:
    # Named by its argument only; a child of init, as a shim would be.
    run("setsid", "--fork", "sh", "-c", "sleep 600 & wait", str(place.base))


def leave_cgroup(place: Instance) -> None:
    top = next(path for _, path, _ in cgroup_mounts())
    (top / place.config.cgroup_parent / "pod-1").mkdir(parents=True)


def leave_mount(place: Instance) -> None:
    run("mount", "-t", "tmpfs", "none", place.base)


def leave_link(place: Instance) -> None:
    run(
        "ip",
        "link",
        "add",
        f"{place.config.link_prefix}0",
        "type",
        "veth",
        "peer",
        "name",
        f"{place.config.link_prefix}1",
    )


def leave_address(place: Instance) -> None:
    run("ip", "link", "add", place.config.bridge, "type", "bridge")
    run(
        "ip",
        "addr",
        "add",
        place.config.pod_cidr.replace("0.0/", "0.1/"),
        "dev",
        place.config.bridge,
    )


def leave_table(place: Instance) -> None:
    elements = "set s { type ipv4_addr; elements = { 10.1.2.3 }; }"
    run("nft", "-f", "-", stdin=f"table inet {place.config.nft_table} {{\n{elements}\n}}\n")


def leave_directory(place: Instance) -> None:
    Path(place.config.root_dir, "pods", "uid-1").mkdir(parents=True)


def leave_namespace(place: Instance) -> None:
    run("setsid", "--fork", "unshare", "--net", "sh", "-c", "sleep 600 & wait", str(place.base))
    while not any(
        os.readlink(f"/proc/{p.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        for p in place.processes()
    ):
        pass


@pytest.mark.parametrize(
    ("leave", "kinds"),
    [
        (leave_process, {"processes"}),
        (leave_cgroup, {"cgroups"}),
        (leave_mount, {"mounts"}),
        (leave_link, {"links"}),
        (leave_address, {"links", "addresses"}),
        (leave_table, {"nftables"}),
        (leave_directory, {"directories"}),
        (leave_namespace, {"processes", "namespaces"}),
    ],
)
def test_a_leak_is_seen_and_removed(
    place: Instance, leave: Callable[[Instance], None], kinds: set[str]
) -> None:
    leave(place)
    lines = diff(place.before, HostSnapshot.take(place.scope))
    assert {line.split(":")[0] for line in lines} == kinds
    clean(place.scope)
    left = [
        line
        for line in diff(place.before, HostSnapshot.take(place.scope))
        if "directories" not in line
    ]
    assert left == []


def test_what_others_leave_is_not_ours(place: Instance) -> None:
    other = Instance()
    try:
        for leave in (leave_process, leave_cgroup, leave_mount, leave_address, leave_table):
            leave(other)
        assert place.scope.alone or diff(place.before, HostSnapshot.take(place.scope)) == []
    finally:
        other.stop()


def test_what_is_gone_is_reported(place: Instance) -> None:
    leave_address(place)
    before = HostSnapshot.take(place.scope)
    run("ip", "link", "delete", place.config.bridge)
    lines = diff(before, HostSnapshot.take(place.scope))
    assert f"links: gone: {place.config.bridge}" in lines
