# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images a filter means."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

import pytest

from minipod.agent.imagefilter import age, image_filter
from minipod.errors import NotFound, UsageError
from minipod.images import Image, ImageConfig, ImageStore
from minipod.pods.times import timestamp

NOW = time.time()


def test_an_image_that_does_not_say_when_it_was_made() -> None:
    unknown = replace(IMAGES[0], created="")
    for text in ("until=1s", "until=2100-01-01", "before=unit", "since=unit"):
        assert not image_filter([text], cast(ImageStore, Store()))(unknown)


def image(name: str, hours: float, labels: dict[str, str] | None = None) -> Image:
    config = ImageConfig(labels=labels or {})
    created = timestamp(NOW - hours * 3600)
    names = (name,) if name else ()
    return Image(name, names, name, name, config, (), 0, created, "amd64", "linux")


IMAGES = [
    image("docker.io/library/nginx:1.27", 1, {"of": "web", "x": ""}),
    image("quay.io/team/nginx-unit:2", 10),
    image("localhost:5000/team/app@sha256:" + "0" * 64, 100),
    image("", 1000, {"of": "old"}),
]


class Store:
    def get(self, reference: str) -> Image | None:
        return IMAGES[1] if reference == "unit" else None


def meant(*texts: str) -> list[int]:
    wanted = image_filter(texts, cast(ImageStore, Store()))
    return [number for number, each in enumerate(IMAGES) if wanted(each)]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((), [0, 1, 2, 3]),
        (("reference=nginx",), [0]),
        (("reference=nginx:1.27",), [0]),
        (("reference=library/nginx",), [0]),
        (("reference=docker.io/library/nginx:1.27",), [0]),
        (("reference=nginx:1.26",), []),
        (("reference=nginx*",), [0, 1]),
        (("reference=team/app",), [2]),
        (("reference=localhost:5000/team/app",), [2]),
        (("reference=app", "reference=nginx"), [0, 2]),
        (("dangling=true",), [3]),
        (("dangling=false",), [0, 1, 2]),
        (("before=unit",), [2, 3]),
        (("since=unit",), [0]),
        (("until=5h",), [1, 2, 3]),
        (("until=2d",), [2, 3]),
        ((f"until={timestamp(NOW - 50 * 3600)}",), [2, 3]),
        ((f"until={int(NOW - 50 * 3600)}",), [2, 3]),
        (("label=of",), [0, 3]),
        (("label=of=web",), [0]),
        (("label=x",), [0]),
        (("label=of", "dangling=true"), [3]),
    ],
)
def test_filters(texts: tuple[str, ...], found: list[int]) -> None:
    assert meant(*texts) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "reference=",
        "size=3",
        "dangling=maybe",
        "until=soon",
        "until=-1h",
        "until=" + "9" * 400,
    ],
)
def test_no_filters(text: str) -> None:
    with pytest.raises(UsageError):
        meant(text)
    with pytest.raises(NotFound):
        meant("before=nothing")


def test_hostile_patterns_are_quick() -> None:
    began: Any = time.monotonic()
    meant("reference=" + "*a" * 60)
    assert time.monotonic() - began < 5


def test_ages() -> None:
    assert (age("7d"), age("1h30m"), age("90")) == (604800, 5400, 90)
    with pytest.raises(UsageError):
        age("9" * 60 + "h" * 9)
