# SPDX-License-Identifier: GPL-3.0-or-later
"""From a profile (:mod:`minipod.plan.seccomp`) to the BPF program that the launcher loads.

libseccomp makes the program. Two things it cannot say are put in front by hand, as instructions that either return or
fall through, so that its own jumps, which are relative, stay right: ENOSYS for numbers that are newer than the profile,
and rules for system calls that are newer than the libseccomp (runc's way: libcontainer/seccomp/patchbpf).

A call through another interface than the machine's own (i386, x32, arm) is none that the filter could judge:

- i386 and arm, which show as another architecture, kill the process. An error would be no answer: a C library
  whose exit gets ENOSYS spins for ever.
- x32 shows as a number with bit 30 set, thus newer than the profile: ENOSYS, as from a kernel built without x32.

Making a program takes some 40 ms, nearly all of it for loading libseccomp's binding, so programs are kept: in memory,
and in a directory of the caller's choice. A program on disk carries a digest, so that one that was cut off is never
loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import struct
from collections.abc import Iterator
from errno import ENOSYS
from functools import cache
from pathlib import Path
from typing import Any

from minipod.plan.seccomp import NUMBERS, Operator, Profile, Rule

# Part of every cache key: raise it when this module makes another program of the same profile.
_FORMAT = 1

# linux/audit.h
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# linux/filter.h: struct sock_filter {u16 code; u8 jt, jf; u32 k}; linux/seccomp.h: offsets in struct seccomp_data.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x15, 0x25, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH = 0, 4
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000

_NAME_UNKNOWN = -1  # __NR_SCMP_ERROR, seccomp.h
_BINARY_TREE = 2  # SCMP_FLTATR_CTL_OPTIMIZE, seccomp_attr_set(3)

_programs: dict[Profile, bytes] = {}


def compile_profile(profile: Profile, cache_dir: str | None = None) -> bytes:
    """Return *profile* as an array of ``struct sock_filter``, for ``SECCOMP_SET_MODE_FILTER``.

    Args:
        profile: what to compile.
        cache_dir: where programs are kept between runs, ``<hash>.bpf`` each; made when missing. A cache that cannot be
            read or written costs time and is no error.

    Raises:
        OSError: libseccomp is missing, or refuses a rule.
        ValueError: a rule names a system call that nobody knows.
    """
    if (program := _programs.get(profile)) is None:
        path = Path(cache_dir, f"{_key(profile)}.bpf") if cache_dir else None
        program = _read(path) if path else None
        if program is None:
            program = _compile(profile)
            if path:
                _write(path, program)
        _programs[profile] = program
    return program


def _key(profile: Profile) -> str:
    parts = (_FORMAT, _library_version(), sorted(NUMBERS.items()), profile)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


# ---- the cache on disk: a SHA-256 of the program, the program -----------------------------------------------------


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, program = data[:32], data[32:]
    return program if hashlib.sha256(program).digest() == digest else None


def _write(path: Path, program: bytes) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        fd = os.open(
            partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            with open(fd, "wb") as file:
                file.write(hashlib.sha256(program).digest() + program)
            os.replace(partial, path)
        except OSError:
            partial.unlink()
            raise


# ---- the compiler -------------------------------------------------------------------------------------------------


@cache
def _library_version() -> tuple[int, int, int]:
    """Ask libseccomp itself: its binding, which takes long to load, is for those who must compile."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise OSError(f"{error}: install libseccomp (package libseccomp2)") from error

    class Version(ctypes.Structure):
        _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]

    library.seccomp_version.argtypes = ()
    library.seccomp_version.restype = ctypes.POINTER(Version)
    version = library.seccomp_version().contents
    return version.major, version.minor, version.micro


def _compile(profile: Profile) -> bytes:
    import pyseccomp  # slow, see above

    arch = _AUDIT_ARCH[profile.machine]
    program = pyseccomp.SyscallFilter(pyseccomp.ERRNO(profile.default_errno))
    if arch != pyseccomp.system_arch():
        program.add_arch(arch)
        program.remove_arch(pyseccomp.Arch.NATIVE)
    program.set_attr(pyseccomp.Attr.ACT_BADARCH, _KILL_PROCESS)
    program.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    unnamed = []
    for rule in profile.rules:
        number = pyseccomp.resolve_syscall(arch, rule.name)
        if number == _NAME_UNKNOWN:
            unnamed.append(rule)
        elif number >= 0:  # another negative number: there is no such system call on this machine
            _add(program, rule)
    return b"".join(_prologue(profile, arch, unnamed)) + _export(program)


def _add(program: Any, rule: Rule) -> None:
    import pyseccomp

    operators = {
        Operator.LESS: pyseccomp.LT,
        Operator.EQUAL: pyseccomp.EQ,
        Operator.MASKED_EQUAL: pyseccomp.MASKED_EQ,
    }
    arguments = [
        # A masked comparison has the mask first (seccomp_rule_add(3)).
        pyseccomp.Arg(c.index, operators[c.operator], c.mask, c.value)
        if c.operator is Operator.MASKED_EQUAL
        else pyseccomp.Arg(c.index, operators[c.operator], c.value)
        for c in rule.comparisons
    ]
    action = pyseccomp.ERRNO(rule.errno) if rule.errno else pyseccomp.ALLOW
    program.add_rule(action, rule.name, *arguments)


def _export(program: Any) -> bytes:
    with open(os.memfd_create("seccomp", os.MFD_CLOEXEC), "w+b", buffering=0) as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


def _prologue(profile: Profile, arch: int, unnamed: list[Rule]) -> Iterator[bytes]:
    """Yield instructions that return, or fall through into libseccomp's, which load and check all anew."""
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _OFFSET_ARCH)
    yield _INSTRUCTION.pack(_JUMP_EQUAL, 1, 0, arch)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _KILL_PROCESS)
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _OFFSET_NUMBER)
    yield _INSTRUCTION.pack(_JUMP_GREATER, 0, 1, profile.newest)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | ENOSYS)
    for rule in unnamed:
        if rule.name not in NUMBERS or rule.comparisons:
            raise ValueError(
                f"system call {rule.name}: unknown to libseccomp {_library_version()} and to us"
            )
        yield _INSTRUCTION.pack(_JUMP_EQUAL, 0, 1, NUMBERS[rule.name])
        yield _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | rule.errno if rule.errno else _ALLOW)
