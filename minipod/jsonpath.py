# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' JSONPath: what ``get -o jsonpath``, ``-o custom-columns`` and ``wait --for=jsonpath`` understand.

It is the language of kubectl's reference page "JSONPath Support": ``.a.b``, ``['a']``, ``[0]``, ``[-1]``, ``[1:3]``,
``[*]``, ``..a``, ``['a','b']``, ``[?(@.type=="Ready")]``, ``\\.`` for a dot in a name; in templates also text,
``{"\\n"}`` and ``{range …}…{end}``. What is not there is left out, as kubectl has it.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from minipod.errors import UsageError

T = TypeVar("T")

Step = Callable[[Any, Any], Iterator[Any]]
"""From a value, and the whole object, to the values that the step finds."""

_NAME = re.compile(r"(?:\\.|[^\s.,\[\](){}$@\\=<>!'\"])+")
_SLICE = re.compile(r"(-?\d+)?(?::(-?\d+)?(?::(-?\d+))?)?(?=\])")
_QUOTED = re.compile(r"'((?:\\.|[^'\\])*)'|\"((?:\\.|[^\"\\])*)\"")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_RANGE = re.compile(r"\{\s*range\s+")
_END = re.compile(r"\{\s*end\s*\}")
_OPERATOR = re.compile(r"\s*(==|!=|<=|>=|<|>)\s*")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class Path:
    """A way from an object to values in it."""

    steps: tuple[Step, ...]
    from_root: bool = False

    def find(self, data: Any, root: Any = None) -> list[Any]:
        """Return the values that the path leads to from *data*; *root* is the whole that it is part of."""
        root = data if root is None else root
        values = [root if self.from_root else data]
        for step in self.steps:
            values = [found for value in values for found in step(value, root)]
        return values


@dataclass(frozen=True, slots=True)
class Range:
    """``{range PATH}…{end}``: the body once for each value."""

    path: Path
    body: tuple[str | Path | Range, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """Text with paths in braces."""

    parts: tuple[str | Path | Range, ...]

    def render(self, data: Any) -> str:
        """Return the text for *data*; several values of one path stand side by side, objects are JSON."""
        return "".join(_render(self.parts, data, data))


def _render(parts: tuple[str | Path | Range, ...], data: Any, root: Any) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, Path):
            yield " ".join(shown(value) for value in part.find(data, root))
        else:
            for value in part.path.find(data, root):
                yield from _render(part.body, value, root)


