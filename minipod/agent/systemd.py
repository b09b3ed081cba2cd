# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd and the agent have to say to each other: that it is ready, a socket, and lines for the journal.

The protocols are those of sd_notify(3), sd_listen_fds(3) and sd-daemon(3); each is a few lines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys

from minipod.errors import MinipodError

_FIRST_FD = 3  # SD_LISTEN_FDS_START
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # syslog(3)


def notify_ready() -> None:
    """Tell systemd that requests are answered from now on, if it is waiting for that (Type=notify)."""
    path = os.environ.pop("NOTIFY_SOCKET", None)
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.send(b"READY=1")


def inherited_socket(path: str) -> socket.socket | None:
    """Return the listening socket that systemd made for us (a .socket unit), or None.

    The variables that tell of it are removed: they are not for the programs that we start.

    Args:
        path: where the agent is to be reached.

    Raises:
        MinipodError: systemd listens somewhere else, where no command would look.
    """
    owner = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if owner != str(os.getpid()) or count in ("", "0"):
        return None
    listener = socket.socket(fileno=_FIRST_FD)
    os.set_inheritable(_FIRST_FD, False)
    kind = (
        listener.family,
        listener.type,
        listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    )
    name = listener.getsockname() if listener.family == socket.AF_UNIX else "no unix socket"
    if count != "1" or kind != (socket.AF_UNIX, socket.SOCK_STREAM, 1) or name != path:
        listener.close()
        raise MinipodError(
            f"systemd listens for the agent at {name!r} (sockets: {count}), commands look for it at {path}",
            f"let minipod-agent.socket have one line, ListenStream={path}",
        )
    return listener


class JournalFormatter(logging.Formatter):
    """Puts the priority in front of each line, and leaves the time to the journal."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        number = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{number}>{line}" for line in super().format(record).splitlines())


def set_up_log() -> None:
    """Log to standard error, in the journal's way if that is where it leads (JOURNAL_STREAM of systemd.exec(5))."""
    handler = logging.StreamHandler()
    state = os.fstat(sys.stderr.fileno())
    if os.environ.pop("JOURNAL_STREAM", "") == f"{state.st_dev}:{state.st_ino}":
        handler.setFormatter(JournalFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
