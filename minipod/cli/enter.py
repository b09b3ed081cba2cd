# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod enter``."""

from __future__ import annotations

from typing import Annotated

import typer

from minipod.cli.options import SETTINGS, Container, Namespace, Pod, session, verb

app = typer.Typer(**SETTINGS)

_DEFAULT = ("net", "uts", "ipc")


@verb(
    app,
    "minipod enter web -- ss -tlnp",
    "minipod enter web --net -- tcpdump -ni eth0",
    "minipod enter web -c app --pid -- strace -fp 1",
)
def enter(
    ctx: typer.Context,
    pod: Pod,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND [ARG]...", help="What to run.")
    ] = None,
    container: Container = None,
    net: Annotated[bool, typer.Option("--net", help="Its network.")] = False,
    uts: Annotated[bool, typer.Option("--uts", help="Its host name.")] = False,
    ipc: Annotated[
        bool, typer.Option("--ipc", help="Its System V IPC and message queues.")
    ] = False,
    pid: Annotated[
        bool, typer.Option("--pid", help="A container's processes, and its /proc.")
    ] = False,
    mnt: Annotated[
        bool, typer.Option("--mnt", help="A container's files; the command is the image's then.")
    ] = False,
    cgroup: Annotated[
        bool, typer.Option("--cgroup", help="A container's view of cgroups.")
    ] = False,
    user: Annotated[
        bool, typer.Option("--user", help="The pod's users (hostUsers: false).")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """Run a program of this host in namespaces of a pod.

    For images without a shell. Without options the namespaces are the pod's network, host name and IPC; files,
    processes and users stay the host's, so every tool of the host is there. With --pid it sees a container's
    processes, in a /proc of its own. With --mnt it is looked up in the container, and has no more capabilities than
    that. Its exit code is ours.

    Where a container has CAP_SYS_PTRACE, --pid without --mnt is refused: it would reach the host through the command.
    """
    from minipod.cli.args import pod_name
    from minipod.cli.client import call
    from minipod.errors import MinipodError, UsageError

    if not command:
        raise UsageError("enter: no command is given", "minipod enter POD -- COMMAND")
    chosen = {
        "net": net,
        "uts": uts,
        "ipc": ipc,
        "cgroup": cgroup,
        "pid": pid,
        "mnt": mnt,
        "user": user,
    }
    kinds = [kind for kind, on in chosen.items() if on] or list(_DEFAULT)
    where = session(ctx)
    request = {
        "verb": "enter",
        "namespace": where.namespace(namespace),
        "pod": pod_name(pod),
        "container": container,
        "kinds": kinds,
    }
    with call(where.config, request) as answer:
        (found,) = answer
        if found["watchers"]:
            names = ", ".join(found["watchers"])
            raise MinipodError(
                f"container {names} may look into every process that it sees (CAP_SYS_PTRACE), and would get at this "
                "host's files through /proc/PID/root of the command",
                "leave --pid out, add --mnt, or use minipod debug --target",
            )
        from minipod.runtime.entering import Target, run

        # The namespaces that the pod shares with the host need no entering, and a user namespace cannot be its own.
        fds = {kind: fd for kind, fd in zip(found["kinds"], answer.fds, strict=True)}
        try:
            code = run(Target(fds, int(found["bounding"], 16)), command)
        except OSError as error:
            raise MinipodError(f"enter: {error}", "are you root of this host?") from error
    raise typer.Exit(code)
