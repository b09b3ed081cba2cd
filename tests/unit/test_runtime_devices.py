# SPDX-License-Identifier: GPL-3.0-or-later
"""The device allow-list: its eBPF program, run here, allows exactly what the rules say."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.plan.defaults import DEVICE_RULES, DEVICES
from minipod.runtime.devices import Rule, program, v1_lines

TYPES = {"b": 1, "c": 2}  # linux/bpf.h: BPF_DEVCG_DEV_*
ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_U32 = (1 << 32) - 1


def interpret(code: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """Run *code* as the kernel's verifier would let it: forward jumps, registers written before they are read."""
    mask = sum(ACCESS[letter] for letter in access)
    memory = struct.pack("=III", mask << 16 | TYPES[kind], major, minor)
    registers: dict[int, int | bytes] = {1: memory}

    def number(register: int) -> int:
        value = registers[register]
        assert isinstance(value, int), "arithmetic on a pointer"
        return value

    at = 0
    for _ in range(4096):
        op, both, offset, immediate = struct.unpack_from("=BBhi", code, at * 8)
        dst, src = both & 15, both >> 4
        at += 1
        if op == 0x61:  # LDX W
            base = registers[src]
            assert isinstance(base, bytes) and 0 <= offset <= len(base) - 4 and offset % 4 == 0
            (registers[dst],) = struct.unpack_from("=I", base, offset)
        elif op == 0xBC:  # 32-bit MOV register
            registers[dst] = number(src)
        elif op == 0xB4:  # 32-bit MOV immediate
            registers[dst] = immediate & _U32
        elif op == 0x54:  # 32-bit AND immediate
            registers[dst] = number(dst) & immediate & _U32
        elif op == 0x74:  # 32-bit RSH immediate
            registers[dst] = number(dst) >> immediate
        elif op == 0x56:  # 32-bit JNE immediate
            assert offset >= 0, "only forward: no loops"
            if number(dst) != immediate & _U32:
                at += offset
        elif op == 0x95:  # EXIT
            return number(0)
        else:
            raise AssertionError(f"unexpected instruction {op:#x}")
    raise AssertionError("no end")


def allowed(rules: tuple[Rule, ...], kind: str, major: int, minor: int, access: str) -> bool:
    """Say what the rules mean: one of them covers the whole access."""
    return any(
        kind == rule_kind
        and wanted_major in (-1, major)
        and wanted_minor in (-1, minor)
        and set(access) <= set(granted)
        for rule_kind, wanted_major, wanted_minor, granted in rules
    )


EVERY_ACCESS = ["".join(x) for n in (1, 2, 3) for x in itertools.combinations("mrw", n)]
NUMBERS = (0, 1, 2, 3, 5, 7, 8, 9, 10, 136, 137, 229, 255, 65535, _U32)


def test_the_default_rules_over_all_that_matters() -> None:
    code = program(DEVICE_RULES)
    for kind, major, minor, access in itertools.product("bc", NUMBERS, NUMBERS, EVERY_ACCESS):
        expected = allowed(DEVICE_RULES, kind, major, minor, access)
        assert interpret(code, kind, major, minor, access) == expected, (kind, major, minor, access)


@pytest.mark.parametrize(
    ("kind", "major", "minor", "access", "expected"),
    [
        *(("c", major, minor, "rw", True) for _, major, minor in DEVICES),
        ("c", 5, 1, "rw", True),  # console
        ("c", 5, 2, "rw", True),  # ptmx
        ("c", 136, 7, "rw", True),  # pts/7
        ("c", 1, 1, "r", False),  # /dev/mem
        ("c", 1, 1, "m", True),  # a node of anything may be made, not opened
        ("b", 8, 0, "r", False),  # sda
        ("b", 8, 0, "m", True),
        ("b", 8, 0, "rm", False),
        ("c", 10, 200, "rw", False),  # tun
        ("c", 10, 229, "rw", False),  # fuse
        ("c", 10, 232, "rw", False),  # kvm
        ("b", 1, 3, "rw", False),  # null's numbers, but a block device
        ("c", 137, 0, "rw", False),
    ],
)
def test_known_devices(kind: str, major: int, minor: int, access: str, expected: bool) -> None:
    assert interpret(program(DEVICE_RULES), kind, major, minor, access) == expected


RULES = st.tuples(
    st.sampled_from("bc"),
    st.sampled_from([-1, 0, 1, 136, 4095]),
    st.sampled_from([-1, 0, 3, 1048575]),
    st.sampled_from(EVERY_ACCESS),
)


@given(
    st.lists(RULES, max_size=12).map(tuple),
    st.sampled_from("bc"),
    st.sampled_from([0, 1, 2, 136, 4095]),
    st.sampled_from([0, 3, 4, 1048575]),
    st.sampled_from(EVERY_ACCESS),
)
def test_any_rules(rules: tuple[Rule, ...], kind: str, major: int, minor: int, access: str) -> None:
    made = interpret(program(rules), kind, major, minor, access)
    assert made == allowed(rules, kind, major, minor, access)


def test_no_rules_allow_nothing() -> None:
    code = program(())
    assert not any(interpret(code, kind, 1, 3, "r") for kind in "bc")
    assert len(code) % 8 == 0


def test_lines_of_cgroup_v1() -> None:
    assert v1_lines((("c", 1, 3, "rwm"), ("b", -1, -1, "m"), ("c", 136, -1, "rw"))) == [
        "c 1:3 rwm",
        "b *:* m",
        "c 136:* rw",
    ]
    assert len(v1_lines(DEVICE_RULES)) == len(DEVICE_RULES)
