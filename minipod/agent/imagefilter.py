# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images are meant by ``--filter``: as Podman and Docker have it, for listing and for pruning."""

from __future__ import annotations

import fnmatch
import math
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from minipod.durations import parse_duration
from minipod.errors import NotFound, UsageError
from minipod.images import Image, ImageStore

Wanted = Callable[[Image], bool]

_DAYS = re.compile(r"([0-9]{1,6})d")
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def image_filter(texts: Sequence[str], images: ImageStore) -> Wanted:
    """Return what says whether an image fits all of *texts*: ``reference=``, ``dangling=``, ``before=``, ``since=``,
    ``until=``, ``label=``. Several references are alternatives.

    Raises:
        UsageError: one is not a filter.
        NotFound: an image that one names is not here.
    """
    patterns: list[str] = []
    tests: list[Wanted] = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not value:
            raise UsageError(f"filter {text!a}: is not KEY=VALUE", "reference=nginx, say")
        match key:
            case "reference":
                patterns.append(value)
            case "dangling":
                tests.append(_dangling(value))
            case "before" | "since":
                tests.append(_beside(key, value, images))
            case "until":
                tests.append(_until(value))
            case "label":
                tests.append(_label(value))
            case _:
                raise UsageError(
                    f"there is no filter {key[:80]!a}",
                    "use reference, dangling, before, since, until or label",
                )
    if patterns:
        tests.append(lambda image: any(_named(image, pattern) for pattern in patterns))
    return lambda image: all(test(image) for test in tests)


def created(image: Image) -> float:
    """Return when *image* says that it was made, in seconds since 1970; NaN, before and after nothing, if never."""
    try:
        return datetime.fromisoformat(image.created).timestamp()
    except (ValueError, OverflowError):
        return math.nan


def _named(image: Image, pattern: str) -> bool:
    """Whether a name of *image* is meant by *pattern*: whole, or from any slash on, with or without the tag."""
    for name in image.references:
        parts = name.split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            bare = end.partition("@")[0]
            if bare.rfind(":") > bare.rfind("/"):
                bare = bare[: bare.rfind(":")]
            if fnmatch.fnmatchcase(end, pattern) or fnmatch.fnmatchcase(bare, pattern):
                return True
    return False


def _dangling(value: str) -> Wanted:
    if value not in ("true", "false"):
        raise UsageError(f"filter dangling={value[:80]!a}: is neither true nor false")
    return lambda image: (not image.references) == (value == "true")


def _beside(key: str, value: str, images: ImageStore) -> Wanted:
    other = images.get(value)
    if other is None:
        raise NotFound(f"image {value} is not in the store", "minipod image ls shows what is there")
    instant = created(other)
    if key == "before":
        return lambda image: created(image) < instant
    return lambda image: created(image) > instant


def _until(value: str) -> Wanted:
    instant = _instant(value)
    return lambda image: created(image) < instant


def _instant(text: str) -> float:
    """Return the instant that *text* means: a duration ago, RFC 3339, or seconds since 1970.

    Raises:
        UsageError: it is none of these.
    """
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        pass
    return time.time() - age(text)


def age(text: str) -> float:
    """Return the seconds of a duration: ``30m``, ``24h``, ``7d``.

    Raises:
        UsageError: it is none.
    """
    seconds = float(days[1]) * 86400 if (days := _DAYS.fullmatch(text)) else parse_duration(text)
    if not math.isfinite(seconds):
        raise UsageError(f"duration {text[:40]!a} is too long", "write 24h, or 7d")
    return seconds


def _label(value: str) -> Wanted:
    key, equals, wanted = value.partition("=")

    def test(image: Image) -> bool:
        return key in image.config.labels and (not equals or image.config.labels[key] == wanted)

    return test
