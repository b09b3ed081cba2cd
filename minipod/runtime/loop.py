# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices (``loop(4)``): a file as a block device, for volumes of mode Block.

Which file has which device is what the kernel says, in sysfs; nothing is remembered.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import struct
from collections.abc import Iterator

_CONTROL = "/dev/loop-control"
_GET_FREE, _CONFIGURE, _CLEAR, _SET_CAPACITY = 0x4C82, 0x4C0A, 0x4C01, 0x4C07
_CONFIG_SIZE = 304
"""Bytes of ``struct loop_config``: fd, block size, ``struct loop_info64``, and 64 reserved ones."""
_TRIES = 64


def find(path: str) -> str:
    """Return the device whose file is *path*, or ""."""
    real = os.path.realpath(path)
    for name in glob.glob("/sys/block/loop*/loop/backing_file"):
        with contextlib.suppress(OSError), open(name) as file:
            if file.read().rstrip("\n") == real:
                return f"/dev/{name.split('/')[3]}"
    return ""


def attach(path: str) -> str:
    """Return the device of *path*, whose size is the file's; it is made unless it is there.

    Raises:
        OSError: this machine has no loop devices, or none that is free.
    """
    if device := grow(path):
        return device
    with _open(path) as file, _open(_CONTROL) as control:
        for _ in range(_TRIES):
            device = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            try:
                with _open(device) as fd:
                    config = struct.pack("=II", file, 0).ljust(_CONFIG_SIZE, b"\0")
                    fcntl.ioctl(fd, _CONFIGURE, config)
            except OSError as error:
                if error.errno != errno.EBUSY:  # somebody else was faster: the next one
                    raise OSError(error.errno, error.strerror, device) from error
            else:
                return device
    raise OSError(errno.EBUSY, "no loop device is free", _CONTROL)


def grow(path: str) -> str:
    """Tell the device of *path* that its file has another size; return it, or "" when there is none."""
    if device := find(path):
        with _open(device) as fd:
            fcntl.ioctl(fd, _SET_CAPACITY)
    return device


def detach(path: str) -> None:
    """Give the device of *path* back, if it has one; it goes when nobody has it open any more."""
    if device := find(path):
        with contextlib.suppress(OSError), _open(device) as fd:
            fcntl.ioctl(fd, _CLEAR)


@contextlib.contextmanager
def _open(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
