# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a registry says in the fields and the body of an answer that is no good one."""

from __future__ import annotations

import json
import re

from minipod.images.registry.http import Answer

MAX_WORDS = 64 << 10  # bytes of an error or a token
_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')


def parameters(text: str) -> dict[str, str]:
    """Return the parameters of a challenge (RFC 9110, section 11.2), names in lower case."""
    return {match[1].lower(): match[2] or match[3] or "" for match in _PARAMETER.finditer(text)}


def retry_after(answer: Answer) -> float:
    """Return the seconds that the registry asks to be left alone for, or 0."""
    text = str(answer.headers.get("Retry-After") or "")
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0.0


def words(answer: Answer) -> str:
    """Return what the registry says about its error, made harmless, after a colon; or ""."""
    try:
        errors = json.loads(answer.whole(MAX_WORDS)).get("errors")
        said = [str(error.get("message") or error.get("code") or "") for error in errors]
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return ""
    text = ascii(", ".join(filter(None, said))[:300])[1:-1]
    return f": {text}" if text else ""
