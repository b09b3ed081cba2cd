# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of an image's platforms this machine runs (image-spec, image-index.md; names are Go's GOOS and GOARCH)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from minipod.errors import UsageError

# uname's machine -> GOARCH, best variant. Variants of amd64 above v1 depend on the processor and are never assumed.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64le", ""),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
}
# What an empty variant means (containerd's platforms package).
_DEFAULT_VARIANT = {"amd64": "v1", "arm64": "v8", "arm": "v7"}


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform that an image is for.

    Attributes:
        os: GOOS, as ``linux``.
        architecture: GOARCH, as ``amd64``.
        variant: the CPU's variant, as ``v7``; often empty.
    """

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return (
            "/".join(part for part in (self.os, self.architecture, self.variant) if part)
            or "unknown"
        )


def host_platform(machine: str | None = None) -> Platform:
    """Return the platform of this machine (or of the ``uname -m`` value *machine*)."""
    machine = machine or os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """Return the platform written as ``os/architecture[/variant]``.

    Raises:
        UsageError: it is not written like that.
    """
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isalnum() for part in parts):
        raise UsageError(
            f"invalid platform {text!r}", "write it as os/architecture[/variant], as linux/arm64"
        )
    return Platform(*parts)


def rank(wanted: Platform, offered: Platform) -> int | None:
    """Return how well *offered* runs on *wanted* (0 is exact, greater is worse), or None when it does not.

    Variants are downward compatible (arm v7 runs v6), and an empty one is the architecture's default. An image that
    does not say its architecture is taken as a last resort.
    """
    if offered.os not in ("", wanted.os):
        return None
    if not offered.architecture:
        return 100
    if offered.architecture != wanted.architecture:
        return None
    default = _DEFAULT_VARIANT.get(wanted.architecture, "")
    have, want = offered.variant or default, wanted.variant or default
    if have == want:
        return 0
    if _version(have) is None or _version(want) is None:
        return None
    distance = (_version(want) or 0) - (_version(have) or 0)
    return distance if distance > 0 else None


def _version(variant: str) -> int | None:
    number = variant.removeprefix("v")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 3 else None
