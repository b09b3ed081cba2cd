# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out what this machine, and we on it, can do: by trying, or by reading what the kernel says of itself."""

from __future__ import annotations

import glob
import os
import resource

from minipod import native
from minipod.api.capabilities import CAPABILITIES
from minipod.errors import MinipodError
from minipod.plan.context import Facts, Hierarchy
from minipod.runtime import apparmor

USED_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "devices", "hugetlb")
# Makes the agent plan as for an old kernel, so that the fallbacks are exercised on a new one:
# "overlay" is the only one there is.
FORCE_FALLBACK = "MINIPOD_FORCE_FALLBACK"


def gather(root_dir: str = "/") -> Facts:
    """Return the facts of this machine; containers write to the filesystem of *root_dir*.

    Raises:
        MinipodError: something is missing without which no pod can run.
    """
    held = _held_capabilities()
    needed = {
        "SYS_ADMIN",
        "NET_ADMIN",
        "SETPCAP",
        "SETUID",
        "SETGID",
        "CHOWN",
        "MKNOD",
        "DAC_OVERRIDE",
        "SYS_CHROOT",
    }
    missing = sorted(name for name in needed if not held >> CAPABILITIES.index(name) & 1)
    if missing:
        raise MinipodError(
            f"the agent lacks the capabilities {', '.join(missing)}",
            "run it as root, outside of a container",
        )
    forced = os.environ.get(FORCE_FALLBACK, "").split(",")
    return Facts(
        hierarchies=cgroup_hierarchies(),
        capabilities=held,
        overlay_appends_layers="overlay" not in forced and _overlay_appends_layers(),
        tmpfs_stays_in_memory=native.tmpfs_stays_in_memory(),
        nofile_hard=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        can_raise_limits=bool(held >> CAPABILITIES.index("SYS_RESOURCE") & 1),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cpus=os.cpu_count() or 1,
        storage=_size(root_dir),
        page=os.sysconf("SC_PAGE_SIZE"),
        hugepages=_hugepages(),
        machine=os.uname().machine,
        masked_sys=tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))),
        boot=_boot(),
    )


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _size(path: str) -> int:
    found = os.statvfs(path)
    return found.f_frsize * found.f_blocks


def hugepages_total(page: int) -> int:
    """Return the bytes that are reserved on this machine in huge pages of *page* bytes (``hugetlbpage.rst``)."""
    try:
        with open(f"/sys/kernel/mm/hugepages/hugepages-{page >> 10}kB/nr_hugepages") as file:
            return int(file.read()) * page
    except FileNotFoundError:
        return 0


def _hugepages() -> tuple[int, ...]:
    """Return the sizes of huge pages that this kernel has (``hugetlbpage.rst``): hugepages-2048kB."""
    names = glob.glob("/sys/kernel/mm/hugepages/hugepages-*kB")
    return tuple(sorted(int(name.rsplit("-", 1)[1].removesuffix("kB")) << 10 for name in names))


def _held_capabilities() -> int:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("CapEff:"))
    return int(line.split()[1], 16)


def _overlay_appends_layers() -> bool:
    try:
        return native.overlay_appends_layers()
    except OSError as error:
        raise MinipodError(
            f"this kernel has no overlayfs ({error.strerror})",
            "modprobe overlay, or use a kernel that has it",
        ) from error


def cgroup_hierarchies(mountinfo: str | None = None) -> tuple[Hierarchy, ...]:
    """Return the mounted cgroup hierarchies that pods are put into, cgroup2 first.

    *mountinfo* is the text of ``/proc/self/mountinfo`` (``proc(5)``); None reads it.

    Raises:
        MinipodError: none is mounted.
    """
    if mountinfo is None:
        with open("/proc/self/mountinfo") as file:
            mountinfo = file.read()
    found: dict[tuple[str, ...], Hierarchy] = {}
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        directory = head.split()[4]
        kind, _, options = tail.split()[:3]
        if kind == "cgroup2":
            found.setdefault(("2",), Hierarchy(directory, _cgroup2_controllers(directory), 2))
        elif kind == "cgroup":
            controllers = tuple(name for name in options.split(",") if name in USED_CONTROLLERS)
            if controllers:
                found.setdefault(("1", *controllers), Hierarchy(directory, controllers, 1))
    if not found:
        raise MinipodError("no cgroup hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    return tuple(sorted(found.values(), key=lambda h: -h.version))


def _cgroup2_controllers(directory: str) -> tuple[str, ...]:
    try:
        with open(f"{directory}/cgroup.controllers") as file:
            return tuple(name for name in file.read().split() if name in USED_CONTROLLERS)
    except FileNotFoundError:
        return ()


def shortcomings(facts: Facts) -> dict[str, str]:
    """Say what this machine cannot give a pod that Kubernetes would; shown once, in the pod's status.

    Returns:
        what it is about (capabilities, secrets, cgroups, apparmor) → a sentence.
    """
    result = {}
    if not facts.can_raise_limits:
        result["capabilities"] = (
            "without CAP_SYS_RESOURCE a negative oom_score_adj is set to 0 "
            f"and open files stay limited to {facts.nofile_hard}"
        )
    if not facts.tmpfs_stays_in_memory and _swaps():
        result["secrets"] = (
            "this kernel cannot keep a tmpfs out of the swap: the files of Secrets may be written there"
        )
    missing = [name for name in ("cpu", "memory", "pids") if not facts.controls(name)]
    if missing:
        result["cgroups"] = (
            f"no cgroup controller for {', '.join(missing)}: such limits are not enforced"
        )
    if apparmor.enabled() and not apparmor.supported():
        result["apparmor"] = (
            "without the program apparmor_parser (package apparmor) containers are not confined by AppArmor"
        )
    return result


def _swaps() -> bool:
    try:
        with open("/proc/swaps") as file:
            return len(file.readlines()) > 1
    except FileNotFoundError:  # a kernel without swap
        return False
