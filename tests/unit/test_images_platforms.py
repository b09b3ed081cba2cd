# SPDX-License-Identifier: GPL-3.0-or-later
"""Which platform of an image runs here."""

from __future__ import annotations

import pytest

from minipod.errors import UsageError
from minipod.images.platforms import Platform, host_platform, parse_platform, rank


@pytest.mark.parametrize(
    ("machine", "platform"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64/v8"),
        ("armv7l", "linux/arm/v7"),
        ("riscv64", "linux/riscv64"),
        ("sparc", "linux/sparc"),
    ],
)
def test_host(machine: str, platform: str) -> None:
    assert str(host_platform(machine)) == platform


@pytest.mark.parametrize(
    ("wanted", "offered", "score"),
    [
        ("linux/amd64", "linux/amd64", 0),
        ("linux/amd64", "linux/amd64/v1", 0),
        ("linux/amd64", "linux/amd64/v3", None),
        ("linux/amd64/v3", "linux/amd64", 2),
        ("linux/amd64", "linux/arm64", None),
        ("linux/amd64", "windows/amd64", None),
        ("linux/arm64/v8", "linux/arm64", 0),
        ("linux/arm/v7", "linux/arm/v6", 1),
        ("linux/arm/v7", "linux/arm/v5", 2),
        ("linux/arm/v6", "linux/arm/v7", None),
        ("linux/arm/v6", "linux/arm", None),
    ],
)
def test_rank(wanted: str, offered: str, score: int | None) -> None:
    assert rank(parse_platform(wanted), parse_platform(offered)) == score


def test_silent_images_are_the_last_resort() -> None:
    assert (rank(Platform("linux", "amd64"), Platform("", "")) or 0) > 10
    assert rank(Platform("linux", "amd64"), Platform("unknown", "unknown")) is None
    assert rank(Platform("linux", "amd64"), Platform("linux", "amd64", "vX")) is None


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d", "linux/../x"]
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_platform(text)
