# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a pod: its worker on a runtime, a store and a clock that are played here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from minipod.api import AnyObject, Container, ObjectMeta, Pod, Secret, StoredObject
from minipod.api.objects import LocalObjectReference
from minipod.config import Config
from minipod.errors import MinipodError, NotFound, StepFailed
from minipod.images import Image, ImageConfig, ImageStore
from minipod.network import AddressPool, PodLink
from minipod.plan import steps as s
from minipod.pods import containers, credentials, names
from minipod.pods import worker as module
from minipod.pods.ports import Tools
from minipod.pods.record import ContainerRecord, PodRecord
from minipod.pods.storage import Storage
from minipod.pods.worker import PodWorker
from minipod.runtime.filters import Filter, Filters
from minipod.runtime.runtime import Origin, Runtime
from minipod.runtime.shim import Process, Shim
from tests.unit.test_plan_checker import V2, launch_of, pod

T0 = 1_800_000_000.0
KILLED, TERMINATED = 9, 15  # wait statuses
IMAGE = Image(
    reference="img",
    references=("img",),
    digest="sha256:d",
    id="sha256:i",
    config=ImageConfig(cmd=("/bin/app",), stop_signal="SIGUSR1"),
    layers=("/layer",),
    size=1,
    created="",
    architecture="amd64",
    os="linux",
)

# ---- the world ----------------------------------------------------------------------------------


class FakeShim:
    """A shim whose processes run until the test ends them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.closed = asyncio.Event()
        self.running: dict[str, Process] = {}
        self.on_exit: Callable[[Process], None] = lambda process: None
        self.on_started: Callable[[Process], None] = lambda process: None
        self.on_failed: Callable[[Process], None] = lambda process: None
        self.signals: list[tuple[str, int]] = []
        self.known: list[Process] = []

    def start(self, key: str) -> Process:
        process = Process(key, "running", 100 + len(self.running), 0, self.world.now, 0.0)
        self.running[key] = process
        return process

    def exits(self, key: str, status: int = 0) -> None:
        """Let a process end."""
        was = self.running.pop(key)
        self.on_exit(Process(key, "exited", was.pid, status, was.started, self.world.now))

    async def signal(self, key: str, number: int) -> bool:
        self.signals.append((key, number))
        return key in self.running

    async def forget(self, key: str) -> None:
        self.world.log.append(f"forget {key}")

    async def state(self) -> list[Process]:
        return self.known

    def close(self) -> None:
        self.closed.set()


class FakeCgroups:
    """Cgroups that only note."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.killed_for_memory = 0

    async def kill(self, path: str) -> None:
        self.world.log.append(f"kill {path.rsplit('/', 1)[1]}")

    async def remove(self, path: str) -> None:
        self.world.log.append(f"remove {path.rsplit('/', 1)[1]}")

    def oom_kills(self, path: str) -> int:
        return self.killed_for_memory


