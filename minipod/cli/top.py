# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod top``."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from minipod.cli.options import (
    SETTINGS,
    AllNamespaces,
    Namespace,
    Selector,
    Session,
    Watch,
    complete_targets,
    session,
    verb,
)

Json = dict[str, Any]

app = typer.Typer(**SETTINGS)

_FIRST = 0.5  # seconds between the two samples of the first answer
_NEXT = 2.0  # seconds between answers


@verb(
    app,
    "minipod top pods",
    "minipod top pod web --containers",
    "minipod top pods -A --sort-by cpu -w",
)
def top(
    ctx: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(metavar="pods [NAME]...", help="Which.", autocompletion=complete_targets),
    ],
    containers: Annotated[bool, typer.Option("--containers", help="Show each container.")] = False,
    sort_by: Annotated[
        str, typer.Option("--sort-by", metavar="cpu|memory", help="The largest first.")
    ] = "",
    watch: Watch = False,
    selector: Selector = "",
    all_namespaces: AllNamespaces = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Print no titles.")] = False,
    namespace: Namespace = None,
) -> None:
    """Show how much cpu and memory pods use now."""
    from minipod.cli.args import parse_targets
    from minipod.cli.get import say_none
    from minipod.cli.output import Table, is_terminal
    from minipod.errors import UsageError

    _, names = parse_targets(targets)
    if sort_by not in ("", "cpu", "memory"):
        raise UsageError(f"top: cannot sort by {sort_by!r}", "use cpu or memory")
    where = session(ctx)
    within = None if all_namespaces else where.namespace(namespace)
    request = {"verb": "usage", "namespace": within, "names": names, "selector": selector}
    titles = ["NAMESPACE"] * all_namespaces + (["POD", "NAME"] if containers else ["NAME"])
    before = _ask(where, request)
    pause = _FIRST
    while True:
        time.sleep(pause)
        now = _ask(where, request)
        rows = _rows(before, now, containers=containers, namespaces=all_namespaces)
        if sort_by:
            rows.sort(key=lambda row: -row[1][0 if sort_by == "cpu" else 1])
        if watch and is_terminal(sys.stdout):
            sys.stdout.write("\x1b[H\x1b[J")
        if rows or watch:
            table = Table(*titles, "CPU(cores)", "MEMORY(bytes)", headers=not no_headers)
            table.show([[*name, f"{cpu}m", f"{memory >> 20}Mi"] for name, (cpu, memory) in rows])
            sys.stdout.flush()
        else:
            say_none(within)
        if not watch:
            return
        before, pause = now, _NEXT


def _ask(where: Session, request: Json) -> list[Json]:
    from minipod.cli.client import call

    with call(where.config, request) as answer:
        pods: list[Json] = answer.finish()["pods"]
    return sorted(pods, key=lambda pod: (pod["namespace"], pod["name"]))


def _rows(
    before: list[Json], now: list[Json], *, containers: bool, namespaces: bool
) -> list[tuple[list[str], tuple[int, int]]]:
    """Return (names, (thousandths of a cpu, bytes)) for each pod, or container, that runs in both samples."""
    earlier = {
        (pod["namespace"], pod["name"], each["name"], each["run"]): each
        for pod in before
        for each in pod["containers"]
    }
    result = []
    for pod in now:
        own = []
        for each in pod["containers"]:
            old = earlier.get((pod["namespace"], pod["name"], each["name"], each["run"]))
            if old is not None:
                own.append((each["name"], (_millicores(old, each), each["memoryBytes"])))
        place = [pod["namespace"]] * namespaces + [pod["name"]]
        if containers:
            result += [([*place, name], used) for name, used in own]
        elif own:
            total = sum(used[0] for _, used in own), sum(used[1] for _, used in own)
            result.append((place, total))
    return result


def _millicores(old: Json, new: Json) -> int:
    elapsed = float(new["time"] - old["time"]) * 1e9
    used = float(new["cpuNanoseconds"] - old["cpuNanoseconds"])
    return max(0, round(1000 * used / elapsed)) if elapsed > 0 else 0
