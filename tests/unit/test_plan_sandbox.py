# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a pod's sandbox, and of a command in a running container."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minipod.api import (
    Container,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    Pod,
    Volume,
)
from minipod.plan import Facts, compile_exec, compile_sandbox
from minipod.plan import steps as s
from tests.unit.test_plan_checker import (
    HYBRID,
    LINK,
    MACHINES,
    UID,
    V1,
    V2,
    WEAK,
    check,
    context,
    execution,
    pod,
    run,
    sandbox,
)
from tests.unit.test_plan_container import PODS, of_kind, only, place

RUN = f"/run/minipod/pods/{UID}/0"
CGROUP = f"minipod/besteffort/pod{UID}"


def host_steps(of: Pod, facts: Facts = V2, **host_paths: str) -> tuple[s.Step, ...]:
    return compile_sandbox(of, context(of, host_paths), facts)


# ---- the sandbox --------------------------------------------------------------------------------


def test_the_host_steps_in_order() -> None:
    steps = host_steps(pod())
    assert [type(step).__name__ for step in steps] == [
        *["MakeDirectory"] * 5,
        *["MakeCgroup"] * 4,
        "StartShim",
        "Launch",
        "AttachNetwork",
    ]
    made = [(step.path, step.mode) for step in steps if isinstance(step, s.MakeDirectory)]
    assert made == [
        (f"/var/lib/minipod/pods/{UID}", 0o700),
        (RUN, 0o700),
        (f"{RUN}/root", 0o700),
        (f"{RUN}/exits", 0o700),
        (f"/var/log/pods/default_web_{UID}", 0o755),
    ]
    cgroups = [step for step in steps if isinstance(step, s.MakeCgroup)]
    paths = ["minipod", "minipod/besteffort", CGROUP, f"{CGROUP}/sandbox"]
    assert [step.path for step in cgroups] == paths
    assert [(w.file, w.value) for w in cgroups[2].writes] == [
        ("cpu.weight", "1"),
        ("memory.swap.max", "0"),
        ("pids.max", "4096"),
    ]
    attach = steps[-1]
    assert isinstance(attach, s.AttachNetwork)
    assert (attach.address, attach.mac, attach.host_ifname, attach.bridge) == (
        LINK.address,
        LINK.mac,
        LINK.host_ifname,
        "minipod0",
    )
    shim = steps[9]
    assert isinstance(shim, s.StartShim)
    assert (shim.run_dir, shim.label) == (RUN, "default/web")


def test_the_whole_order_of_a_sandbox() -> None:
    names = [type(step).__name__ for step in sandbox(pod()).steps]
    assert names == [
        "Harden",
        "Unshare",
        "MakePrivate",
        "NewFilesystem",  # procfs, never attached
        *("NewFilesystem", "Attach"),  # its root: a tmpfs
        *("Mkdir", "Mkdir", "Mkdir", "WriteFile", "WriteFile", "WriteFile"),
        *("Mkdir", "NewFilesystem", "Attach"),  # /termination
        *("Mkdir", "NewFilesystem", "Attach"),  # /shm
        *("Sysctl", "Sysctl", "SetHostname", "LinkUp"),
        *("OpenFile", "SendFd", "OpenNetlink", "SendFd"),
        "PivotRoot",
        *("NewSession", "NewKeyring", "SetStdio"),
        *("SetIdentity", "SetCapabilities", "NoNewPrivs", "Chdir", "CloseRange"),
        "ExecPause",
    ]