class FakeRuntime:
    """A runtime that takes as many turns of the loop as a real one, and fails when told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.facts = V2
        self.network = SimpleNamespace(host_ip=lambda: "192.0.2.1")
        self.cgroups = FakeCgroups(world)
        self.sandbox_failures: list[Exception] = []
        self.start_failures: dict[str, list[Exception]] = {}
        self.remove_failures: list[Exception] = []
        self.held: asyncio.Event | None = None
        self.making = 0

    async def make_sandbox(
        self, steps: Sequence[s.Step], origin: Origin, on_shim: Callable[[Shim], None]
    ) -> tuple[FakeShim, Process]:
        self.making += 1
        assert self.making == 1, "one sandbox at a time"
        self.world.log.append("make sandbox")
        shim = FakeShim(self.world)
        self.world.shims.append(shim)
        on_shim(cast(Shim, shim))
        for _ in range(3):
            await asyncio.sleep(0)
        if self.sandbox_failures:
            self.making -= 1
            raise self.sandbox_failures.pop(0)
        return shim, shim.start("sandbox")

    async def start_container(
        self, shim: FakeShim, steps: Sequence[s.Step], origin: Origin
    ) -> Process:
        key = launch_of(tuple(steps)).key
        self.world.log.append(f"start {key}")
        await asyncio.sleep(0)
        if self.held:
            await self.held.wait()
        if failures := self.start_failures.get(key.split("/")[0]):
            raise failures.pop(0)
        return shim.start(key)

    async def remove_sandbox(
        self, run_dir: str, cgroup: str, shim: FakeShim | None, link: PodLink | None
    ) -> None:
        self.world.log.append(f"remove sandbox {run_dir.rsplit('/', 1)[1]}")
        if shim:
            for key in list(shim.running):  # they are killed, and the shim tells
                shim.exits(key, KILLED)
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        if self.remove_failures:
            raise self.remove_failures.pop(0)
        if shim:
            shim.close()
        self.world.log.append("removed sandbox")
        self.making = 0


class FakeStore:
    """A store that keeps copies."""

    def __init__(self) -> None:
        self.saved: list[PodRecord] = []
        self.events: list[tuple[str, str, str]] = []
        self.fields: list[str] = []
        self.removed = False

    def save(self, of: Pod, record: PodRecord) -> None:
        self.saved.append(msgspec.convert(msgspec.to_builtins(record), PodRecord))

    def remove(self, of: Pod) -> None:
        self.removed = True

    def event(
        self, of: AnyObject, kind: str, reason: str, message: str, field_path: str = ""
    ) -> None:
        self.events.append((kind, reason, message))
        self.fields.append(field_path)


class FakeObjects:
    """Objects in a dict."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], StoredObject] = {}
        self.listeners: list[Callable[[str, str, str], None]] = []

    def get(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        return self.kept.get((kind, namespace, name))

    def all(self, kind: str) -> list[StoredObject]:
        return [found for key, found in self.kept.items() if key[0] == kind]

    def put(self, *objects: StoredObject) -> None:
        for each in objects:
            key = each.kind, each.metadata.namespace, each.metadata.name
            self.kept[key] = each
            for heard in list(self.listeners):
                heard(*key)

    def remove(self, kind: str, namespace: str, name: str) -> None:
        del self.kept[kind, namespace, name]
        for heard in list(self.listeners):
            heard(kind, namespace, name)

    def subscribe(self, heard: Callable[[str, str, str], None]) -> Callable[[], None]:
        self.listeners.append(heard)
        return lambda: self.listeners.remove(heard)


class FakePuller:
    """A registry with what a test puts into it; nothing at first."""

    def __init__(self, store: dict[str, Image]) -> None:
        self.has: dict[str, Image] = {}
        self.asked: list[tuple[str, list[Any]]] = []
        self._store = store

    async def pull(self, reference: str, auths: Sequence[Mapping[str, Any]] = ()) -> Image:
        self.asked.append((reference, list(auths)))
        if reference not in self.has:
            raise MinipodError("no way to the registry", "minipod image load FILE")
        self._store[reference] = self.has[reference]
        return self.has[reference]


class FakeImages(dict[str, Image]):
    """A store of images by what they are called."""

    def touch(self, image: Image) -> None:
        assert image in self.values()


class World:
    """All that a worker lives in."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = T0
        self.log: list[str] = []
        self.shims: list[FakeShim] = []
        self.runtime = FakeRuntime(self)
        self.store = FakeStore()
        self.objects = FakeObjects()
        self.images = FakeImages({"img": IMAGE})
        self.puller = FakePuller(self.images)
        self.config = Config(
            root_dir=str(top / "root"), run_dir=str(top / "run"), log_dir=str(top / "log")
        )
        self._database = sqlite3.connect(":memory:")
        self.pool = AddressPool(self._database, self.config.pod_cidr)
        self.tools = Tools(
            config=self.config,
            runtime=cast(Runtime, self.runtime),
            images=cast(ImageStore, self.images),
            puller=self.puller,
            pool=self.pool,
            store=self.store,
            objects=self.objects,
            storage=Storage(self.config, self.objects, self.store.event),
            cgroup_parent="minipod",
            notes=[],
            user_ids=cast(Any, SimpleNamespace(all=dict, release=lambda owner: None)),
            filters=cast(
                Filters, SimpleNamespace(of=lambda security: Filter(b"", "RuntimeDefault"))
            ),
            wall=lambda: self.now,
        )
        self.syncs = 0
        self._monkeypatch = monkeypatch
        self._tasks: list[asyncio.Task[None]] = []

        async def remove_tree(path: str) -> None:
            self.log.append(f"rm {Path(path).relative_to(top)}")

        identity = SimpleNamespace(uid=0, gid=0, groups=(0,), home="/root")
        for user in (module, containers):
            monkeypatch.setattr(user, "remove_tree", remove_tree)
        monkeypatch.setattr(names, "_read", lambda path: "nameserver 192.0.2.53\n")
        monkeypatch.setattr(credentials, "resolve_user", lambda image, user: identity)

    def worker(self, of: Pod | None = None, record: PodRecord | None = None) -> PodWorker:
        """Return a worker that does not run yet."""
        made = PodWorker(
            of or pod(Container(name="app", image="img")), record or PodRecord(), self.tools
        )
        sync = made._sync

        async def counted() -> None:
            self.syncs += 1
            await sync()

        self._monkeypatch.setattr(made, "_sync", counted)
        return made

    async def run(self, of: Pod | None = None, record: PodRecord | None = None) -> PodWorker:
        """Return a worker that runs, and has nothing left to do."""
        made = self.worker(of, record)
        self._tasks.append(asyncio.ensure_future(made.run()))
        await self.settle()
        return made

    async def settle(self) -> None:
        """Give everybody their turns; a worker that spins is noticed."""
        before = self.syncs
        for _ in range(150):
            await asyncio.sleep(0)
        assert self.syncs - before < 40, "the worker spins"

    async def advance(self, worker: PodWorker, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        worker.core.wake.set()
        await self.settle()

    @property
    def shim(self) -> FakeShim:
        """The newest shim."""
        return self.shims[-1]

    def reasons(self) -> list[str]:
        """The reasons of all events, in order."""
        return [reason for _, reason, _ in self.store.events]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._database.close()
        for result in results:
            if isinstance(result, Exception):
                raise result


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world; a worker that raised fails its test."""
    made = World(tmp_path, monkeypatch)
    yield made
    await made.close()


def one_container(**spec: Any) -> Pod:
    """Return a pod with the container ``app``."""
    return pod(Container(name="app", image="img"), **spec)


def of(worker: PodWorker, name: str = "app") -> ContainerRecord:
    """Return the record of a container."""
    return worker.record.container(name)


# ---- starting -----------------------------------------------------------------------------------


async def test_a_pod_comes_up(world: World) -> None:
    worker = await world.run()
    app = of(worker)
    assert (app.state, app.attempt, app.pid) == ("running", 0, 101)
    assert app.image_id == "sha256:i"
    assert worker.pod.status.phase == "Running"
    assert worker.pod.status.pod_ip == worker.record.address != ""
    assert world.reasons() == ["Pulled", "Created", "Started"]
    assert world.store.fields == ["spec.containers{app}"] * 3
    assert world.log == ["make sandbox", "start app/0"]


async def test_what_will_be_done_is_written_before(world: World) -> None:
    await world.run()
    seen = [(r.sandbox, r.sandbox_up, r.containers[0].state) for r in world.store.saved]
    assert (0, False, "waiting") in seen  # before the sandbox is made
    assert (0, True, "starting") in seen  # before the container is launched
    assert seen[-1] == (0, True, "running")
    assert len(seen) == len(world.store.saved)


async def test_nothing_new_is_not_written(world: World) -> None:
    worker = await world.run()
    count = len(world.store.saved)
    for _ in range(5):
        worker.publish()
    assert len(world.store.saved) == count


async def test_containers_start_side_by_side(world: World) -> None:
    world.runtime.held = asyncio.Event()
    both = pod(Container(name="a", image="img"), Container(name="b", image="img"))
    worker = await world.run(both)
    assert world.log == ["make sandbox", "start a/0", "start b/0"]
    assert worker.pod.status.phase == "Pending"
    world.runtime.held.set()
    await world.settle()
    assert worker.pod.status.phase == "Running"


async def test_the_start_is_measured_once(world: World) -> None:
    made = PodWorker(one_container(), PodRecord(), world.tools, asked=0.0)
    world._tasks.append(asyncio.ensure_future(made.run()))
    await world.settle()
    annotation = made.pod.metadata.annotations[module.START_ANNOTATION]
    assert float(annotation) > 0
    world.shim.exits("app/0")
    await world.settle()
    assert made.pod.metadata.annotations[module.START_ANNOTATION] == annotation


# ---- restarts: policy and exit code ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "status", "phase", "runs"),
    [
        ("Always", 0, "Running", 2),
        ("Always", 1 << 8, "Running", 2),
        ("Always", KILLED, "Running", 2),
        ("OnFailure", 0, "Succeeded", 1),
        ("OnFailure", 1 << 8, "Running", 2),
        ("OnFailure", KILLED, "Running", 2),
        ("Never", 0, "Succeeded", 1),
        ("Never", 3 << 8, "Failed", 1),
        ("Never", TERMINATED, "Failed", 1),
    ],
)
async def test_restart_policy(
    world: World, policy: str, status: int, phase: str, runs: int
) -> None:
    worker = await world.run(one_container(restart_policy=policy))
    world.shim.exits("app/0", status)
    await world.settle()
    assert worker.pod.status.phase == phase
    assert [line for line in world.log if line.startswith("start")] == [
        f"start app/{i}" for i in range(runs)
    ]
    ended = of(worker).ended
    assert ended and ended.container_id.endswith("/app/0")
    assert of(worker).state == ("running" if runs == 2 else "ended")


