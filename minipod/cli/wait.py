# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod wait``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minipod.cli.options import (
    SETTINGS,
    Namespace,
    Selector,
    complete_targets,
    complete_words,
    session,
    verb,
)

app = typer.Typer(**SETTINGS)

_FOREVER = 7 * 24 * 3600.0  # seconds; what kubectl makes of a negative timeout


@verb(
    app,
    "minipod wait pod/web --for=condition=Ready",
    "minipod wait pod/job --for=jsonpath={.status.phase}=Succeeded --timeout 5m",
    "minipod wait pods --all --for=delete",
)
def wait(
    ctx: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(metavar="pod/NAME...", help="Which pods.", autocompletion=complete_targets),
    ],
    condition: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="CONDITION",
            help="condition=TYPE[=STATUS], delete, create or jsonpath={.PATH}=VALUE.",
            autocompletion=complete_words(
                "condition=Ready", "delete", "jsonpath={.status.phase}=Succeeded"
            ),
        ),
    ],
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="How long at most; negative: a week.")
    ] = "30s",
    all_pods: Annotated[bool, typer.Option("--all", help="All pods of the namespace.")] = False,
    selector: Selector = "",
    namespace: Namespace = None,
) -> None:
    """Wait until pods have come to a condition."""
    from minipod.cli.args import LASTING_KINDS, parse_targets
    from minipod.cli.client import call
    from minipod.cli.output import say
    from minipod.durations import parse_duration
    from minipod.errors import UsageError

    kind, names = parse_targets(targets, LASTING_KINDS)
    if bool(names) == (all_pods or bool(selector)):
        raise UsageError("wait: which pods?", "name them, or use -l or --all")
    where = session(ctx)
    request = {
        "verb": "wait",
        "kind": kind,
        "namespace": where.namespace(namespace),
        "names": names,
        "selector": selector,
        "all": all_pods,
        "for": condition,
        "timeout": _FOREVER if timeout.startswith("-") else parse_duration(timeout),
    }
    with call(where.config, request) as answer:
        for event in answer:
            say(f"{event['met']} condition met")
            sys.stdout.flush()
