# SPDX-License-Identifier: GPL-3.0-or-later
"""What minipod keeps about a pod beside its Kubernetes object: enough to carry on after the agent died at any instant.

A record says what should be; what is, the shim tells. It is written before the act that it announces.
"""

from __future__ import annotations

import msgspec

from minipod.api import ResourceRequirements


class Ended(msgspec.Struct):
    """How a run of a container ended; times in seconds since the epoch."""

    exit_code: int
    reason: str
    started: float
    finished: float
    signal: int = 0
    message: str = ""
    container_id: str = ""


class User(msgspec.Struct):
    """Whom the first process of a run was started as, by number."""

    uid: int
    gid: int
    groups: list[int]


class ContainerRecord(msgspec.Struct):
    """One container.

    Attributes:
        name: as in the manifest.
        state: ``waiting``, ``starting``, ``running`` or ``ended``.
        attempt: the number of the run that is starting, running, or was last; -1 before the first.
        reason, message: why it waits.
        pid: of the running process, in the host's PID namespace.
        started: when the present run began.
        ended: how the last run ended, once one has.
        previous: how the run before that ended.
        next_start: when it is to be started, while it waits; None when it is not.
        backoff, backoff_updated: see ``backoff.py``.
        image_id: the id of the image that it runs.
        hooking: its program runs, and its postStart hook has not returned yet: it is still ``starting``.
        unstarted: it runs, and its startup probe has not succeeded yet.
        unready: it runs, and its readiness probe has not succeeded yet, or has failed since.
        user: whom the present or last run was started as.
        pulls: how often in a row its image could not be had.
        next_pull: when that is tried again.
        sandbox: number of the sandbox in which the present or last run began; -1 before the first.
        stop_by: when it is killed, once it is to be stopped; of the present run.
        stop_why: why it is stopped, for the event; "" for the usual words.
        renew: it is stopped to be started again, with another image or because a resize wants it; until it is.
        allocated: the resources that were granted to it by a resize; None: what the manifest says.
        applied: the resources that its present run has, while a resize is under way; None: what was granted.
    """

    name: str
    state: str = "waiting"
    attempt: int = -1
    reason: str = "ContainerCreating"
    message: str = ""
    pid: int = 0
    started: float = 0.0
    ended: Ended | None = None
    previous: Ended | None = None
    next_start: float | None = 0.0
    backoff: float = 0.0
    backoff_updated: float = 0.0
    image_id: str = ""
    hooking: bool = False
    unstarted: bool = False
    unready: bool = False
    user: User | None = None
    pulls: int = 0
    next_pull: float = 0.0
    sandbox: int = -1
    stop_by: float | None = None
    stop_why: str = ""
    renew: bool = False
    allocated: ResourceRequirements | None = None
    applied: ResourceRequirements | None = None

    @property
    def is_up(self) -> bool:
        """Whether its program runs; its postStart hook may run, too."""
        return self.state == "running" or self.hooking

    @property
    def is_over(self) -> bool:
        """Whether it has ended and will not be started again."""
        return self.state == "ended"


class Failure(msgspec.Struct):
    """Why a pod as a whole has failed; *by* is when what still runs of it is killed."""

    reason: str
    message: str
    by: float


class Resize(msgspec.Struct):
    """A resize that is under way: wanted by the pod's spec, and not yet what all its containers have.

    Attributes:
        pending: why it is not granted, in words; "" once it is.
        error: why it could not be applied when that was last tried.
        started: it was granted.
    """

    pending: str = ""
    error: str = ""
    started: bool = False


class PodRecord(msgspec.Struct):
    """One pod.

    Attributes:
        sandbox: number of the present or last sandbox; -1 before the first.
        sandbox_up: a sandbox exists, or did when the record was written.
        boot: in which run of the kernel that was made (``Facts.boot``).
        sandbox_failures: sandboxes that could not be made, one after the other.
        address: the sandbox's address in the pool, or "".
        containers: in the order of the manifest, init containers first.
        source, lines: where the manifest was written.
        volume_images: per image volume of the present or last sandbox, the image's id.
        waits_for: why it cannot be started yet, as Kubernetes' scheduler says it.
        resize: the resize that is under way.
        delete_by: when its containers are killed, once it is being deleted.
        failure: why it is stopped and counts as failed, whatever its containers' ends.
        stop_by: when its sidecars are killed, once the other containers have ended.
    """

    sandbox: int = -1
    sandbox_up: bool = False
    boot: str = ""
    sandbox_failures: int = 0
    address: str = ""
    containers: list[ContainerRecord] = msgspec.field(default_factory=list)
    source: str = ""
    lines: dict[str, int] = msgspec.field(default_factory=dict)
    volume_images: dict[str, str] = msgspec.field(default_factory=dict)
    resize: Resize | None = None
    delete_by: float | None = None
    failure: Failure | None = None
    stop_by: float | None = None
    waits_for: str = ""

    def container(self, name: str) -> ContainerRecord:
        """Return the record of container *name*."""
        return next(c for c in self.containers if c.name == name)
