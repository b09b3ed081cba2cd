# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks a tree of YAML nodes beside the field tables and returns plain builtins, with every error noted.

It checks types and names of fields only; what values may say is checked in ``validation.py``, on the object.
Where a value has the wrong type it is left out, or an empty one stands in for it in a list so that indices stay,
and its path is marked as bad.
"""

from __future__ import annotations

from typing import Any

from minipod.api.fields import Field, Status, table
from minipod.api.problems import NOT_HONOURED, Report, nearest, parent
from minipod.api.quantity import parse_quantity
from minipod.api.yaml import Mapping, Node, Scalar, Sequence, join, shown

_WANTED = {
    "str": "a string",
    "text": "a string",
    "int": "an integer",
    "bool": "true or false",
    "time": "a time like 2026-01-31T12:00:00Z",
    "quantity": "a quantity like 500m or 64Mi",
    "port": "a port's number or name",
}
_PLURALS = {"str": "strings", "text": "strings", "int": "integers", "quantity": "quantities"}
_TEXTS = ("str", "text")
_MAX_INT = 2**63 - 1
_PLACES = {"ObjectMeta": "metadata", "PodSpec": "spec", "Container": "spec.containers[]"}
_BAD = object()
_EMPTY: dict[str, Any] = {"int": 0, "bool": False}
"""What stands in for an item of a list that is wrong, where that is not the empty string."""


def read_object(node: Mapping, type_name: str, report: Report) -> dict[str, Any]:
    """Return the builtins of the object at *node*; *report* gets all problems and warnings.

    Raises:
        TooManyProblems: see :class:`~minipod.api.problems.Report`.
    """
    return _Walk(report).mapping(node, type_name, "")


def wanted(type_: str) -> str:
    """Return a type of the field tables in words: ``[str]`` is "a list of strings"."""
    if type_[0] in "[{":
        what = "a list of " if type_[0] == "[" else "a mapping of "
        return what + _PLURALS.get(type_[1:-1], "mappings")
    return _WANTED.get(type_, "a mapping")


def got(node: Node) -> str:
    """Return what a node is, in words."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.value is None:
        return "null"
    if isinstance(node.value, str):
        return f"the string {shown(node.value)}"
    if isinstance(node.value, bool):
        return f"the boolean {str(node.value).lower()}"
    return f"the number {node.value}"


