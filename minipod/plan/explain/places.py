# SPDX-License-Identifier: GPL-3.0-or-later
"""What the paths in a plan are there for: the reason of a step that makes or mounts one of them."""

from __future__ import annotations

import re

from minipod.plan import steps as s

_DIRECTORIES = (
    (r"/upper$", "the container's writable layer: what it changes of its image lands here"),
    (r"/work$", "the overlay filesystem needs it to move files into the upper directory at once"),
    (r"/volumes/[^/]+$", "the volume's content lies here, and goes with the pod"),
    (r"/empty/\d+$", "a read-only overlay has two layers at least: this one has nothing in it"),
    (r"/exits$", "the shim notes here how processes have ended, for an agent that was not there"),
    (r"/\d+/root$", "an empty place on which the sandbox mounts its own root"),
    (r"/pods/[^/]+/\d+$", "what lasts as long as the sandbox: the shim's socket"),
    (r"/pods/[^/]+$", "everything of the pod that lasts on disk is in one place, named by its uid"),
)


def directory(path: str) -> str:
    """Return what a directory of minipod's own is for."""
    if re.search(r"/[^/_]+_[^/_]+_[^/]+(/[^/]+)?$", path):
        return "the logs go here, under the names that tools for Kubernetes look for"
    return next(
        (why for pattern, why in _DIRECTORIES if re.search(pattern, path)),
        "something of the pod's has to lie there",
    )


def cgroup(path: str) -> str:
    """Return what a cgroup is for."""
    last = path.rpartition("/")[2]
    if last in ("burstable", "besteffort"):
        return "pods of one class share what is left in the class' proportion"
    if last == "sandbox":
        return "the pause process is counted in the pod, and not in any container"
    if re.fullmatch(r"pod[0-9a-f-]{36}", last):
        return "what all containers use together is limited and counted here"
    if re.search(r"\.\d+$", last):
        return (
            "a new one for each run, so that counters begin at zero and limits are the container's"
        )
    return "all pods lie below one group, so that together they can be weighed against the rest"


SYSCTLS = {
    "net.ipv4.ping_group_range": "every group may send pings, so no container needs NET_RAW",
    "net.ipv4.conf.all.route_localnet": "no packet from outside reaches the pod's loopback "
    "(CVE-2020-8558)",
}

FILESYSTEMS = {
    "proc": "a view of the processes (procfs)",
    "sysfs": "a view of the kernel's devices (sysfs)",
    "tmpfs": "a filesystem in memory",
    "devpts": "a set of terminals of its own (devpts)",
    "mqueue": "a view of the message queues",
    "cgroup2": "a view of its own cgroup",
    "cgroup": "a view of its own cgroup in one hierarchy",
    "hugetlbfs": "a filesystem of huge pages",
    "nfs": "a network filesystem",
}

_WHY_FILESYSTEM = {
    "proc": "nobody else has it: nothing of the container can stand over it while settings are "
    "written through it (CVE-2025-52881)",
    "sysfs": "the network it shows is the pod's; nothing in it can be written",
    "devpts": "the pod's terminals are not the host's, nor another container's",
    "mqueue": "the queues are those of the pod's IPC namespace",
    "cgroup2": "the container can read its own limits and no other cgroup",
    "cgroup": "the container can read its own limits and no other cgroup",
    "hugetlbfs": "the volume asks for huge pages",
    "nfs": "mounted once for the pod, from the host's network",
}


def why_filesystem(step: s.NewFilesystem) -> str:
    """Return what a new filesystem is for."""
    if step.type != "tmpfs":
        return _WHY_FILESYSTEM.get(step.type, "a volume needs it")
    if step.source:
        return "the volume lives in memory, with a limit to what it may take"
    return "what is written to it is gone with the pod; its size is bounded"


_MOUNT_POINTS = {
    "/proc": "the container sees the processes of its own PID namespace",
    "/sys": "programs read here what the machine has",
    "/dev": "the container gets a small set of devices, and none of the host's",
    "/dev/shm": "memory that all containers of the pod can share (shm_open)",
    "/shm": "memory that all containers of the pod can share (shm_open)",
    "/dev/pts": "terminals have names here",
    "/dev/mqueue": "POSIX message queues have names here",
    "/sys/fs/cgroup": "programs look here for their limits",
    "/rootfs": "the container's root has to be mounted somewhere before it can become the root",
    "/termination": "each container can leave a last message for the pod's status",
    "/etc/hosts": "the pod's names, the same for all its containers",
    "/etc/hostname": "the pod's name, the same for all its containers",
    "/etc/resolv.conf": "where names are looked up, as dnsPolicy says",
}
_MOUNTED_BELOW = (
    ("/sys/fs/cgroup/", "programs look here for their limits"),
    ("/termination/", "the container can leave a last message for the pod's status"),
    ("/volumes/", "the containers take their copies of the volume from here"),
    ("/files/", "the pod has one such file, of which every container gets a view"),
)


def mount_point(path: str) -> str:
    """Return why something is mounted at *path*."""
    if why := _MOUNT_POINTS.get(path):
        return why
    if path.endswith("/root"):
        return "the sandbox's own root: nothing of the host is behind it"
    below = (why for prefix, why in _MOUNTED_BELOW if path.startswith(prefix))
    return next(below, "the manifest wants it there")


def file(path: str) -> str:
    """Return why a file is written."""
    if path == "/files/hosts":
        return "it will be /etc/hosts of every container: the pod's own name and hostAliases"
    if path == "/files/resolv.conf":
        return "it will be /etc/resolv.conf: where names are looked up, as dnsPolicy says"
    if path == "/files/hostname":
        return "it will be /etc/hostname of every container"
    return "the container writes its last message into it, and the agent reads it at the end"


_MADE = {
    "/rootfs": "containers mount their root on it",
    "/files": "the pod's hosts, resolv.conf and hostname lie in it",
    "/volumes": "volumes of the pod's own are mounted below",
    "/termination": "the last messages get a filesystem of their own: whoever fills it harms no one",
    "/shm": "the shared memory is mounted on it",
    "/pts": "devpts is mounted on it",
    "/mqueue": "the message queues are mounted on it",
}


def made(path: str) -> str:
    """Return why a directory is made in a tree."""
    if path.startswith("/volumes/"):
        return "the volume is mounted on it"
    return _MADE.get(path, "something has to be mounted there, or the program starts in it")
