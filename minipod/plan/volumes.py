# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: taken as detached trees where their content lies, attached in the container."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from minipod.api import Container, Pod, Volume, VolumeMount
from minipod.errors import MinipodError
from minipod.plan import steps as s
from minipod.plan.command import expand
from minipod.plan.context import ContainerContext, Place, PodContext
from minipod.plan.slots import MOUNT, ROOT, TREES, USERS

_PROPAGATION = {"HostToContainer": "slave", "Bidirectional": "shared"}
_MISSING = re.compile(r"\$\(([^)]*)\)")


class SubPathError(MinipodError):
    """``subPathExpr`` does not give a path inside its volume."""


def mount_order(container: Container) -> list[int]:
    """Return the indexes of the volume mounts, parents before what is mounted inside them."""
    mounts = container.volume_mounts
    return sorted(range(len(mounts)), key=lambda i: clean(mounts[i].mount_path).count("/"))


def clean(path: str) -> str:
    """Return an absolute path as it is compared: without doubled or trailing slashes and ``.``."""
    return posixpath.normpath("/" + path.lstrip("/"))


def in_sandbox(volume: Volume) -> bool:
    """Whether a volume is a filesystem of its own that the sandbox mounts: a tmpfs, or one of huge pages."""
    return volume.empty_dir is not None and volume.empty_dir.medium != ""


def place_of(volume: Volume, context: PodContext) -> Place:
    """Return where the content of a volume lies."""
    if volume.name in context.places:
        return context.places[volume.name]
    if volume.host_path:
        kind = context.host_paths.get(volume.name, "")
        return Place(volume.host_path.path, kind, recursive=True)
    if in_sandbox(volume):
        return Place(f"/volumes/{volume.name}", in_sandbox=True)
    if volume.files or volume.image:
        # The kubelet's Attributes.ReadOnly: no container writes to these, whatever its mount says.
        return Place(f"/volumes/{volume.name}", read_only=True, in_sandbox=True)
    return Place(f"{context.pod_dir}/volumes/{volume.name}")


def propagates(mount: VolumeMount) -> bool:
    """Whether mounts that are made later below the volume are seen on its other side."""
    return mount.mount_propagation in _PROPAGATION


def sub_path(mount: VolumeMount, env: Mapping[str, str], at: str) -> str:
    """Return which path of the volume is mounted, "" for all of it.

    Raises:
        SubPathError: ``subPathExpr`` does not give a path inside the volume, by the kubelet's rules.
    """
    if not mount.sub_path_expr:
        return mount.sub_path
    for name in _MISSING.findall(mount.sub_path_expr.replace("$$", "")):
        if name not in env:
            raise SubPathError(
                f"{at}.subPathExpr: the container has no variable {name}", "set it in env"
            )
    path = expand(mount.sub_path_expr, env)
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        # Without the values, which may be secret.
        raise SubPathError(
            f"{at}.subPathExpr: what {mount.sub_path_expr!r} gives is not a path inside the volume",
            "it must be relative and without ..",
        )
    return path


def host_trees(
    pod: Pod, container: Container, context: PodContext, env: Mapping[str, str], at: str
) -> list[s.NamespaceStep]:
    """Take the volumes that lie on the host, while we still see its mounts; later no host path is looked up again.

    In a user namespace they are shown with its ids; those that the sandbox mounts are made with them.
    """
    users = USERS if context.users else -1
    return [
        _open(container.volume_mounts[i], i, place, env, at, users)
        for i, place in _places(pod, container, context)
        if not place.in_sandbox
    ]


def sandbox_trees(
    pod: Pod,
    container: Container,
    context: PodContext,
    env: Mapping[str, str],
    at: str,
    *,
    propagating: bool,
) -> list[s.NamespaceStep]:
    """Take the volumes that the sandbox has mounted.

    Those whose mounts propagate are taken in the sandbox's own mount namespace, before ours is cut off from it.
    """
    mounts = container.volume_mounts
    return [
        _open(mounts[i], i, place, env, at)
        for i, place in _places(pod, container, context)
        if place.in_sandbox and propagates(mounts[i]) == propagating
    ]


