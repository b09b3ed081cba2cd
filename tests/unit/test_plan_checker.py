# SPDX-License-Identifier: GPL-3.0-or-later
"""A symbolic run of a launch: what the C interpreter would see in each slot, and what it must never meet.

:func:`check` walks the steps of a :class:`~minipod.plan.steps.Launch` as ``native/steps.c`` does, but only notes what
each fd slot holds and what the process has given up. It complains about a slot that is read before it is filled, a
mount that is attached twice or never, a mount made outside of a private mount namespace, a privileged step after
the privileges are gone. The other plan tests use it on many pods; the tests here show that it can complain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from minipod.api import (
    Container,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    ObjectMeta,
    Pod,
    PodSpec,
    Volume,
    VolumeMount,
)
from minipod.api.capabilities import CAPABILITIES
from minipod.plan import (
    ContainerContext,
    Facts,
    Hierarchy,
    Link,
    Place,
    PodContext,
    compile_container,
    compile_exec,
    compile_sandbox,
    pod_cgroup,
)
from minipod.plan import steps as s
from minipod.pods.environment import prepared_env

SLOTS = 1024  # MP_SLOTS of native/wire.h
ALL_CAPABILITIES = (1 << len(CAPABILITIES)) - 1
_SYS_ADMIN = 1 << CAPABILITIES.index("SYS_ADMIN")
_MNT, _CGROUP = 0x00020000, 0x02000000

# ---- what plans are compiled from ---------------------------------------------------------------

CGROUP2 = Hierarchy("/sys/fs/cgroup", ("cpu", "memory", "pids"), 2)
BARE_CGROUP2 = Hierarchy("/sys/fs/cgroup/unified", (), 2)
CGROUP1 = (
    Hierarchy("/sys/fs/cgroup/cpu,cpuacct", ("cpu", "cpuacct"), 1),
    Hierarchy("/sys/fs/cgroup/memory", ("memory",), 1),
    Hierarchy("/sys/fs/cgroup/pids", ("pids",), 1),
    Hierarchy("/sys/fs/cgroup/devices", ("devices",), 1),
)
V2 = Facts((CGROUP2,), ALL_CAPABILITIES)
V1 = Facts(CGROUP1, ALL_CAPABILITIES)
HYBRID = Facts((BARE_CGROUP2, *CGROUP1), ALL_CAPABILITIES)
OLD = replace(V2, overlay_appends_layers=False)
WEAK = replace(V2, can_raise_limits=False, nofile_hard=4096)
MACHINES = {"v2": V2, "v1": V1, "hybrid": HYBRID, "old kernel": OLD, "no SYS_RESOURCE": WEAK}

LINK = Link("uid", "10.99.0.5", 16, "10.99.0.1", "mp0a630005", "0a:58:0a:63:00:05")
UID = "11111111-2222-4333-8444-555555555555"


def pod(*containers: Container, volumes: list[Volume] | None = None, **spec: Any) -> Pod:
    """Return a pod ``default/web`` of *containers* (one named ``app`` when there are none)."""
    made = list(containers) or [Container(name="app", image="img", command=["/bin/app"])]
    return Pod(
        metadata=ObjectMeta(name="web", namespace="default", uid=UID),
        spec=PodSpec(containers=made, volumes=volumes or [], **spec),
    )


def context(
    of: Pod, host_paths: dict[str, str] | None = None, places: dict[str, Place] | None = None
) -> PodContext:
    """Return the decisions for *of*."""
    return PodContext(
        run_dir=f"/run/minipod/pods/{UID}/0",
        pod_dir=f"/var/lib/minipod/pods/{UID}",
        log_dir=f"/var/log/pods/default_web_{UID}",
        cgroup=pod_cgroup("minipod", of),
        bridge="minipod0",
        hostname="web",
        hosts="127.0.0.1\tlocalhost\n",
        resolv_conf="nameserver 9.9.9.9\n",
        link=None if of.spec.host_network else LINK,
        host_paths=host_paths or {},
        places=places or {},
    )


def run(attempt: int = 0, **changes: object) -> ContainerContext:
    """Return the decisions for a run of a container of a small image."""
    values: dict[str, object] = {
        "attempt": attempt,
        "layers": ("/layers/bottom", "/layers/middle", "/layers/top"),
        "entrypoint": ("/entry",),
        "cmd": ("one", "two"),
        "image_env": ("PATH=/image/bin", "LANG=C"),
        "working_dir": "/srv",
        "uid": 1000,
        "gid": 1001,
        "groups": (1001, 2000),
        "home": "/home/someone",
        "seccomp": bytes(range(16)),
        **changes,
    }
    return ContainerContext(**values)  # type: ignore[arg-type]


def sandbox(of: Pod, facts: Facts = V2, host_paths: dict[str, str] | None = None) -> s.Launch:
    """Return the launch of *of*'s sandbox."""
    return launch_of(compile_sandbox(of, context(of, host_paths), facts))


