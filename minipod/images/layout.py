# SPDX-License-Identifier: GPL-3.0-or-later
"""The store on disk: an OCI image layout (image-spec, image-layout.md) with the unpacked layers beside it::

    oci-layout  index.json  blobs/sha256/<hex>   as every tool reads them
    layers/<hex of the diff_id>/                 a layer as overlayfs takes it
    tmp/                                         sessions, and nothing that is missed when lost
    lock                                         held while index.json changes

All of it is root's alone: a layer holds setuid programs for other roots than the host's (CVE-2021-41103).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence

from minipod.images.bounds import BadImage
from minipod.images.documents import OCI_INDEX, REF_NAME, Descriptor, parse_index, to_json
from minipod.images.streams import write_all
from minipod.images.trees import random_name

ORIGIN = "dev.minipod.origin"
LAYOUT_MARKER = to_json({"imageLayoutVersion": "1.0.0"})


class Layout:
    """The places in a store, and its index.

    Attributes:
        root: the store's directory.
        tmp: where sessions live.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.tmp = f"{root}/tmp"

    def blob(self, digest: str) -> str:
        """Return the path of a blob."""
        return f"{self.root}/blobs/sha256/{digest.removeprefix('sha256:')}"

    def layer(self, diff_id: str) -> str:
        """Return the path of an unpacked layer."""
        return f"{self.root}/layers/{diff_id.removeprefix('sha256:')}"

    def create(self) -> None:
        """Make what is missing of the store's directories.

        Raises:
            OSError: a directory cannot be made.
        """
        os.makedirs(self.root, 0o700, exist_ok=True)
        os.chmod(self.root, 0o700)
        for name in ("blobs", "blobs/sha256", "layers", "tmp"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{self.root}/{name}", 0o700)
        if not os.path.exists(f"{self.root}/oci-layout"):
            with self.locked():
                self.replace("oci-layout", LAYOUT_MARKER)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store's lock; it is taken for moments only, and the kernel frees it when the holder dies."""
        fd = os.open(
            f"{self.root}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def entries(self) -> list[Descriptor]:
        """Return the index: a manifest per reference, and manifests without one.

        Raises:
            OSError: ``index.json`` cannot be read, or is not an index.
        """
        path = f"{self.root}/index.json"
        try:
            with open(path, "rb") as file:
                return list(parse_index(file.read(), OCI_INDEX).manifests)
        except FileNotFoundError:
            return []
        except BadImage as error:
            raise OSError(f"{path}: {error}") from error

    def write_entries(self, entries: Sequence[Descriptor]) -> None:
        """Replace the index, in one instant; the caller holds the lock.

        Raises:
            OSError: it cannot be written; the old one stays.
        """
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [entry.to_json() for entry in entries],
        }
        self.replace("index.json", to_json(document))

    def sync(self) -> None:
        """Put the names of blobs and layers on the disk."""
        for name in ("blobs/sha256", "layers"):
            fd = os.open(f"{self.root}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file of the store's directory, in one instant.

        Raises:
            OSError: it cannot be written; the old one stays.
        """
        partial = f"{self.tmp}/{random_name()}"
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(partial, f"{self.root}/{name}")
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    @staticmethod
    def origin_of(entry: Descriptor) -> str:
        """Return the digest of what a registry had under that name: the image's index, or its manifest."""
        return entry.annotations.get(ORIGIN, entry.digest)

    @staticmethod
    def reference_of(entry: Descriptor) -> str:
        """Return the reference under which the index has *entry*, or an empty string."""
        return entry.annotations.get(REF_NAME, "")

    @staticmethod
    def named(entry: Descriptor, reference: str) -> Descriptor:
        """Return *entry* with *reference*, and no other annotations than where it came from."""
        origin = {key: value for key, value in entry.annotations.items() if key == ORIGIN}
        notes = {REF_NAME: reference, **origin}
        return Descriptor(entry.media_type, entry.digest, entry.size, notes)
