# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod system``: what takes up how much of the disk."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Output, examples, session, verb

Json = dict[str, Any]

app = typer.Typer(
    help="What the instance takes up on the disk.",
    epilog=examples("minipod system df", "minipod system df -v"),
    **SETTINGS,
)

_KINDS = ("images", "pods", "volumes", "logs")


@app.callback()
def _group() -> None:
    pass  # so that "df" stays a verb of its own


@verb(app, "minipod system df", "minipod system df -v", "minipod system df -o json")
def df(
    ctx: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Each thing by itself.")] = False,
    output: Output = "",
) -> None:
    """Show what images, pods, volumes and logs take up.

    RECLAIMABLE is what images that no pod uses, pods that have ended, their logs, and volumes whose claim is gone
    would give back: image prune --all, and delete.
    """
    from minipod.cli.client import call
    from minipod.cli.output import Table, check_format, dump
    from minipod.cli.sizes import human_size

    form = check_format(output, ("json", "yaml"))
    with call(session(ctx).config, {"verb": "system-df"}) as answer:
        found = answer.finish()
    if form:
        dump(found, form)
        return
    if verbose:
        _show_each(found)
        return
    rows = []
    for kind in _KINDS:
        part = found[kind]
        share = f" ({100 * part['reclaimable'] // part['size']}%)" if part["size"] else ""
        reclaimable = human_size(part["reclaimable"]) + share
        rows.append(
            [
                kind.capitalize(),
                part["count"],
                part["active"],
                human_size(part["size"]),
                reclaimable,
            ]
        )
    Table("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE").show(rows)


def _show_each(found: Json) -> None:
    from minipod.cli.image.group import short_id
    from minipod.cli.output import Table
    from minipod.cli.sizes import human_size

    titles: dict[str, list[str]] = {
        "images": ["REFERENCE", "IMAGE ID", "SIZE", "SHARED", "UNIQUE", "PODS"],
        "pods": ["POD", "PHASE", "SIZE"],
        "volumes": ["VOLUME", "CLAIM", "SIZE"],
        "logs": ["LOGS OF", "SIZE"],
    }
    for number, kind in enumerate(_KINDS):
        rows = []
        for item in found[kind]["items"]:
            size = human_size(item["size"])
            match kind:
                case "images":
                    sizes = [human_size(item["sharedSize"]), human_size(item["uniqueSize"])]
                    rows.append([item["name"], short_id(item), size, *sizes, len(item["pods"])])
                case "pods":
                    rows.append([item["name"], item["phase"], size])
                case "volumes":
                    rows.append([item["name"], item["claim"] or "<none>", size])
                case _:
                    rows.append([item["name"], size])
        if number:
            print()
        print(f"{kind.capitalize()}: {human_size(found[kind]['size'])}")
        if rows:
            Table(*titles[kind]).show(rows)
