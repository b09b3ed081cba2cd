# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes small images from Python: for examples, for tests, for a program in a container of its own.

    layers = [{"bin/hello": File(program, mode=0o755), "etc/passwd": b"root:x:0:0::/:\\n"}]
    write_oci_archive("hello.tar", "localhost/hello:1", layers, {"Entrypoint": ["/bin/hello"]})

Everything is held in memory. Equal input gives equal bytes: nothing is of the moment.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from minipod.images import documents
from minipod.images.documents import CONTAINERD_NAME, REF_NAME, Descriptor, digest_of, to_json
from minipod.images.layout import LAYOUT_MARKER
from minipod.images.platforms import Platform, host_platform
from minipod.images.streams import zstd_module

Compression = Literal["", "gzip", "zstd"]


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of a layer.

    Attributes:
        data: its content.
        mode: permission bits.
        uid: the owner.
        gid: the group.
        mtime: seconds since 1970.
        xattrs: extended attributes, by name.
    """

    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of a layer; the attributes are a file's."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """A symlink, or a hard link, to *target*."""

    target: str
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Special:
    """A FIFO or, for what refuses them, a device: *kind* is a type of :mod:`tarfile`."""

    kind: bytes = tarfile.FIFOTYPE
    mode: int = 0o644
    device: tuple[int, int] = (0, 0)


Entry = bytes | File | Directory | Link | Special
Entries = Mapping[str, Entry]
Layer = Entries | Iterable[tuple[str, Entry]]


def layer_tar(entries: Layer) -> bytes:
    """Return the uncompressed layer with *entries* by path, in their order; ``.wh.name`` is a whiteout."""
    buffer = io.BytesIO()
    pairs = entries.items() if isinstance(entries, Mapping) else entries
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in pairs:
            info, data = _member(path, File(entry) if isinstance(entry, bytes) else entry)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def compressed(data: bytes, compression: Compression) -> bytes:
    """Return *data* compressed; ``""`` leaves it as it is."""
    match compression:
        case "gzip":
            return gzip.compress(data, mtime=0)
        case "zstd":
            return bytes(zstd_module().compress(data))
        case _:
            return data


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image in memory.

    Attributes:
        manifest: what leads to it.
        config: its config's descriptor.
        layers: the descriptors of its layers, bottom first.
        diff_ids: the digests of the uncompressed layers.
        blobs: the bytes of all of these by digest.
    """

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    blobs: Mapping[str, bytes]


def build_image(
    layers: Iterable[Layer | bytes],
    config: Mapping[str, Any] | None = None,
    *,
    compression: Compression = "gzip",
    platform: Platform | None = None,
) -> BuiltImage:
    """Return an image of *layers* (entries, or whole tars), bottom first.

    Args:
        layers: what it consists of.
        config: the ``config`` section of its config: ``Entrypoint``, ``Cmd``, ``Env``, ``User`` …
        compression: of the layers.
        platform: what it runs on; this machine's when not given.
    """
    platform = platform or host_platform()
    tars = [layer if isinstance(layer, bytes) else layer_tar(layer) for layer in layers]
    diff_ids = tuple(digest_of(tar) for tar in tars)
    document = {
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    blobs: dict[str, bytes] = {}

    def blob(media_type: str, data: bytes) -> Descriptor:
        blobs[digest_of(data)] = data
        return Descriptor(media_type, digest_of(data), len(data))

    described = blob(documents.OCI_CONFIG, to_json(document))
    layer_type = documents.OCI_LAYER + (f"+{compression}" if compression else "")
    layer_blobs = tuple(blob(layer_type, compressed(tar, compression)) for tar in tars)
    manifest = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": described.to_json(),
        "layers": [layer.to_json() for layer in layer_blobs],
    }
    return BuiltImage(
        blob(documents.OCI_MANIFEST, to_json(manifest)), described, layer_blobs, diff_ids, blobs
    )


