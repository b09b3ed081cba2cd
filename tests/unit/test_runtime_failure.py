# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said when a step fails: which one, whose, of which manifest line, why, and what to do."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from minipod.errors import StepFailed
from minipod.plan import steps as s
from minipod.runtime.failure import host_step_failed, launch_failed, remedy
from minipod.runtime.shim import LaunchFailed
from tests.unit.test_plan_checker import FULL, container, pod

WHOSE = "pod default/web, container app"
LINES = {"spec.containers[0].command": 12, "spec.containers[0].volumeMounts[2]": 30}
LAUNCH = container(FULL, host_paths={"host": "directory"})


def index_of(kind: type[s.Step], text: str = "") -> int:
    """Return where the first step of *kind* with *text* in its words stands."""
    return next(
        i for i, x in enumerate(LAUNCH.steps) if isinstance(x, kind) and text in x.describe()
    )


def failed(kind: type[s.Step], number: int, detail: int = 0, text: str = "") -> StepFailed:
    """Return the error for errno *number* in a step of the launch."""
    error = LaunchFailed(index_of(kind, text), number, detail)
    return launch_failed(LAUNCH, error, WHOSE, LINES, "pod.yaml")


def test_a_program_that_is_not_there() -> None:
    error = failed(s.Exec, errno.ENOENT)
    number = index_of(s.Exec) + 1
    assert error.what == (
        f"{WHOSE}: step {number} (execve /bin/app): ENOENT: No such file or directory "
        "[pod.yaml:12: spec.containers[0].command]"
    )
    assert "PATH" in error.remedy
    assert error.reason == "StepFailed"


def test_a_field_that_the_manifest_does_not_write_has_no_line() -> None:
    error = launch_failed(
        LAUNCH, LaunchFailed(index_of(s.Exec), errno.ENOENT, 0), WHOSE, {}, "pod.yaml"
    )
    assert error.what.endswith(" [spec.containers[0].command]")
    assert "[" not in failed(s.SetNs, errno.EPERM).what


@pytest.mark.parametrize(
    ("kind", "number", "words"),
    [
        (s.Exec, errno.ENOENT, "check the command"),
        (s.Exec, errno.EACCES, "not executable"),
        (s.Exec, errno.ENOEXEC, "architecture"),
        (s.OpenTree, errno.ENOENT, "DirectoryOrCreate"),
        (s.OpenTree, errno.ENOTDIR, "hostPath.type"),
        (s.Attach, errno.ENOTDIR, "mountPath"),
        (s.Attach, errno.ELOOP, "symbolic link"),
        (s.NewOverlay, errno.EINVAL, "MINIPOD_ROOT_DIR"),
        (s.NewFilesystem, errno.ENODEV, "kernel lacks"),
        (s.Chdir, errno.EACCES, "workingDir"),
        (s.Chdir, errno.ENOTDIR, "workingDir"),
        (s.SetNs, errno.ENOMEM, "memory"),
        (s.Unshare, errno.ENOSPC, "kernel limit"),
        (s.LoadSeccomp, errno.EPERM, "doctor"),
        (s.NewOverlay, errno.ENOSYS, "Linux 5.12"),
        (s.Exec, errno.ENOMEM, "memory"),  # the general one, where the step has none of its own
    ],
)
def test_remedies(kind: type[s.Step], number: int, words: str) -> None:
    error = failed(kind, number)
    assert words in error.remedy
    assert f"{errno.errorcode[number]}: " in error.what
    assert "\n" not in str(error) and not error.what.endswith(".")
    assert not error.remedy.endswith(".")


def test_nothing_is_advised_where_nothing_is_known() -> None:
    assert failed(s.SetIdentity, errno.EINVAL).remedy == ""
    assert remedy(LAUNCH.steps[0], 9999) == ""


def test_the_element_of_a_list_is_named() -> None:
    on_proc = failed(s.MaskPaths, errno.EXDEV, detail=1)
    assert ", at /proc/asound)" in on_proc.what
    layer = failed(s.NewOverlay, errno.ENOENT, detail=2)
    assert ", at /layers/bottom)" in layer.what
    option = failed(s.NewFilesystem, errno.EINVAL, detail=3, text="devpts")
    assert ", at gid=5)" in option.what
    assert ", at " not in failed(s.MaskPaths, errno.EIO, detail=999).what
    assert ", at " not in failed(s.MaskPaths, errno.EIO, detail=-1).what
    assert ", at " not in failed(s.Exec, errno.ENOENT, detail=1).what


def test_a_clone_that_was_killed() -> None:
    error = launch_failed(LAUNCH, LaunchFailed(-1, errno.EINTR, 9), WHOSE, LINES, "pod.yaml")
    assert error.what == f"{WHOSE}: app/0 was ended by SIGKILL while it was set up"
    assert "memory" in error.remedy
    other = launch_failed(LAUNCH, LaunchFailed(-1, errno.EINTR, 11), WHOSE, LINES, "pod.yaml")
    assert "SIGSEGV" in other.what and other.remedy == ""
    left = launch_failed(LAUNCH, LaunchFailed(-1, errno.EINTR, 1 << 8), WHOSE, LINES, "")
    assert "an exit" in left.what


def test_a_launch_that_the_shim_refused() -> None:
    error = launch_failed(LAUNCH, LaunchFailed(-2, errno.ESRCH, 0), WHOSE, LINES, "pod.yaml")
    assert error.what == f"{WHOSE}: the shim refused to launch app/0: ESRCH: No such process"
    full = launch_failed(LAUNCH, LaunchFailed(-2, errno.EMFILE, 0), WHOSE, LINES, "pod.yaml")
    assert "limit of open files" in full.remedy


def test_a_host_step_with_a_path() -> None:
    step = s.MakeDirectory(path="/var/x", source="spec.volumes[0].emptyDir")
    cause = OSError(errno.ENOSPC, "No space left on device", "/var/x")
    error = host_step_failed(step, cause, WHOSE, {"spec.volumes[0].emptyDir": 5}, "pod.yaml")
    assert error.what == (
        f"{WHOSE}: make directory /var/x (mode 0700): ENOSPC: /var/x No space left on device "
        "[pod.yaml:5: spec.volumes[0].emptyDir]"
    )
    assert "disk is full" in error.remedy


def test_a_host_step_whose_error_has_no_number() -> None:
    step = s.StartShim(run_dir="/run/x", label="default/web")
    error = host_step_failed(step, ConnectionResetError("the shim is gone"), WHOSE, {}, "")
    assert error.what.endswith("/run/x/shim.sock: the shim is gone")
    assert error.remedy == ""
    launching = host_step_failed(LAUNCH, ConnectionResetError("the shim is gone"), WHOSE, {}, "")
    assert launching.what == f"{WHOSE}: launch app/0: the shim is gone [spec.containers[0]]"


def test_the_kernel_that_refuses_a_limit() -> None:
    step = s.MakeCgroup(path="minipod/pod1", source="spec.containers[0].resources")
    cause = OSError(errno.EINVAL, "Invalid argument, writing '1'", "/sys/fs/cgroup/x/cpu.weight")
    error = host_step_failed(step, cause, WHOSE, {}, "")
    assert "/sys/fs/cgroup/x/cpu.weight" in error.what
    assert error.remedy == "the kernel does not take this value"


def test_a_hostile_path_does_not_break_the_line() -> None:
    step = s.Attach(slot=16, path="/a\nb\x1b[2J", root=6)
    launch = replace(container(pod()), steps=(step,))
    error = launch_failed(launch, LaunchFailed(0, errno.ENOTDIR, 0), WHOSE, {}, "")
    assert error.what.isprintable()
