# SPDX-License-Identifier: GPL-3.0-or-later
"""How long each step of a pod's starts took: noted while they are taken, put into words when nobody waits for it.

On the way of a start a step costs two readings of the clock and an entry in a list; the steps in a clone are timed by
the C core (``native/report.c``), which sends all times with the answer to the launch. Words, and a file in the pod's
directory, are made some seconds later, so that an agent that comes back still has them. Nothing is synced to the disk:
what a crash takes is only a record of durations.

All times are of ``CLOCK_MONOTONIC``, in nanoseconds, which agent, shim and clones share.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from minipod.plan.steps import AttachNetwork, Launch, Step, one_line

log = logging.getLogger(__name__)

SETTLED = (
    20.0  # seconds after which what was noted is written down: when the next pods have come up, too
)
_FILE = "trace.json"
_MAX_FILE = 64 * 1024 * 1024
_MAX_WORDS = 300


class Span(msgspec.Struct, frozen=True):
    """Something that took time.

    Attributes:
        stage: what it was a part of: ``accept``, ``prepare``, ``image``, ``host``, ``launch``, ``network``, ``run``,
            ``postStart``, ``startup probe``, ``readiness probe``.
        what: in words; without values of variables, which may be secret.
        began, ended: CLOCK_MONOTONIC, ns.
        source: the manifest field that asked for it, or "".
        by: who did it: ``agent``, ``shim`` or ``clone``.
    """

    stage: str
    what: str
    began: int
    ended: int
    source: str = ""
    by: str = "agent"


class Start(msgspec.Struct):
    """One start of a sandbox, or of a container in it.

    Attributes:
        container: its name, or "" for the sandbox.
        number: of the sandbox, or of the container's run.
        sandbox: in which it began.
        boot: the kernel's run whose clock counts.
        wall: seconds since the epoch when CLOCK_MONOTONIC was 0.
        spans: in the order in which they ended.
    """

    container: str
    number: int
    sandbox: int
    boot: str
    wall: float
    spans: list[Span] = msgspec.field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from the pod's other starts."""
        return self.container, self.number


class _Step(msgspec.Struct, frozen=True):
    step: Step
    began: int
    ended: int


class _Launched(msgspec.Struct, frozen=True):
    launch: Launch
    marks: Sequence[int]
    ended: int


_Entry = Span | _Step | _Launched


class StartLog:
    """Notes one start. ``Origin.watch`` of the runtime: told of host steps and launches."""

    def __init__(self, start: Start, noted: Callable[[StartLog, _Entry], None] | None) -> None:
        self.start = start
        self._noted = noted
        self._open: dict[str, int] = {}
        self.entries: list[_Entry] = []

    @property
    def is_on(self) -> bool:
        """Whether anything is noted."""
        return self._noted is not None

    def _note(self, entry: _Entry) -> None:
        if self._noted is not None:
            self.entries.append(entry)
            self._noted(self, entry)

    def add(self, stage: str, what: str, began: int, ended: int | None = None) -> None:
        """Note what took from *began* until *ended*, or now."""
        self._note(Span(stage, what, began, time.monotonic_ns() if ended is None else ended))

    @contextlib.contextmanager
    def span(self, stage: str, what: str) -> Iterator[None]:
        """Note how long the block takes."""
        began = time.monotonic_ns()
        try:
            yield
        finally:
            self.add(stage, what, began)

    def open(self, stage: str) -> None:
        """Something begins whose end :meth:`close` will tell, if it comes."""
        self._open[stage] = time.monotonic_ns()

    def close(self, stage: str, what: str) -> None:
        """What :meth:`open` began is over; nothing is noted when it was not begun."""
        began = self._open.pop(stage, None)
        if began is not None:
            self.add(stage, what, began)

    # ---- what the runtime tells ----

    def step(self, step: Step, began: int) -> None:
        """A host step that began then is over."""
        if not isinstance(step, Launch):
            self._note(_Step(step, began, time.monotonic_ns()))

    def launched(self, launch: Launch, marks: Sequence[int]) -> None:
        """A launch was answered with these marks; see ``struct mp_msg`` in ``native/wire.h``."""
        self._note(_Launched(launch, marks, time.monotonic_ns()))


_OFF = StartLog(Start("", 0, 0, "", 0.0), None)


