# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of objects by all the names that a person gives them; nothing else, so that every layer can afford it."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of object that the agent keeps.

    Attributes:
        name: as in a manifest's ``kind``: ``ConfigMap``.
        plural: as in the API's paths and requests: ``configmaps``.
        short: further names that kubectl knows: ``cm``.
        namespaced: objects of this kind live in a namespace.
    """

    name: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True

    @property
    def singular(self) -> str:
        """Return the name in lower case, ``configmap``: as in ``configmap/settings``."""
        return self.name.lower()


KINDS = {
    kind.name: kind
    for kind in (
        Kind("Pod", "pods", ("po",)),
        Kind("Event", "events", ("ev",)),
        Kind("ConfigMap", "configmaps", ("cm",)),
        Kind("Secret", "secrets"),
        Kind("PersistentVolumeClaim", "persistentvolumeclaims", ("pvc",)),
        Kind("PersistentVolume", "persistentvolumes", ("pv",), namespaced=False),
    )
}
"""All kinds by name."""

_BY_WORD = {
    word: kind
    for kind in KINDS.values()
    for word in (kind.singular, kind.plural, *kind.short, f"{kind.plural}.v1")
}


def find_kind(word: str) -> Kind | None:
    """Return the kind meant by *word* (``cm``, ``configmap``, ``ConfigMaps``), or None."""
    return _BY_WORD.get(word.lower())
