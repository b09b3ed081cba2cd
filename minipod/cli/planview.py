# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan on the terminal: its steps by who does them, each with what it does, why, and where it comes from.

Pure: from the agent's document (docs/plan.md) to lines, for any width.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from minipod.cli.output import Paint, escape

Json = dict[str, Any]

MIN_WIDTH = 40
_TWO_COLUMNS = 150  # from this width on, the words stand beside the steps
_WORDS = 72  # columns of words that are read without losing the line
_NUMBER = 5  # columns of a step's number


def plain(text: str, colour: str) -> str:
    """Paint nothing."""
    return text


def render(plan: Json, width: int, paint: Paint = plain) -> Iterator[str]:
    """Yield the lines of one pod's plan, none of them wider than *width* but where a word is."""
    width = max(width, MIN_WIDTH)
    source = f" ({escape(plan['source'])})" if plan["source"] else ""
    yield f"pod {escape(plan['pod'])}{source}"
    if not plan["running"]:
        yield paint("uid, address and numbers of runs are examples", "dim")
    for actor in plan["actors"]:
        yield ""
        yield from _wrapped(title(actor), width, "", "  ")
        part, before = "", Json()
        for step in plan["steps"]:
            if step["actor"] != actor["name"]:
                continue
            if step.get("for", part) != part:
                part, before = step["for"], {}
                yield paint(f"  for {escape(part)}:", "dim")
            yield from _step(step, before, width, paint)
            before = step


def title(actor: Json) -> str:
    """Return the words above the steps of an actor."""
    name = str(actor["name"])
    if name == "host":
        return "HOST: what the agent does itself, as root of this machine"
    if name == "pause":
        return "PAUSE: in the process that will hold the pod's namespaces"
    image = f" (image {escape(actor['image'])})"
    return f"CONTAINER {escape(name.partition('/')[2])}{image}: in the process that becomes it"


def origin(step: Json) -> str:
    """Return where a step comes from: ``file:line: field``, or what decides it."""
    found = step["origin"]
    if "line" in found:
        return escape(f"{found['file']}:{found['line']}: {found['field']}")
    field = f" ({found['field']} is not written)" if "field" in found else ""
    return escape(f"default: {found['default']}{field}")


def _step(step: Json, before: Json, width: int, paint: Paint) -> Iterator[str]:
    """Yield the lines of a step; what the step *before* has said in the same words is not said again."""
    head = f"{step['number']:{_NUMBER - 1}} "
    runs = f", which runs the steps of {step['runs']}" if "runs" in step else ""
    done = escape(step["step"] + runs)
    told = f"{step['what']}: {step['why']}"
    comes = f"# {origin(step)}"
    if before and told == f"{before['what']}: {before['why']}":
        told = ""
        comes = "" if step["origin"] == before["origin"] else comes
    if width >= _TWO_COLUMNS:
        left = width - _NUMBER - _WORDS - 3
        first = list(_wrapped(done, left, "", "  "))
        first += [f"\0{line}" for line in _wrapped(comes, left, "", "  ")]
        yield from _beside(head, first, list(_wrapped(told, _WORDS, "", "")), left, paint)
        return
    indent = " " * _NUMBER
    yield from _wrapped(done, width, head, indent + "  ")
    if told:
        for line in _wrapped(told, min(width, 100), indent, indent):
            yield paint(line, "dim")
    for line in _wrapped(comes, width, indent, indent + "  "):
        yield paint(line, "cyan")


def _beside(
    head: str, left: list[str], right: list[str], width: int, paint: Paint
) -> Iterator[str]:
    """Yield two columns; lines of *left* that begin with a NUL are where the step comes from."""
    for i in range(max(len(left), len(right))):
        text = left[i] if i < len(left) else ""
        colour, text = ("cyan", text[1:]) if text.startswith("\0") else ("", text)
        gap = " " * max(3, width + 3 - len(text))
        shown = paint(text, colour) if colour else text
        words = gap + paint(right[i], "dim") if i < len(right) else ""
        yield f"{head if i == 0 else ' ' * _NUMBER}{shown}{words}".rstrip()


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 20),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
