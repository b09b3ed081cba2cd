# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims and volumes: bound to each other, made, kept while they are used, and removed; what Kubernetes' binder does.

Level-driven: :meth:`Storage.sync` looks at all claims, volumes and pods and does what is to be done. It runs after
every change of one of them and when the agent comes back, and needs no memory of its own. A claim that no volume fits
gets a directory below ``<root_dir>/volumes``, which is a PersistentVolume like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from minipod.api import (
    ObjectMeta,
    ObjectReference,
    OwnerReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimStatus,
    PersistentVolumeSpec,
    PersistentVolumeStatus,
    Pod,
    StoredObject,
)
from minipod.api.objects import LocalVolumeSource
from minipod.api.storagerules import (
    PROVISIONED_BY,
    PROVISIONER,
    STORAGE_PROVISIONER,
    complete_claim,
    complete_volume,
)
from minipod.config import Config
from minipod.pods.binding import best, class_of, is_for, mismatch, requested, size_of
from minipod.pods.order import TERMINAL
from minipod.pods.ports import Objects
from minipod.pods.times import timestamp
from minipod.runtime import loop
from minipod.runtime.runtime import remove_tree

if TYPE_CHECKING:
    from minipod.pods.core import PodCore

log = logging.getLogger(__name__)

CLAIM, VOLUME = "PersistentVolumeClaim", "PersistentVolume"
BLOCK_FILE = "disk"
"""The file of a volume of mode Block, below its directory."""

_BOUND = {
    "pv.kubernetes.io/bind-completed": "yes",
    "pv.kubernetes.io/bound-by-controller": "yes",
}

Tell = Callable[[StoredObject, str, str, str], None]
"""Tells an event about an object: its type, reason and message."""


def claims_of(pod: Pod) -> dict[str, str]:
    """Return the names of the claims that a pod uses, by volume."""
    result = {}
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            result[volume.name] = volume.persistent_volume_claim.claim_name
        elif volume.ephemeral is not None:
            result[volume.name] = f"{pod.metadata.name}-{volume.name}"
    return result


class MadeVolume(NamedTuple):
    """A volume that was made for a claim.

    Attributes:
        name: of the PersistentVolume.
        path: its directory.
        claim: ``namespace/name`` of the claim that it is bound to; "" when that is gone.
        used: whether a pod uses it.
    """

    name: str
    path: str
    claim: str
    used: bool


