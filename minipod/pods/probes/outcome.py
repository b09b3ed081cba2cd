# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of asking once."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_TEXT = 1024
"""Characters of an event's message, as in Kubernetes."""


class Verdict(enum.Enum):
    """How one probe ended."""

    SUCCESS = "success"
    WARNING = "warning"
    """A success that is worth an event."""
    FAILURE = "failure"
    ERROR = "error"
    """It could not be asked: counts neither way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking once: the verdict, and words for people."""

    verdict: Verdict
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether it counts as a success."""
        return self.verdict in (Verdict.SUCCESS, Verdict.WARNING)


def failure(text: str) -> Outcome:
    """Return a failure; *text* may be anything that a container wrote."""
    return Outcome(Verdict.FAILURE, text[:MAX_TEXT])


def duration(seconds: float) -> str:
    """Return a time as Go writes it: ``1s``, ``1m30s``, ``2h0m0s``."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
