# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims and volumes: which go together, what is made for a claim, and when what goes."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from minipod.api import (
    LabelSelector,
    LocalVolumeSource,
    ObjectMeta,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeSpec,
    Pod,
    PodSpec,
    StoredObject,
    Volume,
    VolumeResourceRequirements,
)
from minipod.api.objects import (
    EphemeralVolumeSource,
    LabelSelectorRequirement,
    PersistentVolumeClaimTemplate,
    PersistentVolumeClaimVolumeSource,
)
from minipod.api.storagerules import complete_claim, complete_volume
from minipod.config import Config
from minipod.pods import claims
from minipod.pods.binding import best, mismatch, selects
from minipod.pods.claims import MountFailed, place, unmet
from minipod.pods.core import PodCore
from minipod.pods.storage import Storage
from minipod.runtime import loop
from tests.unit.test_pods_worker import FakeObjects


def claim(name: str = "c", size: str = "1Gi", *modes: str, **spec: Any) -> PersistentVolumeClaim:
    found = PersistentVolumeClaim(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"),
        spec=PersistentVolumeClaimSpec(
            access_modes=list(modes) or ["ReadWriteOnce"],
            resources=VolumeResourceRequirements(requests={"storage": size}),
            **spec,
        ),
    )
    complete_claim(found)
    return found


def volume(
    name: str = "v",
    size: str = "1Gi",
    *modes: str,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> PersistentVolume:
    found = PersistentVolume(
        metadata=ObjectMeta(name=name, labels=labels or {}),
        spec=PersistentVolumeSpec(
            access_modes=list(modes) or ["ReadWriteOnce"],
            capacity={"storage": size},
            **{"local": LocalVolumeSource("/srv"), **spec},
        ),
    )
    complete_volume(found)
    return found


def pod(name: str, *sources: Volume, phase: str = "Pending", started: bool = False) -> PodCore:
    """Return what is known of a pod with these volumes."""
    made = Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"),
        spec=PodSpec(volumes=list(sources)),
    )
    made.status.phase = phase
    record = SimpleNamespace(sandbox=0 if started else -1, waits_for="")
    core = SimpleNamespace(pod=made, record=record, uid=made.metadata.uid, wake=asyncio.Event())
    return cast(PodCore, core)


def uses(name: str, *, read_only: bool = False) -> Volume:
    source = PersistentVolumeClaimVolumeSource(name, read_only)
    return Volume("data", persistent_volume_claim=source)


class Objects(FakeObjects):
    """Objects that get a uid, as those of the agent do."""

    def put(self, *objects: StoredObject) -> None:
        for each in objects:
            each.metadata.uid = each.metadata.uid or f"uid-{each.metadata.name}"
        super().put(*objects)


class World:
    """A storage on objects in memory and a directory."""

    def __init__(self, top: Path) -> None:
        self.objects = Objects()
        self.events: list[str] = []
        self.cores: list[PodCore] = []
        self.root = top / "root"
        self.root.mkdir()
        self.storage = Storage(Config(root_dir=str(self.root)), self.objects, self._tell)

    def _tell(self, about: object, kind: str, reason: str, message: str) -> None:
        self.events.append(f"{reason}: {message}")

    def run(self, work: Coroutine[Any, Any, None] | None = None) -> None:
        """Do all there is to do, and *work*."""

        async def main() -> None:
            self.storage.attend(lambda: self.cores)
            if work:
                await work
            for _ in range(20):
                await asyncio.sleep(0)
            while self.storage._removals:
                await asyncio.sleep(0.01)

        asyncio.run(main())

    def claim(self, name: str = "c") -> PersistentVolumeClaim:
        found = self.storage.claim("default", name)
        assert found is not None
        return found

    def volume(self, name: str = "v") -> PersistentVolume:
        found = self.storage.volume(name)
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ---- which volume fits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "wants", "why"),
    [
        (volume(), claim(), ""),
        (volume("v", "2Gi"), claim(), ""),
        (volume("v", "1Gi"), claim("c", "1073741825"), "requested PV is too small"),
        (volume(storage_class_name="a"), claim(), "storageClassName does not match"),
        (volume(storage_class_name="a"), claim(storage_class_name="a"), ""),
        (volume(), claim(storage_class_name=""), ""),
        (volume(volume_mode="Block"), claim(), "incompatible volumeMode"),
        (volume(), claim("c", "1Gi", "ReadWriteMany"), "incompatible accessMode"),
        (
            volume("v", "1Gi", "ReadOnlyMany", "ReadWriteMany"),
            claim("c", "1Gi", "ReadWriteMany"),
            "",
        ),
    ],
)
def test_what_fits(has: PersistentVolume, wants: PersistentVolumeClaim, why: str) -> None:
    assert mismatch(has, wants) == why