def container(
    of: Pod,
    facts: Facts = V2,
    *,
    index: int = 0,
    host_paths: dict[str, str] | None = None,
    places: dict[str, Place] | None = None,
    with_run: ContainerContext | None = None,
) -> s.Launch:
    """Return the launch of one container of *of*."""
    one, made = of.spec.containers[index], context(of, host_paths, places)
    decided = with_run or run(env=prepared_env(of, one))
    return launch_of(compile_container(of, one, made, decided, facts))


def execution(of: Pod, facts: Facts = V2, *, tty: bool = False) -> s.Launch:
    """Return the launch of ``ls -l`` in the first container of *of*."""
    words = ("ls", "-l")
    return compile_exec(
        of, of.spec.containers[0], context(of), run(), facts, words, number=7, tty=tty
    )


def launch_of(steps: tuple[s.Step, ...]) -> s.Launch:
    """Return the one launch among host steps."""
    (found,) = [step for step in steps if isinstance(step, s.Launch)]
    return found


# ---- the interpreter ----------------------------------------------------------------------------


class _Slots:
    """What each slot holds, and whether anybody has looked at it since."""

    def __init__(self) -> None:
        self._what: dict[int, str] = {}
        self._unread: dict[int, str] = {}

    def fill(self, slot: int, what: str, *, must_be_read: bool = True) -> None:
        assert 0 <= slot < SLOTS, f"slot {slot} is out of range"
        assert slot not in self._unread, f"slot {slot} held {self._unread[slot]}, never used"
        self._what[slot] = what
        if must_be_read:
            self._unread[slot] = what

    def read(self, slot: int, *kinds: str) -> str:
        what = self._what.get(slot)
        assert what is not None, f"slot {slot} is read and was never filled"
        assert what.split(" ")[0] in kinds, f"slot {slot} holds {what}, not one of {kinds}"
        self._unread.pop(slot, None)
        return what

    def change(self, slot: int, what: str) -> None:
        self._what[slot] = what

    def leftovers(self) -> list[str]:
        return sorted(self._unread.values())


def _given_from_outside(launch: s.Launch, slots: _Slots) -> None:
    for slot, what in enumerate(launch.fds):
        slots.fill(slot, what, must_be_read=what != "cgroup")
    assert bool(launch.into_cgroup) == ("cgroup" in launch.fds), (
        "the cgroup's fd is sent to be used"
    )
    if launch.stdio in ("NULL", "LOG"):
        assert min(launch.stdio_slots) >= 0, "the shim's streams need slots"
    if launch.stdio == "NULL":
        for slot in set(launch.stdio_slots):
            slots.fill(slot, "null")
    elif launch.stdio == "LOG":
        stdin, *others = launch.stdio_slots
        # Without a stdin of its own it gets the host's /dev/null, which no container may keep.
        slots.fill(stdin, "stream" if launch.keep_stdin else "null", must_be_read=launch.keep_stdin)
        for slot in others:
            slots.fill(slot, "stream")
    if launch.stdio == "FDS":
        assert launch.fds[:3] == ("stdin", "stdout", "stderr")
    assert bool(launch.join) == (launch.join_slot >= 0), "who joins needs the other's pidfd"
    assert not (launch.join_pid_namespace and launch.new_pid_namespace), "one PID namespace only"
    if launch.join_slot >= 0:
        slots.fill(launch.join_slot, "pidfd")
    if launch.user_slot >= 0:
        assert launch.join, "another's user namespace"
        slots.fill(launch.user_slot, "users")
    if launch.pause_slot >= 0:
        slots.fill(launch.pause_slot, "executable")


