# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' rules for the values of a Pod, and minipod's own where it is narrower.

The rules are those of ``k8s.io/kubernetes/pkg/apis/core/validation``, for the fields that minipod honours. Its own
are said at the place: paths on or under /proc (HARDENING: CVE-2019-16884, CVE-2024-21626), ``..`` in mount paths,
a size limit on disk. All problems are reported, each at its own line.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from minipod.api import names
from minipod.api.objects import (
    Container,
    ContainerPort,
    ObjectMeta,
    Pod,
    PodSpec,
    Volume,
    VolumeMount,
)
from minipod.api.problems import NOT_HONOURED, Report, did_you_mean
from minipod.api.resources import check_resources
from minipod.api.yaml import join, shown

MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations together."""

MAX_PORT = 65535

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


def validate(pod: Pod, report: Report) -> None:
    """Check a pod that has its defaults; *report* gets every problem.

    Raises:
        TooManyProblems: see :class:`~minipod.api.problems.Report`.
    """
    _metadata(pod.metadata, report)
    _spec(pod.spec, report)


def _metadata(metadata: ObjectMeta, report: Report) -> None:
    if metadata.name:
        _say(report, "metadata.name", names.dns_subdomain(metadata.name))
    elif not metadata.generate_name:
        report.error(
            "metadata.name", "missing, and required: give the pod a name or a generateName"
        )
    if metadata.generate_name:
        prefix = metadata.generate_name.removesuffix("-")
        _say(report, "metadata.generateName", names.dns_subdomain(prefix))
    if metadata.namespace:
        _say(report, "metadata.namespace", names.dns_label(metadata.namespace))
    for key, value in metadata.labels.items():
        wrong = names.qualified_name(key) or names.label_value(value)
        _say(report, join("metadata.labels", key), wrong)
    size = 0
    for key, value in metadata.annotations.items():
        _say(report, join("metadata.annotations", key), names.qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > MAX_ANNOTATIONS:
        what = f"the annotations have {size} bytes together, the limit is {MAX_ANNOTATIONS}"
        report.error("metadata.annotations", what)


def _spec(spec: PodSpec, report: Report) -> None:
    _one_of(report, "spec.restartPolicy", spec.restart_policy, _RESTART_POLICIES)
    _dns_policy(spec.dns_policy, report)
    if spec.termination_grace_period_seconds < 0:
        report.error("spec.terminationGracePeriodSeconds", "must be 0 or more")
    if spec.hostname:
        _say(report, "spec.hostname", names.dns_label(spec.hostname))
    if spec.host_pid and spec.share_process_namespace:
        report.error("spec.shareProcessNamespace", "excludes hostPID: set one of them")
    for index, volume in enumerate(spec.volumes):
        _volume(volume, f"spec.volumes[{index}]", report)
    _unique(
        report,
        ((f"spec.volumes[{i}].name", v.name) for i, v in enumerate(spec.volumes)),
        "volume name",
    )
    if not spec.containers:
        report.error("spec.containers", "missing, and required: a pod has at least one container")
    for index, container in enumerate(spec.containers):
        _container(container, f"spec.containers[{index}]", spec, report)
    called = ((f"spec.containers[{i}].name", c.name) for i, c in enumerate(spec.containers))
    _unique(report, called, "container name")
    if spec.host_network:
        _host_ports(spec, report)


def _dns_policy(policy: str, report: Report) -> None:
    if policy in ("ClusterFirstWithHostNet", "None"):
        report.error("spec.dnsPolicy", f"{policy} is {NOT_HONOURED}: use ClusterFirst or Default")
    else:
        _one_of(report, "spec.dnsPolicy", policy, ("ClusterFirst", "Default"))


def _container(container: Container, path: str, spec: PodSpec, report: Report) -> None:
    _name(report, f"{path}.name", container.name)
    _image(container.image, f"{path}.image", report)
    _pull_policy(container.image_pull_policy, f"{path}.imagePullPolicy", report)
    if container.working_dir:
        _working_dir(container.working_dir, f"{path}.workingDir", report)
    seen: set[str] = set()
    for index, variable in enumerate(container.env):
        where = f"{path}.env[{index}].name"
        if not variable.name:
            report.error(where, "missing, and required")
        else:
            _say(report, where, names.env_name(variable.name))
        if variable.name in seen:
            report.warn(where, f"{shown(variable.name)} is given twice, the last one counts")
        seen.add(variable.name)
    for index, port in enumerate(container.ports):
        _port(port, f"{path}.ports[{index}]", spec.host_network, report)
    called = ((f"{path}.ports[{i}].name", p.name or "") for i, p in enumerate(container.ports))
    _unique(report, called, "port name")
    check_resources(container.resources, f"{path}.resources", report)
    volumes = dict.fromkeys(volume.name for volume in spec.volumes)
    for index, mount in enumerate(container.volume_mounts):
        _volume_mount(mount, f"{path}.volumeMounts[{index}]", volumes, report)
    mounts = enumerate(container.volume_mounts)
    places = ((f"{path}.volumeMounts[{i}].mountPath", _clean(m.mount_path)) for i, m in mounts)
    _unique(report, places, "mount path")


def _image(image: str, path: str, report: Report) -> None:
    if not image:
        report.error(path, "missing, and required")
    elif any(c.isspace() or not c.isprintable() for c in image):
        report.error(path, f"{shown(image)} must not contain white space or control characters")


def _pull_policy(policy: str, path: str, report: Report) -> None:
    if policy == "Always":
        what = "there are no registries yet, use IfNotPresent and load the image with `minipod image load`"
        report.error(path, f"Always is {NOT_HONOURED}: {what}")
    elif policy:
        _one_of(report, path, policy, ("IfNotPresent", "Never"))


def _working_dir(working_dir: str, path: str, report: Report) -> None:
    if not working_dir.startswith("/"):
        report.error(path, f"{shown(working_dir)} must be an absolute path")
    elif _under_proc(working_dir):
        report.error(path, "must not be on or under /proc")


def _port(port: ContainerPort, path: str, host_network: bool, report: Report) -> None:
    if port.name:
        _say(report, f"{path}.name", names.port_name(port.name))
    if not port.container_port:
        report.error(f"{path}.containerPort", f"missing, and required: 1 to {MAX_PORT}")
    elif not 0 < port.container_port <= MAX_PORT:
        report.error(f"{path}.containerPort", f"must be 1 to {MAX_PORT}, not {port.container_port}")
    _one_of(report, f"{path}.protocol", port.protocol, _PROTOCOLS)
    if port.host_port and not host_network:
        what = "reach the pod at its own address, or set spec.hostNetwork"
        report.error(f"{path}.hostPort", f"{NOT_HONOURED}: {what}")
    elif port.host_port and port.host_port != port.container_port:
        report.error(f"{path}.hostPort", "must equal containerPort when spec.hostNetwork is true")


def _host_ports(spec: PodSpec, report: Report) -> None:
    ports = (
        (f"spec.containers[{i}].ports[{j}].containerPort", f"{port.container_port}/{port.protocol}")
        for i, container in enumerate(spec.containers)
        for j, port in enumerate(container.ports)
    )
    _unique(report, ports, "port of the host")


def _volume(volume: Volume, path: str, report: Report) -> None:
    _name(report, f"{path}.name", volume.name)
    if volume.empty_dir is not None and volume.host_path is not None:
        report.error(path, "has more than one source: keep emptyDir or hostPath")
    if volume.host_path is not None:
        _host_path(volume.host_path.path, f"{path}.hostPath.path", report)
        if volume.host_path.type:
            _one_of(report, f"{path}.hostPath.type", volume.host_path.type, _HOST_PATH_TYPES)
    if volume.empty_dir is not None:
        _empty_dir(volume.empty_dir.medium, volume.empty_dir.size_limit, f"{path}.emptyDir", report)


def _host_path(value: str, path: str, report: Report) -> None:
    if not value:
        report.error(path, "missing, and required")
    elif not value.startswith("/"):
        report.error(path, f"{shown(value)} must be an absolute path")
    elif ".." in value.split("/"):
        report.error(path, f"{shown(value)} must not contain ..")


def _empty_dir(medium: str, size_limit: str | None, path: str, report: Report) -> None:
    if medium.startswith("HugePages"):
        report.error(f"{path}.medium", f"{shown(medium)} is {NOT_HONOURED}: use Memory")
    elif medium:
        _one_of(report, f"{path}.medium", medium, ("Memory",))
    if size_limit is None:
        return
    if size_limit.startswith("-"):
        report.error(f"{path}.sizeLimit", "must be 0 or more")
    elif not medium:
        what = "it works with medium: Memory only, remove it or set that"
        report.error(f"{path}.sizeLimit", f"{NOT_HONOURED} for a directory on disk: {what}")


def _volume_mount(mount: VolumeMount, path: str, volumes: dict[str, None], report: Report) -> None:
    if not mount.name:
        report.error(f"{path}.name", "missing, and required")
    elif mount.name not in volumes and not report.is_bad("spec.volumes"):
        what = f"{shown(mount.name)} names no volume of the pod" + did_you_mean(mount.name, volumes)
        report.error(f"{path}.name", what)
    where, value = f"{path}.mountPath", mount.mount_path
    if not value:
        report.error(where, "missing, and required")
    elif not value.startswith("/"):
        report.error(where, f"{shown(value)} must be an absolute path")
    elif ":" in value:
        report.error(where, f"{shown(value)} must not contain a colon")
    elif ".." in value.split("/"):
        report.error(where, f"{shown(value)} must not contain ..")
    elif _clean(value) == "/":
        report.error(where, "must not be the root of the container")
    elif _under_proc(value):
        report.error(where, "must not be on or under /proc")


def _name(report: Report, path: str, name: str) -> None:
    if not name:
        report.error(path, "missing, and required")
    else:
        _say(report, path, names.dns_label(name))


def _say(report: Report, path: str, wrong: str) -> None:
    if wrong:
        report.error(path, wrong)


def _one_of(report: Report, path: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        report.error(path, f"{shown(value)} is not one of {', '.join(allowed)}{hint}")


def _unique(report: Report, found: Iterable[tuple[str, str]], what: str) -> None:
    """Report every path whose non-empty value was there before, with the line of the first."""
    first: dict[str, str] = {}
    for path, value in found:
        if value and value in first:
            report.error(
                path,
                f"{what} {shown(value)} is given twice, first on line {report.line(first[value])}",
            )
        first.setdefault(value, path)


def _clean(path: str) -> str:
    """Return an absolute path without doubled slashes, ``.`` and ``..``."""
    return posixpath.normpath("/" + path.lstrip("/")) if path else ""


def _under_proc(path: str) -> bool:
    clean = _clean(path)
    return clean == "/proc" or clean.startswith("/proc/")
