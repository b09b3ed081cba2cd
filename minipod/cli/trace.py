# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod trace``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from minipod.cli.options import (
    SETTINGS,
    Container,
    Namespace,
    Pod,
    complete_words,
    session,
    verb,
)

app = typer.Typer(**SETTINGS)

_FORMATS = ("html", "chrome", "json")


@verb(
    app,
    "minipod trace web",
    "minipod trace web -c app --all",
    "minipod trace web -o html > web.html",
    "minipod trace web -o chrome > web.json   # for ui.perfetto.dev or chrome://tracing",
)
def trace(
    ctx: typer.Context,
    pod: Pod,
    container: Container = None,
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Show every step, however short.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="|".join(_FORMATS),
            help="A page, a Trace Event file, or the data.",
            autocompletion=complete_words(*_FORMATS),
        ),
    ] = "",
    namespace: Namespace = None,
) -> None:
    """Show how long each step of a pod's start took, as a waterfall.

    It shows how the present sandbox came up and what began in it first; with -c, the last start of one container.
    Steps on the critical path, which the pod's start waited for, are marked with *. -o json has all starts that are
    remembered (the setting "traces": 5 of each container).
    """
    from minipod.cli.args import pod_name
    from minipod.cli.client import call
    from minipod.cli.output import check_format, dump, painter, terminal_width
    from minipod.cli.waterfall import picture, text
    from minipod.errors import MinipodError

    form = check_format(output, _FORMATS)
    where = session(ctx)
    request = {
        "verb": "trace",
        "namespace": where.namespace(namespace),
        "pod": pod_name(pod),
    }
    with call(where.config, request) as answer:
        data = answer.finish()
    if container and container not in {each["name"] for each in data["containers"]}:
        names = ", ".join(each["name"] for each in data["containers"])
        raise MinipodError(
            f"pod {data['namespace']}/{data['name']} has no container {container}",
            f"there are: {names}",
        )
    if form == "json":
        dump(data, form)
        return
    shown = picture(data, container or "")
    if shown is None:
        off = not data["recorded"]
        raise MinipodError(
            f"nothing is known of the start of pod {data['namespace']}/{data['name']}",
            'the setting traces is "0": no step is timed' if off else "it has not begun yet",
        )
    if form == "html":
        from minipod.cli.tracepage import page

        sys.stdout.write(page(shown))
    elif form == "chrome":
        from minipod.cli.tracepage import events

        dump(events(shown), "json")
    else:
        for line in text(shown, terminal_width(), painter(sys.stdout), every=every):
            print(line)
