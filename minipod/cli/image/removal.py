# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing images: rm."""

from __future__ import annotations

from typing import Annotated

import typer

from minipod.cli.image.group import References, app
from minipod.cli.options import session, verb


@verb(app, "minipod image rm localhost/app:1")
def rm(
    ctx: typer.Context,
    references: References,
    force: Annotated[bool, typer.Option("--force", "-f", help="Even when a pod uses it.")] = False,
) -> None:
    """Remove images from the store."""
    from minipod.cli.client import call
    from minipod.cli.output import say

    request = {"verb": "image", "op": "rm", "references": references, "force": force}
    with call(session(ctx).config, request) as answer:
        for line in answer.finish().get("removed", []):
            say(line)
