# SPDX-License-Identifier: GPL-3.0-or-later
"""The group of the image commands, and what they share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, complete_images, examples

Json = dict[str, Any]

app = typer.Typer(
    help="List, load, pull, save, remove and inspect images.",
    epilog=examples("minipod image ls", "minipod image pull nginx"),
    **SETTINGS,
)

Reference = Annotated[
    str,
    typer.Argument(metavar="IMAGE", help="A reference or an id.", autocompletion=complete_images),
]
References = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE...", help="References or ids.", autocompletion=complete_images),
]