class _Walk:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._quiet = False
        """Inside something inert: check types, and say nothing of statuses."""

    def mapping(self, node: Mapping, type_name: str, path: str) -> dict[str, Any]:
        """Return the honoured (and kept) fields of a mapping that should be a *type_name*."""
        fields = table(type_name)
        result: dict[str, Any] = {}
        for key, entry in node.entries.items():
            below = join(path, key)
            field = fields.get(key)
            if field is None:
                self._unknown(key, node, type_name, below)
                continue
            if isinstance(entry.value, Scalar) and entry.value.value is None:
                continue
            value = self._field(entry.value, field, below)
            if value is not _BAD:
                result[key] = value
        return result

    def _field(self, node: Node, field: Field, path: str) -> Any:
        if self._quiet or field.status is Status.HONOURED:
            return self._value(node, field.type, path)
        if field.status is Status.INERT:
            return self._inert(node, field, path)
        self._refused(node, field, path)
        return _BAD

    def _inert(self, node: Node, field: Field, path: str) -> Any:
        self._quiet = True
        value = self._value(node, field.type, path)
        self._quiet = False
        if value is _BAD:
            return _BAD
        if not _is_empty(node, field) and not _is_harmless(node, field):
            self._report.warn(path, f"ignored: {field.note}")
        return value if field.kept else _BAD

    def _refused(self, node: Node, field: Field, path: str) -> None:
        if _is_empty(node, field):
            return
        if field.inside and isinstance(node, Mapping):
            self.mapping(node, field.type, path)
            return
        if field.inside or field.harmless:
            value = self._value(node, field.type, path)
            if value is _BAD or _is_harmless(node, field):
                return
        self._report.error(path, f"{NOT_HONOURED}: {field.note}" if field.note else NOT_HONOURED)

    def _value(self, node: Node, type_: str, path: str) -> Any:
        """Return the builtins of a value of *type_*, or ``_BAD``."""
        if type_ == "object":
            return {}
        if type_[0] == "[" and isinstance(node, Sequence):
            return self._list(node, type_[1:-1], path)
        if type_[0] == "{" and isinstance(node, Mapping):
            return self._dict(node, type_[1:-1], path)
        if isinstance(node, Scalar):
            return self._scalar(node, type_, path)
        if isinstance(node, Mapping) and type_[0] != "[" and type_ not in _WANTED:
            return self.mapping(node, type_, path)
        return self._mismatch(node, type_, path)

    def _list(self, node: Sequence, type_: str, path: str) -> list[Any]:
        result = []
        for index, item in enumerate(node.items):
            value = self._value(item, type_, join(path, index))
            if value is _BAD:
                value = _EMPTY.get(type_, "") if type_ in _WANTED else {}
            result.append(value)
        return result

    def _dict(self, node: Mapping, type_: str, path: str) -> dict[str, Any]:
        result = {}
        for key, entry in node.entries.items():
            if type_ in _TEXTS and isinstance(entry.value, Scalar) and entry.value.value is None:
                result[key] = ""  # as Go reads null into a string
                continue
            value = self._value(entry.value, type_, join(path, key))
            if value is not _BAD:
                result[key] = value
        return result

    def _scalar(self, node: Scalar, type_: str, path: str) -> Any:
        value = node.value
        if type_ in ("str", "time", "text") and isinstance(value, str):
            if "\0" in value and type_ != "text" and not self._quiet:
                what = "has a NUL byte, which no argument, variable or path can hold"
                self._report.error(path, what)
                return _BAD
            return value
        if type_ == "bool" and isinstance(value, bool):
            return value
        if type_ == "int" and isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) <= _MAX_INT and value == int(value):
                return int(value)
        elif type_ == "port" and not isinstance(value, bool):
            if isinstance(value, str) or (isinstance(value, int) and abs(value) <= _MAX_INT):
                return value
        elif type_ == "quantity" and value is not None and not isinstance(value, bool):
            try:
                parse_quantity(str(value))
            except ValueError as error:
                self._report.error(path, str(error))
                return _BAD
            return str(value)
        return self._mismatch(node, type_, path)

    def _mismatch(self, node: Node, type_: str, path: str) -> Any:
        hint = ""
        if isinstance(node, Scalar):
            if type_ in _TEXTS and isinstance(node.value, bool | int | float):
                hint = ": put it in quotes"
            elif (type_ == "int" and isinstance(node.value, str) and node.value.isdecimal()) or (
                type_ == "bool"
                and isinstance(node.value, str)
                and node.value.lower() in ("true", "false")
            ):
                hint = ": remove the quotes"
        self._report.error(path, f"expected {wanted(type_)}, got {got(node)}{hint}")
        return _BAD

    def _unknown(self, key: str, node: Mapping, type_name: str, path: str) -> None:
        if not self._quiet:
            for other, place in _PLACES.items():
                if key in table(other) and type_name in ("Pod", *_PLACES):
                    self._report.error(path, f"unknown field, it belongs to {place}")
                    return
        near = nearest(key, table(type_name))
        self._report.error(
            path, f'unknown field, did you mean "{near}"?' if near else "unknown field"
        )
        if near and near not in node.entries:
            self._report.bad.add(join(parent(path), near))  # so that it is not missed as well


def _is_empty(node: Node, field: Field) -> bool:
    """Return whether a value says nothing: Kubernetes takes it for an absent one."""
    if isinstance(node, Scalar):
        return node.value == "" and field.type == "str"
    if isinstance(node, Sequence):
        return not node.items and field.type[0] == "["
    return not node.entries and (field.type[0] == "{" or field.inside or field.type == "object")


def _is_harmless(node: Node, field: Field) -> bool:
    return isinstance(node, Scalar) and any(
        node.value is each or node.value == each for each in field.harmless
    )
