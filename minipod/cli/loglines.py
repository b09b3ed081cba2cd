# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints containers' log lines: raw, as kubectl does, with a prefix or a time where that is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, BinaryIO

Json = dict[str, Any]


class LogWriter:
    """Writes the ``log`` objects of the agent to our stdout, and to stderr what came from there when *split*.

    Args:
        prefix: returns what stands before a line, or None for nothing.
        timestamps: whether the time stands before a line.
        split: whether the containers' stderr goes to our stderr.
    """

    def __init__(
        self,
        prefix: Callable[[Json], str] | None = None,
        *,
        timestamps: bool = False,
        split: bool = False,
    ) -> None:
        self._prefix = prefix
        self._timestamps = timestamps
        self._split = split
        self._unfinished: dict[int, tuple[object, ...]] = {}

    def write(self, log: Json) -> None:
        """Print one line, or a part of one."""
        to_stderr = self._split and log.get("stream") == "stderr"
        out = sys.stderr.buffer if to_stderr else sys.stdout.buffer
        whose = (log.get("pod"), log.get("container"), log.get("stream"))
        before = self._unfinished.pop(int(to_stderr), None)
        if before is not None and before != whose:
            if self._prefix or self._timestamps:
                out.write(b"\n")  # the other's line is broken, rather than mixed with this one
            before = None
        if before is None:
            self._start(out, log)
        out.write(str(log.get("text", "")).encode("utf-8", "surrogateescape"))
        if log.get("partial"):
            self._unfinished[int(to_stderr)] = whose
        else:
            out.write(b"\n")

    def _start(self, out: BinaryIO, log: Json) -> None:
        if self._prefix:
            out.write(self._prefix(log).encode())
        if self._timestamps:
            out.write(f"{log.get('time', '')} ".encode())

    def flush(self) -> None:
        """Let what was written be seen."""
        sys.stdout.buffer.flush()
        if self._split:
            sys.stderr.buffer.flush()

    def finish(self) -> None:
        """End the lines that have no end, when something else follows."""
        for to_stderr in list(self._unfinished):
            (sys.stderr if to_stderr else sys.stdout).buffer.write(b"\n")
        self._unfinished.clear()
        self.flush()