def test_the_smallest_that_fits_is_taken() -> None:
    volumes = [volume("big", "5Gi"), volume("small", "2Gi"), volume("tiny", "1Mi")]
    assert best(claim(), volumes) is volumes[1]
    assert best(claim("c", "9Gi"), volumes) is None
    kept = volume("kept", "8Gi", claim_ref=ObjectReference(namespace="default", name="c"))
    assert best(claim(), [*volumes, kept]) is kept
    assert best(claim("other"), [*volumes, kept]) is volumes[1]
    volumes[1].metadata.deletion_timestamp = "now"
    assert best(claim(), volumes) is volumes[0]
    volumes[0].status.phase = "Released"
    assert best(claim(), volumes) is None


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, True),
        (LabelSelector(), True),
        (LabelSelector({"a": "1"}), True),
        (LabelSelector({"a": "2"}), False),
        (LabelSelector({"b": "1"}), False),
        (LabelSelector({}, [LabelSelectorRequirement("a", "In", ["1", "2"])]), True),
        (LabelSelector({}, [LabelSelectorRequirement("a", "NotIn", ["1"])]), False),
        (LabelSelector({}, [LabelSelectorRequirement("b", "NotIn", ["1"])]), True),
        (LabelSelector({}, [LabelSelectorRequirement("a", "Exists")]), True),
        (LabelSelector({}, [LabelSelectorRequirement("a", "DoesNotExist")]), False),
    ],
)
def test_selectors(selector: LabelSelector | None, expected: bool) -> None:
    assert selects(selector, {"a": "1"}) is expected


# ---- bound, made, kept ----------------------------------------------------------------------------------------


def test_a_claim_gets_a_directory(world: World) -> None:
    world.objects.put(claim(storage_class_name="fast"))
    world.run()
    bound = world.claim()
    assert (bound.status.phase, bound.status.capacity) == ("Bound", {"storage": "1Gi"})
    made = world.volume(bound.spec.volume_name)
    assert made.metadata.name == "pvc-uid-c"
    assert (made.status.phase, made.spec.storage_class_name) == ("Bound", "fast")
    assert made.spec.persistent_volume_reclaim_policy == "Delete"
    place_ = world.root / "volumes" / "pvc-uid-c"
    assert stat.S_IMODE(place_.stat().st_mode) == 0o777
    assert stat.S_IMODE(place_.parent.stat().st_mode) == 0o700
    assert world.events == ["ProvisioningSucceeded: Successfully provisioned volume pvc-uid-c"]


def test_a_claim_takes_what_is_there(world: World) -> None:
    world.objects.put(volume("v", "2Gi"), claim())
    world.run()
    assert world.claim().spec.volume_name == "v"
    assert world.claim().status.capacity == {"storage": "2Gi"}
    reference = world.volume().spec.claim_ref
    assert reference is not None
    assert (reference.name, reference.uid) == ("c", "uid-c")
    assert not (world.root / "volumes").exists()


