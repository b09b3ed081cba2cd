# SPDX-License-Identifier: GPL-3.0-or-later
"""The starts of a pod as lanes of spans, with the critical path; and that as text. Pure."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from minipod.cli.output import Paint, escape

Json = dict[str, Any]

_LONG = 0.01  # a step that takes this part of the whole is shown by itself
_TIE = 1000  # ns: two ends that are so near are taken for one
_STAGES = {
    "accept": "request accepted",
    "prepare": "prepared",
    "image": "image",
    "host": "made on the host",
    "launch": "launched",
    "network": "network",
    "run": "ran",
}
_KINDS = {"init": "init container", "sidecar": "sidecar", "app": "container"}
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(slots=True)
class Bar:
    """A span, in ns from the beginning of the picture.

    Attributes:
        by: who did it: ``agent``, ``shim`` or ``clone``.
        critical: had it been shorter, the whole would have been.
    """

    what: str
    began: int
    ended: int
    source: str
    by: str
    critical: bool = False

    @property
    def took(self) -> int:
        """How long it took, in ns."""
        return self.ended - self.began


@dataclass(slots=True)
class Stage:
    """Consecutive spans of one kind."""

    name: str
    bars: list[Bar]

    @property
    def began(self) -> int:
        """When its first span began."""
        return self.bars[0].began

    @property
    def ended(self) -> int:
        """When its last span ended."""
        return max(bar.ended for bar in self.bars)

    @property
    def critical(self) -> bool:
        """Whether the critical path leads through it."""
        return any(bar.critical for bar in self.bars)

    @property
    def title(self) -> str:
        """What it is, in words."""
        return _STAGES.get(self.name, self.name)


@dataclass(slots=True)
class Lane:
    """One start: of the sandbox, or of a container."""

    title: str
    container: str
    stages: list[Stage]


@dataclass(slots=True)
class Picture:
    """What is to be shown.

    Attributes:
        title: whose start it is.
        began: seconds since the epoch.
        total: ns.
        path: the bars of the critical path in their order, each with its lane and stage.
    """

    title: str
    began: float
    total: int
    lanes: list[Lane]
    path: list[tuple[Lane, Stage, Bar]] = field(default_factory=list)


def picture(data: Json, container: str = "") -> Picture | None:
    """Return the picture of what ``trace`` answered; None when nothing is known of that start.

    It shows how the present sandbox, or the last one, came up and what began in it first; of *container*, if it is
    given, the last start alone.
    """
    starts: list[Json] = data["starts"]
    last = [start for start in starts if start["container"] == container][-1:]
    chosen = last if container else _first_starts(starts)
    chosen = [start for start in chosen if start["spans"]]
    if not chosen:
        return None
    origin = min(span["began"] for start in chosen for span in start["spans"])
    kinds = {each["name"]: each["kind"] for each in data["containers"]}
    lanes = [_lane(start, kinds, origin) for start in chosen]
    title = f"pod {data['namespace']}/{data['name']}" + (
        f", container {container}" if container else ""
    )
    result = Picture(
        title,
        chosen[0]["wall"] + origin / 1e9,
        max(stage.ended for lane in lanes for stage in lane.stages),
        lanes,
    )
    result.path = _critical_path(lanes)
    for _, _, bar in result.path:
        bar.critical = True
    return result


def _first_starts(starts: Sequence[Json]) -> list[Json]:
    sandboxes = [start for start in starts if not start["container"]]
    if not sandboxes:
        return []
    sandbox = sandboxes[-1]
    result, seen = [sandbox], set()
    for start in starts:
        name = start["container"]
        same = (start["sandbox"], start["boot"]) == (sandbox["number"], sandbox["boot"])
        if name and same and name not in seen:
            seen.add(name)
            result.append(start)
    return result


def _lane(start: Json, kinds: dict[str, str], origin: int) -> Lane:
    name = start["container"]
    if name:
        again = f", run {start['number'] + 1}" if start["number"] else ""
        title = f"{_KINDS.get(kinds.get(name, ''), 'container')} {name}{again}"
    else:
        title = "sandbox" + (f" {start['number'] + 1}" if start["number"] else "")
    spans = sorted(start["spans"], key=lambda span: (span["began"], span["ended"]))
    stages = []
    for stage, group in groupby(spans, key=lambda span: str(span["stage"])):
        bars = [
            Bar(
                span["what"],
                span["began"] - origin,
                span["ended"] - origin,
                span.get("source", ""),
                span.get("by", "agent"),
            )
            for span in group
        ]
        stages.append(Stage(stage, bars))
    return Lane(title, name, stages)


def _all(lanes: Iterable[Lane]) -> Iterator[tuple[Lane, Stage, Bar]]:
    for lane in lanes:
        for stage in lane.stages:
            for bar in stage.bars:
                yield lane, stage, bar


def _critical_path(lanes: Sequence[Lane]) -> list[tuple[Lane, Stage, Bar]]:
    """Return what the end waited for: from the last bar back, always the one that ended last before it began.

    Of bars that ended at the same time, it is the one in the same lane.
    """
    every = sorted(_all(lanes), key=lambda found: found[2].ended)
    if not every:
        return []
    path = [every[-1]]
    index = len(every) - 1
    while True:
        lane, _, bar = path[-1]
        while index >= 0 and (every[index][2].ended > bar.began or every[index][2] is bar):
            index -= 1
        if index < 0:
            return path[::-1]
        latest = every[index][2].ended
        tied = [e for e in every[: index + 1] if latest - e[2].ended <= _TIE]
        path.append(next((e for e in reversed(tied) if e[0] is lane), every[index]))


def duration(ns: int) -> str:
    """Return *ns* in a unit in which people read it: ``210 µs``, ``12.3 ms``, ``1.02 s``."""
    if ns < 999_500:
        return f"{ns / 1e3:.0f} µs"
    if ns < 999_500_000:
        return f"{ns / 1e6:.{1 if ns < 99_950_000 else 0}f} ms"
    return f"{ns / 1e9:.2f} s"


def summary(shown: Picture) -> list[tuple[str, int, str]]:
    """Return the critical path as (whose, ns, stages in words), and last what passed between its steps."""
    result = []
    for _, group in groupby(shown.path, key=lambda found: id(found[0])):
        found = list(group)
        parts = [
            (stage, sum(bar.took for _, _, bar in bars))
            for stage, bars in groupby(found, key=lambda each: each[1].title)
        ]
        words = ", ".join(f"{stage} {duration(took)}" for stage, took in parts)
        result.append((found[0][0].title, sum(took for _, took in parts), words))
    between = shown.total - sum(took for _, took, _ in result)
    return [*result, ("between them", between, "")] if between > _TIE else result


def text(shown: Picture, width: int, paint: Paint, *, every: bool = False) -> list[str]:
    """Return the lines of a waterfall in *width* columns; with *every* step, not only those that took long."""
    rows = list(_rows(shown, every=every))
    longest = max(len(row[1]) for row in rows)
    label = max(20, min(longest, width - 12 - max(20, width // 3)))
    room = max(10, width - label - 14)
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(shown.began))
    lines = [
        escape(f"{shown.title}: {duration(shown.total)} from {began}"),
        " " * (label + 14) + _scale(shown.total, room),
    ]
    for critical, title, bar in rows:
        words = escape(title)
        if bar is None:
            lines.append(words)
            continue
        if len(words) > label:
            words = words[: label - 1] + "…"
        mark = "* " if critical else "  "
        drawn = _draw(bar[0], bar[1], shown.total, room)
        line = f"{words:<{label}} {duration(bar[1] - bar[0]):>9}  "
        lines.append(
            (mark + line + (paint(drawn, "red" if critical else "cyan") if drawn else "")).rstrip()
        )
    return [*lines, "", "* the critical path", *_path_lines(shown, width)]


def _path_lines(shown: Picture, width: int) -> Iterator[str]:
    rows = [(escape(whose), duration(took), words) for whose, took, words in summary(shown)]
    longest = max(len(whose) for whose, _, _ in rows)
    for whose, took, words in rows:
        head = f"  {whose:<{longest}} {took:>9}  "
        if width - len(head) < 30:
            yield from textwrap.wrap(head + words, width, subsequent_indent="    ")
            continue
        first, *more = textwrap.wrap(words, width - len(head)) or [""]
        yield (head + first).rstrip()
        yield from (" " * len(head) + line for line in more)


_Row = tuple[bool, str, tuple[int, int] | None]


def _rows(shown: Picture, *, every: bool) -> Iterator[_Row]:
    for lane in shown.lanes:
        yield False, lane.title, None
        for stage in lane.stages:
            if len(stage.bars) == 1:
                bar = stage.bars[0]
                words = bar.what if stage.name in ("image", "network", "run") else stage.title
                if stage.name == "network":
                    words = "network: " + words
                yield stage.critical, f"  {words}", (bar.began, bar.ended)
                continue
            steps = f"{len(stage.bars)} steps"
            yield stage.critical, f"  {stage.title}, {steps}", (stage.began, stage.ended)
            for bar in stage.bars:
                if every or bar.took >= _LONG * shown.total:
                    yield bar.critical, f"    {bar.what}", (bar.began, bar.ended)


def _draw(began: int, ended: int, total: int, room: int) -> str:
    """Return a bar; in eighths of a column, so that short ones can be told apart."""
    scale = room * 8 / max(1, total)
    first, last = int(began * scale), max(int(began * scale) + 1, int(ended * scale))
    blank, inside = divmod(first, 8)
    # A block grows from the left: what begins inside of a column is drawn from its beginning.
    length = last - first if inside else last - blank * 8
    full, rest = divmod(length, 8)
    bar = "█" * full + (_EIGHTHS[rest] if rest else "")
    return (" " * min(blank, room - 1) + (bar or "▏"))[:room]


def _scale(total: int, room: int) -> str:
    right = duration(total)
    return "0" + right.rjust(room - 1)
