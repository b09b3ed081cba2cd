# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects a request means: names, namespaces, label selectors; and when a wait is over."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from minipod import jsonpath
from minipod.errors import UsageError

Match = Callable[[dict[str, str]], bool]

_KEY = r"([A-Za-z0-9._/-]+)"
_SET = re.compile(rf"^\s*{_KEY}\s+(in|notin)\s*\(([^()]*)\)\s*$")
_EQUAL = re.compile(rf"^\s*{_KEY}\s*(==|=|!=)\s*([A-Za-z0-9._-]*)\s*$")
_EXISTS = re.compile(rf"^\s*(!?)\s*{_KEY}\s*$")


def label_selector(text: str) -> Match:
    """Return a test of labels for ``a=b,c!=d,e in (x,y),f notin (z),g,!h`` (Kubernetes: "Labels and selectors").

    Raises:
        UsageError: *text* is no selector.
    """
    tests = [_requirement(part, text) for part in _split(text)] if text.strip() else []
    return lambda labels: all(test(labels) for test in tests)


def _split(text: str) -> list[str]:
    """Split at the commas outside of parentheses."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _requirement(part: str, whole: str) -> Match:
    if match := _SET.match(part):
        key, among = match[1], {value.strip() for value in match[3].split(",")}
        if match[2] == "in":
            return lambda labels: labels.get(key) in among
        return lambda labels: labels.get(key) not in among
    if match := _EQUAL.match(part):
        key, value = match[1], match[3]
        if match[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.match(part):
        key, wanted = match[2], not match[1]
        return lambda labels: (key in labels) is wanted
    raise UsageError(
        f"label selector {whole!r}: cannot read {part!r}",
        "write it as app=web,tier!=db,env in (a,b)",
    )


def condition(text: str) -> Callable[[dict[str, Any] | None], bool]:
    """Return the test that ``wait --for`` stands for; it gets an object, or None for one that is gone.

    Understood are ``delete``, ``create``, ``condition=Ready[=False]`` and ``jsonpath={.status.phase}[=Running]``
    (without a value: that something is there).

    Raises:
        UsageError: *text* is none of these.
    """
    if text == "delete":
        return lambda data: data is None
    if text == "create":
        return lambda data: data is not None
    kind, _, rest = text.partition("=")
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        return lambda data: data is not None and _condition_is(data, name, value or "True")
    if kind == "jsonpath" and rest:
        try:
            return _jsonpath(rest)
        except UsageError as error:
            raise UsageError(f"cannot wait for {text!r}: {error.what}", error.remedy) from None
    raise UsageError(
        f"cannot wait for {text!r}",
        "use condition=Ready, delete, create, or jsonpath={.status.phase}=Running",
    )


def _condition_is(data: dict[str, Any], name: str, value: str) -> bool:
    conditions = data.get("status", {}).get("conditions", [])
    return any(
        c["type"].lower() == name.lower() and c["status"].lower() == value.lower()
        for c in conditions
    )


def _jsonpath(text: str) -> Callable[[dict[str, Any] | None], bool]:
    """Return the test for ``PATH`` or ``PATH=VALUE``: something is there, or it is that."""
    path, rest = jsonpath.path_and_rest(text.removeprefix("'"))
    rest = rest.removeprefix("'")
    if rest and not rest.startswith("="):
        raise UsageError(f"behind the path stands {rest!r}, and no =")
    wanted = rest[1:].strip("'\"") if rest else None

    def holds(data: dict[str, Any] | None) -> bool:
        found = path.find(data) if data is not None else []
        if wanted is None or not found:
            return bool(found)
        if len(found) > 1 or isinstance(found[0], dict | list):
            raise UsageError(
                f"cannot compare {text!r}: the path leads to more than one value",
                'name one: {.status.conditions[?(@.type=="Ready")].status}',
            )
        return jsonpath.shown(found[0]) == wanted

    return holds
