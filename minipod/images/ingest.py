# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes images from a source into the store: choose the platform, verify every byte, unpack the layers.

Nothing is parsed before its size and digest are seen to be what leads to it said; nothing is visible before all is
whole.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from minipod.errors import UsageError
from minipod.images.arrival import Direct, Feed, SourceFailed, side_by_side
from minipod.images.bounds import BadImage, Budget, Limits
from minipod.images.documents import (
    INDEX_TYPES,
    ConfigDocument,
    Descriptor,
    Index,
    Manifest,
    parse_config,
    parse_document,
)
from minipod.images.layout import ORIGIN, Layout
from minipod.images.platforms import Platform, rank
from minipod.images.reference import parse_reference
from minipod.images.session import Checked, Session, Vanished
from minipod.images.source import Root, Source
from minipod.images.streams import (
    CHUNK,
    MAGIC_LENGTH,
    Readable,
    Stream,
    compression_of,
    decompressed,
)
from minipod.images.unpack import unpack

Progress = Callable[[dict[str, object]], None]

_MAX_NESTING = 4
_MAX_VISITS = 1000
_MAX_DOCUMENTS = 16  # times the largest one, in memory
_REPORT_EVERY = 4 << 20
_ATTEMPTS = 5
_READ_ON = 32 << 20  # bytes


def ingest(
    layout: Layout,
    source: Source,
    *,
    progress: Progress,
    platform: Platform,
    name: str | None,
    limits: Limits,
) -> list[tuple[str, tuple[str, ...]]]:
    """Take all images of *source* into the store; return (manifest digest, references) of each.

    Args:
        layout: the store.
        source: where they come from.
        progress: called with what happens: ``layer``, ``status``, ``done`` and ``total`` bytes.
        platform: which of an image's platforms is wanted.
        name: the reference to store the image under, instead of what it claims.
        limits: the bounds that hold.

    Raises:
        UsageError: *name* is not a reference, or there is more than one image to name.
        BadImage: an image is refused; nothing was changed.
        OSError: it cannot be read or written; nothing was changed.
    """
    roots = source.roots()
    if not roots:
        raise BadImage("has no images")
    if len(roots) > limits.images:
        raise BadImage(f"has {len(roots)} images, more than {limits.images}")
    if name is not None and len(roots) > 1:
        raise UsageError(f"there are {len(roots)} images, and one name", "load it without a name")
    with Session(layout) as session:
        work = _Ingest(session, source, progress, platform, limits)
        for _ in range(_ATTEMPTS):
            images = [(root, *work.image(root)) for root in roots]
            named = [(chosen, _references(root, seen, name)) for root, chosen, seen in images]
            with contextlib.suppress(Vanished):
                session.commit(named)
                return [(descriptor.digest, references) for descriptor, references in named]
    raise OSError(f"{layout.root}: the store changes faster than images can be added")