async def test_a_restart_leaves_nothing_of_the_last_run(world: World) -> None:
    worker = await world.run()
    world.log.clear()
    world.shim.exits("app/0", 0)
    await world.settle()
    assert world.log == [
        "forget app/0",
        f"rm root/pods/{worker.pod.metadata.uid}/containers/app/0",
        "kill app.0",
        "remove app.0",
        "start app/1",
    ]
    assert worker.record.sandbox == 0  # in the same sandbox, with the same address


async def test_one_container_restarts_and_the_other_runs_on(world: World) -> None:
    both = pod(Container(name="a", image="img"), Container(name="b", image="img"))
    worker = await world.run(both)
    world.shim.exits("a/0", 1 << 8)
    await world.settle()
    assert (of(worker, "a").attempt, of(worker, "b").attempt) == (1, 0)
    assert of(worker, "b").state == "running"


async def test_the_back_off_of_a_crashing_container(world: World) -> None:
    worker = await world.run()
    for attempt, wait in enumerate((0, 10, 20, 40, 80, 160, 300, 300)):
        world.now += 1
        world.shim.exits(f"app/{attempt}", 1 << 8)
        await world.settle()
        app = of(worker)
        if wait == 0:
            assert (app.attempt, app.state) == (1, "running")
            continue
        assert (app.state, app.reason) == ("waiting", "CrashLoopBackOff")
        assert app.message.startswith(f"back-off {wait}s restarting failed container=app")
        assert worker.pod.status.phase == "Running"
        assert world.store.events[-1][:2] == ("Warning", "BackOff")
        await world.advance(worker, wait - 0.5)
        assert of(worker).state == "waiting"
        await world.advance(worker, 0.5)
        assert (of(worker).state, of(worker).attempt) == ("running", attempt + 1)


