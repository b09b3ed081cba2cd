# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations as Go and Kubernetes write them."""

from __future__ import annotations

import re

from minipod.errors import UsageError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|us|µs|ns|m|s))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)", re.ASCII)
_MAX_LENGTH = 64


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration (``1h30m``, ``5s``, ``100ms``), or of a plain number.

    Raises:
        UsageError: it is neither.
    """
    if len(text) > _MAX_LENGTH:
        raise UsageError(f"{text[:_MAX_LENGTH]!r}… is no duration", "write it as 30s, 5m or 1h30m")
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise UsageError(f"{text!r} is no duration", "write it as 30s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
