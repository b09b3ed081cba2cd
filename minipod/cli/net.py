# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod net``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Namespace, Output, complete_pods, session, verb

Json = dict[str, Any]

app = typer.Typer(**SETTINGS)


@verb(app, "minipod net", "minipod net web", "minipod net web -o json")
def net(
    ctx: typer.Context,
    pod: Annotated[
        str | None, typer.Argument(metavar="[POD]", help="The pod.", autocompletion=complete_pods)
    ] = None,
    output: Output = "",
    namespace: Namespace = None,
) -> None:
    """Show how pods are connected, and what the packets of one meet.

    The ways are: to another pod, to the host, to the outside, and in through a port of the host. Counters are the
    kernel's: of the links, and of the rules of the packet filter since the agent wrote them. Other programs' filters
    that drop forwarded packets are shown, too.
    """
    from minipod.cli.args import pod_name
    from minipod.cli.client import call
    from minipod.cli.inside import cut
    from minipod.cli.netpaths import overview, ways
    from minipod.cli.output import check_format, dump, painter, terminal_width

    form = check_format(output, ("json", "yaml"))
    where = session(ctx)
    request: Json = {"verb": "network", "namespace": where.namespace(namespace)}
    if pod is not None:
        request["pod"] = pod_name(pod)
    with call(where.config, request) as answer:
        data = answer.finish()
    if form:
        dump(data, form)
        return
    width = terminal_width()
    if pod is not None:
        for line in ways(data, width, painter(sys.stdout)):
            print(line)
    else:
        for line in overview(data):
            print(cut(line, width))
