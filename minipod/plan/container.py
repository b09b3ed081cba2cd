# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles one run of a container.

The order is a security property (docs/architecture.md, "The launch order"): host paths are opened first, as detached
trees; then the sandbox's namespaces are entered; then the mount tree is built by fd; then the root is pivoted; then
privileges are given up, in the order in which each step needs what the next one drops.
"""

from __future__ import annotations

from minipod.api import Container, Pod, member
from minipod.errors import UsageError
from minipod.plan import sandbox
from minipod.plan import steps as s
from minipod.plan.command import argv, candidates, environment
from minipod.plan.context import ContainerContext, Facts, PodContext
from minipod.plan.defaults import PATH
from minipod.plan.privileges import drop, join_v1, limits, own_files, stdio, working_dir
from minipod.plan.resources import container_writes
from minipod.plan.rootfs import etc_files, hide, message_file, root_mounts
from minipod.plan.slots import (
    JOIN,
    MAX_VOLUME_MOUNTS,
    PROC,
    PTY,
    ROOT,
    SANDBOX_NAMESPACES,
    SHM,
    STDERR,
    STDIN,
    STDOUT,
    USERS,
    container_cgroup,
    container_dir,
    process_key,
)
from minipod.plan.volumes import (
    declared_volumes,
    device_rules,
    host_trees,
    sandbox_trees,
    volume_devices,
    volume_mounts,
)


def compile_container(
    pod: Pod, container: Container, context: PodContext, run: ContainerContext, facts: Facts
) -> tuple[s.Step, ...]:
    """Return the host steps that start one run of *container*."""
    at = member(pod, container.name).path
    if len(container.volume_mounts) > MAX_VOLUME_MOUNTS:
        raise UsageError(
            f"{at}.volumeMounts: {len(container.volume_mounts)} are more than {MAX_VOLUME_MOUNTS}",
            "mount a directory that holds several of them",
        )
    directory = container_dir(context.pod_dir, container.name, run.attempt)
    logs = f"{context.log_dir}/{container.name}"
    namespace_steps = (
        *_prepare(pod, container, context, run, facts, at),
        *declared_volumes(container, run, at),
        *root_mounts(pod, container, context, run, facts),
        *volume_mounts(pod, container, context, at),
        *volume_devices(container, context, at),
        *etc_files(container),
        *message_file(container, run.attempt, at),
        *hide(pod, container, facts),
        *_pivot(container, run, at),
        *_finish(pod, container, context, run, facts, at),
    )
    return (
        s.MakeDirectory(path=f"{directory}/upper", mode=0o755, owner=context.outside(0)),
        s.MakeDirectory(path=f"{directory}/work"),
        s.MakeDirectory(path=logs, mode=0o755),
        s.MakeCgroup(
            path=container_cgroup(context.cgroup, container.name, run.attempt),
            writes=container_writes(pod, container, facts),
            devices=not container.security_context.privileged,
            more_devices=device_rules(container, context),
            source=f"{at}.resources",
        ),
        _launch(pod, container, context, run, facts, namespace_steps, at),
    )


def _launch(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    namespace_steps: tuple[s.NamespaceStep, ...],
    at: str,
) -> s.Launch:
    cgroup2 = facts.cgroup2
    shared = pod.spec.share_process_namespace
    # The target's processes are seen anyway in a PID namespace that is shared by all.
    target = run.target if not (shared or pod.spec.host_pid) else ""
    return s.Launch(
        key=process_key(container.name, run.attempt),
        kind="CONTAINER",
        steps=namespace_steps,
        fds=("cgroup",) if cgroup2 else (),
        into_cgroup=container_cgroup(context.cgroup, container.name, run.attempt)
        if cgroup2
        else "",
        new_pid_namespace=not (pod.spec.host_pid or shared or target),
        join=sandbox.KEY,
        join_slot=JOIN,
        user_slot=USERS if context.users else -1,
        join_pid_namespace=bool(target) or (shared and not pod.spec.host_pid),
        pid_of=target,
        stdio="TTY_LOG" if container.tty else "LOG",
        stdio_slots=(STDIN, STDOUT, STDERR),
        keep_stdin=container.stdin,
        log_path=f"{context.log_dir}/{container.name}/{run.attempt}.log",
        source=at,
    )


def _prepare(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    at: str,
) -> list[s.NamespaceStep]:
    directory = container_dir(context.pod_dir, container.name, run.attempt)
    result: list[s.NamespaceStep] = [
        s.Harden(),
        *join_v1(facts, container_cgroup(context.cgroup, container.name, run.attempt)),
        s.NewFilesystem(slot=PROC, type="proc", attributes=("nosuid", "nodev", "noexec")),
        *host_trees(pod, container, context, run.env, at),
    ]
    if pod.spec.host_ipc:
        result.append(
            s.OpenTree(slot=SHM, path="/dev/shm", type="directory", source="spec.hostIPC")
        )
    # The overlay last: its legacy form leaves the host's mount namespace.
    result += [
        s.NewOverlay(
            slot=ROOT,
            lower=tuple(reversed(run.layers)),
            upper=f"{directory}/upper",
            work=f"{directory}/work",
            scratch=f"{context.run_dir}/root",
            legacy=context.users is not None or not facts.overlay_appends_layers,
            users=USERS if context.users else -1,
            source=f"{at}.image",
        ),
        s.SetNs(pidfd=JOIN, of="the sandbox", namespaces=SANDBOX_NAMESPACES),
        *sandbox_trees(pod, container, context, run.env, at, propagating=True),
        s.Unshare(namespaces=("mnt", "cgroup")),
        s.MakePrivate(),
        *own_files(context),
        *sandbox_trees(pod, container, context, run.env, at, propagating=False),
        s.Attach(slot=ROOT, path="/rootfs", root=-1),
    ]
    return result


def _pivot(container: Container, run: ContainerContext, at: str) -> list[s.NamespaceStep]:
    result: list[s.NamespaceStep] = []
    if container.tty:
        result.append(s.OpenPty(slot=PTY, root=ROOT, console=True, source=f"{at}.tty"))
    directory = working_dir(container, run)
    if directory != "/":
        result.append(s.Mkdir(path=directory, root=ROOT, parents=True, source=f"{at}.workingDir"))
    if container.security_context.read_only_root_filesystem:
        # Once nothing has to be made in it any more.
        source = f"{at}.securityContext.readOnlyRootFilesystem"
        step = s.SetMountAttributes(slot=ROOT, what="/", attributes=("ro",), source=source)
        result.append(step)
    result.append(s.PivotRoot(slot=ROOT))
    return result


def _finish(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    at: str,
) -> list[s.NamespaceStep]:
    env = environment(container, run, context.hostname)
    words = argv(container, run.entrypoint, run.cmd, run.env)
    if not words:
        raise UsageError(
            f"{at}: neither the manifest nor image {container.image} says what to execute",
            f"set {at}.command",
        )
    return [
        s.NewSession(),
        s.NewKeyring(),
        *limits(pod, container, facts, at),
        stdio(container),
        *drop(pod, container, context, run, facts, at, users=USERS),
        s.Exec(
            candidates=candidates(words[0], env.get("PATH", PATH)),
            argv=words,
            env=tuple(f"{name}={value}" for name, value in env.items()),
            written=argv(container, run.entrypoint, run.cmd, {}),
            source=f"{at}.command" if container.command else f"{at}.image",
        ),
    ]
