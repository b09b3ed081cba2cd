# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent itself writes into claims and volumes, and keeps when a manifest is applied again."""

from __future__ import annotations

from minipod.api.objects import ObjectMeta, PersistentVolume, PersistentVolumeClaim

PVC_PROTECTION = "kubernetes.io/pvc-protection"
PV_PROTECTION = "kubernetes.io/pv-protection"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
"""Annotation of a volume that was made for a claim."""
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
"""Annotation of a claim that a volume was made for."""
PROVISIONER = "minipod.dev/directory"

_OURS = ("pv.kubernetes.io/", "volume.kubernetes.io/")


def complete_claim(claim: PersistentVolumeClaim) -> None:
    """Protect a new claim: it goes when no pod uses it any more."""
    claim.metadata.finalizers = [PVC_PROTECTION]
    claim.status.phase = "Pending"


def complete_volume(volume: PersistentVolume) -> None:
    """Protect a new volume: it goes when no claim is bound to it any more."""
    volume.metadata.finalizers = [PV_PROTECTION]
    volume.status.phase = "Available"


def inherit_claim(old: PersistentVolumeClaim, new: PersistentVolumeClaim) -> None:
    """Let *new* keep what the agent has written into *old*."""
    _inherit(old.metadata, new.metadata)
    new.status = old.status
    new.spec.volume_name = new.spec.volume_name or old.spec.volume_name


def inherit_volume(old: PersistentVolume, new: PersistentVolume) -> None:
    """Let *new* keep what the agent has written into *old*."""
    _inherit(old.metadata, new.metadata)
    new.status = old.status
    was, now = old.spec.claim_ref, new.spec.claim_ref
    if now is None or (was is not None and (was.namespace, was.name) == (now.namespace, now.name)):
        new.spec.claim_ref = was


def _inherit(old: ObjectMeta, new: ObjectMeta) -> None:
    new.finalizers, new.owner_references = old.finalizers, old.owner_references
    new.deletion_timestamp = old.deletion_timestamp
    kept = {key: value for key, value in old.annotations.items() if key.startswith(_OURS)}
    new.annotations = {**new.annotations, **kept}
