# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts one image into a registry: its blobs side by side, where they are not there already, and its manifest last.

Sources: OCI distribution-spec 1.1, "Push"; distribution's API. Small blobs go in one request, larger ones in pieces, so
that a connection that breaks costs one piece. What is sent is what the store has, byte for byte: digests and media
types stay.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin

from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images.documents import Descriptor
from minipod.images.reference import Reference
from minipod.images.registry import credentials
from minipod.images.registry.client import Client, is_lasting
from minipod.images.registry.http import Address, Answer, Http
from minipod.images.registry.proxies import Proxies
from minipod.images.registry.settings import Trust, endpoints
from minipod.images.registry.source import Access
from minipod.images.streams import CHUNK, FileWindow

Progress = Callable[[dict[str, object]], None]

_STREAMS = 3
_PIECE = 16 << 20
_MAX_PIECE = 256 << 20  # that a registry may ask for
_SOURCES = 4  # repositories that blobs may be mounted from
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_BYTES = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent.

    Attributes:
        manifest: the descriptor of its manifest.
        document: the manifest's bytes.
        blobs: its config and its layers.
        path: says where the blob of a digest lies.
        sources: repositories of the same registry that may have blobs of these digests.
    """

    manifest: Descriptor
    document: bytes
    blobs: Sequence[Descriptor]
    path: Callable[[str], str]
    sources: Mapping[str, str]


def push(parcel: Parcel, target: Reference, access: Access, progress: Progress) -> None:
    """Send *parcel* to where *target* says.

    Args:
        parcel: the image.
        target: the registry, the repository and the tag; or the manifest's digest.
        access: how to get at registries.
        progress: called with ``layer``, ``status``, ``done`` and ``total``.

    Raises:
        UsageError: *target* is another digest.
        MinipodError: the registry does not take it.
        OSError: a blob cannot be read.
    """
    if target.digest and target.digest != parcel.manifest.digest:
        raise UsageError(
            f"{target}: the image's digest is {parcel.manifest.digest}", "name a tag to push it to"
        )
    # Mirrors are for reading.
    endpoint = endpoints(access.settings, target)[-1]
    http = Http(
        Proxies(access.proxies), Trust(access.settings, [endpoint]).context, access.patience
    )
    sources = sorted({name for name in parcel.sources.values() if name != target.path})[:_SOURCES]
    client = Client(
        http,
        endpoint,
        credentials.find(access.settings, access.auths, endpoint),
        access.patience,
        actions="pull,push",
        sources=sources,
    )
    access.settled()
    try:
        # Alone, so that whoever may not push hears of it once, and one token serves all.
        first, *others = {blob.digest: blob for blob in parcel.blobs}.values()
        _Upload(client, first, parcel, target.path, progress).run()
        with concurrent.futures.ThreadPoolExecutor(_STREAMS) as pool:
            uploads = [_Upload(client, blob, parcel, target.path, progress) for blob in others]
            futures = [pool.submit(upload.run) for upload in uploads]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                client.stopped.set()
                http.abort()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        _put_manifest(client, parcel, target.tag or parcel.manifest.digest)
    finally:
        http.close()


def _put_manifest(client: Client, parcel: Parcel, name: str) -> None:
    headers = {"Content-Type": parcel.manifest.media_type}

    def put() -> str:
        with client.ask(
            "PUT", f"manifests/{name}", headers, body=parcel.document, good=(200, 201, 202)
        ) as answer:
            return str(answer.headers.get("Docker-Content-Digest") or "")

    digest = client.patiently(put)
    if digest and digest != parcel.manifest.digest:
        raise MinipodError(
            f"the registry has kept something else: {digest[:80]!a} instead of {parcel.manifest.digest}",
            "ask who runs it",
        )


class _Upload:
    """One blob on its way."""

    def __init__(
        self,
        client: Client,
        blob: Descriptor,
        parcel: Parcel,
        repository: str,
        progress: Progress,
    ) -> None:
        self._client = client
        self._blob = blob
        self._path = parcel.path(blob.digest)
        source = parcel.sources.get(blob.digest, "")
        self._source = source if source != repository else ""
        self._progress = progress
        self._location = ""
        self._least = 0  # bytes of a piece that the registry asks for
        self._at = 0
        self._was_broken = False  # since the upload was begun

    def run(self) -> None:
        """Bring the blob there.

        Raises:
            MinipodError: the registry does not take it.
            OSError: it cannot be read.
        """
        if self._client.patiently(self._is_there):
            self._report("present", self._blob.size)
            return
        # Here, so that what is wrong with the file is not taken for the registry's trouble.
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._persist(fd)
        finally:
            os.close(fd)
        self._report("done", self._blob.size)

    def _persist(self, fd: int) -> None:
        failures, furthest, is_broken = 0, 0, False
        while True:
            if self._client.stopped.is_set():
                raise ConnectionError("no longer wanted")
            try:
                if is_broken and self._location:
                    self._ask_where()
                if not self._location and ((is_broken and self._is_there()) or self._begin()):
                    return
                is_broken = False
                # What was there once already is no progress: a registry may forget all of it, again and again.
                if self._at > furthest:
                    failures, furthest = 0, self._at
                if self._send(fd):
                    return
            except OSError as error:
                is_broken, self._was_broken = True, True
                failures += 1
                if is_lasting(error) or failures >= self._client.patience.attempts:
                    raise self._client.unreachable(error) from error
                self._client.pause(failures)

    def _is_there(self) -> bool:
        try:
            self._client.ask("HEAD", f"blobs/{self._blob.digest}", {}).close()
        except NotFound:
            return False
        return True

    def _begin(self) -> bool:
        """Open an upload; return whether the blob has come from another repository already."""
        query = ""
        if self._source:
            query = "?" + urlencode({"mount": self._blob.digest, "from": self._source})
            self._source = ""  # a second attempt goes without
        with self._client.ask(
            "POST", f"blobs/uploads/{query}", {"Content-Length": "0"}, body=b"", good=(201, 202)
        ) as answer:
            if answer.status == 201:
                return True
            self._least = _number(answer, "OCI-Chunk-Min-Length")
            self._go_to(answer)
        self._at, self._was_broken = 0, False
        return False

    def _send(self, fd: int) -> bool:
        """Send the next piece; return whether that was the last one."""
        # When a connection breaks, the registry may still be writing what came, whatever it answers meanwhile.
        disputed = (400, 404, 416) if self._was_broken else (404, 416)
        piece = max(_PIECE, min(self._least, _MAX_PIECE))
        left = self._blob.size - self._at
        last = left <= piece
        count = min(left, piece)
        headers = {**_BYTES, "Content-Length": str(count)}
        if self._at or not last:
            headers["Content-Range"] = f"{self._at}-{self._at + count - 1}"
        url = self._location
        if last:
            url += ("&" if "?" in url else "?") + urlencode({"digest": self._blob.digest})
        with self._client.ask(
            "PUT" if last else "PATCH",
            url,
            headers,
            body=lambda: self._pieces(fd, self._at, count),
            good=(200, 201, 202, 204, *disputed),
        ) as answer:
            if answer.status in disputed:
                if answer.status != 416:
                    self._location = ""  # there is no upload any more that could go on
                raise ConnectionError("the registry and we do not agree on how far the upload is")
            if not last:
                self._go_to(answer)
        self._at += count
        return last

    def _pieces(self, fd: int, offset: int, count: int) -> Iterator[bytes]:
        window, done = FileWindow(fd, offset, count), 0
        while data := window.read(CHUNK):
            if self._client.stopped.is_set():
                raise ConnectionError("no longer wanted")
            yield data
            done += len(data)
            self._report("uploading", offset + done)
        if done < count:
            raise MinipodError(f"blob {self._blob.digest} is cut off in the store", "pull it again")

    def _ask_where(self) -> None:
        """Find out how much has come through; from the beginning when the registry cannot tell.

        Raises:
            OSError: it may tell another time.
        """
        try:
            with self._client.ask("GET", self._location, {}, good=(200, 202, 204)) as answer:
                match = _RANGE.fullmatch(str(answer.headers.get("Range") or ""))
                there = int(match[1]) + 1 if match and match[1] != "0" else 0
                if answer.headers.get("Location"):
                    self._go_to(answer)
        except MinipodError:
            self._location = ""
            return
        if there > self._blob.size:
            self._location = ""
            return
        self._at = there

    def _go_to(self, answer: Answer) -> None:
        location = str(answer.headers.get("Location") or "")
        if not location:
            raise ConnectionError("it does not say where to upload")
        url = urljoin(answer.url, location)
        self._client.check_way(Address.of(answer.url), url)
        self._location = url

    def _report(self, status: str, done: int) -> None:
        self._progress(
            {
                "layer": self._blob.digest,
                "status": status,
                "done": done,
                "total": self._blob.size,
            }
        )


def _number(answer: Answer, name: str) -> int:
    text = str(answer.headers.get(name) or "")
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else 0
