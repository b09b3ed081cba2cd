# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod fs``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import typer

from minipod.cli.inside import cut, size
from minipod.cli.options import SETTINGS, Container, Namespace, Output, Pod, session, verb
from minipod.cli.output import Paint, escape

if TYPE_CHECKING:
    from minipod.runtime.overlaydiff import Change

Json = dict[str, Any]

app = typer.Typer(**SETTINGS)

_KINDS = {"A": "green", "C": "yellow", "D": "red"}
_QUIET = ("rw", "relatime")


@verb(app, "minipod fs web -c app", "minipod fs web -c app -o json")
def fs(
    ctx: typer.Context,
    pod: Pod,
    container: Container = None,
    output: Output = "",
    namespace: Namespace = None,
) -> None:
    """Show a container's layers, its own changes, and its mounts.

    Changes are those in the overlay's upper directory, as docker diff has them: A added, C changed, D deleted. Each
    mount is shown with where it came from: a volume and its field of the manifest, a default, or hardening.
    """
    from minipod.cli.inside import ask
    from minipod.cli.output import check_format, dump, painter, terminal_width

    form = check_format(output, ("json", "yaml"))
    data = ask(session(ctx), "filesystem", pod, namespace, container=container)
    found = _changes(data)
    if form:
        from dataclasses import asdict

        dump({**data, "changes": [asdict(change) for change in found]}, form)
        return
    for line in lines(data, found, terminal_width(), painter(sys.stdout)):
        print(line)


def _changes(data: Json) -> Iterator[Change]:
    """Yield the changes; found by this process, so that a container with a million of them keeps no agent busy."""
    import os
    from contextlib import ExitStack

    from minipod.runtime.overlaydiff import changes

    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with ExitStack() as stack:
        fds = []
        for path in (data["upper"], *(layer["path"] for layer in data["layers"])):
            fds.append(os.open(path, flags))
            stack.callback(os.close, fds[-1])
        yield from changes(fds[0], fds[1:])


def lines(data: Json, found: Iterable[Change], width: int, paint: Paint) -> Iterator[str]:
    """Yield the lines of all three parts."""
    head = f"container {data['container']} of pod {data['namespace']}/{data['name']}: image {data['image']}"
    yield escape(head)
    yield ""
    yield f"LAYERS ({len(data['layers'])}, the top one first)"
    for layer in data["layers"]:
        count = size(layer["size"]) if layer["size"] is not None else "?"
        digest = escape(layer["digest"] or layer["diffID"])
        yield f"  {digest if width >= 100 else cut(digest, 20)}  {count:>10}"
    yield ""
    yield "CHANGES"
    points = {mount["point"] for mount in data["mounts"]}
    yield from _change_lines(found, points, width, paint)
    yield ""
    yield "MOUNTS"
    yield from _mount_lines(data["mounts"], width, paint)


def _change_lines(
    found: Iterable[Change], points: set[str], width: int, paint: Paint
) -> Iterator[str]:
    counts, total = {"A": 0, "C": 0, "D": 0}, 0
    for change in found:
        counts[change.kind] += 1
        total += change.size
        words = escape(change.path) + ("/" if change.type == "directory" else "")
        more = [size(change.size)] if change.type == "file" else []
        more += [change.type] if change.type in ("link", "device", "fifo", "socket") else []
        more += ["a mount point"] if change.path in points else []
        more += [change.note] if change.note else []
        line = f"{words}  ({', '.join(more)})" if more else words
        yield f"  {paint(change.kind, _KINDS[change.kind])}  {cut(line, width - 5)}"
    if any(counts.values()):
        yield f"  {counts['A']} added, {counts['C']} changed, {counts['D']} deleted; {size(total)} in files"
    else:
        yield "  none"


def _mount_lines(mounts: list[Json], width: int, paint: Paint) -> Iterator[str]:
    rows = [("POINT", "TYPE", "OPTIONS", "FROM")]
    for mount in mounts:
        origin = mount["origin"]
        words = ": ".join(filter(None, (origin["kind"], origin["words"])))
        words += f" [{origin['field']}]" if origin["field"] else ""
        options = [word for word in mount["options"] if word not in _QUIET]
        propagation = [word for word in mount["propagation"] if word != "-"]
        rows.append((mount["point"], mount["type"], ",".join(options + propagation) or "rw", words))
    cells = [tuple(map(escape, row)) for row in rows]
    most = (max(20, width // 3), 8, 24)
    widths = [min(most[i], max(len(row[i]) for row in cells)) for i in range(3)]
    colours = {"volume": "cyan", "hardening": "dim", "unknown": "yellow"}
    for number, row in enumerate(cells):
        head = "".join(f"  {cut(cell, w):<{w}}" for cell, w in zip(row[:3], widths, strict=True))
        line = f"{head}  {cut(row[3], max(10, width - len(head) - 2))}"
        colour = colours.get(mounts[number - 1]["origin"]["kind"], "") if number else ""
        yield paint(line, colour) if colour else line