def _places(pod: Pod, container: Container, context: PodContext) -> list[tuple[int, Place]]:
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    mounts = container.volume_mounts
    return [(i, place_of(volumes[mounts[i].name], context)) for i in mount_order(container)]


def _open(
    mount: VolumeMount,
    index: int,
    place: Place,
    env: Mapping[str, str],
    at: str,
    users: int = -1,
) -> s.OpenTree:
    source = f"{at}.volumeMounts[{index}]"
    read_only = ("ro",) if mount.read_only or place.read_only else ()
    # A kernel that has mount_setattr(2), which minipod needs anyway, can do it: IfPossible is Enabled.
    recursive = mount.recursive_read_only in ("IfPossible", "Enabled")
    return s.OpenTree(
        slot=TREES + index,
        path=place.path,
        type=place.type,
        recursive=place.recursive or propagates(mount),
        attributes=(*(() if recursive else read_only), *mount.bind_mount_options),
        recursive_attributes=read_only if recursive else (),
        inside=sub_path(mount, env, source),
        written=mount.sub_path_expr,
        propagation=_PROPAGATION.get(mount.mount_propagation or "", "private"),
        users=users,
        source=source,
    )


def volume_mounts(
    pod: Pod, container: Container, context: PodContext, at: str
) -> list[s.NamespaceStep]:
    """Attach the volumes, parents before what is mounted inside them."""
    result: list[s.NamespaceStep] = []
    for i, place in _places(pod, container, context):
        mount = container.volume_mounts[i]
        create = "directory" if place.type == "directory" else "file"
        if mount.sub_path or mount.sub_path_expr:
            create = "same"
        result.append(
            s.Attach(
                slot=TREES + i,
                path=mount.mount_path,
                root=ROOT,
                create=create,
                source=f"{at}.volumeMounts[{i}]",
            )
        )
    return result


def declared_volumes(container: Container, run: ContainerContext, at: str) -> list[s.NamespaceStep]:
    """Make the directories that the image declares to be volumes, each a mount of its own.

    As with containerd each run of a container has its own, with what the image has there, and may write to it even if
    its root is read-only. It is the writable layer once more, so nothing is copied. What the manifest mounts comes
    later, and so on top.
    """
    own = {clean(mount.mount_path) for mount in container.volume_mounts}
    result: list[s.NamespaceStep] = []
    for path in run.declared_volumes:
        if path not in own:
            source = f"{at}.image"
            tree = s.OpenTree(
                slot=MOUNT, path="/", root=ROOT, type="directory", inside=path, source=source
            )
            attach = s.Attach(slot=MOUNT, path=path, root=ROOT, create="same", source=source)
            result += [tree, attach]
    return result


def device_rules(
    container: Container, context: PodContext
) -> tuple[tuple[str, int, int, str], ...]:
    """Return what a container's cgroup allows besides the default list: the devices of its claims."""
    devices = [context.devices[device.name] for device in container.volume_devices]
    return tuple(("b", d.major, d.minor, "rm" if d.read_only else "rwm") for d in devices)


def volume_devices(container: Container, context: PodContext, at: str) -> list[s.NamespaceStep]:
    """Make the nodes of the block devices."""
    result: list[s.NamespaceStep] = []
    for i, wanted in enumerate(container.volume_devices):
        device, path = context.devices[wanted.name], clean(wanted.device_path)
        source = f"{at}.volumeDevices[{i}]"
        parent = posixpath.dirname(path)
        if parent not in ("/", "/dev"):
            result.append(s.Mkdir(path=parent, root=ROOT, parents=True, source=source))
        result.append(
            s.Mknod(
                path=path,
                root=ROOT,
                major=device.major,
                minor=device.minor,
                mode=device.mode,
                block=device.block,
                owner=(device.uid, device.gid),
                source=source,
            )
        )
    return result
