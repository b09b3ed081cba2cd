# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespace steps that give privileges up, in the order in which they are planned, and the exec at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from minipod.plan.steps.base import NamespaceStep, Record, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyAppArmor(NamespaceStep):
    """Choose the AppArmor profile that the exec changes to (``aa_change_onexec(2)``), while we still may."""

    proc: int
    profile: str

    def describe(self) -> str:
        return f"AppArmor profile {self.profile} at exec"

    def record(self) -> Record:
        return Record("APPARMOR", in_=self.proc, strings=(self.profile,))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnStdio(NamespaceStep):
    """Give the pipes or the terminal on 0, 1 and 2 to a user, so that it can open /dev/stdout anew."""

    uid: int

    def describe(self) -> str:
        return f"chown {self.uid} of stdin, stdout, stderr"

    def record(self) -> Record:
        return Record("STDIO_OWNER", numbers=(self.uid,))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetIdentity(NamespaceStep):
    """Become a user: supplementary groups first, then gid, then uid."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def describe(self) -> str:
        groups = ",".join(map(str, self.groups)) or "none"
        return f"setgroups {groups}, setresgid {self.gid}, setresuid {self.uid}"

    def record(self) -> Record:
        blob = b"".join(gid.to_bytes(4, "little") for gid in self.groups)
        numbers = (self.uid, self.gid, len(self.groups))
        return Record("IDENTITY", strings=(blob,), numbers=numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCapabilities(NamespaceStep):
    """Keep only these capabilities: *bounding* for what is exec'ed, *until_exec* for the steps that are left.

    ``execve`` of uid 0 then yields permitted = bounding; of another uid, none (``capabilities(7)``).
    Inheritable and ambient are emptied.
    """

    bounding: int
    until_exec: int
    names: tuple[str, ...]

    def describe(self) -> str:
        return f"capabilities: bounding set {' '.join(self.names) or 'empty'}; inheritable and ambient empty"

    def record(self) -> Record:
        return Record("CAPABILITIES", numbers=(self.bounding, self.until_exec, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoNewPrivs(NamespaceStep):
    """No exec gives privileges from here on (``prctl(2)``)."""

    def describe(self) -> str:
        return "prctl PR_SET_NO_NEW_PRIVS"

    def record(self) -> Record:
        return Record("NO_NEW_PRIVS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chdir(NamespaceStep):
    """Enter the working directory as the final user, and make sure that it is inside the root."""

    path: str

    def describe(self) -> str:
        return f"chdir {self.path}"

    def record(self) -> Record:
        return Record("CHDIR", strings=(self.path,))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSeccomp(NamespaceStep):
    """Load a system call filter (``seccomp(2)``): the last privileged act."""

    program: bytes = field(repr=False)
    profile: str
    flags: int = 0

    def describe(self) -> str:
        return f"seccomp {self.profile} ({len(self.program) // 8} BPF instructions)"

    def record(self) -> Record:
        return Record("SECCOMP", strings=(self.program,), numbers=(self.flags, len(self.program)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRange(NamespaceStep):
    """Mark every fd above 2 close-on-exec (``close_range(2)``)."""

    def describe(self) -> str:
        return "close_range 3- at exec"

    def record(self) -> Record:
        return Record("CLOSE_RANGE")


def _execve(words: tuple[str, ...]) -> str:
    return f"execve {' '.join(shown(word) for word in words)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec(NamespaceStep):
    """Become the container's program: the first of *candidates* that can be executed.

    *written* is *argv* with its variables not replaced, where it has some.
    """

    candidates: tuple[str, ...]
    argv: tuple[str, ...]
    env: tuple[str, ...] = field(repr=False)
    written: tuple[str, ...] = ()

    def describe(self) -> str:
        return _execve(self.argv)

    def told(self) -> str:
        return _execve(self.written or self.argv)

    def record(self) -> Record:
        strings = (self.candidates, self.argv, self.env)
        return Record(
            "EXEC", strings=strings, numbers=(len(self.candidates), len(self.argv), len(self.env))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecPause(NamespaceStep):
    """Become the pause process, from a sealed copy of its executable."""

    slot: int
    argv: tuple[str, ...]

    def describe(self) -> str:
        return f"execveat {self.argv[0]} from a sealed memfd"

    def record(self) -> Record:
        return Record(
            "EXEC_FD", in_=self.slot, strings=("", self.argv, ()), numbers=(0, len(self.argv), 0)
        )