_STREAMS = {
    "SANDBOX": ("null",),
    "CONTAINER": ("stream", "devnull"),
    "EXEC": ("stdin", "stdout", "stderr"),
}
_FILES = {"/": "directory", "/termination": "directory", "/dev/null": "devnull"}
_MOUNT = ("detached", "attached")
_AFTER_IDENTITY = (
    "CAPABILITIES",
    "NO_NEW_PRIVS",
    "CHDIR",
    "SECCOMP",
    "CLOSE_RANGE",
    "EXEC",
    "EXEC_FD",
)


class _Process:
    """The state of the clone, as far as order matters."""

    def __init__(self, launch: s.Launch, unconfined: bool) -> None:
        self.slots = _Slots()
        _given_from_outside(launch, self.slots)
        self.own_mounts = False
        self.private = False
        self.streams = _STREAMS[launch.kind]
        self.done: list[str] = []
        self.into_root = "SETNS" if launch.kind == "EXEC" else "PIVOT_ROOT"
        self.unconfined = unconfined
        self.bounding = self.permitted = 0

    def step(self, step: s.NamespaceStep) -> None:
        record = step.record()
        if not self.done:
            assert record.op == "HARDEN", "hardened before anything else"
        assert not {"EXEC", "EXEC_FD"} & set(self.done), "nothing comes after exec"
        if "IDENTITY" in self.done:
            assert record.op in _AFTER_IDENTITY, f"{record.op} with privileges gone"
        assert record.out < 0 or record.op in _WRITES, f"{record.op} fills no slot"
        if rule := _RULES.get(record.op):
            rule(self, record)
        if record.op in _WRITES:
            self.slots.fill(record.out, _WRITES[record.op](record))
        self.done.append(record.op)


def _needs_own_mounts(process: _Process) -> None:
    assert process.own_mounts, "a mount in the host's mount namespace"
    assert process.private, "a mount that would propagate to the host"


def _root(process: _Process, record: s.Record) -> None:
    if record.root >= 0:
        process.slots.read(record.root, *_MOUNT, "directory")


def _unshare(process: _Process, record: s.Record) -> None:
    if record.numbers[0] & _MNT:
        process.own_mounts, process.private = True, False
    if record.numbers[0] & _CGROUP:
        process.done.append("cgroup namespace")


def _setns(process: _Process, record: s.Record) -> None:
    process.slots.read(record.in_, "pidfd")
    assert record.numbers[0] & _MNT, "always into its mounts"


def _propagation(process: _Process, record: s.Record) -> None:
    process.private = True


def _cgroup_join(process: _Process, record: s.Record) -> None:
    assert "cgroup namespace" not in process.done, "the cgroup namespace starts at the own cgroup"
    assert not process.own_mounts and "SETNS" not in process.done, "a cgroup path of the host"


def _attach(process: _Process, record: s.Record) -> None:
    _needs_own_mounts(process)
    what = process.slots.read(record.in_, *_MOUNT)
    assert what.startswith("detached"), f"{what} is attached already"
    _root(process, record)
    process.slots.change(record.in_, what.replace("detached", "attached"))