async def test_ten_clean_minutes_reset_the_back_off(world: World) -> None:
    worker = await world.run()
    for attempt in range(2):
        world.shim.exits(f"app/{attempt}", 1 << 8)
        await world.settle()
    assert of(worker).reason == "CrashLoopBackOff"
    await world.advance(worker, 10)
    assert of(worker).attempt == 2
    world.now += 601
    world.shim.exits("app/2", 1 << 8)
    await world.settle()
    assert (of(worker).attempt, of(worker).state) == (3, "running")


async def test_an_exit_before_the_answer_to_its_launch(world: World) -> None:
    worker = await world.run(one_container(restart_policy="Never"))
    shim = world.shim
    ended = of(worker)
    ended.state, ended.attempt = "starting", 0
    shim.exits("app/0", 0)
    worker._containers.on_started(Process("app/0", "running", 1, 0, T0, 0))  # the answer comes late
    await world.settle()
    assert of(worker).state == "ended"
    assert worker.pod.status.phase == "Succeeded"


async def test_out_of_memory(world: World) -> None:
    worker = await world.run(one_container(restart_policy="Never"))
    world.runtime.cgroups.killed_for_memory = 1
    world.shim.exits("app/0", KILLED)
    await world.settle()
    terminated = worker.pod.status.container_statuses[0].state.terminated
    assert terminated
    assert (terminated.reason, terminated.exit_code, terminated.signal) == ("OOMKilled", 137, 9)


