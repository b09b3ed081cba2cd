# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a failed step into words: which step, whose, which manifest field, which errno, and what to do."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

from minipod.errors import StepFailed
from minipod.plan import steps as s
from minipod.runtime.shim import LaunchFailed

_REMEDIES: dict[tuple[type[s.Step] | None, int], str] = {
    (
        s.Exec,
        errno.ENOENT,
    ): "check the command and the image's PATH; a script needs its interpreter in the image",
    (
        s.Exec,
        errno.EACCES,
    ): "the file is not executable for the container's user, or is a directory",
    (
        s.Exec,
        errno.ENOEXEC,
    ): "the file is no program for this machine: check the image's architecture or the #! line",
    **dict.fromkeys(
        ((s.Exec, errno.E2BIG), (s.Launch, errno.EMSGSIZE)),
        "one argument or variable may have 128 KiB, all together a few MiB: "
        "use a configMap or secret volume for what is longer",
    ),
    (
        s.OpenTree,
        errno.ENOENT,
    ): "the path does not exist on this host: create it or use type DirectoryOrCreate",
    (s.OpenTree, errno.ENOTDIR): "the path is not a directory on this host: check hostPath.type",
    **dict.fromkeys(
        ((s.Attach, errno.ENOTDIR), (s.Attach, errno.EINVAL)),
        "a file cannot be mounted on a directory, nor the other way round: check mountPath",
    ),
    (
        s.Attach,
        errno.EXDEV,
    ): "the image has a symbolic link into /proc where the mount point must be: use another image",
    (
        s.Attach,
        errno.ELOOP,
    ): "the image has a symbolic link where a mount point must be: use another image",
    (
        s.NewOverlay,
        errno.EINVAL,
    ): "the root directory's filesystem cannot hold an overlay upper dir: set MINIPOD_ROOT_DIR",
    (
        s.MaskPaths,
        errno.ENOENT,
    ): "there is no /dev/null in the container: mount no volume on /dev that has none",
    (s.NewFilesystem, errno.ENODEV): "this kernel lacks the filesystem",
    (s.Sysctl, errno.ENOENT): "this kernel has no such sysctl in the pod's namespaces",
    (s.Sysctl, errno.EINVAL): "the kernel does not take this value",
    (s.MakeCgroup, errno.EINVAL): "the kernel does not take this value",
    (
        s.Chdir,
        errno.EACCES,
    ): "the container's user may not enter this directory: set another workingDir",
    (s.Chdir, errno.ENOTDIR): "workingDir is not a directory in the image",
    (
        None,
        errno.ENOSPC,
    ): "the disk is full, or a kernel limit is reached (sysctl user.max_*_namespaces, fs.mount-max)",
    (None, errno.ENOMEM): "memory is short: raise resources.limits.memory or free some on the host",
    (None, errno.EPERM): "the kernel or a security module forbids it: see minipod doctor",
    (None, errno.ENOSYS): "this kernel is too old: minipod needs Linux 5.12 or later",
    (None, errno.EMFILE): "raise the agent's limit of open files",
}

_MAX_TOLD = 500  # characters of a step; an event's message has 1,024

_INSIDE = {
    errno.ENOENT: "a symbolic link of the volume leads nowhere inside the volume: check subPath",
    errno.ENOTDIR: "a part of subPath is no directory in the volume: check subPath",
    errno.ELOOP: "a symbolic link of the volume leads to itself or into /proc: check subPath",
    errno.EROFS: "subPath is not there and the volume is read-only: make it, or check subPath",
}


def remedy(step: s.Step, number: int) -> str:
    """Return what to do about errno *number* in *step*, or ""."""
    mapped = isinstance(step, s.OpenTree | s.NewOverlay) and step.users >= 0
    if mapped and number in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
        return (
            "the kernel or this filesystem cannot map ids (idmapped mounts: Linux 5.19 for overlay, 6.3 for tmpfs): "
            "do without hostUsers: false"
        )
    if isinstance(step, s.OpenTree) and step.inside and number in _INSIDE:
        return _INSIDE[number]
    return _REMEDIES.get((type(step), number)) or _REMEDIES.get((None, number), "")


def _origin(step: s.Step, lines: Mapping[str, int], source: str) -> str:
    if not step.source:
        return ""
    line = lines.get(step.source)
    return f" [{source}:{line}: {step.source}]" if line else f" [{step.source}]"


def host_step_failed(
    step: s.Step, error: OSError, whose: str, lines: Mapping[str, int], source: str
) -> StepFailed:
    """Return the error for a host step that raised *error*."""
    number = error.errno or 0
    path = f" {error.filename}" if error.filename else ""
    why = f"{errno.errorcode.get(number, number)}:{path} {error.strerror}" if number else str(error)
    done = f"launch {step.key}" if isinstance(step, s.Launch) else _told(step)
    what = f"{whose}: {done}: {why}{_origin(step, lines, source)}"
    return StepFailed(what, remedy(step, number))


def launch_failed(
    launch: s.Launch, error: LaunchFailed, whose: str, lines: Mapping[str, int], source: str
) -> StepFailed:
    """Return the error for a launch in which a step failed."""
    name = errno.errorcode.get(error.errno, str(error.errno))
    words = f"{name}: {os.strerror(error.errno)}"
    if error.step == -2:
        return StepFailed(
            f"{whose}: the shim refused to launch {launch.key}: {words}",
            remedy(launch, error.errno),
        )
    if error.step == -1:
        number = error.detail & 0x7F
        names = {member.value: member.name for member in signal.Signals}
        how = names.get(number, f"signal {number}") if number else "an exit"
        return StepFailed(
            f"{whose}: {launch.key} was ended by {how} while it was set up",
            "raise resources.limits.memory" if how == "SIGKILL" else "",
        )
    step = launch.steps[error.step]
    done = _told(step, _element(step, error.detail))
    what = f"{whose}: step {error.step + 1} ({done}): {words}"
    return StepFailed(what + _origin(step, lines, source), remedy(step, error.errno))


def _told(step: s.Step, element: str = "") -> str:
    """Say what a step does, for an event or a status: without values that may be secret, and not endlessly."""
    words = step.told()
    return s.one_line((words if len(words) <= _MAX_TOLD else f"{words[:_MAX_TOLD]}…") + element)


def _element(step: s.Step, detail: int) -> str:
    """Name the element of a list step that failed."""
    items: tuple[str, ...] = ()
    if isinstance(step, s.MaskPaths | s.ReadonlyPaths):
        items = step.paths
    elif isinstance(step, s.NewFilesystem):
        items = step.options
    elif isinstance(step, s.NewOverlay):
        items = step.lower
    return f", at {items[detail]}" if 0 <= detail < len(items) else ""
