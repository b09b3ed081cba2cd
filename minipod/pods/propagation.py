# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the host lets mounts propagate where a container asks for that."""

from __future__ import annotations

from minipod.api import Container, Pod
from minipod.plan import PodContext
from minipod.plan.volumes import place_of, propagates
from minipod.pods.errors import CannotCreate
from minipod.runtime.hostmounts import host_mounts, mount_of


def check(pod: Pod, container: Container, context: PodContext) -> None:
    """Check that the host's mounts, on which the volumes of *container* lie, propagate as it asks for.

    Raises:
        CannotCreate: one does not, in the words of containerd.
    """
    asked = [mount for mount in container.volume_mounts if propagates(mount)]
    if not asked:
        return
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    mounts = host_mounts()
    for mount in asked:
        place = place_of(volumes[mount.name], context)
        if place.in_sandbox:
            continue
        found = mount_of(place.path, mounts)
        both = mount.mount_propagation == "Bidirectional"
        if not (found.shared or (found.slave and not both)):
            kind = "shared" if both else "shared or slave"
            raise CannotCreate(
                f'path "{place.path}" is mounted on "{found.path}" but it is not a {kind} mount',
                f"mount --make-shared {found.path}",
            )