@pytest.mark.parametrize(
    ("wants", "words"),
    [
        (claim(storage_class_name=""), "FailedBinding: no persistent volumes available"),
        (
            claim(selector=LabelSelector({"no": "such"})),
            "FailedBinding: no persistent volume that is there has the labels",
        ),
        (claim(volume_name="none"), 'FailedBinding: volume "none" not found'),
        (
            claim(volume_name="taken"),
            'FailedBinding: volume "taken" already bound to a different claim.',
        ),
        (
            claim("c", "9Gi", volume_name="kept"),
            'VolumeMismatch: Cannot bind to requested volume "kept": requested PV is too small',
        ),
    ],
)
def test_claims_that_wait(world: World, wants: PersistentVolumeClaim, words: str) -> None:
    taken = volume("taken", claim_ref=ObjectReference(namespace="default", name="other", uid="u"))
    kept = volume("kept", claim_ref=ObjectReference(namespace="default", name="c"))
    world.objects.put(taken, kept, claim("other"))
    world.objects.kept["PersistentVolumeClaim", "default", "other"].metadata.uid = "u"
    world.objects.put(wants)
    if wants.spec.volume_name != "kept":
        world.objects.remove("PersistentVolume", "", "kept")
    world.run()
    assert world.claim().status.phase == "Pending"
    assert any(event.startswith(words) for event in world.events), world.events


def test_a_claim_in_use_stays(world: World) -> None:
    world.objects.put(claim())
    world.cores = [pod("p", uses("c"), phase="Running", started=True)]

    async def work() -> None:
        world.storage.delete(world.claim())
        assert world.claim().metadata.deletion_timestamp
        assert world.claim().metadata.finalizers == ["kubernetes.io/pvc-protection"]
        assert (world.root / "volumes" / "pvc-uid-c").exists()
        other = pod("q", uses("c"))
        world.cores.append(other)  # one that only waits keeps nothing
        assert unmet(world.storage, other.pod) == 'persistentvolumeclaim "c" is being deleted'
        world.cores[0].pod.status.phase = "Succeeded"
        world.storage.look_again()

    world.run(work())
    assert world.objects.kept == {}
    assert not (world.root / "volumes" / "pvc-uid-c").exists()


@pytest.mark.parametrize(("policy", "phase"), [("Retain", "Released"), ("Delete", "Failed")])
def test_a_volume_that_is_not_ours_is_not_emptied(
    world: World, tmp_path: Path, policy: str, phase: str
) -> None:
    (tmp_path / "data").mkdir()
    source = LocalVolumeSource(str(tmp_path / "data"))
    world.objects.put(volume(local=source, persistent_volume_reclaim_policy=policy), claim())

    async def work() -> None:
        world.storage.delete(world.claim())

    world.run(work())
    assert world.storage.claim("default", "c") is None
    assert world.volume().status.phase == phase
    # Another claim of the same name does not get it.
    again = claim(storage_class_name="")
    again.metadata.uid = "uid-again"
    world.objects.listeners.clear()
    world.objects.put(again)
    world.run()
    assert world.claim().status.phase == "Pending"
    assert (tmp_path / "data").exists()


def test_a_bound_volume_stays_until_its_claim_is_gone(world: World) -> None:
    world.objects.put(volume(), claim())

    async def work() -> None:
        world.storage.delete(world.volume())
        assert world.volume().metadata.deletion_timestamp
        world.storage.delete(world.claim())

    world.run(work())
    assert world.objects.kept == {}


def test_a_directory_that_is_to_be_kept(world: World) -> None:
    world.objects.put(claim())

    async def work() -> None:
        world.volume("pvc-uid-c").spec.persistent_volume_reclaim_policy = "Retain"
        (world.root / "volumes" / "pvc-uid-c" / "file").write_text("x")
        world.storage.delete(world.claim())
        world.storage.sync()
        assert world.volume("pvc-uid-c").status.phase == "Released"
        world.storage.delete(world.volume("pvc-uid-c"))

    world.run(work())
    assert world.objects.kept == {}
    assert (world.root / "volumes" / "pvc-uid-c" / "file").exists()


