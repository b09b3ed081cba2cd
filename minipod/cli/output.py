# SPDX-License-Identifier: GPL-3.0-or-later
"""What is printed: tables, objects as JSON, YAML or names, colours, and text made harmless for a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

from minipod.errors import UsageError

FORMATS = ("wide", "json", "yaml", "name", "jsonpath=…", "custom-columns=…")
_GAP = 3

# C0, DEL and C1 steer terminals (ECMA-48); the bidirectional controls reorder what is read (CVE-2021-42574); others are
# read without being seen. Joiners are not among them: scripts and emoji need those. Lone surrogates are bytes that were
# no UTF-8.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "dim": 2}

Paint = Callable[[str, str], str]


def escape(text: object, keep: str = "") -> str:
    """Return *text* with every character written out that could steer a terminal; those in *keep* stay."""

    def written_out(match: re.Match[str]) -> str:
        char = match[0]
        if char in keep:
            return char
        if char in _SHORT:
            return _SHORT[char]
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            code -= 0xDC00
        if code > 0xFFFF:
            return f"\\U{code:08x}"
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _UNSAFE.sub(written_out, str(text))


def is_terminal(stream: TextIO) -> bool:
    """Whether *stream* is a terminal that understands escape sequences."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Return how many columns there are to print in: the terminal's, ``COLUMNS``, or 80."""
    import shutil

    return max(60, shutil.get_terminal_size((80, 24)).columns)


def painter(stream: TextIO) -> Paint:
    """Return what colours a text for *stream*: nothing, unless it is a terminal and ``NO_COLOR`` is unset."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return lambda text, colour: text
    return lambda text, colour: f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(painter(sys.stderr)("warning:", "yellow"), escape(text), file=sys.stderr)


def say(text: str) -> None:
    """Print a line on stdout, made harmless."""
    print(escape(text))


class Table:
    """Left-aligned columns under upper-case titles, as kubectl has them; grows with rows that come later."""

    def __init__(self, *titles: str, headers: bool = True) -> None:
        self._titles = titles
        self._widths = [len(title) if headers else 0 for title in titles]
        self._shown = not headers

    def show(self, rows: Iterable[Sequence[object]]) -> None:
        """Print *rows*, before the first ones the titles."""
        cells = [[escape(cell) for cell in row] for row in rows]
        for row in cells:
            self._widths = [
                max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)
            ]
        if not self._shown:
            cells.insert(0, list(self._titles))
            self._shown = True
        for row in cells:
            print(self._line(row))

    def _line(self, row: Sequence[str]) -> str:
        return "".join(
            cell.ljust(width + _GAP) for cell, width in zip(row, self._widths, strict=True)
        ).rstrip()


def check_format(value: str, allowed: Sequence[str] = FORMATS) -> str:
    """Return the ``-o`` format meant by *value* (``-o=json`` is understood too).

    Raises:
        UsageError: there is no such format.
    """
    value = value.removeprefix("=")
    word, _, rest = value.partition("=")
    if rest and f"{word}=…" in allowed:
        from minipod import jsonpath

        jsonpath.template(rest) if word == "jsonpath" else custom_columns(rest)
        return value
    if value and value not in allowed:
        raise UsageError(
            f"there is no output format {value!r}", f"use one of: {', '.join(allowed)}"
        )
    return value


def custom_columns(text: str) -> tuple[list[str], Callable[[dict[str, Any]], list[str]]]:
    """Return titles and cells for ``NAME:.metadata.name,IP:.status.podIP``.

    Raises:
        UsageError: it cannot be read.
    """
    from minipod import jsonpath

    titles, paths = [], []
    for column in re.split(r",(?![^\[]*\])", text):
        title, colon, path = column.partition(":")
        if not title or not colon:
            raise UsageError(
                f"custom-columns: {column!r} is no column",
                "write it as NAME:.metadata.name,IP:.status.podIP",
            )
        titles.append(title)
        paths.append(jsonpath.path(path))

    def cells(item: dict[str, Any]) -> list[str]:
        found = ([jsonpath.shown(value) for value in path.find(item)] for path in paths)
        return [",".join(values) or "<none>" for values in found]

    return titles, cells


def dump(data: Any, form: str) -> None:
    """Print *data* as ``json``, ``yaml`` or ``jsonpath=…``; nothing is escaped beyond the format, but on a terminal."""
    if form.startswith("jsonpath="):
        from minipod import jsonpath

        text = jsonpath.template(form.partition("=")[2]).render(data)
        sys.stdout.write(escape(text, keep="\n\t") if sys.stdout.isatty() else text)
    elif form == "yaml":
        sys.stdout.write(_yaml(data))
    else:
        import json

        print(json.dumps(data, indent=4, ensure_ascii=True))


def dump_objects(items: list[dict[str, Any]], form: str, *, single: bool) -> None:
    """Print Kubernetes objects as *form* says: the one itself when *single*, else a ``List``."""
    if form == "name":
        for item in items:
            print(object_name(item))
    elif single and len(items) == 1:
        dump(items[0], form)
    else:
        dump(
            {
                "apiVersion": "v1",
                "kind": "List",
                "metadata": {"resourceVersion": ""},
                "items": items,
            },
            form,
        )


def object_name(item: dict[str, Any]) -> str:
    """Return ``pod/NAME`` for an object."""
    return f"{str(item.get('kind', 'Pod')).lower()}/{item['metadata']['name']}"


def _yaml(data: Any) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Blocks for texts of several lines, no anchors."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def analyze_scalar(self, scalar: str) -> Any:
            # What steers a terminal leaves a text only double quotes to stand in, where non-ASCII is written out.
            self.allow_unicode = not _UNSAFE.search(scalar.replace("\n", ""))
            return super().analyze_scalar(scalar)

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    result: str = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return result
