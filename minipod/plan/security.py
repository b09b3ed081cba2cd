# SPDX-License-Identifier: GPL-3.0-or-later
"""What the security contexts of a pod and a container come to together, as values that plans are made of.

The rules are Kubernetes' (``k8s.io/kubernetes/pkg/securitycontext``: the container's own fields go before the pod's)
and
containerd's (``internal/cri/server``, what capabilities and ``privileged`` mean).
"""

from __future__ import annotations

import msgspec

from minipod.api import Container, Pod, SecurityContext, members
from minipod.api.capabilities import ALL, CAPABILITIES, capability_name
from minipod.plan.context import Facts
from minipod.plan.defaults import DEFAULT_CAPABILITIES, capability_mask, capability_names

_SHARED = (
    "run_as_user",
    "run_as_group",
    "run_as_non_root",
    "seccomp_profile",
    "app_armor_profile",
)


def effective(pod: Pod, container: Container) -> SecurityContext:
    """Return the container's security context, completed by its pod's."""
    own, shared = container.security_context, pod.spec.security_context
    missing = {name: getattr(shared, name) for name in _SHARED if getattr(own, name) is None}
    return msgspec.structs.replace(own, **missing)


def wanted_capabilities(security: SecurityContext) -> frozenset[str]:
    """Return the capabilities that the manifest asks for, by name.

    First ALL, then each that is added, then each that is dropped; a privileged container has all, whatever it drops.
    """
    if security.privileged:
        return frozenset(CAPABILITIES)
    if security.capabilities is None:
        return DEFAULT_CAPABILITIES
    add = {capability_name(text) for text in security.capabilities.add}
    drop = {capability_name(text) for text in security.capabilities.drop}
    names = set(CAPABILITIES) if ALL in add else set(DEFAULT_CAPABILITIES)
    if ALL in drop:
        names.clear()
    return frozenset((names | add - {ALL}) - drop)


def given_capabilities(pod: Pod, security: SecurityContext, facts: Facts) -> int:
    """Return the mask of the capabilities that the container gets: those wanted that the agent has itself.

    In a user namespace of its own there are all: they have power over what belongs to it and nothing else.
    """
    wanted = capability_mask(wanted_capabilities(security))
    return wanted & facts.capabilities if pod.spec.host_users else wanted


def forbids_new_privileges(security: SecurityContext) -> bool:
    """Return whether no exec may give privileges."""
    return security.allow_privilege_escalation is False


def is_unmasked(security: SecurityContext) -> bool:
    """Return whether the container sees all of /proc."""
    return bool(security.privileged) or security.proc_mount == "Unmasked"


def lacking(pod: Pod, facts: Facts) -> list[str]:
    """Say which capabilities the manifest names and no container of this agent can get."""
    result: list[str] = []
    if not pod.spec.host_users:
        return result
    for found in members(pod):
        security = effective(pod, found.container)
        if security.privileged or (security.capabilities and security.capabilities.add):
            wanted = capability_mask(wanted_capabilities(security))
            if missing := capability_names(wanted & ~facts.capabilities):
                words = ", ".join(missing)
                result.append(f"container {found.name} is without {words}: the agent lacks them")
    return result


def origin(pod: Pod, at: str, container: Container, attribute: str, field: str) -> str:
    """Return the path of the manifest that sets *field*: the container's at *at*, the pod's, or ``""``."""
    if getattr(container.security_context, attribute) is not None:
        return f"{at}.securityContext.{field}"
    if getattr(pod.spec.security_context, attribute, None) is not None:
        return f"spec.securityContext.{field}"
    return ""
