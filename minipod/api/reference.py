# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/pod-spec.md, the list of all fields and what minipod does with each: ``make docs``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from minipod.api.explain import (
    default_of,
    inner_type,
    is_type,
    kinds,
    status_words,
    type_doc,
    words,
)
from minipod.api.field import Field, Status
from minipod.api.fields import table

_MARKS = {Status.HONOURED: "**yes**", Status.INERT: "ignored", Status.REFUSED: "refused"}


def reference() -> str:
    """Return the text of docs/pod-spec.md."""
    sections = {kind: list(_types(kind)) for kind in kinds()}
    seen: set[str] = set()
    lines = [
        "# Every field, and what becomes of it",
        "",
        "This page is made by `make docs` from the declarations in `minipod/api/objects/`; a test compares it.",
        "`minipod explain pod.spec.containers` shows the same for one field.",
        "",
        "* **yes**: it works as in Kubernetes.",
        "* *refused*: the manifest is refused, with the file, the line, the field and what to do instead.",
        "* *ignored*: it means nothing on one machine; it is checked, and a warning says that it is ignored.",
        "",
        _counts({name for names in sections.values() for name in names}),
    ]
    for kind, names in sections.items():
        lines += ["", f"## {kind}"]
        for name in names:
            if name not in seen:
                seen.add(name)
                lines += ["", *_section(name)]
    return "\n".join(lines) + "\n"


def _types(kind: str) -> Iterator[str]:
    """Yield the types that *kind* is made of, in the order in which one meets them."""
    met: dict[str, None] = {}
    todo = [kind]
    while todo:
        name = todo.pop(0)
        if name in met:
            continue
        met[name] = None
        inner = (inner_type(field.type) for field in table(name).values())
        todo += [each for each in inner if is_type(each)]
    yield from met


def _counts(names: set[str]) -> str:
    counts = Counter(field.status for name in names for field in table(name).values())
    return (
        f"Of {counts.total()} fields {counts[Status.HONOURED]} work, {counts[Status.REFUSED]} are refused by name "
        f"and {counts[Status.INERT]} are ignored with a warning."
    )


def _section(name: str) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    if doc := type_doc(name):
        yield doc
        yield ""
    yield "| Field | Type | minipod | Meaning |"
    yield "| --- | --- | --- | --- |"
    for key, field in table(name).items():
        yield f"| `{key}` | {_type(field.type)} | {_MARKS[field.status]} | {_cell(name, key, field)} |"


def _type(type_: str) -> str:
    inner = inner_type(type_)
    if not is_type(inner):
        return words(type_)
    return words(type_).replace(inner, f"[{inner}](#{inner.lower()})")


def _cell(name: str, key: str, field: Field) -> str:
    parts = [field.doc]
    if field.status is not Status.HONOURED and field.note:
        said = status_words(field)
        parts.append(f"{said[0].upper()}{said[1:]}.")
    if (default := default_of(name, key, field)) and "efault" not in field.doc:
        parts.append(f"Default: {default}.")
    return " ".join(part for part in parts if part).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
