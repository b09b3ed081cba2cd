# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads container logs: CRI lines, over rotated files and restarts, following by inotify."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from minipod.native import IN_CREATE, IN_MODIFY, IN_MOVED_TO, inotify_add_watch, inotify_init


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log.

    Attributes:
        time: RFC 3339 with nanoseconds.
        stream: ``stdout`` or ``stderr``.
        partial: the line goes on in the next one.
        text: what the container wrote, bytes that are not UTF-8 as surrogates, without the newline.
    """

    time: str
    stream: str
    partial: bool
    text: str


def parse_line(raw: bytes) -> Line | None:
    """Return the line of a CRI log, or None when it is none."""
    parts = raw.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3 or parts[2] not in (b"F", b"P"):
        return None
    text = parts[3] if len(parts) == 4 else b""
    return Line(
        parts[0].decode(errors="replace"),
        parts[1].decode(errors="replace"),
        parts[2] == b"P",
        text.decode("utf-8", "surrogateescape"),
    )


def epoch(time: str) -> float:
    """Return an RFC 3339 instant, in seconds since the epoch.

    Raises:
        ValueError: it is none.
    """
    instant = datetime.fromisoformat(time)
    if instant.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return instant.timestamp()


def _parts(path: str) -> list[BinaryIO]:
    """Open the log at *path* and its rotated parts, newest first, while they may be moved on.

    What is moved goes the way that we go, so that it is met, perhaps twice; and leaves a gap for a moment.
    """
    found: dict[tuple[int, int], BinaryIO] = {}
    number = gaps = 0
    while gaps < 2:
        try:
            file = open(f"{path}.{number}" if number else path, "rb")  # noqa: SIM115 - the caller's to close
        except FileNotFoundError:
            gaps += 1
        else:
            gaps = 0
            if earlier := found.pop(_identity(file), None):
                earlier.close()  # moved on meanwhile: its place is behind those seen since
            found[_identity(file)] = file
        number += 1
    return list(found.values())


def _identity(file: BinaryIO) -> tuple[int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino


def read(path: str) -> Iterator[Line]:
    """Yield the lines of a log that is there now, rotated parts first."""
    with contextlib.ExitStack() as stack:
        for log in [stack.enter_context(part) for part in reversed(_parts(path))]:
            yield from _lines(log)


def tail(path: str, size: int) -> Iterator[Line]:
    """Yield the lines in about the last *size* bytes of a log that is there now, over its newest rotation."""
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(part) for part in _parts(path)]
        for log in reversed(parts[:2]):
            end = log.seek(0, os.SEEK_END)
            if end > size:
                log.seek(end - size)
                log.readline()  # the first is cut
            else:
                log.seek(0)
            yield from _lines(log)


def _lines(log: BinaryIO) -> Iterator[Line]:
    return (line for raw in log if (line := parse_line(raw)))


def last(lines: Iterator[Line], count: int) -> list[Line]:
    """Return the last *count* whole lines: parts of one line count as one."""
    kept: deque[list[Line]] = deque(maxlen=count) if count else deque(maxlen=1)
    current: list[Line] = []
    for line in lines:
        current.append(line)
        if not line.partial:
            kept.append(current)
            current = []
    if current:
        kept.append(current)
    return [part for whole in kept for part in whole] if count else []


class Follower:
    """Reads a log as it grows, over its rotation. Woken by inotify, never by a clock."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed in close()
        self._rest = b""
        self._inotify = inotify_init()
        self._grown = asyncio.Event()
        inotify_add_watch(self._inotify, os.path.dirname(path), IN_MODIFY | IN_CREATE | IN_MOVED_TO)
        asyncio.get_running_loop().add_reader(self._inotify, self._drain)

    def close(self) -> None:
        """Stop following."""
        asyncio.get_running_loop().remove_reader(self._inotify)
        os.close(self._inotify)
        self._file.close()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify, 65536)
        self._grown.set()

    def skip(self) -> None:
        """Go to the end of what is there."""
        self._file.seek(0, os.SEEK_END)

    def available(self) -> Iterator[Line]:
        """Yield the whole lines that are there now."""
        while True:
            data = self._file.read(1 << 18)
            if not data:
                newer = self._newer()
                if newer is None:
                    return
                # What came between our last read and the rotation; a torn last line ends here.
                data = self._file.read() + b"\n"
                self._file.close()
                self._file = newer
            *whole, self._rest = (self._rest + data).split(b"\n")
            for raw in whole:
                if line := parse_line(raw):
                    yield line

    def _newer(self) -> BinaryIO | None:
        """Open the file that came after ours; None when ours is the newest. Of several, none is passed over."""
        ours = _identity(self._file)
        newer: BinaryIO | None = None  # when ours was dropped meanwhile, the oldest that is left
        reached = False
        for file in _parts(self._path):
            reached = reached or _identity(file) == ours
            if reached:
                file.close()
                continue
            if newer:
                newer.close()
            newer = file
        return newer

    async def grown(self) -> None:
        """Wait until the directory of the log changes."""
        await self._grown.wait()
        self._grown.clear()


async def follow(
    path: str, skip: Callable[[Iterator[Line]], Iterable[Line]], ended: asyncio.Event
) -> AsyncGenerator[Line, None]:
    """Yield a log's lines: what *skip*, called in a thread, leaves of those there, then new ones until *ended* is set.

    All that was written before *ended* was set is yielded.
    """
    follower = Follower(path)
    waiters: set[asyncio.Future[object]] = set()
    try:
        for line in await asyncio.to_thread(skip, follower.available()):
            yield line
        while True:
            over = ended.is_set()
            for line in follower.available():
                yield line
            if over:
                return
            waiters = {asyncio.ensure_future(follower.grown()), asyncio.ensure_future(ended.wait())}
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
            for waiter in waiters:
                waiter.cancel()
    finally:
        for waiter in waiters:
            waiter.cancel()
        follower.close()
