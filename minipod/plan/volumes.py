# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: taken on the host as detached trees, attached in the container."""

from __future__ import annotations

import posixpath

from minipod.api import Container, Pod
from minipod.plan import steps as s
from minipod.plan.context import PodContext
from minipod.plan.slots import ROOT, TREES


def mount_order(container: Container) -> list[int]:
    """Return the indexes of the volume mounts, parents before what is mounted inside them."""
    mounts = container.volume_mounts
    return sorted(range(len(mounts)), key=lambda i: clean(mounts[i].mount_path).count("/"))


def clean(path: str) -> str:
    """Return an absolute path as it is compared: without doubled or trailing slashes and ``.``."""
    return posixpath.normpath("/" + path.lstrip("/"))


def host_trees(
    pod: Pod, container: Container, context: PodContext, at: str
) -> list[s.NamespaceStep]:
    """Take the volumes that lie on the host, while we still see its mounts; later no host path is looked up again."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    result: list[s.NamespaceStep] = []
    for i in mount_order(container):
        mount = container.volume_mounts[i]
        volume = volumes[mount.name]
        attributes = ("ro",) if mount.read_only else ()
        where = f"{at}.volumeMounts[{i}]"
        if volume.host_path:
            kind = context.host_paths.get(volume.name, "")
            step = s.OpenTree(
                slot=TREES + i,
                path=volume.host_path.path,
                type=kind,
                recursive=True,
                attributes=attributes,
                source=where,
            )
            result.append(step)
        elif volume.empty_dir and volume.empty_dir.medium != "Memory":
            path = f"{context.pod_dir}/volumes/{volume.name}"
            result.append(
                s.OpenTree(
                    slot=TREES + i, path=path, type="directory", attributes=attributes, source=where
                )
            )
    return result


def volume_mounts(
    pod: Pod, container: Container, context: PodContext, at: str
) -> list[s.NamespaceStep]:
    """Attach the volumes, parents before what is mounted inside them."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    result: list[s.NamespaceStep] = []
    for i in mount_order(container):
        mount = container.volume_mounts[i]
        volume = volumes[mount.name]
        where = f"{at}.volumeMounts[{i}]"
        if volume.empty_dir and volume.empty_dir.medium == "Memory":
            attributes = ("ro",) if mount.read_only else ()
            path = f"/volumes/{volume.name}"
            result.append(
                s.OpenTree(
                    slot=TREES + i, path=path, type="directory", attributes=attributes, source=where
                )
            )
        kind = context.host_paths.get(volume.name, "directory") if volume.host_path else "directory"
        create = "directory" if kind == "directory" else "file"
        result.append(
            s.Attach(slot=TREES + i, path=mount.mount_path, root=ROOT, create=create, source=where)
        )
    return result
