# SPDX-License-Identifier: GPL-3.0-or-later
"""A root file system as a source of one image with one layer."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from minipod.images import documents
from minipod.images.bounds import BadImage, Budget, Limits
from minipod.images.documents import Descriptor, digest_of, to_json
from minipod.images.making.pack import Compression, Packed, pack
from minipod.images.making.tree import LeftOut, read_archive, read_directory
from minipod.images.platforms import Platform
from minipod.images.source import Root
from minipod.images.streams import (
    FileWindow,
    Readable,
    Rest,
    Stream,
    compression_of,
    decompressed,
    read_head,
)

_EVERY = 4 << 20


@dataclass(frozen=True, slots=True)
class Making:
    """What an image of a root file system is to be.

    Attributes:
        name: its reference.
        config: the ``config`` section: ``Entrypoint``, ``Cmd``, ``Env``, ``User`` … (image-spec, config.md).
        compression: of its layer.
        newest: seconds since 1970; no file, nor the image, is said to be newer.
        comment: for its history.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    compression: Compression = "gzip"
    newest: int | None = None
    comment: str = ""


class MadeImage:
    """The one image that was made; what it consists of is in memory, but the layer in a file."""

    streams = 1

    def __init__(self, making: Making, packed: Packed, layer_fd: int, platform: Platform) -> None:
        self._packed = packed
        self._fd = layer_fd
        config = to_json(_config(making, packed, platform))
        described = Descriptor(documents.OCI_CONFIG, digest_of(config), len(config))
        manifest = to_json(
            {
                "schemaVersion": 2,
                "mediaType": documents.OCI_MANIFEST,
                "config": described.to_json(),
                "layers": [packed.blob.to_json()],
            }
        )
        root = Descriptor(documents.OCI_MANIFEST, digest_of(manifest), len(manifest))
        self._documents = {described.digest: config, root.digest: manifest}
        self._root = Root((root,), (making.name,))

    def stop(self) -> None:
        pass  # nobody reads in other threads

    def roots(self) -> Sequence[Root]:
        return [self._root]

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        if data := self._documents.get(descriptor.digest):
            return contextlib.nullcontext(io.BytesIO(data))
        return contextlib.nullcontext(FileWindow(self._fd, 0, self._packed.blob.size))


@contextlib.contextmanager
def made_source(
    fd: int,
    making: Making,
    *,
    tmp: str,
    limits: Limits,
    platform: Platform,
    progress: Callable[[dict[str, object]], None],
) -> Iterator[tuple[MadeImage, list[str]]]:
    """Give the image of what is behind *fd*, and lines about what is not part of it.

    Args:
        fd: a directory, or a tar to read from where it is (a pipe will do), also compressed.
        making: what the image is to be.
        tmp: a directory for the layer.
        limits: the bounds that hold.
        platform: what it is said to run on.
        progress: called with ``layer``, ``status``, ``done`` and ``total``, which is 0: nobody knows.

    Raises:
        BadImage: it cannot be an image.
        OSError: something cannot be read or written.
    """
    left_out = LeftOut()
    budget = Budget.of(limits)
    next_report = 0

    def report(done: int) -> None:
        nonlocal next_report
        if done >= next_report:
            next_report = done + _EVERY
            progress({"layer": making.name, "status": "packing", "done": done, "total": 0})

    if stat.S_ISDIR(os.fstat(fd).st_mode):
        items = read_directory(fd, budget, left_out)
    else:
        items = read_archive(_plain(fd, budget), budget, left_out)
        budget = Budget.of(limits)  # its bytes are counted as they come
    with tempfile.TemporaryFile(dir=tmp, buffering=0) as layer:
        packed = pack(
            items,
            layer.fileno(),
            compression=making.compression,
            newest=making.newest,
            budget=budget,
            report=report,
        )
        yield MadeImage(making, packed, layer.fileno(), platform), left_out.notes()


def _plain(fd: int, budget: Budget) -> Stream:
    head = read_head(fd)
    if not head:
        raise BadImage("is empty")
    return Stream(decompressed(Rest(head, fd), compression_of(head)), budget)


def _config(making: Making, packed: Packed, platform: Platform) -> dict[str, Any]:
    # Not the time at which it is made: equal trees are equal images.
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(0, packed.newest)))
    history = {"created": created, "created_by": "minipod image from-dir"}
    if making.comment:
        history["comment"] = making.comment
    return {
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": dict(making.config),
        "rootfs": {"type": "layers", "diff_ids": [packed.diff_id]},
        "history": [history],
    }
