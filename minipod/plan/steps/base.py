# SPDX-License-Identifier: GPL-3.0-or-later
"""What all steps share, and how a namespace step is handed to the C interpreter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

Operand = str | bytes | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One namespace step as the C interpreter takes it.

    Attributes:
        op: the name of the ``MP_OP_*`` constant, without its prefix.
        flags: names of ``MP_F_*`` constants.
        in_, out, root: fd slots, -1 for none.
        strings: up to four operands: a string, a list of strings, or a blob.
        numbers: up to four unsigned 64-bit numbers (a negative one is sent as its two's complement).
    """

    op: str
    flags: tuple[str, ...] = ()
    in_: int = -1
    out: int = -1
    root: int = -1
    strings: tuple[Operand, ...] = ()
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(ABC):
    """What every step has: the path of the manifest field that it comes from, or "" when it is a default."""

    source: str = ""

    @abstractmethod
    def describe(self) -> str:
        """Say in one line what the step does, in the words of the field."""

    def told(self) -> str:
        """Say it for an event, a status or a log, in which no value of a variable may stand: it may be secret."""
        return self.describe()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceStep(Step):
    """A step that the C interpreter runs in the clone."""

    @abstractmethod
    def record(self) -> Record:
        """Return the step as the interpreter takes it."""


def one_line(text: str) -> str:
    """Return *text* with what would break a line or steer a terminal escaped, as in the shell's ``$'...'``."""
    return "".join(
        c if c.isprintable() else _SHORT.get(c) or "".join(f"\\x{b:02x}" for b in _bytes(c))
        for c in text
    )


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, as JSON can say it: no byte stands for it
        return text.encode("utf-8", "surrogatepass")


def shown(word: str) -> str:
    """Quote a word of a command for people, in the shell's manner, when it needs it."""
    if not word.isprintable():
        return "$'" + one_line(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"
    plain = word and all(c.isalnum() or c in "-_./:=@%+," for c in word)
    return word if plain else "'" + word.replace("'", "'\\''") + "'"
