# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod image``: what is in the image store, and how it comes and goes."""

from __future__ import annotations

from minipod.cli.image import files, fromdir, listing, registry, removal
from minipod.cli.image.group import app

__all__ = ["app", "files", "fromdir", "listing", "registry", "removal"]
