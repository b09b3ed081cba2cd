# SPDX-License-Identifier: GPL-3.0-or-later
"""The store's edge: what goes wrong inside becomes words for a user."""

from __future__ import annotations

import errno

from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images.bounds import BadImage

_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "run as root",
    errno.EPERM: "run as root, with all capabilities",
    errno.ENOSPC: "make room on the file system of the root directory",
    errno.EDQUOT: "raise the quota of the root directory",
}


class Edge:
    """Turns what happens inside into words for a user, about *what*."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, BadImage):
            remedy = error.remedy or "have the image built or saved anew"
            raise UsageError(f"{self._what}: {error}", remedy) from error
        if isinstance(error, OSError):
            place = (
                f"{error.filename!s}: "
                if error.filename and str(error.filename) != self._what
                else ""
            )
            raise MinipodError(
                f"{self._what}: {place}{error.strerror or error}",
                _REMEDIES.get(error.errno or 0, ""),
            ) from error


def no_image(reference: str) -> NotFound:
    """Return the error for an image that is not there."""
    return NotFound(f"image {reference!r} is not in the store", "`minipod image ls` lists what is")
