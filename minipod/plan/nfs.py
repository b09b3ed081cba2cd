# SPDX-License-Identifier: GPL-3.0-or-later
"""Network volumes: mounted once for the pod, in the network of the host, and attached in the sandbox."""

from __future__ import annotations

from minipod.api import Pod
from minipod.plan import steps as s
from minipod.plan.context import NfsMount, PodContext

_SLOTS = 16
"""The first fd slot of the network volumes."""


def open_nfs(pod: Pod, context: PodContext) -> list[s.NamespaceStep]:
    """Mount them, detached, while we are in the host's network: the pod's need not reach the server."""
    return [
        s.NewFilesystem(
            slot=_SLOTS + i,
            type="nfs",
            options=_options(mount),
            name=mount.source,
            source=f"spec.volumes[{i}]",
        )
        for i, _, mount in _mounts(pod, context)
    ]


def attach_nfs(pod: Pod, context: PodContext, tree: int) -> list[s.NamespaceStep]:
    """Attach them below ``/volumes`` of the sandbox's root, which is in slot *tree*."""
    result: list[s.NamespaceStep] = []
    for i, name, _ in _mounts(pod, context):
        path, source = f"/volumes/{name}", f"spec.volumes[{i}]"
        result += [
            s.Mkdir(path=path, root=tree, source=source),
            s.Attach(slot=_SLOTS + i, path=path, root=tree, no_symlinks=True, source=source),
        ]
    return result


def _mounts(pod: Pod, context: PodContext) -> list[tuple[int, str, NfsMount]]:
    return [
        (i, volume.name, context.nfs[volume.name])
        for i, volume in enumerate(pod.spec.volumes)
        if volume.name in context.nfs
    ]


def _options(mount: NfsMount) -> tuple[str, ...]:
    """Return the options that mount.nfs(8) would give to the kernel."""
    given = {option.partition("=")[0] for option in mount.options}
    options = [f"addr={mount.address}", *mount.options]
    if not given & {"vers", "nfsvers", "v3", "v4", "v4.0", "v4.1", "v4.2"}:
        options.append("vers=4.2")
    return tuple(option.replace("nfsvers=", "vers=") for option in options)
