# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for a pod's spec."""

from __future__ import annotations

from minipod.api import names
from minipod.api.containers import members_of
from minipod.api.objects import PodSpec
from minipod.api.problems import Report
from minipod.api.validation.container import check_container
from minipod.api.validation.ephemeral import check_ephemeral
from minipod.api.validation.lifecycle import check_no_lifecycle
from minipod.api.validation.network import check_host_ports, check_network
from minipod.api.validation.resources import check_pod_resources
from minipod.api.validation.restart import RESTART_POLICIES
from minipod.api.validation.rules import one_of, say, unique
from minipod.api.validation.security import check_pod_security
from minipod.api.validation.volumes import check_huge_pages, check_volume

_MAX_DEADLINE = 2**31 - 1


def check_spec(spec: PodSpec, report: Report) -> None:
    """Check a pod's spec."""
    one_of(report, "spec.restartPolicy", spec.restart_policy, RESTART_POLICIES)
    check_network(spec, report)
    check_pod_security(spec, report)
    if spec.termination_grace_period_seconds < 0:
        report.error("spec.terminationGracePeriodSeconds", "must be 0 or more")
    deadline = spec.active_deadline_seconds
    if deadline is not None and not 1 <= deadline <= _MAX_DEADLINE:
        where = "spec.activeDeadlineSeconds"
        report.error(where, f"must be between 1 and {_MAX_DEADLINE}, inclusive")
    for index, gate in enumerate(spec.readiness_gates):
        where = f"spec.readinessGates[{index}].conditionType"
        if not gate.condition_type:
            report.error(where, "missing, and required")
        else:
            say(report, where, names.qualified_name(gate.condition_type))
    for index, secret in enumerate(spec.image_pull_secrets):
        if not secret.name:
            report.error(f"spec.imagePullSecrets[{index}].name", "missing, and required")
    if spec.host_pid and spec.share_process_namespace:
        report.error("spec.shareProcessNamespace", "excludes hostPID: set one of them")
    containers = [each.name for each in (*spec.init_containers, *spec.containers)]
    for index, volume in enumerate(spec.volumes):
        check_volume(volume, f"spec.volumes[{index}]", containers, report)
    unique(
        report,
        ((f"spec.volumes[{i}].name", v.name) for i, v in enumerate(spec.volumes)),
        "volume name",
    )
    check_huge_pages(spec, report)
    if not spec.containers:
        report.error("spec.containers", "missing, and required: a pod has at least one container")
    for found in members_of(spec):
        check_container(found.container, found.path, spec, report)
        if found.kind == "init" and not found.is_sidecar:
            check_no_lifecycle(found.container, found.path, report)
    for index, extra in enumerate(spec.ephemeral_containers):
        check_ephemeral(extra, f"spec.ephemeralContainers[{index}]", spec, report)
    called = ((f"{found.path}.name", found.name) for found in members_of(spec))
    unique(report, called, "container name")
    check_pod_resources(spec, report)
    # Those of one regular init container are free again when the next one runs.
    side_by_side = (m for m in members_of(spec) if m.kind != "init" or m.is_sidecar)
    named = ((member.path, member.container) for member in side_by_side)
    check_host_ports(named, spec.host_network, report)
