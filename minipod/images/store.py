# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store: what is there, adding, removing, handing out.

Several processes may use one store: readers need no lock, since the index changes in one instant and everything it
leads to is whole (see :mod:`minipod.images.session`).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

from minipod.errors import MinipodError, NotFound, UsageError
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
from minipod.images.platforms import Platform, host_platform, parse_platform
from minipod.images.reference import is_local, normalize_reference, parse_reference

if TYPE_CHECKING:
    from minipod.images.registry.source import Access

Format = Literal["oci-archive", "docker-archive"]

_OPAQUE = "trusted.overlay.opaque"
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


# ImageStore has a method that is called list.
_Images = list[Image]
_Entries = list[Descriptor]
_Lines = list[str]


class ImageStore:
    """The images below one directory, which is made at the first write.

    Args:
        root: the directory.
        limits: what an image may not exceed.
    """

    def __init__(self, root: str, limits: Limits | None = None) -> None:
        self.root = root
        self.limits = limits or Limits()
        self._layout = Layout(root)
        # Documents are named by their content: what was parsed once stays true.
        self._parsed: dict[str, tuple[Manifest, ConfigDocument]] = {}

    def get(self, reference: str) -> Image | None:
        """Return the image of a reference, a manifest or config digest, or a prefix of an id that only one image has.

        Raises:
            UsageError: it is none of these, or several images have that prefix.
            MinipodError: the image, or the store, is damaged.
        """
        # Once more when another process removed the image between the index and its blobs.
        for _ in range(2):
            entries = self._entries()
            found = self._find(entries, reference)
            if not found:
                return None
            try:
                return self._image(found[0].digest, entries)
            except FileNotFoundError as error:
                damage = error
        raise self._damaged(found[0].digest, damage)

    def list(self) -> _Images:
        """Return all images, by reference; one that is damaged is left out (:meth:`get` says what it has).

        Raises:
            MinipodError: the store is damaged.
        """
        images = []
        entries = self._entries()
        for digest in dict.fromkeys(entry.digest for entry in entries):
            try:
                images.append(self._image(digest, entries))
            except (MinipodError, FileNotFoundError):
                continue
        return sorted(images, key=lambda image: (not image.references, image.reference))

    def remove(self, reference: str) -> _Lines:
        """Remove a reference, and with an image's last one its blobs and layers, unless another image has them too.

        Given a digest or an id, the image goes with all its references. Whether a pod runs from it is for the caller
        to know. Returns ``untagged: <reference>`` and ``deleted: <digest>`` lines.

        Raises:
            NotFound: there is no such image.
            MinipodError: the store is damaged or cannot be written.
        """
        if not self._entries():
            raise _no_image(reference)
        with _Edge(reference):
            return self._remove(reference)

    def sweep(self) -> None:
        """Remove what killed processes left; never what a living one is at work on.

        Raises:
            MinipodError: the store is damaged or cannot be written.
        """
        if os.path.isdir(self._layout.tmp):
            with _Edge(self.root):
                from minipod.images.sweep import sweep

                sweep(self._layout, self._used_blobs_and_layers)

    def load(
        self,
        path: str | int,
        *,
        progress: Callable[[dict[str, object]], None] = lambda _: None,
        platform: str | None = None,
        name: str | None = None,
        label: str = "archive",
    ) -> _Images:
        """Add the images of a Docker archive, an OCI archive (both also compressed), or an OCI layout directory.

        All images are added, or none. Takes long, and root's capabilities; :mod:`minipod.images.loader` does it in a
        process of its own.

        Args:
            path: the file or directory, or an fd to read an archive from.
            progress: called with ``layer``, ``status``, ``done`` and ``total``.
            platform: ``os/architecture[/variant]`` instead of this machine's.
            name: a reference for the one image, instead of those that it claims.
            label: what errors call it when *path* is an fd.

        Raises:
            UsageError: it is refused, for what it says.
            MinipodError: it cannot be read, or the store not written.
        """
        from minipod.images.ingest import ingest
        from minipod.images.source import open_source

        wanted = parse_platform(platform) if platform else host_platform()
        name = normalize_reference(name) if name else None
        with _Edge(path if isinstance(path, str) else label):
            self._layout.create()
            with open_source(path, self._layout.tmp, self.limits) as source:
                added = ingest(
                    self._layout,
                    source,
                    progress=progress,
                    platform=wanted,
                    name=name,
                    limits=self.limits,
                )
            entries = self._layout.entries()
            digests = dict.fromkeys(digest for digest, _ in added)
            return [self._image(digest, entries) for digest in digests]

    def pull(
        self,
        reference: str,
        access: Access,
        *,
        progress: Callable[[dict[str, object]], None] = lambda _: None,
        platform: str | None = None,
    ) -> Image:
        """Add the image that a registry has under *reference*, unless it is what is here already; return it.

        Takes long, as :meth:`load` does.

        Args:
            reference: a name with a tag, or a digest.
            access: how to get at registries.
            progress: called with ``layer``, ``status``, ``done`` and ``total``.
            platform: ``os/architecture[/variant]`` instead of this machine's.

        Raises:
            UsageError: it is refused, for what it says.
            MinipodError: the registry does not hand it out, or the store cannot be written.
        """
        from minipod.images.ingest import ingest
        from minipod.images.registry.source import RegistrySource

        wanted = parse_platform(platform) if platform else host_platform()
        parsed = parse_reference(reference)
        if is_local(parsed):
            raise NotFound(
                f"{reference}: localhost/ names images of this machine, not of a registry",
                "load it with: minipod image load FILE; a registry here has a port: localhost:5000/…",
            )
        with _Edge(reference):
            self._layout.create()
            with RegistrySource(parsed, access, self.limits) as source:
                known = self._origin(str(parsed), wanted) if platform is None else ""
                if not known or source.digest() != known:
                    ingest(
                        self._layout,
                        source,
                        progress=progress,
                        platform=wanted,
                        name=None,
                        limits=self.limits,
                    )
        image = self.get(str(parsed))
        if image is None:
            raise MinipodError(f"image {reference} was removed while it came", "pull it again")
        return image

    def _origin(self, reference: str, platform: Platform) -> str:
        """Return the digest of what a registry had as *reference* when it was pulled for *platform*; "" if never."""
        try:
            image = self.get(reference)
        except MinipodError:
            return ""  # damaged: it is fetched anew
        if image is None or not all(map(os.path.isdir, image.layers)):
            return ""
        if (image.os, image.architecture) != (platform.os, platform.architecture):
            return ""
        named = (e for e in self._entries() if Layout.reference_of(e) == reference)
        return next(map(Layout.origin_of, named), "")

    def save(
        self, references: Sequence[str], path: str | BinaryIO, *, format: Format = "oci-archive"
    ) -> None:
        """Write images to an archive: all of it, or nothing.

        Args:
            references: what :meth:`get` takes; the images keep these names, or all theirs when given a digest or id.
            path: the file to make or replace, or an open binary file to write to.
            format: ``oci-archive`` keeps the manifests' digests, ``docker-archive`` only the images' ids.

        Raises:
            NotFound: there is no such image.
            MinipodError: the store is damaged, or the file cannot be written.
        """
        from minipod.images.save import save

        if format not in ("oci-archive", "docker-archive"):
            raise UsageError(
                f"unknown archive format {format!r}", "use oci-archive or docker-archive"
            )
        images = []
        for reference in references:
            image = self.get(reference)
            if image is None:
                raise _no_image(reference)
            wanted = self._as_reference(reference)
            names = [wanted] if wanted in image.references else list(image.references)
            entry = next(entry for entry in self._entries() if entry.digest == image.digest)
            images.append((entry, *self._documents(entry), names))
        with _Edge(path if isinstance(path, str) else "output"):
            save(self._layout, images, path, format)

    def _find(self, entries: Iterable[Descriptor], text: str) -> _Entries:
        """Return the entries that *text* means: one for a reference, all of the image for a digest or id."""
        entries = list(entries)
        wanted = self._as_reference(text)
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

    def _find_pinned(self, entries: Iterable[Descriptor], wanted: str) -> _Entries:
        """Return entries of the repository and digest of *wanted*, whatever their tags."""
        pinned = parse_reference(wanted)
        return [
            entry
            for entry in entries
            if entry.digest == pinned.digest
            and (name := Layout.reference_of(entry))
            and parse_reference(name).repository == pinned.repository
        ][:1]

    def _find_by_id(self, entries: Sequence[Descriptor], prefix: str) -> _Entries:
        found: dict[str, list[Descriptor]] = {}
        for entry in entries:
            try:
                image_id = self._documents(entry)[0].config.digest
            except (MinipodError, FileNotFoundError):
                continue
            if image_id.startswith(f"sha256:{prefix}"):
                found.setdefault(image_id, []).append(entry)
        if len(found) > 1:
            ids = ", ".join(image_id[7:19] for image_id in found)
            raise UsageError(f"image id {prefix!r} is ambiguous: {ids}", "give more digits")
        return next(iter(found.values()), [])

    @staticmethod
    def _as_reference(text: str) -> str:
        try:
            return normalize_reference(text)
        except UsageError:
            return ""

    def _remove(self, reference: str) -> _Lines:
        from minipod.images.sweep import discard

        layout = self._layout
        layout.create()
        with layout.locked():
            entries = layout.entries()
            gone = self._find(entries, reference)
            if not gone:
                raise _no_image(reference)
            kept = [entry for entry in entries if entry not in gone]
            dropped = {entry.digest for entry in gone} - {entry.digest for entry in kept}
            blobs, layers = self._used_blobs_and_layers(
                [e for e in gone if e.digest in dropped], strict=False
            )
            kept_blobs, kept_layers = self._used_blobs_and_layers(kept)
            layout.write_entries(kept)
            blobs, layers = blobs - kept_blobs, layers - kept_layers
            rubbish = discard(layout, blobs, layers)
        rubbish.remove()
        names = sorted(filter(None, map(Layout.reference_of, gone)))
        return [f"untagged: {name}" for name in names] + [
            f"deleted: sha256:{name}" for name in sorted(blobs | layers)
        ]

    def _used_blobs_and_layers(
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
                manifest, config = self._documents(entry)
            except FileNotFoundError as error:
                if strict:
                    raise self._damaged(entry.digest, error) from error
                continue
            except MinipodError:
                if strict:
                    raise
                continue
            blobs |= {manifest.config.hex, *(layer.hex for layer in manifest.layers)}
            layers |= {diff_id.removeprefix("sha256:") for diff_id in config.diff_ids}
        return blobs, layers

    def _entries(self) -> _Entries:
        try:
            return self._layout.entries()
        except OSError as error:
            raise MinipodError(f"image store: {error}", f"mend or remove {self.root}") from error

    def _documents(self, entry: Descriptor) -> tuple[Manifest, ConfigDocument]:
        """Return an image's manifest and config.

        Raises:
            FileNotFoundError: one is missing.
            MinipodError: one is damaged.
        """
        known = self._parsed.get(entry.digest)
        if known is None:
            try:
                manifest = parse_document(self._blob(entry), entry.media_type, self.limits)
                if not isinstance(manifest, Manifest):
                    raise BadImage("is an index")
                known = manifest, parse_config(self._blob(manifest.config), self.limits)
            except BadImage as error:
                raise self._damaged(entry.digest, error) from error
            self._parsed[entry.digest] = known
        return known

    def _blob(self, descriptor: Descriptor) -> bytes:
        with open(self._layout.blob(descriptor.digest), "rb") as file:
            data = file.read(self.limits.document + 1)
        if digest_of(data) != descriptor.digest:
            raise BadImage(f"blob {descriptor.digest} has changed on disk")
        return data

    def _image(self, digest: str, entries: Iterable[Descriptor]) -> Image:
        same = [entry for entry in entries if entry.digest == digest]
        manifest, config = self._documents(same[0])
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

    def _damaged(self, digest: str, error: Exception) -> MinipodError:
        return MinipodError(f"image {digest} is damaged: {error}", "remove it and load it again")


class _Edge:
    """Turns what happens inside into words for a user, about *what*."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, BadImage):
            remedy = error.remedy or "have the image built or saved anew"
            raise UsageError(f"{self._what}: {error}", remedy) from error
        if isinstance(error, OSError):
            place = (
                f"{error.filename!s}: "
                if error.filename and str(error.filename) != self._what
                else ""
            )
            raise MinipodError(
                f"{self._what}: {place}{error.strerror or error}",
                _REMEDIES.get(error.errno or 0, ""),
            ) from error


_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "run as root",
    errno.EPERM: "run as root, with all capabilities",
    errno.ENOSPC: "make room on the file system of the root directory",
    errno.EDQUOT: "raise the quota of the root directory",
}


def _no_image(reference: str) -> NotFound:
    return NotFound(f"image {reference!r} is not in the store", "`minipod image ls` lists what is")
