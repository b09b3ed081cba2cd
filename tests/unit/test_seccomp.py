# SPDX-License-Identifier: GPL-3.0-or-later
"""The default profile, compiled and then run by a small interpreter of classic BPF over every system call number.

seccomp_data and the instructions are those of linux/seccomp.h and linux/bpf_common.h. What is expected is written
as numbers, from the kernel's tables and not from our names, so that a name that went to a wrong number shows.
"""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from minipod.plan.defaults import DEFAULT_CAPABILITIES
from minipod.plan.seccomp import (
    MACHINES,
    NUMBERS,
    Comparison,
    Operator,
    Profile,
    Rule,
    default_profile,
)
from minipod.runtime import seccomp

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
NATIVE = {"x86_64": X86_64, "aarch64": AARCH64}
X32 = 0x40000000

ALLOW = 0x7FFF0000
KILL = 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS

# arch/x86/entry/syscalls/syscall_64.tbl, Linux 6.17: what the default capabilities do not allow.
X86_64_REFUSED = {
    *(103, 134, 136, 139, 153, *range(155, 157), *range(163, 186)),
    *(
        212,
        227,
        *range(236, 240),
        246,
        *range(248, 251),
        256,
        272,
        279,
        298,
        300,
        304,
        308,
        312,
        313,
        320,
        321,
        323,
    ),
    *(*range(425, 434), 438, 440, 442, 443, 450, *range(459, 462)),
}
CLONE3 = 435
X86_64_KNOWN = {*range(336), *range(424, 467)}
CLONE, SOCKET, PERSONALITY = 56, 41, 135

# scripts/syscall.tbl, the same for aarch64. 38 (renameat) and 163, 164 (rlimits) are in its table.
AARCH64_REFUSED = {
    *(18, *range(39, 42), 42, 58, 60, 89, 97, 104, 105, 106, 112, 116, 142, 161, 162, 170),
    *(217, 218, 219, 224, 225, *range(235, 240), 241, 262, 265, 268, 272, 273, 280, 282, 294),
    *(*range(425, 434), 438, 440, 442, 443, 450, *range(459, 462)),
}
AARCH64_KNOWN = {*range(244), *range(260, 295), *range(424, 467)}


def run(program: bytes, number: int, *args: int, arch: int = X86_64) -> int:
    """Run *program* over one system call as the kernel does; what libseccomp does not emit is a KeyError."""
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *args, *[0] * (6 - len(args)))
    jumps = {0x15: int.__eq__, 0x25: int.__gt__, 0x35: int.__ge__, 0x45: int.__and__}
    accumulator = at = 0
    while True:
        code, jump_true, jump_false, k = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            accumulator &= k
        elif code == 0x05:  # BPF_JMP | BPF_JA
            at += k
        elif code == 0x06:  # BPF_RET | BPF_K
            return int(k)
        else:
            at += jump_true if jumps[code](accumulator, k) else jump_false


def compiled(machine: str = "x86_64", *more: str) -> bytes:
    return seccomp.compile_profile(default_profile(DEFAULT_CAPABILITIES | set(more), machine))


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_programs", {})


def test_x86_64_by_number() -> None:
    program = compiled()
    answers = {number: run(program, number) for number in range(1024)}
    allowed = X86_64_KNOWN - X86_64_REFUSED - {CLONE3, SOCKET}
    assert {n for n, answer in answers.items() if answer == ALLOW} == allowed | {SOCKET}
    # EPERM also where Linux had nothing when the profile was made.
    assert {n for n, answer in answers.items() if answer == EPERM} == X86_64_REFUSED | set(
        range(336, 424)
    )
    assert {n for n, answer in answers.items() if answer == ENOSYS} == {CLONE3, *range(467, 1024)}


def test_as_many_are_allowed_as_moby_allows() -> None:
    program = compiled()
    linux_6_17 = {*range(335), *range(424, 470)}
    assert len(linux_6_17) == 381
    assert sum(run(program, number) == ALLOW for number in linux_6_17) == 308


