# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps for what a process is part of, as commands: cgroups, namespaces, settings, limits, fds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minipod.agent.shell.quoting import quote
from minipod.agent.shell.writer import Writer, below
from minipod.errors import UsageError
from minipod.plan import steps as s

_FLAGS = {"mnt": "--mount", "cgroup": "--cgroup", "uts": "--uts", "ipc": "--ipc", "net": "--net"}


def harden(step: s.Harden, to: Writer) -> None:
    to.line("umask 000")
    to.lack("PR_SET_DUMPABLE: until its exec, a process of the pod could look into the shell")


def join_cgroup(step: s.JoinCgroup, to: Writer) -> None:
    to.line(f"echo 0 >{quote(step.directory + '/cgroup.procs')}")


def unshare(step: s.Unshare, to: Writer) -> None:
    names = step.namespaces
    if to.is_pause and "mnt" in names:
        to.line("# mnt: this script's own mount namespace does until the root is changed, so that")
        to.line("# the containers, which are copies of it, come with the pod's mounts")
        names = tuple(name for name in names if name != "mnt")
    flags = " ".join(_FLAGS[name] for name in names)
    propagation = " --propagation unchanged" if "mnt" in names else ""
    to.go_on(f"unshare {flags}{propagation}")


def set_ns(step: s.SetNs, to: Writer) -> None:
    to.line("# mnt: this script's own mount namespace has the pod's mounts already, below $POD")
    to.line('export own="$POD"')
    flags = (
        f'{_FLAGS[name]}="/proc/$PAUSE/ns/{name}"' for name in step.namespaces if name != "mnt"
    )
    to.go_on(f"nsenter {' '.join(flags)}")


def _user_namespace(step: s.NamespaceStep, to: Writer) -> None:
    raise UsageError(
        "a pod with hostUsers: false cannot be written as a script: its layers and volumes are idmapped mounts",
        "leave hostUsers out for the script",
    )


def sysctl(step: s.Sysctl, to: Writer) -> None:
    path = f"{below(step.proc)}/sys/{step.path}"
    there = f'[ ! -e "{path}" ] || ' if step.optional else ""
    to.line(f"{there}printf '%s' {quote(step.value)} >\"{path}\"")


def set_hostname(step: s.SetHostname, to: Writer) -> None:
    to.line(f"printf '%s' {quote(step.name)} >/proc/sys/kernel/hostname")


def link_up(step: s.LinkUp, to: Writer) -> None:
    to.line(f"ip link set {quote(step.name)} up")


def open_netlink(step: s.OpenNetlink, to: Writer) -> None:
    to.line("# nothing to do: nsenter enters this namespace, and ip opens its own socket in it")


def send_fd(step: s.SendFd, to: Writer) -> None:
    to.line("# nothing to do: what is here has a name in /proc/$PAUSE/ns")


def open_file(step: s.OpenFile, to: Writer) -> None:
    if step.proc:
        to.line("# nothing to do: it is /proc/$PAUSE/ns/net")
        return
    to.line(f'inside "{below(step.root)}" {quote(step.path)}')
    to.line(f'export s{step.slot}="$REPLY"')


def new_session(step: s.NewSession, to: Writer) -> None:
    to.go_on("setsid")


def new_keyring(step: s.NewKeyring, to: Writer) -> None:
    to.lack("a session keyring of its own: keys of this session can be seen")


def set_rlimit(step: s.SetRlimit, to: Writer) -> None:
    to.line(f"prlimit --pid $$ --{step.name}={step.soft}:{step.hard}")


def set_oom_score_adj(step: s.SetOomScoreAdj, to: Writer) -> None:
    to.line(f'echo {step.value} >"{below(step.proc)}/self/oom_score_adj"')


def open_pty(step: s.OpenPty, to: Writer) -> None:
    to.lack("a terminal (tty: true): the program gets its log instead")


def set_stdio(step: s.SetStdio, to: Writer) -> None:
    if to.is_pause:
        to.line("exec </dev/null >/dev/null 2>&1")
        return
    to.line("# output: the log file, which is open already; input: the null device")
    if not step.terminal:
        to.line(f'[ -z "${{s{step.slots[0]}:-}}" ] || exec <"$s{step.slots[0]}"')
    to.lack("logs as the kubelet's (times, rotation): the log has the bare output")


RENDERERS: dict[type[s.Step], Callable[[Any, Writer], None]] = {
    s.Harden: harden,
    s.JoinCgroup: join_cgroup,
    s.Unshare: unshare,
    s.SetNs: set_ns,
    s.MakeUserNamespace: _user_namespace,
    s.EnterUserNamespace: _user_namespace,
    s.OwnFiles: _user_namespace,
    s.Sysctl: sysctl,
    s.SetHostname: set_hostname,
    s.LinkUp: link_up,
    s.OpenNetlink: open_netlink,
    s.SendFd: send_fd,
    s.OpenFile: open_file,
    s.NewSession: new_session,
    s.NewKeyring: new_keyring,
    s.SetRlimit: set_rlimit,
    s.SetOomScoreAdj: set_oom_score_adj,
    s.OpenPty: open_pty,
    s.SetStdio: set_stdio,
}
