# SPDX-License-Identifier: GPL-3.0-or-later
"""Container logs: CRI lines, over rotated files, followed by inotify; nothing is lost and nothing comes twice."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.pods.logs import Follower, Line, epoch, follow, last, parse_line, read

TIME = "2026-11-21T13:00:00.123456789Z"


def raw(text: str, tag: str = "F", stream: str = "stdout") -> bytes:
    """Return a line as the shim writes it."""
    return f"{TIME} {stream} {tag} {text}\n".encode("utf-8", "surrogateescape")


def line(text: str, partial: bool = False, stream: str = "stdout") -> Line:
    return Line(TIME, stream, partial, text)


def texts(lines: Iterator[Line] | list[Line]) -> list[str]:
    return [one.text for one in lines]


# ---- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (raw("hello"), line("hello")),
        (raw("two  words "), line("two  words ")),
        (raw("part", "P", "stderr"), line("part", True, "stderr")),
        (raw(""), line("")),
        (f"{TIME} stdout F\n".encode(), line("")),
        (raw("\udcff\udcfe"), line("\udcff\udcfe")),
        (raw("tab\tand \x1b[31m"), line("tab\tand \x1b[31m")),
        (raw("last, without newline").rstrip(b"\n"), line("last, without newline")),
        (b"\n", None),
        (b"", None),
        (b"no log line\n", None),
        (f"{TIME} stdout X text\n".encode(), None),
        (f"{TIME} stdout\n".encode(), None),
    ],
)
def test_parse_line(data: bytes, expected: Line | None) -> None:
    assert parse_line(data) == expected


@given(st.text(st.characters(exclude_characters="\n"), max_size=40), st.booleans())
def test_what_was_written_is_read(text: str, partial: bool) -> None:
    data = text.encode("utf-8", "surrogatepass")
    parsed = parse_line(f"{TIME} stdout {'P' if partial else 'F'} ".encode() + data + b"\n")
    assert parsed and parsed.partial is partial
    assert parsed.text.encode("utf-8", "surrogateescape") == data


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T01:00:01+01:00", 1.0),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
    ],
)
def test_epoch(text: str, seconds: float) -> None:
    assert epoch(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "yesterday", "1970-01-01", "1970-01-01T00:00:00", "12"])
def test_what_is_no_rfc_3339_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        epoch(text)


# ---- the last lines -----------------------------------------------------------------------------

PARTS = [line("a"), line("b1", True), line("b2", True), line("b3"), line("c"), line("d1", True)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, ["d1"]),
        (2, ["c", "d1"]),
        (3, ["b1", "b2", "b3", "c", "d1"]),
        (4, ["a", "b1", "b2", "b3", "c", "d1"]),
        (99, ["a", "b1", "b2", "b3", "c", "d1"]),
    ],
)
def test_parts_of_a_line_count_as_one(count: int, expected: list[str]) -> None:
    assert texts(last(iter(PARTS), count)) == expected


def test_the_last_of_nothing() -> None:
    assert last(iter([]), 5) == []
    assert last(iter([]), 0) == []


# ---- reading ------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An empty log."""
    path = tmp_path / "0.log"
    path.write_bytes(b"")
    return path


def write(path: Path, *words: str) -> None:
    """Append whole lines, as the shim does."""
    with open(path, "ab") as file:
        file.write(b"".join(raw(word) for word in words))


def rotate(path: Path, keep: int = 5) -> None:
    """Do what ``rotate`` in native/log.c does."""
    for i in range(keep - 1, 0, -1):
        source = Path(f"{path}.{i - 1}") if i > 1 else path
        if source.exists():
            source.rename(f"{path}.{i}")
    path.open("ab").close()


def test_rotated_parts_come_first(log: Path) -> None:
    for i in range(1, 13):
        write(log, f"line {i}")
        if i < 12:
            rotate(log, keep=20)
    assert texts(read(str(log))) == [f"line {i}" for i in range(1, 13)]


def test_read_skips_what_is_no_line(log: Path) -> None:
    log.write_bytes(raw("a") + b"torn\n\n" + raw("b") + f"{TIME} stdo".encode())
    assert texts(read(str(log))) == ["a", "b"]


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert list(read(str(tmp_path / "none.log"))) == []


# ---- following ----------------------------------------------------------------------------------


@pytest.fixture
async def follower(log: Path) -> AsyncIterator[Follower]:
    made = Follower(str(log))
    yield made
    made.close()


async def test_a_follower_sees_what_comes(log: Path, follower: Follower) -> None:
    assert texts(follower.available()) == []
    write(log, "a", "b")
    await follower.grown()
    assert texts(follower.available()) == ["a", "b"]
    write(log, "c")
    await follower.grown()
    assert texts(follower.available()) == ["c"]
    assert texts(follower.available()) == []


async def test_half_a_line_waits_for_its_other_half(log: Path, follower: Follower) -> None:
    whole = raw("half")
    with open(log, "ab", buffering=0) as file:
        file.write(whole[:20])
        assert texts(follower.available()) == []
        file.write(whole[20:-1])
        assert texts(follower.available()) == []
        file.write(whole[-1:] + raw("next"))
    assert texts(follower.available()) == ["half", "next"]


async def test_a_rotation_is_followed(log: Path, follower: Follower) -> None:
    write(log, "a")
    assert texts(follower.available()) == ["a"]
    write(log, "b")
    rotate(log)
    write(log, "c")
    await follower.grown()
    assert texts(follower.available()) == ["b", "c"]


