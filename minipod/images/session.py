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
import threading
from collections.abc import Iterator, Sequence

from minipod.images.bounds import BadImage, Limits
from minipod.images.documents import Descriptor, Manifest, parse_config, parse_document
from minipod.images.layout import Layout
from minipod.images.streams import CHUNK, Readable, write_all
from minipod.images.trees import empty, random_name, remove_entry
from minipod.native import syncfs

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_KEPT_FREE = 1 << 30  # bytes, or a twentieth of the disk if that is less
_WRITE_EVERY = 32 << 20  # bytes of blobs; their layers are written with them
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
        self._disk = _Disk(self._fd)
        os.mkdir(f"{self.path}/blobs", 0o700)
        os.mkdir(f"{self.path}/layers", 0o700)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with contextlib.suppress(OSError):
                self._disk.settle()
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

    def room(self) -> int:
        """Return how many bytes may be added: not the last ones of the disk, which others need, pods above all."""
        disk = os.fstatvfs(self._fd)
        kept = min(_KEPT_FREE, disk.f_blocks * disk.f_frsize // 20)
        return max(0, disk.f_bavail * disk.f_frsize - kept)

    def known_layers(self, limits: Limits) -> frozenset[tuple[str, str]]:
        """Return (digest of the blob, digest of the layer) of all layers of the store's images that are not damaged."""
        known: set[tuple[str, str]] = set()
        for entry in self._layout.entries():
            with contextlib.suppress(OSError, BadImage):
                manifest = parse_document(self._document(entry, limits), entry.media_type, limits)
                assert isinstance(manifest, Manifest), "only manifests are entered"
                config = parse_config(self._document(manifest.config, limits), limits)
                pairs = zip(manifest.layers, config.diff_ids, strict=False)
                known |= {(layer.digest, diff_id) for layer, diff_id in pairs}
        return frozenset(known)

    def _document(self, descriptor: Descriptor, limits: Limits) -> bytes:
        with open(self._layout.blob(descriptor.digest), "rb") as file:
            checked = Checked(descriptor, file)
            return checked.read(limits.document) + checked.read(1)

    def add_blob(self, descriptor: Descriptor, data: Readable) -> None:
        """Store the blob read from *data*, when its size and digest are what *descriptor* says.

        Args:
            descriptor: what the blob must be.
            data: where it comes from.

        Raises:
            BadImage: it is shorter, longer or other than said.
            OSError: it cannot be read or written.
        """
        with self.new_blob(descriptor, data) as stored:
            while stored.read(CHUNK):
                pass

    @contextlib.contextmanager
    def new_blob(self, descriptor: Descriptor, data: Readable) -> Iterator[Readable]:
        """Give what *data* does, and store it on the way; it becomes the blob when the block ends well.

        The last read, which gives nothing, raises BadImage unless size and digest are what *descriptor* says; a block
        that does not come to it stores nothing.
        """
        self._needed_blobs.add(descriptor.hex)
        partial = random_name()
        fd = os.open(partial, _NEW_FILE, 0o600, dir_fd=self._fd)
        try:
            stored = _Stored(Checked(descriptor, data), fd, self._disk)
            yield stored
        except BaseException:
            os.unlink(partial, dir_fd=self._fd)
            raise
        finally:
            os.close(fd)
        assert stored.is_whole, "the block has read to the end"
        os.rename(partial, f"blobs/{descriptor.hex}", src_dir_fd=self._fd, dst_dir_fd=self._fd)

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
        self._disk.settle()
        syncfs(self._fd)
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


class _Disk:
    """Has the file system of *fd* written to its disk by a thread, while more is staged: the commit waits for less.

    All that asks for that uses this one fd: ``syncfs(2)`` tells an error once for each.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._staged = 0  # bytes since it was asked to last
        self._again = False
        self._failure: OSError | None = None

    def staged(self, count: int) -> None:
        """Note that *count* bytes of a blob have been staged; now and then, begin to write what there is by now."""
        with self._lock:
            self._staged += count
            if self._staged < _WRITE_EVERY:
                return
            self._staged, self._again = 0, True
            if self._thread is None:
                # A daemon: whatever it hangs on, the process can end.
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()

    def settle(self) -> None:
        """Wait for what was begun.

        Raises:
            OSError: it cannot be written, also what an earlier call has waited for.
        """
        with self._lock:
            self._again, thread = False, self._thread
        if thread is not None:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._again or self._failure is not None:
                    self._thread = None
                    return
                self._again = False
            try:
                syncfs(self._fd)
            except OSError as error:
                self._failure = error


class _Stored:
    """Hands out what *data* does, and writes it to *fd* of *disk*.

    Attributes:
        is_whole: whether all has been read, and is what it should be.
    """

    def __init__(self, data: Checked, fd: int, disk: _Disk) -> None:
        self.is_whole = False
        self._data = data
        self._fd = fd
        self._disk = disk

    def read(self, size: int, /) -> bytes:
        chunk = self._data.read(size)
        write_all(self._fd, chunk)
        self._disk.staged(len(chunk))
        self.is_whole = not chunk
        return chunk


class Checked:
    """Hands out what *data* does, and at its end sees whether it is what *descriptor* says."""

    def __init__(self, descriptor: Descriptor, data: Readable) -> None:
        self._descriptor = descriptor
        self._data = data
        self._digest = hashlib.sha256()
        self._left = descriptor.size

    def read(self, size: int, /) -> bytes:
        """Return at least one byte and at most *size*; nothing at the end.

        Raises:
            BadImage: it is shorter, longer or other than said.
        """
        blob = self._descriptor
        chunk = self._data.read(min(size, self._left + 1))
        self._left -= len(chunk)
        if self._left < 0:
            raise BadImage(
                f"blob {blob.digest}: is longer than the {blob.size} bytes it should have"
            )
        self._digest.update(chunk)
        if not chunk:
            self._check_end()
        return chunk

    def _check_end(self) -> None:
        blob, found = self._descriptor, self._digest.hexdigest()
        if self._left:
            there = blob.size - self._left
            raise BadImage(f"blob {blob.digest}: has {there} bytes instead of {blob.size}")
        if found != blob.hex:
            raise BadImage(f"blob {blob.digest}: its content has the digest sha256:{found}")