@pytest.mark.parametrize(("kills", "status"), [(0, KILLED), (1, 1 << 8), (1, TERMINATED)])
async def test_other_ends_are_errors(world: World, kills: int, status: int) -> None:
    worker = await world.run(one_container(restart_policy="Never"))
    world.runtime.cgroups.killed_for_memory = kills
    world.shim.exits("app/0", status)
    await world.settle()
    ended = of(worker).ended
    assert ended and ended.reason == "Error"


@pytest.mark.parametrize("spec", [{"share_process_namespace": True}, {"host_pid": True}])
async def test_in_a_shared_pid_namespace_the_rest_of_a_container_is_killed(
    world: World, spec: dict[str, Any]
) -> None:
    await world.run(one_container(restart_policy="Never", **spec))
    world.log.clear()
    world.shim.exits("app/0", 0)
    assert "kill app.0" not in world.log
    await world.settle()
    assert "kill app.0" in world.log


# ---- starts that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "phase"), [("Never", "Failed"), ("Always", "Running"), ("OnFailure", "Running")]
)
@pytest.mark.parametrize(
    "failure", [StepFailed("execve: ENOENT", "check"), ValueError("a bug")], ids=["told", "bug"]
)
async def test_a_start_that_fails(
    world: World, policy: str, phase: str, failure: Exception
) -> None:
    world.runtime.start_failures["app"] = [failure, failure]
    worker = await world.run(one_container(restart_policy=policy))
    app = of(worker)
    assert app.ended
    assert (app.ended.exit_code, app.ended.reason) == (128, "StartError")
    assert str(failure).split(":")[0] in app.ended.message
    assert "Failed" in world.reasons()
    assert worker.pod.status.phase == phase
    if policy != "Never":  # at once, then after 10 s
        assert (app.attempt, app.reason) == (1, "CrashLoopBackOff")
        await world.advance(worker, 10)
        assert of(worker).state == "running"


def shown(worker: PodWorker) -> str:
    """Return why the container waits, as the status says."""
    state = worker.pod.status.container_statuses[0].state
    return state.waiting.reason or "" if state.waiting else ""


async def test_an_image_that_is_not_there_and_never_pulled(world: World) -> None:
    del world.images["img"]
    worker = await world.run(pod(Container(name="app", image="img", image_pull_policy="Never")))
    assert (of(worker).state, of(worker).attempt, shown(worker)) == (
        "waiting",
        -1,
        "ErrImageNeverPull",
    )
    assert of(worker).message == 'Container image "img" is not present with pull policy of Never'
    assert worker.pod.status.phase == "Pending"
    world.images["img"] = IMAGE
    await world.advance(worker, 9.5)
    assert of(worker).state == "waiting"
    await world.advance(worker, 0.5)
    assert (of(worker).state, of(worker).attempt) == ("running", 0)


