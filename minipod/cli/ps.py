# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod ps``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from minipod.cli.inside import cut, size
from minipod.cli.options import SETTINGS, Namespace, Output, Pod, session, verb
from minipod.cli.output import Paint, escape

Json = dict[str, Any]

app = typer.Typer(**SETTINGS)

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue")


@verb(app, "minipod ps web", "minipod ps web -o json")
def ps(ctx: typer.Context, pod: Pod, output: Output = "", namespace: Namespace = None) -> None:
    """Show the processes of a pod, as the host and as they see them.

    PID is the host's number; INSIDE the number in the process's own PID namespace. USER is the host's uid and, where
    it differs, the uid in the pod's user namespace. %CPU is the share of one cpu over the process's life.
    """
    from minipod.cli.inside import ask
    from minipod.cli.output import check_format, dump, painter, terminal_width

    form = check_format(output, ("json", "yaml"))
    data = ask(session(ctx), "processes", pod, namespace)
    if form:
        dump(data, form)
        return
    for line in lines(data, terminal_width(), painter(sys.stdout)):
        print(line)


def lines(data: Json, width: int, paint: Paint) -> Iterator[str]:
    """Yield a title and a line for each process, each below the one that it is a child of."""
    titles = ("PID", "INSIDE", "CONTAINER", "USER", "S", "%CPU", "RSS", "COMMAND")
    rows = [_cells(each, data) for each, _ in _tree(data)]
    widths = [max(len(title), *(len(row[i]) for row in rows)) for i, title in enumerate(titles[:7])]
    widths[2] = min(widths[2], 20)
    names = list(dict.fromkeys(each["container"] for each in data["processes"]))
    yield _line(titles[:7], widths) + titles[7]
    for (each, trunk), row in zip(_tree(data), rows, strict=True):
        head = _line(row, widths)
        command = escape(" ".join(each["command"]) or f"[{each['name']}]")
        line = head + cut(trunk + command, max(10, width - len(head)))
        whose = each.get("container")
        yield paint(line, _COLOURS[names.index(whose) % 5]) if whose else line


_RIGHT = (0, 1, 5, 6)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    words = []
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        short = cut(cell, width)
        words.append(short.rjust(width) if i in _RIGHT else short.ljust(width))
    return "  ".join(words) + "  "


def _cells(each: Json, data: Json) -> tuple[str, ...]:
    whose = each.get("container")
    inside, outside = each["inner_uid"], each["uid"]
    user = str(outside) if inside == outside else f"{outside}→{inside if inside >= 0 else '-'}"
    lived = data["uptime"] - each["started"] / data["ticks"]
    share = 100 * each["ticks"] / data["ticks"] / lived if lived > 0 else 0.0
    return (
        str(each["pid"]),
        str(each["pids"][-1]) if len(each["pids"]) > 1 else "=",
        escape(
            whose
            if whose
            else "(pause)"
            if each["pid"] == data["pause"]
            else "(shim)"
            if whose is None
            else "(sandbox)"
        ),
        user,
        each["state"],
        f"{share:.1f}",
        size(each["rss"]),
    )


def _tree(data: Json) -> Iterator[tuple[Json, str]]:
    """Yield each process with the branches before it; those whose parent is not in the pod stand below the shim."""
    shim: Json = data["shim"]
    known = {each["pid"] for each in data["processes"]}
    children: dict[int, list[Json]] = {}
    for each in data["processes"]:
        parent = each["parent"] if each["parent"] in known else shim["pid"]
        children.setdefault(parent, []).append(each)
    yield shim, ""
    yield from _branches(children, shim["pid"], "")


def _branches(
    children: Mapping[int, list[Json]], parent: int, trunk: str
) -> Iterator[tuple[Json, str]]:
    # By hand, not by recursion: a container decides how deep it goes.
    stack = [(iter(children.get(parent, [])), len(children.get(parent, [])), trunk)]
    while stack:
        each_of, left, before = stack.pop()
        each = next(each_of, None)
        if each is None:
            continue
        last = left == 1
        stack.append((each_of, left - 1, before))
        yield each, before + ("└─ " if last else "├─ ")
        below = children.get(each["pid"], [])
        stack.append((iter(below), len(below), before + ("   " if last else "│  ")))
