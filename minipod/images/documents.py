# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON documents of an image: index, manifest, config (OCI image-spec 1.1; Docker's manifest version 2, schema 2).

Parsed strictly: what is used has the right type, keys come once, and a document cannot be read as two different kinds
(CVE-2021-41190).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minipod.images.bounds import BadImage, Limits
from minipod.images.platforms import Platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
# The media type names the compression, but what counts is how the blob begins; its diff_id judges both.
LAYER_TYPES = frozenset(
    {
        OCI_LAYER,
        f"{OCI_LAYER}+gzip",
        f"{OCI_LAYER}+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        DOCKER_LAYER,
        f"{DOCKER_LAYER}.gzip",
        f"{DOCKER_LAYER}.zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Says of another document or blob what it is, how large, and its digest (image-spec, descriptor.md).

    Attributes:
        media_type: what it is.
        digest: ``sha256:`` and 64 hex digits; safe in a path.
        size: bytes.
        annotations: strings by name.
        platform: in an index, what it runs on.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None

    @property
    def hex(self) -> str:
        """The digest without its algorithm."""
        return self.digest.removeprefix("sha256:")

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as it stands in a document; the platform is left out."""
        base: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        return base | ({"annotations": dict(self.annotations)} if self.annotations else {})


@dataclass(frozen=True, slots=True)
class Index:
    """A list of images, or of one image's platforms."""

    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform: its config, its layers from the bottom up."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about how to run it (image-spec, config.md); hostile input, checked for types and NULs only.

    Attributes:
        entrypoint: the first words of the command.
        cmd: the words after it, or the command when there is no entrypoint.
        env: ``NAME=value`` each.
        user: ``user``, ``uid``, ``user:group``, ``uid:gid``, or empty.
        working_dir: the working directory, or empty.
        stop_signal: a signal's name or number, or empty.
        labels: strings by name.
        exposed_ports: ``port``, ``port/tcp`` or ``port/udp`` each; informational.
        volumes: paths that want a volume.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """The whole config document: what runs where, and which layers it wants to see.

    Attributes:
        config: how to run it.
        diff_ids: the digests of the uncompressed layers, from the bottom up.
        platform: what it runs on.
        created: an RFC 3339 time, or empty.
    """

    config: ImageConfig
    diff_ids: tuple[str, ...]
    platform: Platform
    created: str


def digest_of(data: bytes) -> str:
    """Return ``sha256:<hex>`` of *data*."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether *text* is ``sha256:`` and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def to_json(value: object) -> bytes:
    """Return *value* as JSON that depends on nothing but the value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_json(data: bytes, what: str) -> Any:
    """Return the JSON value in *data*; *what* names it in messages.

    Raises:
        BadImage: it is not JSON, nests too deep, or an object in it has a key twice.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except BadImage as error:
        raise BadImage(f"{what}: {error}") from None
    except RecursionError as error:
        raise BadImage(f"{what}: nested too deep") from error
    except ValueError as error:
        raise BadImage(f"{what} is not JSON: {error}") from error


def parse_document(data: bytes, media_type: str, limits: Limits) -> Index | Manifest:
    """Return the index or manifest in *data*, which a descriptor of *media_type* pointed to.

    Raises:
        BadImage: it is neither, or both, or not what the descriptor said.
    """
    if media_type in INDEX_TYPES:
        return parse_index(data, media_type)
    if media_type in MANIFEST_TYPES:
        return _parse_manifest(data, media_type, limits)
    if media_type.startswith(_SCHEMA_1):
        raise BadImage("manifest of the obsolete Docker schema 1; the image must be built anew")
    raise BadImage(f"media type {media_type!r} is not an image")


def parse_index(data: bytes, media_type: str = "") -> Index:
    """Return the index in *data*; *media_type* is what pointed to it said, empty for a layout's index.json.

    Raises:
        BadImage: it is not an index.
    """
    root = _root(data, "index", media_type)
    if "layers" in root or "config" in root:
        raise BadImage("index: has both manifests and layers or config")
    items = _list(root, "manifests", "index")
    return Index(tuple(_descriptor(item, f"index: manifests[{i}]") for i, item in enumerate(items)))


def _parse_manifest(data: bytes, media_type: str, limits: Limits) -> Manifest:
    root = _root(data, "manifest", media_type)
    if "manifests" in root:
        raise BadImage("manifest: has both manifests and layers")
    if "fsLayers" in root:
        raise BadImage("manifest: has both layers and fsLayers")
    config = _descriptor(root.get("config"), "manifest: config")
    if config.media_type not in CONFIG_TYPES:
        raise BadImage(f"manifest: config of type {config.media_type!r} is not a container image's")
    items = _list(root, "layers", "manifest")
    if len(items) > limits.layers:
        raise BadImage(f"manifest: {len(items)} layers, more than {limits.layers}")
    layers = tuple(_descriptor(item, f"manifest: layers[{i}]") for i, item in enumerate(items))
    for layer in layers:
        if layer.media_type not in LAYER_TYPES:
            raise BadImage(
                f"manifest: layer of type {layer.media_type!r} is not a file system layer"
            )
    return Manifest(config, layers)


def parse_config(data: bytes, limits: Limits) -> ConfigDocument:
    """Return the config document in *data*.

    Raises:
        BadImage: it is not one.
    """
    what = "config"
    root = _object(parse_json(data, what), what)
    rootfs = _object(root.get("rootfs"), "config: rootfs")
    diff_ids = _strings(rootfs, "diff_ids", "config: rootfs")
    if len(diff_ids) > limits.layers:
        raise BadImage(f"config: {len(diff_ids)} layers, more than {limits.layers}")
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            raise BadImage(f"config: {diff_id[:80]!a} is not a sha256 digest")
    return ConfigDocument(
        _image_config(_object(root.get("config") or {}, "config: config")),
        diff_ids,
        _platform(root, what),
        _string(root, "created", what),
    )


def _image_config(raw: dict[str, Any]) -> ImageConfig:
    what = "config: config"
    env = _strings(raw, "Env", what)
    for item in env:
        if item.startswith("=") or not item:
            raise BadImage(f"{what}: Env has a variable without a name")
    return ImageConfig(
        entrypoint=_strings(raw, "Entrypoint", what),
        cmd=_strings(raw, "Cmd", what),
        env=tuple(item if "=" in item else f"{item}=" for item in env),
        user=_string(raw, "User", what),
        working_dir=_string(raw, "WorkingDir", what),
        stop_signal=_string(raw, "StopSignal", what),
        labels=_string_map(raw, "Labels", what),
        exposed_ports=tuple(_object(raw.get("ExposedPorts") or {}, f"{what}: ExposedPorts")),
        volumes=tuple(_object(raw.get("Volumes") or {}, f"{what}: Volumes")),
    )


def _descriptor(raw: Any, what: str) -> Descriptor:
    item = _object(raw, what)
    size = item.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise BadImage(f"{what}: size is not a number of bytes")
    digest = _string(item, "digest", what)
    if not is_digest(digest):
        raise BadImage(f"{what}: {digest[:80]!a} is not a sha256 digest")
    platform = item.get("platform")
    return Descriptor(
        _string(item, "mediaType", what),
        digest,
        size,
        _string_map(item, "annotations", what),
        _platform(_object(platform, f"{what}: platform"), what) if platform is not None else None,
    )


def _platform(raw: dict[str, Any], what: str) -> Platform:
    return Platform(*(_string(raw, key, what) for key in ("os", "architecture", "variant")))


def _root(data: bytes, what: str, media_type: str) -> dict[str, Any]:
    root = _object(parse_json(data, what), what)
    if root.get("schemaVersion") != 2:
        raise BadImage(f"{what}: schemaVersion is not 2")
    said = _string(root, "mediaType", what)
    if media_type and said and said != media_type:
        raise BadImage(f"{what}: is {said!r}, but what points to it says {media_type!r}")
    return root


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadImage("an object has a key twice")
    return result


def _no_constant(name: str) -> Any:
    raise BadImage(f"{name} is not a JSON number")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadImage(f"{what} is not an object")
    return value


def _list(raw: dict[str, Any], key: str, what: str) -> list[Any]:
    value = raw.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadImage(f"{what}: {key} is not a list")
    return value


def _string(raw: dict[str, Any], key: str, what: str) -> str:
    return _checked(raw.get(key) if raw.get(key) is not None else "", f"{what}: {key}")


def _strings(raw: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    return tuple(_checked(item, f"{what}: {key}") for item in _list(raw, key, what))


def _string_map(raw: dict[str, Any], key: str, what: str) -> dict[str, str]:
    items = _object(raw.get(key) if raw.get(key) is not None else {}, f"{what}: {key}")
    return {name: _checked(value, f"{what}: {key}") for name, value in items.items()}


def _checked(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadImage(f"{what} is not a string")
    if "\0" in value:
        raise BadImage(f"{what} has a NUL")
    if not value.isascii():
        try:
            value.encode()
        except (
            UnicodeEncodeError
        ) as error:  # "\ud800" in JSON: a half of a pair, which nothing can store
            raise BadImage(f"{what} is not unicode") from error
    return value
