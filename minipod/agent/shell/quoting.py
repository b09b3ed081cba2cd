# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of others in a script for bash: nothing that a manifest or an image says is ever more than a word.

The script is ASCII without control characters. What is not is written as ``$'\\xNN'`` (bash(1), "QUOTING"), byte by
byte, so that it means the same in every locale and steers no terminal or editor that shows the script.
"""

from __future__ import annotations

from collections.abc import Iterable

from minipod.errors import UsageError

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+")
_ESCAPES = {0x27: "\\'", 0x5C: "\\\\", 0x0A: "\\n", 0x09: "\\t"}


def quote(value: str | bytes) -> str:
    """Return *value* as one word for bash.

    Raises:
        UsageError: it has a NUL byte, which no word can have.
    """
    data = value if isinstance(value, bytes) else _encoded(value)
    if 0 in data:
        raise UsageError("a value with a NUL byte cannot be written in a script")
    text = data.decode("ascii", "replace")
    if text and all(char in _PLAIN for char in text):
        return text
    if all(0x20 <= byte < 0x7F for byte in data):
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join(_escaped(byte) for byte in data) + "'"


def words(values: Iterable[str]) -> str:
    """Return *values* as words for bash."""
    return " ".join(quote(value) for value in values)


def comment(text: str) -> str:
    """Return *text* as it can stand behind a ``#``: one line of ASCII."""
    shown = "".join(c if " " <= c <= "~" else _written(c) for c in text)
    return shown.rstrip()


def _escaped(byte: int) -> str:
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def _written(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in _encoded(char))


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, as JSON can say it: no byte stands for it
        return text.encode("utf-8", "surrogatepass")