@pytest.mark.parametrize("policy", ["Always", "IfNotPresent"])
async def test_an_image_that_cannot_be_pulled(world: World, policy: str) -> None:
    """10 s, 20 s … 300 s between two pulls; the failure of one is shown before the wait for the next."""
    del world.images["img"]
    worker = await world.run(pod(Container(name="app", image="img", image_pull_policy=policy)))
    for wait in (10, 20, 40, 80, 160, 300, 300):
        assert shown(worker) == "ErrImagePull"
        assert "minipod image load" in of(worker).message
        await world.advance(worker, 1)
        assert shown(worker) == "ImagePullBackOff"
        assert of(worker).message == (
            'Back-off pulling image "img": ErrImagePull: no way to the registry (minipod image load FILE)'
        )
        for _ in range(0, wait - 10, 10):
            await world.advance(worker, 10)
            assert shown(worker) == "ImagePullBackOff"
        await world.advance(worker, 8.5)
        assert shown(worker) == "ImagePullBackOff"
        await world.advance(worker, 0.5)
    assert worker.pod.status.phase == "Pending"
    messages = [message for _, _, message in world.store.events]
    assert "Error: ErrImagePull" in messages and "Error: ImagePullBackOff" in messages


async def test_an_image_that_comes_is_used_at_once(world: World) -> None:
    del world.images["img"]
    worker = await world.run()
    world.images["img"] = IMAGE
    worker.image_came()
    await world.settle()
    assert (of(worker).state, of(worker).attempt, of(worker).pulls) == ("running", 0, 0)


async def test_an_image_that_vanishes_between_two_runs(world: World) -> None:
    worker = await world.run()
    del world.images["img"]
    world.shim.exits("app/0", 0)
    await world.settle()
    assert (of(worker).reason, of(worker).attempt) == ("ErrImagePull", 0)
    assert worker.pod.status.phase == "Running"


async def test_what_cannot_be_discarded_is_tried_again_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await world.run()

    async def refuse(path: str) -> None:
        raise OSError(5, "Input/output error", path)

    with monkeypatch.context() as patch:
        patch.setattr(containers, "remove_tree", refuse)
        world.shim.exits("app/0", 0)
        await world.settle()
        assert (of(worker).state, of(worker).attempt) == ("waiting", 0)
    await world.advance(worker, 10)
    assert (of(worker).state, of(worker).attempt) == ("running", 1)


# ---- the sandbox --------------------------------------------------------------------------------


async def test_a_sandbox_that_cannot_be_made_is_tried_again(world: World) -> None:
    world.runtime.sandbox_failures = [StepFailed(f"no {i}") for i in range(7)]
    worker = await world.run()
    for tries, wait in enumerate((10, 20, 40, 80, 160, 300, 300), 1):
        assert world.reasons().count("FailedCreatePodSandBox") == tries
        assert worker.record.address == "" and world.pool.all() == {}
        assert (worker.record.sandbox, worker.record.sandbox_up) == (tries - 1, False)
        assert world.log[-2:] == [f"remove sandbox {tries - 1}", "removed sandbox"]
        await world.advance(worker, wait - 0.5)
        assert world.log.count("make sandbox") == tries
        await world.advance(worker, 0.5)
        assert world.log.count("make sandbox") == tries + 1
    assert of(worker).state == "running"
    assert worker.record.sandbox_failures == 0


async def test_no_address_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(owner: str) -> str:
        raise MinipodError("the pod range is used up")

    monkeypatch.setattr(world.pool, "allocate", exhausted)
    worker = await world.run()
    assert world.reasons() == ["FailedSync"]
    await world.advance(worker, 9)
    assert world.reasons() == ["FailedSync"]
    await world.advance(worker, 1)
    assert world.reasons() == ["FailedSync"] * 2


