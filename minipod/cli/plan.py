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
    if list(ctx.params.get("target") or ()) == ["pod"]:
        return complete_pods(ctx, "")
    if not ("pod/".startswith(incomplete) or incomplete.startswith("pod/")):
        return []
    return complete_pods(ctx, "pod/")


@verb(
    app,
    "minipod plan pod.yaml",
    "minipod plan pod web",
    "minipod plan pod.yaml --diff pod/web",
    "minipod plan new.yaml --diff old.yaml",
    "minipod plan pod.yaml -o json | jq '.items[].steps[] | select(.actor == \"pause\") | .step'",
    "minipod plan pod.yaml -o sh > pod.sh; minipod plan pod.yaml -o sh --teardown > remove.sh",
    "minipod plan - < pod.yaml",
)
def plan(
    ctx: typer.Context,
    target: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|pod NAME",
            help="A manifest, - for standard input, or a pod that is there (pod/NAME, too).",
            autocompletion=complete_pod_targets,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FORMAT",
            help="json or yaml for tools; sh: a script that builds the pod by hand, without minipod.",
        ),
    ] = "",
    teardown: Annotated[
        bool, typer.Option("--teardown", help="With -o sh: the script that removes the pod.")
    ] = False,
    diff: Annotated[
        str,
        typer.Option(
            "--diff",
            metavar="OTHER",
            help="Show what is other than in OTHER, a manifest or pod/NAME. Exit code: 1 when something is.",
            autocompletion=complete_pod_targets,
        ),
    ] = "",
    namespace: Namespace = None,
) -> None:
    """Show every step that running a manifest takes; take none.

    Each with what it does, why, and the line of the manifest that it comes from.
    """
    from minipod.cli.output import check_format, dump
    from minipod.errors import UsageError

    form = check_format(output, ("json", "yaml", "sh", "jsonpath=…"))
    file = "/".join(target)
    if len(target) > 1 and not (len(target) == 2 and pod_name(file)):
        raise UsageError(
            "one plan is shown at a time", "minipod plan FILE, or minipod plan pod NAME"
        )
    if teardown and form != "sh":
        raise UsageError("--teardown is of a script", "say -o sh --teardown")
    if form == "sh":
        if diff or pod_name(file):
            raise UsageError("a script is made of a manifest", "minipod plan FILE -o sh")
        print(_script(session(ctx), file, namespace, teardown=teardown), end="")
        return
    if diff:
        raise typer.Exit(_differences(session(ctx), diff, file, namespace, form))
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
    """Return the plans of a manifest or of a pod; *like* names a pod whose uid, address and numbers are taken."""
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


def _script(where: Session, file: str, namespace: str | None, *, teardown: bool) -> str:
    from minipod.cli.args import read_manifest
    from minipod.cli.client import call

    text, source = read_manifest(file)
    request = {
        "verb": "plan",
        "script": True,
        "manifest": text,
        "source": source,
        "namespace": where.namespace(namespace),
    }
    with call(where.config, request) as answer:
        found: str = answer.finish()["teardown" if teardown else "script"]
        return found


def _differences(where: Session, old: str, new: str, namespace: str | None, form: str) -> int:
    """Print what differs from *old* to *new*, and return the exit code: as ``diff(1)``, 2 is trouble."""
    import sys

    from minipod.cli.output import dump, painter
    from minipod.cli.plandiff import compare, render
    from minipod.errors import MinipodError, UsageError

    if old == new == "-":
        raise UsageError("standard input can be one of the two only", "name a file")
    # What a pod gets when it is made is no difference: the other one is planned as if it had got that.
    like = pod_name(old) or pod_name(new)
    try:
        found = compare(ask(where, old, namespace, like), ask(where, new, namespace, like))
    except MinipodError as error:
        error.exit_code = 2
        raise
    if form:
        same = not any(each["changes"] for each in found)
        dump(
            {"apiVersion": "minipod.dev/v1", "kind": "PlanDiff", "same": same, "items": found}, form
        )
    else:
        paint = painter(sys.stdout)
        for each in found:
            for line in render(each, paint):
                print(line)
    return int(any(each["changes"] for each in found))


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
