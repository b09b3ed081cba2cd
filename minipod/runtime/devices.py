# SPDX-License-Identifier: GPL-3.0-or-later
"""The device allow-list of a cgroup: lines for cgroup v1, a small eBPF program for cgroup v2.

The program gets ``struct bpf_cgroup_dev_ctx {u32 access_type; u32 major; u32 minor;}``, where access_type is
``access << 16 | type`` (linux/bpf.h). It compares rule by rule and returns 1 for the first that matches, else 0.
"""

from __future__ import annotations

import struct

Rule = tuple[str, int, int, str]

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_LDX_W, _MOV_REG, _AND_IMM, _RSH_IMM, _JNE_IMM, _JNE_REG = 0x61, 0xBC, 0x54, 0x74, 0x56, 0x5E
_MOV_IMM, _EXIT = 0xB4, 0x95


def v1_lines(rules: tuple[Rule, ...]) -> list[str]:
    """Return *rules* as lines for ``devices.allow``."""

    def shown(number: int) -> str:
        return "*" if number < 0 else str(number)

    return [
        f"{kind} {shown(major)}:{shown(minor)} {access}" for kind, major, minor, access in rules
    ]


def _instruction(
    code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0
) -> bytes:
    return struct.pack("<BBhi", code, src << 4 | dst, offset, immediate)


def program(rules: tuple[Rule, ...]) -> bytes:
    """Return the eBPF program that allows exactly *rules*.

    Registers: r2 type, r3 access, r4 major, r5 minor; r1 is the context, r0 the verdict.
    """
    code = [
        _instruction(_LDX_W, 2, 1, 0),
        _instruction(_MOV_REG, 3, 2),
        _instruction(_AND_IMM, 2, immediate=0xFFFF),
        _instruction(_RSH_IMM, 3, immediate=16),
        _instruction(_LDX_W, 4, 1, 4),
        _instruction(_LDX_W, 5, 1, 8),
    ]
    for rule in rules:
        code += _rule(rule)
    code += [_instruction(_MOV_IMM, 0, immediate=0), _instruction(_EXIT)]
    return b"".join(code)


def _rule(rule: Rule) -> list[bytes]:
    kind, major, minor, access = rule
    mask = sum(_ACCESS[letter] for letter in access)
    # Each test jumps past the rest of its rule, to the next one; offsets are filled in once the length is known.
    tests: list[tuple[int, int, int, int]] = [(_JNE_IMM, 2, 0, _TYPES[kind])]
    prepare: list[bytes] = []
    if mask != 7:
        # access & ~mask must be 0: r1 is free until the next rule only as a scratch copy in r0
        prepare = [_instruction(_MOV_REG, 0, 3), _instruction(_AND_IMM, 0, immediate=~mask & 7)]
        tests.append((_JNE_IMM, 0, 0, 0))
    if major >= 0:
        tests.append((_JNE_IMM, 4, 0, major))
    if minor >= 0:
        tests.append((_JNE_IMM, 5, 0, minor))
    verdict = [_instruction(_MOV_IMM, 0, immediate=1), _instruction(_EXIT)]
    body: list[bytes | tuple[int, int, int, int]] = [*prepare, *tests, *verdict]
    result = []
    for index, item in enumerate(body):
        if isinstance(item, bytes):
            result.append(item)
        else:
            code, dst, src, immediate = item
            result.append(_instruction(code, dst, src, len(body) - index - 1, immediate))
    return result
