# SPDX-License-Identifier: GPL-3.0-or-later
"""Which PersistentVolume a claim gets, by the rules of Kubernetes' binder (``FindMatchingVolume``); pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minipod.api import (
    LabelSelector,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    parse_bytes,
)


def class_of(claim: PersistentVolumeClaim) -> str:
    """Return the class that a claim's volume must have; "" for none."""
    return claim.spec.storage_class_name or ""


def requested(claim: PersistentVolumeClaim) -> int:
    """Return how many bytes a claim asks for."""
    return parse_bytes(claim.spec.resources.requests["storage"])


def size_of(volume: PersistentVolume) -> int:
    """Return how many bytes a volume has."""
    return parse_bytes(volume.spec.capacity["storage"])


def is_for(reference: ObjectReference | None, claim: PersistentVolumeClaim) -> bool:
    """Whether a volume's ``claimRef`` names this very claim; without a uid, any of its name."""
    meta = claim.metadata
    return (
        reference is not None
        and (reference.namespace, reference.name) == (meta.namespace, meta.name)
        and reference.uid in ("", meta.uid)
    )


def selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is selected; no selector selects all."""
    if selector is None:
        return True
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for rule in selector.match_expressions:
        here, value = rule.key in labels, labels.get(rule.key)
        holds = {
            "In": here and value in rule.values,
            "NotIn": not here or value not in rule.values,
            "Exists": here,
            "DoesNotExist": not here,
        }
        if not holds[rule.operator]:
            return False
    return True


def mismatch(volume: PersistentVolume, claim: PersistentVolumeClaim) -> str:
    """Return why a volume does not satisfy a claim, in the words of Kubernetes' binder, or ""."""
    if size_of(volume) < requested(claim):
        return "requested PV is too small"
    if volume.spec.storage_class_name != class_of(claim):
        return "storageClassName does not match"
    if volume.spec.volume_mode != claim.spec.volume_mode:
        return "incompatible volumeMode"
    if not set(claim.spec.access_modes) <= set(volume.spec.access_modes):
        return "incompatible accessMode"
    return ""


def best(
    claim: PersistentVolumeClaim, volumes: Iterable[PersistentVolume]
) -> PersistentVolume | None:
    """Return the volume to bind: one that is kept for the claim, else the smallest that fits, or None."""
    fitting = []
    for volume in volumes:
        if volume.metadata.deletion_timestamp or mismatch(volume, claim):
            continue
        if is_for(volume.spec.claim_ref, claim):
            return volume
        free = volume.spec.claim_ref is None and volume.status.phase in ("", "Available")
        if free and selects(claim.spec.selector, volume.metadata.labels):
            fitting.append(volume)
    return min(fitting, key=size_of, default=None)
