# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for PersistentVolumeClaims (``ValidatePersistentVolumeClaim`` and its ``…Update``)."""

from __future__ import annotations

import msgspec

from minipod.api import names
from minipod.api.objects import (
    LabelSelector,
    ObjectMeta,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
)
from minipod.api.problems import Report
from minipod.api.quantity import parse_quantity
from minipod.api.storagerules import STORAGE_PROVISIONER
from minipod.api.validation.meta import check_metadata
from minipod.api.validation.rules import one_of, say
from minipod.api.yaml import join, shown

ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
VOLUME_MODES = ("Filesystem", "Block")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def check_claim(claim: PersistentVolumeClaim, report: Report) -> None:
    """Check a claim."""
    check_metadata(claim.metadata, report)
    check_claim_spec(claim.spec, "spec", report)


def check_claim_spec(spec: PersistentVolumeClaimSpec, path: str, report: Report) -> None:
    """Check what a claim asks for."""
    check_access_modes(spec.access_modes, f"{path}.accessModes", report)
    if "storage" not in spec.resources.requests:
        report.error(f"{path}.resources.requests.storage", "missing, and required: 1Gi, say")
    for kind in ("requests", "limits"):
        check_storage(getattr(spec.resources, kind), f"{path}.resources.{kind}", report)
    if spec.storage_class_name:
        wrong = names.dns_subdomain(spec.storage_class_name)
        say(report, f"{path}.storageClassName", wrong)
    if spec.volume_name:
        say(report, f"{path}.volumeName", names.dns_subdomain(spec.volume_name))
    one_of(report, f"{path}.volumeMode", spec.volume_mode, VOLUME_MODES)
    if spec.selector is not None:
        _selector(spec.selector, f"{path}.selector", report)


def check_access_modes(modes: list[str], path: str, report: Report) -> None:
    """Check access modes."""
    if not modes:
        report.error(path, "missing, and required: at least one access mode, [ReadWriteOnce] say")
    for i, mode in enumerate(modes):
        one_of(report, f"{path}[{i}]", mode, ACCESS_MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        report.error(path, "may not use ReadWriteOncePod with other access modes")


def check_storage(amounts: dict[str, str], path: str, report: Report) -> None:
    """Check a mapping of quantities that may hold ``storage`` alone."""
    for name, text in amounts.items():
        where = join(path, name)
        if name != "storage":
            report.error(where, f"a volume has no {shown(name)}: there is storage only")
        elif parse_quantity(text) <= 0:
            report.error(where, "must be greater than zero")


def _selector(selector: LabelSelector, path: str, report: Report) -> None:
    for key, value in selector.match_labels.items():
        wrong = names.qualified_name(key) or names.label_value(value)
        say(report, join(f"{path}.matchLabels", key), wrong)
    for i, rule in enumerate(selector.match_expressions):
        where = f"{path}.matchExpressions[{i}]"
        say(report, f"{where}.key", names.qualified_name(rule.key))
        one_of(report, f"{where}.operator", rule.operator, _OPERATORS)
        if rule.operator in ("In", "NotIn") and not rule.values:
            report.error(f"{where}.values", f"missing, and required with {rule.operator}")
        elif rule.operator in ("Exists", "DoesNotExist") and rule.values:
            report.error(f"{where}.values", f"must not be given with {rule.operator}")


def check_template_metadata(metadata: ObjectMeta, path: str, report: Report) -> None:
    """Check the metadata of an ephemeral volume's claim: labels and annotations only."""
    for name, given in (
        ("name", metadata.name),
        ("generateName", metadata.generate_name),
        ("namespace", metadata.namespace),
    ):
        if given:
            report.error(f"{path}.{name}", "must not be given: the claim is named POD-VOLUME")
    for key, value in metadata.labels.items():
        wrong = names.qualified_name(key) or names.label_value(value)
        say(report, join(f"{path}.labels", key), wrong)


def check_claim_update(
    old: PersistentVolumeClaim, new: PersistentVolumeClaim, report: Report
) -> None:
    """Check that *new* may take the place of *old*: it may ask for more, and for nothing else."""
    was, now = old.spec, new.spec
    if was.volume_name and _without_size(was) != _without_size(now):
        what = "spec is immutable after creation except resources.requests for bound claims"
        report.error("spec", what)
    elif not was.volume_name and was != now:
        # Kubernetes lets volumeName alone be set later.
        renamed = msgspec.structs.replace(was, volume_name=now.volume_name)
        if renamed != now:
            report.error("spec", "spec is immutable after creation, but for volumeName")
    where = "spec.resources.requests.storage"
    before, after = (each.resources.requests["storage"] for each in (was, now))
    growth = parse_quantity(after) - parse_quantity(before)
    if growth < 0:
        report.error(where, f"field can not be less than before: {before}")
    elif growth and was.volume_name and STORAGE_PROVISIONER not in old.metadata.annotations:
        report.error(where, "only what minipod made for a claim can grow, not a volume of yours")


def _without_size(spec: PersistentVolumeClaimSpec) -> dict[str, object]:
    data: dict[str, object] = msgspec.to_builtins(spec)
    return {key: value for key, value in data.items() if key != "resources"}
