# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc says of processes: namespaces, pids inside and outside, ids, times (``proc(5)``, ``namespaces(7)``).

Text in there may be a container's (names, arguments): it is bounded here, and escaped by whoever prints it.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

NAMESPACES = ("net", "uts", "ipc", "pid", "mnt", "cgroup", "user", "time")
"""In the order in which they are shown."""

_MAX_WORDS = 4096  # bytes of a command line
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process.

    Attributes:
        pid, parent: as the host counts.
        pids: its pid in each PID namespace it is in, the host's first (``NSpid``).
        name: of its program, up to 15 bytes.
        command: its command line in words; empty for a kernel thread or a zombie.
        state: R, S, D, T, Z … (``proc_pid_stat(5)``).
        uid, gid: effective, as the host counts.
        inner_uid, inner_gid: as its own user namespace counts; -1 when they are not mapped there.
        ticks: of cpu that it has used; see ``TICKS``.
        started: in ticks since the boot.
        rss: bytes of memory.
        threads: how many.
        capabilities, bounding: its effective and its bounding set, as hexadecimal digits.
    """

    pid: int
    parent: int
    pids: tuple[int, ...]
    name: str
    command: tuple[str, ...]
    state: str
    uid: int
    gid: int
    inner_uid: int
    inner_gid: int
    ticks: int
    started: int
    rss: int
    threads: int
    capabilities: str = ""
    bounding: str = ""


def namespaces(pid: int | str = "self") -> dict[str, int]:
    """Return the inode numbers of the namespaces that a process is in, by kind; without what the kernel lacks.

    Raises:
        OSError: it is gone.
    """
    result = {}
    for kind in NAMESPACES:
        with contextlib.suppress(FileNotFoundError):
            result[kind] = int(os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]"))
    if not result:
        raise ProcessLookupError(3, "has ended", f"/proc/{pid}")
    return result


def process_info(pid: int) -> ProcessInfo:
    """Return what is to be known of a process.

    Raises:
        OSError: it is gone.
    """
    status = dict(
        line.partition(":\t")[::2] for line in _text(f"/proc/{pid}/status", 16384).splitlines()
    )
    stat = _text(f"/proc/{pid}/stat", 4096)
    # The name stands in parentheses and may hold any, so what counts begins behind the last one.
    fields = stat[stat.rindex(")") + 2 :].split()
    uid, gid = (int(status[name].split()[1]) for name in ("Uid", "Gid"))
    pids = tuple(int(word) for word in status.get("NSpid", str(pid)).split())
    return ProcessInfo(
        pid=pid,
        parent=int(fields[1]),
        pids=pids,
        name=stat[stat.index("(") + 1 : stat.rindex(")")],
        command=_command(pid),
        state=fields[0],
        uid=uid,
        gid=gid,
        inner_uid=_inner(pid, "uid", uid),
        inner_gid=_inner(pid, "gid", gid),
        ticks=int(fields[11]) + int(fields[12]),
        started=int(fields[19]),
        rss=int(fields[21]) * PAGE or _exact_rss(pid),
        threads=int(fields[17]),
        capabilities=status.get("CapEff", ""),
        bounding=status.get("CapBnd", ""),
    )


def _command(pid: int) -> tuple[str, ...]:
    with contextlib.suppress(OSError):
        words = _text(f"/proc/{pid}/cmdline", _MAX_WORDS).split("\0")
        return tuple(words[:-1] if words[-1] == "" else words)
    return ()


def _exact_rss(pid: int) -> int:
    """Return the bytes of a process for which the kernel's rough count is none (proc_pid_smaps(5))."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _text(f"/proc/{pid}/smaps_rollup", 4096).splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    return 0


def _inner(pid: int, kind: str, number: int) -> int:
    """Return what the process's own user namespace calls the host's id *number*; -1: nothing (user_namespaces(7))."""
    with contextlib.suppress(OSError, ValueError):
        for line in _text(f"/proc/{pid}/{kind}_map", 16384).splitlines():
            inside, outside, count = map(int, line.split())
            if outside <= number < outside + count:
                return number - outside + inside
    return -1


def _text(path: str, most: int) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while most > 0 and (data := os.read(fd, most)):
            parts.append(data)
            most -= len(data)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def read_text(path: str, most: int) -> str:
    """Return up to *most* bytes of a file of /proc, sysfs or a cgroup.

    Raises:
        OSError: it cannot be read.
    """
    return _text(path, most)
