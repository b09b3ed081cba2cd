# SPDX-License-Identifier: GPL-3.0-or-later
"""Adding to the store so that a kill at any instant leaves rubbish in ``tmp/`` and nothing else.

A :class:`Session` gathers blobs and unpacked layers in a directory of its own below ``tmp/``. Its commit takes the
store's lock, moves them to their places and writes ``index.json``. Whatever lies in ``blobs/`` or ``layers/`` without
the index leading to it is therefore the rest of a killed commit, and may be swept by whoever has the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

from minipod.images.bounds import BadImage
from minipod.images.documents import Descriptor
from minipod.images.layout import Layout
from minipod.images.streams import CHUNK, Readable, write_all
from minipod.images.trees import empty, random_name, remove_entry
from minipod.native import syncfs

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Vanished(Exception):
    """Something that the session counted on was removed from the store meanwhile; what remains must be added again."""


class Session:
    """One addition to a store; a context manager, whose end removes what was not committed.

    Attributes:
        path: the session's directory.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._needed_blobs: set[str] = set()
        self._needed_layers: set[str] = set()
        layout.create()
        with layout.locked():
            # Under the lock, so that nobody sweeps the directory before it is locked itself.
            self.path = f"{layout.tmp}/{random_name()}"
            os.mkdir(self.path, 0o700)
            self._fd = os.open(self.path, _OPEN_DIR)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.mkdir(f"{self.path}/blobs", 0o700)
        os.mkdir(f"{self.path}/layers", 0o700)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with contextlib.suppress(OSError):  # the next sweep tries again
                empty(self._fd)
                os.rmdir(self.path)
        finally:
            os.close(self._fd)

    def blob_path(self, digest: str) -> str | None:
        """Return where the blob lies, staged or in the store, or None."""
        name = digest.removeprefix("sha256:")
        self._needed_blobs.add(name)
        for path in (f"{self.path}/blobs/{name}", self._layout.blob(digest)):
            if os.path.exists(path):
                return path
        return None

    def has_layer(self, diff_id: str) -> bool:
        """Whether the layer is unpacked, staged or in the store."""
        name = diff_id.removeprefix("sha256:")
        self._needed_layers.add(name)
        return os.path.exists(f"{self.path}/layers/{name}") or os.path.exists(
            self._layout.layer(diff_id)
        )

    def add_blob(self, descriptor: Descriptor, data: Readable) -> str:
        """Store the blob read from *data*, when its size and digest are what *descriptor* says; return its path.

        Args:
            descriptor: what the blob must be.
            data: where it comes from.

        Raises:
            BadImage: it is shorter, longer or other than said.
            OSError: it cannot be read or written.
        """
        self._needed_blobs.add(descriptor.hex)
        final = f"{self.path}/blobs/{descriptor.hex}"
        partial = f"{self.path}/{random_name()}"
        fd = os.open(partial, _NEW_FILE, 0o600)
        try:
            copy_checked(descriptor, data, lambda chunk: write_all(fd, chunk))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(partial, final)
        return final

    @contextlib.contextmanager
    def new_layer(self, diff_id: str) -> Iterator[int]:
        """Give an fd of an empty directory that becomes the layer *diff_id* when the block ends well."""
        name = diff_id.removeprefix("sha256:")
        self._needed_layers.add(name)
        partial = random_name()
        os.mkdir(partial, 0o755, dir_fd=self._fd)
        fd = os.open(partial, _OPEN_DIR, dir_fd=self._fd)
        try:
            os.fchmod(fd, 0o755)
            yield fd
        except BaseException:
            remove_entry(self._fd, partial)
            raise
        finally:
            os.close(fd)
        os.rename(partial, f"layers/{name}", src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def commit(self, images: Sequence[tuple[Descriptor, Sequence[str]]]) -> None:
        """Move everything to its place and enter *images* (manifest, references) into the index.

        A manifest's annotation :data:`~minipod.images.layout.ORIGIN` is kept, and no other.

        Raises:
            Vanished: a blob or layer of the store that was counted on is gone.
            OSError: the file system says no.
        """
        layout = self._layout
        # What the layers are made of, before their names say that they are whole: a power failure keeps that order.
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)
        with layout.locked():
            blobs = set(os.listdir(f"{self.path}/blobs"))
            layers = set(os.listdir(f"{self.path}/layers"))
            if any(
                not os.path.exists(layout.blob(name)) for name in self._needed_blobs - blobs
            ) or any(
                not os.path.exists(layout.layer(name)) for name in self._needed_layers - layers
            ):
                raise Vanished
            for name in blobs:
                os.rename(f"{self.path}/blobs/{name}", layout.blob(name))
            for name in layers:
                if not os.path.exists(layout.layer(name)):
                    os.rename(f"{self.path}/layers/{name}", layout.layer(name))
            layout.sync()
            entries = layout.entries()
            for descriptor, references in images:
                entries = tagged(entries, descriptor, references)
            layout.write_entries(entries)


def tagged(
    entries: Sequence[Descriptor], descriptor: Descriptor, references: Sequence[str]
) -> list[Descriptor]:
    """Return the index's *entries* with *references* leading to *descriptor*.

    A manifest that loses its last reference stays without one: a pod may run from it.
    """
    bare = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)
    kept = [entry for entry in entries if Layout.reference_of(entry) not in references]
    alive = {entry.digest for entry in kept}
    for lost in entries:
        if lost.digest not in alive and lost.digest != bare.digest:
            alive.add(lost.digest)
            kept.append(Descriptor(lost.media_type, lost.digest, lost.size))
    if references:
        kept = [
            entry for entry in kept if entry.digest != bare.digest or Layout.reference_of(entry)
        ]
        kept += [Layout.named(descriptor, reference) for reference in dict.fromkeys(references)]
    elif bare.digest not in alive:
        kept.append(bare)
    return kept


def copy_checked(descriptor: Descriptor, data: Readable, write: Callable[[bytes], object]) -> None:
    """Hand all of *data* to *write*, and see whether it is what *descriptor* says.

    Raises:
        BadImage: it is shorter, longer or other than said.
    """
    digest, left = hashlib.sha256(), descriptor.size
    while chunk := data.read(min(CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise BadImage(
                f"blob {descriptor.digest}: is longer than the {descriptor.size} bytes it should have"
            )
        digest.update(chunk)
        write(chunk)
    if left:
        raise BadImage(
            f"blob {descriptor.digest}: has {descriptor.size - left} bytes instead of {descriptor.size}"
        )
    if digest.hexdigest() != descriptor.hex:
        raise BadImage(
            f"blob {descriptor.digest}: its content has the digest sha256:{digest.hexdigest()}"
        )
