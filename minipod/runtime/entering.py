# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command of the host in namespaces of a pod, in the command's own process; the agent has opened their fds.

Whoever is in a namespace with us may look at us, and what we are is root of the host with the host's files
(CVE-2016-9962, CVE-2019-5736). So:

* Until the exec we are not dumpable: nobody gets at our memory, fds or executable.
* In a PID namespace of the pod the command is seen by its processes, and its ``/proc/PID/root`` is the host's. The
  kernel lets only those through who have all capabilities that it has, or CAP_SYS_PTRACE over it; where the agent finds
  one (``watchers``), the command is not started. It gets a /proc of its own, in a mount namespace of its own.
* In a mount namespace of the pod there are only the image's programs, and they are hostile: they get the container's
  capabilities, a plain environment, no fd but the three, and a session of their own, so that they cannot type into our
  terminal (``TIOCSTI``).
* In the pod's user namespace we become its root, who has no power over the host.

What is entered is entered in C, right before the exec (``native/enter.c``): no Python runs where a container's files
are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from minipod import native

FLAGS = {
    "net": native.CLONE_NEWNET,
    "uts": native.CLONE_NEWUTS,
    "ipc": native.CLONE_NEWIPC,
    "cgroup": native.CLONE_NEWCGROUP,
}
_FIRST = tuple(FLAGS)
_INSIDE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/",
}
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command is to run.

    Attributes:
        fds: of the namespaces to enter, by kind.
        capabilities: the container's bounding set, as a mask.
    """

    fds: Mapping[str, int]
    capabilities: int


def run(target: Target, command: Sequence[str]) -> int:
    """Enter the namespaces and become *command*; where a process of its own is needed, return its exit code.

    Raises:
        OSError: a namespace cannot be entered.
    """
    import prctl

    prctl.set_dumpable(False)
    inside = "mnt" in target.fds
    env = {**_INSIDE_ENV, "TERM": os.environ.get("TERM", "dumb")} if inside else dict(os.environ)
    entry = native.Entry(
        [(target.fds[kind], FLAGS[kind]) for kind in FLAGS if kind in target.fds],
        mnt=target.fds.get("mnt", -1),
        user=target.fds.get("user", -1),
        own_proc="pid" in target.fds,
        close_fds=bool(target.fds.keys() & {"pid", "mnt", "user"}),
        capabilities=target.capabilities,
    )
    if not target.fds.keys() & {"pid", "mnt"}:
        native.enter(entry, _candidates(command[0], env), command, env)
    if "pid" in target.fds:
        native.setns(target.fds["pid"], native.CLONE_NEWPID)  # of our children (setns(2))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        native.enter(entry, _candidates(command[0], env), command, env)
    return _accompany(pid, own_session=inside)


def _candidates(program: str, env: Mapping[str, str]) -> list[str]:
    """Return the paths that *program* may have, as execvp(3) tries them."""
    if "/" in program:
        return [program]
    path = env.get("PATH", _INSIDE_ENV["PATH"])
    return [f"{directory or '.'}/{program}" for directory in path.split(":")]


def _accompany(pid: int, *, own_session: bool) -> int:
    """Pass signals on to our child until it ends; return its exit code, 128+n for signal n."""

    def forward(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    for number in _OF_TERMINAL:
        # What shares our terminal has got it already.
        signal.signal(number, forward if own_session else signal.SIG_IGN)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
