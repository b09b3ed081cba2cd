# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the mounts of a living pod: through the root of one of its processes, from outside."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Iterator

from minipod.native import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from minipod.plan import SANDBOX_KEY
from minipod.runtime.shim import Shim, in_time

_BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


def sandbox_root(shim: Shim) -> contextlib.AbstractAsyncContextManager[int]:
    """Give an fd of the root of *shim*'s sandbox.

    Raises:
        OSError: the sandbox has ended, or its shim does not answer.
    """
    return process_root(shim, SANDBOX_KEY)


@contextlib.asynccontextmanager
async def process_root(shim: Shim, key: str) -> AsyncIterator[int]:
    """Give an fd of the root of the process that *shim* calls *key*.

    Raises:
        OSError: it has ended, or the shim does not answer.
    """
    pid = await _pid(shim, key)
    fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)
    try:
        # The shim, its parent, has not reaped it yet: so it was no other process's root that we opened.
        if await _pid(shim, key) != pid:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        yield fd
    finally:
        os.close(fd)


async def _pid(shim: Shim, key: str) -> int:
    for process in await in_time(shim.state):
        if process.key == key and process.state == "running":
            return process.pid
    raise ProcessLookupError(errno.ESRCH, f"{key} has ended")


@contextlib.contextmanager
def volume_directory(root: int, name: str) -> Iterator[int]:
    """Give an fd of the directory of volume *name* below a sandbox's *root*.

    Raises:
        OSError: it is not there, or not a mount of its own.
    """
    volumes = openat2(root, "volumes", os.O_PATH | os.O_DIRECTORY, resolve=_BELOW)
    try:
        fd = openat2(volumes, name, os.O_RDONLY | os.O_DIRECTORY, resolve=_BELOW)
        try:
            if os.fstat(fd).st_dev == os.fstat(volumes).st_dev:
                raise OSError(errno.EXDEV, "is not a filesystem of its own", f"/volumes/{name}")
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(volumes)
