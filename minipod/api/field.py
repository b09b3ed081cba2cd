# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a field of a Kubernetes object: how that is declared, beside each type in ``objects``.

- **honoured**: it works, as in Kubernetes;
- **inert**: it means nothing on one machine; it is checked, and ignored with a visible warning;
- **refused**: Kubernetes knows it and minipod does not do it; the manifest is refused, by name and line.

Some values of refused fields say what happens anyway; those are accepted.
"""

from __future__ import annotations

import enum
import re
import textwrap
from dataclasses import dataclass


class Status(enum.Enum):
    """What becomes of a field."""

    HONOURED = "honoured"
    INERT = "inert"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of one type.

    Attributes:
        type: ``str``, ``text`` (a string that may hold NUL), ``int`` (64 bits), ``bool``, ``time``, ``quantity``,
            ``port`` (a number or a name), ``object`` (anything), the name of a type of these tables, ``[T]`` for
            a list, ``{T}`` for a mapping from names.
        status: what becomes of it.
        note: of a refused field, what to do instead; of an inert one, why it means nothing; or ``""``.
        harmless: values of a refused or inert field that change nothing, and are accepted in silence.
        inside: of a refused field: look into it, and refuse only what in it is not harmless.
        doc: what it means, one sentence or two.
        kept: of an inert field: its value stays in the object, for whoever reads it back.
    """

    type: str
    status: Status
    note: str = ""
    harmless: tuple[str | bool, ...] = ()
    inside: bool = False
    kept: bool = False
    doc: str = ""


Tables = dict[str, dict[str, Field]]
"""The fields of some types, by type and name."""


def yes(type_: str = "str", doc: str = "") -> Field:
    """Declare a field that works."""
    return Field(type_, Status.HONOURED, doc=doc)


def no(
    type_: str = "str", note: str = "", *harmless: str | bool, inside: bool = False, doc: str = ""
) -> Field:
    """Declare a field that is refused; *note* says what to do instead."""
    return Field(type_, Status.REFUSED, note, harmless, inside, doc=doc)


def inert(type_: str, note: str, *harmless: str | bool, kept: bool = False, doc: str = "") -> Field:
    """Declare a field that means nothing here; *note* says why."""
    return Field(type_, Status.INERT, note, harmless, kept=kept, doc=doc)


def all_inert(text: str) -> dict[str, Field]:
    """Declare a type that occurs only below what means nothing here, see :func:`all_refused`."""
    return _all(text, Status.INERT)


def all_refused(text: str) -> dict[str, Field]:
    """Declare a type that occurs only below what is refused.

    One field per line: ``name:type - What it means.``, with ``str`` left out; a longer meaning goes on in further
    lines that are indented more.
    """
    return _all(text, Status.REFUSED)


def _all(text: str, status: Status) -> dict[str, Field]:
    fields = {}
    entries = re.split(r"\n(?=\S)", textwrap.dedent(text).strip())
    for entry in entries:
        head, _, doc = entry.partition(" - ")
        name, _, type_ = head.partition(":")
        fields[name] = Field(type_ or "str", status, doc=" ".join(doc.split()))
    return fields


NO_SCHEDULER = "there is one machine and no scheduler"
NO_CLUSTER = "there is no cluster to keep such books"
OURS = "minipod sets it itself"
NO_TOKEN = "there is no API token to mount"
ON_HOST = "mount it on the host and use a hostPath volume"
GONE = "Kubernetes removed it too"
