# SPDX-License-Identifier: GPL-3.0-or-later
"""Launches as bytes: what is packed is what the C structs of wire.h say, and comes back the same."""

from __future__ import annotations

import ast
import errno
import fcntl
import os
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.api import Pod
from minipod.native import ffi, lib
from minipod.plan import Facts
from minipod.plan import steps as s
from minipod.runtime.pack import pack, sealed_memfd
from tests.instance import TOP
from tests.unit.test_plan_any import compile_all, pods
from tests.unit.test_plan_checker import FULL, MACHINES, V1, container, launch_of, pod, sandbox

# Which strings of a step are lists (of how many: num[…]) and which are blobs, as wire.h has it beside enum mp_op.
LISTS = {
    "FS": {1: 1},
    "OVERLAY": {0: 1},
    "MASK": {0: 1},
    "READONLY": {0: 1},
    "EXEC": {0: 0, 1: 1, 2: 2},
    "EXEC_FD": {1: 1, 2: 2},
}
BLOBS = {"WRITE_FILE": (1, 1, 1), "SECCOMP": (0, 1, 1), "IDENTITY": (0, 2, 4)}
OPS = {
    getattr(lib, name): name.removeprefix("MP_OP_")
    for name in dir(lib)
    if name.startswith("MP_OP_")
}
FLAGS = {
    getattr(lib, name): name.removeprefix("MP_F_") for name in dir(lib) if name.startswith("MP_F_")
}


def text_at(strings: bytes, offset: int) -> str:
    """Return the string at *offset*; it ends inside the table."""
    return strings[offset : strings.index(b"\0", offset)].decode("utf-8", "surrogateescape")


def list_at(strings: bytes, offset: int, count: int) -> tuple[str, ...]:
    """Return *count* strings, one after the other."""
    result = []
    for _ in range(count):
        result.append(text_at(strings, offset))
        offset = strings.index(b"\0", offset) + 1
    return tuple(result)


def unpack_step(step: Any, strings: bytes) -> s.Record:
    """Return one struct mp_step as the record that it came from."""
    op = OPS[step.op]
    operands: list[s.Operand] = []
    for i in range(4):
        offset = step.str[i]
        if i in LISTS.get(op, {}):
            operands.append(list_at(strings, offset, step.num[LISTS[op][i]]))
        elif op in BLOBS and BLOBS[op][0] == i:
            _, number, width = BLOBS[op]
            operands.append(strings[offset : offset + step.num[number] * width])
            assert offset % 8 == 0, "struct sock_filter and gid_t want their alignment"
        else:
            operands.append(text_at(strings, offset))
    return s.Record(
        op=op,
        flags=tuple(sorted(name for bit, name in FLAGS.items() if step.flags & bit)),
        in_=getattr(step, "in"),
        out=step.out,
        root=step.root,
        strings=tuple(operands),
        numbers=tuple(step.num),
    )


def unpack(data: bytes) -> tuple[Any, list[s.Record], bytes]:
    """Return head, steps and string table, checked as ``plan_validate`` in native/plan.c does."""
    size, width = ffi.sizeof("struct mp_launch"), ffi.sizeof("struct mp_step")
    head = ffi.new("struct mp_launch *")
    ffi.buffer(head)[:] = data[:size]
    assert (head.magic, head.version) == (lib.MP_MAGIC, lib.MP_VERSION)
    assert 0 < head.steps <= lib.MP_MAX_STEPS
    assert len(data) == size + head.steps * width + head.strings <= lib.MP_MAX_PLAN
    strings = data[size + head.steps * width :]
    assert strings[0] == strings[-1] == 0
    steps = ffi.new("struct mp_step[]", head.steps)
    ffi.buffer(steps)[:] = data[size : size + head.steps * width]
    for i, step in enumerate(steps):
        assert step.index == i
        assert all(offset < head.strings for offset in step.str)
        assert all(-1 <= slot < lib.MP_SLOTS for slot in (getattr(step, "in"), step.out, step.root))
    return head, [unpack_step(step, strings) for step in steps], strings


def padded(record: s.Record) -> s.Record:
    """Return *record* as it looks after the journey: four strings, four unsigned numbers."""
    empty: list[s.Operand] = []
    for i in range(len(record.strings), 4):
        is_list = i in LISTS.get(record.op, {})
        empty.append(() if is_list else "")
    numbers = [number % (1 << 64) for number in record.numbers]
    return replace(
        record,
        flags=tuple(sorted(record.flags)),
        strings=(*record.strings, *empty),
        numbers=(*numbers, *[0] * (4 - len(numbers))),
    )


