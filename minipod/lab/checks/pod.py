# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the labs in which a pod is built by hand."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

from minipod.lab import kernel
from minipod.lab.kernel import Mount, Network, Process, addresses
from minipod.lab.look import Bench, NotYet

_SHARED = ("net", "uts", "ipc")


def pause(bench: Bench) -> Iterator[str]:
    """Two processes with PID namespaces of their own, in the other namespaces of a third that only holds them."""
    holder = yield from _holder(bench)
    inside = yield from _containers(bench, holder, "unshare --pid --fork --mount-proc …")
    del inside
    yield from _served(Network(pid=holder.pid), "127.0.0.1", "through their shared loopback")


def pod(bench: Bench) -> Iterator[str]:
    """A sandbox on a bridge, two containers with overlays of one image as roots, and a volume between them."""
    holder = yield from _holder(bench)
    yield from _cable(holder)
    found = yield from _containers(bench, holder, "unshare --mount --pid --fork sh -c …")
    uppers, writable = set(), []
    for each in found:
        mounts = {mount.target: mount for mount in each.mounts()}
        uppers.add(_upper(each, mounts["/"]))
        site = mounts.get("/site")
        if site is None:
            raise NotYet(
                f"{each} has nothing mounted at /site", "mount --bind /run/lab13/site …/root/site"
            )
        writable.append("rw" in site.options)
        if os.stat(each.proc / "root/site").st_ino != os.stat("/run/lab13/site").st_ino:
            raise NotYet(f"/site of {each} is not /run/lab13/site", "bind that directory")
    if len(uppers) < 2:
        raise NotYet("both write to one upper directory", "each container needs one of its own")
    yield "their roots are overlays of /run/lab13/image, each with an upper directory of its own"
    if sorted(writable) != [False, True]:
        raise NotYet(
            "the volume is not writable for one and read-only for the other",
            "mount -o remount,bind,ro …/root/site",
        )
    yield "both have the volume at /site, one of them read-only"
    yield from _served(Network(), "198.51.100.66", "from the host")


def _holder(bench: Bench) -> Generator[str, None, Process]:
    """Find the process that holds the shared namespaces."""
    start = f"MINIPOD_LAB={bench.lab.number} unshare --net --uts --ipc sleep infinity"
    outside = kernel.namespace("pid")
    held = [
        each
        for each in bench.apart(start, *_SHARED)
        # unshare and nsenter, which wait for their children, are not what holds.
        if each.ns("pid") == outside and each.comm not in ("unshare", "nsenter")
    ]
    if not held:
        raise NotYet("no process only holds the namespaces", f"start one as {start}")
    yield f"{held[0]} holds {', '.join(held[0].ns(kind) for kind in _SHARED)}"
    return held[0]


def _containers(bench: Bench, holder: Process, then: str) -> Generator[str, None, list[Process]]:
    """Find two processes that are PID 1 of their own and share the holder's namespaces."""
    inside = [
        each
        for each in kernel.learners().get(bench.lab.number, [])
        if each.status("NSpid")[1:] == ["1"]
        and all(each.ns(kind) == holder.ns(kind) for kind in _SHARED)
        and each.ns("mnt") != holder.ns("mnt")
    ]
    if len(inside) < 2:
        enter = f"MINIPOD_LAB={bench.lab.number} nsenter --target {holder.pid} --net --uts --ipc"
        raise NotYet(
            f"{len(inside)} of two processes share them, with PID and mount namespaces of their own",
            f"{enter} {then}",
        )
    for each in inside:
        yield f"{each} shares them, and is PID 1 of {each.ns('pid')}"
    return inside


def _cable(holder: Process) -> Iterator[str]:
    """Check the way from the holder's eth0 to the bridge."""
    host = Network().links()
    bridge, inner = host.get("lab13"), Network(pid=holder.pid).links().get("eth0")
    if bridge is None or bridge.get("linkinfo", {}).get("info_kind") != "bridge":
        raise NotYet("there is no bridge lab13", "ip link add lab13 type bridge")
    if "198.51.100.65/28" not in addresses(bridge) or "UP" not in bridge["flags"]:
        raise NotYet(
            "the bridge lab13 is not up, or has not the address 198.51.100.65/28",
            "ip address add 198.51.100.65/28 dev lab13; ip link set lab13 up",
        )
    if inner is None:
        raise NotYet(
            f"{holder} has no eth0",
            f"ip link add lab13-pod type veth peer name eth0 netns {holder.pid}",
        )
    enter = f"nsenter --target {holder.pid} --net"
    if "198.51.100.66/28" not in addresses(inner) or "UP" not in inner["flags"]:
        raise NotYet(
            "its eth0 is not up, or has not the address 198.51.100.66/28",
            f"{enter} ip address add 198.51.100.66/28 dev eth0; {enter} ip link set eth0 up",
        )
    outer = [each for each in host.values() if each["ifindex"] == inner.get("link_index")]
    if not outer or outer[0].get("master") != "lab13" or "UP" not in outer[0]["flags"]:
        raise NotYet(
            "the other end of its eth0 is no port of lab13 that is up",
            "ip link set lab13-pod master lab13 up",
        )
    yield f"its eth0 has 198.51.100.66/28; the other end, {outer[0]['ifname']}, is a port of lab13"


def _upper(process: Process, root: Mount) -> str:
    if root.kind != "overlay":
        raise NotYet(
            f"the root of {process} is a {root.kind}, no overlay",
            "mount -t overlay … /run/lab13/NAME/root, and pivot_root into it",
        )
    inside = process.proc / "root"
    if not os.path.samestat((inside / "..").stat(), inside.stat()):
        raise NotYet(f"{process} is in a chroot", "pivot_root instead")
    return root.option("upperdir")


def _served(network: Network, address: str, way: str) -> Iterator[str]:
    if not (page := network.fetch(f"http://{address}:8080/")):
        raise NotYet(
            f"nothing is served at {address}:8080, {way}", "busybox httpd -f -p 8080 -h DIRECTORY"
        )
    yield f"http://{address}:8080/ says, {way}: {page}"
