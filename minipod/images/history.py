# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image came to be, as its config tells (image-spec, config.md, ``history``): hostile, and often not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minipod.images.documents import parse_json

_MAX_STEPS = 4096


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        created: an RFC 3339 time, or empty.
        created_by: the command, or empty.
        comment: words, or empty.
        layer: the diff_id of the layer that it made; empty when it made none.
    """

    created: str = ""
    created_by: str = ""
    comment: str = ""
    layer: str = ""


def history(config: bytes, diff_ids: Sequence[str]) -> list[Step]:
    """Return the steps of the image with the config document *config*, the last one first.

    What is no step is left out; layers that no step is told of get steps without words, on top.

    Raises:
        BadImage: *config* is not JSON.
    """
    document = parse_json(config, "config")
    told = document.get("history") if isinstance(document, dict) else None
    waiting = list(diff_ids)
    steps = []
    for entry in told[:_MAX_STEPS] if isinstance(told, list) else ():
        if not isinstance(entry, dict):
            continue
        made = entry.get("empty_layer") is not True and waiting
        created, by, comment = (_text(entry, key) for key in ("created", "created_by", "comment"))
        steps.append(Step(created, by, comment, waiting.pop(0) if made else ""))
    steps += [Step(layer=diff_id) for diff_id in waiting]
    return steps[::-1]


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""
