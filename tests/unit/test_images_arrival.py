# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers on their way: order, bounds and failures of the threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from minipod.images.arrival import Direct, Feed, SourceFailed, Unwanted, side_by_side

DATA = bytes(range(256)) * 5000


class Source:
    """Gives *data* in pieces, then calls *end*."""

    def __init__(
        self, data: bytes, piece: int, end: Callable[[], bytes] = lambda: b"", begin: int = 0
    ) -> None:
        self.at = begin
        self._data, self._piece, self._end = data, piece, end

    def read(self, size: int, /) -> bytes:
        chunk = self._data[self.at : self.at + min(size, self._piece)]
        self.at += len(chunk)
        return chunk or self._end()


def fail() -> bytes:
    raise ValueError("broken")


def nothing() -> None:
    pass


@pytest.mark.parametrize("size", [1000, 1 << 20])
@pytest.mark.parametrize("piece", [999, 1 << 20])
def test_all_bytes_in_order(size: int, piece: int) -> None:
    with Feed(Source(DATA, piece), nothing) as feed:
        parts = []
        while part := feed.read(size):
            assert len(part) <= size
            parts.append(part)
        assert b"".join(parts) == DATA
        assert feed.is_whole and feed.read(size) == b""


def test_failures_of_the_source_are_told_from_others() -> None:
    for raw in (Direct(Source(b"", 1, fail)), Feed(Source(b"", 1, fail), nothing)):
        with raw as opened, pytest.raises(SourceFailed, match="broken") as caught:
            opened.read(1)
        assert isinstance(caught.value.error, ValueError)


def test_what_waits_is_bounded() -> None:
    source = Source(bytes(64 << 20), 1 << 18)
    with Feed(source, nothing) as feed:
        feed.read(1)
        threading.Event().wait(0.2)  # time to read on, were it not bounded
        assert source.at <= 6 << 20


def test_who_fails_stops_the_source() -> None:
    stopped = threading.Event()

    def hang() -> bytes:
        assert stopped.wait(20)
        raise Unwanted

    with pytest.raises(KeyError), Feed(Source(b"", 1, hang), stopped.set):
        raise KeyError


def test_side_by_side_keeps_order_and_count() -> None:
    together = threading.Barrier(3)
    begun: list[int] = []

    def act(number: int) -> None:
        begun.append(number)
        if number < 3:
            together.wait(20)

    side_by_side(range(9), act, 3, nothing)
    assert sorted(begun) == list(range(9)) and set(begun[:3]) == {0, 1, 2}


def test_one_at_a_time_is_the_callers_own_thread() -> None:
    seen = []
    side_by_side([1, 2], lambda _: seen.append(threading.current_thread()), 1, nothing)
    assert set(seen) == {threading.current_thread()}


def test_the_failure_that_came_by_itself_is_told() -> None:
    stopped = threading.Event()
    begun: list[int] = []

    def act(number: int) -> None:
        begun.append(number)
        if number == 0:
            assert stopped.wait(20)
            raise Unwanted
        raise KeyError(number)

    with pytest.raises(KeyError):
        side_by_side(range(9), act, 2, stopped.set)
    assert begun == [0, 1]
