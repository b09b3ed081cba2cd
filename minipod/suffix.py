# SPDX-License-Identifier: GPL-3.0-or-later
"""The ends of names that are made, as Kubernetes makes them; nothing else, so that every layer can afford it."""

from __future__ import annotations

# k8s.io/apimachinery/pkg/util/rand: no vowels, nothing that looks like something else.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_LENGTH = 5
_LONGEST = 63


def generated(base: str) -> str:
    """Return a name that begins with *base*, and hardly twice the same (k8s.io/apiserver/pkg/storage/names)."""
    import secrets

    return base[: _LONGEST - _LENGTH] + "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
