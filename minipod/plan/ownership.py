# SPDX-License-Identifier: GPL-3.0-or-later
"""Which volumes ``fsGroup`` gives to a group, and how: decided here for every kind of volume.

The rules are the kubelet's: hostPath, nfs and image volumes stay as they are; what only lives as long as the pod is
always changed; what outlives it as ``fsGroupChangePolicy`` says.
"""

from __future__ import annotations

from minipod.api import Pod, Volume
from minipod.plan import steps as s
from minipod.plan.context import PodContext
from minipod.plan.volumes import place_of

_UNMANAGED = ("host_path", "nfs", "image")


def _has(volume: Volume, kinds: tuple[str, ...]) -> bool:
    return any(getattr(volume, kind, None) is not None for kind in kinds)


def give_volumes(pod: Pod, context: PodContext) -> list[s.Step]:
    """Return the steps that give the pod's volumes on the host to its ``fsGroup``; none without one.

    Those that the sandbox mounts itself get the group at birth: see ``emptydir``, and for files
    ``pods/volumefiles.py``.
    """
    security = pod.spec.security_context
    if security.fs_group is None:
        return []
    result: list[s.Step] = []
    for volume in pod.spec.volumes:
        place = place_of(volume, context)
        ours = place.managed and place.type == "directory" and volume.name not in context.devices
        if place.in_sandbox or _has(volume, _UNMANAGED) or not ours:
            continue
        lasting = volume.empty_dir is None
        result.append(
            s.GiveToGroup(
                path=place.path,
                gid=security.fs_group,
                on_root_mismatch=lasting and security.fs_group_change_policy == "OnRootMismatch",
                source="spec.securityContext.fsGroup",
            )
        )
    return result