def test_aarch64_by_number() -> None:
    program = compiled("aarch64")
    answers = {number: run(program, number, arch=AARCH64) for number in AARCH64_KNOWN}
    assert {n for n, answer in answers.items() if answer == EPERM} == AARCH64_REFUSED
    assert {n for n, answer in answers.items() if answer == ENOSYS} == {CLONE3}
    assert run(program, 335, arch=AARCH64) == EPERM
    assert run(program, 467, arch=AARCH64) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_other_interfaces(machine: str) -> None:
    program = compiled(machine)
    for arch in {X86_64, I386, AARCH64, ARM} - {NATIVE[machine]}:
        # 1, 4 and 20 are exit, write and getpid on i386, and harmless on every other machine too
        assert {run(program, number, arch=arch) for number in (0, 1, 4, 20, 1000)} == {KILL}
    for number in (0, 1, 39, 466, 520):
        assert run(program, X32 | number, arch=NATIVE[machine]) == ENOSYS
    assert run(program, -1, arch=NATIVE[machine]) == ENOSYS


@pytest.mark.parametrize(
    "family, allowed",
    [
        *((family, True) for family in (1, 2, 10, 11, 16, 17, 39, 41, 45)),
        *((family, False) for family in (12, 37, 38, 40, 46, 1 << 32)),
    ],
)
def test_socket_families(family: int, allowed: bool) -> None:
    assert run(compiled(), SOCKET, family, 1, 0) == (ALLOW if allowed else EPERM)
    assert run(compiled("aarch64"), 198, family, 1, 0, arch=AARCH64) == (
        ALLOW if allowed else EPERM
    )


def test_clone_makes_no_namespace() -> None:
    program = compiled()
    thread = 0x3D0F00  # what pthread_create asks for
    assert run(program, CLONE, thread) == ALLOW
    for flag in (
        0x00020000,
        0x02000000,
        0x04000000,
        0x08000000,
        0x10000000,
        0x20000000,
        0x40000000,
    ):
        assert run(program, CLONE, thread | flag) == EPERM
    assert run(compiled("x86_64", "SYS_ADMIN"), CLONE, 0x10000000) == ALLOW


def test_personality() -> None:
    program = compiled()
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert run(program, PERSONALITY, persona) == ALLOW
    assert run(program, PERSONALITY, 0x0040000) == EPERM  # ADDR_NO_RANDOMIZE


@pytest.mark.parametrize(
    "capability, numbers",
    [
        ("BPF", {321}),
        ("DAC_READ_SEARCH", {304}),
        ("PERFMON", {298}),
        ("SYSLOG", {103}),
        ("SYS_BOOT", {169}),
        ("SYS_MODULE", {175, 176, 313}),
        ("SYS_NICE", {237, 238, 239, 450}),
        ("SYS_PACCT", {163}),
        ("SYS_PTRACE", {312, 438, 440}),
        ("SYS_RAWIO", {172, 173}),
        ("SYS_TIME", {164, 227}),
        ("SYS_TTY_CONFIG", {153}),
        ("NET_ADMIN", set()),
        (
            "SYS_ADMIN",
            {103, 165, 166, 170, 171, 179, 212, 272, 298, 300, 308, 321}
            | {*range(428, 434), CLONE3, 442, 443, *range(459, 462)},
        ),
    ],
)
def test_capabilities_add_calls(capability: str, numbers: set[int]) -> None:
    before, after = compiled(), compiled("x86_64", capability)
    assert {n for n in range(480) if run(before, n) != run(after, n)} == numbers
    assert {run(after, n) for n in numbers} <= {ALLOW}


