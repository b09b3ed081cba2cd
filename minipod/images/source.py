# SPDX-License-Identifier: GPL-3.0-or-later
"""Where images come from: OCI layout directories, OCI archives, Docker archives; each a :class:`Source`.

A source only finds and hands out bytes. What it hands out is verified by :mod:`minipod.images.ingest`, so that a source
need not be trusted, nor trust what it reads. Registries are one more of them, in :mod:`minipod.images.registry`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from minipod.images import documents
from minipod.images.bounds import BadImage, Budget, Limits
from minipod.images.documents import CONTAINERD_NAME, REF_NAME, Descriptor, digest_of
from minipod.images.streams import (
    CHUNK,
    MAGIC_LENGTH,
    FileWindow,
    Readable,
    Rest,
    Stream,
    compression_of,
    decompressed,
    read_head,
    write_all,
)
from minipod.images.tar import HARDLINK, REGULAR, SYMLINK, read_tar
from minipod.native import RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, openat2

_MAX_LINKS = 8


@dataclass(frozen=True, slots=True)
class Root:
    """One image that a source offers.

    Attributes:
        manifests: what leads to it: a manifest, an index, or manifests of several platforms.
        names: the references it claims, as written.
    """

    manifests: tuple[Descriptor, ...]
    names: tuple[str, ...]


class Source(Protocol):
    """Offers images and hands out their blobs.

    Attributes:
        streams: how many blobs are worth reading at once, each in a thread of its own; 1: no threads.
    """

    streams: int

    def stop(self) -> None:
        """Give up: what other threads are reading fails."""
        ...

    def roots(self) -> Sequence[Root]:
        """Return the images on offer.

        Raises:
            BadImage: what says so is broken.
            OSError: it cannot be read.
        """
        ...

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """Return the bytes of a blob; nobody has verified them.

        Raises:
            FileNotFoundError: the source does not have it.
            OSError: it cannot be read.
        """
        ...


@contextlib.contextmanager
def open_source(path: str | int, tmp: str, limits: Limits) -> Iterator[Source]:
    """Give the source for *path*: a directory or a file's name, or an fd to read an archive from (a pipe will do).

    Args:
        path: where the image is.
        tmp: a directory for the decompressed archive.
        limits: the bounds that hold.

    Raises:
        BadImage: it is none of the formats.
        OSError: it cannot be read.
    """
    fd = os.dup(path) if isinstance(path, int) else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            yield LayoutDirectory(fd, limits)
            return
        head = os.pread(fd, MAGIC_LENGTH, 0) if stat.S_ISREG(mode) else read_head(fd)
        if not head:
            raise BadImage("is empty")
        kind = compression_of(head)
        if kind or not stat.S_ISREG(mode):
            raw: Readable = Rest(head, fd) if not stat.S_ISREG(mode) else FileWindow(fd, 0, 1 << 62)
            spool = stack.enter_context(tempfile.TemporaryFile(dir=tmp, buffering=0))
            stream = Stream(decompressed(raw, kind), Budget.of(limits))
            while data := stream.some(CHUNK):
                write_all(spool.fileno(), data)
            fd = os.dup(spool.fileno())
            stack.callback(os.close, fd)
        yield _archive_source(Archive(fd, limits), limits)


def _archive_source(archive: Archive, limits: Limits) -> Source:
    # New versions of Docker write both; the OCI half keeps the digests that registries know.
    if "index.json" in archive.names and "oci-layout" in archive.names:
        return OciArchive(archive, limits)
    if "manifest.json" in archive.names:
        return DockerArchive(archive, limits)
    if "repositories" in archive.names:
        raise BadImage("is an archive of Docker before 1.10; save it with a newer version")
    raise BadImage(
        "is neither an OCI archive nor a Docker archive: it has no index.json and no manifest.json"
    )


class LayoutDirectory:
    """An OCI image layout in a directory; nothing outside of it is read, and no symlink followed."""

    streams = 1

    def stop(self) -> None:
        pass  # nobody reads in other threads

    def __init__(self, fd: int, limits: Limits) -> None:
        self._fd = fd
        self._limits = limits

    def roots(self) -> Sequence[Root]:
        try:
            marker, index = self._read("oci-layout"), self._read("index.json")
        except FileNotFoundError as error:
            raise BadImage(
                f"directory is not an OCI image layout: it has no {error.filename}"
            ) from error
        return _roots(marker, index)

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self._open(f"blobs/sha256/{descriptor.hex}")

    def _read(self, name: str) -> bytes:
        with self._open(name) as file:
            return _bounded(file, name, self._limits)

    def _open(self, name: str) -> io.FileIO:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        flags = os.O_RDONLY | os.O_NONBLOCK
        fd = openat2(self._fd, name, flags, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BadImage(f"{name}: is not a regular file")
        return io.FileIO(fd, "rb")


class OciArchive:
    """An OCI image layout in a tar."""

    streams = 1

    def stop(self) -> None:
        pass  # nobody reads in other threads

    def __init__(self, archive: Archive, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits

    def roots(self) -> Sequence[Root]:
        return _roots(
            *(self._archive.read(name, self._limits) for name in ("oci-layout", "index.json"))
        )

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return contextlib.nullcontext(self._archive.open(f"blobs/sha256/{descriptor.hex}")[0])


class DockerArchive:
    """What ``docker save`` writes: a list of images with config and layers by file name, and no manifests.

    A manifest is made for each, of the layers as they lie in the archive.
    """

    streams = 1

    def stop(self) -> None:
        pass  # nobody reads in other threads

    def __init__(self, archive: Archive, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits
        self._files: dict[str, str] = {}
        self._made: dict[str, bytes] = {}

    def roots(self) -> Sequence[Root]:
        what = "manifest.json"
        items = documents.parse_json(self._archive.read(what, self._limits), what)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise BadImage(f"{what} is not a list of images")
        if len(items) > self._limits.images:
            raise BadImage(f"has {len(items)} images, more than {self._limits.images}")
        return [self._root(item) for item in items]

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        if descriptor.digest in self._made:
            return contextlib.nullcontext(io.BytesIO(self._made[descriptor.digest]))
        if descriptor.digest not in self._files:
            raise FileNotFoundError(descriptor.digest)
        return contextlib.nullcontext(self._archive.open(self._files[descriptor.digest])[0])

    def _root(self, item: dict[str, Any]) -> Root:
        config_name, layer_names, tags = (
            item.get("Config"),
            item.get("Layers"),
            item.get("RepoTags") or [],
        )
        if (
            not isinstance(config_name, str)
            or not _is_strings(layer_names)
            or not _is_strings(tags)
        ):
            raise BadImage("manifest.json: an image needs Config, Layers and RepoTags")
        config_data = self._archive.read(config_name, self._limits)
        diff_ids = documents.parse_config(config_data, self._limits).diff_ids
        if len(diff_ids) != len(layer_names):
            raise BadImage(
                f"manifest.json: {len(layer_names)} layers, but its config has {len(diff_ids)}"
            )
        config = Descriptor(documents.OCI_CONFIG, digest_of(config_data), len(config_data))
        layers = [
            self._layer(name, diff_id) for name, diff_id in zip(layer_names, diff_ids, strict=True)
        ]
        data = documents.to_json(
            {
                "schemaVersion": 2,
                "mediaType": documents.OCI_MANIFEST,
                "config": config.to_json(),
                "layers": [layer.to_json() for layer in layers],
            }
        )
        manifest = Descriptor(documents.OCI_MANIFEST, digest_of(data), len(data))
        self._files[config.digest] = config_name
        self._made[manifest.digest] = data
        return Root((manifest,), tuple(tags))

    def _layer(self, name: str, diff_id: str) -> Descriptor:
        window, size = self._archive.open(name)
        kind = compression_of(window.read(MAGIC_LENGTH))
        if kind:
            window, digest = self._archive.open(name)[0], hashlib.sha256()
            while data := window.read(CHUNK):
                digest.update(data)
            diff_id = f"sha256:{digest.hexdigest()}"
        # An uncompressed layer's digest is its diff_id; whether that is true is seen when it is taken in.
        self._files[diff_id] = name
        return Descriptor(documents.OCI_LAYER + (f"+{kind}" if kind else ""), diff_id, size)


@dataclass(frozen=True, slots=True)
class _Member:
    offset: int
    size: int
    link: str


class Archive:
    """The members of an uncompressed tar in a file that can be read at any place.

    Attributes:
        names: the members' names.
    """

    def __init__(self, fd: int, limits: Limits) -> None:
        self._fd = fd
        self._members: dict[str, _Member] = {}
        blocks = _FileBlocks(fd)
        budget = Budget.of(limits)
        for entry in read_tar(blocks):
            budget.spend_entry(entry.name)
            name = _clean(os.fsdecode(entry.name))
            if entry.kind in (REGULAR, SYMLINK, HARDLINK):
                link = os.fsdecode(entry.link)
                if entry.kind == SYMLINK:
                    link = f"{os.path.dirname(name)}/{link}"
                member = _Member(
                    blocks.at, entry.size, "" if entry.kind == REGULAR else _clean(link)
                )
                # Which of two a reader takes differs between tools; for a blob its digest decides.
                if name in self._members and not name.startswith("blobs/"):
                    raise BadImage(f"{name!a} is in the archive twice")
                self._members.setdefault(name, member)
            blocks.skip(entry.size)
        self.names = self._members.keys()

    def open(self, name: str) -> tuple[FileWindow, int]:
        """Return the content of a member, and its size; links are followed inside the archive.

        Raises:
            FileNotFoundError: there is no such member.
        """
        member = self._members.get(_clean(name))
        for _ in range(_MAX_LINKS):
            if member is None or not member.link:
                break
            member = self._members.get(member.link)
        if member is None or member.link:
            raise FileNotFoundError(2, "not in the archive", name)
        return FileWindow(self._fd, member.offset, member.size), member.size

    def read(self, name: str, limits: Limits) -> bytes:
        """Return the whole content of a small member.

        Raises:
            BadImage: there is no such member, or it is too large for a document.
        """
        try:
            return _bounded(self.open(name)[0], name, limits)
        except FileNotFoundError as error:
            raise BadImage(f"{name!a} is not in the archive") from error


class _FileBlocks:
    """A file as the tar reader wants it, where skipping costs nothing."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = os.fstat(fd).st_size
        self.at = 0

    def exactly(self, size: int) -> bytes:
        data = os.pread(self._fd, size, self.at)
        self.at += len(data)
        return data

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > self._end:
            raise BadImage("archive is cut off")


