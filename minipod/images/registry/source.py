# SPDX-License-Identifier: GPL-3.0-or-later
"""One image of a registry, as a source: found at the first endpoint that has it, and read from there."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from minipod.errors import MinipodError, UsageError
from minipod.images.bounds import BadImage, Limits
from minipod.images.documents import Descriptor, digest_of, is_digest, parse_json
from minipod.images.reference import Reference
from minipod.images.registry import credentials
from minipod.images.registry.client import Client
from minipod.images.registry.http import Http, Patience
from minipod.images.registry.proxies import Proxies
from minipod.images.registry.settings import Endpoint, Settings, Trust, endpoints
from minipod.images.source import Root
from minipod.images.streams import Readable

_T = TypeVar("_T")
_JSON_TYPES = frozenset({"", "application/json", "application/octet-stream", "text/plain"})


@dataclass(frozen=True, slots=True)
class Access:
    """How this machine gets at registries.

    Attributes:
        settings: where their files are.
        auths: documents as Docker's config file, tried before those.
        proxies: the variables about proxies, see ``proxies.from_environment``.
        patience: how long they may take.
        settled: called when credentials are known and nothing has been asked of a registry yet.
    """

    settings: Settings = field(default_factory=Settings)
    auths: Sequence[Mapping[str, Any]] = ()
    proxies: Mapping[str, str] = field(default_factory=dict)
    patience: Patience = field(default_factory=Patience)
    settled: Callable[[], None] = lambda: None


class RegistrySource:
    """The one image that *reference* means; a context manager."""

    streams = 3

    def __init__(self, reference: Reference, access: Access, limits: Limits) -> None:
        self._reference = reference
        self._limits = limits
        self._endpoints = endpoints(access.settings, reference)
        trust = Trust(access.settings, self._endpoints)
        self._http = Http(Proxies(access.proxies), trust.context, access.patience)
        self._clients: dict[Endpoint, Client | MinipodError] = {}
        self._client: Client | None = None
        self._root: Descriptor | None = None
        self._body = b""
        if reference.digest and not is_digest(reference.digest):
            raise UsageError(
                f"{reference}: digests of other kinds than sha256 are not pulled by",
                "name the image by its sha256 digest",
            )
        # All of them, though the first may do: afterwards there is no way to files and credential helpers.
        for endpoint in self._endpoints:
            try:
                found = credentials.find(access.settings, access.auths, endpoint)
            except MinipodError as error:
                self._clients[endpoint] = error
            else:
                self._clients[endpoint] = Client(self._http, endpoint, found, access.patience)
        access.settled()

    def __enter__(self) -> RegistrySource:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._http.close()

    def stop(self) -> None:
        """Give up: what other threads are reading fails."""
        for client in self._clients.values():
            if isinstance(client, Client):
                client.stopped.set()
        self._http.abort()

    def digest(self) -> str:
        """Return the digest of what the reference means now, as the registry says; "" when it does not.

        Raises:
            MinipodError: no endpoint has it.
        """
        digest = self._somewhere(lambda client: client.digest(self._name))
        return digest if is_digest(digest) else ""

    def roots(self) -> Sequence[Root]:
        """Return the one image.

        Raises:
            BadImage: what the registry has is not what its digest says.
            MinipodError: no endpoint has it.
        """
        kind, self._body = self._somewhere(
            lambda client: client.manifest(self._name, self._limits.document)
        )
        if kind in _JSON_TYPES:
            document = parse_json(self._body, "manifest")
            kind = str(document.get("mediaType") or "") if isinstance(document, dict) else ""
        digest = digest_of(self._body)
        if self._reference.digest and digest != self._reference.digest:
            raise BadImage(
                f"manifest {self._reference.digest}: its content has the digest {digest}"
            )
        # From here on all is named by digests: a tag that moves meanwhile changes nothing.
        self._root = Descriptor(kind, digest, len(self._body))
        return [Root((self._root,), (str(self._reference),))]

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """Return the bytes of a blob, a manifest or an index."""
        if self._root is not None and descriptor.digest == self._root.digest:
            return contextlib.nullcontext(io.BytesIO(self._body))
        assert self._client is not None, "roots() has found one"
        if "manifest" in descriptor.media_type or "index" in descriptor.media_type:
            _, data = self._client.manifest(descriptor.digest, self._limits.document)
            return contextlib.nullcontext(io.BytesIO(data))
        return self._client.blob(descriptor.digest, descriptor.size)

    @property
    def _name(self) -> str:
        return self._reference.digest or self._reference.tag

    def _somewhere(self, ask: Callable[[Client], _T]) -> _T:
        """Ask the endpoints one after the other; a mirror may lack it, or be out of order.

        Raises:
            MinipodError: the last one, the registry itself, says no.
        """
        failures: list[str] = []
        for client, endpoint in self._each():
            try:
                answer = ask(client)
            except MinipodError as error:
                if not endpoint.is_mirror:
                    if failures:
                        error.what += "; before that, " + "; ".join(failures)
                    raise
                failures.append(f"mirror {endpoint.host}: {error.what}")
            else:
                self._client = client
                return answer
        raise AssertionError("the registry itself is always asked")

    def _each(self) -> Iterator[tuple[Client, Endpoint]]:
        for endpoint in self._endpoints:
            client = self._clients[endpoint]
            if isinstance(client, MinipodError):
                raise client
            yield client, endpoint
