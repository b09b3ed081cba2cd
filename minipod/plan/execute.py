# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles a command that is executed in a running container."""

from __future__ import annotations

from minipod.api import Container, Pod, member
from minipod.plan import steps as s
from minipod.plan.command import candidates, environment
from minipod.plan.context import ContainerContext, Facts, PodContext
from minipod.plan.defaults import PATH
from minipod.plan.privileges import drop, join_v1, limits
from minipod.plan.slots import (
    EXEC_STDIO,
    JOIN,
    PROC,
    PTY,
    ROOT,
    SANDBOX_NAMESPACES,
    container_cgroup,
    process_key,
)


def compile_exec(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    command: tuple[str, ...],
    *,
    number: int,
    tty: bool,
    size: tuple[int, int] = (0, 0),
    term: str = "",
) -> s.Launch:
    """Return the launch of *command* in a running container: same user, same capabilities, same filter."""
    env = environment(container, run, context.hostname)
    if tty:
        env["TERM"] = term or env.get("TERM", "xterm")
    cgroup = container_cgroup(context.cgroup, container.name, run.attempt)
    at = member(pod, container.name).path
    steps: list[s.NamespaceStep] = [
        s.Harden(),
        *join_v1(facts, cgroup),
        s.NewFilesystem(slot=PROC, type="proc", attributes=("nosuid", "nodev", "noexec")),
        s.SetNs(
            pidfd=JOIN, of=f"container {container.name}", namespaces=(*SANDBOX_NAMESPACES, "cgroup")
        ),
    ]
    if tty:
        steps += [
            s.OpenFile(slot=ROOT, path="/"),
            s.OpenPty(slot=PTY, root=ROOT, rows=size[0], columns=size[1]),
        ]
    steps += [
        s.NewSession(),
        s.NewKeyring(),
        *limits(pod, container, facts, at),
        s.SetStdio(slots=(PTY, PTY, PTY), terminal=True) if tty else s.SetStdio(slots=EXEC_STDIO),
        *drop(pod, container, context, run, facts, at, users=JOIN),
        s.Exec(
            candidates=candidates(command[0], env.get("PATH", PATH)),
            argv=command,
            env=tuple(f"{name}={value}" for name, value in env.items()),
        ),
    ]
    stdio = () if tty else ("stdin", "stdout", "stderr")
    return s.Launch(
        key=f"exec/{number}",
        kind="EXEC",
        steps=tuple(steps),
        fds=(*stdio, "cgroup") if facts.cgroup2 else stdio,
        into_cgroup=cgroup if facts.cgroup2 else "",
        join=process_key(container.name, run.attempt),
        join_slot=JOIN,
        join_pid_namespace=not pod.spec.host_pid,
        stdio="TTY" if tty else "FDS",
    )
