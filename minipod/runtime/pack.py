# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns a :class:`~minipod.plan.steps.Launch` into the bytes that the shim takes: ``native/wire.h``'s structs."""

from __future__ import annotations

import fcntl
import os
from functools import cache

from minipod.native import ffi, lib
from minipod.plan.steps import Launch, Operand, Record

_U64 = (1 << 64) - 1
CLONE_NEWPID = 0x20000000


@cache
def _op(name: str) -> int:
    return int(getattr(lib, f"MP_OP_{name}"))


@cache
def _flags(names: tuple[str, ...]) -> int:
    result = 0
    for name in names:
        result |= int(getattr(lib, f"MP_F_{name}"))
    return result


class _Strings:
    """The string table: offset 0 is the empty string; equal operands share their place."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0" * 8)
        self._places: dict[Operand, int] = {"": 0}

    def add(self, operand: Operand) -> int:
        place = self._places.get(operand)
        if place is not None:
            return place
        if isinstance(operand, bytes):
            self.data += b"\0" * (-len(self.data) % 8)  # struct sock_filter wants its alignment
            place = len(self.data)
            self.data += operand + b"\0"
        else:
            place = len(self.data)
            for item in (operand,) if isinstance(operand, str) else operand:
                raw = item.encode("utf-8", "surrogateescape")
                if b"\0" in raw:
                    raise ValueError(f"a NUL byte in {item!r}")
                self.data += raw + b"\0"
        if operand == ():
            place = 0
        self._places[operand] = place
        return place


def pack(launch: Launch, *, timed: bool = False) -> bytes:
    """Return *launch* in wire form; *timed*: with its answer come the times of its steps.

    Raises:
        ValueError: a string holds a NUL byte.
    """
    strings = _Strings()
    steps = ffi.new("struct mp_step[]", len(launch.steps))
    for index, step in enumerate(launch.steps):
        _fill(steps[index], index, step.record(), strings)
    head = ffi.new("struct mp_launch *")
    head.magic = lib.MP_MAGIC
    head.version = lib.MP_VERSION
    head.kind = getattr(lib, f"MP_KIND_{launch.kind}")
    head.stdio = getattr(lib, f"MP_STDIO_{launch.stdio}")
    head.steps = len(launch.steps)
    head.clone_flags = CLONE_NEWPID if launch.new_pid_namespace else 0
    head.cgroup_slot = launch.fds.index("cgroup") if launch.into_cgroup else -1
    head.join_slot = launch.join_slot
    head.stdin_slot, head.stdout_slot, head.stderr_slot = launch.stdio_slots
    head.pause_slot = launch.pause_slot
    head.user_slot = launch.user_slot
    head.timed = timed
    head.join_pid_ns = launch.join_pid_namespace
    head.keep_stdin = launch.keep_stdin
    head.log_path = strings.add(launch.log_path)
    head.log_max_files = launch.log_max_files
    head.log_max_bytes = launch.log_max_bytes
    head.join = launch.join.encode()
    head.pid_of = launch.pid_of.encode()
    head.strings = len(strings.data)
    return bytes(ffi.buffer(head)) + bytes(ffi.buffer(steps)) + bytes(strings.data)


def _fill(step: object, index: int, record: Record, strings: _Strings) -> None:
    s = ffi.cast("struct mp_step *", ffi.addressof(step))
    s.op = _op(record.op)
    s.flags = _flags(record.flags)
    setattr(s, "in", record.in_)
    s.out = record.out
    s.root = record.root
    s.index = index
    for i, operand in enumerate(record.strings):
        s.str[i] = strings.add(operand)
    for i, number in enumerate(record.numbers):
        s.num[i] = number & _U64


def sealed_memfd(name: str, data: bytes) -> int:
    """Return a memory file with *data* that nobody can change any more (``memfd_create(2)``, CVE-2019-5736)."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd
