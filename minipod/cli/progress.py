# SPDX-License-Identifier: GPL-3.0-or-later
"""What is going on, on stderr: one line that changes on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import shutil
import sys

from minipod.cli.output import escape, is_terminal, painter


class Progress:
    """The states of several things, by key.

    Attributes:
        on_terminal: whether one line changes, instead of a line for each change.
        paint: what colours a text for stderr.
    """

    def __init__(self) -> None:
        self.on_terminal = is_terminal(sys.stderr)
        self._states: dict[str, str] = {}
        self._drawn = False
        self.paint = painter(sys.stderr)

    def update(self, key: str, text: str) -> None:
        """Show *text* as the state of *key*; an empty one takes it away."""
        if self._states.get(key, "") == text:
            return
        self._states[key] = text
        if self.on_terminal:
            self._draw()
        elif text:
            print(escape(text), file=sys.stderr, flush=True)

    def line(self, text: str, colour: str = "") -> None:
        """Print a line that stays."""
        self.clear()
        text = escape(text)
        print(self.paint(text, colour) if colour else text, file=sys.stderr, flush=True)
        if self.on_terminal:
            self._draw()

    def clear(self) -> None:
        """Take the changing line away, before something else is printed."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def _draw(self) -> None:
        self.clear()
        text = " · ".join(escape(state) for state in self._states.values() if state)
        if text:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(text if len(text) <= width else text[: width - 1] + "…")
            sys.stderr.flush()
            self._drawn = True
