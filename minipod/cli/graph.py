# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod graph``: pods as pictures; what is drawn is told by ``graphdata``, how by ``minipod.graph``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minipod.cli.options import (
    SETTINGS,
    AllNamespaces,
    Namespace,
    complete_pods,
    complete_words,
    session,
    verb,
)

app = typer.Typer(**SETTINGS)

_FORMATS = ("text", "svg", "html", "dot", "mermaid")


@verb(
    app,
    "minipod graph web",
    "minipod graph web -o svg > web.svg",
    "minipod graph -A -o html > pods.html",
    "minipod graph web -o dot | dot -Tpng > web.png",
)
def graph(
    ctx: typer.Context,
    pod: Annotated[
        str,
        typer.Argument(
            metavar="[POD]",
            help="The pod, NAME or pod/NAME; all of the namespace when none is named.",
            autocompletion=complete_pods,
            show_default=False,
        ),
    ] = "",
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="|".join(_FORMATS),
            help="How to draw.",
            autocompletion=complete_words(*_FORMATS),
        ),
    ] = "",
    all_namespaces: AllNamespaces = False,
    namespace: Namespace = None,
) -> None:
    """Draw pods, with what is in them.

    Namespaces are boxes, in which there are processes, limits and volumes; a line leads to the bridge.
    """
    from minipod.cli.args import pod_name
    from minipod.cli.client import call
    from minipod.cli.get import say_none
    from minipod.cli.graphdata import Machine, picture
    from minipod.cli.output import check_format

    form = check_format(output, _FORMATS)
    where = session(ctx)
    within = None if all_namespaces and not pod else where.namespace(namespace)
    names = [pod_name(pod)] if pod else []
    request = {"verb": "get", "kind": "pods", "namespace": within, "names": names}
    with call(where.config, request) as answer:
        pods = answer.finish()["items"]
    if not pods:
        say_none(within)
        return
    pods.sort(key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"]))
    found = picture(pods, where.config, Machine())
    if form in ("", "text"):
        import shutil

        from minipod.graph.text import text

        print(text(found, min(100, shutil.get_terminal_size().columns)))
        return
    if form in ("dot", "mermaid"):
        from minipod.graph import diagrams

        sys.stdout.write(diagrams.dot(found) if form == "dot" else diagrams.mermaid(found))
        return
    from minipod.graph import svg

    sys.stdout.write(svg.html(found) if form == "html" else svg.svg(found))
