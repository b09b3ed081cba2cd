# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that reach a user.

Inside, everything raises ``OSError`` (or ``ValueError`` for bad values). At the edge there is one small tree::

    MinipodError            what happened, and what to do about it; exit code 1
    ├── UsageError          the user's input is refused; exit code 2
    ├── NotFound            no such object; exit code 1
    ├── AlreadyExists       an object of that name is there; exit code 1
    └── StepFailed          a step of a plan failed: which step, whose, errno, remedy; exit code 1

Each carries *what* (what happened, to what, why) and *remedy* (what to do), both without a full stop.
"""

from __future__ import annotations

from typing import Any


class MinipodError(Exception):
    """An error with words for a user.

    Attributes:
        what: what happened, to what, and why; one line, lower case.
        remedy: what the user can do; one line, or empty when there is nothing to say.
        reason: the Kubernetes ``Status.reason`` word.
        exit_code: the exit code of the command that shows it.
    """

    reason = "InternalError"
    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} ({self.remedy})" if self.remedy else self.what

    def to_status(self) -> dict[str, Any]:
        """Return the error as a Kubernetes ``Status`` object (meta/v1), as it travels to the CLI."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": self.reason,
            "message": self.what,
            "details": {"remedy": self.remedy, "exitCode": self.exit_code},
        }

    @classmethod
    def from_status(cls, status: dict[str, Any]) -> MinipodError:
        """Rebuild the error on the other side of the socket, with its exit code kept."""
        details = status.get("details", {})
        error = cls(str(status.get("message", "unknown error")), str(details.get("remedy", "")))
        error.reason = str(status.get("reason", cls.reason))
        error.exit_code = int(details.get("exitCode", 1))
        return error


class UsageError(MinipodError):
    """The input is refused, whole, before anything was created."""

    reason = "Invalid"
    exit_code = 2


class NotFound(MinipodError):
    """There is no such object."""

    reason = "NotFound"


class AlreadyExists(MinipodError):
    """An object of that kind and name is already there."""

    reason = "AlreadyExists"


class StepFailed(MinipodError):
    """A step of a plan failed; *what* names the step, its container and its manifest field."""

    reason = "StepFailed"