class Storage:
    """All claims and volumes of one agent."""

    def __init__(self, config: Config, objects: Objects, tell: Tell) -> None:
        self._config = config
        self._objects = objects
        self._tell = tell
        self._cores: Callable[[], Iterable[PodCore]] = tuple
        self._removals: dict[str, asyncio.Task[None]] = {}
        self._due = False

    def attend(self, cores: Callable[[], Iterable[PodCore]]) -> None:
        """Begin: *cores* returns all pods there are, and every change of an object is heard from now on."""
        self._cores = cores
        self._objects.subscribe(self._heard)
        self._remove_leftovers()
        self.sync()

    # ---- looking ----

    @property
    def top(self) -> str:
        """Return the directory of all volumes that are made for claims."""
        return f"{self._config.root_dir}/volumes"

    def directory(self, volume: PersistentVolume) -> str:
        """Return where a volume lies that was made for a claim."""
        return f"{self.top}/{volume.metadata.name}"

    def is_ours(self, volume: PersistentVolume) -> bool:
        """Whether minipod made a volume for a claim; only of such it ever removes what is in them."""
        source = volume.spec.local
        return (
            volume.metadata.annotations.get(PROVISIONED_BY) == PROVISIONER
            and source is not None
            and (source.path == self.directory(volume))
        )

    def claim(self, namespace: str, name: str) -> PersistentVolumeClaim | None:
        """Return a claim, or None."""
        found = self._objects.get(CLAIM, namespace, name)
        return found if isinstance(found, PersistentVolumeClaim) else None

    def volume(self, name: str) -> PersistentVolume | None:
        """Return a volume, or None."""
        found = self._objects.get(VOLUME, "", name)
        return found if isinstance(found, PersistentVolume) else None

    def _claims(self) -> list[PersistentVolumeClaim]:
        return [x for x in self._objects.all(CLAIM) if isinstance(x, PersistentVolumeClaim)]

    def _volumes(self) -> list[PersistentVolume]:
        return [x for x in self._objects.all(VOLUME) if isinstance(x, PersistentVolume)]

    def made(self) -> list[MadeVolume]:
        """Return the volumes that were made for claims."""
        found = []
        for volume in filter(self.is_ours, self._volumes()):
            ref = volume.spec.claim_ref
            claim = self.claim(ref.namespace, ref.name) if ref else None
            bound = claim if claim and claim.spec.volume_name == volume.metadata.name else None
            name = f"{bound.metadata.namespace}/{bound.metadata.name}" if bound else ""
            used = bound is not None and self.is_used(bound)
            found.append(MadeVolume(volume.metadata.name, self.directory(volume), name, used))
        return found

    def _users(self, claim: PersistentVolumeClaim) -> list[PodCore]:
        """Return the pods that use a claim: that were started, and have not ended."""
        meta = claim.metadata
        return [
            core
            for core in self._cores()
            if core.pod.metadata.namespace == meta.namespace
            and core.record.sandbox >= 0
            and core.pod.status.phase not in TERMINAL
            and meta.name in claims_of(core.pod).values()
        ]

    def is_used(self, claim: PersistentVolumeClaim) -> bool:
        """Whether a pod uses a claim; one that still waits does not (Kubernetes: one that is not scheduled)."""
        return bool(self._users(claim))

    def is_taken(self, claim: PersistentVolumeClaim, pod: Pod) -> bool:
        """Whether another pod than *pod* has been started with a claim, and not ended."""
        return any(core.uid != pod.metadata.uid for core in self._users(claim))

    # ---- changes from outside ----

    def _heard(self, kind: str, namespace: str, name: str) -> None:
        if kind in (CLAIM, VOLUME):
            self.look_again()

    def look_again(self) -> None:
        """Have :meth:`sync` run soon: a pod has ended, say."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._due = False
        try:
            self.sync()
            for core in self._cores():
                if core.record.waits_for:
                    core.wake.set()
        except (
            Exception
        ):  # a full disk, say: nobody waits for this, and the next change tries again
            log.exception("claims and volumes could not be brought up to date")

    def delete(self, found: StoredObject) -> None:
        """Begin to delete a claim or a volume: it goes when nobody uses it any more."""
        if found.metadata.deletion_timestamp is None:
            new = copy.deepcopy(found)
            new.metadata.deletion_timestamp = timestamp(time.time())
            self._objects.put(new)
        self.sync()

    def make_ephemeral(self, pod: Pod) -> None:
        """Make the claims of a pod's ephemeral volumes that are not there yet."""
        for volume in pod.spec.volumes:
            if volume.ephemeral is None or volume.ephemeral.volume_claim_template is None:
                continue
            template, meta = volume.ephemeral.volume_claim_template, pod.metadata
            name = f"{meta.name}-{volume.name}"
            if self.claim(meta.namespace, name) is not None:
                continue
            claim = PersistentVolumeClaim(
                metadata=ObjectMeta(
                    name=name,
                    namespace=meta.namespace,
                    labels=dict(template.metadata.labels),
                    annotations=dict(template.metadata.annotations),
                    owner_references=[
                        OwnerReference(
                            kind="Pod",
                            name=meta.name,
                            uid=meta.uid,
                            controller=True,
                            block_owner_deletion=True,
                        )
                    ],
                ),
                spec=copy.deepcopy(template.spec),
            )
            complete_claim(claim)
            self._objects.put(claim)
            self.sync()

    # ---- what is to be done ----

    def sync(self) -> None:
        """Do all that is to be done now."""
        self._collect_ephemeral()
        for claim in self._claims():
            if claim.metadata.deletion_timestamp and not self.is_used(claim):
                self._objects.remove(CLAIM, claim.metadata.namespace, claim.metadata.name)
        for volume in self._volumes():
            self._sync_volume(volume)
            self._give_back_device(volume)
        for claim in self._claims():
            if claim.status.phase == "Pending" and not claim.metadata.deletion_timestamp:
                self._bind(claim)
            elif claim.status.phase == "Bound":
                self._sync_bound(claim)

    def _collect_ephemeral(self) -> None:
        """Delete the claims whose pod is gone."""
        living = {core.uid for core in self._cores()}
        for claim in self._claims():
            owners = [x.uid for x in claim.metadata.owner_references if x.kind == "Pod"]
            if owners and not living & set(owners) and not claim.metadata.deletion_timestamp:
                new = copy.deepcopy(claim)
                new.metadata.deletion_timestamp = timestamp(time.time())
                self._objects.put(new)

    # ---- volumes ----

    def _sync_volume(self, volume: PersistentVolume) -> None:
        reference = volume.spec.claim_ref
        if reference is None or not reference.uid:
            if volume.metadata.deletion_timestamp:
                self._remove(volume)
            return
        claim = self.claim(reference.namespace, reference.name)
        if claim is not None and claim.metadata.uid == reference.uid:
            return
        if volume.metadata.deletion_timestamp and not self.is_ours(volume):
            self._remove(volume)
        elif volume.spec.persistent_volume_reclaim_policy == "Retain":
            if volume.metadata.deletion_timestamp:
                self._objects.remove(VOLUME, "", volume.metadata.name)
            else:
                self._set_phase(volume, "Released")
        elif self.is_ours(volume):
            self._remove(volume)
        else:
            words = "no deletable volume plugin matched: minipod removes only what it made itself"
            self._set_phase(volume, "Failed", words)

    def _give_back_device(self, volume: PersistentVolume) -> None:
        """A volume's loop device is needed only while a pod uses it."""
        if volume.spec.volume_mode != "Block" or not self.is_ours(volume):
            return
        reference = volume.spec.claim_ref
        claim = self.claim(reference.namespace, reference.name) if reference else None
        if claim is None or not self.is_used(claim):
            loop.detach(f"{self.directory(volume)}/{BLOCK_FILE}")

    def _set_phase(self, volume: PersistentVolume, phase: str, message: str = "") -> None:
        status = PersistentVolumeStatus(phase=phase, message=message or None)
        if volume.status != status:
            new = copy.deepcopy(volume)
            new.status = status
            self._objects.put(new)
            if phase == "Failed":
                self._tell(new, "Warning", "VolumeFailedDelete", message)

    def _remove(self, volume: PersistentVolume) -> None:
        """Forget a volume, and remove what minipod made for it, unless that is to be kept."""
        name = volume.metadata.name
        keep = volume.spec.persistent_volume_reclaim_policy == "Retain"
        if keep or not self.is_ours(volume):
            self._objects.remove(VOLUME, "", name)
        elif name not in self._removals:
            self._set_phase(volume, "Released")
            self._removals[name] = asyncio.ensure_future(self._remove_directory(volume))

    async def _remove_directory(self, volume: PersistentVolume) -> None:
        name = volume.metadata.name
        try:
            await remove_tree(self.directory(volume))
            self._objects.remove(VOLUME, "", name)
        except OSError as error:
            self._set_phase(volume, "Failed", str(error))
        finally:
            del self._removals[name]

    def _remove_leftovers(self) -> None:
        """Remove the empty directories of an agent that died between making one and saying so."""
        place = self.top
        known = {volume.metadata.name for volume in self._volumes()}
        with contextlib.suppress(FileNotFoundError):
            for name in set(os.listdir(place)) - known:
                # What is not empty is somebody's data, and stays whatever became of the record of it.
                with contextlib.suppress(OSError):
                    os.rmdir(f"{place}/{name}")

    # ---- binding ----

    def _bind(self, claim: PersistentVolumeClaim) -> None:
        wanted = claim.spec.volume_name
        if wanted:
            volume = self.volume(wanted)
            if volume is None or volume.metadata.deletion_timestamp:
                words = f'volume "{wanted}" not found'
                self._tell(claim, "Warning", "FailedBinding", words)
            elif volume.spec.claim_ref is not None and not is_for(volume.spec.claim_ref, claim):
                words = f'volume "{wanted}" already bound to a different claim.'
                self._tell(claim, "Warning", "FailedBinding", words)
            elif why := mismatch(volume, claim):
                words = f'Cannot bind to requested volume "{wanted}": {why}'
                self._tell(claim, "Warning", "VolumeMismatch", words)
            else:
                self._put_bound(claim, volume)
        elif volume := best(claim, self._volumes()):
            self._put_bound(claim, volume)
        elif claim.spec.storage_class_name == "" or claim.spec.selector is not None:
            words = "no persistent volumes available for this claim and no storage class is set"
            if claim.spec.selector is not None:
                words = "no persistent volume that is there has the labels that the claim selects"
            self._tell(claim, "Normal", "FailedBinding", words)
        else:
            self._provision(claim)

    def _provision(self, claim: PersistentVolumeClaim) -> None:
        """Make a directory for a claim."""
        volume = PersistentVolume(
            metadata=ObjectMeta(
                name=f"pvc-{claim.metadata.uid}", annotations={PROVISIONED_BY: PROVISIONER}
            ),
            spec=PersistentVolumeSpec(
                access_modes=list(claim.spec.access_modes),
                capacity={"storage": claim.spec.resources.requests["storage"]},
                persistent_volume_reclaim_policy="Delete",
                storage_class_name=class_of(claim),
                volume_mode=claim.spec.volume_mode,
            ),
        )
        volume.spec.local = LocalVolumeSource(path=self.directory(volume))
        complete_volume(volume)
        try:
            self._make_directory(volume)
        except OSError as error:
            self._tell(claim, "Warning", "ProvisioningFailed", str(error))
            return
        made = copy.deepcopy(claim)
        made.metadata.annotations[STORAGE_PROVISIONER] = PROVISIONER
        self._put_bound(made, volume)
        words = f"Successfully provisioned volume {volume.metadata.name}"
        self._tell(claim, "Normal", "ProvisioningSucceeded", words)

    def _make_directory(self, volume: PersistentVolume) -> None:
        place = self.directory(volume)
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place)
        if volume.spec.volume_mode == "Block":
            os.chmod(place, 0o700)
            fd = os.open(f"{place}/{BLOCK_FILE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.truncate(fd, max(size_of(volume), os.fstat(fd).st_size))
            finally:
                os.close(fd)
        else:
            # For whatever user a container has, as an emptyDir; nobody else gets through the directory above.
            os.chmod(place, 0o777)

    def _put_bound(self, claim: PersistentVolumeClaim, volume: PersistentVolume) -> None:
        bound, meta = copy.deepcopy(volume), claim.metadata
        bound.spec.claim_ref = ObjectReference(
            api_version="v1",
            kind=CLAIM,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
        )
        bound.status = PersistentVolumeStatus(phase="Bound")
        has = copy.deepcopy(claim)
        has.metadata.annotations.update(_BOUND)
        has.spec.volume_name = bound.metadata.name
        has.status = _status_of(bound)
        self._objects.put(bound, has)

    def _sync_bound(self, claim: PersistentVolumeClaim) -> None:
        volume = self.volume(claim.spec.volume_name)
        if volume is None:
            new = copy.deepcopy(claim)
            new.status = PersistentVolumeClaimStatus(phase="Lost")
            self._objects.put(new)
            words = "Bound claim has lost its PersistentVolume. Any data on the volume is lost!"
            self._tell(new, "Warning", "ClaimLost", words)
            return
        if self.is_ours(volume) and requested(claim) > size_of(volume):
            try:
                volume = self._grow(volume, claim.spec.resources.requests["storage"])
            except OSError as error:  # it keeps its size, and others have their turn
                self._tell(claim, "Warning", "VolumeResizeFailed", str(error))
        if claim.status != _status_of(volume):
            new = copy.deepcopy(claim)
            new.status = _status_of(volume)
            self._objects.put(new)

    def _grow(self, volume: PersistentVolume, size: str) -> PersistentVolume:
        """Return a volume of ours that has grown to *size*.

        Raises:
            OSError: it could not.
        """
        grown = copy.deepcopy(volume)
        grown.spec.capacity["storage"] = size
        if grown.spec.volume_mode == "Block":
            self._make_directory(grown)
            loop.grow(f"{self.directory(grown)}/{BLOCK_FILE}")
        self._objects.put(grown)
        return grown


def _status_of(volume: PersistentVolume) -> PersistentVolumeClaimStatus:
    """Return the status of a claim that is bound to *volume*."""
    return PersistentVolumeClaimStatus(
        phase="Bound",
        access_modes=list(volume.spec.access_modes),
        capacity=dict(volume.spec.capacity),
    )
