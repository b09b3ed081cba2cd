# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod run``."""

from __future__ import annotations

from typing import Annotated

import typer

from minipod.cli.options import SETTINGS, Namespace, session, verb

app = typer.Typer(**SETTINGS)


@verb(app, "minipod run pod.yaml", "minipod run -d pod.yaml", "minipod run --rm - < pod.yaml")
def run(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A manifest, or - for standard input.")
    ],
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when the pods run; they go on.")
    ] = False,
    remove: Annotated[bool, typer.Option("--rm", help="Delete the pods at their end.")] = False,
    namespace: Namespace = None,
) -> None:
    """Run the pods of a manifest and show what they write.

    Ends when they end: with exit code 0 when all succeeded, else with that of the first container that failed.
    Ctrl-C deletes the pods, and a second one does not wait for them. A pod of the same name that has ended gives
    way.
    """
    from minipod.errors import UsageError

    if detach and remove:
        raise UsageError(
            "--detach and --rm exclude each other", "delete the pods later: minipod delete -f FILE"
        )
    from minipod.cli.create import create_from
    from minipod.cli.foreground import Foreground, PodView

    where = session(ctx)
    objects = create_from(where, file, namespace, apply=True, new_pods=True)
    pods = [
        PodView(item["namespace"], item["name"], item["uid"])
        for item in objects
        if item["kind"] == "Pod"
    ]
    if not pods:
        for item in objects:
            print(f"{item['kind'].lower()}/{item['name']} {item['change']}")
        return
    with Foreground(where.config, pods) as foreground:
        code = foreground.until_running() if detach else foreground.until_finished(remove=remove)
    raise typer.Exit(code)
