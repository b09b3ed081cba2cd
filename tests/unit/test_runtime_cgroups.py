# SPDX-License-Identifier: GPL-3.0-or-later
"""Cgroups on a directory tree that behaves as the kernel's, as far as making and reading goes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minipod.plan import Facts, Hierarchy
from minipod.plan.defaults import DEVICE_RULES
from minipod.plan.steps import CgroupWrite, MakeCgroup
from minipod.runtime import cgroups as module
from minipod.runtime.cgroups import Cgroups
from minipod.runtime.devices import v1_lines

V2_FILES = {
    "cpu": ("cpu.weight", "cpu.max"),
    "memory": ("memory.max", "memory.events"),
    "pids": ("pids.max",),
}
V1_FILES = {
    "cpu": ("cpu.shares", "cpu.cfs_quota_us"),
    "memory": ("memory.limit_in_bytes", "memory.oom_control"),
    "pids": ("pids.max",),
    "devices": ("devices.deny", "devices.allow"),
}


class Tree:
    """A machine's cgroup hierarchies in a directory; ``mkdir`` in them brings files, as the kernel does."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top = top
        self.written: list[tuple[str, str]] = []
        self._mkdir, self._rmdir = os.mkdir, os.rmdir
        self._write = module._write
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "rmdir", self.rmdir)
        monkeypatch.setattr(module, "_write", self.write)

    def unified(self) -> Hierarchy:
        """Mount a cgroup2 with the usual controllers."""
        directory = self.top / "cgroup"
        self._mkdir(directory)
        (directory / "cgroup.controllers").write_text("cpuset cpu io memory pids")
        (directory / "cgroup.subtree_control").write_text("")
        return Hierarchy(str(directory), ("cpu", "memory", "pids"), 2)

    def bare(self) -> Hierarchy:
        """Mount a cgroup2 without controllers."""
        directory = self.top / "unified"
        self._mkdir(directory)
        return Hierarchy(str(directory), (), 2)

    def v1(self, *controllers: str) -> Hierarchy:
        """Mount a v1 hierarchy."""
        directory = self.top / ",".join(controllers)
        self._mkdir(directory)
        return Hierarchy(str(directory), controllers, 1)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._mkdir(path, mode)
        if not str(path).startswith(str(self.top)):
            return
        made = Path(path)
        (made / "cgroup.procs").write_text("")
        control = made.parent / "cgroup.subtree_control"
        if control.exists():
            enabled = {word.lstrip("+") for word in control.read_text().split()}
            (made / "cgroup.controllers").write_text(" ".join(sorted(enabled)))
            (made / "cgroup.subtree_control").write_text("")
            names = [name for one in enabled for name in V2_FILES.get(one, ())]
        else:
            relative = made.relative_to(self.top).parts[0]
            names = [name for one in relative.split(",") for name in V1_FILES.get(one, ())]
        for name in names:
            (made / name).write_text("")

    def rmdir(self, path: str) -> None:
        """Remove a cgroup: its files are no obstacle, its children are."""
        directory = Path(path)
        if any(entry.is_dir() for entry in directory.iterdir()):
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        for entry in directory.iterdir():
            entry.unlink()
        self._rmdir(path)

    def write(self, path: str, value: str) -> None:
        self.written.append((str(Path(path).relative_to(self.top)), value))
        self._write(path, value)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """An empty machine."""
    return Tree(tmp_path, monkeypatch)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cgroups that a device program was attached to."""
    attached: list[str] = []

    def attach(fd: int, program: bytes) -> None:
        attached.append(os.readlink(f"/proc/self/fd/{fd}"))
        assert program == module._DEVICE_PROGRAM

    monkeypatch.setattr(module, "cgroup_device", attach)
    return attached


LIMITS = (CgroupWrite("cpu", "cpu.weight", "39"), CgroupWrite("memory", "memory.max", "67108864"))


def test_controllers_are_handed_down_before_a_child_is_made(tree: Tree) -> None:
    home = tree.unified()
    cgroups = Cgroups(Facts((home,), 0), "/minipod/")
    assert cgroups.parent == "minipod"
    cgroups.create(MakeCgroup(path="minipod/pod1", writes=LIMITS))
    top = Path(home.directory)
    for directory in (top, top / "minipod"):
        assert (directory / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    leaf = top / "minipod" / "pod1"
    # Processes live in the leaves: a leaf hands nothing down (the "no internal processes" rule).
    assert (leaf / "cgroup.subtree_control").read_text() == ""
    assert (leaf / "cpu.weight").read_text() == "39"
    assert (leaf / "memory.max").read_text() == "67108864"
    assert leaf.stat().st_mode & 0o777 == 0o755
    cgroups.create(MakeCgroup(path="minipod/pod1/app.0"))
    assert (leaf / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_making_a_cgroup_twice_is_fine(tree: Tree) -> None:
    cgroups = Cgroups(Facts((tree.unified(),), 0), "minipod")
    step = MakeCgroup(path="minipod/pod1", writes=LIMITS)
    cgroups.create(step)
    tree.written.clear()
    for control in tree.top.rglob("cgroup.subtree_control"):  # as the kernel shows it
        control.write_text(control.read_text().replace("+", ""))
    cgroups.create(step)
    assert [path.rsplit("/", 1)[1] for path, _ in tree.written] == ["cpu.weight", "memory.max"]


def test_every_hierarchy_gets_the_cgroup(tree: Tree, programs: list[str]) -> None:
    hierarchies = (tree.bare(), tree.v1("cpu", "cpuacct"), tree.v1("memory"), tree.v1("devices"))
    cgroups = Cgroups(Facts(hierarchies, 0), "minipod")
    writes = (
        CgroupWrite("cpu", "cpu.shares", "512"),
        CgroupWrite("memory", "memory.limit_in_bytes", "1024"),
        CgroupWrite("pids", "pids.max", "5"),  # no such controller here: said in the pod's status
    )
    cgroups.create(MakeCgroup(path="minipod/pod1/app.0", writes=writes, devices=True))
    for hierarchy in hierarchies:
        assert Path(hierarchy.directory, "minipod/pod1/app.0").is_dir()
    assert (tree.top / "cpu,cpuacct/minipod/pod1/app.0/cpu.shares").read_text() == "512"
    devices = [
        (path.rsplit("/", 1)[1], value) for path, value in tree.written if "devices." in path
    ]
    assert devices == [
        ("devices.deny", "a"),
        *(("devices.allow", line) for line in v1_lines(DEVICE_RULES)),
    ]
    assert programs == []
    assert not (tree.top / "unified" / "cgroup.subtree_control").exists()


def test_on_v2_a_program_restricts_devices(tree: Tree, programs: list[str]) -> None:
    home = tree.unified()
    cgroups = Cgroups(Facts((home,), 0), "minipod")
    cgroups.create(MakeCgroup(path="minipod/pod1"))
    assert programs == []
    cgroups.create(MakeCgroup(path="minipod/pod1/app.0", devices=True))
    assert programs == [f"{home.directory}/minipod/pod1/app.0"]


def test_a_program_that_cannot_be_attached_is_an_error(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, program: bytes) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(module, "cgroup_device", refuse)
    cgroups = Cgroups(Facts((tree.unified(),), 0), "minipod")
    with pytest.raises(PermissionError):
        cgroups.create(MakeCgroup(path="minipod/pod1/app.0", devices=True))


def test_a_limit_that_cannot_be_set_is_an_error_with_its_path(tree: Tree) -> None:
    cgroups = Cgroups(Facts((tree.unified(),), 0), "minipod")
    missing = CgroupWrite("memory", "memory.high", "1")
    with pytest.raises(FileNotFoundError) as error:
        cgroups.create(MakeCgroup(path="minipod/pod1", writes=(missing,)))
    assert str(error.value.filename).endswith("minipod/pod1/memory.high")
    cgroups.create(MakeCgroup(path="minipod/pod1", writes=(replace(missing, optional=True),)))


def test_a_value_that_the_kernel_refuses_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="writing 'x'") as error:
        module._write("/dev/full", "x")
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == "/dev/full"


def test_open_needs_a_cgroup2(tree: Tree) -> None:
    with pytest.raises(FileNotFoundError, match="no cgroup2 hierarchy"):
        Cgroups(Facts((tree.v1("memory"),), 0), "minipod").open("minipod")
    cgroups = Cgroups(Facts((tree.unified(),), 0), "minipod")
    cgroups.create(MakeCgroup(path="minipod/pod1"))
    fd = cgroups.open("minipod/pod1")
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_looking_over_all_hierarchies(tree: Tree) -> None:
    bare, memory = tree.bare(), tree.v1("memory")
    cgroups = Cgroups(Facts((bare, memory), 0), "minipod")
    assert cgroups.pods() == {}
    cgroups.create(MakeCgroup(path="minipod/pod1/app.0"))
    tree.mkdir(f"{memory.directory}/minipod/pod2")  # what a crash left in one of them
    tree.mkdir(f"{memory.directory}/minipod/burstable")
    tree.mkdir(f"{memory.directory}/minipod/burstable/pod3")
    assert cgroups.pods() == {
        "1": {"minipod/pod1"},
        "2": {"minipod/pod2"},
        "3": {"minipod/burstable/pod3"},
    }
    Path(bare.directory, "minipod/pod1/app.0/cgroup.procs").write_text("11\n12\n")
    Path(memory.directory, "minipod/pod1/cgroup.procs").write_text("12\n13\n")
    assert cgroups.processes("minipod/pod1") == {11, 12, 13}
    assert cgroups.processes("minipod/pod1/app.0") == {11, 12}
    assert cgroups.processes("minipod/none") == set()


def test_oom_kills(tree: Tree) -> None:
    v2, v1 = tree.unified(), tree.v1("memory")
    for home, file, text in (
        (v2, "memory.events", "low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n"),
        (v1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
    ):
        cgroups = Cgroups(Facts((home,), 0), "minipod")
        cgroups.create(MakeCgroup(path="minipod/pod1"))
        assert cgroups.oom_kills("minipod/pod1") == 0
        Path(home.directory, "minipod/pod1", file).write_text(text)
        assert cgroups.oom_kills("minipod/pod1") == int(text.split("oom_kill ")[1].split()[0])
        assert cgroups.oom_kills("minipod/gone") == 0
    assert Cgroups(Facts((tree.bare(),), 0), "minipod").oom_kills("minipod/pod1") == 0


async def test_remove_takes_children_first_in_every_hierarchy(tree: Tree) -> None:
    hierarchies = (tree.unified(), tree.v1("memory"))
    cgroups = Cgroups(Facts(hierarchies, 0), "minipod")
    for name in ("sandbox", "app.0", "app.0/inner"):
        cgroups.create(MakeCgroup(path=f"minipod/pod1/{name}"))
    cgroups.create(MakeCgroup(path="minipod/pod2"))
    await cgroups.remove("minipod/pod1")
    assert list(cgroups.pods()) == ["2"]
    await cgroups.remove("minipod/pod1")  # once more: nothing there, nothing wrong
    cgroups.create(MakeCgroup(path="minipod/besteffort"))
    cgroups.remove_parent()
    assert list(cgroups.pods()) == ["2"]  # the parent of a pod stays
    await cgroups.remove("minipod/pod2")
    cgroups.remove_parent()
    for hierarchy in hierarchies:
        assert not Path(hierarchy.directory, "minipod").exists()


async def test_a_busy_cgroup_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [errno.EBUSY, errno.EBUSY, 0]

    def rmdir(path: str) -> None:
        if number := answers.pop(0):
            raise OSError(number, "busy", path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    await module._rmdir("/x")
    assert answers == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTEMPTY])
async def test_other_failures_of_rmdir_are_told(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def rmdir(path: str) -> None:
        raise OSError(number, "no", path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(OSError) as error:
        await module._rmdir("/x")
    assert error.value.errno == number


# ---- killing ------------------------------------------------------------------------------------


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three processes of our own that sleep."""
    made = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
    try:
        yield made
    finally:
        for one in made:
            one.kill()
            one.wait()


