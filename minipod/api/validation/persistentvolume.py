# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for PersistentVolumes (``ValidatePersistentVolume`` and its ``…Update``)."""

from __future__ import annotations

from minipod.api import names
from minipod.api.objects import PersistentVolume, PersistentVolumeSpec
from minipod.api.problems import NOT_HONOURED, Report
from minipod.api.validation.claims import VOLUME_MODES, check_access_modes, check_storage
from minipod.api.validation.meta import check_metadata
from minipod.api.validation.rules import one_of, say
from minipod.api.validation.volumes import check_host_path, check_nfs, check_path
from minipod.api.yaml import shown

_POLICIES = ("Retain", "Delete")


def check_volume_object(volume: PersistentVolume, report: Report) -> None:
    """Check a PersistentVolume."""
    check_metadata(volume.metadata, report)
    if volume.metadata.namespace:
        report.error("metadata.namespace", "a PersistentVolume belongs to no namespace: remove it")
    spec = volume.spec
    check_access_modes(spec.access_modes, "spec.accessModes", report)
    if "storage" not in spec.capacity:
        report.error("spec.capacity.storage", "missing, and required: 1Gi, say")
    check_storage(spec.capacity, "spec.capacity", report)
    one_of(report, "spec.volumeMode", spec.volume_mode, VOLUME_MODES)
    if spec.persistent_volume_reclaim_policy == "Recycle":
        what = f"Recycle is {NOT_HONOURED}: it is deprecated, use Retain"
        report.error("spec.persistentVolumeReclaimPolicy", what)
    else:
        where = "spec.persistentVolumeReclaimPolicy"
        one_of(report, where, spec.persistent_volume_reclaim_policy, _POLICIES)
    if spec.storage_class_name:
        say(report, "spec.storageClassName", names.dns_subdomain(spec.storage_class_name))
    _source(spec, report)
    _claim_ref(spec, report)


def _source(spec: PersistentVolumeSpec, report: Report) -> None:
    sources = {"hostPath": spec.host_path, "local": spec.local, "nfs": spec.nfs}
    given = [name for name, source in sources.items() if source is not None]
    if len(given) != 1 and not report.is_bad("spec"):
        what = "must specify a volume type: one of" if not given else "may have one source, not"
        report.error("spec", f"{what} {', '.join(given or sources)}")
    if spec.host_path is not None:
        check_host_path(spec.host_path, "spec.hostPath", report)
    if spec.local is not None:
        check_path(spec.local.path, "spec.local.path", report)
    if spec.nfs is not None:
        check_nfs(spec.nfs, "spec.nfs", report)
    if spec.volume_mode == "Block" and spec.local is None:
        report.error("spec.volumeMode", "Block needs a local source, whose path is a block device")
    for i, option in enumerate(spec.mount_options):
        where = f"spec.mountOptions[{i}]"
        if spec.nfs is None:
            report.error(where, "only an nfs volume is mounted with options")
            break
        if not option.isprintable() or "," in option or not option.strip():
            report.error(where, f"{shown(option)} is not one mount option")


def _claim_ref(spec: PersistentVolumeSpec, report: Report) -> None:
    if spec.claim_ref is None:
        return
    for name in ("name", "namespace"):
        if not getattr(spec.claim_ref, name):
            report.error(f"spec.claimRef.{name}", "missing, and required")


def check_volume_object_update(
    old: PersistentVolume, new: PersistentVolume, report: Report
) -> None:
    """Check that *new* may take the place of *old*."""
    for name in ("host_path", "local", "nfs"):
        if getattr(old.spec, name) != getattr(new.spec, name):
            what = "spec.persistentvolumesource is immutable after creation"
            report.error("spec", what)
            break
    if old.spec.volume_mode != new.spec.volume_mode:
        report.error("spec.volumeMode", "field is immutable")
