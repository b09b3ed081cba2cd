# SPDX-License-Identifier: GPL-3.0-or-later
"""The executor: a handler per host step, words for failures, and the order in which a sandbox is taken down."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from minipod.errors import MinipodError, StepFailed
from minipod.network import Network, PodLink
from minipod.plan import compile_container, compile_sandbox
from minipod.plan import steps as s
from minipod.runtime import runtime as module
from minipod.runtime.cgroups import Cgroups
from minipod.runtime.runtime import Origin, Runtime, host_path_type, remove_tree
from minipod.runtime.shim import Executables, LaunchFailed, Process, Shim
from tests.unit.test_plan_checker import LINK, V1, V2, context, execution, pod, run

ORIGIN = Origin("pod default/web, sandbox", {"spec.volumes[0].hostPath": 9}, "pod.yaml")


class Log(list[str]):
    """What was done, in order."""


class FakeShim:
    """A shim that launches nothing, and may fail."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.sent: list[int] = []
        self.fds: tuple[int, ...] = ()
        self.failure: Exception | None = None
        self.held = False

    async def launch(self, launch: s.Launch, fds: Sequence[int], *, timed: bool = False) -> Process:
        self.log.append(f"launch {launch.key}")
        self.sent = list(fds)
        for fd in fds:
            os.fstat(fd)  # open while it is sent
        if self.failure:
            raise self.failure
        return Process(launch.key, "running", 7, 0, 1.0, 0.0, self.fds)

    async def shutdown(self) -> None:
        self.log.append("shutdown")
        if self.held:
            await asyncio.Event().wait()

    def close(self) -> None:
        self.log.append("close")


class FakeNetwork:
    """A network that only notes, and may fail."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.refuse: MinipodError | None = None

    async def admit(self, link: PodLink) -> None:
        self.log.append(f"admit {link.address}")
        await asyncio.sleep(0)
        if self.refuse:
            raise self.refuse

    async def attach(self, link: PodLink, netns: int, netlink: int) -> None:
        os.fstat(netns)
        os.fstat(netlink)
        self.log.append(f"attach {link.host_ifname}")

    async def detach(self, link: PodLink) -> None:
        self.log.append(f"detach {link.address}")


class FakeCgroups:
    """Cgroups that only note."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.failure: OSError | None = None

    def create(self, step: s.MakeCgroup) -> None:
        self.log.append(f"cgroup {step.path.rsplit('/', 1)[-1]}")
        if self.failure:
            raise self.failure

    def place_shim(self, pid: int) -> None:
        self.log.append(f"place {pid}")

    def open(self, path: str) -> int:
        return os.open("/", os.O_RDONLY | os.O_CLOEXEC)

    async def kill(self, path: str) -> None:
        self.log.append("kill")

    async def remove(self, path: str) -> None:
        self.log.append("remove cgroup")


class Bench:
    """A runtime on fakes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, facts: Any = V2) -> None:
        self.log = Log()
        self.shim = FakeShim(self.log)
        self.network = FakeNetwork(self.log)
        self.cgroups = FakeCgroups(self.log)
        self.runtime = Runtime(
            facts,
            cast(Cgroups, self.cgroups),
            cast(Network, self.network),
            cast(Executables, object()),
        )

        def start(run_dir: str, label: str, executables: object, place: Any) -> FakeShim:
            self.log.append(f"start shim {label}")
            place(77)
            return self.shim

        async def end_shims(directory: str) -> None:
            self.log.append("end shims")

        monkeypatch.setattr(Shim, "start", start)
        monkeypatch.setattr(module, "end_shims", end_shims)
        monkeypatch.setattr(module, "_make_directory", lambda step: self.log.append("directory"))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A runtime on fakes."""
    return Bench(monkeypatch)


