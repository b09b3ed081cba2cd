# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the machine a container, or a whole pod, asks for and gets."""

from __future__ import annotations

import msgspec

from minipod.api.field import Tables, all_refused, no, yes
from minipod.api.objects.base import Object, spelled_out


class ResourceRequirements(Object):
    """Quantities by resource.

    The resources are cpu, memory, ephemeral-storage, hugepages-<size>, and in limits minipod's own pids.
    """

    limits: dict[str, str] = msgspec.field(default_factory=dict)
    requests: dict[str, str] = msgspec.field(default_factory=dict)


class ContainerResizePolicy(Object):
    """Whether a container has to be restarted when *resource_name* (cpu, memory) of it is resized."""

    resource_name: str = ""
    restart_policy: str = spelled_out("NotRequired")


FIELDS: Tables = {
    "ResourceRequirements": {
        "claims": no(
            "[CoreV1ResourceClaim]",
            "remove it, there are no devices to claim",
            doc="Devices of the pod's resourceClaims that the container uses.",
        ),
        "limits": yes(
            "{quantity}",
            doc="The most that may be used, enforced by the kernel: cpu is throttled above it, memory above it ends in "
            "an out-of-memory kill; ephemeral-storage (logs, writable layer and emptyDirs on disk) above it evicts the "
            "pod. Also hugepages-<size>, and pids, minipod's own: the most processes and threads.",
        ),
        "requests": yes(
            "{quantity}",
            doc="What is set aside: cpu is the weight when the machine is busy; memory decides, with the limits, the "
            "quality-of-service class and who is killed first when memory runs out. Without a request the limit "
            "counts as one.",
        ),
    },
    "CoreV1ResourceClaim": all_refused("""
        name - One of the pod's resourceClaims.
        request - The request in it; all when not given.
        """),
    "ContainerResizePolicy": {
        "resourceName": yes(doc="Which resource the policy is for: cpu or memory."),
        "restartPolicy": yes(
            doc="NotRequired (the default): a running container is resized as it is. RestartContainer: it is restarted."
        ),
    },
}
