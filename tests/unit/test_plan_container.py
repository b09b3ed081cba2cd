# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a container: the order that HARDENING relies on, and what is mounted where."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from minipod.api import (
    Container,
    EmptyDirVolumeSource,
    EnvVar,
    HostPathVolumeSource,
    Pod,
    ResourceRequirements,
    Volume,
    VolumeMount,
)
from minipod.api.capabilities import CAPABILITIES
from minipod.errors import UsageError
from minipod.plan import Facts, compile_container
from minipod.plan import steps as s
from minipod.plan.defaults import (
    DEFAULT_CAPABILITIES,
    MASKED_PROC,
    MASKED_SYS,
    READONLY_PROC,
    capability_mask,
)
from tests.unit.test_plan_checker import (
    ALL_CAPABILITIES,
    FULL,
    HYBRID,
    MACHINES,
    OLD,
    UID,
    V1,
    V2,
    WEAK,
    check,
    container,
    context,
    pod,
    run,
)

POD_CGROUP = f"minipod/besteffort/pod{UID}"
PLAIN = pod()
# The pods that differ in what the order of steps depends on.
PODS = {
    "plain": PLAIN,
    "full": FULL,
    "host network": pod(host_network=True),
    "host pid": pod(host_pid=True),
    "host ipc": pod(host_ipc=True),
    "shared pid": pod(share_process_namespace=True),
    "tty": pod(Container(name="app", image="i", command=["a"], tty=True, stdin=True)),
    "two": pod(
        Container(name="one", image="i", command=["a"]),
        Container(name="two", image="i", command=["b"]),
    ),
}
HOST = {"host": "directory"}
T = TypeVar("T", bound=s.Step)


def with_mounts(volumes: list[Volume], *mounts: VolumeMount, **spec: Any) -> Pod:
    """Return a pod whose one container mounts *volumes*."""
    one = Container(name="app", image="img", command=["/bin/app"], volume_mounts=list(mounts))
    return pod(one, volumes=volumes, **spec)


def of_kind(launch: s.Launch, kind: type[T]) -> list[T]:
    """Return the steps of one kind."""
    return [step for step in launch.steps if isinstance(step, kind)]


def only(launch: s.Launch, kind: type[T]) -> T:
    """Return the one step of a kind."""
    (step,) = of_kind(launch, kind)
    return step


def place(launch: s.Launch, kind: type[s.Step], last: bool = False) -> int:
    """Return where the first (or last) step of a kind stands."""
    places = [i for i, step in enumerate(launch.steps) if isinstance(step, kind)]
    return places[-1 if last else 0]


def attached(launch: s.Launch) -> dict[str, s.NamespaceStep]:
    """Return what is mounted, by path: for each the step that made the mount."""
    made: dict[int, s.NamespaceStep] = {}
    result: dict[str, s.NamespaceStep] = {}
    for step in launch.steps:
        if isinstance(step, s.NewFilesystem | s.OpenTree | s.NewOverlay):
            made[step.slot] = step
        elif isinstance(step, s.Attach):
            result[step.path] = made[step.slot]
    return result


# ---- the order ----------------------------------------------------------------------------------


