# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the images of a registry are asked for, and whom to trust there: registries.conf and certs.d.

Sources: containers-registries.conf(5), version 2; containers-certs.d(5); Docker's "Verify repository client with
certificates". Short names are read as Docker does, so that unqualified-search-registries and aliases mean nothing.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minipod.errors import MinipodError, UsageError
from minipod.images.reference import Reference
from minipod.images.registry.http import Address
from minipod.images.registry.proxies import is_loopback

DOCKER_HUB = "docker.io"
_DOCKER_HUB_HOST = "registry-1.docker.io"
_MAX_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """The places of the files; a test has its own.

    Attributes:
        containers_dir: with ``registries.conf``, ``registries.conf.d``, ``certs.d`` and ``auth.json``.
        docker_dir: with ``certs.d``.
        docker_config: the file that ``docker login`` writes.
    """

    containers_dir: str = "/etc/containers"
    docker_dir: str = "/etc/docker"
    docker_config: str = "/root/.docker/config.json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place that an image can be asked for.

    Attributes:
        host: with its port, as it is written.
        path: the repository there.
        insecure: neither a certificate nor TLS is asked of it.
        is_mirror: it stands for another one, and may lack what that has.
    """

    host: str
    path: str
    insecure: bool = False
    is_mirror: bool = False

    @property
    def name(self) -> str:
        """What credentials are kept for."""
        return f"{self.host}/{self.path}"

    @property
    def urls(self) -> tuple[str, ...]:
        """Where its API is, in the order to try."""
        host = _DOCKER_HUB_HOST if self.host == DOCKER_HUB else self.host
        # As Docker and containerd do: on this machine nobody needs TLS, and nobody listens in.
        plain = self.insecure or is_loopback(Address.of(f"https://{host}").host)
        return tuple(
            f"{scheme}://{host}/v2/" for scheme in ("https", *(("http",) if plain else ()))
        )


def endpoints(settings: Settings, reference: Reference) -> list[Endpoint]:
    """Return where to ask for *reference*: its mirrors, then its own registry.

    Raises:
        MinipodError: the registry is blocked, or a file is not what it should be.
    """
    tables = _registries(settings)
    best: dict[str, Any] = {}
    matched = -1
    for table in tables:
        prefix = str(table.get("prefix") or table.get("location") or "")
        if _fits(prefix, reference.repository) and len(prefix) > matched:
            best, matched = table, len(prefix)
    if best.get("blocked"):
        raise UsageError(
            f"registry {reference.domain} is blocked by {settings.containers_dir}/registries.conf",
            "take the image from another one, or unblock it there",
        )
    prefix = str(best.get("prefix") or best.get("location") or reference.domain)
    found = []
    for mirror in best.get("mirror") or []:
        wanted = str(mirror.get("pull-from-mirror") or "")
        by_digest = wanted == "digest-only" or bool(best.get("mirror-by-digest-only"))
        if (by_digest and not reference.digest) or (wanted == "tag-only" and reference.digest):
            continue
        found.append(_endpoint(mirror, prefix, reference, is_mirror=True))
    found.append(_endpoint(best, prefix, reference, is_mirror=False))
    return found


def _endpoint(
    table: Mapping[str, Any], prefix: str, reference: Reference, *, is_mirror: bool
) -> Endpoint:
    location = str(table.get("location") or "")
    name = reference.repository
    if location and not prefix.startswith("*."):
        name = location + name.removeprefix(prefix)
    elif location:
        name = location + "/" + reference.path
    host, _, path = name.partition("/")
    return Endpoint(host, path, bool(table.get("insecure")), is_mirror)


def _fits(prefix: str, repository: str) -> bool:
    if not prefix:
        return False
    if prefix.startswith("*."):
        host = repository.partition("/")[0].partition(":")[0]
        return host.endswith(prefix[1:])
    return repository == prefix or repository.startswith(f"{prefix}/")


def _registries(settings: Settings) -> list[dict[str, Any]]:
    """Return the ``[[registry]]`` tables of all files; a later one takes the place of its prefix's earlier one."""
    found: dict[str, dict[str, Any]] = {}
    for path in _config_files(settings):
        for table in _tables(path):
            found[str(table.get("prefix") or table.get("location") or "")] = table
    return list(found.values())


def _config_files(settings: Settings) -> Iterator[str]:
    path = f"{settings.containers_dir}/registries.conf"
    if os.path.exists(path):
        yield path
    try:
        names = sorted(os.listdir(f"{path}.d"))
    except OSError:
        return
    yield from (f"{path}.d/{name}" for name in names if name.endswith(".conf"))


def _tables(path: str) -> list[dict[str, Any]]:
    import tomllib

    remedy = "mend it: see containers-registries.conf(5)"
    try:
        with open(path, "rb") as file:
            document = tomllib.loads(file.read(_MAX_FILE).decode())
    except (OSError, ValueError) as error:
        raise MinipodError(f"{path}: {error}", remedy) from error
    if "registries" in document:
        raise MinipodError(
            f"{path}: is written in version 1 of its format", "use [[registry]] tables"
        )
    tables = document.get("registry", [])
    if not isinstance(tables, list) or not all(
        isinstance(table, dict) and _is_tables(table.get("mirror", [])) for table in tables
    ):
        raise MinipodError(f"{path}: registry and registry.mirror must be tables", remedy)
    for table in tables:
        if not (table.get("prefix") or table.get("location")):
            raise MinipodError(f"{path}: a registry has neither prefix nor location", remedy)
        for mirror in table.get("mirror", []):
            if not mirror.get("location"):
                raise MinipodError(f"{path}: a mirror has no location", remedy)
    return tables


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


class Trust:
    """Makes the TLS context for each host: the system's authorities and those of its certs.d directories."""

    def __init__(self, settings: Settings, insecure: Sequence[Endpoint]) -> None:
        self._settings = settings
        self._insecure = {endpoint.host for endpoint in insecure if endpoint.insecure}
        self._made: dict[tuple[str, int], ssl.SSLContext] = {}

    def context(self, host: str, port: int) -> ssl.SSLContext:
        """Return the context for *host*; the same one when asked again.

        Raises:
            MinipodError: a certificate cannot be read, or a key is not there.
        """
        made = self._made.get((host, port))
        if made is None:
            made = self._made[host, port] = self._make(host, port)
        return made

    def _make(self, host: str, port: int) -> ssl.SSLContext:
        names = [f"{host}:{port}"] + ([host] if port == 443 else [])
        if host == _DOCKER_HUB_HOST:
            names.append(DOCKER_HUB)
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._insecure.intersection(names):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for top in (self._settings.docker_dir, self._settings.containers_dir):
            for name in names:
                _load(context, f"{top}/certs.d/{name}")
        return context


def _load(context: ssl.SSLContext, directory: str) -> None:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        path, base = f"{directory}/{name}", f"{directory}/{os.path.splitext(name)[0]}"
        try:
            if name.endswith(".crt"):
                context.load_verify_locations(cafile=path)
            elif name.endswith(".cert"):
                context.load_cert_chain(path, f"{base}.key")
        except (OSError, ssl.SSLError) as error:
            raise MinipodError(
                f"{path}: {error.strerror or error}", "put a PEM file there, or remove it"
            ) from error
