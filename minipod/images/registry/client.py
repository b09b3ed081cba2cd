# SPDX-License-Identifier: GPL-3.0-or-later
"""Talks to one registry about one repository: tokens, redirects, retries, and words for what goes wrong.

Sources: OCI distribution-spec 1.1; distribution's "Token Authentication Specification" and "Authenticate proxy with
OAuth2". A registry is not trusted: a redirect never takes credentials to another host, nor leads from https to http or
to a file, and whatever a registry says is shortened and escaped before it is shown.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode, urljoin

from minipod.errors import MinipodError, NotFound
from minipod.images.arrival import Unwanted
from minipod.images.bounds import BadImage
from minipod.images.documents import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from minipod.images.registry.answers import MAX_WORDS, parameters, retry_after, words
from minipod.images.registry.credentials import Credentials
from minipod.images.registry.http import Address, Answer, Body, Http, Patience
from minipod.images.registry.settings import Endpoint

_ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
_MAX_REDIRECTS = 5
_MAX_RESUMES = 50
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# With the others, nobody knows whether a body is to be sent again.
_SAME_METHOD = frozenset({307, 308})
_MOMENTARY = frozenset({408, 425, 500, 502, 503, 504})
_T = TypeVar("_T")
_OFFLINE = "check the network and its DNS, or load the image from a file: minipod image load FILE"


class Refused(MinipodError):
    """The registry wants to know who asks, or does not want that one."""


class Unreachable(MinipodError):
    """There is no way to the registry."""


class Client:
    """One repository of one registry; several threads may use it.

    Args:
        http: makes the requests.
        endpoint: the repository.
        credentials: as whom to ask, in the order to try; nobody when empty.
        patience: how often, and how long.
        actions: what is wanted there, ``pull`` or ``pull,push``.
        sources: other repositories there, of which blobs are to be read.

    Attributes:
        stopped: set when nothing is wanted any more.
    """

    def __init__(
        self,
        http: Http,
        endpoint: Endpoint,
        credentials: Sequence[Credentials],
        patience: Patience,
        *,
        actions: str = "pull",
        sources: Sequence[str] = (),
    ) -> None:
        self._http = http
        self._pushes = "push" in actions
        self._scopes = [f"repository:{endpoint.path}:{actions}"]
        self._scopes += [f"repository:{source}:pull" for source in sources]
        self._endpoint = endpoint
        self._candidates: list[Credentials | None] = list(credentials) or [None]
        self.patience = patience
        self._lock = threading.Lock()
        self._base = ""
        self._authorization = ""
        self._fresh = False  # whether the authorization has not been of use yet
        self.stopped = threading.Event()

    # ---- what is asked ----

    def digest(self, name: str) -> str:
        """Return the digest of the manifest that tag or digest *name* means, or "" where the registry does not say."""

        def read() -> str:
            with self.ask("HEAD", f"manifests/{name}", {"Accept": _ACCEPT}) as answer:
                return str(answer.headers.get("Docker-Content-Digest") or "")

        return self.patiently(read)

    def manifest(self, name: str, limit: int) -> tuple[str, bytes]:
        """Return the media type and the bytes of the manifest or index that tag or digest *name* means.

        Raises:
            BadImage: it has more than *limit* bytes.
            NotFound: there is none.
            MinipodError: it cannot be had.
        """

        def read() -> tuple[str, bytes]:
            with self.ask("GET", f"manifests/{name}", {"Accept": _ACCEPT}) as answer:
                if (answer.length or 0) > limit:
                    raise BadImage(f"manifest has {answer.length} bytes, more than {limit}")
                data = answer.whole(limit + 1)
                if len(data) > limit:
                    raise BadImage(f"manifest has more than {limit} bytes")
                if answer.length is not None and len(data) < answer.length:
                    raise ConnectionError("the answer ended early")
                kind = str(answer.headers.get("Content-Type") or "")
                return kind.partition(";")[0].strip().lower(), data

        return self.patiently(read)

    def blob(self, digest: str, size: int) -> Blob:
        """Return the bytes of a blob, which nobody has verified."""
        return Blob(self, digest, size)

    def open_blob(self, digest: str, offset: int) -> Answer:
        """Return the answer to the request for a blob from *offset* on; it may begin at 0 all the same (status 200)."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return self.ask("GET", f"blobs/{digest}", headers)

    # ---- again, and again ----

    def patiently(self, act: Callable[[], _T]) -> _T:
        failure: OSError | None = None
        for attempt in range(self.patience.attempts):
            if attempt:
                self.pause(attempt)
            try:
                return act()
            except MinipodError:
                raise
            except OSError as error:
                failure = error
                if is_lasting(error):
                    break
        assert failure is not None, "attempts is not 0"
        raise self.unreachable(failure) from failure

    def pause(self, attempt: int) -> None:
        """Wait before attempt number *attempt*, counted from 0."""
        self.stopped.wait(self.patience.pause * 2 ** (attempt - 1))

    def unreachable(self, error: OSError) -> Unreachable:
        """Return the words for *error*."""
        host = self._endpoint.host
        certs = f"/etc/containers/certs.d/{host}/ca.crt"
        match error:
            case socket.gaierror():
                return Unreachable(f"registry {host}: its name has no address here", _OFFLINE)
            case ssl.SSLCertVerificationError():
                why = error.verify_message or "unknown"
                return Unreachable(
                    f"registry {host}: its certificate is not trusted: {why}",
                    f"put the certificate of its authority into {certs}",
                )
            case ssl.SSLError():
                return Unreachable(
                    f"registry {host}: no TLS with it: {str(error.reason or error).lower()}",
                    "for one without TLS, set insecure = true in /etc/containers/registries.conf",
                )
            case TimeoutError():
                return Unreachable(f"registry {host}: no answer in time", _OFFLINE)
        why = error.strerror or str(error)
        return Unreachable(f"registry {host}: {why[:1].lower()}{why[1:]}", _OFFLINE)

    # ---- one request, with all that belongs to it ----

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        body: Body = None,
        good: Container[int] = (200, 206),
    ) -> Answer:
        """Return an answer whose status is one of *good*.

        Args:
            method: of the request.
            path: below the repository, or a whole URL.
            headers: of the request.
            body: of the request, see :meth:`Http.request`.
            good: the statuses to be returned.

        Raises:
            MinipodError: the registry says no.
            OSError: it may say yes another time.
        """
        waits = 0
        while True:
            authorization = self._authorization
            answer = self._send(method, path, headers, authorization, body)
            if answer.status in good:
                self._fresh = False
                return answer
            with answer:
                if Address.of(answer.url).key != Address.of(self._base).key:
                    # What another host asks for is none of its business, least of all a token.
                    raise ConnectionError(f"where it redirects to answers with {answer.status}")
                if answer.status == 401 or (answer.status == 403 and self._candidates[1:]):
                    self._authorize(answer, authorization)
                    continue
                if answer.status in _MOMENTARY:
                    raise ConnectionError(f"it answers with {answer.status}{words(answer)}")
                if answer.status == 429 and waits < self.patience.attempts:
                    waits += 1
                    seconds = retry_after(answer) or self.patience.pause * 2**waits
                    if seconds <= self.patience.longest_pause:
                        self.stopped.wait(seconds)
                        continue
                raise self._no(answer)

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        authorization: str,
        body: Body,
    ) -> Answer:
        if path.startswith(("http://", "https://")):
            if Address.of(path).key != Address.of(self._base).key:
                authorization = ""
            return self._follow(method, path, headers, authorization, body)
        urls = (self._base,) if self._base else self._endpoint.urls
        for url in urls:
            try:
                whole = f"{url}{self._endpoint.path}/{path}"
                answer = self._follow(method, whole, headers, authorization, body)
            except ssl.SSLCertVerificationError:
                raise
            except (socket.gaierror, TimeoutError):
                raise
            except OSError:
                if url == urls[-1]:
                    raise
                continue  # to the same without TLS, where that is allowed
            self._base = url
            return answer
        raise AssertionError("there is a url")

    def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str,
        body: Body,
    ) -> Answer:
        sent = {**headers, **({"Authorization": authorization} if authorization else {})}
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                here = Address.of(url)
                answer = self._http.request(method, url, sent, body)
            except ssl.SSLError:
                raise
            except ValueError as error:
                raise self._hostile(f"leads to {error}") from error
            location = str(answer.headers.get("Location") or "")
            follows = method in ("GET", "HEAD") or answer.status in _SAME_METHOD
            if answer.status not in _REDIRECTS or not location or not follows:
                return answer
            answer.close()
            url = urljoin(url, location)
            if self.check_way(here, url).key != here.key:
                sent.pop("Authorization", None)
        raise self._hostile("leads from one place to the next without an end")

    def check_way(self, here: Address, url: str) -> Address:
        """Return where *url*, which the server *here* has named, leads.

        Raises:
            MinipodError: nobody should be led there.
        """
        try:
            there = Address.of(url)
        except ValueError as error:
            raise self._hostile(f"leads to something else: {error}") from error
        if here.scheme == "https" and there.scheme == "http":
            raise self._hostile(f"leads from https to http, at {str(there)[:200]!a}")
        return there

    def _hostile(self, what: str) -> MinipodError:
        return MinipodError(f"registry {self._endpoint.host}: {what}", "ask who runs it")

    # ---- who asks ----

    def _authorize(self, answer: Answer, used: str) -> None:
        """Make an authorization for what was answered with 401 or 403 to *used*.

        Raises:
            Refused: there is nothing left to try.
        """
        with self._lock:
            if self._authorization != used:
                return  # another thread was faster
            if (used and self._fresh) or answer.status == 403:
                self._next_candidate(answer)
            while True:
                made = self._authorization_for(answer, self._candidates[0])
                if made and made != used:
                    self._authorization, self._fresh = made, True
                    return
                self._next_candidate(answer)

    def _next_candidate(self, answer: Answer) -> None:
        if not self._candidates[1:]:
            raise self._denied(answer)
        del self._candidates[0]

    def _authorization_for(self, answer: Answer, who: Credentials | None) -> str:
        """Return the value of an Authorization header, or "" when *who* gets none."""
        for challenge in answer.headers.get_all("WWW-Authenticate") or []:
            kind, _, rest = str(challenge).partition(" ")
            if kind.lower() == "bearer":
                token = self._token(parameters(rest), who)
                return f"Bearer {token}" if token else ""
            if kind.lower() == "basic" and who is not None and not who.identity_token:
                return who.basic
        return ""

    def _token(self, challenge: Mapping[str, str], who: Credentials | None) -> str:
        realm = challenge.get("realm", "")
        try:
            address = Address.of(realm)
        except ValueError as error:
            raise self._hostile(f"sends for a token to something else: {error}") from error
        if self._base.startswith("https:") and address.scheme != "https":
            raise self._hostile(f"sends for a token to a place without TLS, {str(address)[:200]!a}")
        service = {"service": challenge["service"]} if challenge.get("service") else {}
        headers: dict[str, str]
        method, body = "GET", None
        if who is not None and who.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": who.identity_token}
            form |= {"scope": " ".join(self._scopes), "client_id": "minipod", **service}
            body = urlencode(form).encode()
            method, headers = "POST", {"Content-Type": "application/x-www-form-urlencoded"}
            url = realm
        else:
            query = [("scope", scope) for scope in self._scopes] + list(service.items())
            url = realm + ("&" if "?" in realm else "?") + urlencode(query)
            headers = {"Authorization": who.basic} if who is not None else {}
        # A token server that redirects would be given credentials to hand on: it is not followed.
        with self._http.request(method, url, headers, body) as answer:
            if answer.status in (400, 401, 403):
                return ""
            if answer.status == 429:
                raise self._no(answer)
            if answer.status != 200:
                raise ConnectionError(f"its token server answers with {answer.status}")
            try:
                document = json.loads(answer.whole(MAX_WORDS))
                token = document.get("token") or document.get("access_token")
            except (ValueError, RecursionError, AttributeError):
                token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise self._hostile("its token server gives no token")
        return token

    # ---- words ----

    def _no(self, answer: Answer) -> MinipodError:
        host, said = self._endpoint.host, words(answer)
        match answer.status:
            case 401 | 403:
                return self._denied(answer)
            case 404 if self._pushes:
                return NotFound(
                    f"registry {host} has no place for it{said}", "create the repository there"
                )
            case 404:
                return NotFound(f"registry {host} does not have it{said}", "check name and tag")
            case 429:
                seconds, done = retry_after(answer), "pushed" if self._pushes else "pulled"
                wait = f"wait {seconds:.0f} seconds" if seconds else "wait a while"
                return MinipodError(
                    f"registry {host} limits how often images are {done} from here (429){said}",
                    f"{wait}, log in to it, or name a mirror in /etc/containers/registries.conf",
                )
        return MinipodError(
            f"registry {host} answers with {answer.status}{said}", "ask who runs it"
        )

    def _denied(self, answer: Answer) -> Refused:
        host, who = self._endpoint.host, self._candidates[0]
        if self._pushes:
            name = f"user {who.user or 'of the token'!a}" if who else "nobody in particular"
            remedy = f"check name, password and rights: docker login {host}"
            return Refused(f"registry {host} takes nothing from {name}{words(answer)}", remedy)
        if who is None:
            return Refused(
                f"registry {host} does not have it, or wants to know who asks{words(answer)}",
                f"log in: docker login {host}; or name imagePullSecrets in the pod",
            )
        return Refused(
            f"registry {host} does not give it to user {who.user or 'of the token'!a}{words(answer)}",
            f"check name, password and rights: docker login {host}, or the pod's imagePullSecrets",
        )


