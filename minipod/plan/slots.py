# SPDX-License-Identifier: GPL-3.0-or-later
"""Which fd slot holds what while a container starts, and how a container's parts are called."""

from __future__ import annotations

from minipod.api import Pod, QosClass, qos_class

# fd slots. The first four are filled from outside: by the agent's fds in order, and by the shim's pipes.
# TREES and up are the volumes' trees.
CGROUP, STDIN, STDOUT, STDERR, JOIN, PROC, ROOT, MOUNT, PTY, DEV, SHM, CGROUPFS, USERS = range(13)
EXEC_STDIO = (0, 1, 2)  # an exec brings its own stdin, stdout and stderr first
TREES = 16
MAX_VOLUME_MOUNTS = 1000  # what MP_SLOTS of native/wire.h leaves

TERMINATION = "/termination"  # in the sandbox's root: the containers' termination messages
SANDBOX_NAMESPACES = ("mnt", "net", "uts", "ipc")


def process_key(container: str, attempt: int) -> str:
    """Return the shim's name for one run of a container."""
    return f"{container}/{attempt}"


def class_cgroup(parent: str, quality: QosClass) -> str:
    """Return the cgroup of the pods of a class, below *parent*: *parent* itself for Guaranteed."""
    return parent if quality == "Guaranteed" else f"{parent}/{quality.lower()}"


def pod_cgroup(parent: str, pod: Pod) -> str:
    """Return the cgroup of *pod*, by its class; a pod's class never changes."""
    return f"{class_cgroup(parent, qos_class(pod))}/pod{pod.metadata.uid}"


def termination_file(container: str, attempt: int) -> str:
    """Return the name of the message file of one run of a container, in ``TERMINATION``."""
    return f"{container}.{attempt}"


def container_cgroup(pod_cgroup: str, container: str, attempt: int) -> str:
    """Return the cgroup of one run of a container; a new one for each, so that counters start at zero."""
    return f"{pod_cgroup}/{container}.{attempt}"


def container_dir(pod_dir: str, container: str, attempt: int) -> str:
    """Return the directory of one run of a container, which holds its upper and work dirs."""
    return f"{pod_dir}/containers/{container}/{attempt}"