def _hide(process: _Process, record: s.Record) -> None:
    _needs_own_mounts(process)
    _root(process, record)
    assert "PIVOT_ROOT" not in process.done
    assert any(op == "ATTACH /proc" for op in process.done), "procfs is there before it is hidden"


def _pivot(process: _Process, record: s.Record) -> None:
    _needs_own_mounts(process)
    what = process.slots.read(record.in_, *_MOUNT)
    assert what.startswith("attached"), f"pivot_root needs an attached mount, not {what}"


def _proc(process: _Process, record: s.Record) -> None:
    what = process.slots.read(record.in_, *_MOUNT)
    assert what.endswith(" proc"), f"{record.op} goes through procfs, not {what}"


def _stdio(process: _Process, record: s.Record) -> None:
    kinds = ("pty",) if "CTTY" in record.flags else process.streams
    for slot in record.numbers:
        process.slots.read(slot, *kinds)
    assert "CTTY" not in record.flags or "SETSID" in process.done, (
        "TIOCSCTTY needs a session leader"
    )


def _capabilities(process: _Process, record: s.Record) -> None:
    assert "IDENTITY" in process.done, "the uid first: it needs CAP_SETUID"
    assert record.numbers[2] == 0, "inheritable stays empty"
    assert record.numbers[0] & ~record.numbers[1] == 0 or record.numbers[1] == 0
    process.bounding, process.permitted = record.numbers[:2]


def _no_new_privs(process: _Process, record: s.Record) -> None:
    # Before the filter, which may then be loaded without a privilege; and execve gives at most what is permitted.
    _after("CAPABILITIES")(process, record)
    assert "SECCOMP" not in process.done, "no_new_privs before the filter"
    assert process.permitted == process.bounding, "nothing is kept that exec could leave"


def _seccomp(process: _Process, record: s.Record) -> None:
    _after("CAPABILITIES", "CHDIR")(process, record)
    if "NO_NEW_PRIVS" not in process.done:
        kept = process.permitted & ~process.bounding
        assert kept & ~_SYS_ADMIN == 0, "nothing is kept until exec but what the filter needs"
        assert process.permitted & _SYS_ADMIN, "a filter needs CAP_SYS_ADMIN or no_new_privs"


def _own_stdio(process: _Process, record: s.Record) -> None:
    _after("STDIO")(process, record)
    assert "IDENTITY" not in process.done and "ENTER_USERNS" not in process.done, "needs CAP_CHOWN"


def _make_users(process: _Process, record: s.Record) -> None:
    _proc(process, record)
    assert record.numbers[0] >= 65536, "none of the host's own users"


def _enter_users(process: _Process, record: s.Record) -> None:
    process.slots.read(record.in_, "users", "pidfd")
    assert process.into_root in process.done, "it takes power over the host to change the root"
    assert "IDENTITY" not in process.done, "its root, before its users"


def _own_files(process: _Process, record: s.Record) -> None:
    _needs_own_mounts(process)
    assert record.numbers[0] >= 65536 and "ENTER_USERNS" not in process.done


def _mapped(process: _Process, record: s.Record) -> None:
    if record.in_ >= 0:
        process.slots.read(record.in_, "users")
    _root(process, record)


def _apparmor(process: _Process, record: s.Record) -> None:
    _proc(process, record)
    assert process.into_root in process.done, "the profile of the container's own exec"


def _after(*ops: str) -> Callable[[_Process, s.Record], None]:
    def rule(process: _Process, record: s.Record) -> None:
        missing = [op for op in ops if op not in process.done]
        assert not missing, f"{record.op} before {missing}"

    return rule


def _identity(process: _Process, record: s.Record) -> None:
    _after("SETSID", "KEYRING", "STDIO")(process, record)
    assert process.into_root in process.done, "still in another root"


