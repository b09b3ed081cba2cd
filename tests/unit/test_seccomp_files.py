# SPDX-License-Identifier: GPL-3.0-or-later
"""Seccomp profiles from files: what is understood, what is refused, and what the filters then do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minipod.api import SeccompProfile, SecurityContext
from minipod.errors import MinipodError
from minipod.plan.seccompfile import Situation, parse_profile
from minipod.runtime import seccomp
from minipod.runtime.filters import Filters
from tests.unit.test_seccomp import ALLOW, I386, KILL, X32, run

HERE = Situation("x86_64", frozenset({"CHOWN"}), (6, 1))
ERRNO, LOG, TRACE = 0x50000, 0x7FFC0000, 0x7FF00000
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38
# arch/x86/entry/syscalls/syscall_64.tbl
READ, WRITE, SOCKET, KCMP, MKDIR, UNSHARE, CLONE = 0, 1, 41, 312, 83, 272, 56


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_programs", {})


def program(situation: Situation = HERE, **profile: Any) -> bytes:
    made, _ = parse_profile(json.dumps(profile).encode(), situation)
    return seccomp.compile_profile(made)


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


def test_what_is_allowed_and_the_rest() -> None:
    made = program(defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("read", "write", "kcmp")])
    assert [run(made, number) for number in (READ, WRITE, KCMP)] == [ALLOW] * 3
    assert run(made, SOCKET) == EPERM
    # Newer than anything that the profile knows: as from an old kernel, so that programs fall back (runc).
    assert run(made, KCMP + 1) == run(made, 450) == ENOSYS


def test_errors_of_ones_own() -> None:
    made = program(
        defaultAction="SCMP_ACT_ERRNO",
        defaultErrnoRet=13,
        syscalls=[rule("kcmp", action="SCMP_ACT_ERRNO", errnoRet=95), rule("setns")],
    )
    assert (run(made, READ), run(made, KCMP)) == (ERRNO | 13, ERRNO | 95)


def test_a_list_of_what_is_refused() -> None:
    made = program(
        defaultAction="SCMP_ACT_ALLOW",
        syscalls=[
            rule("mkdir", action="SCMP_ACT_ERRNO"),
            rule("socket", action="SCMP_ACT_KILL_PROCESS"),
            rule("unshare", action="SCMP_ACT_LOG"),
            rule("kcmp", action="SCMP_ACT_TRACE", errnoRet=7),
        ],
    )
    calls = (READ, MKDIR, SOCKET, UNSHARE, KCMP, 450, 1000)
    expected = [ALLOW, EPERM, KILL, LOG, TRACE | 7, ALLOW, ALLOW]
    assert [run(made, number) for number in calls] == expected


@pytest.mark.parametrize(
    ("op", "value", "yes", "no"),
    [
        ("NE", 5, (4, 6), (5,)),
        ("LT", 5, (4,), (5, 6)),
        ("LE", 5, (4, 5), (6,)),
        ("EQ", 5, (5,), (4, 6)),
        ("GE", 5, (5, 6), (4,)),
        ("GT", 5, (6,), (4, 5)),
    ],
)
def test_comparisons(op: str, value: int, yes: tuple[int, ...], no: tuple[int, ...]) -> None:
    arg = {"index": 1, "value": value, "op": f"SCMP_CMP_{op}"}
    made = program(defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("socket", "setns", args=[arg])])
    assert {run(made, SOCKET, 0, number) for number in yes} == {ALLOW}
    assert {run(made, SOCKET, 0, number) for number in no} == {EPERM}


def test_a_masked_comparison() -> None:
    arg = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    made = program(defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("clone", "setns", args=[arg])])
    assert run(made, CLONE, 17) == ALLOW
    assert run(made, CLONE, 0x10000000 | 17) == EPERM


def test_conditions_are_and_unless_they_are_on_one_argument() -> None:
    both = [
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"},
    ]
    made = program(defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("socket", "setns", args=both)])
    assert [run(made, SOCKET, 1, n) for n in (2, 3)] == [ALLOW, EPERM]
    either = [{"index": 0, "value": n, "op": "SCMP_CMP_EQ"} for n in (1, 2)]
    made = program(defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("socket", "setns", args=either)])
    assert [run(made, SOCKET, n) for n in (1, 2, 3)] == [ALLOW, ALLOW, EPERM]


def test_mobys_conditions() -> None:
    profile: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {
                "architecture": "SCMP_ARCH_X86_64",
                "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            },
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": [
            rule("read", includes={"caps": ["CAP_CHOWN"]}),
            rule("write", includes={"caps": ["CAP_SYS_ADMIN"]}),
            rule("socket", excludes={"caps": ["CAP_SYS_ADMIN"]}),
            rule("kcmp", includes={"minKernel": "4.8"}),
            rule("mkdir", includes={"minKernel": "99.1"}),
            rule("unshare", includes={"arches": ["amd64", "x32"]}),
            rule("clone", includes={"arches": ["arm64"]}),
        ],
    }
    made = program(**profile)
    allowed = {
        n for n in (READ, WRITE, SOCKET, KCMP, MKDIR, UNSHARE, CLONE) if run(made, n) == ALLOW
    }
    assert allowed == {READ, SOCKET, KCMP, UNSHARE}
    # 3 is read on i386; and x32 is this machine's own with a bit set.
    assert run(made, 3, arch=I386) == ALLOW
    assert run(made, 4, arch=I386) == EPERM
    assert run(made, X32 | READ) == ALLOW
    assert run(made, X32 | WRITE) == EPERM


def test_without_other_interfaces_they_are_refused() -> None:
    made = program(
        defaultAction="SCMP_ACT_ALLOW",
        architectures=["SCMP_ARCH_X86_64"],
        syscalls=[rule("mkdir", action="SCMP_ACT_ERRNO")],
    )
    assert run(made, 3, arch=I386) == KILL


def test_flags() -> None:
    data = {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}
    assert parse_profile(json.dumps(data).encode(), HERE)[1] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "the profile is not an object"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        (" " * (1 << 20) + "{}", "it has more than 1048576 bytes"),
        ("{}", "defaultAction None is not one of"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscall": []}', "an unknown field 'syscall'"),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "nothing listens here"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}', "nothing listens here"),
        ('{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}', "from 0 to 65535"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}', "flag 'X' is not one of"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}', "syscalls is not a list"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}', "syscalls[0]: names is not"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], '
            '"action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]}',
            "index is not a number from 0 to 5",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], '
            '"action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "EQ"}]}]}',
            "op 'EQ' is not one of",
        ),
    ],
)
def test_what_is_no_profile(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        parse_profile(text.encode(), HERE)


def test_a_call_that_nobody_knows_may_be_allowed_and_not_refused() -> None:
    program(defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("no_such_call", "read")])
    refusing = [rule("no_such_call", action="SCMP_ACT_ERRNO")]
    with pytest.raises(ValueError, match="system call no_such_call"):
        program(defaultAction="SCMP_ACT_ALLOW", syscalls=refusing)


# ---- which filter a container gets ----------------------------------------------------------------------------


def of(tmp_path: Path, **security: Any) -> tuple[bool, str]:
    made = Filters("x86_64", str(tmp_path)).of(SecurityContext(**security))
    return bool(made.program), made.profile


def test_kinds(tmp_path: Path) -> None:
    default, bare = SeccompProfile("RuntimeDefault"), SeccompProfile("Unconfined")
    assert of(tmp_path) == of(tmp_path, seccomp_profile=default) == (True, "RuntimeDefault")
    assert of(tmp_path, seccomp_profile=bare) == (False, "Unconfined")
    assert of(tmp_path, privileged=True, seccomp_profile=default) == (False, "Unconfined")


def test_files(tmp_path: Path) -> None:
    local = SeccompProfile("Localhost", "team/one.json")
    with pytest.raises(MinipodError, match=r"seccomp profile not found: .*/seccomp/team/one\.json"):
        of(tmp_path, seccomp_profile=local)
    (tmp_path / "seccomp" / "team").mkdir(parents=True)
    file = tmp_path / "seccomp" / "team" / "one.json"
    file.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert of(tmp_path, seccomp_profile=local) == (True, "Localhost team/one.json")
    file.write_text('{"defaultAction": "SCMP_ACT_ALLOWED"}')
    with pytest.raises(MinipodError, match="is not one of"):
        of(tmp_path, seccomp_profile=local)
    file.unlink()
    file.symlink_to("/etc/passwd")
    with pytest.raises(MinipodError):
        of(tmp_path, seccomp_profile=local)
