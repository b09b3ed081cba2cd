# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a container runs as, from its image and the security contexts.

The rules are the kubelet's (``pkg/kubelet/kuberuntime/security_context.go``) and containerd's: a numeric user need not
be in the image's files; the image's files give the primary group and the home unless the manifest does; and with the
policy Merge they give supplementary groups. Worked out anew for each run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minipod.api import Container, Pod
from minipod.images import Image, resolve_user
from minipod.plan.context import USER_IDS
from minipod.plan.security import effective
from minipod.pods.errors import ConfigError

_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a first process is.

    Attributes:
        uid, gid: the user and the primary group.
        groups: all groups: the primary one first, then the others, sorted.
        home: the home directory.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def credentials(pod: Pod, container: Container, image: Image) -> Credentials:
    """Return whom *container* runs as.

    Raises:
        ConfigError: it must not be root and would be, or might be; or the pod's user namespace lacks an id.
        MinipodError: the image has no such user or group, or its files make no sense.
    """
    security, shared = effective(pod, container), pod.spec.security_context
    user, _, group = image.config.user.partition(":")
    if security.run_as_user is not None:
        user, group = str(security.run_as_user), ""
    if security.run_as_group is not None:
        group = str(security.run_as_group)
    found = resolve_user(image, f"{user or 0}:{group}" if group else user)
    if security.run_as_non_root:
        _check_non_root(pod, container, user, security.run_as_user, found.uid)
    groups = set(shared.supplemental_groups)
    if shared.supplemental_groups_policy != "Strict":
        groups.update(found.groups)
    if shared.fs_group is not None:
        groups.add(shared.fs_group)
    if not pod.spec.host_users and (highest := max(found.uid, found.gid, *groups, 0)) >= USER_IDS:
        raise ConfigError(
            f"id {highest} does not exist in a pod with hostUsers: false",
            f"use ids below {USER_IDS}",
        )
    # With the primary one: a group that is only primary could be dropped to gain what is denied to it
    # (CVE-2022-36109).
    return Credentials(found.uid, found.gid, (found.gid, *sorted(groups - {found.gid})), found.home)


def _check_non_root(
    pod: Pod, container: Container, user: str, run_as_user: int | None, uid: int
) -> None:
    """Apply ``runAsNonRoot`` to the user that was really found, with the kubelet's words."""
    meta = pod.metadata
    who = f'(pod: "{meta.name}_{meta.namespace}({meta.uid})", container: {container.name})'
    remedy = "set securityContext.runAsUser to another number than 0"
    if run_as_user is not None and uid == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {who}", remedy)
    if run_as_user is None and user and not _NUMBER.fullmatch(user):
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({user}), "
            f"cannot verify user is non-root {who}",
            remedy,
        )
    if uid == 0:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {who}", remedy)
