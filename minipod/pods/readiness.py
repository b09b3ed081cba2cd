# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a container has started and is ready, as its status says and as others wait for it. Pure."""

from __future__ import annotations

from minipod.api import Member
from minipod.pods.record import ContainerRecord


def started(member: Member, record: ContainerRecord) -> bool:
    """Whether the container runs and has started."""
    return record.state == "running" and not record.unstarted


def ready(member: Member, record: ContainerRecord) -> bool:
    """Whether the container counts as ready; a regular init container does when it has succeeded,
    an ephemeral one never."""
    if member.kind == "init" and not member.is_sidecar:
        return record.is_over and record.ended is not None and record.ended.exit_code == 0
    return member.kind != "ephemeral" and started(member, record) and not record.unready
