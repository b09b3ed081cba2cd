# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a start as lines, one by one as they come: what ``run --trace`` prints."""

from __future__ import annotations

from typing import Any

from minipod.cli.output import terminal_width
from minipod.cli.progress import Progress
from minipod.cli.waterfall import duration

Json = dict[str, Any]

_SLOW, _QUICK = 5_000_000, 100_000  # ns: what is told apart by its colour


class StepLines:
    """Prints the steps of one pod.

    Args:
        pod: its name, for the lines; "" when there is only one.
        progress: where they are printed.
    """

    def __init__(self, pod: str, progress: Progress) -> None:
        self._pod = f"{pod}/" if pod else ""
        self._progress = progress
        self._origin: int | None = None
        self._width = terminal_width()

    def show(self, event: Json) -> None:
        """Print the spans of one event: when each began, counted from the first; what it took; whose it was."""
        for span in event["spans"]:
            if self._origin is None:
                self._origin = span["began"]
            took = span["ended"] - span["began"]
            at = (span["began"] - self._origin) / 1e6
            who = self._pod + (event["container"] or "sandbox")
            line = f"{at:10.3f} ms {duration(took):>8}  {who:<12} {span['stage']:<8} {span['what']}"
            colour = "yellow" if took >= _SLOW else "dim" if took < _QUICK else ""
            if self._progress.on_terminal and len(line) > self._width:
                line = line[: self._width - 1] + "…"
            self._progress.line(line, colour)