def test_a_claim_grows(world: World) -> None:
    world.objects.put(claim())

    async def work() -> None:
        world.claim().spec.resources.requests["storage"] = "3Gi"
        world.storage.sync()

    world.run(work())
    assert world.claim().status.capacity == {"storage": "3Gi"}
    assert world.volume("pvc-uid-c").spec.capacity == {"storage": "3Gi"}


def test_a_claim_that_grows_keeps_what_the_pods_made_of_its_directory(world: World) -> None:
    world.objects.put(claim())

    async def work() -> None:
        (world.root / "volumes" / "pvc-uid-c").chmod(0o2700)
        world.claim().spec.resources.requests["storage"] = "3Gi"
        world.storage.sync()

    world.run(work())
    assert world.volume("pvc-uid-c").spec.capacity == {"storage": "3Gi"}
    assert stat.S_IMODE((world.root / "volumes" / "pvc-uid-c").stat().st_mode) == 0o2700


def test_a_claim_that_is_too_large_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truncate(fd: int, size: int) -> None:
        if size > 1 << 40:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        os.ftruncate(fd, size)

    monkeypatch.setattr(os, "truncate", truncate)
    monkeypatch.setattr(loop, "find", lambda path: "")  # this machine may have no loop devices
    world.objects.put(
        claim("first", "7Ei", volume_mode="Block"), claim("grows", volume_mode="Block")
    )

    async def work() -> None:
        world.claim("grows").spec.resources.requests["storage"] = "7Ei"
        world.objects.put(claim("last"))
        world.storage.sync()

    world.run(work())
    assert world.claim("first").status.phase == "Pending"
    assert world.claim("grows").status.capacity == {"storage": "1Gi"}
    assert world.claim("last").status.phase == "Bound"
    words = {event.partition(":")[0] for event in world.events}
    assert words >= {"ProvisioningFailed", "VolumeResizeFailed"}


def test_a_claim_whose_volume_is_gone_is_lost(world: World) -> None:
    world.objects.put(volume(), claim())

    async def work() -> None:
        world.objects.remove("PersistentVolume", "", "v")
        world.storage.sync()

    world.run(work())
    assert world.claim().status.phase == "Lost"
    words = unmet(world.storage, pod("p", uses("c")).pod)
    assert words == 'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"'


def test_only_empty_directories_of_nobody_are_removed(world: World) -> None:
    for name in ("empty", "full"):
        (world.root / "volumes" / name).mkdir(parents=True)
    (world.root / "volumes" / "full" / "data").write_text("precious")
    world.run()
    assert [x.name for x in (world.root / "volumes").iterdir()] == ["full"]


# ---- pods -----------------------------------------------------------------------------------------------------


def test_a_pod_waits_for_its_claim(world: World) -> None:
    waiting = pod("p", uses("c"))
    waiting.record.waits_for = "something"
    world.cores = [waiting]
    assert unmet(world.storage, waiting.pod) == 'persistentvolumeclaim "c" not found'
    world.objects.put(claim())
    words = "pod has unbound immediate PersistentVolumeClaims"
    assert unmet(world.storage, waiting.pod) == words
    world.run()
    assert unmet(world.storage, waiting.pod) == ""
    assert waiting.wake.is_set()


def test_one_pod_only(world: World) -> None:
    first, second = (pod(name, uses("c")) for name in "ab")
    world.cores = [first, second]
    world.objects.put(claim("c", "1Gi", "ReadWriteOncePod"))
    world.run()
    assert unmet(world.storage, first.pod) == ""
    first.record.sandbox = 0
    assert "ReadWriteOncePod access mode" in unmet(world.storage, second.pod)
    assert unmet(world.storage, first.pod) == "", "it may restart"
    first.pod.status.phase = "Failed"
    assert unmet(world.storage, second.pod) == ""


