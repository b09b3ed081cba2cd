# SPDX-License-Identifier: GPL-3.0-or-later
"""What a field is, for people: its type, meaning and default, and what minipod does with it.

All of it is read from where it is declared: the field tables and structs in ``objects``. ``minipod explain`` shows
one field; ``reference.py`` makes docs/pod-spec.md of all of them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from minipod.api import objects
from minipod.api.field import Field, Status
from minipod.api.fields import table, type_names
from minipod.api.problems import did_you_mean
from minipod.errors import UsageError

_NAMES = {
    "Pod": ("pod", "pods", "po"),
    "ConfigMap": ("configmap", "configmaps", "cm"),
    "Secret": ("secret", "secrets"),
    "PersistentVolumeClaim": ("persistentvolumeclaim", "persistentvolumeclaims", "pvc"),
    "PersistentVolume": ("persistentvolume", "persistentvolumes", "pv"),
}
_SCALARS = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "bool": "boolean",
    "time": "time",
    "quantity": "Quantity",
    "port": "integer or string",
    "object": "Object",
}
_INDEX = re.compile(r"\[\d*\]")
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A field, or a whole kind.

    Attributes:
        path: as it is written: ``pod.spec.containers``.
        kind: the kind that it is in.
        type: its type, as in the field tables.
        field: its declaration; None for a whole kind.
        default: what it is when it is not given, as text; ``""`` when there is nothing to say.
    """

    path: str
    kind: str
    type: str
    field: Field | None = None
    default: str = ""


def kinds() -> list[str]:
    """Return the kinds whose fields can be explained."""
    return [kind for kind in _NAMES if kind in type_names()]


def find(path: str) -> Place:
    """Return what *path* names: ``pod.spec.containers.image``, or an object's path, ``spec.containers[0].image``.

    Raises:
        UsageError: there is no such kind or field.
    """
    head, *rest = _INDEX.sub("", path).split(".")
    kind = next((k for k in kinds() if head.lower() in _NAMES[k] or head == k), None)
    if kind is None and head in table("Pod"):
        kind, rest = "Pod", [head, *rest]
    if kind is None:
        known = [name for k in kinds() for name in _NAMES[k]]
        hint = did_you_mean(head, known) or f", there are {', '.join(map(str.lower, kinds()))}"
        raise UsageError(f"there is no kind {head!r}{hint}", "minipod explain pod")
    place = Place(kind.lower(), kind, kind)
    for name in rest:
        inner = inner_type(place.type)
        if not is_type(inner):
            raise UsageError(f"{place.path} is {words(place.type)}: it has no field {name!r}")
        fields = table(inner)
        if name not in fields:
            raise UsageError(
                f"{place.path} has no field {name!r}{did_you_mean(name, fields)}",
                f"minipod explain {place.path}",
            )
        field = fields[name]
        place = Place(
            f"{place.path}.{name}", kind, field.type, field, default_of(inner, name, field)
        )
    return place


def explain(path: str, *, recursive: bool = False) -> str:
    """Return the text of ``minipod explain PATH``; *recursive* names all fields below.

    Raises:
        UsageError: there is no such field.
    """
    place = find(path)
    lines = [f"KIND:     {place.kind}", "VERSION:  v1"]
    if place.field:
        lines.append(f"FIELD:    {place.path.rpartition('.')[2]} <{words(place.type)}>")
        lines.append(f"STATUS:   {status_words(place.field)}")
        if place.default:
            lines.append(f"DEFAULT:  {place.default}")
    meaning = [place.field.doc if place.field else "", type_doc(inner_type(place.type))]
    lines += ["", "DESCRIPTION:"]
    lines += [_filled(text) for text in meaning if text]
    if is_type(inner_type(place.type)):
        lines += ["", "FIELDS:", *_fields(inner_type(place.type), recursive, "  ", ())]
    return "\n".join(lines)


def _fields(type_name: str, recursive: bool, indent: str, above: tuple[str, ...]) -> Iterator[str]:
    for name, field in table(type_name).items():
        mark = "" if field.status is Status.HONOURED else f"  ({field.status.value})"
        yield f"{indent}{name} <{words(field.type)}>{mark}"
        inner = inner_type(field.type)
        if not recursive:
            text = field.doc or (f"{field.note[:1].upper()}{field.note[1:]}." if field.note else "")
            if text:
                yield _filled(text, indent + "  ")
        elif is_type(inner) and inner not in above:
            yield from _fields(inner, True, indent + "  ", (*above, type_name))


def _filled(text: str, indent: str = "  ") -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def inner_type(type_: str) -> str:
    """Return what a list or a mapping holds, or the type itself."""
    return type_.strip("[]{}")


def is_type(name: str) -> bool:
    """Return whether *name* is a type with fields, and not a scalar."""
    return name[:1].isupper()


def words(type_: str) -> str:
    """Return a type of the field tables as kubectl writes it: ``[]Container``, ``map[string]string``."""
    if type_[0] == "[":
        return "[]" + words(type_[1:-1])
    if type_[0] == "{":
        return "map[string]" + words(type_[1:-1])
    return _SCALARS.get(type_, type_)


def status_words(field: Field) -> str:
    """Return what minipod does with a field, with the reason or the remedy."""
    if field.status is Status.HONOURED:
        return "honoured"
    said = "ignored with a warning" if field.status is Status.INERT else "refused"
    kept = ", ".join(str(value).lower() for value in field.harmless)
    return (
        said
        + (f": {field.note}" if field.note else "")
        + (f" ({kept} is accepted)" if kept else "")
    )


def type_doc(type_name: str) -> str:
    """Return what a type is, from the first paragraph about its struct; ``""`` for one that has none.

    What comes after it is about the struct, for programmers.
    """
    struct = getattr(objects, type_name, None)
    doc = (struct.__doc__ or "").partition("\n\n")[0] if struct else ""
    # Attributes by the names that manifests have.
    named = re.sub(r"(?<=[a-z])_([a-z])", lambda letter: letter[1].upper(), " ".join(doc.split()))
    return named.replace("``", '"').replace("*", "")


def default_of(type_name: str, name: str, field: Field) -> str:
    """Return the default of a field that does not depend on others, as it would be written in YAML."""
    struct: Any = getattr(objects, type_name, None)
    if struct is None or field.status is not Status.HONOURED:
        return ""
    for each in msgspec.structs.fields(struct):
        if each.encode_name == name:
            factory = each.default_factory
            value = each.default if factory is msgspec.NODEFAULT else factory()
            if isinstance(value, bool):
                return str(value).lower()
            if isinstance(value, str | int) and value not in ("", 0):
                return str(value)
            return "0" if value == 0 and field.type == "int" and name.endswith("Seconds") else ""
    return ""


def complete(start: str) -> list[str]:
    """Return the paths that *start* may become, for a shell."""
    head, _, last = start.rpartition(".")
    if not head:
        return [kind.lower() for kind in kinds() if kind.lower().startswith(start.lower())]
    try:
        inner = inner_type(find(head).type)
    except UsageError:
        return []
    if not is_type(inner):
        return []
    return [f"{head}.{name}" for name in table(inner) if name.startswith(last)]