def _bounded(file: Readable, name: str, limits: Limits) -> bytes:
    """Return all of *file*, a document called *name*."""
    data = b""
    while chunk := file.read(limits.document + 1 - len(data)):
        data += chunk
        if len(data) > limits.document:
            raise BadImage(f"{name!a}: has more than {limits.document} bytes")
    return data


def _clean(name: str) -> str:
    """Return a member's name without "." parts, and ".." applied; it is a key, never a path of the file system."""
    return os.path.normpath(f"/{name}").lstrip("/")


def _is_strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _roots(marker: bytes, index: bytes) -> list[Root]:
    """Return the images in a layout's index: those of one name are the platforms of one image."""
    version = documents.parse_json(marker, "oci-layout")
    if not isinstance(version, dict) or version.get("imageLayoutVersion") != "1.0.0":
        raise BadImage("oci-layout: imageLayoutVersion is not 1.0.0")
    groups: dict[tuple[str, ...], list[Descriptor]] = {}
    for descriptor in documents.parse_index(index, documents.OCI_INDEX).manifests:
        names = _names(descriptor)
        # Without a name and without a platform, nothing says that two manifests belong together.
        key = names or (("", "platforms") if descriptor.platform else ("", descriptor.digest))
        groups.setdefault(key, []).append(descriptor)
    return [Root(tuple(group), () if key[0] == "" else key) for key, group in groups.items()]


def _names(descriptor: Descriptor) -> tuple[str, ...]:
    # Docker and containerd put the whole name into one annotation and the bare tag into the other.
    full, name = (
        descriptor.annotations.get(CONTAINERD_NAME, ""),
        descriptor.annotations.get(REF_NAME, ""),
    )
    if full:
        return (full,)
    return (name,) if any(c in name for c in "/:@") else ()
