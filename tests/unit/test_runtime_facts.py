# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine's mounts say about cgroups, and what is missing is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from minipod import native
from minipod.errors import MinipodError
from minipod.plan import Facts, Hierarchy
from minipod.runtime import apparmor
from minipod.runtime import facts as probe
from minipod.runtime.facts import cgroup_hierarchies, shortcomings
from tests.unit.test_plan_checker import BARE_CGROUP2, CGROUP1, HYBRID, V1, V2, WEAK

# /proc/self/mountinfo of Debian 12 and Ubuntu 24.04, cut to what matters.
UNIFIED = """\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard,errors=remount-ro
30 22 0:7 / /sys/kernel/security rw,nosuid,nodev,noexec,relatime shared:8 - securityfs securityfs rw
31 22 0:26 / {root} rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
32 22 0:27 / /sys/fs/pstore rw,nosuid,nodev,noexec,relatime shared:10 - pstore pstore rw
"""
# systemd.unified_cgroup_hierarchy=0 on Debian 12: "hybrid".
MIXED = """\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
31 22 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
33 31 0:29 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
37 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,cpu,cpuacct
38 31 0:34 / /sys/fs/cgroup/freezer rw,nosuid,nodev,noexec,relatime shared:17 - cgroup cgroup rw,freezer
39 31 0:35 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:18 - cgroup cgroup rw,memory
40 31 0:36 / /sys/fs/cgroup/pids rw,nosuid,nodev,noexec,relatime shared:19 - cgroup cgroup rw,pids
41 31 0:37 / /sys/fs/cgroup/devices rw,nosuid,nodev,noexec,relatime shared:20 - cgroup cgroup rw,devices
42 31 0:38 / /sys/fs/cgroup/net_cls,net_prio rw,relatime shared:21 - cgroup cgroup rw,net_cls,net_prio
32 31 0:27 / {root} rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw
"""


@pytest.fixture
def cgroup2(tmp_path: Path) -> Path:
    """A directory in the place of a mounted cgroup2."""
    return tmp_path


def test_debian_12_is_unified(cgroup2: Path) -> None:
    (cgroup2 / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    found = cgroup_hierarchies(UNIFIED.format(root=cgroup2))
    assert found == (Hierarchy(str(cgroup2), ("cpu", "memory", "hugetlb", "pids"), 2),)
    facts = Facts(found, 0)
    assert facts.cgroup2 == found[0]
    assert facts.controls("memory") == found[0]
    assert facts.controls("devices") is None


def test_hybrid_puts_the_bare_cgroup2_first(cgroup2: Path) -> None:
    found = cgroup_hierarchies(MIXED.format(root=cgroup2))  # no cgroup.controllers: nothing in it
    assert found[0] == Hierarchy(str(cgroup2), (), 2)
    assert {h.directory: h.controllers for h in found[1:]} == {
        "/sys/fs/cgroup/cpu,cpuacct": ("cpu", "cpuacct"),
        "/sys/fs/cgroup/memory": ("memory",),
        "/sys/fs/cgroup/pids": ("pids",),
        "/sys/fs/cgroup/devices": ("devices",),
    }
    facts = Facts(found, 0)
    assert facts.cgroup2 == found[0]
    assert facts.controls("cpu") == found[1]
    assert facts.controls("cpu") != facts.controls("devices")


def test_v1_only() -> None:
    text = "".join(line for line in MIXED.splitlines(True) if "cgroup2" not in line)
    found = cgroup_hierarchies(text)
    assert {h.version for h in found} == {1}
    assert Facts(found, 0).cgroup2 is None
    assert [h.name for h in found] == ["cpu,cpuacct", "memory", "pids", "devices"]


def test_a_hierarchy_that_is_mounted_twice_counts_once() -> None:
    text = MIXED.format(root="/sys/fs/cgroup/unified")
    bound = text.replace("/sys/fs/cgroup/", "/mnt/again/")
    assert cgroup_hierarchies(text + bound) == cgroup_hierarchies(text)


def test_no_cgroups_is_an_error_with_a_remedy() -> None:
    text = "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    with pytest.raises(MinipodError, match="no cgroup hierarchy is mounted") as error:
        cgroup_hierarchies(text)
    assert "mount -t cgroup2" in error.value.remedy
    named_only = "".join(line for line in MIXED.splitlines(True) if "name=systemd" in line)
    with pytest.raises(MinipodError):
        cgroup_hierarchies(named_only)


def test_this_machines_mounts_are_read() -> None:
    try:
        found = cgroup_hierarchies()
    except MinipodError as error:
        assert "no cgroup hierarchy" in str(error)
    else:
        assert all(Path(h.directory).is_dir() for h in found)


def test_shortcomings_are_said_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "enabled", lambda: False)
    assert shortcomings(V2) == {}
    assert shortcomings(V1) == {}
    assert shortcomings(HYBRID) == {}
    said = shortcomings(WEAK).pop("capabilities")
    assert "CAP_SYS_RESOURCE" in said and "4096" in said
    said = shortcomings(Facts((BARE_CGROUP2, CGROUP1[1]), 0)).pop("cgroups")
    assert "cpu, pids" in said and "memory" not in said
    found = shortcomings(replace(WEAK, hierarchies=(BARE_CGROUP2,)))
    assert found.keys() == {"capabilities", "cgroups"}


def test_an_agent_without_a_capability_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_held_capabilities", lambda: (1 << 41) - 1 & ~(1 << 21))
    with pytest.raises(MinipodError, match="lacks the capabilities SYS_ADMIN") as error:
        probe.gather()
    assert "run it as root" in error.value.remedy


@pytest.mark.parametrize(
    ("forced", "overlay"),
    [("", True), ("overlay", False), ("other", True), ("other,overlay", False)],
)
def test_fallbacks_can_be_forced(
    monkeypatch: pytest.MonkeyPatch, forced: str, overlay: bool
) -> None:
    monkeypatch.setenv(probe.FORCE_FALLBACK, forced)
    monkeypatch.setattr(probe, "_held_capabilities", lambda: (1 << 41) - 1)
    monkeypatch.setattr(probe, "cgroup_hierarchies", lambda: (BARE_CGROUP2,))
    monkeypatch.setattr(native, "overlay_appends_layers", lambda: True)
    facts = probe.gather()
    assert facts.overlay_appends_layers is overlay
    assert facts.can_raise_limits
    assert facts.memory > 1 << 20


def test_a_kernel_without_overlayfs(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> bool:
        raise OSError(19, "No such device")

    monkeypatch.setattr(probe, "_held_capabilities", lambda: (1 << 41) - 1)
    monkeypatch.setattr(probe, "cgroup_hierarchies", lambda: (BARE_CGROUP2,))
    monkeypatch.setattr(native, "overlay_appends_layers", none)
    with pytest.raises(MinipodError, match="no overlayfs") as error:
        probe.gather()
    assert "modprobe overlay" in error.value.remedy
