# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes over what a new version of a manifest says of a pod that lives: labels, annotations, images, the deadline.

A container whose image is another one is stopped, and started again whatever its restart policy says, as by a
kubelet (``computePodActions``: the container's definition has changed).
"""

from __future__ import annotations

from minipod.api import Member, Pod, members
from minipod.api.validation.update import changed_fields
from minipod.pods import order
from minipod.pods.core import PodCore
from minipod.pods.record import ContainerRecord
from minipod.pods.stopping import Stopping

OURS = "minipod.dev/"
"""Annotations with this prefix are written by the agent and stay."""


def differs(old: Pod, new: Pod, written: set[str]) -> bool:
    """Whether *new* says anything that *old* does not; *written* as for ``changed_fields``."""
    return (
        old.metadata.labels != new.metadata.labels
        or _written(old) != new.metadata.annotations
        or bool(changed_fields(old, new, written))
    )


def _written(pod: Pod) -> dict[str, str]:
    return {k: v for k, v in pod.metadata.annotations.items() if not k.startswith(OURS)}


def take_over(core: PodCore, stopping: Stopping, new: Pod, written: set[str]) -> None:
    """Make the pod what *new* (checked by ``check_pod_update``) says."""
    meta, spec = core.pod.metadata, core.pod.spec
    if changed_fields(core.pod, new, written):
        meta.generation = (meta.generation or 1) + 1
    ours = {k: v for k, v in meta.annotations.items() if k.startswith(OURS)}
    meta.labels, meta.annotations = new.metadata.labels, new.metadata.annotations | ours
    if new.spec.active_deadline_seconds is not None:
        spec.active_deadline_seconds = new.spec.active_deadline_seconds
    wanted = {found.name: found.container.image for found in members(new)}
    for found, record in order.pairs(core.pod, core.record):
        image = wanted.get(found.name, found.container.image)
        if image != found.container.image:
            found.container.image = image
            _renew(core, stopping, found, record)


def _renew(core: PodCore, stopping: Stopping, found: Member, record: ContainerRecord) -> None:
    """A container has another image: what runs of the old one is stopped, what waits need not wait any more."""
    # The back-off is that of a definition, and this is a new one.
    record.backoff, record.backoff_updated, record.pulls, record.next_pull = 0.0, 0.0, 0, 0.0
    if record.state == "waiting":
        if record.next_start is not None:
            record.next_start = core.now()
    elif record.state in order.LIVE and (found.kind == "app" or found.is_sidecar):
        record.renew = True
        words = f"Container {found.name} definition changed, will be restarted"
        stopping.ask(record, core.now() + core.pod.spec.termination_grace_period_seconds, words)
