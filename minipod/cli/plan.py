# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod plan``."""

from __future__ import annotations

from typing import Annotated

import typer

from minipod.cli.options import SETTINGS, Namespace, session, verb

app = typer.Typer(**SETTINGS)


@verb(app, "minipod plan pod.yaml", "minipod plan - < pod.yaml")
def plan(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A manifest, or - for standard input.")
    ],
    namespace: Namespace = None,
) -> None:
    """Show every step that running a manifest takes; take none."""
    from minipod.cli.args import read_manifest
    from minipod.cli.client import call
    from minipod.cli.output import escape

    where = session(ctx)
    text, source = read_manifest(file)
    request = {
        "verb": "plan",
        "manifest": text,
        "source": source,
        "namespace": where.namespace(namespace),
    }
    with call(where.config, request) as answer:
        shown = str(answer.finish().get("text", ""))
    print(escape(shown.rstrip("\n"), keep="\n"))
