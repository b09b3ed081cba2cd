# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for a pod's spec."""

from __future__ import annotations

from minipod.api import names
from minipod.api.objects import PodSpec
from minipod.api.problems import NOT_HONOURED, Report
from minipod.api.validation.container import check_container
from minipod.api.validation.resources import check_pod_resources
from minipod.api.validation.rules import one_of, say, unique
from minipod.api.validation.volumes import check_volume

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_HOST_PATH_TYPES = (
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)


def check_spec(spec: PodSpec, report: Report) -> None:
    """Check a pod's spec."""
    one_of(report, "spec.restartPolicy", spec.restart_policy, _RESTART_POLICIES)
    _dns_policy(spec.dns_policy, report)
    if spec.termination_grace_period_seconds < 0:
        report.error("spec.terminationGracePeriodSeconds", "must be 0 or more")
    if spec.hostname:
        say(report, "spec.hostname", names.dns_label(spec.hostname))
    if spec.host_pid and spec.share_process_namespace:
        report.error("spec.shareProcessNamespace", "excludes hostPID: set one of them")
    if spec.os is not None and spec.os.name != "linux":
        _os(spec.os.name, report)
    for index, volume in enumerate(spec.volumes):
        check_volume(volume, f"spec.volumes[{index}]", report)
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
    check_pod_resources(spec, report)
    if spec.host_network:
        _host_ports(spec, report)


def _os(name: str, report: Report) -> None:
    if not name:
        report.error("spec.os.name", "missing, and required")
    elif name == "windows":
        report.error("spec.os.name", f"windows is {NOT_HONOURED}: only linux runs here")
    else:
        one_of(report, "spec.os.name", name, ("linux", "windows"))


def _dns_policy(policy: str, report: Report) -> None:
    if policy in ("ClusterFirstWithHostNet", "None"):
        report.error("spec.dnsPolicy", f"{policy} is {NOT_HONOURED}: use ClusterFirst or Default")
    else:
        one_of(report, "spec.dnsPolicy", policy, ("ClusterFirst", "Default"))


def _host_ports(spec: PodSpec, report: Report) -> None:
    ports = (
        (f"spec.containers[{i}].ports[{j}].containerPort", f"{port.container_port}/{port.protocol}")
        for i, container in enumerate(spec.containers)
        for j, port in enumerate(container.ports)
    )
    unique(report, ports, "port of the host")
