# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store: what is there, adding, removing, handing out.

Several processes may use one store: readers need no lock, since the index changes in one instant and everything it
leads to is whole (see :mod:`minipod.images.session`).
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Literal

from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images.bounds import BadImage, Limits
from minipod.images.catalog import Catalog, Image, Times
from minipod.images.documents import Descriptor
from minipod.images.edge import Edge, no_image
from minipod.images.history import Step, history
from minipod.images.layout import Layout
from minipod.images.platforms import Platform, host_platform, parse_platform
from minipod.images.reference import is_local, normalize_reference, parse_reference
from minipod.images.session import tagged
from minipod.images.sizes import Footprint, LayerSizes

if TYPE_CHECKING:
    from minipod.images.making.source import Making
    from minipod.images.registry.source import Access
    from minipod.images.save import Saved
    from minipod.images.source import Source

Format = Literal["oci-archive", "docker-archive"]


# ImageStore has a method that is called list.
_Images = list[Image]
_Entries = list[Descriptor]
_Lines = list[str]
_Layers = list[tuple[Descriptor, str]]
_Steps = list[Step]
_Progress = Callable[[dict[str, object]], None]


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
        self._catalog = Catalog(self._layout, self.limits)
        self._going: Counter[str] = Counter()
        self.layer_sizes = LayerSizes(self._layout)

    def get(self, reference: str) -> Image | None:
        """Return the image of a reference, a manifest or config digest, or a prefix of an id that only one image has.

        Raises:
            UsageError: it is none of these, or several images have that prefix.
            MinipodError: the image, or the store, is damaged.
        """
        # Once more when another process removed the image between the index and its blobs.
        for _ in range(2):
            entries = self._present()
            found = self._catalog.find(entries, reference)
            if not found:
                return None
            try:
                return self._catalog.image(found[0].digest, entries)
            except FileNotFoundError as error:
                damage = error
        raise self._catalog.damaged(found[0].digest, damage)

    def list(self) -> _Images:
        """Return all images, by reference; one that is damaged is left out (:meth:`get` says what it has).

        Raises:
            MinipodError: the store is damaged.
        """
        images = []
        entries = self._present()
        for digest in dict.fromkeys(entry.digest for entry in entries):
            try:
                images.append(self._catalog.image(digest, entries))
            except (MinipodError, FileNotFoundError):
                continue
        return sorted(images, key=lambda image: (not image.references, image.reference))

    @contextlib.contextmanager
    def going(self, digests: Sequence[str]) -> Iterator[None]:
        """For as long as the block lasts, hand the images of these digests to nobody: they are being removed."""
        self._going.update(digests)
        try:
            yield
        finally:
            self._going.subtract(digests)

    def _present(self) -> _Entries:
        entries = self._catalog.entries()
        return [entry for entry in entries if not self._going[entry.digest]]

    def meant(self, reference: str) -> tuple[_Lines, _Lines]:
        """Return what would go with *reference*: digests of images, and references.

        Raises:
            UsageError: it is no reference, digest or id, or several images have ids that begin so.
            MinipodError: the store is damaged.
        """
        entries = self._catalog.entries()
        found = self._catalog.find(entries, reference)
        stay = {entry.digest for entry in entries if entry not in found}
        digests = dict.fromkeys(entry.digest for entry in found if entry.digest not in stay)
        return list(digests), list(filter(None, map(Layout.reference_of, found)))

    def tag(self, reference: str, name: str) -> str:
        """Give an image a further reference, which another one loses if it has it; return it whole.

        Raises:
            NotFound: there is no such image.
            UsageError: *name* is not a reference, or has another image's digest.
            MinipodError: the store is damaged or cannot be written.
        """
        wanted = parse_reference(name)
        if not self._catalog.entries():
            raise no_image(reference)
        with Edge(reference), self._layout.locked():
            entries = self._catalog.entries()
            found = self._catalog.find(entries, reference)
            if not found:
                raise no_image(reference)
            if wanted.digest and wanted.digest != found[0].digest:
                raise UsageError(
                    f"{name}: the image's digest is {found[0].digest}", "name a tag instead"
                )
            self._layout.write_entries(tagged(entries, found[0], [str(wanted)]))
        return str(wanted)

    def history(self, reference: str) -> _Steps:
        """Return how an image came to be, the last step first.

        Raises:
            NotFound: there is no such image.
            UsageError: *reference* is none.
            MinipodError: it is damaged.
        """
        entry = self._entry(reference)
        with self._damage(entry):
            manifest, config = self._catalog.documents(entry)
            return history(self._catalog.blob(manifest.config), config.diff_ids)

    def layers(self, reference: str) -> _Layers:
        """Return an image's layers, bottom first: the blob, and the diff_id.

        Raises:
            NotFound: there is no such image.
            UsageError: *reference* is none.
            MinipodError: it is damaged.
        """
        entry = self._entry(reference)
        with self._damage(entry):
            manifest, config = self._catalog.documents(entry)
        return list(zip(manifest.layers, config.diff_ids, strict=True))

    @contextlib.contextmanager
    def _damage(self, entry: Descriptor) -> Iterator[None]:
        """Say of an image whose documents are gone or wrong that it is damaged."""
        try:
            yield
        except (FileNotFoundError, BadImage) as error:
            raise self._catalog.damaged(entry.digest, error) from error

    def _entry(self, reference: str) -> Descriptor:
        found = self._catalog.find(self._present(), reference)
        if not found:
            raise no_image(reference)
        return found[0]

    def footprints(self) -> dict[str, Footprint]:
        """Return what each image consists of, by its digest; damaged ones are left out.

        Raises:
            MinipodError: the store is damaged.
        """
        return self._catalog.footprints()

    def touch(self, image: Image) -> None:
        """Note that *image* is being used now."""
        with contextlib.suppress(OSError):  # no reason not to use it
            os.utime(self._layout.blob(image.digest))

    def times(self, image: Image) -> Times:
        """Return when *image* came, and when it was used last; both 0 when it is gone."""
        try:
            used = os.stat(self._layout.blob(image.digest)).st_mtime
            return Times(os.stat(self._layout.blob(image.id)).st_mtime, used)
        except OSError:
            return Times(0.0, 0.0)

    def remove(self, reference: str, may_go: Collection[str] | None = None) -> _Lines:
        """Remove a reference, and with an image's last one its blobs and layers, unless another image has them too.

        Given a digest or an id, the image goes with all its references. Whether a pod runs from it is for the caller
        to know. Returns ``untagged: <reference>`` and ``deleted: <digest>`` lines.

        Args:
            reference: what :meth:`get` takes.
            may_go: the digests that *reference* meant when the caller looked (see :meth:`meant`); any when not given.

        Raises:
            NotFound: there is no such image.
            MinipodError: another image would go by now, or the store is damaged or cannot be written.
        """
        if not self._catalog.entries():
            raise no_image(reference)
        with Edge(reference):
            return self._remove(reference, may_go)

    def sweep(self) -> None:
        """Remove what killed processes left; never what a living one is at work on.

        Raises:
            MinipodError: the store is damaged or cannot be written.
        """
        if os.path.isdir(self._layout.tmp):
            with Edge(self.root):
                from minipod.images.sweep import sweep

                sweep(self._layout, self._catalog.used)

    def load(
        self,
        path: str | int,
        *,
        progress: _Progress = lambda _: None,
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
        from minipod.images.source import open_source

        wanted = parse_platform(platform) if platform else host_platform()
        name = normalize_reference(name) if name else None
        with Edge(path if isinstance(path, str) else label):
            self._layout.create()
            with open_source(path, self._layout.tmp, self.limits) as source:
                added = self._ingest(source, progress, wanted, name)
            entries = self._layout.entries()
            digests = dict.fromkeys(digest for digest, _ in added)
            return [self._catalog.image(digest, entries) for digest in digests]

    def make(
        self,
        path: str | int,
        making: Making,
        *,
        progress: _Progress = lambda _: None,
        platform: str | None = None,
        label: str = "root file system",
    ) -> tuple[Image, _Lines]:
        """Add an image of one layer: of a directory, or of a tar; equal input gives equal digests.

        Takes long, as :meth:`load` does.

        Args:
            path: the directory or file, or an fd.
            making: what the image is to be.
            progress: called with ``layer``, ``status``, ``done`` and ``total``.
            platform: ``os/architecture[/variant]`` that it is said to run on, instead of this machine's.
            label: what errors call it when *path* is an fd.

        Returns:
            the image, and lines about what is not part of it.

        Raises:
            UsageError: it cannot be an image; the text names the file.
            MinipodError: it cannot be read, or the store not written.
        """
        from minipod.images.making.source import made_source

        wanted = parse_platform(platform) if platform else host_platform()
        making = replace(making, name=normalize_reference(making.name))
        with Edge(path if isinstance(path, str) else label):
            self._layout.create()
            fd = os.dup(path) if isinstance(path, int) else os.open(path, os.O_RDONLY)
            try:
                with made_source(
                    fd,
                    making,
                    tmp=self._layout.tmp,
                    limits=self.limits,
                    platform=wanted,
                    progress=progress,
                ) as (source, notes):
                    ((digest, _),) = self._ingest(source, progress, wanted)
            finally:
                os.close(fd)
            return self._catalog.image(digest, self._layout.entries()), notes

    def pull(
        self,
        reference: str,
        access: Access,
        *,
        progress: _Progress = lambda _: None,
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
        from minipod.images.registry.source import RegistrySource

        wanted = parse_platform(platform) if platform else host_platform()
        parsed = parse_reference(reference)
        if is_local(parsed):
            raise NotFound(
                f"{reference}: localhost/ names images of this machine, not of a registry",
                "load it with: minipod image load FILE; a registry here has a port: localhost:5000/…",
            )
        with Edge(reference):
            self._layout.create()
            with RegistrySource(parsed, access, self.limits) as source:
                known = self._catalog.origin(str(parsed), wanted) if platform is None else ""
                if not known or source.digest() != known:
                    self._ingest(source, progress, wanted)
        image = self.get(str(parsed))
        if image is None:
            raise MinipodError(f"image {reference} was removed while it came", "pull it again")
        return image

    def _ingest(
        self, source: Source, progress: _Progress, platform: Platform, name: str | None = None
    ) -> Sequence[tuple[str, tuple[str, ...]]]:
        from minipod.images.ingest import ingest

        return ingest(
            self._layout,
            source,
            progress=progress,
            platform=platform,
            name=name,
            limits=self.limits,
        )

    def push(
        self,
        reference: str,
        destination: str,
        access: Access,
        *,
        progress: _Progress = lambda _: None,
    ) -> str:
        """Put an image into a registry, as it is here, byte for byte; return its digest.

        Args:
            reference: what :meth:`get` takes.
            destination: the name there, with a tag.
            access: how to get at registries.
            progress: called with ``layer``, ``status``, ``done`` and ``total``.

        Raises:
            NotFound: there is no such image.
            UsageError: *destination* is no name in a registry.
            MinipodError: the registry does not take it, or the image is damaged.
        """
        from minipod.images.registry.upload import Parcel, push

        target = parse_reference(destination)
        if is_local(target):
            raise UsageError(
                f"image {destination} is one of this machine, by its name, not of a registry",
                f"name where to: minipod image push {reference} REGISTRY/NAME:TAG",
            )
        entry = self._entry(reference)
        with self._damage(entry):
            manifest, _ = self._catalog.documents(entry)
            document = self._catalog.blob(entry)
        blobs = (manifest.config, *manifest.layers)
        wanted = {blob.digest for blob in blobs}
        sources = self._catalog.repositories(target.domain, wanted, Layout.reference_of(entry))
        with Edge(destination):
            push(
                Parcel(entry, document, blobs, self._layout.blob, sources),
                target,
                access,
                progress,
            )
        return entry.digest

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
            raise UsageError(f"unknown format {format!r}", "use oci-archive or docker-archive")
        images = self._to_save(references)
        with Edge(path if isinstance(path, str) else "output"):
            save(self._layout, images, path, format)

    def save_directory(self, references: Sequence[str], fd: int) -> None:
        """Write images as an OCI image layout into the empty directory *fd*; see :meth:`save`.

        Raises:
            NotFound: there is no such image.
            MinipodError: the store is damaged, or the directory cannot be written.
        """
        from minipod.images.save import save_directory

        images = self._to_save(references)
        with Edge("output"):
            save_directory(self._layout, images, fd)

    def _to_save(self, references: Sequence[str]) -> Sequence[Saved]:
        images = []
        for reference in references:
            image = self.get(reference)
            if image is None:
                raise no_image(reference)
            wanted = self._catalog.as_reference(reference)
            names = [wanted] if wanted in image.references else list(image.references)
            entry = next(entry for entry in self._catalog.entries() if entry.digest == image.digest)
            images.append((entry, *self._catalog.documents(entry), names))
        return images

    def _remove(self, reference: str, may_go: Collection[str] | None) -> _Lines:
        from minipod.images.sweep import discard

        layout = self._layout
        layout.create()
        with layout.locked():
            entries = layout.entries()
            gone = self._catalog.find(entries, reference)
            if not gone:
                raise no_image(reference)
            kept = [entry for entry in entries if entry not in gone]
            dropped = {entry.digest for entry in gone} - {entry.digest for entry in kept}
            if may_go is not None and not dropped <= set(may_go):
                raise MinipodError(
                    f"image {reference} has changed meanwhile", "look again: minipod image ls"
                )
            blobs, layers = self._catalog.used(
                [e for e in gone if e.digest in dropped], strict=False
            )
            kept_blobs, kept_layers = self._catalog.used(kept)
            layout.write_entries(kept)
            blobs, layers = blobs - kept_blobs, layers - kept_layers
            rubbish = discard(layout, blobs, layers)
        rubbish.remove()
        names = sorted(filter(None, map(Layout.reference_of, gone)))
        return [f"untagged: {name}" for name in names] + [
            f"deleted: sha256:{name}" for name in sorted(blobs | layers)
        ]
