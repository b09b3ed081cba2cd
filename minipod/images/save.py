# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes images of the store into an archive; equal images give equal bytes."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from minipod.images.bounds import BadImage
from minipod.images.documents import (
    CONTAINERD_NAME,
    OCI_INDEX,
    REF_NAME,
    ConfigDocument,
    Descriptor,
    Manifest,
    to_json,
)
from minipod.images.layout import LAYOUT_MARKER, Layout
from minipod.images.streams import (
    CHUNK,
    MAGIC_LENGTH,
    Stream,
    compression_of,
    decompressed,
    write_all,
)
from minipod.images.trees import random_name

Saved = tuple[Descriptor, Manifest, ConfigDocument, Sequence[str]]


def save(layout: Layout, images: Sequence[Saved], path: str | BinaryIO, format: str) -> None:
    """Write *images* (index entry, manifest, config, references) to *path*; see :meth:`ImageStore.save`.

    Raises:
        BadImage: a layer in the store is not what it should be.
        OSError: something cannot be read or written.
    """
    write = _write_oci if format == "oci-archive" else _write_docker
    with (
        _output(path) as file,
        # From front to back: it may be a pipe.
        tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        write(layout, images, tar)


@contextlib.contextmanager
def _output(path: str | BinaryIO) -> Iterator[BinaryIO]:
    """Give a file to write to, which takes its name only when the block ends well."""
    if not isinstance(path, str):
        yield path
        return
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "wb") as file:  # a pipe or a device is written to, not replaced
                yield file
            return
    partial = os.path.join(os.path.dirname(path), f".{random_name()}.partial")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def save_directory(layout: Layout, images: Sequence[Saved], fd: int) -> None:
    """Write *images* as an OCI image layout into the empty directory *fd*.

    Raises:
        OSError: something cannot be read or written.
    """
    index, blobs = _oci_parts(images)
    os.mkdir("blobs", 0o755, dir_fd=fd)
    os.mkdir("blobs/sha256", 0o755, dir_fd=fd)
    place = os.open("blobs/sha256", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
    try:
        for blob in blobs:
            with open(layout.blob(blob.digest), "rb") as source:
                _write_file(place, blob.hex, source)
    finally:
        os.close(place)
    _write_file(fd, "index.json", io.BytesIO(index))
    _write_file(fd, "oci-layout", io.BytesIO(LAYOUT_MARKER))


def _write_file(dir_fd: int, name: str, source: BinaryIO) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o644, dir_fd=dir_fd)
    try:
        while data := source.read(CHUNK):
            write_all(fd, data)
    finally:
        os.close(fd)


def _write_oci(layout: Layout, images: Sequence[Saved], tar: tarfile.TarFile) -> None:
    index, blobs = _oci_parts(images)
    _add(tar, "oci-layout", LAYOUT_MARKER)
    _add(tar, "index.json", index)
    for directory in ("blobs", "blobs/sha256"):
        info = tarfile.TarInfo(directory)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    for blob in blobs:
        with open(layout.blob(blob.digest), "rb") as file:
            _add_file(tar, f"blobs/sha256/{blob.hex}", file, blob.size)
    # As Docker does: readers that know no OCI archives, or only those of one image, find what they know.
    _add(tar, "manifest.json", to_json([_docker_item(image) for image in images]))


def _docker_item(image: Saved) -> dict[str, object]:
    """Return what stands for *image* in a Docker archive whose files lie as in a layout."""
    _, manifest, _, names = image
    return {
        "Config": f"blobs/sha256/{manifest.config.hex}",
        "RepoTags": _tags(names),
        "Layers": [f"blobs/sha256/{layer.hex}" for layer in manifest.layers],
    }


def _tags(names: Sequence[str]) -> list[str] | None:
    """Return those of *names* that Docker knows in an archive: it has no digests there."""
    return [name for name in names if "@" not in name] or None


def _oci_parts(images: Sequence[Saved]) -> tuple[bytes, list[Descriptor]]:
    """Return the index of a layout with *images*, and the blobs that it leads to, in their order."""
    entries = []
    blobs: dict[str, Descriptor] = {}
    for entry, manifest, _, names in images:
        bare = Descriptor(entry.media_type, entry.digest, entry.size)
        for name in names:
            notes = {REF_NAME: name, CONTAINERD_NAME: name}
            entries.append(Descriptor(bare.media_type, bare.digest, bare.size, notes))
        if not names:
            entries.append(bare)
        blobs |= {blob.digest: blob for blob in (bare, manifest.config, *manifest.layers)}
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [entry.to_json() for entry in entries],
    }
    return to_json(index), [blob for _, blob in sorted(blobs.items())]


def _write_docker(layout: Layout, images: Sequence[Saved], tar: tarfile.TarFile) -> None:
    items = []
    written: set[str] = set()
    for _, manifest, config, names in images:
        config_name = f"{manifest.config.hex}.json"
        layer_names = [f"{diff_id.removeprefix('sha256:')}.tar" for diff_id in config.diff_ids]
        for blob, diff_id, name in zip(manifest.layers, config.diff_ids, layer_names, strict=True):
            if name not in written:
                written.add(name)
                _add_layer(layout, tar, blob, diff_id, name)
        if config_name not in written:
            written.add(config_name)
            with open(layout.blob(manifest.config.digest), "rb") as file:
                _add_file(tar, config_name, file, manifest.config.size)
        items.append({"Config": config_name, "RepoTags": _tags(names), "Layers": layer_names})
    _add(tar, "manifest.json", to_json(items))


def _add_layer(
    layout: Layout, tar: tarfile.TarFile, blob: Descriptor, diff_id: str, name: str
) -> None:
    """Add a layer without its compression, whose size only the whole of it tells."""
    with open(layout.blob(blob.digest), "rb") as file:
        kind = compression_of(file.read(MAGIC_LENGTH))
        file.seek(0)
        if not kind:
            _add_file(tar, name, file, blob.size)
            return
        with tempfile.TemporaryFile(dir=layout.tmp) as plain:
            stream = Stream(decompressed(file, kind), hashed=True)
            while data := stream.some(CHUNK):
                write_all(plain.fileno(), data)
            if stream.digest() != diff_id:
                raise BadImage(f"layer {diff_id} has changed on disk")
            size = os.lseek(plain.fileno(), 0, os.SEEK_CUR)
            plain.seek(0)
            _add_file(tar, name, plain, size)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    _add_file(tar, name, io.BytesIO(data), len(data))


def _add_file(
    tar: tarfile.TarFile, name: str, file: io.BufferedIOBase | BinaryIO, size: int
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, file)  # type: ignore[arg-type, unused-ignore]
