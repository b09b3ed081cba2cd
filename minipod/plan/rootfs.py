# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's root besides its image: /proc, /sys, /dev, cgroups, the pod's files, and what is hidden."""

from __future__ import annotations

import posixpath

from minipod.api import Container, Pod
from minipod.plan import steps as s
from minipod.plan.context import ContainerContext, Facts, PodContext
from minipod.plan.defaults import (
    DEVICE_LINKS,
    DEVICES,
    MASKED_PROC,
    MASKED_SYS,
    READONLY_PROC,
    TTY_GID,
)
from minipod.plan.security import effective, is_unmasked
from minipod.plan.slots import (
    CGROUPFS,
    DEV,
    MOUNT,
    PROC,
    ROOT,
    SHM,
    STDIN,
    TERMINATION,
    termination_file,
)
from minipod.plan.volumes import clean


def root_mounts(
    pod: Pod, container: Container, context: PodContext, run: ContainerContext, facts: Facts
) -> list[s.NamespaceStep]:
    """Mount /proc, /sys, /dev and the cgroups."""
    own = {clean(mount.mount_path) for mount in container.volume_mounts}
    quiet = ("nosuid", "nodev", "noexec")
    kept: tuple[str, ...] = quiet if container.security_context.privileged else ("ro", *quiet)
    result: list[s.NamespaceStep] = [
        s.Attach(slot=PROC, path="/proc", root=ROOT, create="directory", no_symlinks=True),
        s.NewFilesystem(slot=MOUNT, type="sysfs", attributes=kept),
        s.Attach(slot=MOUNT, path="/sys", root=ROOT, create="directory", no_symlinks=True),
    ]
    result += _devices(run)
    if not (container.stdin or container.tty):
        # Not the shim's /dev/null, which is the host's: the container's root could chmod what it has open.
        result.append(s.OpenFile(slot=STDIN, path="/dev/null", root=ROOT))
    if "/dev/shm" not in own:
        if not pod.spec.host_ipc:
            result.append(s.OpenTree(slot=SHM, path="/shm", type="directory"))
        result.append(s.Attach(slot=SHM, path="/dev/shm", root=ROOT, no_symlinks=True))
    result += [
        s.NewFilesystem(
            slot=MOUNT,
            type="devpts",
            options=(
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                f"gid={context.outside(TTY_GID)}",
            ),
            attributes=("nosuid", "noexec"),
        ),
        s.Attach(slot=MOUNT, path="/dev/pts", root=ROOT, no_symlinks=True),
    ]
    if "/dev/mqueue" not in own:
        result += [
            s.NewFilesystem(slot=MOUNT, type="mqueue", attributes=quiet),
            s.Attach(slot=MOUNT, path="/dev/mqueue", root=ROOT, no_symlinks=True),
        ]
    result += _cgroup_mounts(facts, kept)
    return result


def etc_files(container: Container) -> list[s.NamespaceStep]:
    """The pod's own files come on top of the volumes, so that one on /etc does not hide them (containerd's order)."""
    own = {clean(mount.mount_path) for mount in container.volume_mounts}
    result: list[s.NamespaceStep] = []
    for name in ("hosts", "resolv.conf", "hostname"):
        if f"/etc/{name}" not in own:
            # As containerd: with a read-only root these two are, too, and the kubelet's hosts file is not.
            sealed = container.security_context.read_only_root_filesystem and name != "hosts"
            attributes = ("ro",) if sealed else ()
            result += [
                s.OpenTree(slot=MOUNT, path=f"/files/{name}", type="file", attributes=attributes),
                s.Attach(slot=MOUNT, path=f"/etc/{name}", root=ROOT, create="file"),
            ]
    return result


def message_file(container: Container, attempt: int, at: str) -> list[s.NamespaceStep]:
    """The file for the container's last words, which the agent reads when it has ended."""
    name = termination_file(container.name, attempt)
    where = f"{at}.terminationMessagePath"
    return [
        s.OpenFile(slot=MOUNT, path=TERMINATION),
        s.WriteFile(path=f"/{name}", root=MOUNT, content="", mode=0o666),
        s.OpenTree(slot=MOUNT, path=f"{TERMINATION}/{name}", type="file", source=where),
        s.Attach(
            slot=MOUNT,
            path=container.termination_message_path,
            root=ROOT,
            create="file",
            no_symlinks=clean(container.termination_message_path).startswith("/dev/"),
            source=where,
        ),
    ]


