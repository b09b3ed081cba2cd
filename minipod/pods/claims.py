# SPDX-License-Identifier: GPL-3.0-or-later
"""The claims and network volumes of one pod: what it waits for, and where they are once it can start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from dataclasses import dataclass, field, replace

from minipod.api import NFSVolumeSource, PersistentVolume, Pod, members
from minipod.errors import MinipodError
from minipod.plan import Place, PodContext
from minipod.plan.context import Device, NfsMount
from minipod.pods.storage import BLOCK_FILE, Storage, claims_of
from minipod.runtime import loop
from minipod.runtime.runtime import host_path_type

_NFS_PORT = 2049
_NFS_PATIENCE = 10.0  # seconds for which a server may take to let itself be connected to


class MountFailed(MinipodError):
    """A volume could not be made ready; the kubelet's event for that is FailedMount."""


@dataclass(slots=True)
class Placed:
    """Where a pod's claims are: directories and files by volume, and devices by volume."""

    places: dict[str, Place] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)


def unmet(storage: Storage, pod: Pod) -> str:
    """Return why a pod has to wait for its claims, in the words of Kubernetes' scheduler, or "".

    The claims of its ephemeral volumes are made first.
    """
    storage.make_ephemeral(pod)
    meta = pod.metadata
    for volume, name in claims_of(pod).items():
        claim = storage.claim(meta.namespace, name)
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        owners = [owner.uid for owner in claim.metadata.owner_references]
        ephemeral = any(v.name == volume and v.ephemeral for v in pod.spec.volumes)
        if ephemeral and meta.uid not in owners:
            return f'PVC "{name}" was not created for pod "{meta.name}" (pod is not owner)'
        if claim.metadata.deletion_timestamp:
            return f'persistentvolumeclaim "{name}" is being deleted'
        if claim.status.phase == "Lost":
            gone = claim.spec.volume_name
            return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{gone}"'
        if claim.status.phase != "Bound":
            return "pod has unbound immediate PersistentVolumeClaims"
        if "ReadWriteOncePod" in claim.spec.access_modes and storage.is_taken(claim, pod):
            return (
                "node has pod using PersistentVolumeClaim with the same name "
                "and ReadWriteOncePod access mode"
            )
    return ""


def volume_of(storage: Storage, pod: Pod, volume: str) -> PersistentVolume | None:
    """Return the PersistentVolume that a volume of a pod is bound to, if it is a claim."""
    name = claims_of(pod).get(volume)
    claim = storage.claim(pod.metadata.namespace, name) if name else None
    return storage.volume(claim.spec.volume_name) if claim else None


def nfs_of(storage: Storage, pod: Pod) -> dict[str, tuple[NFSVolumeSource, tuple[str, ...]]]:
    """Return the network volumes of a pod by volume: the source, and further mount options."""
    result: dict[str, tuple[NFSVolumeSource, tuple[str, ...]]] = {}
    for volume in pod.spec.volumes:
        if volume.nfs is not None:
            result[volume.name] = volume.nfs, ()
        elif (bound := volume_of(storage, pod, volume.name)) and bound.spec.nfs is not None:
            result[volume.name] = bound.spec.nfs, tuple(bound.spec.mount_options)
    return result


def place(storage: Storage, pod: Pod) -> Placed:
    """Return where the claims and network volumes of a pod are; devices are made.

    Raises:
        MountFailed: one cannot be used.
    """
    result = Placed()
    read_only = {
        v.name for v in pod.spec.volumes if (c := v.persistent_volume_claim) and c.read_only
    }
    for name, (source, _) in nfs_of(storage, pod).items():
        locked = source.read_only or name in read_only
        result.places[name] = Place(
            f"/volumes/{name}", in_sandbox=True, read_only=locked, managed=False
        )
    for name in claims_of(pod):
        bound = volume_of(storage, pod, name)
        if bound is None:
            raise MountFailed(f"volume {name}: its claim is not bound")
        _check_use(pod, name, bound)
        if bound.spec.volume_mode == "Block":
            result.devices[name] = _device(storage, bound, name in read_only)
        elif name not in result.places:
            result.places[name] = _directory(storage, bound, name in read_only)
    return result


def _check_use(pod: Pod, name: str, bound: PersistentVolume) -> None:
    """A device is for volumeDevices, a directory for volumeMounts (the kubelet's ``GetMountsForPod``)."""
    mode = bound.spec.volume_mode
    for each in members(pod):
        container = each.container
        uses = container.volume_mounts if mode == "Block" else container.volume_devices
        if any(use.name == name for use in uses):
            where = "volumeMounts" if mode == "Block" else "volumeDevices"
            right = "volumeDevices" if mode == "Block" else "volumeMounts"
            raise MountFailed(
                f"volume {name} has volumeMode {mode}, but is specified in {where}", f"use {right}"
            )


