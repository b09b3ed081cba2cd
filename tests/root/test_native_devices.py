# SPDX-License-Identifier: GPL-3.0-or-later
"""The device filter of a cgroup2 directory: an eBPF program made by minipod.runtime.devices, judged by the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod import native
from minipod.plan import steps as s
from minipod.runtime.devices import Rule, program
from tests.features import cgroup_mounts, requires
from tests.shimkit import SH, Kit, finish, private

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = requires("root", "namespaces", "cgroup2", "bpf")

CGROUP, ROOT = 7, 21
NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "kmsg": (1, 11),
    "mem": (1, 1),
}


@pytest.fixture
def cgroup() -> Iterator[Path]:
    directory = next(path for kind, path, _ in cgroup_mounts() if kind == "cgroup2")
    own = directory / f"mpt-devices-{os.getpid()}"
    own.mkdir()
    try:
        yield own
    finally:
        own.rmdir()


async def verdicts(
    kit: Kit, cgroup: Path, rules: tuple[Rule, ...] | None, script: str
) -> list[str]:
    """Run *script* in a cgroup that has the filter for *rules*, in a directory with device nodes."""
    (kit.base / "root").mkdir()
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if rules is not None:
        native.cgroup_device(fd, program(rules))
    # The filter of a v1 hierarchy knows nothing of this; the nodes are made before the cgroup is entered.
    nodes = [
        s.Mknod(path=f"/{name}", root=ROOT, major=major, minor=minor)
        for name, (major, minor) in NODES.items()
    ]
    steps = (
        *private(),
        s.NewFilesystem(slot=ROOT, type="tmpfs"),
        *nodes,
        s.Attach(slot=ROOT, path=str(kit.base / "root"), root=-1),
        s.JoinCgroup(directory=str(cgroup)),
        *finish(SH, "-c", f"cd {kit.base}/root; {script}"),
    )
    try:
        out = await kit.run(steps)
    finally:
        os.close(fd)
        await kit.shutdown()  # else the cgroup is busy
    return out.split()


TRY = (
    "for i in null zero full random kmsg; do "
    "if (: <$i) 2>/dev/null; then echo r:$i; fi; if (: >$i) 2>/dev/null; then echo w:$i; fi; done; "
    "for i in '1 3' '1 11'; do mknod new c $i 2>/dev/null && echo m:$i && rm new; done; :"
)


async def test_without_a_filter(kit: Kit, cgroup: Path) -> None:
    """The opens that are refused below are the filter's doing."""
    seen = await verdicts(kit, cgroup, None, TRY)
    assert {"r:null", "w:null", "r:kmsg", "m:1"} <= set(seen)


async def test_an_allow_list(kit: Kit, cgroup: Path) -> None:
    rules: tuple[Rule, ...] = (
        ("c", 1, 3, "rwm"),
        ("c", 1, 5, "r"),
        ("c", 1, 7, "w"),
        ("b", 1, 8, "rwm"),
        ("c", 5, -1, "rwm"),
        ("c", -1, 11, "m"),
    )
    seen = await verdicts(kit, cgroup, rules, TRY)
    assert seen == ["r:null", "w:null", "r:zero", "w:full", "m:1", "3", "m:1", "11"]


async def test_nothing_is_allowed(kit: Kit, cgroup: Path) -> None:
    # finish() itself needs no device: stdio is open already.
    assert await verdicts(kit, cgroup, (), TRY.replace("2>/dev/null", "")) == []


async def test_everything_is_allowed(kit: Kit, cgroup: Path) -> None:
    rules: tuple[Rule, ...] = (("b", -1, -1, "rwm"), ("c", -1, -1, "rwm"))
    seen = await verdicts(kit, cgroup, rules, TRY)
    assert {"r:null", "w:null", "r:kmsg", "m:1"} <= set(seen)


async def test_the_default_list(kit: Kit, cgroup: Path) -> None:
    from minipod.plan.defaults import DEVICES

    rules: tuple[Rule, ...] = tuple(("c", major, minor, "rwm") for _, major, minor in DEVICES)
    seen = set(await verdicts(kit, cgroup, rules, TRY))
    assert {"r:null", "w:null", "r:zero", "r:random"} <= seen
    assert not {"r:kmsg", "w:kmsg"} & seen


def test_a_program_that_the_kernel_does_not_take(cgroup: Path) -> None:
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            native.cgroup_device(fd, bytes(8))
        with pytest.raises(OSError):
            native.cgroup_device(-1, program(()))
    finally:
        os.close(fd)
