# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the store: ls, inspect, history."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minipod.cli.image.group import Filters, Json, Reference, app, short_id
from minipod.cli.options import Output, complete_images, complete_words, session, verb

_FORMS = ("wide", "json", "yaml", "name")
_WIDTH = 45  # of a command in a history, as Docker and Podman cut it


@verb(
    app,
    "minipod image ls",
    "minipod image ls nginx -o wide",
    "minipod image ls --filter dangling=true -o json",
    name="ls",
)
def list_images(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="Only those with this name; * and ? are understood.",
            autocompletion=complete_images,
        ),
    ] = "",
    filters: Filters = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="wide|json|yaml|name",
            help="How to print.",
            autocompletion=complete_words(*_FORMS),
        ),
    ] = "",
) -> None:
    """List the images, and what they take up on the disk.

    SHARED is what another image has, too; UNIQUE is what removing the image gives back.
    """
    from minipod.cli.client import call
    from minipod.cli.output import Table, check_format, dump, say

    form = check_format(output, _FORMS)
    wanted = [*(filters or ()), *([f"reference={name}"] if name else [])]
    request = {"verb": "image", "op": "list", "filters": wanted}
    with call(session(ctx).config, request) as answer:
        images: list[Json] = answer.finish().get("images", [])
    if form in ("json", "yaml"):
        dump(images, form)
    elif form == "name":
        for image in images:
            for reference in _names(image):
                say(reference)
    elif images:
        wide = form == "wide"
        titles = ["REFERENCE", "IMAGE ID", "SIZE", "SHARED", "UNIQUE", "CREATED"]
        if wide:
            titles += ["LAST USED", "PLATFORM", "DIGEST", "PODS"]
        rows = [_row(each, image, wide) for image in images for each in _names(image)]
        Table(*titles).show(sorted(rows))
    else:
        print("No images.", file=sys.stderr)


def _names(image: Json) -> list[str]:
    return image.get("references") or [image.get("reference") or image["id"]]


def _row(name: str, image: Json, wide: bool) -> list[str]:
    from minipod.cli.sizes import human_size

    sizes = [human_size(image.get(key, 0)) for key in ("size", "sharedSize", "uniqueSize")]
    cells = [name, short_id(image), *sizes, _ago(image.get("created"))]
    if wide:
        platform = f"{image.get('os')}/{image.get('architecture')}"
        pods = ", ".join(image.get("pods", [])) or "<none>"
        cells += [_ago(image.get("lastUsed")), platform, str(image.get("digest")), pods]
    return cells


def _ago(timestamp: str | None) -> str:
    import time

    from minipod.cli.podtable import UNKNOWN, age

    made = age(timestamp, time.time())
    return made if made == UNKNOWN else f"{made} ago"


@verb(app, "minipod image inspect localhost/app:1", "minipod image inspect 5e15bd63e375 -o yaml")
def inspect(
    ctx: typer.Context,
    reference: Reference,
    output: Output = "json",
) -> None:
    """Show what an image says of itself, what it consists of, and who uses it."""
    from minipod.cli.client import call
    from minipod.cli.output import check_format, dump

    form = check_format(output, ("json", "yaml"))
    request = {"verb": "image", "op": "inspect", "reference": reference}
    with call(session(ctx).config, request) as answer:
        dump(answer.finish().get("image", {}), form)


@verb(app, "minipod image history localhost/app:1", "minipod image history nginx --no-trunc")
def history(
    ctx: typer.Context,
    reference: Reference,
    whole: Annotated[bool, typer.Option("--no-trunc", help="Cut nothing off.")] = False,
    output: Output = "",
) -> None:
    """Show how an image came to be, as it says itself, the last step first."""
    from minipod.cli.client import call
    from minipod.cli.output import Table, check_format, dump
    from minipod.cli.sizes import human_size

    form = check_format(output, ("json", "yaml"))
    request = {"verb": "image", "op": "history", "reference": reference}
    with call(session(ctx).config, request) as answer:
        done = answer.finish()
    steps: list[Json] = done["history"]
    if form:
        dump(steps, form)
        return
    rows = []
    for number, step in enumerate(steps):
        # Docker's and Podman's word for what older versions had the id of an image for.
        name = "<missing>" if number else (done["id"] if whole else short_id(done))
        command = " ".join(step["createdBy"].split())
        if not whole and len(command) > _WIDTH:
            command = command[: _WIDTH - 1] + "…"
        size = human_size(step["size"])
        rows.append([name, _ago(step["created"]), command, size, step["comment"]])
    Table("ID", "CREATED", "CREATED BY", "SIZE", "COMMENT").show(rows)
