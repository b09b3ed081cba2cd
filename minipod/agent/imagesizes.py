# SPDX-License-Identifier: GPL-3.0-or-later
"""What the images take up on the disk, measured where nobody has yet."""

from __future__ import annotations

from minipod.images import ImageStore
from minipod.images.sizes import Share, shares, total
from minipod.runtime.usage import disk_usage


class ImageSizes:
    """Knows the sizes of one store's images."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images

    async def layers(self) -> dict[str, int]:
        """Return the bytes that unpacked layers take up, by hex name."""
        there = {name for image in self._images.footprints().values() for name in image.layers}
        known = self._images.layer_sizes.get()
        paths = {f"{self._images.root}/layers/{name}": name for name in there - known.keys()}
        if paths:
            # One after the other: a layer's files that another one has too are counted for both.
            measured = {name: (await disk_usage([path]))[path] for path, name in paths.items()}
            # What has vanished meanwhile has no size to be remembered.
            measured = {name: size for name, size in measured.items() if size}
            self._images.layer_sizes.learn(measured, frozenset(there))
            known |= measured
        return {name: known.get(name, 0) for name in there}

    async def shares(self) -> dict[str, Share]:
        """Return what each image takes up, by its digest."""
        layers = await self.layers()
        return shares(self._images.footprints(), layers)

    async def total(self, without: frozenset[str] = frozenset()) -> int:
        """Return what all of them take up together, but those *without* (digests)."""
        layers = await self.layers()
        images = self._images.footprints()
        return total({key: images[key] for key in images.keys() - without}, layers)
