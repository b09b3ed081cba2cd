# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container's status says of its volume mounts."""

from __future__ import annotations

from minipod.api import Container, VolumeMountStatus


def mount_statuses(container: Container) -> list[VolumeMountStatus]:
    """Return ``status.containerStatuses[].volumeMounts`` of *container*.

    Of a read-only mount it says whether the mounts below are read-only, too: IfPossible has been decided.
    """
    return [
        VolumeMountStatus(
            name=mount.name,
            mount_path=mount.mount_path,
            read_only=mount.read_only,
            recursive_read_only=_recursive(mount.recursive_read_only) if mount.read_only else None,
        )
        for mount in container.volume_mounts
    ]


def _recursive(asked: str | None) -> str:
    return "Enabled" if asked in ("IfPossible", "Enabled") else "Disabled"
