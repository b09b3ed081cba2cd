# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML text to a tree of nodes that know their line and column.

The tree is built from libyaml's *event* stream. The loaders of PyYAML are not used: they accept duplicate keys,
and the C one composes by recursion in C, so that 100 KB of ``[`` end the process. Here depth is counted as the
events arrive, and nothing recurses.

Anchors, aliases and merge keys (``<<``) work, within limits: an alias makes a node appear twice, so a text of
a few hundred bytes can name billions of nodes. Only the core tags are known; ``!!python/object`` is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minipod.api.scalars import CORE_TAG, ScalarValue, resolve_plain, resolve_tagged, short_tag

if TYPE_CHECKING:
    from yaml import AliasEvent, Event, MappingStartEvent, ScalarEvent, SequenceStartEvent

MAX_BYTES = 1 << 20
MAX_DEPTH = 100
MAX_NODES = 50_000
MAX_DOCUMENTS = 1000
MAX_ALIASED_NODES = 10_000
MAX_PROBLEMS = 100
MAX_PATH = 1024

_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
_JSON_ESCAPE = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(slots=True)
class Scalar:
    """A leaf: a string, number, boolean or null. *line* and *column* are 1-based."""

    value: ScalarValue
    line: int
    column: int
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Sequence:
    """A list of nodes. *size* counts all nodes below with aliases expanded; *height* the levels."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Mapping:
    """A mapping from string keys, as JSON has it."""

    line: int
    column: int
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Entry:
    """One ``key: value`` of a mapping, at the key's place."""

    line: int
    column: int
    value: Node


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class YamlProblem:
    """Something wrong with the text: where (1-based), at which path of which document, and what."""

    line: int
    column: int
    path: str
    message: str


def shown(text: str, limit: int = 60) -> str:
    """Return *text* in double quotes, shortened, with everything escaped that could steer a terminal."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut) + '"'


def join(path: str, key: str | int) -> str:
    """Return the path of a child: ``spec.containers[0]``, ``metadata.labels[example.com/app]``.

    Beyond :data:`MAX_PATH` characters a path grows no more, so that a hostile text cannot make long ones.
    """
    if len(path) > MAX_PATH:
        return path
    if isinstance(key, int):
        return f"{path}[{key}]"
    if _PLAIN_KEY.fullmatch(key) and len(key) <= 253:
        return f"{path}.{key}" if path else key
    return f"{path}[{shown(key, 120)[1:-1]}]"


def key_lines(root: Node) -> dict[str, int]:
    """Return the line of every path below *root*: of an entry its key's line, of an item its first line."""
    lines: dict[str, int] = {}
    stack: list[tuple[str, Node]] = [("", root)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, Mapping):
            for key, entry in node.entries.items():
                below = join(path, key)
                lines[below] = entry.line
                if not isinstance(entry.value, Scalar):
                    stack.append((below, entry.value))
        elif isinstance(node, Sequence):
            for index, item in enumerate(node.items):
                below = join(path, index)
                lines[below] = item.line
                if not isinstance(item, Scalar):
                    stack.append((below, item))
    return lines


def parse(text: bytes | str) -> tuple[list[Node], list[YamlProblem]]:
    """Return the documents of *text*, and everything wrong with it as YAML.

    A syntax error ends the reading: the documents before it are returned. Never raises for any input.
    """
    try:
        data = _checked(text)
    except _Fatal as fatal:
        return [], [fatal.problem]
    builder = _Builder()
    try:
        for event in _events(data):
            builder.take(event)
    except _Fatal as fatal:
        builder.problems.append(fatal.problem)
    return builder.documents, builder.problems


class _Fatal(Exception):
    """The text cannot be read further."""

    def __init__(self, line: int, column: int, message: str, path: str = "") -> None:
        super().__init__(message)
        self.problem = YamlProblem(line, column, path, message)


def _checked(text: bytes | str) -> str:
    """Return *text* as a string that libyaml can read, or say where it cannot."""
    size = len(text) if isinstance(text, bytes) else len(text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        raise _Fatal(1, 1, f"the manifest has {size} bytes, the limit is {MAX_BYTES}: split it")
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            what = f"byte 0x{error.object[error.start]:02x} is not UTF-8: save the file as UTF-8"
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            raise _Fatal(line, column, what) from None
    text = text.removeprefix("\ufeff")
    if bad := _NOT_YAML.search(text):
        ahead = text[: bad.start()]
        line, column = ahead.count("\n") + 1, bad.start() - ahead.rfind("\n")
        what = f"character U+{ord(bad[0]):04X} is not allowed in YAML: write it as an escape in double quotes"
        raise _Fatal(line, column, what)
    if text.lstrip().startswith("{"):
        return _JSON_ESCAPE.sub(_join_surrogates, text)
    return text


def _join_surrogates(escape: re.Match[str]) -> str:
    """Return JSON's escape for a character beyond U+FFFF, a pair, as YAML's; any other as it is."""
    if escape[1] is None:
        return escape[0]
    code = 0x10000 + ((int(escape[1], 16) - 0xD800) << 10) + int(escape[2], 16) - 0xDC00
    return f"\\U{code:08x}"


def _events(text: str) -> Iterator[Event]:
    """Yield libyaml's events; a syntax error becomes :class:`_Fatal`."""
    import yaml  # 30 ms that importing minipod.api does not pay
    from yaml._yaml import CParser

    parser = CParser(text)
    try:
        while event := parser.get_event():
            yield event
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = error.problem or error.context or "cannot be read"
        if "cannot start any token" in what and "\t" in _line_of(text, line):
            what += "; indent with spaces, not tabs"
        raise _Fatal(line, column, f"not YAML: {what}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise _Fatal(1, 1, f"not YAML: {first}") from None
    finally:
        parser.dispose()


def _place(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _line_of(text: str, line: int) -> str:
    lines = text.split("\n")
    return lines[line - 1] if line <= len(lines) else ""


@dataclass(slots=True)
class _Frame:
    """A collection that is still open.

    *key* is the mapping key whose value comes next, or *merging* is set when that key is ``<<``.
    """

    node: Sequence | Mapping
    path: str
    anchor: str | None
    key: str | None = None
    key_line: int = 0
    key_column: int = 0
    merging: bool = False
    merges: list[tuple[Node, int, int]] = field(default_factory=list)


_MERGE = "<<"
_SCALAR_KEYS = "a key must be a scalar, not a list or a mapping"


class _Builder:
    """Takes events, keeps the open collections on a stack of its own, and counts."""

    def __init__(self) -> None:
        self.documents: list[Node] = []
        self.problems: list[YamlProblem] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0
        self._aliased = 0

    def take(self, event: Event) -> None:
        """Add one event to the tree.

        Raises:
            _Fatal: a limit is exceeded, or the node cannot be understood.
        """
        import yaml

        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._open(event, Mapping)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open(event, Sequence)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._anchors = {}
            if len(self.documents) >= MAX_DOCUMENTS:
                line, column = _place(event)
                raise _Fatal(line, column, f"more than {MAX_DOCUMENTS} documents: split the file")

    def _scalar(self, event: ScalarEvent) -> None:
        line, column = _place(event)
        value: ScalarValue = event.value
        if event.tag and event.tag != "!":
            try:
                value = resolve_tagged(event.tag, event.value)
            except ValueError as error:
                raise _Fatal(line, column, str(error), self._path()) from None
        elif event.implicit[0] and not event.tag:
            if event.value == _MERGE and self._wants_key():
                top = self._stack[-1]
                top.merging, top.key_line, top.key_column = True, line, column
                return
            value = resolve_plain(event.value)
        self._count(line, column)
        self._add(Scalar(value, line, column), event.anchor, line, column)

    def _open(
        self, event: MappingStartEvent | SequenceStartEvent, kind: type[Mapping] | type[Sequence]
    ) -> None:
        line, column = _place(event)
        tag = event.tag
        if tag and tag not in ("!", CORE_TAG + ("map" if kind is Mapping else "seq")):
            raise _Fatal(line, column, f"tag {short_tag(tag)} is not allowed", self._path())
        if len(self._stack) >= MAX_DEPTH:
            raise _Fatal(line, column, f"nested deeper than {MAX_DEPTH} levels")
        if self._wants_key():
            raise _Fatal(line, column, _SCALAR_KEYS, self._path())
        self._count(line, column)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(kind(line, column), self._path(), event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        node = frame.node
        for merged, line, column in frame.merges:
            self._merge(node, merged, line, column, frame.path)
        children = (
            [entry.value for entry in node.entries.values()]
            if isinstance(node, Mapping)
            else node.items
        )
        node.size = 1 + sum(child.size for child in children)
        node.height = 1 + max((child.height for child in children), default=0)
        self._add(node, frame.anchor, node.line, node.column)

    def _alias(self, event: AliasEvent) -> None:
        line, column = _place(event)
        name = event.anchor or ""
        if name not in self._anchors:
            raise _Fatal(line, column, f"alias *{name[:60]} names no anchor", self._path())
        node = self._anchors[name]
        if node is None:
            raise _Fatal(
                line, column, f"alias *{name[:60]} stands inside its own anchor", self._path()
            )
        self._aliased += node.size
        if self._aliased > MAX_ALIASED_NODES:
            what = f"the aliases expand to more than {MAX_ALIASED_NODES} values: write them out"
            raise _Fatal(line, column, what)
        if len(self._stack) + node.height > MAX_DEPTH:
            raise _Fatal(line, column, f"nested deeper than {MAX_DEPTH} levels")
        self._count(line, column)
        self._add(node, None, line, column)

    def _count(self, line: int, column: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Fatal(line, column, f"more than {MAX_NODES} values: split the manifest")

    def _path(self) -> str:
        """Return the path of the node that comes next."""
        if not self._stack:
            return ""
        top = self._stack[-1]
        if isinstance(top.node, Sequence):
            return join(top.path, len(top.node.items))
        return top.path if top.key is None else join(top.path, top.key)

    def _wants_key(self) -> bool:
        if not self._stack:
            return False
        top = self._stack[-1]
        return isinstance(top.node, Mapping) and top.key is None and not top.merging

    def _add(self, node: Node, anchor: str | None, line: int, column: int) -> None:
        """Put a node where it stands; an alias stands elsewhere than its node."""
        if anchor:
            self._anchors[anchor] = node
        if not self._stack:
            self.documents.append(node)
            return
        top = self._stack[-1]
        if isinstance(top.node, Sequence):
            top.node.items.append(node)
        elif top.merging:
            top.merges.append((node, top.key_line, top.key_column))
            top.merging = False
        elif top.key is None:
            top.key = self._key(node, line, column)
            top.key_line, top.key_column = line, column
        else:
            self._entry(top, top.node, node)
            top.key = None

    def _key(self, node: Node, line: int, column: int) -> str:
        """Return a key as JSON has it: a string (``8080:`` is "8080", ``on:`` is "true")."""
        if not isinstance(node, Scalar):
            raise _Fatal(line, column, _SCALAR_KEYS, self._path())
        value = node.value
        if value is None:
            raise _Fatal(line, column, "a key must not be null: write it in quotes", self._path())
        return value if isinstance(value, str) else str(value).lower()

    def _entry(self, top: _Frame, mapping: Mapping, node: Node) -> None:
        key = top.key or ""
        if first := mapping.entries.get(key):
            what = f"key {shown(key)} is given twice, first on line {first.line}"
            self._report(top.key_line, top.key_column, join(top.path, key), what)
            return
        mapping.entries[key] = Entry(top.key_line, top.key_column, node)

    def _report(self, line: int, column: int, path: str, message: str) -> None:
        self.problems.append(YamlProblem(line, column, path, message))
        if len(self.problems) > MAX_PROBLEMS:
            raise _Fatal(line, column, "too many problems to go on")

    def _merge(self, node: Node, source: Node, line: int, column: int, path: str) -> None:
        """Add to a mapping the entries of *source* that it has not (https://yaml.org/type/merge.html)."""
        sources = source.items if isinstance(source, Sequence) else [source]
        for each in sources:
            if not isinstance(each, Mapping) or not isinstance(node, Mapping):
                raise _Fatal(
                    line, column, 'the value of "<<" must be a mapping or a list of mappings', path
                )
            for key, entry in each.entries.items():
                if key not in node.entries:
                    node.entries[key] = Entry(entry.line, entry.column, entry.value)
                    self._aliased += entry.value.size
        if self._aliased > MAX_ALIASED_NODES:
            raise _Fatal(line, column, f"the merges expand to more than {MAX_ALIASED_NODES} values")