def _exec(process: _Process, record: s.Record) -> None:
    _after("IDENTITY", "CAPABILITIES", "CHDIR")(process, record)
    assert process.done[-1] == "CLOSE_RANGE", "close_range right before exec"
    filtered = record.op == "EXEC_FD" or "SECCOMP" in process.done
    assert filtered or process.unconfined, "no exec without a filter, unless one is not wanted"
    if record.op == "EXEC_FD":
        process.slots.read(record.in_, "executable")


def _attached(process: _Process, record: s.Record) -> None:
    process.slots.read(record.in_, "attached")


def _sent(process: _Process, record: s.Record) -> None:
    process.slots.read(record.in_, "file", "socket")


_WRITES: dict[str, Callable[[s.Record], str]] = {
    "FS": lambda record: f"detached {record.strings[0]!s}",
    "OVERLAY": lambda record: "detached overlay",
    "OPEN_TREE": lambda record: "detached tree",
    "USERNS": lambda record: "users",
    "OPEN": lambda record: _FILES.get(str(record.strings[0]), "file"),
    "NETLINK": lambda record: "socket",
    "OPEN_PTY": lambda record: "pty",
}
_RULES: dict[str, Callable[[_Process, s.Record], None]] = {
    "UNSHARE": _unshare,
    "SETNS": _setns,
    "PROPAGATION": _propagation,
    "CGROUP_JOIN": _cgroup_join,
    "ATTACH": _attach,
    "OPEN_TREE": _mapped,
    "OPEN": _root,
    "SETATTR": _attached,
    "MKDIR": _root,
    "MKNOD": _root,
    "SYMLINK": _root,
    "WRITE_FILE": _root,
    "OPEN_PTY": _root,
    "MASK": _hide,
    "READONLY": _hide,
    "PIVOT_ROOT": _pivot,
    "SYSCTL": _proc,
    "OOM_SCORE_ADJ": _proc,
    "SEND_FD": _sent,
    "STDIO": _stdio,
    "IDENTITY": _identity,
    "CAPABILITIES": _capabilities,
    "SECCOMP": _seccomp,
    "NO_NEW_PRIVS": _no_new_privs,
    "APPARMOR": _apparmor,
    "STDIO_OWNER": _own_stdio,
    "USERNS": _make_users,
    "ENTER_USERNS": _enter_users,
    "OWN_FILES": _own_files,
    "OVERLAY": _mapped,
    "CLOSE_RANGE": _after("CAPABILITIES", "CHDIR"),
    "EXEC": _exec,
    "EXEC_FD": _exec,
}


def check(launch: s.Launch, *, unread: tuple[str, ...] = (), unconfined: bool = False) -> None:
    """Run *launch* symbolically; *unread* are the leftovers that are fine, *unconfined* does without a filter.

    Raises:
        AssertionError: with the step that the interpreter would stumble over.
    """
    process = _Process(launch, unconfined)
    for index, step in enumerate(launch.steps):
        try:
            process.step(step)
        except AssertionError as error:
            raise AssertionError(
                f"{launch.key} step {index + 1} ({step.describe()}): {error}"
            ) from error
        if isinstance(step, s.Attach):
            process.done.append(f"ATTACH {step.path}")
    assert process.done and process.done[-1] in ("EXEC", "EXEC_FD"), "a launch ends in an exec"
    left = [what for what in process.slots.leftovers() if what not in unread]
    assert left == [], f"filled and never used: {left}"


# ---- it accepts what is right -------------------------------------------------------------------

FULL = pod(
    Container(
        name="app",
        image="img",
        command=["/bin/app"],
        volume_mounts=[
            VolumeMount("disk", "/disk"),
            VolumeMount("memory", "/memory", read_only=True),
            VolumeMount("host", "/host"),
        ],
    ),
    volumes=[
        Volume("disk", empty_dir=EmptyDirVolumeSource()),
        Volume("memory", empty_dir=EmptyDirVolumeSource(medium="Memory", size_limit="1Mi")),
        Volume("host", host_path=HostPathVolumeSource("/srv/data", "Directory")),
    ],
)