@pytest.mark.parametrize("facts", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("one", PODS.values(), ids=PODS)
def test_every_sandbox_is_sound(one: Pod, facts: Facts) -> None:
    launch = sandbox(one, facts)
    check(launch)
    identity = only(launch, s.SetIdentity)
    assert (identity.uid, identity.gid, identity.groups) == (65535, 65535, ())
    capabilities = only(launch, s.SetCapabilities)
    assert (capabilities.bounding, capabilities.until_exec) == (0, 0)
    assert place(launch, s.SetCapabilities) < place(launch, s.NoNewPrivs)
    assert only(launch, s.ExecPause).slot == launch.pause_slot
    assert launch.stdio == "NULL"


@pytest.mark.parametrize(
    ("spec", "namespaces"),
    [
        ({}, {"mnt", "cgroup", "net", "uts", "ipc"}),
        ({"host_network": True}, {"mnt", "cgroup", "ipc"}),
        ({"host_ipc": True}, {"mnt", "cgroup", "net", "uts"}),
        ({"host_network": True, "host_ipc": True}, {"mnt", "cgroup"}),
        ({"host_pid": True}, {"mnt", "cgroup", "net", "uts", "ipc"}),
        ({"share_process_namespace": True}, {"mnt", "cgroup", "net", "uts", "ipc"}),
    ],
)
def test_namespaces_of_the_sandbox(spec: dict[str, Any], namespaces: set[str]) -> None:
    launch = sandbox(pod(**spec))
    assert set(only(launch, s.Unshare).namespaces) == namespaces
    assert launch.new_pid_namespace == spec.get("share_process_namespace", False)


def test_a_pod_on_the_hosts_network_changes_nothing_of_it() -> None:
    steps = host_steps(pod(host_network=True))
    assert not [step for step in steps if isinstance(step, s.AttachNetwork)]
    launch = sandbox(pod(host_network=True))
    for kind in (s.Sysctl, s.SetHostname, s.LinkUp, s.OpenNetlink, s.SendFd):
        assert of_kind(launch, kind) == []


def test_sysctls_are_set_in_the_new_network_namespace_through_a_private_procfs() -> None:
    launch = sandbox(pod())
    assert [(step.name, step.value, step.optional) for step in of_kind(launch, s.Sysctl)] == [
        ("net.ipv4.ping_group_range", "0 2147483647", True),
        ("net.ipv4.conf.all.route_localnet", "0", True),
    ]
    assert place(launch, s.Unshare) < place(launch, s.Sysctl)
    record = of_kind(launch, s.Sysctl)[0].record()
    assert record.strings[0] == "net/ipv4/ping_group_range"
    assert record.flags == ("OPTIONAL",)


def test_what_is_sent_up_is_what_the_network_step_takes() -> None:
    sent = [step.what for step in of_kind(sandbox(pod()), s.SendFd)]
    assert sent == ["the network namespace", "the netlink socket"]


def test_the_root_of_the_sandbox_holds_nothing_of_the_host() -> None:
    launch = sandbox(pod())
    tree = of_kind(launch, s.NewFilesystem)[1]
    assert (tree.type, set(tree.attributes)) == ("tmpfs", {"nosuid", "nodev", "noexec"})
    assert "size=1048576" in tree.options
    assert only(launch, s.PivotRoot).slot == tree.slot
    outside = [step for step in of_kind(launch, s.Attach) if step.root == -1]
    assert [step.path for step in outside] == [f"{RUN}/root"]
    assert of_kind(launch, s.OpenTree) == []


def test_the_files_of_the_pod() -> None:
    files = {step.path: step.content for step in of_kind(sandbox(pod()), s.WriteFile)}
    assert files == {
        "/files/hosts": "127.0.0.1\tlocalhost\n",
        "/files/resolv.conf": "nameserver 9.9.9.9\n",
        "/files/hostname": "web\n",
    }


def test_shm_is_the_pods_own_unless_the_host_is_shared() -> None:
    launch = sandbox(pod())
    (shm,) = [x for x in of_kind(launch, s.NewFilesystem) if "mode=1777" in x.options]
    assert "size=67108864" in shm.options
    assert "/shm" in {step.path for step in of_kind(launch, s.Attach)}
    assert "/shm" not in {step.path for step in of_kind(sandbox(pod(host_ipc=True)), s.Attach)}


def test_volumes_in_memory_are_mounted_in_the_sandbox() -> None:
    volumes = [
        Volume("sized", empty_dir=EmptyDirVolumeSource("Memory", "64Mi")),
        Volume("free", empty_dir=EmptyDirVolumeSource("Memory")),
        Volume("disk", empty_dir=EmptyDirVolumeSource()),
    ]
    one = pod(volumes=volumes)
    launch = sandbox(one)
    check(launch)
    made = [x for x in of_kind(launch, s.NewFilesystem) if "mode=0777" in x.options]
    machine = f"size={V2.memory}"
    assert [x.options for x in made] == [("mode=0777", "size=67108864"), ("mode=0777", machine)]
    assert [x.source for x in made] == ["spec.volumes[0].emptyDir", "spec.volumes[1].emptyDir"]
    paths = [step.path for step in of_kind(launch, s.Attach)]
    assert paths[-2:] == ["/volumes/sized", "/volumes/free"]
    directories = [x for x in host_steps(one) if isinstance(x, s.MakeDirectory) and x.source]
    assert directories == [
        s.MakeDirectory(
            path=f"/var/lib/minipod/pods/{UID}/volumes/disk",
            mode=0o777,
            source="spec.volumes[2].emptyDir",
        )
    ]


@pytest.mark.parametrize(
    ("type_", "kind", "made"),
    [
        ("DirectoryOrCreate", "directory", True),
        ("FileOrCreate", "file", False),
        ("", "directory", True),
        ("", "file", False),
        ("", "socket", None),
        ("", "char", None),
        ("Directory", "directory", None),
        ("File", "file", None),
        ("Socket", "socket", None),
        ("CharDevice", "char", None),
        ("BlockDevice", "block", None),
    ],
)
def test_host_paths_that_are_made(type_: str, kind: str, made: bool | None) -> None:
    one = pod(volumes=[Volume("v", host_path=HostPathVolumeSource("/srv/it", type_))])
    steps = [step for step in host_steps(one, v=kind) if isinstance(step, s.MakeHostPath)]
    if made is None:
        assert steps == []
    else:
        (step,) = steps
        assert (step.path, step.directory) == ("/srv/it", made)
        assert step.source == "spec.volumes[0].hostPath"


def test_directories_and_cgroups_are_there_before_the_launch() -> None:
    volumes = [
        Volume("d", empty_dir=EmptyDirVolumeSource()),
        Volume("h", host_path=HostPathVolumeSource("/srv/it", "DirectoryOrCreate")),
    ]
    steps = host_steps(pod(volumes=volumes), h="directory")
    launch = next(i for i, step in enumerate(steps) if isinstance(step, s.Launch))
    for i, step in enumerate(steps):
        if isinstance(step, s.MakeDirectory | s.MakeHostPath | s.MakeCgroup | s.StartShim):
            assert i < launch


def test_cgroups_of_the_sandbox() -> None:
    assert sandbox(pod(), V2).into_cgroup == f"{CGROUP}/sandbox"
    assert sandbox(pod(), HYBRID).into_cgroup == f"{CGROUP}/sandbox"
    launch = sandbox(pod(), V1)
    assert launch.into_cgroup == ""
    joined = [step.directory for step in of_kind(launch, s.JoinCgroup)]
    assert len(joined) == 4 and all(path.endswith(f"/{CGROUP}/sandbox") for path in joined)
    assert place(launch, s.JoinCgroup, last=True) < place(launch, s.Unshare)


# ---- exec ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [False, True], ids=["streams", "tty"])
@pytest.mark.parametrize("facts", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("one", PODS.values(), ids=PODS)
def test_every_exec_is_sound(one: Pod, facts: Facts, tty: bool) -> None:
    launch = execution(one, facts, tty=tty)
    check(launch)
    assert (launch.key, launch.kind) == ("exec/7", "EXEC")
    assert launch.join_pid_namespace is not one.spec.host_pid
    assert not launch.new_pid_namespace
    name = one.spec.containers[0].name
    assert launch.join == f"{name}/0"
    assert set(only(launch, s.SetNs).namespaces) == {"mnt", "net", "uts", "ipc", "cgroup"}
    for kind in (s.Attach, s.PivotRoot, s.MaskPaths, s.Unshare):
        assert of_kind(launch, kind) == []


def test_an_exec_is_no_stronger_than_its_container() -> None:
    from tests.unit.test_plan_checker import container

    for facts in (V2, V1, WEAK, replace(V2, capabilities=0xFF)):
        inside, main = execution(pod(), facts), container(pod(), facts)
        kinds = (s.SetIdentity, s.SetCapabilities, s.LoadSeccomp, s.SetRlimit, s.SetOomScoreAdj)
        for kind in kinds:
            assert only(inside, kind) == only(main, kind)
        assert only(inside, s.Chdir) == only(main, s.Chdir)


def test_streams_of_an_exec() -> None:
    plain = execution(pod())
    assert plain.stdio == "FDS"
    assert plain.fds == ("stdin", "stdout", "stderr", "cgroup")
    assert only(plain, s.SetStdio).slots == (0, 1, 2)
    assert execution(pod(), V1).fds == ("stdin", "stdout", "stderr")
    terminal = execution(pod(), tty=True)
    assert (terminal.stdio, terminal.fds) == ("TTY", ("cgroup",))
    assert execution(pod(), V1, tty=True).fds == ()
    assert not only(terminal, s.OpenPty).console  # /dev/console is the container's own terminal


def test_nothing_is_opened_in_the_container_without_need() -> None:
    assert of_kind(execution(pod()), s.OpenFile) == []
    (opened,) = of_kind(execution(pod(), tty=True), s.OpenFile)
    assert opened.path == "/"


def test_the_terminal_of_an_exec() -> None:
    one = pod()
    launch = compile_exec(
        one,
        one.spec.containers[0],
        context(one),
        run(),
        V2,
        ("vi",),
        number=1,
        tty=True,
        size=(24, 80),
        term="screen",
    )
    pty = only(launch, s.OpenPty)
    assert (pty.rows, pty.columns) == (24, 80)
    step = only(launch, s.Exec)
    assert "TERM=screen" in step.env
    assert step.candidates == ("/image/bin/vi",)
    assert not [word for word in only(execution(one), s.Exec).env if word.startswith("TERM=")]
    assert "TERM=xterm" in only(execution(one, tty=True), s.Exec).env


def test_the_command_of_an_exec_is_taken_as_it_is() -> None:
    one = pod(Container(name="app", image="i", command=["a"]))
    launch = compile_exec(
        one,
        one.spec.containers[0],
        context(one),
        run(attempt=4),
        V2,
        ("/bin/echo", "$(PATH)"),
        number=1,
        tty=False,
    )
    assert only(launch, s.Exec).argv == ("/bin/echo", "$(PATH)")
    assert launch.join == "app/4"
    assert launch.into_cgroup == f"{CGROUP}/app.4"
