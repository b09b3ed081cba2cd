# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own Markdown for a terminal: headings, paragraphs, lists, code. No more of it than our texts have."""

from __future__ import annotations

import re
import textwrap

from minipod.cli.output import Paint

_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_HEADING = re.compile(r"(#+) (.*)")
_EMPHASIS = re.compile(r"(?<!\w)\*([^*\s][^*]*)\*(?!\w)")


def render(text: str, width: int, paint: Paint) -> str:
    """Return *text* filled to *width* columns, with colours as *paint* gives them."""
    shown: list[str] = []
    for index, part in enumerate(re.split(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)):
        kind = index % 3
        if kind == 0:
            shown += _prose(part, width, paint)
        elif kind == 2:
            shown += [
                "",
                *(
                    f"    {paint(line, 'cyan') if line else ''}".rstrip()
                    for line in part.splitlines()
                ),
                "",
            ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(shown)).strip("\n")


def _prose(text: str, width: int, paint: Paint) -> list[str]:
    lines: list[str] = []
    for block in _blocks(text):
        if heading := _HEADING.fullmatch(block):
            title = heading[2] if len(heading[1]) == 1 else heading[2].upper()
            lines += ["", paint(title, "green"), ""]
            continue
        is_item = block.startswith("* ")
        if not is_item or not (lines and lines[-1].startswith("  ")):
            lines.append("")
        lines += textwrap.wrap(
            _plain(" ".join(block.removeprefix("* ").split())),
            width,
            initial_indent="  * " if is_item else "",
            subsequent_indent="    " if is_item else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [*lines, ""]


def _blocks(text: str) -> list[str]:
    """Return headings, items of lists, and paragraphs."""
    blocks: list[str] = []
    begun = False
    for line in text.splitlines():
        starts = line.startswith("* ") or _HEADING.fullmatch(line)
        if line.strip() and begun and not starts:
            blocks[-1] += f"\n{line}"
        elif line.strip():
            blocks.append(line)
        begun = bool(line.strip()) and not _HEADING.fullmatch(line)
    return blocks


def _plain(text: str) -> str:
    text = _LINK.sub(lambda found: found[1], text)
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        _CODE.sub(lambda found: found[1], part)
        if part.startswith("`")
        else _EMPHASIS.sub(r"\1", part)
        for part in parts
    )