class Blob:
    """The bytes of a blob; when the connection breaks, it goes on where it was."""

    def __init__(self, client: Client, digest: str, size: int) -> None:
        self._client = client
        self._digest = digest
        self._size = size
        self._at = 0
        self._answer: Answer | None = None
        self._failures = 0
        self._resumes = 0

    def read(self, size: int, /) -> bytes:
        """Return at least one byte and at most *size*; nothing at the end.

        Raises:
            BadImage: it is not of the size that it should have.
            MinipodError: the registry does not hand it out.
        """
        while True:
            if self._client.stopped.is_set():
                raise Unwanted("no longer wanted")
            try:
                if self._answer is None:
                    self._answer = self._open()
                data = self._answer.read(size)
            except OSError as error:
                failure = error
            else:
                self._at += len(data)
                if data:
                    self._failures = 0
                if data or self._at >= self._size:
                    return data
                failure = ConnectionError("the blob ended early")
            self.close()
            if self._client.stopped.is_set():
                continue
            self._failures += 1
            self._resumes += 1
            patience = self._client.patience
            if (
                is_lasting(failure)
                or self._failures >= patience.attempts
                or self._resumes >= _MAX_RESUMES
            ):
                raise self._client.unreachable(failure) from failure
            self._client.pause(self._failures)

    def close(self) -> None:
        """Give the connection back."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def __enter__(self) -> Blob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Answer:
        answer = self._client.open_blob(self._digest, self._at)
        try:
            whole = self._size
            if answer.status == 206:
                whole -= self._at
                said = str(answer.headers.get("Content-Range") or "")
                if not said.startswith(f"bytes {self._at}-"):
                    raise BadImage(f"blob {self._digest}: the registry resumes elsewhere")
            if answer.length is not None and answer.length != whole:
                raise BadImage(
                    f"blob {self._digest}: the registry has {answer.length} bytes instead of {whole}"
                )
            skip = self._at if answer.status == 200 else 0
            while skip:
                data = answer.read(min(skip, 1 << 16))
                if not data:
                    raise ConnectionError("the blob ended early")
                skip -= len(data)
        except BaseException:
            answer.close()
            raise
        return answer


def is_lasting(error: OSError) -> bool:
    """Whether another attempt would end as this one did."""
    lasting = (socket.gaierror, ssl.SSLCertVerificationError, ConnectionRefusedError)
    return isinstance(error, lasting) or error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
