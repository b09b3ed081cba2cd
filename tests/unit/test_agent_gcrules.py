# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's rules for making room: when, how much, and in which order."""

from __future__ import annotations

import pytest

from minipod.agent.gcrules import Candidate, Disk, Rules
from minipod.config import Config
from minipod.errors import UsageError

RULES = Rules.of(Config())
G = 10**9


def disk(available: int, inodes_free: int = 50) -> Disk:
    return Disk(100 * G, available * G, 100, inodes_free)


@pytest.mark.parametrize(
    ("available", "excess"), [(100, 0), (21, 0), (16, 0), (15, 5 * G), (10, 10 * G), (0, 20 * G)]
)
def test_from_the_high_mark_down_to_the_low_one(available: int, excess: int) -> None:
    assert RULES.excess(disk(available)) == excess


def test_never() -> None:
    rules = Rules.of(Config()._replace(image_gc_high_threshold_percent="100"))
    assert rules.excess(disk(0)) == 0
    assert RULES.excess(Disk(0, 0)) == 0


def test_signals() -> None:
    assert RULES.pressing(disk(15), disk(10)) == []
    assert RULES.pressing(disk(14), disk(9)) == ["imagefs.available", "nodefs.available"]
    assert RULES.pressing(disk(50, 4), disk(50, 5)) == ["imagefs.inodesFree"]
    assert RULES.pressing(Disk(0, 0), Disk(100, 100)) == [], "where nobody counts"
    rules = Rules.of(Config()._replace(eviction_hard="nodefs.available<20Gi, imagefs.available<0%"))
    assert rules.pressing(disk(0), disk(21)) == ["nodefs.available"]
    assert rules.pressing(disk(0), disk(22)) == []
    assert Rules.of(Config()._replace(eviction_hard="")).pressing(disk(0), disk(0)) == []


def test_order_and_age() -> None:
    now = 10_000.0
    images = [
        Candidate("young", used=now - 10, came=now - 119),
        Candidate("used lately", used=now - 5, came=0),
        Candidate("used never", used=50, came=50),
        Candidate("used long ago", used=40, came=0),
    ]
    names = [image.digest for image in RULES.removable(images, now)]
    assert names == ["used long ago", "used never", "used lately"]
    assert RULES.outdated(images, now) == []
    aged = Rules.of(Config()._replace(image_maximum_gc_age="1h"))
    assert [i.digest for i in aged.outdated(images, now)] == ["used long ago", "used never"]


@pytest.mark.parametrize(
    "settings",
    [
        {"image_gc_high_threshold_percent": "101"},
        {"image_gc_high_threshold_percent": "-1"},
        {"image_gc_high_threshold_percent": "high"},
        {"image_gc_low_threshold_percent": "85"},
        {"image_minimum_gc_age": "-2m"},
        {"image_minimum_gc_age": "soon"},
        {"image_maximum_gc_age": ""},
        {"eviction_hard": "memory.available<100Mi"},
        {"eviction_hard": "imagefs.available<100%"},
        {"eviction_hard": "imagefs.available<-1"},
        {"eviction_hard": "imagefs.available<lots"},
        {"eviction_hard": "imagefs.available>10%"},
    ],
)
def test_settings_that_are_wrong(settings: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Rules.of(Config()._replace(**settings))
