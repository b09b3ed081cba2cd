# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for a pod's spec."""

from __future__ import annotations

from minipod.api.objects import PodSpec
from minipod.api.problems import Report
from minipod.api.validation.container import check_container
from minipod.api.validation.network import check_host_ports, check_network
from minipod.api.validation.resources import check_pod_resources
from minipod.api.validation.rules import one_of, unique
from minipod.api.validation.security import check_pod_security
from minipod.api.validation.volumes import check_volume

_RESTART_POLICIES = ("Always", "OnFailure", "Never")


def check_spec(spec: PodSpec, report: Report) -> None:
    """Check a pod's spec."""
    one_of(report, "spec.restartPolicy", spec.restart_policy, _RESTART_POLICIES)
    check_network(spec, report)
    check_pod_security(spec, report)
    if spec.termination_grace_period_seconds < 0:
        report.error("spec.terminationGracePeriodSeconds", "must be 0 or more")
    if spec.host_pid and spec.share_process_namespace:
        report.error("spec.shareProcessNamespace", "excludes hostPID: set one of them")
    containers = [container.name for container in spec.containers]
    for index, volume in enumerate(spec.volumes):
        check_volume(volume, f"spec.volumes[{index}]", containers, report)
    unique(
        report,
        ((f"spec.volumes[{i}].name", v.name) for i, v in enumerate(spec.volumes)),
        "volume name",
    )
    if not spec.containers:
        report.error("spec.containers", "missing, and required: a pod has at least one container")
    for index, container in enumerate(spec.containers):
        check_container(container, f"spec.containers[{index}]", spec, report)
    called = ((f"spec.containers[{i}].name", c.name) for i, c in enumerate(spec.containers))
    unique(report, called, "container name")
    named = ((f"spec.containers[{i}]", c) for i, c in enumerate(spec.containers))
    check_pod_resources(spec, report)
    check_host_ports(named, spec.host_network, report)
