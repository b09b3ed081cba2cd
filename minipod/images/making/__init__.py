# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes an image of a root file system: a directory, as debootstrap leaves it, or a tar.

``tree`` reads it, ``pack`` writes it as a layer, and ``source`` is one more source for ingest, which verifies and
unpacks what was packed just as it does what came from elsewhere. All of it happens in the loader.
"""
