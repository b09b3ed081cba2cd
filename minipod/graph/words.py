# SPDX-License-Identifier: GPL-3.0-or-later
"""How wide words are, and what is left of them where there is not enough room. Nothing here measures a real font: the
widths are those of DejaVu, the widest that is common, so that what fits here fits everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# Controls and separators, bidirectional controls (CVE-2021-42574), what is not seen (as on a terminal, cli/output.py),
# surrogates, and what XML 1.0 has no characters for.
_UNSHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)


@dataclass(frozen=True, slots=True)
class Font:
    """A size in pixels, the width of a character in parts of it."""

    size: float
    advance: float


TITLE = Font(17, 0.70)
NAME = Font(14, 0.70)
BODY = Font(12, 0.62)
MONO = Font(11, 0.61)
SMALL = Font(10, 0.61)


def clean(text: object) -> str:
    """Return *text* on one line, without characters that are not shown or steer what shows it."""
    return _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", str(text))


def cells(text: str) -> int:
    """Return how many columns *text* takes."""
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str, font: Font) -> float:
    """Return how many pixels *text* takes."""
    return cells(text) * font.size * font.advance


def fit(text: str, columns: int, *, middle: bool = False) -> str:
    """Return *text* in at most *columns* columns: what is too long loses its end, or its *middle*."""
    if cells(text) <= columns:
        return text
    if columns < 1:
        return ""
    tail = _start(text[::-1], (columns - 1) // 2)[::-1] if middle else ""
    return f"{_start(text, columns - 1 - cells(tail))}…{tail}"


def _start(text: str, columns: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _cells(char)
        if used > columns:
            return text[:index]
    return text


def fit_pixels(text: str, room: float, font: Font, *, middle: bool = False) -> str:
    """Return *text* as :func:`fit` does, for *room* pixels."""
    return fit(text, int(room / (font.size * font.advance)), middle=middle)
