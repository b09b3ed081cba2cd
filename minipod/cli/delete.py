# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod delete``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minipod.cli.options import (
    SETTINGS,
    Namespace,
    Selector,
    complete_targets,
    session,
    verb,
)

if TYPE_CHECKING:
    from minipod.cli.client import Call

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod delete pod web",
    "minipod delete -f pod.yaml",
    "minipod delete pods --all --grace-period 5",
    "minipod delete pod/web --now",
)
def delete(
    ctx: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND NAME...|KIND/NAME...]",
            help="What to delete.",
            autocompletion=complete_targets,
        ),
    ] = None,
    filename: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", metavar="FILE", help="The objects of this manifest."),
    ] = None,
    grace_period: Annotated[
        int | None,
        typer.Option(
            "--grace-period", metavar="SECONDS", min=-1, help="Until KILL; -1: the pod's own."
        ),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="As --grace-period 1.")] = False,
    force: Annotated[bool, typer.Option("--force", help="As --grace-period 0.")] = False,
    all_pods: Annotated[
        bool, typer.Option("--all", help="All of the kind in the namespace.")
    ] = False,
    selector: Selector = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return when they are gone.")
    ] = True,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="No error for what is not there.")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """Stop pods and remove them, or remove other objects.

    What is not there is an error at the end; the others go all the same.
    """
    from contextlib import ExitStack

    from minipod.cli.args import LASTING_KINDS, parse_groups, read_manifest
    from minipod.cli.client import call
    from minipod.cli.get import complain
    from minipod.errors import MinipodError, NotFound, UsageError

    if not targets and not filename:
        raise UsageError(
            "delete: nothing to delete is named", "minipod delete pod NAME, or -f FILE"
        )
    groups = parse_groups(targets, LASTING_KINDS) if targets else [("pods", [])]
    named = any(names for _, names in groups)
    ways = sum((named, bool(filename), all_pods, bool(selector)))
    if ways == 0:
        raise UsageError(f"delete: which {groups[0][0]}?", "name them, or use -l or --all")
    if ways > 1 and not (all_pods and selector and ways == 2):
        raise UsageError("delete: names, -f, -l and --all exclude each other", "use one of them")
    where = session(ctx)
    request: dict[str, Any] = {
        "verb": "delete",
        "namespace": where.namespace(namespace),
        "gracePeriodSeconds": _grace(grace_period, now, force),
        "all": all_pods,
        "selector": selector,
        "wait": wait,
        "ignoreNotFound": ignore_not_found,
        "allowMissing": True,
    }
    wanted = [request | {"kind": kind, "names": names} for kind, names in groups]
    if filename:
        texts = (read_manifest(file) for file in filename)
        wanted = [
            request | {"kind": "pods", "manifest": text, "source": source} for text, source in texts
        ]
    deleted: list[bool] = []
    missing: list[dict[str, Any]] = []
    with ExitStack() as stack:
        # All are asked for before any is waited for: a volume goes only after the claim that another request names.
        for answer in [stack.enter_context(call(where.config, one)) for one in wanted]:
            try:
                deleted.append(_said(answer, force=force))
                missing += answer.finish().get("missing", [])
            except MinipodError as error:
                if error.reason != NotFound.reason:
                    raise
                missing.append(error.to_status())
    complain(missing)
    if not any(deleted) and not ignore_not_found:
        print("No resources found.", file=sys.stderr)


def _said(answer: Call, *, force: bool) -> bool:
    """Say what is deleted as it goes, and return whether anything was."""
    from minipod.cli.output import say

    deleted = False
    for event in answer:
        kind, _, name = event["deleted"].partition("/")
        say(f'{kind} "{name}" {"force deleted" if force else "deleted"}')
        sys.stdout.flush()
        deleted = True
    return deleted


def _grace(seconds: int | None, now: bool, force: bool) -> int | None:
    """Return the grace period that is asked for, or None for the pod's own.

    Raises:
        UsageError: two different ones are.
    """
    from minipod.errors import UsageError

    asked = {
        *([seconds] if seconds is not None and seconds >= 0 else []),
        *([1] if now else []),
        *([0] if force else []),
    }
    if len(asked) > 1:
        raise UsageError(
            "--grace-period, --now and --force say different things", "use one of them"
        )
    return asked.pop() if asked else None
