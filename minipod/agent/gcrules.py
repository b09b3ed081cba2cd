# SPDX-License-Identifier: GPL-3.0-or-later
"""When images are removed for want of room, and which: the kubelet's rules, as pure functions.

Sources: Kubernetes, "Garbage collection" (ImageGCManager: thresholds in per cent of the disk, the least recently used
first, none younger than the minimum age) and "Node-pressure eviction" (signals, thresholds).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from minipod.api import parse_bytes
from minipod.config import Config
from minipod.durations import parse_duration
from minipod.errors import UsageError

SIGNALS = ("imagefs.available", "imagefs.inodesFree", "nodefs.available", "nodefs.inodesFree")
_THRESHOLD = re.compile(r"([A-Za-z.]+)<([^<>,\s]+)")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system, as ``statvfs(3)`` sees it.

    Attributes:
        capacity: bytes.
        available: bytes that programs can still get.
        inodes: all of them; 0 where nobody counts.
        inodes_free: those that are left.
    """

    capacity: int
    available: int
    inodes: int = 0
    inodes_free: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that no pod uses.

    Attributes:
        digest: of its manifest.
        used: when it was used last, in seconds since 1970; when it came, if never.
        came: when it came.
        unique: bytes that removing it gives back.
    """

    digest: str
    used: float
    came: float
    unique: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say.

    Attributes:
        high: per cent of the disk that may be used before images go; 100 never.
        low: per cent that it is to have then.
        min_age: seconds for which an image is safe after it came.
        max_age: seconds after its last use at which an image goes anyway; 0 never.
        hard: thresholds of signals, a share of what there is (below 1) or a number.
    """

    high: int = 85
    low: int = 80
    min_age: float = 120.0
    max_age: float = 0.0
    hard: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> Rules:
        """Return the rules of *config*.

        Raises:
            UsageError: a setting is wrong.
        """
        high = _percent("image_gc_high_threshold_percent", config.image_gc_high_threshold_percent)
        low = _percent("image_gc_low_threshold_percent", config.image_gc_low_threshold_percent)
        if low >= high:
            raise UsageError(
                f"image_gc_low_threshold_percent {low} is not below image_gc_high_threshold_percent {high}",
                "the defaults are 80 and 85",
            )
        return cls(
            high,
            low,
            parse_duration(config.image_minimum_gc_age),
            parse_duration(config.image_maximum_gc_age),
            _thresholds(config.eviction_hard),
        )

    def excess(self, disk: Disk) -> int:
        """Return the bytes to be freed: from above the high mark down to the low one."""
        if not disk.capacity or self.high >= 100:
            return 0
        if 100 - disk.available * 100 // disk.capacity < self.high:
            return 0
        return max(0, disk.capacity * (100 - self.low) // 100 - disk.available)

    def pressing(self, imagefs: Disk, nodefs: Disk) -> list[str]:
        """Return the signals that are below their thresholds."""
        there = {
            "imagefs.available": (imagefs.available, imagefs.capacity),
            "imagefs.inodesFree": (imagefs.inodes_free, imagefs.inodes),
            "nodefs.available": (nodefs.available, nodefs.capacity),
            "nodefs.inodesFree": (nodefs.inodes_free, nodefs.inodes),
        }
        met = []
        for signal, threshold in self.hard.items():
            left, whole = there[signal]
            if whole and left < (threshold * whole if threshold < 1 else threshold):
                met.append(signal)
        return met

    def outdated(self, images: Iterable[Candidate], now: float) -> list[Candidate]:
        """Return those that have not been used for longer than the maximum age."""
        if not self.max_age:
            return []
        return [image for image in self.removable(images, now) if now - image.used > self.max_age]

    def removable(self, images: Iterable[Candidate], now: float) -> list[Candidate]:
        """Return those old enough to go, the least recently used first."""
        old = (image for image in images if now - image.came >= self.min_age)
        return sorted(old, key=lambda image: (image.used, image.came, image.digest))


def _percent(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > 100:
        raise UsageError(
            f"{name} {text[:40]!a} is no number from 0 to 100", "the kubelet has 85 and 80"
        )
    return int(text)


def _thresholds(text: str) -> dict[str, float]:
    """Return the thresholds of ``imagefs.available<15%,nodefs.available<1Gi``.

    Raises:
        UsageError: it is not written like that.
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _THRESHOLD.fullmatch(part)
        if not match or match[1] not in SIGNALS:
            raise UsageError(
                f"eviction_hard: {part[:80]!a} is no threshold",
                f"write imagefs.available<15%; the signals are {', '.join(SIGNALS)}",
            )
        if percent := _PERCENT.fullmatch(match[2]):
            value = float(percent[1]) / 100
        else:
            try:
                value = float(parse_bytes(match[2]))
            except ValueError:
                value = -1.0
        if value < 0 or (percent and value >= 1):
            raise UsageError(
                f"eviction_hard: {part[:80]!a} is out of range", "write 15%, or 1Gi; 0% is never"
            )
        found[match[1]] = value
    return found
