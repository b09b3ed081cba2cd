# SPDX-License-Identifier: GPL-3.0-or-later
"""What images take up on the disk: alone, and together with others.

An image is its blobs and its unpacked layers; both may belong to several. How much an unpacked layer takes up never
changes, and is therefore measured once and remembered in ``sizes.json``, a file that may be lost.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from minipod.images.layout import Layout

_MAX_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class Footprint:
    """What an image consists of.

    Attributes:
        blobs: bytes by hex name.
        layers: hex names of the unpacked layers, each once.
    """

    blobs: Mapping[str, int]
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What an image takes up, in bytes.

    Attributes:
        size: all of it.
        shared: what another image has, too.
        unique: what removing it gives back.
    """

    size: int
    shared: int

    @property
    def unique(self) -> int:
        """What nobody else has."""
        return self.size - self.shared


class LayerSizes:
    """The sizes of unpacked layers of one store, by hex name.

    Args:
        layout: the store.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sizes: dict[str, int] | None = None

    def get(self) -> dict[str, int]:
        """Return what is known."""
        if self._sizes is None:
            self._sizes = self._read()
        return dict(self._sizes)

    def learn(self, measured: Mapping[str, int], there: frozenset[str]) -> None:
        """Remember what was *measured*, and forget layers that are not *there* any more.

        Raises:
            OSError: it cannot be written.
        """
        known = {name: size for name, size in self.get().items() if name in there}
        self._sizes = known | dict(measured)
        self._layout.replace("sizes.json", json.dumps(self._sizes, sort_keys=True).encode())

    def _read(self) -> dict[str, int]:
        try:
            with open(f"{self._layout.root}/sizes.json", "rb") as file:
                found = json.loads(file.read(_MAX_FILE))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: size for name, size in found.items() if isinstance(size, int) and size >= 0}


def shares(images: Mapping[str, Footprint], layers: Mapping[str, int]) -> dict[str, Share]:
    """Return what each of *images* takes up; a layer of unknown size counts for nothing.

    Args:
        images: all images of the store, by anything.
        layers: the sizes of unpacked layers.
    """
    owners = Counter(name for image in images.values() for name in _parts(image, layers))
    found = {}
    for key, image in images.items():
        parts = _parts(image, layers)
        shared = sum(size for name, size in parts.items() if owners[name] > 1)
        found[key] = Share(sum(parts.values()), shared)
    return found


def total(images: Mapping[str, Footprint], layers: Mapping[str, int]) -> int:
    """Return the bytes that *images* take up together."""
    parts: dict[tuple[str, str], int] = {}
    for image in images.values():
        parts |= _parts(image, layers)
    return sum(parts.values())


def _parts(image: Footprint, layers: Mapping[str, int]) -> dict[tuple[str, str], int]:
    blobs = {("blob", name): size for name, size in image.blobs.items()}
    return blobs | {("layer", name): layers.get(name, 0) for name in image.layers}
