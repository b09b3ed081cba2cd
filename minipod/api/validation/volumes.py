# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for volumes and their mounts."""

from __future__ import annotations

from minipod.api.objects import Volume, VolumeMount
from minipod.api.problems import NOT_HONOURED, Report, did_you_mean
from minipod.api.validation.rules import clean, label, one_of, under_proc
from minipod.api.yaml import shown

_HOST_PATH_TYPES = (
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)


def check_volume(volume: Volume, path: str, report: Report) -> None:
    """Check one volume."""
    label(report, f"{path}.name", volume.name)
    if volume.empty_dir is not None and volume.host_path is not None:
        report.error(path, "has more than one source: keep emptyDir or hostPath")
    if volume.host_path is not None:
        _host_path(volume.host_path.path, f"{path}.hostPath.path", report)
        if volume.host_path.type:
            one_of(report, f"{path}.hostPath.type", volume.host_path.type, _HOST_PATH_TYPES)
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
        one_of(report, f"{path}.medium", medium, ("Memory",))
    if size_limit is None:
        return
    if size_limit.startswith("-"):
        report.error(f"{path}.sizeLimit", "must be 0 or more")
    elif not medium:
        what = "it works with medium: Memory only, remove it or set that"
        report.error(f"{path}.sizeLimit", f"{NOT_HONOURED} for a directory on disk: {what}")


def check_volume_mount(
    mount: VolumeMount, path: str, volumes: dict[str, None], report: Report
) -> None:
    """Check one mount; *volumes* are the names of the pod's."""
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
    elif clean(value) == "/":
        report.error(where, "must not be the root of the container")
    elif under_proc(value):
        report.error(where, "must not be on or under /proc")
