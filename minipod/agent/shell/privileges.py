# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that give privileges up, as arguments of one setpriv(1); and the exec at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minipod.agent.shell.quoting import quote, words
from minipod.agent.shell.writer import Writer
from minipod.errors import UsageError
from minipod.plan import steps as s

_TOOL = "/proc/self/cwd/ld --library-path . ./env"


def apply_apparmor(step: s.ApplyAppArmor, to: Writer) -> None:
    to.lack(
        f"AppArmor (profile {step.profile}): setpriv would confine the programs before the container's, too"
    )


def own_stdio(step: s.OwnStdio, to: Writer) -> None:
    to.line(f'chown {step.uid} "$LOG"')


def set_identity(step: s.SetIdentity, to: Writer) -> None:
    groups = (
        f"--groups {quote(','.join(map(str, step.groups)))}" if step.groups else "--clear-groups"
    )
    to.line(f"privileges=(--reuid {step.uid} --regid {step.gid} {groups})")


def set_capabilities(step: s.SetCapabilities, to: Writer) -> None:
    keep = "".join(f",+{name.lower()}" for name in step.names)
    to.line(f"privileges+=('--bounding-set=-all{keep}' --inh-caps=-all --ambient-caps=-all)")


def no_new_privs(step: s.NoNewPrivs, to: Writer) -> None:
    to.line("privileges+=(--no-new-privs)")


def chdir(step: s.Chdir, to: Writer) -> None:
    to.line(f"directory={quote(step.path)}")


def load_seccomp(step: s.LoadSeccomp, to: Writer) -> None:
    to.lack("seccomp: the program may call all of the kernel")


def close_range(step: s.CloseRange, to: Writer) -> None:
    to.line("# done at the start of this script, by hand; the one fd that it needs is closed last")


def execute(step: s.Exec, to: Writer) -> None:
    if not step.argv or "=" in step.argv[0]:
        raise UsageError(
            f"env(1) cannot execute a program with = in its name: {step.argv[:1]}",
            "use another command for the script",
        )
    to.line(
        "# A shell with the program's privileges waits for its root, and becomes env, from a directory"
    )
    to.line(
        "# in memory that is still its own; env enters the working directory and becomes the program."
    )
    to.line("ready")
    to.line('exec setpriv "${privileges[@]}" -- "$BASH" -c \\')
    to.line("  'echo here >&8; read -r _ <&9; exec 8>&- 9>&-; umask 022; exec \"$@\"' bash \\")
    to.line(f'  {_TOOL} --default-signal -i -C "$directory" -- \\')
    for variable in step.env:
        if variable.startswith("="):
            raise UsageError("a variable without a name cannot be written in a script")
        to.line(f"  {quote(variable)} \\")
    to.line(f"  {words(step.argv)}")


def exec_pause(step: s.ExecPause, to: Writer) -> None:
    to.lack("minipod-pause: a shell holds the namespaces, waits for nothing, and reaps")
    to.line("ready")
    to.line('exec setpriv "${privileges[@]}" -- env -i "$BASH" -c \\')
    to.line(
        "  'echo here >&8; exec 8>&-; read -r _ <&9; cd \"$1\"; while :; do read -r _ <&9; done' \\"
    )
    to.line(f'  {quote(step.argv[0])} "$directory"')


RENDERERS: dict[type[s.Step], Callable[[Any, Writer], None]] = {
    s.ApplyAppArmor: apply_apparmor,
    s.OwnStdio: own_stdio,
    s.SetIdentity: set_identity,
    s.SetCapabilities: set_capabilities,
    s.NoNewPrivs: no_new_privs,
    s.Chdir: chdir,
    s.LoadSeccomp: load_seccomp,
    s.CloseRange: close_range,
    s.Exec: execute,
    s.ExecPause: exec_pause,
}