async def test_without_cgroup_kill_every_process_is_killed(
    tree: Tree, sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups = Cgroups(Facts((tree.v1("memory"),), 0), "minipod")
    asked: list[str] = []

    def processes(path: str) -> set[int]:
        asked.append(path)
        return {one.pid for one in sleepers if one.poll() is None}

    monkeypatch.setattr(cgroups, "processes", processes)
    await cgroups.kill("minipod/pod1")
    assert [one.wait() for one in sleepers] == [-9, -9, -9]
    assert set(asked) == {"minipod/pod1"}


async def test_a_pid_that_is_not_listed_any_more_is_left_alone(
    tree: Tree, sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups = Cgroups(Facts((tree.v1("memory"),), 0), "minipod")
    first, second, _ = sleepers
    monkeypatch.setattr(cgroups, "processes", lambda path: {second.pid})
    cgroups._kill_all("minipod/pod1", {first.pid, second.pid})
    assert second.wait() == -9
    assert first.poll() is None


async def test_cgroup_kill_is_used_where_it_is(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tree.unified()
    cgroups = Cgroups(Facts((home,), 0), "minipod")
    cgroups.create(MakeCgroup(path="minipod/pod1"))
    Path(home.directory, "minipod/pod1/cgroup.kill").write_text("")
    waited: list[str] = []

    async def wait_empty(events: str) -> None:
        assert ("cgroup/minipod/pod1/cgroup.kill", "1") in tree.written
        waited.append(events)

    monkeypatch.setattr(cgroups, "_wait_empty", wait_empty)
    await cgroups.kill("minipod/pod1")
    assert waited == [f"{home.directory}/minipod/pod1"]


async def test_killing_what_is_gone_is_fine(tree: Tree) -> None:
    await Cgroups(Facts((tree.unified(), tree.v1("memory")), 0), "minipod").kill("minipod/none")
    await Cgroups(Facts((), 0), "minipod")._wait_empty(f"{tree.top}/gone")


class Deaf:
    """An epoll whose file never tells of a change, as when its cgroup is removed before the kernel's delay is over."""

    def __init__(self) -> None:
        self._pipe = os.pipe()

    def register(self, *_: object) -> None:
        pass

    def poll(self, *_: object) -> None:
        pass

    def fileno(self) -> int:
        return self._pipe[0]

    def close(self) -> None:
        for fd in self._pipe:
            os.close(fd)


async def test_who_waits_hears_of_the_removal(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tree.unified()
    cgroups = Cgroups(Facts((home,), 0), "minipod")
    cgroups.create(MakeCgroup(path="minipod/pod1"))
    events = Path(home.directory, "minipod/pod1/cgroup.events")
    events.write_text("populated 1\n")
    monkeypatch.setattr("select.epoll", Deaf)
    task = asyncio.ensure_future(cgroups._wait_empty(f"{home.directory}/minipod/pod1"))
    await asyncio.sleep(0)
    events.write_text("populated 0\n")
    for file in events.parent.iterdir():
        file.unlink()
    await cgroups.remove("minipod/pod1")
    async with asyncio.timeout(30):
        await task