def check_round_trip(launch: s.Launch) -> None:
    """Pack and unpack *launch* and compare everything."""
    head, records, strings = unpack(pack(launch))
    assert records == [padded(step.record()) for step in launch.steps]
    assert head.kind == getattr(lib, f"MP_KIND_{launch.kind}")
    assert head.stdio == getattr(lib, f"MP_STDIO_{launch.stdio}")
    assert head.clone_flags == (0x20000000 if launch.new_pid_namespace else 0)
    assert head.cgroup_slot == (launch.fds.index("cgroup") if launch.into_cgroup else -1)
    assert head.join_slot == launch.join_slot
    assert (head.stdin_slot, head.stdout_slot, head.stderr_slot) == launch.stdio_slots
    assert head.pause_slot == launch.pause_slot
    assert bool(head.join_pid_ns) == launch.join_pid_namespace
    assert bool(head.keep_stdin) == launch.keep_stdin
    assert text_at(strings, head.log_path) == launch.log_path
    assert (head.log_max_files, head.log_max_bytes) == (launch.log_max_files, launch.log_max_bytes)
    assert ffi.string(head.join).decode() == launch.join
    assert ffi.string(head.pid_of).decode() == launch.pid_of
    assert head.user_slot == launch.user_slot


@pytest.mark.parametrize("machine", MACHINES)
def test_round_trip(machine: str) -> None:
    for plan in compile_all(FULL, {"host": "directory"}, MACHINES[machine]):
        check_round_trip(launch_of(plan))


@settings(max_examples=40, deadline=None)
@given(pods(), st.sampled_from(sorted(MACHINES)))
def test_round_trip_of_any_pod(drawn: tuple[Pod, dict[str, str]], machine: str) -> None:
    facts: Facts = MACHINES[machine]
    for plan in compile_all(*drawn, facts):
        check_round_trip(launch_of(plan))


def test_every_kind_of_step_has_an_operation() -> None:
    kinds = {
        kind
        for kind in vars(s).values()
        if isinstance(kind, type) and issubclass(kind, s.NamespaceStep)
    }
    used = set()
    for machine in MACHINES.values():
        for plan in compile_all(FULL, {"host": "directory"}, machine):
            used |= {step.record().op for step in launch_of(plan).steps}
    assert used <= set(OPS.values())
    assert len(kinds - {s.NamespaceStep}) == len(set(OPS.values()) - {"COUNT"})


def operations() -> dict[str, str]:
    """Return the operands of each operation, as wire.h lists them in the comment beside it."""
    text = (TOP / "native" / "wire.h").read_text()
    return dict(
        re.findall(r"^  MP_OP_(\w+?)(?: = 1)?,\s*/\*(.*?)\*/", text, re.DOTALL | re.MULTILINE)
    )


