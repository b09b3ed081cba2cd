# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod cgroup``."""

from __future__ import annotations

import sys
from typing import Any

import typer

from minipod.cli.options import SETTINGS, Container, Namespace, Output, Pod, Watch, session, verb

Json = dict[str, Any]

app = typer.Typer(**SETTINGS)

_PAUSE = 2.0  # seconds between two looks of -w


@verb(app, "minipod cgroup web", "minipod cgroup web -c app -w", "minipod cgroup web -o json")
def cgroup(
    ctx: typer.Context,
    pod: Pod,
    container: Container = None,
    watch: Watch = False,
    output: Output = "",
    namespace: Namespace = None,
) -> None:
    """Show limits beside what the kernel enforces and counts.

    For the pod and each of its containers: the manifest's value, the cgroup's file with its value, and what is used.
    The files are those of this machine: cgroup v2, v1 controllers, or both side by side. Pressure is the share of the
    last 10 and 60 seconds in which some or all processes waited. A limit that was hit is marked with !.
    """
    import time

    from minipod.cli.cgrouptable import lines
    from minipod.cli.inside import ask
    from minipod.cli.output import check_format, dump, is_terminal, painter, terminal_width

    form = check_format(output, ("json", "yaml"))
    where, before = session(ctx), None
    while True:
        data = ask(where, "cgroup", pod, namespace, container=container)
        if form:
            dump(data, form)
        else:
            shown = list(lines(data, before, terminal_width(), painter(sys.stdout)))
            if watch and is_terminal(sys.stdout):
                sys.stdout.write("\x1b[H\x1b[J")
            print("\n".join(shown), flush=True)
        if not watch:
            return
        before = data
        time.sleep(_PAUSE)
