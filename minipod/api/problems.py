# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a manifest, and where: collected, so that a user sees all of it at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from minipod import __version__
from minipod.errors import UsageError

MAX_PROBLEMS = 300
"""Problems of one manifest; a text with more of them is not a manifest."""

_CANDIDATES = 100
"""Names that are compared to find what was meant: each costs some 20 µs."""

NOT_HONOURED = (
    f"known to Kubernetes but not honoured by minipod {'.'.join(__version__.split('.')[:2])}"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong, or worth a warning, in a manifest.

    Attributes:
        source: the name of the file, as given.
        line: the 1-based line.
        path: the field, ``spec.containers[0].image``; ``""`` when it is the text itself.
        message: what is wrong, and what to do.
    """

    source: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}: "
        return f"{where}{self.path}: {self.message}" if self.path else where + self.message


class ManifestError(UsageError):
    """The manifest is refused; *problems* has everything found, by line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class TooManyProblems(Exception):
    """The walk ends here: :data:`MAX_PROBLEMS` are found."""


@dataclass(slots=True)
class Report:
    """Collects the problems of one object of a manifest.

    Attributes:
        source: the name of the file.
        lines: the line of every path of the object.
        root_line: the line where the object starts.
        prefix: the object's own path, when it is an item of a List.
        bad: the paths that have a problem already; what follows from it is not reported again.
    """

    source: str
    lines: dict[str, int]
    root_line: int
    prefix: str = ""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)

    def line(self, path: str) -> int:
        """Return the line of *path*, or of the nearest thing around it that the text has."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = parent(path)
        return self.root_line

    def error(self, path: str, message: str) -> None:
        """Note a problem, unless *path* or something around it has one already.

        Raises:
            TooManyProblems: there are :data:`MAX_PROBLEMS` of them.
        """
        if self.is_bad(path):
            return
        self.bad.add(path)
        self.problems.append(self._problem(path, message))
        if len(self.problems) >= MAX_PROBLEMS:
            raise TooManyProblems

    def warn(self, path: str, message: str) -> None:
        """Note a warning; there are never more of them than problems are allowed."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(self._problem(path, message))

    def is_bad(self, path: str) -> bool:
        """Return whether *path* or something around it has a problem."""
        while path:
            if path in self.bad:
                return True
            path = parent(path)
        return False

    def _problem(self, path: str, message: str) -> Problem:
        full = f"{self.prefix}.{path}" if self.prefix and path else self.prefix or path
        return Problem(self.source, self.line(path), full, message)


def parent(path: str) -> str:
    """Return the path of what holds *path*; ``""`` for a field of the object itself."""
    if path.endswith("]"):
        return path[: max(path.rfind("["), 0)]
    return path.rpartition(".")[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that *name* was probably meant to be, or ``""``."""
    import difflib  # only manifests with mistakes pay for it

    by_lower = {each.lower(): each for each in islice(known, _CANDIDATES)}
    near = difflib.get_close_matches(name[:64].lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[near[0]] if near else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``, did you mean "image"?`` for the known name nearest to *name*, or ``""``."""
    near = nearest(name, known)
    return f', did you mean "{near}"?' if near else ""
