# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a plan to people: each step with its number, and the manifest line that asked for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minipod.plan.steps import Launch, Step, one_line


def render_text(title: str, steps: Iterable[Step], lines: Mapping[str, int], source: str) -> str:
    """Return *steps* as numbered lines under *title*.

    *lines* maps manifest paths to line numbers in the file *source*; a step whose field is not written in the
    manifest is shown without one, because it is a default.
    """
    result = [title]
    for number, step in enumerate(steps, 1):
        result.append(_line(f"{number:3}.", step, lines, source))
        if isinstance(step, Launch):
            for inner, namespace_step in enumerate(step.steps):
                result.append(_line(f"     {number}.{inner + 1:<3}", namespace_step, lines, source))
    return "\n".join(result)


def _line(number: str, step: Step, lines: Mapping[str, int], source: str) -> str:
    origin = _origin(step.source, lines, source)
    return one_line(f"{number} {step.describe()}" + (f"   # {origin}" if origin else ""))


def _origin(path: str, lines: Mapping[str, int], source: str) -> str:
    """Return "file:line: field" for *path*; "" when the manifest does not write it: a default."""
    if path in lines:
        return f"{source}:{lines[path]}: {path}"
    return ""
