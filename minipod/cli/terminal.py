# SPDX-License-Identifier: GPL-3.0-or-later
"""Terminals and streams of ``exec``: raw mode, window size, and the pumps between our fds and the container's.

The user's own fds stay with us, and blocking, as we found them: what a container gets is the end of a pipe
that was made for it, or its own pty (a terminal handed over could be typed into: TIOCSTI).
"""

from __future__ import annotations

import errno
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from minipod.cli.client import Call

STDIN, STDOUT, STDERR = 0, 1, 2
_CHUNK = 65536
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


def window_size() -> list[int]:
    """Return [rows, columns] of the terminal that we are on, or [0, 0]."""
    for fd in (STDIN, STDOUT, STDERR):
        with suppress(termios.error, OSError):
            return list(termios.tcgetwinsize(fd))
    return [0, 0]


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Hand every key on as it is (``cfmakeraw(3)``), until the end, however that comes."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = termios.tcgetattr(fd)
    handlers = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _following_window(master: int) -> Iterator[None]:
    """Give the pty *master* our window's size, now and whenever it changes."""

    def resize(number: int = 0, frame: FrameType | None = None) -> None:
        rows, columns = window_size()
        if rows and columns:
            with suppress(termios.error, OSError):
                termios.tcsetwinsize(master, (rows, columns))

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        resize()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def run_on_terminal(call: Call) -> int:
    """Connect our terminal with the pty that the agent sends, until *call* is done; return the exit code.

    Raises:
        MinipodError: the agent's error.
    """
    while not call.fds and call.done is None:
        call.receive()
    if call.done is not None:
        return int(call.done.get("exitCode", 0))
    master = call.fds.pop()
    os.set_blocking(master, False)
    feed = _Feed(STDIN, master, close=False)
    try:
        with raw_mode(STDIN), _following_window(master):
            _pump(call, feed, {master: STDOUT})
    finally:
        os.close(master)
    return _exit_code(call)


def run_on_pipes(call: Call, ends: Sequence[int]) -> int:
    """Connect our streams with our *ends* of the pipes (stdin or -1, stdout, stderr); return the exit code.

    Takes the ends over: they are closed.

    Raises:
        MinipodError: the agent's error.
        BrokenPipeError: nobody reads our output.
    """
    to, out, err = ends
    feed = _Feed(STDIN, to, close=True) if to >= 0 else None
    try:
        if feed:
            os.set_blocking(to, False)
        _pump(call, feed, {out: STDOUT, err: STDERR})
    finally:
        if feed:
            feed.end()
        os.close(out)
        os.close(err)
    return _exit_code(call)


def run_attached(call: Call, ends: Sequence[int], *, stdin: bool) -> int:
    """Connect our streams with a running container: our *ends* of the pipes that it writes to, and what feeds it.

    Takes the ends over: they are closed. Our terminal becomes the container's if it has one and we feed it.

    Raises:
        MinipodError: the agent's error.
        BrokenPipeError: nobody reads our output.
    """
    feed: _Feed | None = None
    try:
        started: dict[str, Any] = {}
        while not started and call.done is None:
            for event in call.receive():
                started = event
        with ExitStack() as stack:
            if stdin and call.fds:
                to = call.fds.pop()
                feed = _Feed(STDIN, to, close=True)
                os.set_blocking(to, False)
                if started.get("tty") and os.isatty(STDIN):
                    stack.enter_context(raw_mode(STDIN))
                    stack.enter_context(_following_window(to))
            _pump(call, feed, dict(zip(ends, (STDOUT, STDERR), strict=True)))
    finally:
        if feed:
            feed.end()
        for fd in ends:
            os.close(fd)
    return _exit_code(call)


def _exit_code(call: Call) -> int:
    return int((call.done or {}).get("exitCode", 0))


class _Feed:
    """Our input on its way into the container; a container that does not read it holds up nothing else."""

    def __init__(self, source: int, target: int, *, close: bool) -> None:
        self.source = source
        self.target = target
        self._close = close
        self._pending = b""
        self._over = False

    def interests(self) -> dict[int, int]:
        """Return what to poll for: the source only while nothing waits to be written."""
        if self.target < 0:
            return {}
        if self._pending:
            return {self.target: select.POLLOUT}
        return {} if self._over else {self.source: select.POLLIN}

    def read(self) -> None:
        """Take what the source has; at its end, end the target."""
        try:
            self._pending = os.read(self.source, _CHUNK)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EBADF):
                raise
            self._pending = b""
        if not self._pending:
            self._over = True
            if self._close:
                self.end()
        else:
            self.write()

    def write(self) -> None:
        """Give the target what it takes."""
        try:
            self._pending = self._pending[os.write(self.target, self._pending) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self._pending, self._over = b"", True
            if self._close:
                self.end()

    def end(self) -> None:
        """Close the target, if it is ours to close; safe to repeat."""
        if self._close and self.target >= 0:
            os.close(self.target)
            self.target = -1


def _pump(call: Call, feed: _Feed | None, outputs: dict[int, int]) -> None:
    """Move bytes until *call* is done and the *outputs* (from -> to) hold nothing more."""
    open_outputs = dict(outputs)
    for source in outputs:
        os.set_blocking(source, False)
    while call.done is None:
        poll = select.poll()
        poll.register(call, select.POLLIN)
        interests = feed.interests() if feed else {}
        for fd, mask in interests.items():
            # A pty is read and written through one fd.
            poll.register(fd, mask | (select.POLLIN if fd in open_outputs else 0))
        for fd in open_outputs:
            if fd not in interests:
                poll.register(fd, select.POLLIN)
        for fd, happened in poll.poll():
            if fd == call.fileno():
                call.receive()
            elif (
                fd in open_outputs
                and happened & (select.POLLIN | _GONE)
                and not _move(fd, open_outputs[fd])
            ):
                del open_outputs[fd]
            if feed and fd == feed.target and happened & (select.POLLOUT | _GONE):
                feed.write()
            elif feed and fd == feed.source and fd in interests:
                feed.read()
    # What was written before the end is in the pipes; what others may still write there is not waited for.
    for source, target in open_outputs.items():
        with suppress(BlockingIOError):
            while _move(source, target, wait=False):
                pass


def _move(source: int, target: int, *, wait: bool = True) -> bool:
    """Move a chunk; return whether there may be more. Without *wait*, raises ``BlockingIOError`` for none yet."""
    try:
        data = os.read(source, _CHUNK)
    except BlockingIOError:
        if wait:
            return True
        raise
    except OSError as error:
        if error.errno == errno.EIO:  # a pty whose other end is closed everywhere
            return False
        raise
    write_all(target, data)
    return bool(data)


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*, waiting where the fd was left non-blocking by someone else."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])
