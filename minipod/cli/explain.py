# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from minipod.cli.options import SETTINGS, verb

app = typer.Typer(**SETTINGS)


def _complete(incomplete: str) -> list[str]:
    from minipod.api.explain import complete

    return complete(incomplete)


@verb(
    app,
    "minipod explain pod.spec.containers.livenessProbe",
    "minipod explain pod.spec.volumes",
    "minipod explain --recursive pod.spec.securityContext",
)
def explain(
    field: Annotated[
        str,
        typer.Argument(
            metavar="FIELD", help="pod.spec.containers, for example.", autocompletion=_complete
        ),
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Name all the fields below it.")
    ] = False,
) -> None:
    """Show what a field means and what becomes of it.

    Its type, its default, and the fields below it, too. Needs neither root nor the agent.
    """
    from minipod.api.explain import explain as text

    print(text(field, recursive=recursive))
