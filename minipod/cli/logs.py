# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod logs``."""

from __future__ import annotations

from typing import Annotated

import typer

from minipod.cli.options import SETTINGS, Container, Namespace, Pod, session, verb

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod logs web",
    "minipod logs web -c sidecar -f --tail 20",
    "minipod logs web --all-containers --prefix --since 5m",
    "minipod logs web --previous",
)
def logs(
    ctx: typer.Context,
    pod: Pod,
    container: Container = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written.")
    ] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="The container's run before the present one.")
    ] = False,
    tail: Annotated[
        int, typer.Option("--tail", metavar="N", help="Only the last N lines; -1 for all.")
    ] = -1,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Only of the last 30s, 5m, 2h …")
    ] = "",
    since_time: Annotated[
        str, typer.Option("--since-time", metavar="TIME", help="Only after this time (RFC 3339).")
    ] = "",
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="The time before each line.")
    ] = False,
    all_containers: Annotated[
        bool, typer.Option("--all-containers", help="Of all containers.")
    ] = False,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Pod and container before each line.")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """Print what containers wrote to their stdout and stderr."""
    from minipod.cli.args import pod_name
    from minipod.cli.client import call
    from minipod.cli.loglines import LogWriter
    from minipod.durations import parse_duration
    from minipod.errors import UsageError

    if since and since_time:
        raise UsageError("--since and --since-time exclude each other", "leave out one of them")
    if container and all_containers:
        raise UsageError(
            "--container and --all-containers exclude each other", "leave out one of them"
        )
    if tail < -1:
        raise UsageError(f"--tail {tail} is no number of lines", "use 0 or more, or -1 for all")
    where = session(ctx)
    request = {
        "verb": "logs",
        "namespace": where.namespace(namespace),
        "pod": pod_name(pod),
        "container": container,
        "allContainers": all_containers,
        "follow": follow,
        "previous": previous,
        "tail": tail,
        "sinceSeconds": parse_duration(since) if since else None,
        "sinceTime": since_time or None,
        "timestamps": timestamps,
        "prefix": prefix,
    }
    writer = LogWriter(
        (lambda log: f"[pod/{log.get('pod')}/{log.get('container')}] ") if prefix else None,
        timestamps=timestamps,
    )
    with call(where.config, request) as answer:
        while answer.done is None:
            for event in answer.receive():
                writer.write(event["log"])
            writer.flush()
