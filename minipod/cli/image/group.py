# SPDX-License-Identifier: GPL-3.0-or-later
"""The group of the image commands, and what they share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, complete_images, examples

Json = dict[str, Any]

app = typer.Typer(
    help="List, get, give away, make and remove images.",
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

Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="KEY=VALUE",
        help="reference=NAME, dangling=true, before=IMAGE, since=IMAGE, until=24h, label=KEY.",
    ),
]


def short_id(image: Json) -> str:
    """Return the first twelve digits of an image's id."""
    return str(image.get("id", "")).removeprefix("sha256:")[:12]
