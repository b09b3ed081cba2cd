# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod attach``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Container, Namespace, Pod, session, verb

if TYPE_CHECKING:
    from minipod.config import Config

app = typer.Typer(**SETTINGS)

_PIPE = (
    1 << 20
)  # bytes that we may be behind before the container goes on without us (fs.pipe-max-size)


@verb(app, "minipod attach web", "minipod attach -it web -c shell")
def attach(
    ctx: typer.Context,
    pod: Pod,
    container: Container = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", "-i", help="Pass our standard input on.")
    ] = False,
    tty: Annotated[
        bool, typer.Option("--tty", "-t", help="Our terminal is the container's (with -i).")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """Connect with what runs in a container."""
    from minipod.cli.args import pod_name

    where = session(ctx)
    if tty and stdin and sys.stdin.isatty():
        print("If you don't see a command prompt, try pressing enter.", file=sys.stderr)
    name = pod_name(pod)
    raise typer.Exit(
        connect(where.config, where.namespace(namespace), name, container, stdin=stdin)
    )


def connect(config: Config, namespace: str, pod: str, container: str | None, *, stdin: bool) -> int:
    """Connect our streams with a container that runs, and return its exit code."""
    import fcntl
    from contextlib import suppress

    from minipod.cli.client import call
    from minipod.cli.terminal import run_attached

    request: dict[str, Any] = {
        "verb": "attach",
        "namespace": namespace,
        "pod": pod,
        "container": container,
        "stdin": stdin,
    }
    ours, theirs = [], []
    try:
        for _ in ("stdout", "stderr"):
            read, write = os.pipe()
            ours.append(read)
            theirs.append(write)
            with suppress(OSError):
                fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE)
        with call(config, request, theirs) as answer:
            # The shim's ends are its alone: their end must be seen.
            while theirs:
                os.close(theirs.pop())
            ends, ours = ours, []
            return run_attached(answer, ends, stdin=stdin)
    finally:
        for fd in (*ours, *theirs):
            os.close(fd)


def attach_when_running(
    config: Config, namespace: str, pod: str, container: str, *, stdin: bool
) -> int:
    """Wait until a container that was added to a pod runs, and connect with it; one that has ended shows its output."""
    from minipod.cli.client import call
    from minipod.cli.loglines import LogWriter
    from minipod.errors import MinipodError

    request = {
        "verb": "get",
        "kind": "pods",
        "namespace": namespace,
        "names": [pod],
        "watch": True,
    }
    state: dict[str, Any] = {}
    with call(config, request) as answer:
        for event in answer:
            statuses = event["object"].get("status", {}).get("ephemeralContainerStatuses", [])
            state = next((s["state"] for s in statuses if s["name"] == container), {})
            if event["type"] == "DELETED" or "running" in state or "terminated" in state:
                break
    if "running" in state:
        try:
            return connect(config, namespace, pod, container, stdin=stdin)
        except MinipodError:
            # It ended just now: what it wrote is in its log.
            pass
    logs = {"verb": "logs", "namespace": namespace, "pod": pod, "container": container}
    writer = LogWriter(split=True)
    with call(config, {**logs, "follow": True}) as answer:
        for event in answer:
            if line := event.get("log"):
                writer.write(line)
    writer.flush()
    return _exit_code(config, namespace, pod, container)


def _exit_code(config: Config, namespace: str, pod: str, container: str) -> int:
    from minipod.cli.client import call

    request = {"verb": "get", "kind": "pods", "namespace": namespace, "names": [pod]}
    with call(config, request) as answer:
        (found,) = answer.finish()["items"]
    for status in found["status"].get("ephemeralContainerStatuses", []):
        if status["name"] == container:
            return int(status["state"].get("terminated", {}).get("exitCode", 0))
    return 0