class _Ingest:
    """One run of :func:`ingest`."""

    def __init__(
        self,
        session: Session,
        source: Source,
        progress: Progress,
        platform: Platform,
        limits: Limits,
    ) -> None:
        self._session = session
        self._source = source
        self._progress = progress
        self._platform = platform
        self._limits = limits
        self._tell = threading.Lock()
        self._documents: dict[str, bytes] = {}
        self._document_bytes = 0
        self._visits = 0
        self._known: frozenset[tuple[str, str]] | None = None

    def image(self, root: Root) -> tuple[Descriptor, frozenset[str]]:
        """Stage one image; return its manifest, and the digests that may be pinned to mean it."""
        self._visits = 0
        found: list[tuple[Descriptor, Platform]] = []
        for descriptor in root.manifests:
            self._candidates(descriptor, found, 0)
        chosen = self._choose(found)
        manifest, config = self._manifest(chosen)
        self._keep(chosen)
        self._keep(manifest.config)
        if sum(layer.size for layer in manifest.layers) > self._limits.unpacked:
            raise BadImage(f"its layers have more than {self._limits.unpacked} bytes")
        self._layers(manifest, config)
        digests = frozenset(
            {chosen.digest, *(d.digest for d in root.manifests if len(root.manifests) == 1)}
        )
        # Nothing that the index says of it is taken over, but which index it was.
        origin = {ORIGIN: root.manifests[0].digest} if len(root.manifests) == 1 else {}
        return Descriptor(chosen.media_type, chosen.digest, chosen.size, origin), digests

    def _candidates(
        self, descriptor: Descriptor, found: list[tuple[Descriptor, Platform]], nesting: int
    ) -> None:
        """Append the manifests below *descriptor*, with their platforms."""
        # Counted, since four indexes that list each other a thousand times each are small.
        self._visits += 1
        if self._visits > _MAX_VISITS:
            raise BadImage(f"indexes list more than {_MAX_VISITS} documents")
        if descriptor.media_type in INDEX_TYPES:
            if nesting == _MAX_NESTING:
                raise BadImage(f"index {descriptor.digest}: nested too deep")
            index = parse_document(self._document(descriptor), descriptor.media_type, self._limits)
            assert isinstance(index, Index)
            for below in index.manifests:
                # An index may list what it does not come with.
                with contextlib.suppress(_Missing):
                    self._candidates(below, found, nesting + 1)
            return
        found.append((descriptor, descriptor.platform or self._manifest(descriptor)[1].platform))

    def _choose(self, found: Sequence[tuple[Descriptor, Platform]]) -> Descriptor:
        ranked = [(rank(self._platform, platform), descriptor) for descriptor, platform in found]
        fitting = [(score, descriptor) for score, descriptor in ranked if score is not None]
        if not fitting:
            there = (
                ", ".join(sorted({ascii(str(platform))[1:-1] for _, platform in found})) or "none"
            )
            remedy = "get the image for this machine, or name the platform that you want"
            raise BadImage(f"has no image for {self._platform}; what it has: {there}", remedy)
        return min(fitting, key=lambda pair: pair[0])[1]

    def _manifest(self, descriptor: Descriptor) -> tuple[Manifest, ConfigDocument]:
        manifest = parse_document(self._document(descriptor), descriptor.media_type, self._limits)
        assert isinstance(manifest, Manifest)
        config = parse_config(self._document(manifest.config), self._limits)
        if len(config.diff_ids) != len(manifest.layers):
            raise BadImage(
                f"manifest has {len(manifest.layers)} layers, its config {len(config.diff_ids)}"
            )
        return manifest, config

    def _document(self, descriptor: Descriptor) -> bytes:
        """Return an index, manifest or config, verified."""
        known = self._documents.get(descriptor.digest)
        if known is None:
            if descriptor.size > self._limits.document:
                raise BadImage(
                    f"blob {descriptor.digest}: has more than {self._limits.document} bytes"
                )
            self._document_bytes += descriptor.size
            if self._document_bytes > _MAX_DOCUMENTS * self._limits.document:
                raise BadImage("has more indexes, manifests and configs than allowed")
            buffer = io.BytesIO()
            with self._open(descriptor) as data:
                checked = Checked(descriptor, data)
                while chunk := checked.read(CHUNK):
                    buffer.write(chunk)
            known = self._documents[descriptor.digest] = buffer.getvalue()
        if len(known) != descriptor.size:
            raise BadImage(
                f"blob {descriptor.digest}: has {len(known)} bytes instead of {descriptor.size}"
            )
        return known

    def _open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        try:
            return self._source.open_blob(descriptor)
        except FileNotFoundError as error:
            raise _Missing(f"blob {descriptor.digest} is missing") from error

    def _keep(self, descriptor: Descriptor) -> None:
        """Stage a document as a blob, anew also when the store has it: that one may be damaged."""
        self._session.add_blob(descriptor, io.BytesIO(self._document(descriptor)))

    def _layers(self, manifest: Manifest, config: ConfigDocument) -> None:
        """Stage the layers, several at once where the source has them far away."""
        budget = Budget.of(self._limits, self._session.room())

        def stage(part: _Part) -> None:
            try:
                self._layer(part, budget)
            except BadImage as error:
                digest = part.layer.digest[:19]
                raise BadImage(f"layer {part.number} ({digest}…): {error}") from error

        parts = self._parts(manifest.layers, config.diff_ids)
        if self._source.streams > 1:
            for part in parts:  # whoever watches knows from the start how much it is
                if part.path is None:
                    self._reporter("waiting", part.layer)(0)
        side_by_side(parts, stage, self._source.streams, self._source.stop)

    def _parts(self, layers: Sequence[Descriptor], diff_ids: Sequence[str]) -> list[_Part]:
        """Return what there is to do for each layer; for one that is there twice, once."""
        parts: list[_Part] = []
        blobs: dict[str, str] = {}
        unpacked: set[str] = set()
        for number, (layer, diff_id) in enumerate(zip(layers, diff_ids, strict=True)):
            if blobs.setdefault(layer.digest, diff_id) != diff_id:
                raise BadImage(f"layer {number}: the config has another diffID for the same blob")
            if any(part.layer.digest == layer.digest for part in parts):
                continue
            path = self._session.blob_path(layer.digest)
            has_layer = self._session.has_layer(diff_id) or diff_id in unpacked
            unpacked.add(diff_id)
            parts.append(_Part(number, layer, diff_id, path, has_layer))
        return parts

    def _layer(self, part: _Part, budget: Budget) -> None:
        layer = part.layer
        if part.path and part.has_layer and self._belong_together(layer.digest, part.diff_id):
            self._reporter("present", layer)(layer.size)
            return
        with contextlib.ExitStack() as stack:
            if part.path is None:
                raw = stack.enter_context(self._arriving(layer))
            else:
                raw = Direct(stack.enter_context(open(part.path, "rb", buffering=0)))
            said = "checking" if part.has_layer else "unpacking"
            counted = _Counted(raw, self._reporter(said, layer), lambda: raw.is_whole)
            try:
                self._take_apart(counted, part, budget)
            except SourceFailed as failed:
                raise failed.error from failed
            except BadImage:
                _find_cause(raw)
                raise
        self._reporter("done", layer)(layer.size)

    @contextlib.contextmanager
    def _arriving(self, layer: Descriptor) -> Iterator[Direct | Feed]:
        """Give the bytes of a layer, which are stored on their way; read by a thread where the source is far away."""
        is_far = self._source.streams > 1
        report = self._reporter("downloading" if is_far else "copying", layer)
        with (
            self._open(layer) as data,
            self._session.new_blob(layer, _Counted(data, report)) as stored,
            Feed(stored, self._source.stop) if is_far else Direct(stored) as raw,
        ):
            yield raw

    def _take_apart(self, raw: Readable, part: _Part, budget: Budget) -> None:
        head = _Headed(raw)
        if part.has_layer:  # nothing is written
            budget = Budget.of(self._limits)
        stream = Stream(decompressed(head, compression_of(head.head)), budget, hashed=True)
        if part.has_layer:
            _check_diff_id(stream, part.diff_id)
            return
        with self._session.new_layer(part.diff_id) as fd:
            unpack(stream, fd, budget)
            _check_diff_id(stream, part.diff_id)

    def _belong_together(self, digest: str, diff_id: str) -> bool:
        """Whether an image of the store says that this blob is that layer.

        Else an image could claim the layer of another, whose digest it knows but whose content it has not.
        """
        if self._known is None:
            self._known = self._session.known_layers(self._limits)
        return (digest, diff_id) in self._known

    def _reporter(self, status: str, layer: Descriptor) -> Callable[[int], None]:
        """Return what takes the number of bytes done so far, and reports it now and then."""
        next_report = 0

        def report(done: int) -> None:
            nonlocal next_report
            if done >= next_report or done == layer.size:
                next_report = done + _REPORT_EVERY
                with self._tell:
                    self._progress(
                        {"layer": layer.digest, "status": status, "done": done, "total": layer.size}
                    )

        return report