def shown(value: Any) -> str:
    """Return a value as kubectl prints it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def template(text: str) -> Template:
    """Return what ``-o jsonpath=TEXT`` means; a path without braces is one, too.

    Raises:
        UsageError: it cannot be read.
    """
    if "{" not in text:
        return Template((path(text),))
    parser = _Parser(text)
    return Template(parser.guarded(parser.body))


def path(text: str) -> Path:
    """Return the path that *text* is, with or without braces.

    Raises:
        UsageError: it is none.
    """
    found, rest = path_and_rest(text)
    if rest:
        raise _refusal(text, rest)
    return found


def path_and_rest(text: str) -> tuple[Path, str]:
    """Return the path at the beginning of *text*, with or without braces, and what stands behind it.

    Raises:
        UsageError: there is none.
    """
    parser = _Parser(text)
    return parser.guarded(parser.braced), text[parser.at :]


def _refusal(text: str, at: str) -> UsageError:
    where = f"cannot read it from {at!r} on" if at else "it ends too early"
    return UsageError(
        f"JSONPath {text!r}: {where}", "write it as {.status.phase} or {.items[*].metadata.name}"
    )


class _Stop(Exception):
    """The text cannot be read from where the parser is."""


class _Parser:
    """Reads a template from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def guarded(self, rule: Callable[[], T]) -> T:
        """Return what *rule* reads."""
        try:
            return rule()
        except (_Stop, RecursionError):
            raise _refusal(self._text, self._text[self.at : self.at + 40]) from None

    # ---- characters ----

    def _take(self, literal: str) -> bool:
        if self._text.startswith(literal, self.at):
            self.at += len(literal)
            return True
        return False

    def _need(self, literal: str) -> None:
        if not self._take(literal):
            raise _Stop

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self.at)
        if match:
            self.at = match.end()
        return match

    def _space(self) -> None:
        while self._take(" ") or self._take("\t"):
            pass

    def _quoted(self) -> str | None:
        match = self._match(_QUOTED)
        if match is None:
            return None
        inner: str = match[1] if match[1] is not None else match[2]
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), inner)

    # ---- templates ----

    def body(self) -> tuple[str | Path | Range, ...]:
        """Read text and braces to the end."""
        parts = self._parts()
        if self.at < len(self._text):
            raise _Stop
        return parts

    def _parts(self) -> tuple[str | Path | Range, ...]:
        """Read text and braces up to an ``{end}``, or the end."""
        parts: list[str | Path | Range] = []
        while self.at < len(self._text):
            brace = self._text.find("{", self.at)
            if brace != self.at:
                end = brace if brace >= 0 else len(self._text)
                parts.append(self._text[self.at : end])
                self.at = end
            elif _END.match(self._text, self.at):
                break
            elif self._match(_RANGE):
                found = self._path()
                self._space()
                self._need("}")
                body = self._parts()
                if not self._match(_END):
                    raise _Stop
                parts.append(Range(found, body))
            else:
                parts.append(self._literal_or_path())
        return tuple(parts)

    def _literal_or_path(self) -> str | Path:
        before = self.at
        self._need("{")
        self._space()
        literal = self._quoted()
        if literal is None:
            self.at = before
            return self.braced()
        self._space()
        self._need("}")
        return literal

    # ---- paths ----

    def braced(self) -> Path:
        """Read a path, with or without braces."""
        if not self._take("{"):
            return self._path()
        self._space()
        found = self._path()
        self._space()
        self._need("}")
        return found

    def _path(self) -> Path:
        steps: list[Step] = []
        begin = self.at
        from_root = self._take("$")
        if not from_root and not self._take("@") and (name := self._match(_NAME)):
            steps.append(_field(_unescaped(name[0])))
        while True:
            if self._take(".."):
                steps.append(_descend)
                if name := self._match(_NAME):
                    steps.append(_field(_unescaped(name[0])))
            elif self._take(".*"):
                steps.append(_every)
            elif self._take("."):
                name = self._match(_NAME)
                if name:
                    steps.append(_field(_unescaped(name[0])))
                elif self.at != begin + 1:
                    raise _Stop
            elif self._take("["):
                steps.append(self._bracket())
                self._space()
                self._need("]")
            else:
                break
        if self.at == begin:
            raise _Stop
        return Path(tuple(steps), from_root)

    def _bracket(self) -> Step:
        self._space()
        if self._take("*"):
            return _every
        if self._take("?("):
            return self._filter()
        names = []
        while (name := self._quoted()) is not None:
            names.append(name)
            self._space()
            if not self._take(","):
                return _fields(names)
            self._space()
        match = self._match(_SLICE)
        if names or match is None or not match[0]:
            raise _Stop
        numbers = [int(number) if number else None for number in match.groups()]
        if ":" not in match[0]:
            assert numbers[0] is not None, "there is a digit, as there is no colon"
            return _index(numbers[0])
        if numbers[2] == 0:
            raise _Stop
        return _slice(slice(*numbers))

    def _filter(self) -> Step:
        self._space()
        left = self._operand()
        found = self._match(_OPERATOR)
        right = self._operand() if found else None
        self._space()
        self._need(")")
        if found is None or right is None:
            return _where(lambda value, root: bool(left(value, root)))
        test = _OPERATORS[found[1]]

        def holds(value: Any, root: Any) -> bool:
            try:
                return any(
                    test(one, other) for one in left(value, root) for other in right(value, root)
                )
            except TypeError:  # a number is neither less nor more than a word
                return False

        return _where(holds)

    def _operand(self) -> Callable[[Any, Any], list[Any]]:
        literal: Any = self._quoted()
        if literal is None and (number := self._match(_NUMBER)):
            literal = float(number[0]) if "." in number[0] else int(number[0])
        if literal is None and self._take("true"):
            literal = True
        if literal is None and self._take("false"):
            literal = False
        if literal is not None:
            return lambda value, root: [literal]
        return self._path().find


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


# ---- steps ----


def _field(name: str) -> Step:
    return _fields([name])


def _fields(names: list[str]) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from (value[name] for name in names if name in value)

    return step


def _index(number: int) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= number < len(value):
            yield value[number]

    return step


def _slice(part: slice) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[part]

    return step


def _every(value: Any, root: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descend(value: Any, root: Any) -> Iterator[Any]:
    yield value
    for inner in _every(value, root):
        yield from _descend(inner, root)


def _where(holds: Callable[[Any, Any], bool]) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        yield from (inner for inner in _every(value, root) if holds(inner, root))

    return step
