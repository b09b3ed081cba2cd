# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an image is: on a terminal a bar for each layer and a total, elsewhere a line for each layer that is done."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from minipod.cli.output import escape, is_terminal

if TYPE_CHECKING:
    from minipod.cli.client import Call

_BAR = 24
_UNDER_WAY = ("waiting", "downloading", "uploading")
_EVERY = 0.1  # seconds between two drawings


def accompany(call: Call) -> dict[str, Any]:
    """Show how the layers of a pull or a push go, and return the agent's last word.

    Raises:
        MinipodError: the agent's error.
    """
    layers = Layers()
    try:
        for event in call:
            layers.update(event.get("progress", {}))
    finally:
        layers.clear()
    return call.finish()


class Layers:
    """The layers of one image, in the order in which they were heard of."""

    def __init__(self) -> None:
        self._on_terminal = is_terminal(sys.stderr)
        self._steps: dict[str, dict[str, Any]] = {}
        self._drawn = 0
        self._next = 0.0

    def update(self, step: dict[str, Any]) -> None:
        """Take in what happened: ``layer``, ``status``, ``done`` and ``total`` bytes."""
        layer = str(step.get("layer") or "")
        if not layer:
            return
        before = self._steps.get(layer, {}).get("status")
        self._steps[layer] = step
        if self._on_terminal:
            if time.monotonic() >= self._next:
                self._draw()
        elif step.get("status") in ("done", "present") and before != step.get("status"):
            print(_words(step), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the bars away, before something else is printed."""
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}F\x1b[J")
            sys.stderr.flush()
            self._drawn = 0

    def _draw(self) -> None:
        self._next = time.monotonic() + _EVERY
        columns, rows = shutil.get_terminal_size()
        lines = [_line(step) for step in self._steps.values()]
        if len(lines) > 1:
            lines.append(self._total())
        lines = [line[: columns - 1] for line in lines[-max(1, rows - 1) :]]
        self.clear()
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def _total(self) -> str:
        total = sum(int(step.get("total") or 0) for step in self._steps.values())
        # A layer counts when it is here; that it is unpacked, too, its own line says.
        here = sum(
            int(step.get("done" if step.get("status") in _UNDER_WAY else "total") or 0)
            for step in self._steps.values()
        )
        return f"{'total':<12}  {_bar(here, total)}  {_size(here)} of {_size(total)}"


def _line(step: dict[str, Any]) -> str:
    done, total = int(step.get("done") or 0), int(step.get("total") or 0)
    status = escape(str(step.get("status")))
    return f"{_short(step)}  {_bar(done, total)}  {_size(total):>7}  {status}"


def _words(step: dict[str, Any]) -> str:
    return (
        f"{_short(step)}  {_size(int(step.get('total') or 0))}  {escape(str(step.get('status')))}"
    )


def _short(step: dict[str, Any]) -> str:
    return escape(str(step["layer"]).removeprefix("sha256:")[:12])


def _bar(done: int, total: int) -> str:
    filled = _BAR * min(done, total) // total if total else _BAR
    return "█" * filled + "░" * (_BAR - filled)


def _size(size: int) -> str:
    from minipod.cli.sizes import human_size

    return human_size(size)
