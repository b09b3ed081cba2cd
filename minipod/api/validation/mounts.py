# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for where a container sees the volumes of its pod."""

from __future__ import annotations

from minipod.api.objects import Container, PodSpec, Volume, VolumeMount
from minipod.api.problems import Report, did_you_mean
from minipod.api.validation.rules import clean, one_of, under_proc, unique
from minipod.api.yaml import shown

_PROPAGATIONS = ("None", "HostToContainer", "Bidirectional")
_RECURSIVE = ("Disabled", "IfPossible", "Enabled")
_OPTIONS = ("noexec", "nodev", "nosuid")


def check_mounts(container: Container, path: str, spec: PodSpec, report: Report) -> None:
    """Check the volume mounts of a container."""
    volumes = {volume.name: volume for volume in spec.volumes}
    privileged = bool(container.security_context.privileged)
    for index, mount in enumerate(container.volume_mounts):
        where = f"{path}.volumeMounts[{index}]"
        _volume_of(mount.name, f"{where}.name", volumes, report)
        _mount_path(mount, f"{where}.mountPath", volumes, report)
        _sub_path(mount, where, report)
        _propagation(mount, where, privileged, report)
        _recursive_read_only(mount, where, report)
        _options(mount, where, report)
    _devices(container, path, volumes, report)
    mounts = enumerate(container.volume_mounts)
    places = ((f"{path}.volumeMounts[{i}].mountPath", clean(m.mount_path)) for i, m in mounts)
    unique(report, places, "mount path")


def _devices(container: Container, path: str, volumes: dict[str, Volume], report: Report) -> None:
    mounted = {mount.name for mount in container.volume_mounts}
    at = {clean(mount.mount_path) for mount in container.volume_mounts if mount.mount_path}
    for i, device in enumerate(container.volume_devices):
        where = f"{path}.volumeDevices[{i}]"
        _volume_of(device.name, f"{where}.name", volumes, report)
        volume = volumes.get(device.name)
        if volume and not (volume.persistent_volume_claim or volume.ephemeral):
            what = "can only use volume source type of PersistentVolumeClaim or Ephemeral"
            report.error(f"{where}.name", f"{what} for block mode")
        if device.name in mounted:
            report.error(f"{where}.name", "must not already exist in volumeMounts")
        value = device.device_path
        if not value:
            report.error(f"{where}.devicePath", "missing, and required")
        elif not value.startswith("/") or ".." in value.split("/") or clean(value) == "/":
            report.error(
                f"{where}.devicePath", f"{shown(value)} must be an absolute path without .."
            )
        elif under_proc(value):
            report.error(f"{where}.devicePath", "must not be on or under /proc")
        elif clean(value) in at:
            report.error(f"{where}.devicePath", "must not already exist as a path in volumeMounts")
    devices = list(enumerate(container.volume_devices))
    unique(report, ((f"{path}.volumeDevices[{i}].name", d.name) for i, d in devices), "device")
    places = ((f"{path}.volumeDevices[{i}].devicePath", clean(d.device_path)) for i, d in devices)
    unique(report, places, "device path")


def _volume_of(name: str, where: str, volumes: dict[str, Volume], report: Report) -> None:
    if not name:
        report.error(where, "missing, and required")
    elif name not in volumes and not report.is_bad("spec.volumes"):
        what = f"{shown(name)} names no volume of the pod" + did_you_mean(name, volumes)
        report.error(where, what)


def _mount_path(mount: VolumeMount, where: str, volumes: dict[str, Volume], report: Report) -> None:
    value = mount.mount_path
    volume = volumes.get(mount.name)
    if not value:
        report.error(where, "missing, and required")
    elif not value.startswith("/"):
        report.error(where, f"{shown(value)} must be an absolute path")
    elif ":" in value:
        report.error(where, f"{shown(value)} must not contain a colon")
    elif ".." in value.split("/"):
        report.error(where, f"{shown(value)} must not contain ..")
    elif clean(value) == "/":
        report.error(where, "must not be the root of the container")
    elif under_proc(value):
        report.error(where, "must not be on or under /proc")
    elif clean(value) == "/dev" and volume is not None and volume.host_path is None:
        # Linux containers cannot do without: what is masked in /proc is masked by /dev/null.
        what = "would hide the container's devices: mount it below /dev, or use a hostPath of /dev"
        report.error(where, what)


def _sub_path(mount: VolumeMount, where: str, report: Report) -> None:
    if mount.sub_path and mount.sub_path_expr:
        report.error(f"{where}.subPathExpr", "subPath and subPathExpr exclude each other")
    for name, value in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
        if value.startswith("/"):
            report.error(f"{where}.{name}", f"{shown(value)} must be a relative path")
        elif ".." in value.split("/"):
            report.error(f"{where}.{name}", f"{shown(value)} must not contain ..")
        elif "\0" in value:
            report.error(f"{where}.{name}", f"{shown(value)} must not contain a NUL")


def _propagation(mount: VolumeMount, where: str, privileged: bool, report: Report) -> None:
    if mount.mount_propagation is None:
        return
    where = f"{where}.mountPropagation"
    one_of(report, where, mount.mount_propagation, _PROPAGATIONS)
    if mount.mount_propagation == "Bidirectional" and not privileged:
        report.error(where, "Bidirectional is for privileged containers only")


def _recursive_read_only(mount: VolumeMount, where: str, report: Report) -> None:
    if mount.recursive_read_only is None:
        return
    where = f"{where}.recursiveReadOnly"
    one_of(report, where, mount.recursive_read_only, _RECURSIVE)
    if mount.recursive_read_only not in ("IfPossible", "Enabled"):
        return
    if not mount.read_only:
        report.error(where, f"{mount.recursive_read_only} needs readOnly: true")
    if mount.mount_propagation not in (None, "None"):
        report.error(where, f"{mount.recursive_read_only} needs mountPropagation: None")


def _options(mount: VolumeMount, where: str, report: Report) -> None:
    for i, option in enumerate(mount.bind_mount_options):
        one_of(report, f"{where}.bindMountOptions[{i}]", option, _OPTIONS)
    options = enumerate(mount.bind_mount_options)
    unique(report, ((f"{where}.bindMountOptions[{i}]", o) for i, o in options), "option")
