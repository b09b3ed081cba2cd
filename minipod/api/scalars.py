# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plain YAML scalar means to kubectl.

kubectl reads YAML with ``sigs.k8s.io/yaml``, a copy of go-yaml v2. Its rules are YAML 1.1 with Go's number
syntax: ``yes``, ``on`` and ``y`` are booleans, ``0755`` is octal, ``1_000`` is 1000, ``1:30`` and dates stay
strings. The rules here are those of its ``goyaml.v2/resolve.go``.
"""

from __future__ import annotations

import math
import re

TYPE_NAMES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
}
"""What a person calls the Python type of a scalar."""

ScalarValue = str | int | float | bool | None

CORE_TAG = "tag:yaml.org,2002:"

_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_NULL = ("", "~", "null", "Null", "NULL")
_WORDS: dict[str, ScalarValue] = {
    **dict.fromkeys(_TRUE, True),
    **dict.fromkeys(_FALSE, False),
    **dict.fromkeys(_NULL, None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}

_NUMBER_START = frozenset("+-.0123456789")
_INT = re.compile(
    r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]([0-7]+)|0[bB]([01]+)|0([0-7]+)|(0|[1-9][0-9]*))", re.ASCII
)
_INT_BASES = (16, 8, 2, 8, 10)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_LONGEST_NUMBER = 64
"""Digits; a longer run of digits is a number to nobody, and converting one costs quadratic time."""


def resolve_plain(text: str) -> ScalarValue:
    """Return the value of an unquoted, untagged scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START or len(text) > _LONGEST_NUMBER:
        return text
    digits = text.replace("_", "")
    if match := _INT.fullmatch(digits):
        sign = -1 if match[1] == "-" else 1
        group = next(number for number in range(2, 7) if match[number] is not None)
        return sign * int(match[group], _INT_BASES[group - 2])
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        return number if math.isfinite(number) else text
    return text


def short_tag(tag: str) -> str:
    """Return a tag as it is written in YAML, ``!!int``, without anything that could steer a terminal."""
    name = "!!" + tag.removeprefix(CORE_TAG) if tag.startswith(CORE_TAG) else tag
    return ascii(name[:80])[1:-1]


def resolve_tagged(tag: str, text: str) -> ScalarValue:
    """Return the value of a scalar with an explicit core *tag* (``!!int "3"``).

    Raises:
        ValueError: the tag is not a core scalar tag, or the text is not of that type; words say which.
    """
    short = short_tag(tag)
    if short in ("!!str", "!!timestamp"):
        return text
    wanted = {"!!bool": (bool,), "!!int": (int,), "!!float": (float, int), "!!null": (type(None),)}
    if short not in wanted:
        raise ValueError(f"tag {short} is not allowed")
    value = resolve_plain(text)
    if type(value) not in wanted[short]:
        raise ValueError(
            f"the {TYPE_NAMES[type(value)]} {text[:40]!r} is not what its tag {short} says"
        )
    return float(value) if short == "!!float" and isinstance(value, int) else value