@pytest.mark.parametrize(
    ("policy", "phase"), [("Always", "Running"), ("OnFailure", "Running"), ("Never", "Failed")]
)
@pytest.mark.parametrize("how", ["pause", "shim"])
async def test_a_lost_sandbox(world: World, policy: str, phase: str, how: str) -> None:
    worker = await world.run(one_container(restart_policy=policy))
    lost, address = world.shim, worker.record.address
    world.log.clear()
    if how == "pause":
        lost.exits("sandbox", KILLED)
    else:
        lost.running.clear()
        lost.close()
    await world.settle()
    assert world.reasons().count("SandboxChanged") == 1
    app = of(worker)
    assert app.ended and app.ended.exit_code == 137
    assert worker.pod.status.phase == phase
    # Down first, whole, then up: both bear the pod's name.
    assert world.log[:2] == ["remove sandbox 0", "removed sandbox"]
    if policy == "Never":
        assert world.log.count("make sandbox") == 0
        assert (worker.record.sandbox_up, world.pool.all()) == (False, {})
        return
    assert world.log.count("make sandbox") == 1
    assert worker.record.sandbox == 1
    assert (app.state, app.attempt) == ("running", 1)
    assert worker.record.address not in ("", address)  # a new IP, as in Kubernetes
    assert world.shim is not lost


async def test_a_lost_sandbox_that_cannot_be_made_again_does_not_spin(world: World) -> None:
    worker = await world.run()
    world.runtime.sandbox_failures = [StepFailed("no")]
    world.shim.exits("sandbox", KILLED)
    await world.settle()  # which notices a spinning worker
    assert of(worker).state == "waiting"
    before = world.syncs
    await world.settle()
    assert world.syncs == before
    await world.advance(worker, 10)
    assert of(worker).state == "running"


async def test_a_lost_sandbox_that_cannot_be_taken_down_is_tried_again(world: World) -> None:
    worker = await world.run()
    world.runtime.remove_failures = [MinipodError("nft refused")]
    world.shim.exits("sandbox", KILLED)
    await world.settle()
    assert "FailedSync" in world.reasons()
    assert world.log.count("make sandbox") == 1
    await world.advance(worker, 10)
    assert world.log.count("make sandbox") == 2
    assert of(worker).state == "running"


async def test_a_sandbox_lost_while_containers_start(world: World) -> None:
    world.runtime.held = asyncio.Event()
    worker = await world.run()
    assert of(worker).state == "starting"
    held, world.runtime.held = world.runtime.held, None
    world.shim.exits("sandbox", KILLED)
    await world.settle()
    held.set()
    await world.settle()
    assert (of(worker).state, of(worker).attempt) == ("running", 1)
    assert world.log.count("make sandbox") == 2


async def test_a_finished_pod_gives_everything_back_but_its_name(world: World) -> None:
    worker = await world.run(one_container(restart_policy="Never"))
    address = worker.record.address
    world.shim.exits("app/0", 0)
    await world.settle()
    assert world.log[-3:] == [
        "remove sandbox 0",
        "removed sandbox",
        f"rm root/pods/{worker.pod.metadata.uid}/containers",
    ]
    assert world.pool.all() == {}
    assert worker.pod.status.pod_ip == address
    assert not worker.gone.is_set() and not world.store.removed
    assert "SandboxChanged" not in world.reasons()
    before = world.syncs
    await world.settle()
    assert world.syncs == before


# ---- commands -----------------------------------------------------------------------------------


async def test_commands_need_a_running_container(world: World) -> None:
    worker = await world.run()
    record, run, context, shim = worker.running(None)
    assert (record.name, run.attempt, context.hostname) == ("app", 0, "web")
    assert cast(object, shim) is world.shim
    with pytest.raises(NotFound, match="has no container other") as error:
        worker.running("other")
    assert "app" in error.value.remedy
    world.runtime.held = asyncio.Event()
    world.shim.exits("app/0", 0)
    await world.settle()
    with pytest.raises(MinipodError, match="is not running"):
        worker.running("app")