def test_without_sys_chroot() -> None:
    program = seccomp.compile_profile(
        default_profile(DEFAULT_CAPABILITIES - {"SYS_CHROOT"}, "x86_64")
    )
    assert run(program, 161) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_an_older_libseccomp_gives_the_same_filter(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyseccomp

    expected = compiled(machine)
    assert {run(expected, number, arch=NATIVE[machine]) for number in NUMBERS.values()} >= {
        ALLOW,
        EPERM,
    }
    resolve = pyseccomp.resolve_syscall
    monkeypatch.setattr(
        pyseccomp,
        "resolve_syscall",
        lambda arch, name: -1 if name in NUMBERS else resolve(arch, name),
    )
    seccomp._programs.clear()
    program = compiled(machine)
    assert program != expected
    for number in range(480):
        assert run(program, number, arch=NATIVE[machine]) == run(
            expected, number, arch=NATIVE[machine]
        )


def test_a_name_that_nobody_knows_is_refused() -> None:
    profile = Profile("x86_64", errno.EPERM, 466, (Rule("open_the_pod_bay_doors"),))
    with pytest.raises(ValueError, match="open_the_pod_bay_doors"):
        seccomp.compile_profile(profile)


def test_unknown_machine() -> None:
    with pytest.raises(ValueError, match="pdp11"):
        default_profile(DEFAULT_CAPABILITIES, "pdp11")


def test_comparisons() -> None:
    """Each operator for itself, over the whole 64 bits."""
    big = 1 << 40
    rules = (
        Rule("read", comparisons=(Comparison(2, Operator.LESS, big),)),
        Rule(
            "write",
            comparisons=(Comparison(0, Operator.EQUAL, big), Comparison(1, Operator.EQUAL, 7)),
        ),
        Rule("close", comparisons=(Comparison(0, Operator.MASKED_EQUAL, 4, 0xC),)),
        Rule("open", errno.ENOTTY),
    )
    program = seccomp.compile_profile(Profile("x86_64", errno.EPERM, 466, rules))
    assert run(program, 0, 0, 0, big - 1) == ALLOW
    assert run(program, 0, 0, 0, big) == EPERM
    assert run(program, 1, big, 7) == ALLOW
    assert run(program, 1, big, 8) == run(program, 1, 0, 7) == EPERM
    assert run(program, 3, 0xF4) == ALLOW
    assert run(program, 3, 0xF8) == EPERM
    assert run(program, 2) == 0x50000 | errno.ENOTTY


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = default_profile(DEFAULT_CAPABILITIES, "x86_64")
    directory = tmp_path / "cache" / "seccomp"
    program = seccomp.compile_profile(profile, str(directory))
    (file,) = directory.iterdir()
    assert file.suffix == ".bpf"

    def compile_again(profile: Profile) -> bytes:
        raise AssertionError("the program was not taken from the cache")

    real = seccomp._compile
    monkeypatch.setattr(seccomp, "_compile", compile_again)
    assert seccomp.compile_profile(profile, str(directory)) == program  # from memory
    seccomp._programs.clear()
    assert seccomp.compile_profile(profile, str(directory)) == program  # from the file

    # A file that was cut off, even at the end of an instruction, is made anew.
    for damaged in (file.read_bytes()[:-8], b"", bytes(200)):
        file.write_bytes(damaged)
        seccomp._programs.clear()
        monkeypatch.setattr(seccomp, "_compile", real)
        assert seccomp.compile_profile(profile, str(directory)) == program
        assert file.read_bytes()[32:] == program


def test_cache_depends_on_libseccomp_and_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = default_profile(DEFAULT_CAPABILITIES, "x86_64")
    for version in ((2, 5, 4), (2, 6, 0)):
        monkeypatch.setattr(seccomp, "_library_version", lambda version=version: version)
        seccomp._programs.clear()
        seccomp.compile_profile(profile, str(tmp_path))
    seccomp.compile_profile(default_profile(frozenset(), "x86_64"), str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    program = seccomp.compile_profile(
        default_profile(DEFAULT_CAPABILITIES, "x86_64"), str(tmp_path / "file" / "seccomp")
    )
    assert run(program, 0) == ALLOW
