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

from minipod.plan.seccomp import MENTIONED, NUMBERS, Operator, Profile, Rule

# Part of every cache key: raise it when this module makes another program of the same profile.
_FORMAT = 2

# linux/audit.h
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# linux/filter.h: struct sock_filter {u16 code; u8 jt, jf; u32 k}; linux/seccomp.h: offsets in struct seccomp_data.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_X32_BIT = 0x40000000  # arch/x86/include/uapi/asm/unistd.h
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
    default = profile.default_action
    program = pyseccomp.SyscallFilter(
        pyseccomp.ERRNO(profile.default_errno) if default is None else default
    )
    if arch != pyseccomp.system_arch():
        program.add_arch(arch)
        program.remove_arch(pyseccomp.Arch.NATIVE)
    for interface in profile.interfaces:
        program.add_arch(getattr(pyseccomp.Arch, interface))
    program.set_attr(pyseccomp.Attr.ACT_BADARCH, _KILL_PROCESS)
    program.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    unnamed, newest = [], 0
    for rule in profile.rules:
        number = pyseccomp.resolve_syscall(arch, rule.name)
        newest = max(newest, number, NUMBERS.get(rule.name, 0))
        if number == _NAME_UNKNOWN:
            unnamed.append(rule)
        elif number >= 0 or profile.interfaces:
            # Another negative number: there is no such system call on this machine, but maybe in its other interfaces.
            _add(program, rule)
    if profile.newest != MENTIONED:
        newest = -1 if profile.newest is None else profile.newest
    unnamed = [rule for rule in unnamed if _must_be_known(profile, rule)]
    return b"".join(_prologue(profile, arch, newest, unnamed)) + _export(program)


def _must_be_known(profile: Profile, rule: Rule) -> bool:
    """Whether a rule for a name that libseccomp does not know matters.

    In a profile from elsewhere it does not when it allows what is refused without it, too: as with runc.
    """
    if profile.default_action is None:
        return True
    return (rule.name in NUMBERS and not rule.comparisons) or rule.action != _ALLOW


def _add(program: Any, rule: Rule) -> None:
    import pyseccomp

    operators = {
        Operator.NOT_EQUAL: pyseccomp.NE,
        Operator.LESS: pyseccomp.LT,
        Operator.LESS_EQUAL: pyseccomp.LE,
        Operator.EQUAL: pyseccomp.EQ,
        Operator.GREATER_EQUAL: pyseccomp.GE,
        Operator.GREATER: pyseccomp.GT,
        Operator.MASKED_EQUAL: pyseccomp.MASKED_EQ,
    }
    arguments = [
        # A masked comparison has the mask first (seccomp_rule_add(3)).
        pyseccomp.Arg(c.index, operators[c.operator], c.mask, c.value)
        if c.operator is Operator.MASKED_EQUAL
        else pyseccomp.Arg(c.index, operators[c.operator], c.value)
        for c in rule.comparisons
    ]
    program.add_rule(_verdict(rule), rule.name, *arguments)


def _verdict(rule: Rule) -> int:
    if rule.action is not None:
        return rule.action
    return _ERRNO | rule.errno if rule.errno else _ALLOW


def _export(program: Any) -> bytes:
    with open(os.memfd_create("seccomp", os.MFD_CLOEXEC), "w+b", buffering=0) as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


def _prologue(profile: Profile, arch: int, newest: int, unnamed: list[Rule]) -> Iterator[bytes]:
    """Yield instructions that return, or fall through into libseccomp's, which load and check all anew."""
    checks = list(_native_checks(profile, newest, unnamed))
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _OFFSET_ARCH)
    if profile.interfaces:
        # What comes through another interface is for libseccomp alone: its numbers mean something else.
        yield _INSTRUCTION.pack(_JUMP_EQUAL, 0, len(checks), arch)
    else:
        yield _INSTRUCTION.pack(_JUMP_EQUAL, 1, 0, arch)
        yield _INSTRUCTION.pack(_RETURN, 0, 0, _KILL_PROCESS)
    yield from checks


def _native_checks(profile: Profile, newest: int, unnamed: list[Rule]) -> Iterator[bytes]:
    tests = []
    if newest >= 0:
        tests += [
            _INSTRUCTION.pack(_JUMP_GREATER, 0, 1, newest),
            _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | ENOSYS),
        ]
    for rule in unnamed:
        if rule.name not in NUMBERS or rule.comparisons:
            raise ValueError(
                f"system call {rule.name}: unknown to libseccomp {_library_version()} and to us"
            )
        tests += [
            _INSTRUCTION.pack(_JUMP_EQUAL, 0, 1, NUMBERS[rule.name]),
            _INSTRUCTION.pack(_RETURN, 0, 0, _verdict(rule)),
        ]
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _OFFSET_NUMBER)
    if "X32" in profile.interfaces:
        yield _INSTRUCTION.pack(_JUMP_GREATER_EQUAL, len(tests), 0, _X32_BIT)
    yield from tests