async def test_the_end_of_a_command_is_its_own(world: World) -> None:
    worker = await world.run()
    number, end = worker.next_exec()
    other, _ = worker.next_exec()
    assert number != other
    world.shim.start(f"exec/{number}")
    world.shim.exits(f"exec/{number}", 5 << 8)
    assert (await end).status == 5 << 8
    assert of(worker).state == "running"
    _, cancelled = worker.next_exec()
    cancelled.cancel()
    world.shim.start(f"exec/{other + 1}")
    with contextlib.suppress(asyncio.InvalidStateError):
        world.shim.exits(f"exec/{other + 1}", 0)
    await world.settle()
    assert of(worker).state == "running"


async def test_an_image_is_pulled(world: World) -> None:
    del world.images["img"]
    world.puller.has["img"] = IMAGE
    worker = await world.run(pod(Container(name="app", image="img")))
    assert (of(worker).state, of(worker).pulls) == ("running", 0)
    assert world.store.events[0] == ("Normal", "Pulling", 'Pulling image "img"')
    assert world.store.events[1][1] == "Pulled"
    assert 'Successfully pulled image "img" in' in world.store.events[1][2]


@pytest.mark.parametrize(
    ("image", "policy", "asked"),
    [
        ("img", "Always", ["img"]),
        ("img", "IfNotPresent", []),
        ("img", "Never", []),
        ("localhost/img", "Always", []),
        ("localhost:5000/img", "Always", ["localhost:5000/img"]),
        ("sha256:" + "a" * 64, "Always", []),
    ],
)
async def test_whether_the_registry_is_asked(
    world: World, image: str, policy: str, asked: list[str]
) -> None:
    world.images[image] = world.puller.has[image] = IMAGE
    worker = await world.run(pod(Container(name="app", image=image, image_pull_policy=policy)))
    assert of(worker).state == "running"
    assert [reference for reference, _ in world.puller.asked] == asked


async def test_always_needs_the_registry(world: World) -> None:
    worker = await world.run(pod(Container(name="app", image="img", image_pull_policy="Always")))
    assert shown(worker) == "ErrImagePull"
    world.puller.has["img"] = IMAGE
    await world.advance(worker, 1)
    assert (shown(worker), len(world.puller.asked)) == ("ImagePullBackOff", 1)
    await world.advance(worker, 10)
    assert (of(worker).state, len(world.puller.asked)) == ("running", 2)


async def test_pull_secrets(world: World) -> None:
    """What they hold goes along, in their order; those that are not there are told, and done without."""

    def secret(name: str, kind: str, data: bytes) -> Secret:
        values = {kind: base64.b64encode(data).decode()}
        meta = ObjectMeta(name=name, namespace="default")
        return Secret(metadata=meta, type=f"kubernetes.io/{kind[1:]}", data=values)

    world.objects.put(secret("new", ".dockerconfigjson", b'{"auths": {"r.example": {}}}'))
    world.objects.put(secret("old", ".dockercfg", b'{"q.example": {}}'))
    world.objects.put(secret("odd", ".dockerconfigjson", b"[]"))
    world.puller.has["r.example/img"] = IMAGE
    spec = pod(Container(name="app", image="r.example/img"))
    names_ = ("absent", "old", "odd", "new")
    spec.spec.image_pull_secrets = [LocalObjectReference(name) for name in names_]
    worker = await world.run(spec)
    assert of(worker).state == "running"
    assert world.puller.asked == [
        ("r.example/img", [{"auths": {"q.example": {}}}, {"auths": {"r.example": {}}}])
    ]
    reason = "FailedToRetrieveImagePullSecret"
    (words,) = (message for _, why, message in world.store.events if why == reason)
    assert "image pull secrets (absent);" in words


async def test_a_name_that_is_none(world: World) -> None:
    worker = await world.run(pod(Container(name="app", image="Not/A/Name")))
    assert shown(worker) == "InvalidImageName"
    assert "InspectFailed" in world.reasons()
    assert world.puller.asked == []
