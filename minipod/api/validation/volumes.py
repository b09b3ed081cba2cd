# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for volumes."""

from __future__ import annotations

from collections.abc import Collection

from minipod.api.objects import EmptyDirVolumeSource, Volume
from minipod.api.problems import NOT_HONOURED, Report
from minipod.api.quantity import parse_bytes
from minipod.api.validation.files import check_files
from minipod.api.validation.rules import label, one_of
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
_MAX_MODE = 0o1777


def check_volume(volume: Volume, path: str, containers: Collection[str], report: Report) -> None:
    """Check one volume; *containers* are the names of the pod's."""
    label(report, f"{path}.name", volume.name)
    if len(sources := volume.sources()) > 1:
        report.error(path, f"has more than one source: keep one of {', '.join(sources)}")
    check_files(volume, path, containers, report)
    if volume.host_path is not None:
        _host_path(volume.host_path.path, f"{path}.hostPath.path", report)
        if volume.host_path.type:
            one_of(report, f"{path}.hostPath.type", volume.host_path.type, _HOST_PATH_TYPES)
    if volume.empty_dir is not None:
        _empty_dir(volume.empty_dir, f"{path}.emptyDir", report)


def _host_path(value: str, path: str, report: Report) -> None:
    if not value:
        report.error(path, "missing, and required")
    elif not value.startswith("/"):
        report.error(path, f"{shown(value)} must be an absolute path")
    elif ".." in value.split("/"):
        report.error(path, f"{shown(value)} must not contain ..")


def _empty_dir(source: EmptyDirVolumeSource, path: str, report: Report) -> None:
    medium, size_limit, mode = source.medium, source.size_limit, source.mode
    if medium.startswith("HugePages-"):
        _page_size(medium, f"{path}.medium", report)
    elif medium:
        one_of(report, f"{path}.medium", medium, ("Memory", "HugePages"))
    if size_limit is not None and size_limit.startswith("-"):
        report.error(f"{path}.sizeLimit", "must be 0 or more")
    elif size_limit is not None and not medium:
        what = "it works with medium: Memory only, remove it or set that"
        report.error(f"{path}.sizeLimit", f"{NOT_HONOURED} for a directory on disk: {what}")
    if mode is not None and not 0 <= mode <= _MAX_MODE:
        report.error(f"{path}.mode", f"must be 0 to 0{_MAX_MODE:o}, not {mode} (0{mode:o})")


def _page_size(medium: str, path: str, report: Report) -> None:
    size = medium.removeprefix("HugePages-")
    try:
        good = parse_bytes(size) > 0
    except ValueError:
        good = False
    if not good:
        report.error(path, f"{shown(medium)} has no size of a page: as in HugePages-2Mi")
