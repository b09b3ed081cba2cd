# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod events``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from minipod.cli.options import (
    SETTINGS,
    AllNamespaces,
    Namespace,
    Output,
    Watch,
    complete_pods,
    session,
    verb,
)

app = typer.Typer(**SETTINGS)


@verb(app, "minipod events", "minipod events --for pod/web -w")
def events(
    ctx: typer.Context,
    about: Annotated[
        str,
        typer.Option(
            "--for", metavar="pod/NAME", help="Only of this pod.", autocompletion=complete_pods
        ),
    ] = "",
    watch: Watch = False,
    all_namespaces: AllNamespaces = False,
    output: Output = "",
    namespace: Namespace = None,
) -> None:
    """List what happened to pods, the latest last."""
    from minipod.cli.args import pod_name
    from minipod.cli.get import fetch, printer, say_none, show_changes
    from minipod.cli.output import check_format, dump_objects

    form = check_format(output, ("json", "yaml"))
    name = pod_name(about) if about else ""
    where = session(ctx)
    within = None if all_namespaces else where.namespace(namespace)
    request: dict[str, Any] = {
        "verb": "get",
        "kind": "events",
        "namespace": within,
        "names": [],
        "selector": "",
        "watch": False,
    }

    def wanted(item: dict[str, Any]) -> bool:
        return not name or item.get("involvedObject", {}).get("name") == name

    show_list = printer("events", form, everywhere=all_namespaces)
    if watch:
        show_changes(where, request, form, show_list, wanted)
        return
    items = [item for item in fetch(where, request) if wanted(item)]
    if form:
        dump_objects(items, form, single=False)
    elif items:
        show_list(items)
    else:
        say_none(within)
