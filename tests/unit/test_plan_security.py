# SPDX-License-Identifier: GPL-3.0-or-later
"""Security contexts in plans: what is merged, what is given up, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import pytest

from minipod.api import (
    AppArmorProfile,
    Capabilities,
    Container,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    Pod,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    Sysctl,
    Volume,
    VolumeMount,
)
from minipod.api.capabilities import CAPABILITIES
from minipod.plan import Facts, compile_container, compile_exec, compile_sandbox
from minipod.plan import steps as s
from minipod.plan.context import Device, Users
from minipod.plan.defaults import DEFAULT_CAPABILITIES, capability_mask
from minipod.plan.security import effective, lacking, wanted_capabilities
from tests.unit.test_plan_checker import (
    ALL_CAPABILITIES,
    MACHINES,
    V1,
    V2,
    check,
    context,
    launch_of,
    pod,
    run,
    swapped,
    without,
)

T = TypeVar("T")
USERS = Users(1879048192)
DEFAULT = capability_mask(DEFAULT_CAPABILITIES)


def secured(shared: PodSecurityContext | None = None, **own: Any) -> Pod:
    """Return a pod with one container with this security context."""
    container = Container(
        name="app", image="img", command=["/bin/app"], security_context=SecurityContext(**own)
    )
    return pod(container, security_context=shared or PodSecurityContext())


def launch(of: Pod, facts: Facts = V2, **changes: Any) -> s.Launch:
    one = of.spec.containers[0]
    return launch_of(compile_container(of, one, context(of), run(**changes), facts))


def execution(of: Pod, facts: Facts = V2, **changes: Any) -> s.Launch:
    one = of.spec.containers[0]
    made = run(**changes)
    return compile_exec(of, one, context(of), made, facts, ("ls",), number=1, tty=False)


def steps_of(made: s.Launch, kind: type[T]) -> list[T]:
    return [step for step in made.steps if isinstance(step, kind)]


# ---- merging --------------------------------------------------------------------------------------------------


def test_the_containers_word_goes_before_the_pods() -> None:
    shared = PodSecurityContext(
        run_as_user=1,
        run_as_group=2,
        run_as_non_root=True,
        seccomp_profile=SeccompProfile("Unconfined"),
        app_armor_profile=AppArmorProfile("Unconfined"),
    )
    found = effective(of := secured(shared), of.spec.containers[0])
    assert (found.run_as_user, found.run_as_group, found.run_as_non_root) == (1, 2, True)
    assert found.seccomp_profile == SeccompProfile("Unconfined")
    assert found.app_armor_profile == AppArmorProfile("Unconfined")
    of = secured(shared, run_as_user=0, run_as_non_root=False)
    found = effective(of, of.spec.containers[0])
    assert (found.run_as_user, found.run_as_group, found.run_as_non_root) == (0, 2, False)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], DEFAULT_CAPABILITIES),
        (["NET_ADMIN"], [], DEFAULT_CAPABILITIES | {"NET_ADMIN"}),
        (["cap_net_admin"], ["Cap_Chown"], (DEFAULT_CAPABILITIES | {"NET_ADMIN"}) - {"CHOWN"}),
        ([], ["ALL"], set()),
        (["NET_ADMIN"], ["all"], {"NET_ADMIN"}),
        (["ALL"], [], set(CAPABILITIES)),
        (["ALL"], ["CHOWN"], set(CAPABILITIES) - {"CHOWN"}),
        (["ALL"], ["ALL"], set()),
        (["KILL"], ["KILL"], DEFAULT_CAPABILITIES - {"KILL"}),
    ],
)
def test_capabilities(add: list[str], drop: list[str], expected: set[str]) -> None:
    security = SecurityContext(capabilities=Capabilities(add, drop))
    assert wanted_capabilities(security) == expected


def test_a_privileged_container_has_all_whatever_it_drops() -> None:
    security = SecurityContext(privileged=True, capabilities=Capabilities(drop=["ALL"]))
    assert wanted_capabilities(security) == set(CAPABILITIES)


def test_what_the_agent_lacks_is_not_given_and_said() -> None:
    weak = replace(V2, capabilities=ALL_CAPABILITIES & ~capability_mask({"SYS_RESOURCE"}))
    of = secured(capabilities=Capabilities(add=["SYS_RESOURCE", "NET_ADMIN"]))
    (step,) = steps_of(launch(of, weak), s.SetCapabilities)
    assert step.bounding == DEFAULT | capability_mask({"NET_ADMIN"})
    assert lacking(of, weak) == ["container app is without SYS_RESOURCE: the agent lacks them"]
    assert lacking(of, V2) == lacking(secured(), weak) == []


# ---- order ----------------------------------------------------------------------------------------------------

POSTURES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "privileged": ({"privileged": True}, {"seccomp": b""}, True),
    "unconfined": ({"seccomp_profile": SeccompProfile("Unconfined")}, {"seccomp": b""}, True),
    "no new privileges": ({"allow_privilege_escalation": False}, {}, False),
    "both": ({"allow_privilege_escalation": False}, {"seccomp": b""}, True),
    "non-root": ({"run_as_user": 1000}, {"uid": 1000}, False),
    "root": ({}, {"uid": 0}, False),
    "read-only": ({"read_only_root_filesystem": True}, {}, False),
    "unmasked": ({"proc_mount": "Unmasked"}, {}, False),
    "no capabilities": ({"capabilities": Capabilities(drop=["ALL"])}, {}, False),
    "apparmor": (
        {"app_armor_profile": AppArmorProfile("Localhost", "x")},
        {"apparmor": "x"},
        False,
    ),
}


@pytest.mark.parametrize("facts", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize(("own", "changes", "unconfined"), POSTURES.values(), ids=POSTURES)
def test_every_posture_passes(
    own: dict[str, Any], changes: dict[str, Any], unconfined: bool, facts: Facts
) -> None:
    check(launch(secured(**own), facts, **changes), unconfined=unconfined)
    check(execution(secured(**own), facts, **changes), unconfined=unconfined)


def test_nothing_more_is_kept_until_exec_than_is_needed() -> None:
    (plain,) = steps_of(launch(secured()), s.SetCapabilities)
    assert plain.until_exec == DEFAULT | capability_mask({"SYS_ADMIN"})
    (forbidden,) = steps_of(launch(secured(allow_privilege_escalation=False)), s.SetCapabilities)
    assert forbidden.until_exec == DEFAULT
    (bare,) = steps_of(launch(secured(), seccomp=b""), s.SetCapabilities)
    assert bare.until_exec == DEFAULT


def test_no_new_privileges_comes_before_the_filter() -> None:
    made = launch(secured(allow_privilege_escalation=False))
    with pytest.raises(AssertionError, match="before"):
        check(swapped(made, s.NoNewPrivs, s.LoadSeccomp))
    with pytest.raises(AssertionError):
        check(without(made, s.NoNewPrivs))


def test_a_missing_filter_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no exec without a filter"):
        check(launch(secured(), seccomp=b""))


def test_a_read_only_root_is_sealed_right_before_it_becomes_the_root() -> None:
    of = secured(read_only_root_filesystem=True)
    names = [type(step).__name__ for step in launch(of, working_dir="/srv").steps]
    at = names.index("PivotRoot")
    assert names[at - 2 : at] == ["Mkdir", "SetMountAttributes"]


# ---- privileged and unmasked ----------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [V1, V2])
def test_privileged(facts: Facts) -> None:
    of = secured(privileged=True)
    devices = (
        Device("/null", False, 1, 3, 0o666, 0, 0),
        Device("/sda", True, 8, 0, 0o660, 0, 6),
        Device("/input/event0", False, 13, 64, 0o600, 0, 0),
        Device("/input/event1", False, 13, 65, 0o600, 0, 0),
    )
    one = of.spec.containers[0]
    made = run(seccomp=b"", devices=devices)
    host = compile_container(of, one, context(of), made, facts)
    (cgroup,) = [step for step in host if isinstance(step, s.MakeCgroup)]
    assert not cgroup.devices, "no list of allowed devices"
    inside = launch_of(host)
    assert not steps_of(inside, s.MaskPaths) and not steps_of(inside, s.ReadonlyPaths)
    read_only = [step.type for step in steps_of(inside, s.NewFilesystem) if "ro" in step.attributes]
    assert read_only == []
    nodes = {step.path: step.record().numbers for step in steps_of(inside, s.Mknod)}
    assert nodes["/sda"] == (0o060660, 8, 0, 6)
    assert nodes["/input/event1"] == (0o020600, 13, 65, 0)
    assert [step.path for step in steps_of(inside, s.Mkdir)].count("/input") == 1
    assert len(nodes) == 6 + 3, "what every container has is not made twice"


def test_unmasked_is_proc_only() -> None:
    made = launch(secured(proc_mount="Unmasked"))
    assert not steps_of(made, s.ReadonlyPaths)
    (masked,) = steps_of(made, s.MaskPaths)
    assert all(path.startswith("/sys/") for path in masked.paths)


# ---- the sandbox ----------------------------------------------------------------------------------------------


def test_sysctls() -> None:
    items = [Sysctl("net/ipv4/conf/eth0.7/x", "1"), Sysctl("kernel.shm_rmid_forced", "0")]
    of = secured(PodSecurityContext(sysctls=items))
    steps = steps_of(launch_of(compile_sandbox(of, context(of), V2)), s.Sysctl)[-2:]
    assert [(step.record().strings, step.optional) for step in steps] == [
        (("net/ipv4/conf/eth0.7/x", "1"), False),
        (("kernel/shm_rmid_forced", "0"), False),
    ]
    assert steps[1].source == "spec.securityContext.sysctls[1]"


def test_fs_group() -> None:
    volumes = [
        Volume("disk", empty_dir=EmptyDirVolumeSource()),
        Volume("memory", empty_dir=EmptyDirVolumeSource(medium="Memory")),
        Volume("host", host_path=HostPathVolumeSource("/srv")),
    ]
    of = secured(PodSecurityContext(fs_group=5))
    of.spec.volumes = volumes
    host = compile_sandbox(of, context(of, {"host": "directory"}), V2)
    given = [step for step in host if isinstance(step, s.GiveToGroup)]
    assert [(step.path.rsplit("/", 1)[1], step.gid) for step in given] == [("disk", 5)]
    made = [step for step in host if isinstance(step, s.MakeDirectory)]
    assert host.index(given[0]) > max(host.index(step) for step in made if "disk" in step.path)
    options = [step.options for step in steps_of(launch_of(host), s.NewFilesystem)]
    assert any({"mode=2777", "gid=5"} <= set(each) for each in options)


# ---- user namespaces ------------------------------------------------------------------------------------------


def mapped(**own: Any) -> Pod:
    of = secured(PodSecurityContext(fs_group=5), **own)
    of.spec.host_users = False
    of.spec.volumes = [
        Volume("disk", empty_dir=EmptyDirVolumeSource()),
        Volume("memory", empty_dir=EmptyDirVolumeSource(medium="Memory")),
    ]
    of.spec.containers[0].volume_mounts = [
        VolumeMount("disk", "/disk"),
        VolumeMount("memory", "/memory"),
    ]
    return of


@pytest.mark.parametrize("facts", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("shared_pid", [False, True])
def test_a_pod_with_a_user_namespace_passes(facts: Facts, shared_pid: bool) -> None:
    of = mapped()
    of.spec.share_process_namespace = shared_pid
    where = replace(context(of), users=USERS)
    one = of.spec.containers[0]
    check(launch_of(compile_sandbox(of, where, facts)))
    check(launch_of(compile_container(of, one, where, run(), facts)))
    check(compile_exec(of, one, where, run(), facts, ("ls",), number=1, tty=True))


def test_what_a_user_namespace_changes() -> None:
    of = mapped()
    where = replace(context(of), users=USERS)
    host = compile_container(of, of.spec.containers[0], where, run(uid=0), V2)
    upper = next(step for step in host if isinstance(step, s.MakeDirectory))
    assert upper.owner == USERS.first
    inside = launch_of(host)
    assert steps_of(inside, s.NewOverlay)[0].users >= 0
    trees = {step.path: step.users >= 0 for step in steps_of(inside, s.OpenTree)}
    assert trees[f"{where.pod_dir}/volumes/disk"] and not trees["/volumes/memory"]
    assert steps_of(inside, s.OwnStdio)[0].uid == USERS.first, "root's pipes are not the host's"
    names = [type(step).__name__ for step in inside.steps]
    at = names.index("EnterUserNamespace")
    assert names.index("PivotRoot") < names.index("OwnStdio") < at
    assert names[at + 1 : at + 3] == ["Unshare", "SetIdentity"]
    (caps,) = steps_of(inside, s.SetCapabilities)
    assert caps.bounding == DEFAULT
    options = {step.type: step.options for step in steps_of(inside, s.NewFilesystem)}
    assert f"gid={USERS.first + 5}" in options["devpts"]


def test_all_capabilities_are_its_own_whatever_the_agent_has() -> None:
    weak = replace(V2, capabilities=capability_mask({"SYS_ADMIN", "SETUID"}))
    of = mapped(capabilities=Capabilities(add=["ALL"]))
    where = replace(context(of), users=USERS)
    made = launch_of(compile_container(of, of.spec.containers[0], where, run(), weak))
    assert steps_of(made, s.SetCapabilities)[0].bounding == ALL_CAPABILITIES
    assert lacking(of, weak) == []


def test_the_sandbox_of_a_user_namespace() -> None:
    of = mapped()
    where = replace(context(of), users=USERS)
    made = launch_of(compile_sandbox(of, where, V2))
    names = [type(step).__name__ for step in made.steps]
    first, second = steps_of(made, s.Unshare)
    assert first.namespaces == ("mnt", "cgroup")
    assert second.namespaces == ("net", "uts", "ipc"), "they belong to the user namespace"
    assert names.index("MakeUserNamespace") < names.index("OwnFiles") < names.index("PivotRoot")
    assert names.index("PivotRoot") < names.index("EnterUserNamespace") < names.index("Sysctl")
    values = {step.name: step.value for step in steps_of(made, s.Sysctl)}
    assert values["net.ipv4.ping_group_range"] == "0 65535"
    options = [step.options for step in steps_of(made, s.NewFilesystem)]
    assert any(f"gid={USERS.first + 5}" in each for each in options)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (s.EnterUserNamespace, s.PivotRoot),
        (s.EnterUserNamespace, s.SetIdentity),
        (s.EnterUserNamespace, s.OwnStdio),
        (s.OwnFiles, s.EnterUserNamespace),
    ],
)
def test_a_wrong_order_is_noticed(one: type[s.Step], other: type[s.Step]) -> None:
    of = mapped()
    where = replace(context(of), users=USERS)
    made = launch_of(compile_container(of, of.spec.containers[0], where, run(), V2))
    with pytest.raises(AssertionError):
        check(swapped(made, one, other))
