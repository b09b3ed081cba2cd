# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers on their way: several at once, each taken apart while it still comes.

For each layer there are two threads, where its source is far away: one reads, verifies and stores its bytes, the other
decompresses and unpacks the same bytes. What is between them is bounded. Hashing, decompressing and system calls free
the interpreter's lock, so that threads are enough for several processors.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from minipod.images.streams import CHUNK, Readable

_PATIENCE = 10.0  # seconds until a thread that does not end is left behind
_DEPTH = 4 << 20  # bytes of one layer that may wait to be unpacked

_T = TypeVar("_T")


class SourceFailed(Exception):
    """Bytes could not be read, or are not what they should be.

    Attributes:
        error: what has happened.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class Unwanted(OSError):
    """It was stopped, because something else had failed."""


class Direct:
    """The bytes of *raw*, read by whoever unpacks them; a context manager.

    Attributes:
        is_whole: whether all has been read from the source.
    """

    is_whole = True

    def __init__(self, raw: Readable) -> None:
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        """Return at least one byte and at most *size*; nothing at the end.

        Raises:
            SourceFailed: it cannot be read, or is not what it should be.
        """
        try:
            return self._raw.read(size)
        except Exception as error:
            raise SourceFailed(error) from error

    def __enter__(self) -> Direct:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Feed:
    """The bytes of *raw*, read ahead by a thread of its own; a context manager, at whose end that thread has ended.

    Args:
        raw: where they come from.
        stop: makes reading from there fail, soon; called when the block fails.

    Attributes:
        is_whole: whether all has been read from the source.
    """

    def __init__(self, raw: Readable, stop: Callable[[], None]) -> None:
        self.is_whole = False
        self._raw = raw
        self._stop = stop
        self._chunks: deque[bytes] = deque()
        self._waiting = 0  # bytes
        self._failure: BaseException | None = None
        self._unwanted = False
        self._changed = threading.Condition()
        # A daemon: whatever it hangs on, the process can end.
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._changed:
            self._unwanted = True
            self._changed.notify_all()
        if error is not None:
            self._stop()
        self._thread.join()

    def read(self, size: int, /) -> bytes:
        """See :meth:`Direct.read`."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self.is_whole or self._failure)
            if self._failure is not None:
                raise SourceFailed(self._failure) from self._failure
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            self._waiting -= len(chunk)
            self._changed.notify_all()
            return chunk

    def _work(self) -> None:
        try:
            while chunk := self._raw.read(CHUNK):
                with self._changed:
                    self._chunks.append(chunk)
                    self._waiting += len(chunk)
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._waiting < _DEPTH or self._unwanted)
                    if self._unwanted:
                        return
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            return
        with self._changed:
            self.is_whole = True
            self._changed.notify_all()


def side_by_side(
    items: Sequence[_T], act: Callable[[_T], None], count: int, stop: Callable[[], None]
) -> None:
    """Do *act* to all *items*, begun in their order, *count* at once; after a failure nothing more is begun.

    Args:
        items: what to act on.
        act: the act.
        count: how many at once; with 1 all is done by the calling thread.
        stop: makes what is under way fail, soon; called after a failure.

    Raises:
        Exception: what the first *act* that failed by itself has raised.
    """
    if count == 1 or len(items) < 2:
        for item in items:
            act(item)
        return
    todo = deque(items)
    failures: list[BaseException] = []
    changed = threading.Condition()
    threads: list[threading.Thread] = []

    def work() -> None:
        try:
            while True:
                with changed:
                    if failures or not todo:
                        return
                    item = todo.popleft()
                act(item)
        except BaseException as error:
            with changed:
                failures.append(error)
        finally:
            with changed:
                ended.append(None)
                changed.notify_all()

    ended: list[None] = []
    for _ in range(min(count, len(items))):
        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
    with changed:
        changed.wait_for(lambda: failures or len(ended) == len(threads))
    if failures:
        stop()
        for thread in threads:
            thread.join(_PATIENCE)
        raise next((each for each in failures if not isinstance(each, Unwanted)), failures[0])
