# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the labs about one process and its namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from minipod.lab import kernel
from minipod.lab.look import Bench, NotYet


def uts(bench: Bench) -> Iterator[str]:
    """A process in a UTS namespace of its own, with another host name; the host's is as it was."""
    start = "MINIPOD_LAB=1 unshare --uts sh"
    process = bench.apart(start, "uts")[-1]
    yield f"{process} is in {process.ns('uts')}, the host in {kernel.namespace('uts')}"
    enter = f"nsenter --target {process.pid} --uts"
    name = kernel.run(*enter.split(), "uname", "-n").stdout.strip()
    if name != "lab1":
        raise NotYet(
            f"the host name in there is {name!r}",
            f"in there: hostname lab1; or {enter} hostname lab1",
        )
    yield "in there the host name is lab1"
    if os.uname().nodename == "lab1":
        raise NotYet(
            "the host is called lab1 now, too", "hostname changed it outside; change it back"
        )
    yield f"out here it is {os.uname().nodename}"


def pid(bench: Bench) -> Iterator[str]:
    """A process that is PID 1 of its own PID namespace and sees a procfs of that namespace."""
    start = "MINIPOD_LAB=2 unshare --pid --fork --mount-proc sh"
    found = bench.apart(start, "pid")
    first = [process for process in found if process.status("NSpid")[-1:] == ["1"]]
    if not first:
        raise NotYet(
            f"{found[-1]} is in another PID namespace, but not its PID 1", "unshare needs --fork"
        )
    process = first[-1]
    yield f"{process} is PID {' and '.join(process.status('NSpid'))}: one number per namespace"
    if process.ns("mnt") == kernel.namespace("mnt"):
        raise NotYet(
            "it shares the host's mounts, so its /proc is the host's", "unshare needs --mount-proc"
        )
    yield f"its mounts are its own, {process.ns('mnt')}"
    if _device(process.proc / "root/proc") == _device(Path("/proc")):
        raise NotYet(
            "its /proc is still the host's: ps in there shows every process of the machine",
            "mount -t proc proc /proc in there, or unshare --mount-proc",
        )
    yield "the procfs at its /proc is another one than the host's"


def _device(path: Path) -> int:
    try:
        return path.stat().st_dev
    except OSError:
        return -1


def mount(bench: Bench) -> Iterator[str]:
    """A mount that only one mount namespace has, because nothing propagates from it."""
    start = "MINIPOD_LAB=3 unshare --mount sh"
    process = bench.apart(start, "mnt")[-1]
    yield f"{process} has mounts of its own, {process.ns('mnt')}"
    place = "/run/lab3"
    if any(each.target == place for each in kernel.mounts()):
        raise NotYet(
            f"{place} is mounted on the host, too",
            f"it was mounted outside, or propagated; umount {place}, then mount it in there",
        )
    inside = {each.target: each for each in process.mounts()}
    if place not in inside:
        raise NotYet(f"nothing is mounted at {place} in there", f"mount -t tmpfs lab3 {place}")
    if inside[place].kind != "tmpfs":
        raise NotYet(f"a {inside[place].kind} is mounted at {place}", "let it be a tmpfs")
    yield f"in there a tmpfs is mounted at {place}; the host's mountinfo does not have it"
    shared = [each for each in inside["/"].propagation if each.startswith("shared:")]
    if shared:
        raise NotYet(
            f"the root in there is {shared[0]}: what it mounts below reaches its peers",
            "mount --make-rprivate / in there, before you mount",
        )
    yield "its root is in no peer group: nothing propagates"
    if not (process.proc / f"root{place}/secret").is_file():
        raise NotYet(f"there is no file {place}/secret in there", f"echo hush > {place}/secret")
    if Path(place, "secret").exists():
        raise NotYet(f"the host sees {place}/secret", "write it where only the process sees it")
    yield f"{place}/secret is there for the process only"


def root(bench: Bench) -> Iterator[str]:
    """A process whose root is another file system, with the host's gone, not hidden."""
    start = "MINIPOD_LAB=4 unshare --mount --pid --fork sh"
    process = bench.apart(start, "mnt")[-1]
    yield f"{process} has mounts of its own, {process.ns('mnt')}"
    inside = process.proc / "root"
    if os.path.samestat(inside.stat(), Path("/").stat()):
        raise NotYet("its root is the host's", "pivot_root /run/lab4/root /run/lab4/root/old")
    if not (inside / "bin/busybox").is_file():
        raise NotYet("there is no /bin/busybox at its root", "copy it before you pivot")
    yield "its root directory is another one, with /bin/busybox in it"
    # From a chroot, ".." leads on, for somebody with another root directory; not from a root of mounts.
    if not os.path.samestat((inside / "..").stat(), inside.stat()):
        raise NotYet(
            "above its root directory there is more: this is a chroot, which root can leave",
            "use pivot_root, which moves the root mount itself",
        )
    yield "nothing is above it: the root of all its mounts was changed, not only its view (chroot)"
    host = next(each for each in kernel.mounts() if each.target == "/")
    for each in process.mounts():
        if (each.device, each.root) == (host.device, host.root):
            raise NotYet(
                f"the host's file system is still there, at {each.target}",
                f"umount -l {each.target}",
            )
    yield "the host's file system is mounted nowhere in there"
    if _device(inside / "proc/1") in (-1, _device(Path("/proc"))):
        raise NotYet("it has no procfs of its own at /proc", "mount -t proc proc /proc in there")
    yield "it has a procfs of its own PID namespace"
