# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the store: ls, inspect."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minipod.cli.image.group import Json, Reference, app
from minipod.cli.options import complete_words, session, verb


@verb(app, "minipod image ls", "minipod image ls -o json", name="ls")
def list_images(
    ctx: typer.Context,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="json|yaml|name",
            help="How to print.",
            autocompletion=complete_words("json", "yaml", "name"),
        ),
    ] = "",
) -> None:
    """List the images."""
    from minipod.cli.client import call
    from minipod.cli.output import Table, check_format, dump, say

    form = check_format(output, ("json", "yaml", "name"))
    with call(session(ctx).config, {"verb": "image", "op": "list"}) as answer:
        images: list[Json] = answer.finish().get("images", [])
    if form in ("json", "yaml"):
        dump(images, form)
    elif form == "name":
        for image in images:
            for name in _names(image):
                say(name)
    elif images:
        rows = [_row(name, image) for image in images for name in _names(image)]
        Table("REFERENCE", "IMAGE ID", "SIZE", "CREATED").show(sorted(rows))
    else:
        print("No images.", file=sys.stderr)


def _names(image: Json) -> list[str]:
    return image.get("references") or [image.get("reference") or image["id"]]


def _row(name: str, image: Json) -> list[str]:
    import time

    from minipod.cli.podtable import UNKNOWN, age
    from minipod.cli.sizes import human_size

    made = age(image.get("created"), time.time())
    short = str(image.get("id", "")).removeprefix("sha256:")[:12]
    return [
        name,
        short,
        human_size(image.get("size", 0)),
        made if made == UNKNOWN else f"{made} ago",
    ]


@verb(app, "minipod image inspect localhost/app:1")
def inspect(
    ctx: typer.Context,
    reference: Reference,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="json|yaml", help="How to print.")
    ] = "json",
) -> None:
    """Show what an image says of itself."""
    from minipod.cli.client import call
    from minipod.cli.output import check_format, dump

    form = check_format(output, ("json", "yaml"))
    with call(
        session(ctx).config, {"verb": "image", "op": "inspect", "reference": reference}
    ) as answer:
        dump(answer.finish().get("image", {}), form)
