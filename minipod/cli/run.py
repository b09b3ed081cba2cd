# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod run``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Namespace, Session, complete_words, session, verb

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod run pod.yaml",
    "minipod run -d pod.yaml",
    "minipod run --wait=ready pod.yaml",
    "minipod run --rm - < pod.yaml",
    "minipod run -d --trace pod.yaml",
)
def run(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A manifest, or - for standard input.")
    ],
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when the pods run; they go on.")
    ] = False,
    wait: Annotated[
        str,
        typer.Option(
            "--wait",
            metavar="running|ready",
            help="As -d, but return when the pods are ready.",
            autocompletion=complete_words("running", "ready"),
        ),
    ] = "",
    remove: Annotated[
        bool,
        typer.Option("--rm", help="At the end, delete the pods and all else that was created."),
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Show each step, and how long it took, on stderr.")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """Run the pods of a manifest and show what they write.

    Ends when they end: with exit code 0 when all succeeded, else with that of the first container that failed.
    Ctrl-C deletes the pods, and a second one does not wait for them. A pod of the same name that has ended gives
    way. With --rm, the ConfigMaps, Secrets, claims (with their data) and volumes that this very run created go
    after the pods; those that were there stay. What --trace shows, minipod trace shows again later, as a waterfall.
    """
    from minipod.errors import UsageError

    if wait and wait not in ("running", "ready"):
        raise UsageError(f"run: cannot wait for {wait!r}", "use --wait=running or --wait=ready")
    if (detach or wait) and remove:
        raise UsageError(
            f"{'--detach' if detach else '--wait'} and --rm exclude each other",
            "delete the pods later: minipod delete -f FILE",
        )
    from minipod.cli.create import create_from

    where = session(ctx)
    objects = create_from(where, file, namespace, apply=True, new_pods=True)
    # Not earlier: the agent starts the pods while this is loaded.
    from minipod.cli.foreground import Foreground, PodView

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
        if trace:
            foreground.show_steps(until="running" if detach else "ready")
        if detach or wait:
            code = foreground.until_up(ready=wait == "ready")
        else:
            code = foreground.until_finished(remove=remove)
    if remove:
        _remove_made(where, objects)
    raise typer.Exit(code)


def _remove_made(where: Session, objects: Sequence[dict[str, Any]]) -> None:
    """Delete those of *objects* that are no pods and were created, not found."""
    from minipod.cli.client import call
    from minipod.kinds import KINDS

    for item in objects:
        if item["kind"] == "Pod" or item.get("change") != "created":
            continue
        request = {
            "verb": "delete",
            "kind": KINDS[item["kind"]].plural,
            "namespace": item["namespace"],
            "names": [item["name"]],
            "wait": False,  # what an interrupted pod still uses goes with it
            "ignoreNotFound": True,
        }
        with call(where.config, request) as answer:
            answer.finish()
