# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in an image store: its index, its documents, and who is meant by a name."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from minipod.errors import MinipodError, UsageError
from minipod.images.bounds import BadImage, Limits
from minipod.images.documents import (
    ConfigDocument,
    Descriptor,
    ImageConfig,
    Manifest,
    digest_of,
    parse_config,
    parse_document,
)
from minipod.images.layout import Layout
from minipod.images.platforms import Platform
from minipod.images.reference import normalize_reference, parse_reference
from minipod.images.sizes import Footprint

_OPAQUE = "trusted.overlay.opaque"
_GONE = 64  # images whose documents may be remembered although they are gone
_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the store.

    Attributes:
        reference: its first reference, or its digest when it has none.
        references: all its references, sorted.
        digest: the manifest's digest.
        id: the config's digest, as Docker and Podman name images.
        config: how it wants to be run.
        layers: the directories to stack, bottom first, each once.
        size: bytes of its blobs, layers compressed as they came.
        created: an RFC 3339 time, as the image says, or empty.
        architecture: GOARCH, as the image says.
        os: GOOS, as the image says.
    """

    reference: str
    references: tuple[str, ...]
    digest: str
    id: str
    config: ImageConfig
    layers: tuple[str, ...]
    size: int
    created: str
    architecture: str
    os: str


@dataclass(frozen=True, slots=True)
class Times:
    """Instants in the life of an image, in seconds since 1970.

    Attributes:
        came: when it was loaded, pulled or made last.
        used: when a pod used it last, or else when it came.
    """

    came: float
    used: float


class Catalog:
    """Reads the store at *layout*; readers need no lock.

    Args:
        layout: the store.
        limits: what an image may not exceed.
    """

    def __init__(self, layout: Layout, limits: Limits) -> None:
        self._layout = layout
        self._limits = limits
        # Documents are named by their content: what was parsed once stays true.
        self._parsed: dict[str, tuple[Manifest, ConfigDocument]] = {}

    def entries(self) -> list[Descriptor]:
        """Return the index: a manifest per reference, and manifests without one.

        Raises:
            MinipodError: the store is damaged.
        """
        try:
            found = self._layout.entries()
        except OSError as error:
            raise MinipodError(
                f"image store: {error}", f"mend or remove {self._layout.root}"
            ) from error
        if len(self._parsed) > len(found) + _GONE:  # an agent lives long, and sees many images go
            alive = {entry.digest for entry in found}
            self._parsed = {key: self._parsed[key] for key in tuple(self._parsed) if key in alive}
        return found

    def find(self, entries: Iterable[Descriptor], text: str) -> list[Descriptor]:
        """Return the entries that *text* means: one for a reference, all of the image for a digest or id.

        Raises:
            UsageError: it is no reference, digest or id, or several images have ids that begin so.
        """
        entries = list(entries)
        wanted = self.as_reference(text)
        if wanted and (
            found := [entry for entry in entries if Layout.reference_of(entry) == wanted]
        ):
            return found[:1]
        if wanted and "@" in wanted and (found := self._find_pinned(entries, wanted)):
            return found
        match = _ID_PREFIX.fullmatch(text)
        if not match:
            if not wanted:
                normalize_reference(text)  # says what is wrong with it
            return []
        found = [entry for entry in entries if entry.hex == match[1]]
        return found or self._find_by_id(entries, match[1])

    def image(self, digest: str, entries: Iterable[Descriptor]) -> Image:
        """Return the image of a manifest that *entries* has.

        Raises:
            FileNotFoundError: something of it is missing.
            MinipodError: it is damaged.
        """
        same = [entry for entry in entries if entry.digest == digest]
        manifest, config = self.documents(same[0])
        references = tuple(sorted(filter(None, map(Layout.reference_of, same))))
        return Image(
            reference=references[0] if references else digest,
            references=references,
            digest=digest,
            id=manifest.config.digest,
            config=config.config,
            layers=self._stack(config.diff_ids),
            size=same[0].size + manifest.config.size + sum(layer.size for layer in manifest.layers),
            created=config.created,
            architecture=config.platform.architecture,
            os=config.platform.os,
        )

    def documents(self, entry: Descriptor) -> tuple[Manifest, ConfigDocument]:
        """Return an image's manifest and config.

        Raises:
            FileNotFoundError: one is missing.
            MinipodError: one is damaged.
        """
        known = self._parsed.get(entry.digest)
        if known is None:
            try:
                manifest = parse_document(self.blob(entry), entry.media_type, self._limits)
                if not isinstance(manifest, Manifest):
                    raise BadImage("is an index")
                known = manifest, parse_config(self.blob(manifest.config), self._limits)
            except BadImage as error:
                raise self.damaged(entry.digest, error) from error
            self._parsed[entry.digest] = known
        return known

    def blob(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or a config.

        Raises:
            FileNotFoundError: it is missing.
            BadImage: it has changed on disk.
        """
        with open(self._layout.blob(descriptor.digest), "rb") as file:
            data = file.read(self._limits.document + 1)
        if digest_of(data) != descriptor.digest:
            raise BadImage(f"blob {descriptor.digest} has changed on disk")
        return data

    def repositories(self, domain: str, digests: Container[str], preferred: str) -> dict[str, str]:
        """Return which other repositories of the registry *domain* may have blobs: paths by digest.

        Args:
            domain: of a registry.
            digests: of the blobs.
            preferred: the reference of the image whose repository is named where several may be.
        """
        found: dict[str, str] = {}
        # The last one stays.
        for entry in sorted(self.entries(), key=lambda e: Layout.reference_of(e) == preferred):
            name = Layout.reference_of(entry)
            repository = parse_reference(name) if name else None
            if repository is None or repository.domain != domain:
                continue
            try:
                manifest, _ = self.documents(entry)
            except (MinipodError, FileNotFoundError):
                continue
            for blob in (manifest.config, *manifest.layers):
                if blob.digest in digests:
                    found[blob.digest] = repository.path
        return found

    def origin(self, reference: str, platform: Platform) -> str:
        """Return the digest of what a registry had as *reference* when it was pulled for *platform*; "" if never."""
        entries = self.entries()
        named = [entry for entry in entries if Layout.reference_of(entry) == reference]
        try:
            image = self.image(named[0].digest, entries)
        except (IndexError, MinipodError, FileNotFoundError):
            return ""  # what is damaged is fetched anew
        if not all(map(os.path.isdir, image.layers)):
            return ""
        if (image.os, image.architecture) != (platform.os, platform.architecture):
            return ""
        return Layout.origin_of(named[0])

    def footprints(self) -> dict[str, Footprint]:
        """Return what each image consists of, by its digest; damaged ones are left out.

        Raises:
            MinipodError: the store is damaged.
        """
        found = {}
        for entry in self.entries():
            with contextlib.suppress(MinipodError, FileNotFoundError):
                manifest, config = self.documents(entry)
                blobs = {blob.hex: blob.size for blob in (manifest.config, *manifest.layers)}
                layers = dict.fromkeys(d.removeprefix("sha256:") for d in config.diff_ids)
                found[entry.digest] = Footprint({entry.hex: entry.size, **blobs}, tuple(layers))
        return found

    def used(
        self, entries: Iterable[Descriptor], *, strict: bool = True
    ) -> tuple[set[str], set[str]]:
        """Return the hex names of the blobs and of the layers that *entries* lead to.

        Raises:
            MinipodError: an image is damaged, and *strict*: nobody then knows what it needs.
        """
        blobs: set[str] = set()
        layers: set[str] = set()
        for entry in entries:
            blobs.add(entry.hex)
            try:
                manifest, config = self.documents(entry)
            except FileNotFoundError as error:
                if strict:
                    raise self.damaged(entry.digest, error) from error
                continue
            except MinipodError:
                if strict:
                    raise
                continue
            blobs |= {manifest.config.hex, *(layer.hex for layer in manifest.layers)}
            layers |= {diff_id.removeprefix("sha256:") for diff_id in config.diff_ids}
        return blobs, layers

    @staticmethod
    def as_reference(text: str) -> str:
        """Return *text* as a whole reference, or "" when it is none."""
        try:
            return normalize_reference(text)
        except UsageError:
            return ""

    def damaged(self, digest: str, error: Exception) -> MinipodError:
        """Return the error for an image of which something is missing or broken."""
        return MinipodError(f"image {digest} is damaged: {error}", "remove it and load it again")

    def _find_pinned(self, entries: Iterable[Descriptor], wanted: str) -> list[Descriptor]:
        """Return entries of the repository and digest of *wanted*, whatever their tags."""
        pinned = parse_reference(wanted)
        return [
            entry
            for entry in entries
            if entry.digest == pinned.digest
            and (name := Layout.reference_of(entry))
            and parse_reference(name).repository == pinned.repository
        ][:1]

    def _find_by_id(self, entries: Sequence[Descriptor], prefix: str) -> list[Descriptor]:
        found: dict[str, list[Descriptor]] = {}
        for entry in entries:
            try:
                image_id = self.documents(entry)[0].config.digest
            except (MinipodError, FileNotFoundError):
                continue
            if image_id.startswith(f"sha256:{prefix}"):
                found.setdefault(image_id, []).append(entry)
        if len(found) > 1:
            ids = ", ".join(image_id[7:19] for image_id in found)
            raise UsageError(f"image id {prefix!r} is ambiguous: {ids}", "give more digits")
        return next(iter(found.values()), [])

    def _stack(self, diff_ids: Sequence[str]) -> tuple[str, ...]:
        """Return the layers' directories as overlayfs takes them.

        It refuses one directory twice (a lower copy adds nothing to the upper one), and does not look whether a layer's
        root is opaque.
        """
        stack: list[str] = []
        for diff_id in dict.fromkeys(reversed(diff_ids)):
            path = self._layout.layer(diff_id)
            stack.append(path)
            try:
                if os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y":
                    break
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise
        return tuple(reversed(stack))