def written_records() -> dict[str, list[ast.Call]]:
    """Return every ``Record("OP", …)`` that the steps are turned into."""
    found: dict[str, list[ast.Call]] = {}
    for path in sorted((TOP / "minipod" / "plan" / "steps").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Record":
                assert isinstance(node.args[0], ast.Constant), "the operation is no constant"
                found.setdefault(str(node.args[0].value), []).append(node)
    return found


def operands_of(call: ast.Call) -> set[str]:
    """Return which operands a record has, in the words of wire.h."""
    named = {word.arg: word.value for word in call.keywords}
    used = {"in" if name == "in_" else name for name in named if name in ("in_", "out", "root")}
    for name, short in (("strings", "str"), ("numbers", "num")):
        if isinstance(value := named.get(name), ast.Tuple):
            # One that is 0, "" or () only keeps the place of the next.
            nothing = [ast.unparse(element) in ("0", "''", "()") for element in value.elts]
            used |= {f"{short}[{i}]" for i, none in enumerate(nothing) if not none}
    return used


def test_every_operation_has_its_record_its_row_and_its_check() -> None:
    """In wire.h, in the steps, in the interpreter's table, and in the validator: nothing forgotten, nothing left."""
    listed = operations()
    assert set(listed) == set(OPS.values()) - {"COUNT"} == set(written_records())
    for source, pattern in (
        ("steps.c", r"\[MP_OP_(\w+)\] = do_"),
        ("plan.c", r"case MP_OP_(\w+):"),
    ):
        rows = re.findall(pattern, (TOP / "native" / source).read_text())
        assert sorted(rows) == sorted(listed), source


@pytest.mark.parametrize("op", sorted(operations()))
def test_a_record_has_the_operands_that_wire_h_lists(op: str) -> None:
    words = set(re.findall(r"\b(?:in|out|root)\b|(?:str|num)\[\d\]", operations()[op]))
    for call in written_records()[op]:
        assert operands_of(call) <= words


@pytest.mark.parametrize("name", sorted(FLAGS.values()))
def test_every_flag_is_known_to_the_validator(name: str) -> None:
    source = (TOP / "native" / "plan.c").read_text()
    known = re.search(r"KNOWN_FLAGS = (.*?)\}", source, re.DOTALL)
    assert known and f"MP_F_{name}" in re.findall(r"\w+", known[1])


def test_the_same_launch_gives_the_same_bytes() -> None:
    assert pack(container(FULL, host_paths={"host": "directory"})) == pack(
        container(FULL, host_paths={"host": "directory"})
    )


def exec_step(**changes: Any) -> s.Launch:
    step = s.Exec(candidates=("/a",), argv=("a",), env=("A=b",))
    return replace(sandbox(pod()), steps=(replace(step, **changes),))


@pytest.mark.parametrize(
    "launch",
    [
        exec_step(argv=("a", "b\0c")),
        exec_step(env=("A=\0",)),
        exec_step(candidates=("/a\0",)),
        replace(sandbox(pod()), log_path="/x\0y"),
        replace(sandbox(pod()), steps=(s.SetHostname(name="a\0b"),)),
    ],
    ids=["argv", "env", "path", "log", "string"],
)
def test_nul_bytes_are_refused(launch: s.Launch) -> None:
    with pytest.raises(ValueError, match="NUL"):
        pack(launch)


def test_nul_bytes_in_blobs_are_kept() -> None:
    step = s.LoadSeccomp(program=b"\0\1\0\2\0\3\0\4", profile="p")
    _, (record,), _ = unpack(pack(replace(sandbox(pod()), steps=(step,))))
    assert record.strings[0] == step.program


@pytest.mark.parametrize("length", range(10))
def test_blobs_lie_at_multiples_of_eight(length: int) -> None:
    name = s.SetHostname(name="h" * length)  # shifts what comes after
    blob = s.LoadSeccomp(program=bytes(range(1, length + 1)) * 8, profile="p")
    file = s.WriteFile(path="/f", root=-1, content="c" * length)
    launch = replace(sandbox(pod()), steps=(name, blob, file, s.SetIdentity(uid=1, gid=2)))
    check_round_trip(launch)


def test_negative_numbers_are_twos_complement() -> None:
    step = s.SetOomScoreAdj(proc=0, value=-997)
    _, (record,), _ = unpack(pack(replace(sandbox(pod()), steps=(step,))))
    assert record.numbers[0] == (1 << 64) - 997


def test_equal_strings_share_their_place() -> None:
    once = replace(sandbox(pod()), steps=(s.SetHostname(name="x" * 100),))
    twice = replace(once, steps=once.steps * 2)
    step = ffi.sizeof("struct mp_step")
    assert len(pack(twice)) == len(pack(once)) + step
    # A list and a string of the same letters are two things.
    mixed = replace(
        once,
        steps=(
            s.SetHostname(name="a"),
            s.MaskPaths(root=-1, paths=("a",)),
            s.MaskPaths(root=-1, paths=("a", "b")),
            s.WriteFile(path="a", root=-1, content="a"),
            s.MaskPaths(root=-1, paths=()),
            s.MaskPaths(root=-1, paths=("", "")),
        ),
    )
    check_round_trip(mixed)


def test_bytes_that_are_no_utf8_come_back() -> None:
    check_round_trip(exec_step(argv=("\udcff\udc80", "ü")))


def test_a_join_that_is_too_long_is_refused() -> None:
    with pytest.raises((IndexError, ValueError)):
        pack(replace(sandbox(pod()), join="x" * (lib.MP_KEY_SIZE + 1)))
    longest = container(pod(), V1)
    assert len(longest.join) < lib.MP_KEY_SIZE


def test_a_sealed_memfd_never_changes() -> None:
    fd = sealed_memfd("plan", b"data" * 1000)
    try:
        assert os.pread(fd, 5000, 0) == b"data" * 1000
        for change in (
            lambda: os.pwrite(fd, b"x", 0),
            lambda: os.ftruncate(fd, 1),
            lambda: os.ftruncate(fd, 5000),
            lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
        ):
            with pytest.raises(PermissionError) as error:
                change()
            assert error.value.errno == errno.EPERM
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
