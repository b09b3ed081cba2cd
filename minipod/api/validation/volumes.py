# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for volumes."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from minipod.api import names
from minipod.api.containers import members_of
from minipod.api.objects import (
    EmptyDirVolumeSource,
    EphemeralVolumeSource,
    HostPathVolumeSource,
    NFSVolumeSource,
    PersistentVolumeClaimVolumeSource,
    PodSpec,
    Volume,
)
from minipod.api.problems import Report
from minipod.api.quantity import parse_bytes
from minipod.api.validation.claims import check_claim_spec, check_template_metadata
from minipod.api.validation.files import check_files
from minipod.api.validation.rules import label, one_of, say
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
        check_host_path(volume.host_path, f"{path}.hostPath", report)
    if volume.nfs is not None:
        check_nfs(volume.nfs, f"{path}.nfs", report)
    if volume.persistent_volume_claim is not None:
        _claim(volume.persistent_volume_claim, f"{path}.persistentVolumeClaim", report)
    if volume.ephemeral is not None:
        _ephemeral(volume.ephemeral, f"{path}.ephemeral", report)
    if volume.empty_dir is not None:
        _empty_dir(volume.empty_dir, f"{path}.emptyDir", report)


def check_host_path(source: HostPathVolumeSource, path: str, report: Report) -> None:
    """Check a ``hostPath``."""
    check_path(source.path, f"{path}.path", report)
    if source.type:
        one_of(report, f"{path}.type", source.type, _HOST_PATH_TYPES)


def check_nfs(source: NFSVolumeSource, path: str, report: Report) -> None:
    """Check an ``nfs`` volume (``validateNFSVolumeSource``)."""
    if not source.server:
        report.error(f"{path}.server", "missing, and required")
    elif not names.dns_subdomain(source.server.lower()) or _is_address(source.server):
        pass
    else:
        report.error(f"{path}.server", f"{shown(source.server)} is no name or address of a host")
    if not source.path:
        report.error(f"{path}.path", "missing, and required")
    elif not source.path.startswith("/"):
        report.error(f"{path}.path", f"{shown(source.path)} must be an absolute path")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def check_path(value: str, path: str, report: Report) -> None:
    """Check an absolute path of the host."""
    if not value:
        report.error(path, "missing, and required")
    elif not value.startswith("/"):
        report.error(path, f"{shown(value)} must be an absolute path")
    elif ".." in value.split("/"):
        report.error(path, f"{shown(value)} must not contain ..")


def _claim(source: PersistentVolumeClaimVolumeSource, path: str, report: Report) -> None:
    if not source.claim_name:
        report.error(f"{path}.claimName", "missing, and required")
    else:
        say(report, f"{path}.claimName", names.dns_subdomain(source.claim_name))


def _ephemeral(source: EphemeralVolumeSource, path: str, report: Report) -> None:
    path = f"{path}.volumeClaimTemplate"
    if source.volume_claim_template is None:
        report.error(path, "missing, and required")
        return
    check_template_metadata(source.volume_claim_template.metadata, f"{path}.metadata", report)
    check_claim_spec(source.volume_claim_template.spec, f"{path}.spec", report)


def _empty_dir(source: EmptyDirVolumeSource, path: str, report: Report) -> None:
    medium, size_limit, mode = source.medium, source.size_limit, source.mode
    if medium.startswith("HugePages-"):
        _page_size(medium, f"{path}.medium", report)
    elif medium:
        one_of(report, f"{path}.medium", medium, ("Memory", "HugePages"))
    if size_limit is not None and size_limit.startswith("-"):
        report.error(f"{path}.sizeLimit", "must be 0 or more")
    if mode is not None and not 0 <= mode <= _MAX_MODE:
        report.error(f"{path}.mode", f"must be 0 to 0{_MAX_MODE:o}, not {mode} (0{mode:o})")


def _page_size(medium: str, path: str, report: Report) -> None:
    if _bytes(medium.removeprefix("HugePages-")) <= 0:
        report.error(path, f"{shown(medium)} has no size of a page: as in HugePages-2Mi")


def check_huge_pages(spec: PodSpec, report: Report) -> None:
    """Check that containers ask for the huge pages that volumes are made of: the kubelet mounts no others."""
    prefix = "hugepages-"
    asked = {
        _bytes(name.removeprefix(prefix))
        for member in members_of(spec)
        for name in member.container.resources.limits
        if name.startswith(prefix)
    }
    for i, volume in enumerate(spec.volumes):
        where = f"spec.volumes[{i}].emptyDir.medium"
        medium = volume.empty_dir.medium if volume.empty_dir else ""
        if not medium.startswith("HugePages") or report.is_bad(where):
            continue
        size = medium.removeprefix("HugePages").removeprefix("-")
        if (not size and len(asked) != 1) or (size and _bytes(size) not in asked | {0}):
            what = f"of {size}" if size else "of one size"
            hint = f"set resources.limits.{prefix}{size or '2Mi'}"
            report.error(where, f"no container asks for huge pages {what}: {hint}")


def _bytes(size: str) -> int:
    """Return the bytes of a page, 0 for what is no size; that is reported elsewhere."""
    try:
        return parse_bytes(size)
    except ValueError:
        return 0
