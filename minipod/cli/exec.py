# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod exec``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Container, Namespace, Pod, session, verb

if TYPE_CHECKING:
    from minipod.config import Config

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod exec web -- ls -l /",
    "minipod exec -it web -c sidecar -- sh",
    "minipod exec -i web -- sh < script.sh",
)
def exec_(
    ctx: typer.Context,
    pod: Pod,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND [ARG]...", help="What to run.")
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", "-i", help="Pass our standard input on.")
    ] = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give it a terminal (with -i).")] = False,
    container: Container = None,
    namespace: Namespace = None,
) -> None:
    """Run a command in a container; its exit code is ours."""
    from minipod.cli.args import pod_name
    from minipod.errors import UsageError

    if not command:
        raise UsageError("exec: no command is given", "minipod exec POD -- COMMAND")
    where = session(ctx)
    if tty and stdin and not sys.stdin.isatty():
        print("Unable to use a TTY - input is not a terminal", file=sys.stderr)
        tty = False
    # As in kubectl, a terminal that nobody types on is none.
    tty = tty and stdin
    request: dict[str, Any] = {
        "verb": "exec",
        "namespace": where.namespace(namespace),
        "pod": pod_name(pod),
        "container": container,
        "command": command,
        "tty": tty,
        "stdin": stdin,
        "size": [0, 0],
        "term": os.environ.get("TERM", "") if tty else "",
    }
    raise typer.Exit(
        _with_terminal(where.config, request) if tty else _with_pipes(where.config, request)
    )


def _with_terminal(config: Config, request: dict[str, Any]) -> int:
    from minipod.cli.client import call
    from minipod.cli.terminal import run_on_terminal, window_size

    request["size"] = window_size()
    with call(config, request) as answer:
        return run_on_terminal(answer)


def _with_pipes(config: Config, request: dict[str, Any]) -> int:
    from minipod.cli.client import call
    from minipod.cli.terminal import run_on_pipes

    theirs, ours = [], []
    try:
        if request["stdin"]:
            read, write = os.pipe()
            theirs.append(read)
            ours.append(write)
        else:
            # Not our /dev/null: the container's root could chmod the device that it has open.
            read, write = os.pipe()
            os.close(write)
            theirs.append(read)
            ours.append(-1)
        for _ in ("stdout", "stderr"):
            read, write = os.pipe()
            theirs.append(write)
            ours.append(read)
        with call(config, request, theirs) as answer:
            # The container's ends are its alone: what it closes must be seen as closed.
            while theirs:
                os.close(theirs.pop())
            ends, ours = ours, []
            return run_on_pipes(answer, ends)
    finally:
        for fd in (*theirs, *(fd for fd in ours if fd >= 0)):
            os.close(fd)