async def test_several_rotations_between_two_looks(log: Path, follower: Follower) -> None:
    write(log, "a")
    assert texts(follower.available()) == ["a"]
    for i in range(3):
        write(log, f"b{i}")
        rotate(log)
    write(log, "c")
    assert texts(follower.available()) == ["b0", "b1", "b2", "c"]


async def test_a_follower_that_was_left_behind_goes_on_with_what_is_left(
    log: Path, follower: Follower
) -> None:
    write(log, "a")
    assert texts(follower.available()) == ["a"]
    for i in range(9):
        write(log, f"b{i}")
        rotate(log, keep=3)
    write(log, "c")
    # b0 was in the file that it had open; b1 to b6 are gone; two old files are kept.
    assert texts(follower.available()) == ["b0", "b7", "b8", "c"]


class Racing(io.BufferedReader):
    """A log at whose end something happens, before the reader can look around."""

    def __init__(self, path: Path, moment: Callable[[], None]) -> None:
        super().__init__(io.FileIO(path))
        self._moments = [moment]

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data and self._moments:
            self._moments.pop()()
        return data


async def test_what_is_written_just_before_a_rotation_is_not_lost(
    log: Path, follower: Follower
) -> None:
    def moment() -> None:
        write(log, "b")
        rotate(log)
        write(log, "c")

    write(log, "a")
    follower._file.close()
    follower._file = Racing(log, moment)
    assert texts(follower.available()) == ["a", "b", "c"]


async def test_a_torn_line_ends_with_its_file(log: Path, follower: Follower) -> None:
    with open(log, "ab") as file:
        file.write(raw("whole") + raw("torn").rstrip(b"\n"))  # the disk was full
    rotate(log)
    write(log, "next")
    assert texts(follower.available()) == ["whole", "torn", "next"]


async def test_a_rotation_that_is_half_done_is_waited_for(log: Path, follower: Follower) -> None:
    write(log, "a")
    log.rename(f"{log}.1")
    assert texts(follower.available()) == ["a"]
    write(log, "b")
    await follower.grown()
    assert texts(follower.available()) == ["b"]


async def test_skip_goes_to_the_end(log: Path, follower: Follower) -> None:
    write(log, "a", "b")
    follower.skip()
    write(log, "c")
    assert texts(follower.available()) == ["c"]


async def test_a_closed_follower_leaves_no_fd(log: Path) -> None:
    before = os.listdir("/proc/self/fd")
    Follower(str(log)).close()
    assert os.listdir("/proc/self/fd") == before


async def collect(path: Path, ended: asyncio.Event, into: list[str]) -> None:
    async for one in follow(str(path), list, ended):
        into.append(one.text)


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop its turns until *condition* holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_follow_ends_when_the_container_has_and_not_before(log: Path) -> None:
    ended = asyncio.Event()
    seen: list[str] = []
    write(log, "a")
    task = asyncio.ensure_future(collect(log, ended, seen))
    await until(lambda: seen == ["a"])
    write(log, "b")
    await until(lambda: seen == ["a", "b"])
    assert not task.done()
    write(log, "c")
    ended.set()  # all that was written before is still read
    await task
    assert seen == ["a", "b", "c"]


async def test_follow_of_a_container_that_has_ended(log: Path) -> None:
    ended = asyncio.Event()
    ended.set()
    write(log, "a", "b")
    seen: list[str] = []
    await collect(log, ended, seen)
    assert seen == ["a", "b"]


async def test_follow_from_the_last_lines_on(log: Path) -> None:
    write(log, "a", "b", "c")
    ended = asyncio.Event()
    ended.set()
    found = [one async for one in follow(str(log), lambda lines: last(lines, 1), ended)]
    assert texts(found) == ["c"]


async def test_a_long_log_is_skipped_without_the_loop(log: Path) -> None:
    write(log, "a", "b")
    ended, others = asyncio.Event(), threading.Event()
    ended.set()

    def skip(lines: Iterator[Line]) -> list[Line]:
        assert others.wait(30), "nobody else had a turn"
        return last(lines, 1)

    asyncio.get_running_loop().call_later(0.01, others.set)
    found = [one async for one in follow(str(log), skip, ended)]
    assert texts(found) == ["b"]


async def test_follow_over_rotations(log: Path) -> None:
    ended = asyncio.Event()
    seen: list[str] = []
    task = asyncio.ensure_future(collect(log, ended, seen))
    for i in range(50):
        write(log, f"{i}")
        if i % 7 == 6:
            rotate(log, keep=20)  # none is dropped, however late the follower is
        if i % 3 == 0:
            await asyncio.sleep(0)
    ended.set()
    await task
    assert seen == [f"{i}" for i in range(50)]


async def test_a_follow_that_is_left_closes_its_files(log: Path) -> None:
    before = os.listdir("/proc/self/fd")
    write(log, "a")
    lines = follow(str(log), list, asyncio.Event())
    assert (await anext(lines)).text == "a"
    await lines.aclose()
    assert os.listdir("/proc/self/fd") == before


async def test_a_follow_that_is_cancelled_closes_its_files(log: Path) -> None:
    before = os.listdir("/proc/self/fd")
    seen: list[str] = []
    write(log, "a")
    task = asyncio.ensure_future(collect(log, asyncio.Event(), seen))
    await until(lambda: seen == ["a"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    assert os.listdir("/proc/self/fd") == before