class _Missing(BadImage):
    """The source does not have a blob."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What there is to do for one layer.

    Attributes:
        number: its place in the image.
        layer: its blob.
        diff_id: the digest of the layer.
        path: where the blob lies, or None when it has to be fetched.
        has_layer: whether it is unpacked, or another part unpacks it.
    """

    number: int
    layer: Descriptor
    diff_id: str
    path: str | None
    has_layer: bool


class _Counted:
    """Hands out what *data* does, and tells *report* how much that was, as long as *wanted* says so and at the end."""

    def __init__(
        self,
        data: Readable,
        report: Callable[[int], None],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._data = data
        self._report = report
        self._wanted = wanted
        self._done = 0

    def read(self, size: int, /) -> bytes:
        chunk = self._data.read(size)
        self._done += len(chunk)
        if self._wanted():
            self._report(self._done)
        return chunk


class _Headed:
    """Hands out what *data* does, whose first bytes can be looked at before.

    Attributes:
        head: these bytes.
    """

    def __init__(self, data: Readable) -> None:
        self._data = data
        self.head = b""
        while len(self.head) < MAGIC_LENGTH and (more := data.read(CHUNK)):
            self.head += more
        self._pending = self.head

    def read(self, size: int, /) -> bytes:
        if self._pending:
            chunk, self._pending = self._pending[:size], self._pending[size:]
            return chunk
        return self._data.read(size)


def _find_cause(raw: Readable) -> None:
    """Read on in what could not be taken apart: bytes that are not what they should be say more than what they break.

    Raises:
        Exception: what is wrong with the bytes.
    """
    try:
        for _ in range(_READ_ON // CHUNK):
            if not raw.read(CHUNK):
                return
    except SourceFailed as failed:
        if isinstance(failed.error, BadImage):
            raise failed.error from failed


def _check_diff_id(stream: Stream, diff_id: str) -> None:
    found = stream.digest()
    if found != diff_id:
        raise BadImage(f"decompressed it is {found}, but the config says {diff_id}")


def _references(root: Root, pinned: frozenset[str], name: str | None) -> tuple[str, ...]:
    """Return the normalised references of an image.

    Raises:
        UsageError: one is not a reference.
        BadImage: one has a digest, which is another's: a pinned image must be what was pinned.
    """
    parsed = [parse_reference(text) for text in (root.names if name is None else (name,))]
    for reference in parsed:
        if reference.digest and reference.digest not in pinned:
            raise BadImage(f"is not {reference.digest}, as the reference {str(reference)!a} says")
    return tuple(dict.fromkeys(str(reference) for reference in parsed))
