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
