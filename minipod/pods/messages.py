# SPDX-License-Identifier: GPL-3.0-or-later
"""Termination messages: what containers leave in their message file, or else in their log, when they end.

The files lie in a small tmpfs of the sandbox that nothing but our plans writes names into; each run of a container
sees its own file and no directory. They are read through a fd of that directory, by name, without following anything.

Lengths are Kubernetes' ("Determine the Reason for Pod Failure"), and the parts that count are the kubelet's: the end
of the file, the end of the log.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat

from minipod.api import Container
from minipod.plan import TERMINATION, termination_file
from minipod.pods import logs
from minipod.pods.record import ContainerRecord

MAX_BYTES = 4096
MAX_LOG_BYTES = 2048
MAX_LOG_LINES = 80
_LOG_TAIL = 1 << 17  # of a log, as bytes of the file: more than 80 lines that count


class Messages:
    """The message files of one sandbox."""

    def __init__(self) -> None:
        self._directory = -1

    def attach(self, pause: int) -> None:
        """Open the directory of the sandbox whose pause process has the pid *pause*.

        It stays readable after that process has ended.
        """
        self.close()
        with contextlib.suppress(OSError):  # without it there are no messages but those of the logs
            pidfd = os.pidfd_open(pause)
            try:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                directory = os.open(f"/proc/{pause}/root{TERMINATION}", flags)
                if _has_ended(pidfd):  # then the pid may have been another process's
                    os.close(directory)
                else:
                    self._directory = directory
            finally:
                os.close(pidfd)

    def close(self) -> None:
        """Let go of the directory."""
        if self._directory >= 0:
            os.close(self._directory)
        self._directory = -1

    def read(self, container: Container, record: ContainerRecord, log: str, exit_code: int) -> str:
        """Return the message of the run that has just ended; *log* is the path of its log."""
        message = self._file(termination_file(record.name, record.attempt))
        policy = container.termination_message_policy
        if not message and exit_code != 0 and policy == "FallbackToLogsOnError":
            message = _end_of_log(log)
        return message.decode(errors="replace")

    def discard(self, record: ContainerRecord) -> None:
        """Remove the file of a run that is no more needed."""
        if self._directory >= 0:
            with contextlib.suppress(OSError):
                os.unlink(termination_file(record.name, record.attempt), dir_fd=self._directory)

    def _file(self, name: str) -> bytes:
        if self._directory < 0:
            return b""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=self._directory)
        except OSError:
            return b""
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return b""
            return os.pread(fd, MAX_BYTES, max(0, found.st_size - MAX_BYTES))
        finally:
            os.close(fd)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _end_of_log(path: str) -> bytes:
    lines = logs.last(logs.tail(path, _LOG_TAIL), MAX_LOG_LINES)
    parts = (line.text + ("" if line.partial else "\n") for line in lines)
    return "".join(parts).encode("utf-8", "surrogateescape")[-MAX_LOG_BYTES:]
