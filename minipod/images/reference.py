# SPDX-License-Identifier: GPL-3.0-or-later
"""Image references: ``[domain[:port]/]path[:tag][@digest]``.

The grammar is that of github.com/distribution/reference, the normalisation that of Docker, containerd and CRI-O:
no domain means ``docker.io``, one path component there means ``library/``, no tag and no digest means ``latest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minipod.errors import UsageError

MAX_NAME = 255

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_DOMAIN_RE = re.compile(_DOMAIN)
_PATH_RE = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG_RE = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_DIGEST_RE = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_HEX64_RE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference, in its parts.

    Attributes:
        domain: the registry with its port, as ``docker.io``.
        path: the repository in it, as ``library/busybox``.
        tag: the tag, or empty.
        digest: ``algorithm:hex``, or empty.
    """

    domain: str
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        """Domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """Return *text* in its parts, normalised.

    Raises:
        UsageError: *text* is not a reference.
    """
    name, at, digest = text.partition("@")
    if at and not _DIGEST_RE.fullmatch(digest):
        raise _refused(
            text, "the digest must be sha256: and 64, or sha512: and 128, lower-case hex digits"
        )
    # A colon before the last slash belongs to the port.
    slash, colon = name.rfind("/"), name.rfind(":")
    tag = ""
    if colon > slash:
        name, tag = name[:colon], name[colon + 1 :]
        if not _TAG_RE.fullmatch(tag):
            raise _refused(text, "a tag has 1 to 128 letters, digits, '_', '.' and '-'")
    if _HEX64_RE.fullmatch(name):
        raise _refused(text, "64 hex digits are an image id, not a name")
    domain, path = _split_domain(name)
    if not _DOMAIN_RE.fullmatch(domain):
        raise _refused(text, f"{domain!r} is not a registry's host name")
    if not _PATH_RE.fullmatch(path):
        hint = (
            "must be lower case"
            if path != path.lower()
            else "has lower-case letters, digits and single separators"
        )
        raise _refused(text, f"the repository {hint}")
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise _refused(text[:64] + "…", f"a name has at most {MAX_NAME} characters")
    return Reference(domain, path, tag or ("" if digest else "latest"), digest)


def normalize_reference(text: str) -> str:
    """Return *text* as the full reference under which images are stored.

    ``busybox`` becomes ``docker.io/library/busybox:latest``; a digest is kept, and gets no tag.

    Raises:
        UsageError: *text* is not a reference.
    """
    return str(parse_reference(text))


def is_local(reference: Reference) -> bool:
    """Whether it names an image of this machine, as ``localhost/app`` does: no registry is asked for it.

    Podman and Buildah name so what they build; a registry on this machine has a port.
    """
    return reference.domain == "localhost"


def is_pullable(text: str) -> bool:
    """Whether a registry may have what *text* names: not an image's id, nor an image of this machine."""
    if text.startswith(("sha256:", "sha512:")):
        return False
    try:
        return not is_local(parse_reference(text))
    except UsageError:
        return False


def _split_domain(name: str) -> tuple[str, str]:
    domain, slash, path = name.partition("/")
    # As Docker does: a host name shows itself by a dot, a port, capitals, or is localhost.
    if not slash or not (
        any(c in domain for c in ".:") or domain == "localhost" or domain != domain.lower()
    ):
        domain, path = "docker.io", name
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _refused(text: str, why: str) -> UsageError:
    return UsageError(
        f"invalid image reference {text!r}: {why}", "write it as [registry/]name[:tag][@sha256:…]"
    )
