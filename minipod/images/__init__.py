# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: references, the store on disk, layers, and who the users in them are.

Loading reads everything from an image as hostile input. ``builder`` makes small images; ``loader`` is the process that
the agent loads images in. What only loading and saving need is imported there.
"""

from __future__ import annotations

from minipod.images.catalog import Image
from minipod.images.documents import ImageConfig
from minipod.images.identity import Identity, resolve_user
from minipod.images.reference import is_pullable, normalize_reference
from minipod.images.store import ImageStore

__all__ = [
    "Identity",
    "Image",
    "ImageConfig",
    "ImageStore",
    "is_pullable",
    "normalize_reference",
    "resolve_user",
]