@pytest.mark.parametrize("facts", MACHINES.values(), ids=MACHINES)
def test_a_full_pod_passes(facts: Facts) -> None:
    check(sandbox(FULL, facts))
    check(container(FULL, facts, host_paths={"host": "directory"}))
    check(execution(FULL, facts))
    check(execution(FULL, facts, tty=True))


# ---- it complains about what is wrong -----------------------------------------------------------


def without(launch: s.Launch, kind: type[s.Step]) -> s.Launch:
    """Return *launch* without its steps of *kind*."""
    kept = tuple(step for step in launch.steps if not isinstance(step, kind))
    assert len(kept) < len(launch.steps)
    return replace(launch, steps=kept)


def swapped(launch: s.Launch, one: type[s.Step], other: type[s.Step]) -> s.Launch:
    """Return *launch* with the first steps of two kinds changed for each other."""
    steps = list(launch.steps)
    i = next(i for i, step in enumerate(steps) if isinstance(step, one))
    k = next(k for k, step in enumerate(steps) if isinstance(step, other))
    steps[i], steps[k] = steps[k], steps[i]
    return replace(launch, steps=tuple(steps))


@pytest.mark.parametrize(
    "kind",
    [
        s.Harden,
        s.NewOverlay,
        s.SetNs,
        s.Unshare,
        s.MakePrivate,
        s.NewFilesystem,
        s.OpenTree,
        s.Attach,
        s.PivotRoot,
        s.NewSession,
        s.NewKeyring,
        s.SetStdio,
        s.SetIdentity,
        s.SetCapabilities,
        s.Chdir,
        s.LoadSeccomp,
        s.CloseRange,
        s.Exec,
    ],
)
def test_a_container_without_one_kind_of_step_is_refused(kind: type[s.Step]) -> None:
    launch = container(FULL, host_paths={"host": "directory"})
    with pytest.raises(AssertionError):
        check(without(launch, kind))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (s.SetIdentity, s.SetCapabilities),
        (s.SetCapabilities, s.LoadSeccomp),
        (s.PivotRoot, s.SetIdentity),
        (s.Attach, s.MaskPaths),
        (s.MakePrivate, s.Unshare),
        (s.Exec, s.CloseRange),
        (s.Harden, s.SetNs),
        (s.LoadSeccomp, s.CloseRange),
    ],
)
def test_a_container_with_two_steps_exchanged_is_refused(
    one: type[s.Step], other: type[s.Step]
) -> None:
    launch = container(FULL, host_paths={"host": "directory"})
    with pytest.raises(AssertionError):
        check(swapped(launch, one, other))


@pytest.mark.parametrize("kind", [s.Harden, s.Unshare, s.MakePrivate, s.PivotRoot, s.SendFd])
def test_a_sandbox_without_one_kind_of_step_is_refused(kind: type[s.Step]) -> None:
    with pytest.raises(AssertionError):
        check(without(sandbox(FULL), kind))


def test_a_slot_that_nobody_sends_is_refused() -> None:
    launch = container(FULL, host_paths={"host": "directory"})
    with pytest.raises(AssertionError, match="never filled"):
        check(replace(launch, join="", join_slot=-1))
    with pytest.raises(AssertionError, match="cgroup"):
        check(replace(launch, fds=()))
    with pytest.raises(AssertionError, match="never used"):
        check(replace(launch, pause_slot=30))
    with pytest.raises(AssertionError, match="out of range"):
        check(replace(launch, pause_slot=SLOTS))


def test_a_mount_is_attached_once() -> None:
    launch = container(FULL, host_paths={"host": "directory"})
    last = max(i for i, step in enumerate(launch.steps) if isinstance(step, s.Attach))
    doubled = (*launch.steps[: last + 1], launch.steps[last], *launch.steps[last + 1 :])
    with pytest.raises(AssertionError, match="attached already"):
        check(replace(launch, steps=doubled))
