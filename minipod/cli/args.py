# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on the command line: kinds and names, durations, manifests."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from minipod.errors import UsageError
from minipod.kinds import KINDS, find_kind

ALL_KINDS = tuple(kind.plural for kind in KINDS.values())
LASTING_KINDS = tuple(name for name in ALL_KINDS if name != "events")
"""The kinds whose objects stay until they are deleted."""
_MAX_MANIFEST = 1024 * 1024  # bytes; what the agent reads


def parse_groups(words: Sequence[str], kinds: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return kinds, each with its names, of ``pods,cm``, ``pods,cm A``, ``pod/A cm/B``, or what else one kind has.

    Raises:
        UsageError: as for :func:`parse_targets`.
    """
    groups: dict[str, list[str]] = {}
    if words and "," in words[0] and "/" not in words[0]:
        for word in words[0].split(","):
            groups[parse_targets([word, *words[1:]], kinds)[0]] = list(words[1:])
    elif len(words) > 1 and all("/" in word for word in words):
        for word in words:
            kind, names = parse_targets([word], kinds)
            groups.setdefault(kind, []).extend(names)
    else:
        return [parse_targets(words, kinds)]
    return list(groups.items())


def parse_targets(words: Sequence[str], kinds: Sequence[str] = ("pods",)) -> tuple[str, list[str]]:
    """Return kind and names of ``pods A B``, ``pod/A pod/B`` or ``pods``.

    Raises:
        UsageError: no kind, one that is not among *kinds*, or both forms mixed.
    """
    if not words:
        raise UsageError(
            "what is meant? no kind is named", f"name one: {', '.join(kinds)}, or pod/NAME"
        )
    if not any("/" in word for word in words):
        return _kind(words[0], kinds), list(words[1:])
    pairs = [word.split("/", 1) for word in words]
    if any(len(pair) == 1 for pair in pairs):
        raise UsageError(
            "kind/NAME and plain names cannot be mixed", "write pod/A pod/B, or pods A B"
        )
    found = {_kind(pair[0], kinds) for pair in pairs}
    if len(found) > 1:
        raise UsageError("one command is for one kind", "ask once for each")
    if not all(pair[1] for pair in pairs):
        raise UsageError("there is no name behind the /", "write pod/NAME")
    return found.pop(), [pair[1] for pair in pairs]


def _kind(word: str, kinds: Sequence[str]) -> str:
    found = find_kind("pods" if word.lower() == "all" else word)  # kubectl's "all": what runs
    if found is None or found.plural not in kinds:
        known = ", ".join(kinds)
        raise UsageError(f"there is no kind {word!r} here", f"name one before names: {known}")
    return found.plural


def pod_name(word: str) -> str:
    """Return the name in ``NAME`` or ``pod/NAME``.

    Raises:
        UsageError: it is of another kind, or empty.
    """
    name = parse_targets([word])[1][0] if "/" in word else word
    if not name:
        raise UsageError("the name of the pod is empty", "minipod get pods shows the names")
    return name


def read_manifest(name: str) -> tuple[str, str]:
    """Return the text of the file *name* (``-``: standard input) and what to call it in messages.

    Raises:
        UsageError: it cannot be read, is too big, or is not UTF-8.
    """
    source = "<stdin>" if name == "-" else name
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_MAX_MANIFEST + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(_MAX_MANIFEST + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"{source}: {reason}", "name a manifest, or - for standard input"
        ) from error
    if len(data) > _MAX_MANIFEST:
        raise UsageError(f"{source}: larger than 1 MiB", "split it into several files")
    try:
        return data.decode("utf-8-sig"), source
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{source}:{line}: not UTF-8", "save the file as UTF-8") from error