@pytest.fixture
def pair() -> tuple[int, int]:
    """Two fds, as a launch sends them up; who takes them closes them."""
    return os.open("/", os.O_RDONLY), os.open("/", os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# ---- doing --------------------------------------------------------------------------------------


async def test_a_sandbox_is_made_in_the_plans_order(bench: Bench, pair: tuple[int, int]) -> None:
    bench.shim.fds = pair
    told: list[object] = []
    steps = compile_sandbox(pod(), context(pod()), V2)
    shim, process = await bench.runtime.make_sandbox(steps, ORIGIN, told.append)
    assert cast(object, shim) is bench.shim and told == [bench.shim]
    assert process.key == "sandbox"
    without_admit = [line for line in bench.log if not line.startswith("admit")]
    assert without_admit == [
        *["directory"] * 5,
        "cgroup minipod",
        "cgroup besteffort",
        f"cgroup {context(pod()).cgroup.rsplit('/', 1)[1]}",
        "cgroup sandbox",
        "start shim default/web",
        "place 77",
        "launch sandbox",
        f"attach {LINK.host_ifname}",
    ]
    # The filter knows the pod before its port exists.
    assert bench.log.index(f"admit {LINK.address}") < len(bench.log) - 1
    assert not any(map(is_open, pair))
    assert len(bench.shim.sent) == 1 and not is_open(bench.shim.sent[0])


async def test_a_pod_on_the_hosts_network_is_admitted_nowhere(bench: Bench) -> None:
    one = pod(host_network=True)
    await bench.runtime.make_sandbox(
        compile_sandbox(one, context(one), V2), ORIGIN, lambda shim: None
    )
    assert not [line for line in bench.log if line.startswith(("admit", "attach"))]


async def test_a_filter_that_refuses_keeps_the_port_away(
    bench: Bench, pair: tuple[int, int]
) -> None:
    bench.shim.fds = pair
    bench.network.refuse = MinipodError("nft refused")
    steps = compile_sandbox(pod(), context(pod()), V2)
    with pytest.raises(MinipodError, match="nft refused"):
        await bench.runtime.make_sandbox(steps, ORIGIN, lambda shim: None)
    assert not [line for line in bench.log if line.startswith("attach")]
    assert not any(map(is_open, pair))


async def test_a_failed_launch_is_told_in_words(bench: Bench) -> None:
    bench.shim.failure = LaunchFailed(0, errno.EPERM, 0)
    told: list[object] = []
    steps = compile_sandbox(pod(), context(pod()), V2)
    with pytest.raises(StepFailed, match=r"pod default/web, sandbox: step 1 \(prctl") as error:
        await bench.runtime.make_sandbox(steps, ORIGIN, told.append)
    assert "doctor" in error.value.remedy
    assert told == [bench.shim]  # whoever takes it down knows of the shim
    assert not is_open(bench.shim.sent[0])


async def test_a_failed_host_step_is_told_in_words(bench: Bench) -> None:
    bench.cgroups.failure = OSError(errno.ENOSPC, "No space left on device", "/sys/fs/cgroup/x")
    steps = compile_sandbox(pod(), context(pod()), V2)
    with pytest.raises(StepFailed, match="ENOSPC: /sys/fs/cgroup/x No space"):
        await bench.runtime.make_sandbox(steps, ORIGIN, lambda shim: None)
    assert "start shim default/web" not in bench.log


async def test_a_container_is_started(bench: Bench) -> None:
    one = pod()
    steps = compile_container(one, one.spec.containers[0], context(one), run(2), V2)
    process = await bench.runtime.start_container(cast(Shim, bench.shim), steps, ORIGIN)
    assert process.key == "app/2"
    assert list(bench.log) == [*["directory"] * 3, "cgroup app.2", "launch app/2"]


async def test_a_shim_that_is_gone_fails_the_start(bench: Bench) -> None:
    bench.shim.failure = ConnectionResetError("the shim is gone")
    one = pod()
    steps = compile_container(one, one.spec.containers[0], context(one), run(), V2)
    with pytest.raises(StepFailed, match="launch app/0: the shim is gone"):
        await bench.runtime.start_container(cast(Shim, bench.shim), steps, ORIGIN)


async def test_fds_of_an_exec_come_before_the_cgroup(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = socket.socketpair()
    fds = [end.fileno() for end in ends] + [ends[0].fileno()]
    await bench.runtime.execute(cast(Shim, bench.shim), execution(pod()), fds, ORIGIN)
    assert bench.shim.sent[:3] == fds and len(bench.shim.sent) == 4
    assert is_open(fds[0])  # the caller's own
    other = Bench(monkeypatch, V1)
    await other.runtime.execute(cast(Shim, other.shim), execution(pod(), V1), fds, ORIGIN)
    assert other.shim.sent == fds
    for end in ends:
        end.close()


async def test_a_step_without_a_handler_is_a_mistake_of_ours(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="no handler for NewSession"):
        await bench.runtime.start_container(cast(Shim, bench.shim), [s.NewSession()], ORIGIN)


# ---- undoing ------------------------------------------------------------------------------------

POD_LINK = PodLink("uid", LINK.address, 16, LINK.gateway, LINK.host_ifname, LINK.mac)


async def test_the_order_of_taking_down(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "run" / "exits").mkdir(parents=True)
    await bench.runtime.remove_sandbox(
        str(tmp_path / "run"), "minipod/pod1", cast(Shim, bench.shim), POD_LINK
    )
    # Killed first: nothing can happen behind our back; the cgroup last but one: it must be empty.
    assert list(bench.log) == [
        "kill",
        "shutdown",
        "close",
        f"detach {LINK.address}",
        "remove cgroup",
    ]
    assert not (tmp_path / "run").exists()


async def test_taking_down_what_is_not_there(bench: Bench, tmp_path: Path) -> None:
    await bench.runtime.remove_sandbox(str(tmp_path / "none"), "minipod/pod1", None, None)
    assert list(bench.log) == ["kill", "end shims", "remove cgroup"]


async def test_a_shim_that_does_not_answer_is_killed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHUTDOWN_TIMEOUT", 0.0)
    bench.shim.held = True
    await bench.runtime.remove_sandbox(
        str(tmp_path / "none"), "minipod/pod1", cast(Shim, bench.shim), None
    )
    assert list(bench.log) == ["kill", "shutdown", "close", "end shims", "remove cgroup"]


async def test_remove_tree_never_follows(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "sub" / "-rf").write_text("x")
    (tree / "sub").chmod(0)
    await remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "kept").exists()
    await remove_tree(str(tree))  # nothing there, nothing wrong
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    await remove_tree(str(tmp_path / "dangling"))
    assert not os.path.lexists(tmp_path / "dangling")


# ---- host steps on a real directory -------------------------------------------------------------


def test_directories_get_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        step = s.MakeDirectory(path=str(tmp_path / "a" / "b"), mode=0o777)
        module._make_directory(step)
        module._make_directory(step)
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o7777 == 0o777
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o700


def test_host_paths_that_are_made(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        directory = s.MakeHostPath(path=str(tmp_path / "d" / "e"), directory=True)
        file = s.MakeHostPath(path=str(tmp_path / "d" / "f"), directory=False)
        for step in (directory, file, directory, file):
            module._make_host_path(step)
    finally:
        os.umask(before)
    assert (tmp_path / "d" / "e").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "d" / "f").stat().st_mode & 0o7777 == 0o644


def test_what_is_there_on_the_host_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "f").write_text("content")
    (tmp_path / "f").chmod(0o600)
    module._make_host_path(s.MakeHostPath(path=str(tmp_path / "d"), directory=True))
    module._make_host_path(s.MakeHostPath(path=str(tmp_path / "f"), directory=False))
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "f").read_text() == "content"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def test_a_file_whose_directory_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        module._make_host_path(s.MakeHostPath(path=str(tmp_path / "no" / "f"), directory=False))


def test_what_lies_at_a_host_path(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "l").symlink_to("f")
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
    assert host_path_type(str(tmp_path)) == "directory"
    assert host_path_type(str(tmp_path / "f")) == "file"
    assert host_path_type(str(tmp_path / "l")) == "file"
    assert host_path_type(str(tmp_path / "s")) == "socket"
    assert host_path_type("/dev/null") == "char"
    for nothing in ("none", "broken", "fifo", "f/x"):
        assert host_path_type(str(tmp_path / nothing)) == ""