def _devices(run: ContainerContext) -> list[s.NamespaceStep]:
    result: list[s.NamespaceStep] = [
        s.NewFilesystem(
            slot=DEV,
            type="tmpfs",
            options=("mode=0755", "size=65536k"),
            attributes=("nosuid", "noexec"),
        )
    ]
    result += [
        s.Mknod(path=f"/{name}", root=DEV, major=major, minor=minor)
        for name, major, minor in DEVICES
    ]
    result += [s.Symlink(path=f"/{name}", target=target, root=DEV) for name, target in DEVICE_LINKS]
    result += [s.Mkdir(path=f"/{name}", root=DEV) for name in ("pts", "shm", "mqueue")]
    result += _host_devices(run)
    result.append(s.Attach(slot=DEV, path="/dev", root=ROOT, create="directory", no_symlinks=True))
    return result


def _host_devices(run: ContainerContext) -> list[s.NamespaceStep]:
    """Make the devices of the host, but those that every container has of its own."""
    own = {name for name, *_ in (*DEVICES, *DEVICE_LINKS)} | {"pts", "shm", "mqueue", "console"}
    result: list[s.NamespaceStep] = []
    made: set[str] = set()
    for device in run.devices:
        if device.path.split("/")[1] in own:
            continue
        directory = posixpath.dirname(device.path)
        if directory != "/" and directory not in made:
            made.add(directory)
            result.append(s.Mkdir(path=directory, root=DEV, parents=True))
        result.append(
            s.Mknod(
                path=device.path,
                root=DEV,
                major=device.major,
                minor=device.minor,
                mode=device.mode,
                block=device.block,
                owner=(device.uid, device.gid),
            )
        )
    return result


def _cgroup_mounts(facts: Facts, attributes: tuple[str, ...]) -> list[s.NamespaceStep]:
    """Show the container its own cgroup: one mount on cgroup v2, one per hierarchy on v1."""
    v1 = [h for h in facts.hierarchies if h.version == 1]
    if not v1:
        return [
            s.NewFilesystem(slot=MOUNT, type="cgroup2", attributes=attributes),
            s.Attach(slot=MOUNT, path="/sys/fs/cgroup", root=ROOT, no_symlinks=True),
        ]
    result: list[s.NamespaceStep] = [
        s.NewFilesystem(
            slot=CGROUPFS,
            type="tmpfs",
            options=("mode=0755", "nr_inodes=64"),
            attributes=("nosuid", "nodev", "noexec"),
        ),
        *(s.Mkdir(path=f"/{h.name}", root=CGROUPFS) for h in v1),
        s.Attach(slot=CGROUPFS, path="/sys/fs/cgroup", root=ROOT, no_symlinks=True),
    ]
    for hierarchy in v1:
        result += [
            s.NewFilesystem(
                slot=MOUNT, type="cgroup", options=hierarchy.controllers, attributes=attributes
            ),
            s.Attach(
                slot=MOUNT, path=f"/sys/fs/cgroup/{hierarchy.name}", root=ROOT, no_symlinks=True
            ),
        ]
    if "ro" in attributes:
        step = s.SetMountAttributes(slot=CGROUPFS, what="/sys/fs/cgroup", attributes=("ro",))
        result.append(step)
    return result


def hide(pod: Pod, container: Container, facts: Facts) -> list[s.NamespaceStep]:
    """Mask and protect paths of /proc and /sys."""
    security = effective(pod, container)
    result: list[s.NamespaceStep] = []
    if not is_unmasked(security):
        # Read-only first: some paths are in both lists, and what masks them is no procfs any more.
        result += [
            s.ReadonlyPaths(root=ROOT, paths=READONLY_PROC, on_proc=True),
            s.MaskPaths(root=ROOT, paths=MASKED_PROC, on_proc=True),
        ]
    if not security.privileged:
        result.append(s.MaskPaths(root=ROOT, paths=MASKED_SYS + facts.masked_sys))
    return result
