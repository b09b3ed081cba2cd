# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod debug``: a container with tools of its own, added to a pod that runs."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from minipod.cli.options import (
    SETTINGS,
    Namespace,
    Pod,
    complete_containers,
    complete_images,
    session,
    verb,
)

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod debug web --image busybox:1 -- ls -l /",
    "minipod debug web --image busybox:1 --target app -- ps",
    "minipod debug -it web --image busybox:1 -- sh",
)
def debug(
    ctx: typer.Context,
    pod: Pod,
    image: Annotated[
        str,
        typer.Option(
            "--image", metavar="IMAGE", help="What it is made of.", autocompletion=complete_images
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND [ARG]...", help="What to run instead of the image's."),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="CONTAINER",
            help="See the processes of this container.",
            autocompletion=complete_containers,
        ),
    ] = "",
    container: Annotated[
        str, typer.Option("--container", "-c", metavar="NAME", help="What to call it.")
    ] = "",
    stdin: Annotated[
        bool, typer.Option("--stdin", "-i", help="Connect our streams with it, until it ends.")
    ] = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give it a terminal.")] = False,
    namespace: Namespace = None,
) -> None:
    """Add a container of your own to a running pod."""
    from minipod.cli.args import pod_name
    from minipod.cli.client import call
    from minipod.suffix import generated

    where = session(ctx)
    name = container
    if not name:
        name = generated("debugger-")
        print(f"Defaulting debug container name to {name}.", file=sys.stderr)
    made: dict[str, Any] = {
        "name": name,
        "image": image,
        "stdin": stdin,
        "tty": tty,
        # kubectl's profile "general": without it, other users' processes cannot be looked into.
        "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
    }
    if stdin and not tty:
        made["stdinOnce"] = (
            True  # what is piped in has an end, and whoever waits for it must see it
        )
    if command:
        made["command"] = command
    if target:
        made["targetContainerName"] = target
    request = {
        "verb": "debug",
        "namespace": where.namespace(namespace),
        "pod": pod_name(pod),
        "container": json.dumps(made),
    }
    with call(where.config, request) as answer:
        answer.finish()
    if stdin or tty:
        if tty and sys.stdin.isatty():
            print("If you don't see a command prompt, try pressing enter.", file=sys.stderr)
        from minipod.cli.attach import attach_when_running

        raise typer.Exit(
            attach_when_running(
                where.config, request["namespace"], request["pod"], name, stdin=stdin
            )
        )
