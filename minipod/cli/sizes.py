# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers of bytes, as they are shown."""

from __future__ import annotations


def human_size(size: float) -> str:
    """Return a number of bytes as ``12.3MB`` (powers of 1000, as registries count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.4g}TB"


def parse_size(text: str) -> int:
    """Return the bytes of ``512MB``, ``10GB`` (powers of 1000), ``10Gi``, ``10GiB`` (of 1024) or of a plain number.

    Raises:
        UsageError: it is none of these.
    """
    import re

    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*(?:([kKMGT])(i?))?B?", text)
    if not match:
        from minipod.errors import UsageError

        raise UsageError(f"{text[:40]!a} is no size", "write 500MB, 10GB or 10Gi")
    power = " kMGT".index(match[2].replace("K", "k")) if match[2] else 0
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)