def test_an_ephemeral_claim_goes_with_its_pod(world: World) -> None:
    template = PersistentVolumeClaimTemplate(spec=claim().spec)
    template.metadata.labels["a"] = "b"
    source = Volume("scratch", ephemeral=EphemeralVolumeSource(template))
    mine, other = pod("p", source), pod("p-scratch", source)
    world.cores = [mine, other]

    async def work() -> None:
        assert unmet(world.storage, mine.pod) == ""
        made = world.claim("p-scratch")
        assert made.metadata.labels == {"a": "b"}
        assert [x.uid for x in made.metadata.owner_references] == ["uid-p"]
        stranger = pod("p", source)
        stranger.pod.metadata.uid = "another"
        assert "(pod is not owner)" in unmet(world.storage, stranger.pod)
        mine.pod.status.phase = "Succeeded"
        world.storage.sync()
        assert world.claim("p-scratch"), "it goes with the pod, not with its end"
        world.cores.remove(mine)
        world.storage.look_again()

    world.run(work())
    assert world.objects.kept == {}


def test_where_claims_are(world: World, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    world.objects.put(
        volume("v", local=LocalVolumeSource(str(tmp_path / "data")), storage_class_name="mine"),
        claim(storage_class_name="mine"),
        claim("d"),
    )
    world.run()
    one = pod("p", uses("c", read_only=True)).pod
    found = place(world.storage, one).places["data"]
    assert (found.path, found.recursive, found.read_only) == (str(tmp_path / "data"), True, True)
    ours = place(world.storage, pod("p", uses("d")).pod).places["data"]
    assert (ours.path, ours.recursive) == (f"{world.root}/volumes/pvc-uid-d", False)
    (tmp_path / "data").rmdir()
    with pytest.raises(MountFailed, match="does not exist or is no directory"):
        place(world.storage, one)


@pytest.mark.parametrize("read_only", [False, True])
def test_where_network_volumes_are(world: World, read_only: bool) -> None:
    from minipod.api import NFSVolumeSource

    source = NFSVolumeSource("server", "/x", read_only=read_only)
    one = pod("p", Volume("v", nfs=source)).pod
    assert claims.nfs_of(world.storage, one) == {"v": (source, ())}
    found = place(world.storage, one).places["v"]
    assert (found.path, found.in_sandbox, found.read_only) == ("/volumes/v", True, read_only)
    shared = volume("n", local=None, nfs=source, mount_options=["soft"], storage_class_name="mine")
    world.objects.put(shared, claim(storage_class_name="mine"))
    world.run()
    two = pod("p", uses("c")).pod
    assert claims.nfs_of(world.storage, two) == {"data": (source, ("soft",))}
    assert place(world.storage, two).places["data"].read_only is read_only


def test_a_server_that_does_not_answer(world: World) -> None:
    from minipod.api import NFSVolumeSource

    one = pod("p", Volume("v", nfs=NFSVolumeSource("127.0.0.1", "/x")))
    with pytest.raises(MountFailed, match=r"NFS server 127.0.0.1: .*[Cc]onnect"):
        asyncio.run(claims.connect_nfs(world.storage, one.pod))


def test_a_block_device_is_for_volume_devices(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minipod.api import Container, VolumeMount

    monkeypatch.setattr(loop, "detach", lambda path: None)
    world.objects.put(claim(volume_mode="Block"))
    world.run()
    file = world.root / "volumes" / "pvc-uid-c" / "disk"
    assert file.stat().st_size == 1 << 30
    assert file.stat().st_blocks == 0
    one = pod("p", uses("c")).pod
    one.spec.containers = [Container(name="a", volume_mounts=[VolumeMount("data", "/d")])]
    with pytest.raises(MountFailed, match="has volumeMode Block, but is specified in volumeMounts"):
        place(world.storage, one)
