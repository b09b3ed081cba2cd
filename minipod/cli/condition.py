# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod condition``."""

from __future__ import annotations

from typing import Annotated

import typer

from minipod.cli.options import SETTINGS, Namespace, complete_targets, session, verb

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod condition pod/web example.com/warm=True",
    "minipod condition pod/web example.com/warm=False --reason Draining",
)
def condition(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Argument(metavar="pod/NAME", help="Which pod.", autocompletion=complete_targets),
    ],
    assignment: Annotated[
        str,
        typer.Argument(metavar="TYPE[=STATUS]", help="STATUS is True, False or Unknown."),
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="WORD", help="Why, in one word.")] = "",
    message: Annotated[str, typer.Option("--message", metavar="TEXT", help="Why.")] = "",
    namespace: Namespace = None,
) -> None:
    """Set a condition of a pod: a readiness gate, say."""
    from minipod.cli.args import parse_targets
    from minipod.cli.client import call
    from minipod.cli.output import say
    from minipod.errors import UsageError

    _, names = parse_targets([target])
    if len(names) != 1:
        raise UsageError("condition: which pod?", "name one: pod/NAME")
    kind, _, status = assignment.partition("=")
    where = session(ctx)
    request = {
        "verb": "condition",
        "namespace": where.namespace(namespace),
        "pod": names[0],
        "type": kind,
        "status": status or "True",
        "reason": reason,
        "message": message,
    }
    with call(where.config, request) as answer:
        answer.finish()
    say(f"pod/{names[0]} condition set")
