# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom a registry is asked: what ``docker login`` and ``podman login`` wrote, and what a pod's Secrets say.

Sources: Docker's config file (github.com/docker/cli, cli/config); containers-auth.json(5); Kubernetes, "Pull an image
from a private registry" (a key may have a path, and ``*`` in the parts of its host; the longest first).
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minipod.errors import MinipodError
from minipod.images.registry.settings import DOCKER_HUB, Endpoint, Settings

HELPER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_FILE = 1 << 20
_HELPER_SECONDS = 30
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_SERVER = "https://index.docker.io/v1/"
_IDENTITY = "<token>"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, or an identity token, which is exchanged for others."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(
    settings: Settings, given: Sequence[Mapping[str, Any]], endpoint: Endpoint
) -> list[Credentials]:
    """Return what can be tried at *endpoint*, in that order: from *given*, then from this machine's files.

    Args:
        settings: where the files are.
        given: documents as Docker's config file; of Secrets, say. No helpers are run for them.
        endpoint: who asks.

    Raises:
        MinipodError: a file is not what it should be, or a credential helper fails.
    """
    found = [c for document in given for c in _in_auths(document, endpoint, "a pull secret")]
    for path in (settings.docker_config, f"{settings.containers_dir}/auth.json"):
        document = _read(path)
        if helper := _helper(document, endpoint):
            found += _ask(helper, endpoint)
        else:
            found += _in_auths(document, endpoint, path)
    return list(dict.fromkeys(found))


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(_MAX_FILE))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        # Not the error's own words: they may quote the file.
        why = error.strerror if isinstance(error, OSError) else "is not JSON"
        raise MinipodError(f"{path}: {why}", "mend it: docker login writes it anew") from None
    if not isinstance(document, dict):
        raise MinipodError(f"{path}: is not an object", "mend it: docker login writes it anew")
    return document


def _in_auths(document: Mapping[str, Any], endpoint: Endpoint, where: str) -> Iterator[Credentials]:
    auths = document.get("auths")
    for key in sorted(auths if isinstance(auths, dict) else (), key=len, reverse=True):
        if _fits(key, endpoint) and isinstance(auths[key], dict):  # type: ignore[index]
            made = _credentials(auths[key], f"{where}: {key}")  # type: ignore[index]
            if made != Credentials():
                yield made


def _credentials(entry: Mapping[str, Any], where: str) -> Credentials:
    texts = [entry.get(name) or "" for name in ("auth", "username", "password", "identitytoken")]
    if not all(isinstance(text, str) for text in texts):
        raise MinipodError(f"{where}: auth, username and password must be strings")
    auth, user, password, token = texts
    if auth:
        try:
            user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise MinipodError(f"{where}: auth is not base64 of user:password") from None
        password = password.rstrip("\0")
    return Credentials(user, password, token)


def _fits(key: str, endpoint: Endpoint) -> bool:
    """Whether credentials kept under *key* are for *endpoint*."""
    host, _, path = re.sub(r"^https?://", "", key).partition("/")
    path = re.sub(r"^v[12](/|$)", "", path).rstrip("/")
    if endpoint.host == DOCKER_HUB:
        same = host in _HUB_NAMES
    else:
        # A star stands for one part of a name.
        wanted, there = host.split("."), endpoint.host.split(".")
        same = len(wanted) == len(there) and all(map(fnmatch.fnmatchcase, there, wanted))
    return same and (not path or f"{endpoint.path}/".startswith(f"{path}/"))


def _helper(document: Mapping[str, Any], endpoint: Endpoint) -> str:
    helpers = document.get("credHelpers")
    for key, name in helpers.items() if isinstance(helpers, dict) else ():
        if _fits(str(key), endpoint):
            return str(name)
    return str(document.get("credsStore") or "")


def _ask(helper: str, endpoint: Endpoint) -> list[Credentials]:
    """Return what ``docker-credential-<helper> get`` says (github.com/docker/docker-credential-helpers)."""
    program = f"docker-credential-{helper}"
    remedy = "run it by hand, or take it out of credHelpers and credsStore"
    if not _HELPER_NAME.fullmatch(helper):
        raise MinipodError(f"credential helper {helper[:80]!a} is not a name", remedy)
    server = _HUB_SERVER if endpoint.host == DOCKER_HUB else endpoint.host
    env = {
        "PATH": HELPER_PATH,
        "HOME": os.path.expanduser("~root"),
        "LC_ALL": "C.UTF-8",
    }
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            env=env,
            cwd="/",
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
        said = json.loads(done.stdout[:_MAX_FILE]) if done.returncode == 0 else {}
    except FileNotFoundError:
        raise MinipodError(f"{program}: not found in {HELPER_PATH}", "install it") from None
    except subprocess.TimeoutExpired:
        raise MinipodError(f"{program}: no answer after {_HELPER_SECONDS} s", remedy) from None
    except (OSError, ValueError) as error:
        raise MinipodError(f"{program}: {type(error).__name__}", remedy) from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout + done.stderr:
            return []
        raise MinipodError(f"{program}: ended with exit code {done.returncode}", remedy)
    user, secret = (said.get("Username"), said.get("Secret")) if isinstance(said, dict) else (0, 0)
    if not isinstance(user, str) or not isinstance(secret, str):
        raise MinipodError(f"{program}: said neither Username nor Secret", remedy)
    if user == _IDENTITY:
        return [Credentials(identity_token=secret)]
    return [Credentials(user, secret)]
