# SPDX-License-Identifier: GPL-3.0-or-later
"""Inside the container's own root: limits, and privileges given up in the order in which they are needed."""

from __future__ import annotations

from minipod.api import Container, Pod
from minipod.plan import steps as s
from minipod.plan.context import ContainerContext, Facts, PodContext
from minipod.plan.defaults import NOFILE, capability_mask, capability_names
from minipod.plan.resources import oom_score_adj
from minipod.plan.security import (
    effective,
    forbids_new_privileges,
    given_capabilities,
    origin,
)
from minipod.plan.slots import JOIN, PROC, PTY, STDERR, STDIN, STDOUT


def limits(pod: Pod, container: Container, facts: Facts, at: str) -> list[s.NamespaceStep]:
    """Set resource limits and the OOM score."""
    nofile = NOFILE if facts.can_raise_limits else min(NOFILE, facts.nofile_hard)
    score = oom_score_adj(pod, container, facts.memory)
    if not facts.can_raise_limits:
        score = max(0, score)  # said in the pod's status: see runtime/facts.py
    return [
        s.SetRlimit(name="nofile", soft=nofile, hard=nofile),
        s.SetOomScoreAdj(proc=PROC, value=score, source=f"{at}.resources"),
    ]


def own_files(context: PodContext) -> list[s.NamespaceStep]:
    """Have what is made from here on belong to the root of the pod's user namespace, if it has one."""
    if context.users is None:
        return []
    root = context.outside(0)
    return [s.OwnFiles(uid=root, gid=root, source="spec.hostUsers")]


def stdio(container: Container) -> s.SetStdio:
    """Set the standard streams."""
    if container.tty:
        return s.SetStdio(slots=(PTY, PTY, PTY), terminal=True)
    return s.SetStdio(slots=(STDIN, STDOUT, STDERR))


def drop(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    at: str,
    *,
    users: int,
) -> list[s.NamespaceStep]:
    """Return the steps from root with all capabilities to the container's own user with what it may have.

    *users* is the slot with the pod's user namespace, or the pidfd of a process in it. It is entered when all is done
    that takes power over the host.
    """
    security = effective(pod, container)
    bounding = given_capabilities(pod, security, facts)
    unprivileged = forbids_new_privileges(security)
    until_exec = bounding
    if run.seccomp and not unprivileged:
        # Without no_new_privs the filter needs CAP_SYS_ADMIN (seccomp(2)); execve then drops it, because it is not in
        # the bounding set. With no_new_privs execve gives nothing that is not permitted before: so no more than that.
        until_exec |= capability_mask({"SYS_ADMIN"})
    user = origin(pod, at, container, "run_as_user", "runAsUser")
    where = f"{at}.securityContext"
    result: list[s.NamespaceStep] = []
    if run.apparmor:
        source = origin(pod, at, container, "app_armor_profile", "appArmorProfile")
        result.append(s.ApplyAppArmor(proc=PROC, profile=run.apparmor, source=source))
    if owner := context.outside(run.uid):
        result.append(s.OwnStdio(uid=owner))
    if context.users:
        result.append(s.EnterUserNamespace(slot=users, source="spec.hostUsers"))
        if users != JOIN:
            # A copy of the mounts that belongs to the user namespace: its root may change it, but take nothing away
            # that was put there to hide or to protect (mount_namespaces(7), "Restrictions on mount namespaces").
            result.append(s.Unshare(namespaces=("mnt", "cgroup"), source="spec.hostUsers"))
    result += [
        s.SetIdentity(
            uid=run.uid,
            gid=run.gid,
            groups=run.groups,
            source=user or f"{at}.image",
        ),
        s.SetCapabilities(
            bounding=bounding,
            until_exec=until_exec,
            names=capability_names(bounding),
            source=f"{where}.privileged" if security.privileged else f"{where}.capabilities",
        ),
    ]
    if unprivileged:
        result.append(s.NoNewPrivs(source=f"{where}.allowPrivilegeEscalation"))
    result.append(s.Chdir(path=working_dir(container, run), source=f"{at}.workingDir"))
    if run.seccomp:
        result.append(
            s.LoadSeccomp(
                program=run.seccomp,
                profile=run.seccomp_profile,
                flags=run.seccomp_flags,
                source=origin(pod, at, container, "seccomp_profile", "seccompProfile"),
            )
        )
    result.append(s.CloseRange())
    return result


def working_dir(container: Container, run: ContainerContext) -> str:
    """Return where the process starts: the manifest's, the image's, or /."""
    return container.working_dir or run.working_dir or "/"


def join_v1(facts: Facts, cgroup: str) -> list[s.NamespaceStep]:
    """Join the cgroups of the v1 hierarchies."""
    return [
        s.JoinCgroup(directory=f"{h.directory}/{cgroup}")
        for h in facts.hierarchies
        if h.version == 1
    ]