def _directory(storage: Storage, bound: PersistentVolume, read_only: bool) -> Place:
    meta = bound.metadata
    if bound.spec.local is not None:
        path = bound.spec.local.path
        if host_path_type(path) != "directory":
            what = f'volume "{meta.name}": path "{path}" does not exist or is no directory'
            raise MountFailed(what, "make it, or correct spec.local.path")
        return Place(path, recursive=not storage.is_ours(bound), read_only=read_only)
    assert bound.spec.host_path is not None, "a volume has one source"
    source = bound.spec.host_path
    # Found out here and not by resolve, whose words are about the pod's own volumes.
    found = host_path_type(source.path)
    made = {"": "directory", "DirectoryOrCreate": "directory", "FileOrCreate": "file"}
    wanted = {
        "Directory": "directory",
        "DirectoryOrCreate": "directory",
        "File": "file",
        "FileOrCreate": "file",
        "Socket": "socket",
        "CharDevice": "char",
        "BlockDevice": "block",
    }.get(source.type, found)
    create = "" if found else made.get(source.type, "")
    if (found or create) != (wanted or create):
        what = f'volume "{meta.name}": hostPath type check failed: {source.path} is not a {wanted}'
        raise MountFailed(what, "make it, or correct spec.hostPath")
    return Place(
        source.path,
        found or create,
        recursive=True,
        read_only=read_only,
        create=create,
        managed=False,
    )


def _device(storage: Storage, bound: PersistentVolume, read_only: bool) -> Device:
    assert bound.spec.local is not None, "only a local volume can be a device"
    path = bound.spec.local.path
    try:
        if storage.is_ours(bound):
            path = loop.attach(f"{path}/{BLOCK_FILE}")
        seen = os.stat(path)
    except OSError as error:
        what = f'volume "{bound.metadata.name}": {error}'
        raise MountFailed(
            what, "see that it exists, and that this machine has loop devices"
        ) from error
    if not stat.S_ISBLK(seen.st_mode):
        what = f'volume "{bound.metadata.name}": {path} is no block device'
        raise MountFailed(what, "correct spec.local.path, or use volumeMode Filesystem")
    return Device(
        path,
        True,
        os.major(seen.st_rdev),
        os.minor(seen.st_rdev),
        stat.S_IMODE(seen.st_mode),
        seen.st_uid,
        seen.st_gid,
        read_only=read_only,
    )


async def connect_nfs(storage: Storage, pod: Pod) -> dict[str, NfsMount]:
    """Return how each network volume of a pod is mounted, after its server has answered.

    The kernel tries for minutes to reach a server, and cannot be told to stop; so we knock first.

    Raises:
        MountFailed: a server is not known, or does not answer.
    """
    result = {}
    for name, (source, options) in nfs_of(storage, pod).items():
        result[name] = NfsMount(
            address=await _knock(name, source),
            source=f"{source.server}:{source.path}",
            options=options,
        )
    return result


async def _knock(name: str, source: NFSVolumeSource) -> str:
    loop_ = asyncio.get_running_loop()
    what = f"MountVolume.SetUp failed for volume {name}: NFS server {source.server}"
    try:
        async with asyncio.timeout(_NFS_PATIENCE):
            found = await loop_.getaddrinfo(source.server, _NFS_PORT, type=socket.SOCK_STREAM)
            address = str(found[0][4][0])
            _, writer = await asyncio.open_connection(address, _NFS_PORT)
            writer.close()
            return address
    except TimeoutError:
        words = f"it did not answer for {_NFS_PATIENCE:.0f} s on port {_NFS_PORT}"
        raise MountFailed(f"{what}: {words}", "see that it runs and can be reached") from None
    except OSError as error:
        words = error.strerror or str(error)
        raise MountFailed(f"{what}: {words}", "see that it runs and can be reached") from error


def with_examples(context: PodContext, storage: Storage, pod: Pod) -> PodContext:
    """Return *context* with places for claims that need not be there yet: for a plan that is only shown."""
    placed = Placed()
    with contextlib.suppress(MountFailed):
        placed = place(storage, pod)
    for name, claim in claims_of(pod).items():
        if name not in placed.devices:
            made = Place(f"{storage.top}/{claim}")
            placed.places.setdefault(name, made)
            placed.devices[name] = Device(made.path, True, 7, 0, 0o660, 0, 0)
    servers = {
        name: NfsMount(source.server, f"{source.server}:{source.path}", options)
        for name, (source, options) in nfs_of(storage, pod).items()
    }
    return replace(context, places=placed.places, devices=placed.devices, nfs=servers)