class Timeline:
    """The starts of one pod.

    Args:
        keep: how many starts of each container, and of the sandbox, are kept; 0: nothing is noted at all.
        directory: where they are written; it may come later.
        boot: which run of the kernel this is.
    """

    def __init__(self, keep: int, directory: Callable[[], str], boot: str) -> None:
        self._keep = keep
        self._directory = directory
        self._boot = boot
        self._logs: dict[tuple[str, int], StartLog] = {}
        self._latest: dict[str, StartLog] = {}
        self._listeners: set[Callable[[Start, list[Span]], None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, container: str, number: int, sandbox: int) -> StartLog:
        """Return what notes a start that begins now; *container* is "" for the sandbox."""
        if not self._keep:
            return _OFF
        wall = time.time() - time.monotonic()
        found = StartLog(Start(container, number, sandbox, self._boot, wall), self._noted)
        self._latest[container] = self._logs[container, number] = found
        return found

    def of(self, container: str) -> StartLog:
        """Return what notes the latest start of a container."""
        return self._latest.get(container, _OFF)

    def drop(self, start: StartLog) -> None:
        """Forget a start that was none after all."""
        self._logs.pop(start.start.key, None)
        self._latest.pop(start.start.container, None)

    def _noted(self, start: StartLog, entry: _Entry) -> None:
        self._logs[start.start.key] = start
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLED, self.flush)
        for listener in list(self._listeners):
            listener(start.start, _spans(entry))

    # ---- looking at it ----

    def listen(self, listener: Callable[[Start, list[Span]], None]) -> Callable[[], None]:
        """Have *listener* told of each span from now on; return what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def starts(self) -> list[Start]:
        """Return all starts that are known, as they came; what is in memory and what was written."""
        fresh = []
        for each in self._logs.values():
            spans = [span for entry in each.entries for span in _spans(entry)]
            fresh.append(msgspec.structs.replace(each.start, spans=spans))
        return _merge(self._read(), fresh, self._keep)

    # ---- the file ----

    def _read(self) -> list[Start]:
        try:
            with open(f"{self._directory()}/{_FILE}", "rb") as file:
                return msgspec.json.decode(file.read(_MAX_FILE), type=list[Start])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("a record of durations cannot be read: %s", error)
            return []

    def flush(self) -> None:
        """Write down what was noted since the last time."""
        self.close()
        if not any(each.entries for each in self._logs.values()):
            return
        path = f"{self._directory()}/{_FILE}"
        try:
            with open(f"{path}.tmp", "wb", opener=_private) as file:
                file.write(msgspec.json.encode(self.starts()))
            os.replace(f"{path}.tmp", path)
        except FileNotFoundError:  # the pod has no directory yet, or no more
            for key in list(self._logs)[: -2 * self._keep - 1]:
                del self._logs[key]
            return
        except OSError as error:
            log.warning("a record of durations cannot be written: %s", error)
        for each in self._logs.values():
            each.entries.clear()
        self._logs.clear()

    def close(self) -> None:
        """Write nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _merge(old: list[Start], new: list[Start], keep: int) -> list[Start]:
    """Return *old* starts followed by what is *new*, without those that are too many.

    Kept are the last *keep* of each container, and how the present sandbox and what began in it first came to be.
    """
    merged = {start.key: start for start in old}
    for start in new:
        before = merged.get(start.key)
        # An agent that came back may make the same run once more.
        if before is not None and before.wall == start.wall:
            start.spans = before.spans + start.spans
        merged[start.key] = start
    result = list(merged.values())
    present = max((start.sandbox for start in result), default=0)
    kept, counts, firsts = [], dict[str, int](), set[str]()
    first_runs = set()
    for start in result:
        if start.sandbox == present and start.container not in firsts:
            firsts.add(start.container)
            first_runs.add(start.key)
    for start in reversed(result):
        counts[start.container] = counts.get(start.container, 0) + 1
        if counts[start.container] <= keep or start.key in first_runs:
            kept.append(start)
    return kept[::-1]


def _words(step: Step) -> str:
    words = step.told()
    if len(words) > _MAX_WORDS:
        words = f"{words[:_MAX_WORDS]}…"
    return words if words.isprintable() else one_line(words)


def _spans(entry: _Entry) -> list[Span]:
    if isinstance(entry, Span):
        return [entry]
    if isinstance(entry, _Step):
        stage = "network" if isinstance(entry.step, AttachNetwork) else "host"
        return [Span(stage, _words(entry.step), entry.began, entry.ended, entry.step.source)]
    launch, marks = entry.launch, entry.marks
    if len(marks) < 2:
        return [Span("launch", _words(launch), entry.ended, entry.ended, launch.source)]
    result = [Span("launch", _words(launch), marks[0], marks[1], launch.source, "shim")]
    for step, began, ended in zip(launch.steps, marks[1:], marks[2:], strict=False):
        result.append(Span("launch", _words(step), began, ended, step.source, "clone"))
    if len(marks) < len(launch.steps) + 2:  # the last one reported is the one before it
        failed = launch.steps[len(marks) - 2]
        words = f"failed: {_words(failed)}"
        return [*result, Span("launch", words, marks[-1], entry.ended, failed.source, "clone")]
    return [*result, Span("launch", "the agent hears of it", marks[-1], entry.ended)]
