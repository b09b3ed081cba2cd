# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes that lie in the sandbox: files that the agent writes, and images.

They are mounted once, below /volumes of the pod's own root, from which each container takes its copy. So they are the
same for all containers, last as long as the sandbox, and leave nothing behind.
"""

from __future__ import annotations

from minipod.api import Pod, Volume
from minipod.plan import steps as s
from minipod.plan.context import Facts, PodContext
from minipod.plan.defaults import FILE_VOLUMES_BYTES, IMAGE_VOLUME_ATTRIBUTES, VOLUME_ATTRIBUTES

_IMAGES = 16
"""The first fd slot of the image volumes."""


def prepare_images(pod: Pod, context: PodContext) -> list[s.Step]:
    """Make the empty layers that a read-only overlay, of two at least, needs below an image with fewer."""
    missing = max((2 - len(layers) for layers in context.image_layers.values()), default=0)
    return [s.MakeDirectory(path=_empty(context, i), mode=0o755) for i in range(missing)]


def _empty(context: PodContext, number: int) -> str:
    return f"{context.run_dir}/empty/{number}"


def open_images(
    pod: Pod, context: PodContext, facts: Facts, *, users: int
) -> list[s.NamespaceStep]:
    """Make the image volumes' overlays, while we see the host's directories; *users* is the slot of a user namespace.

    Before anything else is mounted: the legacy form leaves the mount namespace.
    """
    result: list[s.NamespaceStep] = []
    for i, volume in _images(pod):
        lower = tuple(reversed(context.image_layers[volume.name]))
        lower += tuple(_empty(context, i) for i in range(2 - len(lower)))
        overlay = s.NewOverlay(
            slot=_IMAGES + i,
            lower=lower,
            scratch=f"{context.run_dir}/root",
            attributes=IMAGE_VOLUME_ATTRIBUTES,
            legacy=context.users is not None or not facts.overlay_appends_layers,
            users=users if context.users else -1,
            source=f"spec.volumes[{i}].image",
        )
        result.append(overlay)
    return result


def mount_volumes(pod: Pod, facts: Facts, *, tree: int, mount: int) -> list[s.NamespaceStep]:
    """Mount the volumes below ``/volumes`` of the sandbox's root, which is in slot *tree*; *mount* is a free slot."""
    result: list[s.NamespaceStep] = []
    for i, volume in enumerate(pod.spec.volumes):
        path, source = f"/volumes/{volume.name}", f"spec.volumes[{i}]"
        if volume.files:
            # Writable by root alone, unlike the kubelet's: a container in the pod's PID namespace may get to see it
            # through /proc/1/root. The agent writes into it when it is there (minipod/runtime/atomic.py).
            kept = ("noswap",) if facts.tmpfs_stays_in_memory else ()
            result += [
                s.Mkdir(path=path, root=tree, source=source),
                s.NewFilesystem(
                    slot=mount,
                    type="tmpfs",
                    # Twice: new files are written beside the old ones.
                    options=("mode=0755", f"size={2 * FILE_VOLUMES_BYTES}", *kept),
                    attributes=VOLUME_ATTRIBUTES,
                    source=source,
                ),
                s.Attach(slot=mount, path=path, root=tree, no_symlinks=True, source=source),
            ]
        elif volume.image:
            result += [
                s.Mkdir(path=path, root=tree, source=source),
                s.Attach(slot=_IMAGES + i, path=path, root=tree, no_symlinks=True, source=source),
            ]
    return result


def _images(pod: Pod) -> list[tuple[int, Volume]]:
    return [(i, volume) for i, volume in enumerate(pod.spec.volumes) if volume.image]
