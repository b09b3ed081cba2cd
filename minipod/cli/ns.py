# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod ns``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from minipod.cli.options import SETTINGS, Namespace, Output, Pod, session, verb
from minipod.cli.output import Paint, escape

Json = dict[str, Any]

app = typer.Typer(**SETTINGS)

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue")
_WIDTH = 14


@verb(app, "minipod ns web", "minipod ns web -o json")
def ns(ctx: typer.Context, pod: Pod, output: Output = "", namespace: Namespace = None) -> None:
    """Show which namespaces the containers of a pod share.

    The numbers are the kernel's inode numbers, as readlink /proc/PID/ns/net shows them. In a row, the same letter and
    colour mean the same namespace; h is the host's, and what has no letter is nobody else's.
    """
    from minipod.cli.inside import ask
    from minipod.cli.output import check_format, dump, painter, terminal_width

    form = check_format(output, ("json", "yaml"))
    data = ask(session(ctx), "namespaces", pod, namespace)
    if form:
        dump(data, form)
        return
    for line in lines(data, terminal_width(), painter(sys.stdout)):
        print(line)


def lines(data: Json, width: int, paint: Paint) -> Iterator[str]:
    """Yield a table with a row per kind of namespace, as many columns as fit, and then the other columns."""
    processes: list[Json] = data["processes"]
    room = max(1, (width - 8) // _WIDTH - 1)
    marks = {kind: letters(data, kind) for kind in data["host"]}
    for first in range(0, len(processes), room):
        shown = processes[first : first + room]
        yield _row("", ["host", *(each["name"] or "pause" for each in shown)])
        yield _row("pid", ["", *(str(each["pid"]) for each in shown)])
        for kind, host in data["host"].items():
            numbers = [host, *(each["namespaces"].get(kind, 0) for each in shown)]
            yield _marked(kind, numbers, marks[kind], paint)
        yield ""
    yield "h the host's own; A, B, … shared within the pod"


def letters(data: Json, kind: str) -> dict[int, str]:
    """Return a letter for each namespace of a kind that is the host's or more than one process's."""
    result = {data["host"][kind]: "h"}
    numbers = [each["namespaces"].get(kind, 0) for each in data["processes"]]
    for number in numbers:
        if number and number not in result and numbers.count(number) > 1:
            result[number] = chr(ord("A") + (len(result) - 1) % 26)
    return result


def _row(title: str, cells: list[str]) -> str:
    cut = [cell if len(cell) < _WIDTH else f"{cell[: _WIDTH - 2]}…" for cell in map(escape, cells)]
    return (f"{title:<8}" + "".join(cell.ljust(_WIDTH) for cell in cut)).rstrip()


def _marked(kind: str, numbers: list[int], marks: dict[int, str], paint: Paint) -> str:
    cells = []
    for number in numbers:
        mark = marks.get(number, "")
        words = (f"{number} {mark}" if number else "-").rstrip()
        colour = "dim" if mark == "h" else _COLOURS[(ord(mark) - ord("A")) % 5] if mark else ""
        cells.append((paint(words, colour) if colour else words) + " " * (_WIDTH - len(words)))
    return (f"{kind:<8}" + "".join(cells)).rstrip()