def oci_files(images: Mapping[str, BuiltImage]) -> dict[str, bytes]:
    """Return the files of an OCI image layout with *images* by reference; an empty one gives no name."""
    manifests = []
    blobs: dict[str, bytes] = {}
    for reference, image in images.items():
        entry = image.manifest.to_json()
        if reference:
            entry["annotations"] = {REF_NAME: reference, CONTAINERD_NAME: reference}
        manifests.append(entry)
        blobs |= {f"blobs/sha256/{digest[7:]}": data for digest, data in image.blobs.items()}
    index = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": manifests}
    return {"oci-layout": LAYOUT_MARKER, "index.json": to_json(index), **blobs}


def docker_files(images: Mapping[str, BuiltImage]) -> dict[str, bytes]:
    """Return the members of a Docker archive with *images* by reference; layers lie in it as they are in the image."""
    items = []
    files: dict[str, bytes] = {}
    for reference, image in images.items():
        names = [f"{diff_id[7:]}.tar" for diff_id in image.diff_ids]
        files[f"{image.config.hex}.json"] = image.blobs[image.config.digest]
        files |= {
            name: image.blobs[layer.digest] for name, layer in zip(names, image.layers, strict=True)
        }
        tags = [reference] if reference else None
        items.append({"Config": f"{image.config.hex}.json", "RepoTags": tags, "Layers": names})
    return {**files, "manifest.json": to_json(items)}


def write_archive(
    path: str | os.PathLike[str], files: Mapping[str, bytes], compression: Compression = ""
) -> None:
    """Write a tar of *files* to *path*, itself compressed as said.

    Raises:
        OSError: it cannot be written.
    """
    data = compressed(layer_tar(files), compression)
    with open(path, "wb") as file:
        file.write(data)


def write_oci_archive(
    path: str | os.PathLike[str],
    reference: str,
    layers: Iterable[Layer | bytes],
    config: Mapping[str, Any] | None = None,
    *,
    compression: Compression = "gzip",
    platform: Platform | None = None,
) -> BuiltImage:
    """Write an OCI archive with one image (see :func:`build_image`) to *path*, and return the image.

    Raises:
        OSError: it cannot be written.
    """
    image = build_image(layers, config, compression=compression, platform=platform)
    write_archive(path, oci_files({reference: image}))
    return image


def write_docker_archive(
    path: str | os.PathLike[str],
    reference: str,
    layers: Iterable[Layer | bytes],
    config: Mapping[str, Any] | None = None,
    *,
    compression: Compression = "",
    platform: Platform | None = None,
) -> BuiltImage:
    """Write a Docker archive with one image (see :func:`build_image`) to *path*, and return the image.

    Raises:
        OSError: it cannot be written.
    """
    image = build_image(layers, config, compression=compression, platform=platform)
    write_archive(path, docker_files({reference: image}))
    return image


def write_oci_layout(
    path: str | os.PathLike[str],
    reference: str,
    layers: Iterable[Layer | bytes],
    config: Mapping[str, Any] | None = None,
    *,
    compression: Compression = "gzip",
    platform: Platform | None = None,
) -> BuiltImage:
    """Make an OCI layout directory at *path* with one image (see :func:`build_image`), and return the image.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    image = build_image(layers, config, compression=compression, platform=platform)
    os.makedirs(os.path.join(path, "blobs", "sha256"))
    for name, data in oci_files({reference: image}).items():
        with open(os.path.join(path, name), "xb") as file:
            file.write(data)
    return image


def _member(path: str, entry: File | Directory | Link | Special) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    match entry:
        case File():
            info.size = len(entry.data)
        case Directory():
            info.type = tarfile.DIRTYPE
        case Link():
            info.type = tarfile.LNKTYPE if entry.hard else tarfile.SYMTYPE
            info.linkname, info.mode = entry.target, 0o777
        case Special():
            info.type, info.mode = entry.kind, entry.mode
            info.devmajor, info.devminor = entry.device
    if isinstance(entry, File | Directory):
        info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
        info.pax_headers = {
            f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")
            for name, value in entry.xattrs.items()
        }
    return info, entry.data if isinstance(entry, File) else b""
