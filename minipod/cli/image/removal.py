# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and removal: tag, rm, prune."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minipod.cli.image.group import Filters, Json, Reference, References, app, short_id
from minipod.cli.options import session, verb


@verb(app, "minipod image tag localhost/app:1 registry.example/team/app:1")
def tag(
    ctx: typer.Context,
    reference: Reference,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="What to call it besides.")],
) -> None:
    """Give an image further names; one that another image has moves."""
    from minipod.cli.client import call
    from minipod.cli.output import say

    for name in names:
        request = {"verb": "image", "op": "tag", "reference": reference, "name": name}
        with call(session(ctx).config, request) as answer:
            say(f"tagged {answer.finish()['reference']}")


@verb(app, "minipod image rm localhost/app:1", "minipod image rm 5e15bd63e375 nginx:1.27")
def rm(
    ctx: typer.Context,
    references: References,
    force: Annotated[
        bool,
        typer.Option("--force", "-f", help="Even when a pod names it, if nothing runs from it."),
    ] = False,
) -> None:
    """Remove images from the store.

    A name takes only itself away, and the image with its last one; an id takes the image with all its names. What
    cannot be removed is an error at the end; the others go all the same.
    """
    from minipod.cli.client import call
    from minipod.cli.output import say
    from minipod.errors import MinipodError

    request = {"verb": "image", "op": "rm", "references": references, "force": force}
    with call(session(ctx).config, request) as answer:
        done = answer.finish()
    for line in done.get("removed", []):
        say(line)
    errors = [MinipodError.from_status(status) for status in done.get("failed", [])]
    for error in errors[:-1]:
        print(f"minipod: {_line(error)}", file=sys.stderr)
    if errors:
        raise errors[-1]


def _line(error: Exception) -> str:
    from minipod.cli.output import escape

    return escape(str(error))


@verb(
    app,
    "minipod image prune",
    "minipod image prune --all --unused-for 7d",
    "minipod image prune --keep-storage 10Gi --dry-run",
)
def prune(
    ctx: typer.Context,
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Not only those without a name.")
    ] = False,
    filters: Filters = None,
    unused_for: Annotated[
        str,
        typer.Option("--unused-for", metavar="DURATION", help="Only what no pod used for so long."),
    ] = "",
    keep_storage: Annotated[
        str,
        typer.Option(
            "--keep-storage",
            metavar="SIZE",
            help="The least recently used, until the rest takes up no more than this.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask.")] = False,
) -> None:
    """Remove images that no pod uses.

    Without --all and --keep-storage only those that have no name any more. --filter until=24h means images that were
    made before; --unused-for, those that were last used before.
    """
    from minipod.cli.client import call
    from minipod.cli.output import say
    from minipod.cli.sizes import human_size, parse_size

    request: Json = {
        "verb": "image",
        "op": "prune",
        "all": every,
        "filters": filters or [],
        "unusedFor": unused_for,
        "keep": parse_size(keep_storage) if keep_storage else None,
        "dryRun": True,
    }
    config = session(ctx).config
    if dry_run or not force:
        with call(config, request) as answer:
            plan = answer.finish()
        if dry_run:
            _show_plan(plan["images"])
            say(f"would reclaim {human_size(plan['reclaimed'])}")
            return
        if plan["images"] and not _is_wanted(len(plan["images"]), plan["reclaimed"]):
            raise typer.Exit(1)
        # Not what has come since: nobody has been asked about that.
        request["only"] = [image["digest"] for image in plan["images"]]
    with call(config, {**request, "dryRun": False}) as answer:
        done = answer.finish()
    for line in done["removed"]:
        say(line)
    say(f"reclaimed {human_size(done['reclaimed'])}")


def _show_plan(images: list[Json]) -> None:
    from minipod.cli.output import Table
    from minipod.cli.sizes import human_size

    rows = [
        [
            ", ".join(image["references"]) or "<none>",
            short_id(image),
            human_size(image["uniqueSize"]),
        ]
        for image in images
    ]
    if rows:
        Table("REFERENCES", "IMAGE ID", "UNIQUE").show(rows)


def _is_wanted(count: int, size: int) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: there is none.
    """
    from minipod.cli.sizes import human_size
    from minipod.errors import UsageError

    what = f"{count} image{'s' * (count > 1)}, {human_size(size)}"
    if not sys.stdin.isatty():
        raise UsageError(
            f"this would remove {what}, and nobody can be asked", "say --force, or --dry-run"
        )
    sys.stderr.write(f"remove {what}? [y/N] ")
    sys.stderr.flush()
    said = sys.stdin.readline()
    if not said.endswith("\n"):  # Ctrl-D
        sys.stderr.write("\n")
    return said.strip().lower() in ("y", "yes")
