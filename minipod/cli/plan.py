# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod plan``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Namespace, Session, complete_pods, session, verb

app = typer.Typer(**SETTINGS)

Json = dict[str, Any]


def complete_pod_targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete ``pod/NAME``; what is a file, the shell knows."""
    if not incomplete.startswith("pod"):
        return []
    prefix = incomplete if incomplete.startswith("pod/") else "pod/"
    return complete_pods(ctx, prefix)


@verb(
    app,
    "minipod plan pod.yaml",
    "minipod plan pod/web",
    "minipod plan pod.yaml -o json | jq '.items[].steps[] | select(.actor == \"pause\") | .step'",
    "minipod plan - < pod.yaml",
)
def plan(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|pod/NAME",
            help="A manifest, - for standard input, or a pod that is there.",
            autocompletion=complete_pod_targets,
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FORMAT", help="json, or yaml, for tools.")
    ] = "",
    namespace: Namespace = None,
) -> None:
    """Show every step that running a manifest takes; take none.

    Each with what it does, why, and the line of the manifest that it comes from.
    """
    from minipod.cli.output import check_format, dump

    form = check_format(output, ("json", "yaml", "jsonpath=…"))
    plans = ask(session(ctx), file, namespace)
    if form:
        dump(plan_list(plans), form)
    else:
        _show(plans)


def plan_list(plans: list[Json]) -> Json:
    """Return *plans* as one document."""
    return {"apiVersion": "minipod.dev/v1", "kind": "PlanList", "items": plans}


def pod_name(target: str) -> str:
    """Return the NAME of ``pod/NAME`` (``pods/`` and ``po/``, too), or "" when *target* is a file."""
    kind, slash, name = target.partition("/")
    return name if slash and kind in ("pod", "pods", "po") and "/" not in name else ""


def ask(where: Session, target: str, namespace: str | None, like: str = "") -> list[Json]:
    """Return the plans of a manifest or of a pod; *like* names a pod whose uid and address a manifest's take."""
    from minipod.cli.args import read_manifest
    from minipod.cli.client import call

    request: Json = {"verb": "plan", "namespace": where.namespace(namespace)}
    if name := pod_name(target):
        request["pod"] = name
    else:
        request["manifest"], request["source"] = read_manifest(target)
        request["like"] = like
    with call(where.config, request) as answer:
        found: list[Json] = answer.finish().get("plans", [])
        return found


def _show(plans: list[Json]) -> None:
    import sys

    from minipod.cli.output import painter
    from minipod.cli.planview import render

    paint = painter(sys.stdout)
    for number, each in enumerate(plans):
        if number:
            print()
        for line in render(each, width(), paint):
            print(line)


def width() -> int:
    """Return the columns to fill: the terminal's, ``COLUMNS``, or 100 in a file."""
    import shutil

    return shutil.get_terminal_size((100, 24)).columns