def test_the_whole_order_of_a_plain_container() -> None:
    names = [type(step).__name__ for step in container(PLAIN).steps]
    runs = [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    assert runs == [
        "Harden",
        "NewFilesystem",  # procfs, detached
        "NewOverlay",
        "SetNs",
        "Unshare",
        "MakePrivate",
        *("Attach", "NewFilesystem", "Attach"),  # the root and procfs; sysfs
        *("NewFilesystem", "Mknod", "Symlink", "Mkdir", "Attach"),  # /dev
        "OpenFile",  # its own /dev/null, for stdin
        *("OpenTree", "Attach"),  # /dev/shm
        *("NewFilesystem", "Attach") * 3,  # devpts, mqueue, cgroup
        *("OpenTree", "Attach") * 3,  # hosts, resolv.conf, hostname
        *("OpenFile", "WriteFile", "OpenTree", "Attach"),  # the termination message
        "ReadonlyPaths",
        "MaskPaths",
        "Mkdir",  # the working directory
        "PivotRoot",
        "NewSession",
        "NewKeyring",
        "SetRlimit",
        "SetOomScoreAdj",
        "SetStdio",
        "OwnStdio",
        "SetIdentity",
        "SetCapabilities",
        "Chdir",
        "LoadSeccomp",
        "CloseRange",
        "Exec",
    ]


@pytest.mark.parametrize("facts", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("one", PODS.values(), ids=PODS)
def test_the_order_that_hardening_relies_on(one: Pod, facts: Facts) -> None:
    for index in range(len(one.spec.containers)):
        launch = container(one, facts, index=index, host_paths=HOST)
        check(launch)
        order: tuple[type[s.Step], ...] = (
            s.Harden,
            s.NewOverlay,
            s.SetNs,
            s.Unshare,
            s.MakePrivate,
            s.PivotRoot,
            s.NewSession,
            s.NewKeyring,
            s.SetRlimit,
            s.SetOomScoreAdj,
            s.SetStdio,
            s.SetIdentity,
            s.SetCapabilities,
            s.Chdir,
            s.LoadSeccomp,
            s.CloseRange,
            s.Exec,
        )
        for kind in order:
            assert len(of_kind(launch, kind)) == 1, kind
        for before, after in pairwise(order):
            assert place(launch, before) < place(launch, after), (before, after)
        assert place(launch, s.Harden) == 0
        assert place(launch, s.CloseRange) == len(launch.steps) - 2
        assert place(launch, s.Exec) == len(launch.steps) - 1
        assert place(launch, s.Attach, last=True) < place(launch, s.PivotRoot)
        assert place(launch, s.MaskPaths, last=True) < place(launch, s.PivotRoot)


def test_host_paths_are_opened_before_the_pod_is_entered() -> None:
    launch = container(FULL, host_paths=HOST)
    entered = place(launch, s.SetNs)
    own = {"/shm", "/files/hosts", "/files/resolv.conf", "/files/hostname", "/volumes/memory"}
    own.add("/termination/app.0")
    before = {step.path for step in launch.steps[:entered] if isinstance(step, s.OpenTree)}
    after = {step.path for step in launch.steps[entered:] if isinstance(step, s.OpenTree)}
    assert before == {"/srv/data", f"/var/lib/minipod/pods/{UID}/volumes/disk"}
    assert after == own
    assert place(launch, s.NewOverlay) < entered


def test_everything_is_in_place_before_it_is_hidden() -> None:
    launch = container(FULL, host_paths=HOST)
    last_mount = place(launch, s.Attach, last=True)
    assert last_mount < place(launch, s.ReadonlyPaths)
    assert last_mount < place(launch, s.MaskPaths)
    proc = next(
        i for i, x in enumerate(launch.steps) if isinstance(x, s.Attach) and x.path == "/proc"
    )
    assert proc < place(launch, s.MaskPaths)


def test_nothing_that_is_masked_is_looked_for_on_procfs_afterwards() -> None:
    # What lies over a masked path is a null device or a tmpfs, and ReadonlyPaths wants procfs there.
    assert set(MASKED_PROC) & set(READONLY_PROC) == {"/proc/asound", "/proc/sysrq-trigger"}
    masked: set[str] = set()
    for step in container(PLAIN).steps:
        if isinstance(step, s.ReadonlyPaths):
            assert not masked & set(step.paths)
        elif isinstance(step, s.MaskPaths):
            masked |= set(step.paths)
    assert masked == {*MASKED_PROC, *MASKED_SYS}


def test_a_cgroup_is_joined_before_the_cgroup_namespace_is_made() -> None:
    launch = container(PLAIN, V1)
    joins = of_kind(launch, s.JoinCgroup)
    assert [step.directory for step in joins] == [
        f"/sys/fs/cgroup/{name}/{POD_CGROUP}/app.0"
        for name in ("cpu,cpuacct", "memory", "pids", "devices")
    ]
    assert place(launch, s.JoinCgroup, last=True) < place(launch, s.Unshare)
    assert "cgroup" in only(launch, s.Unshare).namespaces


# ---- the clone ----------------------------------------------------------------------------------


def test_the_clone_is_born_in_its_cgroup_where_there_is_cgroup2() -> None:
    for facts in (V2, HYBRID):
        launch = container(PLAIN, facts)
        assert launch.into_cgroup == f"{POD_CGROUP}/app.0"
        assert launch.fds == ("cgroup",)
    assert of_kind(container(PLAIN, V2), s.JoinCgroup) == []
    assert len(of_kind(container(PLAIN, HYBRID), s.JoinCgroup)) == 4
    launch = container(PLAIN, V1)
    assert (launch.into_cgroup, launch.fds) == ("", ())


@pytest.mark.parametrize(
    ("spec", "new", "join"),
    [
        ({}, True, False),
        ({"host_pid": True}, False, False),
        ({"share_process_namespace": True}, False, True),
        ({"host_pid": True, "share_process_namespace": True}, False, False),
        ({"host_network": True}, True, False),
    ],
)
def test_pid_namespaces(spec: dict[str, Any], new: bool, join: bool) -> None:
    launch = container(pod(**spec))
    assert (launch.new_pid_namespace, launch.join_pid_namespace) == (new, join)
    assert launch.join == "sandbox"
    assert only(launch, s.SetNs).namespaces == ("mnt", "net", "uts", "ipc")


def test_keys_paths_and_slots_follow_the_attempt() -> None:
    launch = container(PLAIN, with_run=run(attempt=3))
    assert (launch.key, launch.kind) == ("app/3", "CONTAINER")
    assert launch.log_path == f"/var/log/pods/default_web_{UID}/app/3.log"
    overlay = only(launch, s.NewOverlay)
    directory = f"/var/lib/minipod/pods/{UID}/containers/app/3"
    assert (overlay.upper, overlay.work) == (f"{directory}/upper", f"{directory}/work")
    assert overlay.lower == ("/layers/top", "/layers/middle", "/layers/bottom")  # topmost first


def test_the_host_steps_around_the_launch() -> None:
    steps = compile_container(PLAIN, PLAIN.spec.containers[0], context(PLAIN), run(2), V2)
    assert [type(step) for step in steps] == [
        s.MakeDirectory,
        s.MakeDirectory,
        s.MakeDirectory,
        s.MakeCgroup,
        s.Launch,
    ]
    directories = [step for step in steps if isinstance(step, s.MakeDirectory)]
    directory = f"/var/lib/minipod/pods/{UID}/containers/app/2"
    assert [(step.path, step.mode) for step in directories] == [
        (f"{directory}/upper", 0o755),  # the mode of the container's /
        (f"{directory}/work", 0o700),
        (f"/var/log/pods/default_web_{UID}/app", 0o755),
    ]
    cgroup = steps[3]
    assert isinstance(cgroup, s.MakeCgroup)
    assert (cgroup.path, cgroup.devices) == (f"{POD_CGROUP}/app.2", True)


def test_streams() -> None:
    plain = container(PLAIN)
    assert (plain.stdio, plain.keep_stdin, plain.stdio_slots) == ("LOG", False, (1, 2, 3))
    assert only(plain, s.SetStdio) == s.SetStdio(slots=(1, 2, 3))
    with_stdin = container(pod(Container(name="app", image="i", command=["a"], stdin=True)))
    assert with_stdin.keep_stdin
    assert [step.path for step in of_kind(with_stdin, s.OpenFile)] == ["/termination"]
    # Without one, stdin is the container's own null device: the host's could be changed through it.
    null = of_kind(plain, s.OpenFile)[0]
    assert (null.slot, null.path) == (1, "/dev/null")
    assert null.root == only(plain, s.PivotRoot).slot
    terminal = container(PODS["tty"])
    assert terminal.stdio == "TTY_LOG"
    stdio = only(terminal, s.SetStdio)
    pty = only(terminal, s.OpenPty)
    assert stdio.terminal and set(stdio.slots) == {pty.slot}
    assert pty.console
    # The pty is of the container's own devpts, and there before the root is pivoted.
    devpts = next(
        i for i, x in enumerate(terminal.steps) if isinstance(x, s.Attach) and x.path == "/dev/pts"
    )
    assert devpts < place(terminal, s.OpenPty) < place(terminal, s.PivotRoot)


# ---- what is mounted ----------------------------------------------------------------------------


def test_the_mounts_of_a_plain_container() -> None:
    launch = container(PLAIN)
    mounts = attached(launch)
    assert list(mounts) == [
        "/rootfs",
        "/proc",
        "/sys",
        "/dev",
        "/dev/shm",
        "/dev/pts",
        "/dev/mqueue",
        "/sys/fs/cgroup",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/dev/termination-log",
    ]
    quiet = {"nosuid", "nodev", "noexec"}
    shown = {
        path: (step.type, set(step.attributes))
        for path, step in mounts.items()
        if isinstance(step, s.NewFilesystem)
    }
    assert shown == {
        "/proc": ("proc", quiet),
        "/sys": ("sysfs", {"ro", *quiet}),
        "/dev": ("tmpfs", {"nosuid", "noexec"}),  # not nodev: its nodes are to be used
        "/dev/pts": ("devpts", {"nosuid", "noexec"}),
        "/dev/mqueue": ("mqueue", quiet),
        "/sys/fs/cgroup": ("cgroup2", {"ro", *quiet}),
    }
    devpts = mounts["/dev/pts"]
    assert isinstance(devpts, s.NewFilesystem)
    assert devpts.options == ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5")


def test_mount_points_of_the_system_are_never_symlinks() -> None:
    for facts in (V2, V1, HYBRID):
        for step in of_kind(container(PLAIN, facts), s.Attach):
            if step.path.startswith(("/proc", "/sys", "/dev")):
                assert step.no_symlinks, step.path


def test_the_devices() -> None:
    launch = container(PLAIN)
    nodes = {step.path: (step.major, step.minor, step.mode) for step in of_kind(launch, s.Mknod)}
    assert nodes == {
        "/null": (1, 3, 0o666),
        "/zero": (1, 5, 0o666),
        "/full": (1, 7, 0o666),
        "/random": (1, 8, 0o666),
        "/urandom": (1, 9, 0o666),
        "/tty": (5, 0, 0o666),
    }
    links = {step.path: step.target for step in of_kind(launch, s.Symlink)}
    assert links == {
        "/fd": "/proc/self/fd",
        "/stdin": "/proc/self/fd/0",
        "/stdout": "/proc/self/fd/1",
        "/stderr": "/proc/self/fd/2",
        "/ptmx": "pts/ptmx",
    }
    dev = next(step for step in of_kind(launch, s.Attach) if step.path == "/dev")
    roots = {step.root for step in launch.steps if isinstance(step, s.Mknod | s.Symlink)}
    assert roots == {dev.slot}  # made in the detached tmpfs, not by a path in the image


def test_a_cgroup1_machine_shows_each_hierarchy_read_only() -> None:
    launch = container(PLAIN, V1)
    mounts = attached(launch)
    names = ("cpu,cpuacct", "memory", "pids", "devices")
    for name in names:
        step = mounts[f"/sys/fs/cgroup/{name}"]
        assert isinstance(step, s.NewFilesystem)
        assert (step.type, step.options) == ("cgroup", tuple(name.split(",")))
        assert "ro" in step.attributes
    # The tmpfs that holds them is made read-only once they are in it.
    sealed = only(launch, s.SetMountAttributes)
    assert sealed.attributes == ("ro",)
    around = next(step for step in of_kind(launch, s.Attach) if step.path == "/sys/fs/cgroup")
    assert around.slot == sealed.slot
    places = [
        i
        for i, step in enumerate(launch.steps)
        if isinstance(step, s.Attach) and step.path.startswith("/sys/fs/cgroup")
    ]
    assert places[-1] < place(launch, s.SetMountAttributes)


def test_what_is_hidden() -> None:
    facts = replace(V2, masked_sys=("/sys/devices/system/cpu/cpu0/thermal_throttle",))
    launch = container(PLAIN, facts)
    on_proc, elsewhere = of_kind(launch, s.MaskPaths)
    assert on_proc.on_proc and set(on_proc.paths) == {
        f"/proc/{name}"
        for name in (
            *("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug"),
            *("scsi", "timer_list", "timer_stats", "sysrq-trigger"),
        )
    }
    assert not elsewhere.on_proc and set(elsewhere.paths) == {
        "/sys/firmware",
        "/sys/fs/selinux",
        "/sys/kernel/security",
        "/sys/devices/virtual/powercap",
        "/sys/devices/system/cpu/cpu0/thermal_throttle",
    }
    readonly = only(launch, s.ReadonlyPaths)
    assert readonly.on_proc and set(readonly.paths) == {
        f"/proc/{name}" for name in ("asound", "bus", "fs", "irq", "sys", "sysrq-trigger")
    }


# ---- volumes ------------------------------------------------------------------------------------

DISK = Volume("v", empty_dir=EmptyDirVolumeSource())
MEMORY = Volume("v", empty_dir=EmptyDirVolumeSource(medium="Memory"))


def test_an_empty_dir_on_disk() -> None:
    launch = container(with_mounts([DISK], VolumeMount("v", "/data")))
    tree = attached(launch)["/data"]
    assert tree == s.OpenTree(
        slot=16,
        path=f"/var/lib/minipod/pods/{UID}/volumes/v",
        type="directory",
        source="spec.containers[0].volumeMounts[0]",
    )
    assert place(launch, s.OpenTree) < place(launch, s.SetNs)


def test_an_empty_dir_in_memory_comes_from_the_sandbox() -> None:
    launch = container(with_mounts([MEMORY], VolumeMount("v", "/data", read_only=True)))
    tree = attached(launch)["/data"]
    assert isinstance(tree, s.OpenTree)
    assert (tree.path, tree.type, tree.attributes) == ("/volumes/v", "directory", ("ro",))
    assert launch.steps.index(tree) > place(launch, s.MakePrivate)


@pytest.mark.parametrize("kind", ["directory", "file", "socket", "char", "block"])
@pytest.mark.parametrize("read_only", [False, True])
def test_host_paths_of_every_kind(kind: str, read_only: bool) -> None:
    volume = Volume("v", host_path=HostPathVolumeSource("/srv/it"))
    one = with_mounts([volume], VolumeMount("v", "/it", read_only=read_only))
    launch = container(one, host_paths={"v": kind})
    tree = attached(launch)["/it"]
    assert isinstance(tree, s.OpenTree)
    assert (tree.path, tree.type, tree.recursive) == ("/srv/it", kind, True)
    assert tree.attributes == (("ro",) if read_only else ())
    assert tree.record().numbers[1] == s.FILE_TYPES[kind] != 0  # checked on the same fd
    mount = next(step for step in of_kind(launch, s.Attach) if step.path == "/it")
    assert mount.create == ("directory" if kind == "directory" else "file")


@pytest.mark.parametrize(
    "paths",
    [
        ("/a", "/a/b", "/a/b/c"),
        ("/a/b/c", "/a/b", "/a"),
        ("/a/b/", "/a", "/a/b/c/d"),
        ("/x//y///z", "/x/y/z/w"),
        ("/x/y/z/w", "//x//y///z"),
        ("/x/./y/./z", "/x/y/z/w"),
    ],
)
def test_nested_mounts_parents_first(paths: tuple[str, ...]) -> None:
    volumes = [Volume(f"v{i}", empty_dir=EmptyDirVolumeSource()) for i in range(len(paths))]
    mounts = [VolumeMount(f"v{i}", path) for i, path in enumerate(paths)]
    launch = container(with_mounts(volumes, *mounts))
    check(launch)
    order = [step.path for step in of_kind(launch, s.Attach) if step.path in paths]
    clean = ["/" + "/".join(x for x in path.split("/") if x not in ("", ".")) for path in order]
    assert sorted(order) == sorted(paths)
    assert clean == sorted(clean)


def test_each_volume_goes_where_it_is_meant() -> None:
    volumes = [Volume(f"v{i}", empty_dir=EmptyDirVolumeSource()) for i in range(3)]
    mounts = [VolumeMount("v2", "/p/q"), VolumeMount("v0", "/p"), VolumeMount("v1", "/z")]
    places = attached(container(with_mounts(volumes, *mounts)))
    shown = {path: step.path for path, step in places.items() if isinstance(step, s.OpenTree)}
    for path, name in (("/p/q", "v2"), ("/p", "v0"), ("/z", "v1")):
        assert shown[path].endswith(f"/volumes/{name}")


def test_one_volume_at_two_places() -> None:
    launch = container(with_mounts([DISK], VolumeMount("v", "/a"), VolumeMount("v", "/b")))
    check(launch)
    assert {"/a", "/b"} <= set(attached(launch))


@pytest.mark.parametrize("path", ["/dev/shm", "/dev/shm/", "/dev//shm", "/dev/./shm"])
def test_a_volume_over_dev_shm_replaces_it(path: str) -> None:
    launch = container(with_mounts([DISK], VolumeMount("v", path)))
    check(launch)
    paths = [step.path for step in of_kind(launch, s.Attach)]
    assert path in paths
    assert paths.count("/dev/shm") == (path == "/dev/shm")
    assert not [step for step in of_kind(launch, s.OpenTree) if step.path == "/shm"]


@pytest.mark.parametrize("name", ["hosts", "resolv.conf", "hostname"])
def test_a_volume_over_a_file_of_etc_replaces_it(name: str) -> None:
    volume = Volume("v", host_path=HostPathVolumeSource("/srv/mine"))
    one = with_mounts([volume], VolumeMount("v", f"/etc/{name}"))
    launch = container(one, host_paths={"v": "file"})
    tree = attached(launch)[f"/etc/{name}"]
    assert isinstance(tree, s.OpenTree)
    assert tree.path == "/srv/mine"
    others = {"hosts", "resolv.conf", "hostname"} - {name}
    assert {step.path for step in of_kind(launch, s.OpenTree)} >= {f"/files/{x}" for x in others}
    assert f"/files/{name}" not in {step.path for step in of_kind(launch, s.OpenTree)}


def test_host_ipc_shows_the_hosts_shm() -> None:
    launch = container(pod(host_ipc=True))
    tree = attached(launch)["/dev/shm"]
    assert isinstance(tree, s.OpenTree)
    assert tree.path == "/dev/shm"
    assert launch.steps.index(tree) < place(launch, s.SetNs)


# ---- identity, privileges, limits ---------------------------------------------------------------


def test_the_user_is_the_images() -> None:
    identity = only(container(PLAIN), s.SetIdentity)
    assert (identity.uid, identity.gid, identity.groups) == (1000, 1001, (1001, 2000))
    assert only(container(PLAIN), s.OwnStdio).uid == 1000
    rooted = container(PLAIN, with_run=run(uid=0, gid=0, groups=(0,)))
    root = only(rooted, s.SetIdentity)
    assert (root.uid, root.groups) == (0, (0,))
    assert not [step for step in rooted.steps if isinstance(step, s.OwnStdio)]
    assert identity.record().strings == (b"\xe9\x03\x00\x00\xd0\x07\x00\x00",)


def test_the_capabilities() -> None:
    step = only(container(PLAIN), s.SetCapabilities)
    expected = {
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP"),
        *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }
    named = {name for i, name in enumerate(CAPABILITIES) if step.bounding >> i & 1}
    assert named == set(step.names) == expected == set(DEFAULT_CAPABILITIES)
    # SYS_ADMIN only for the filter, and gone with exec: it is not in the bounding set.
    assert step.until_exec == step.bounding | capability_mask({"SYS_ADMIN"})
    assert step.record().numbers[2] == 0


def test_capabilities_that_the_agent_lacks_are_neither_given_nor_named() -> None:
    lacking = replace(V2, capabilities=ALL_CAPABILITIES & ~capability_mask({"SETFCAP", "CHOWN"}))
    step = only(container(PLAIN, lacking), s.SetCapabilities)
    named = {name for i, name in enumerate(CAPABILITIES) if step.bounding >> i & 1}
    assert named == DEFAULT_CAPABILITIES - {"SETFCAP", "CHOWN"}
    assert set(step.names) == named
    assert "SETFCAP" not in step.describe()


def test_the_filter_is_the_one_that_was_given() -> None:
    step = only(container(PLAIN), s.LoadSeccomp)
    assert step.program == bytes(range(16))
    assert step.record().numbers == (0, 16)
    assert "2 BPF instructions" in step.describe()


def test_limits() -> None:
    rlimit = only(container(PLAIN), s.SetRlimit)
    assert (rlimit.name, rlimit.soft, rlimit.hard) == ("nofile", 1048576, 1048576)
    assert only(container(PLAIN), s.SetOomScoreAdj).value == 1000
    guaranteed = pod(
        Container(
            name="app",
            image="i",
            command=["a"],
            resources=ResourceRequirements({"cpu": "1", "memory": "1Gi"}),
        )
    )
    assert only(container(guaranteed), s.SetOomScoreAdj).value == -997


def test_without_sys_resource_limits_stay_as_they_are() -> None:
    rlimit = only(container(PLAIN, WEAK), s.SetRlimit)
    assert (rlimit.soft, rlimit.hard) == (4096, 4096)
    assert only(container(PLAIN, WEAK), s.SetOomScoreAdj).value == 1000
    guaranteed = pod(
        Container(
            name="app",
            image="i",
            command=["a"],
            resources=ResourceRequirements({"cpu": "1", "memory": "1Gi"}),
        )
    )
    assert only(container(guaranteed, WEAK), s.SetOomScoreAdj).value == 0


def test_fallbacks_for_old_kernels() -> None:
    launch = container(PLAIN, OLD)
    check(launch)
    assert only(launch, s.NewOverlay).legacy
    assert only(launch, s.NewOverlay).record().flags == ("LEGACY",)
    assert not only(container(PLAIN), s.NewOverlay).legacy


# ---- what runs ----------------------------------------------------------------------------------


def test_command_and_working_directory() -> None:
    launch = container(PLAIN)
    step = only(launch, s.Exec)
    assert (step.candidates, step.argv) == (("/bin/app",), ("/bin/app",))
    assert only(launch, s.Chdir).path == "/srv"  # the image's
    made = next(step for step in of_kind(launch, s.Mkdir) if step.path == "/srv")
    assert made.parents
    mine = pod(Container(name="app", image="i", command=["a"], working_dir="/work"))
    assert only(container(mine), s.Chdir).path == "/work"
    assert only(container(PLAIN, with_run=run(working_dir="")), s.Chdir).path == "/"


def test_the_image_says_what_to_run_when_the_manifest_does_not() -> None:
    one = pod(Container(name="app", image="i", args=["--flag"]))
    assert only(container(one), s.Exec).argv == ("/entry", "--flag")
    plain = only(container(pod(Container(name="app", image="i"))), s.Exec)
    assert plain.argv == ("/entry", "one", "two")
    assert plain.source == "spec.containers[0].image"
    assert only(container(PLAIN), s.Exec).source == "spec.containers[0].command"


def test_nothing_to_run_is_refused_with_the_path() -> None:
    one = pod(Container(name="app", image="img"))
    with pytest.raises(UsageError, match=r"spec.containers\[0\].*img.*command"):
        container(one, with_run=run(entrypoint=(), cmd=()))


def test_command_references_are_expanded_with_the_manifests_variables_only() -> None:
    # kubelet: ExpandContainerCommandAndArgs gets the variables of env, not the image's.
    one = pod(
        Container(
            name="app",
            image="i",
            command=["/bin/app", "$(MINE)", "$(PATH)", "$(HOSTNAME)", "$(LANG)"],
            args=["$$(MINE)"],
            env=[EnvVar("MINE", "x")],
        )
    )
    step = only(container(one), s.Exec)
    assert step.argv == ("/bin/app", "x", "$(PATH)", "$(HOSTNAME)", "$(LANG)", "$(MINE)")


def test_the_second_container_is_named_in_its_sources() -> None:
    launch = container(PODS["two"], index=1)
    sources = {step.source for step in launch.steps if step.source.startswith("spec.containers")}
    assert sources and all(source.startswith("spec.containers[1]") for source in sources)
    assert launch.source == "spec.containers[1]"


def test_the_pods_files_come_on_top_of_a_volume_on_etc() -> None:
    one = with_mounts(
        [Volume(name="v", empty_dir=EmptyDirVolumeSource())],
        VolumeMount(name="v", mount_path="/etc"),
    )
    paths = [step.path for step in container(one).steps if isinstance(step, s.Attach)]
    assert paths.index("/etc") < paths.index("/etc/hosts")


def test_more_volume_mounts_than_slots_are_refused_with_words() -> None:
    many = [VolumeMount(name="v", mount_path=f"/m{n}") for n in range(1001)]
    with pytest.raises(UsageError, match="1001 are more than 1000"):
        container(with_mounts([Volume(name="v", empty_dir=EmptyDirVolumeSource())], *many))
    check(
        container(with_mounts([Volume(name="v", empty_dir=EmptyDirVolumeSource())], *many[:1000]))
    )


def test_declared_volumes_are_below_what_the_manifest_mounts() -> None:
    mounts = [VolumeMount("v", "/data/"), VolumeMount("v", "/srv/lib")]
    of = with_mounts([Volume("v", empty_dir=EmptyDirVolumeSource())], *mounts)
    launch = container(of, with_run=run(declared_volumes=("/data", "/srv/lib/data", "/var/x")))
    opened = [step.inside for step in of_kind(launch, s.OpenTree) if step.root >= 0]
    assert opened == ["/srv/lib/data", "/var/x"], "the manifest's own take their place"
    attached = [step.path for step in of_kind(launch, s.Attach)]
    places = [attached.index(path) for path in ("/srv/lib/data", "/var/x", "/proc", "/srv/lib")]
    assert places == sorted(places)
