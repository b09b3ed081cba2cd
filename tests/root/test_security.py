# SPDX-License-Identifier: GPL-3.0-or-later
"""Security contexts: what a container is and may, seen from inside, for every field.

What a default container is, is in test_posture.py; each test here says how another one differs from it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from tests import features
from tests.conftest import Images
from tests.instance import Instance, Json
from tests.root.test_posture import CAPABILITIES, MASKED, NONE, READ_ONLY

pytestmark = features.requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

# linux/capability.h
CHOWN, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_ADMIN, SYS_RESOURCE = 0, 10, 12, 13, 21, 24


def agents_capabilities() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)


def report(instance: Instance, name: str, context: Json, **spec: Any) -> Json:
    """Run the probe in a container with this security context; return what it says."""
    container = {"securityContext": context, "command": ["/probe", "report"]}
    pod = instance.run_pod(name, container, **spec)
    said = instance.output(name)
    instance.delete(name)
    assert pod["status"]["phase"] == "Succeeded", pod["status"]
    found: Json = json.loads(said)
    return found


def waiting(instance: Instance, name: str) -> Json:
    """Wait until the container of a pod waits for something other than its turn, and return for what."""

    def holds(pod: Json) -> bool:
        for each in pod["status"].get("containerStatuses", []):
            if each["state"].get("waiting", {}).get("reason", "ContainerCreating") not in (
                "ContainerCreating",
                "PodInitializing",
            ):
                return True
        return False

    pod = instance.until(name, holds)
    found: Json = pod["status"]["containerStatuses"][0]["state"]["waiting"]
    return found


# ---- users and groups -----------------------------------------------------------------------------------------


@pytest.mark.field(
    "PodSecurityContext.runAsUser",
    "PodSecurityContext.runAsGroup",
    "PodSecurityContext.supplementalGroups",
    "SecurityContext.runAsUser",
    "SecurityContext.runAsGroup",
)
@pytest.mark.parametrize(
    ("pod", "own", "ids"),
    [
        # An unknown number stands for itself, with group 0.
        ({"runAsUser": 4321}, {}, (4321, 0, [0])),
        ({"runAsUser": 4321, "runAsGroup": 5}, {}, (4321, 5, [5])),
        ({"runAsGroup": 7}, {}, (0, 7, [7])),
        ({"runAsUser": 1, "runAsGroup": 2}, {"runAsUser": 3}, (3, 2, [2])),
        ({"runAsUser": 1}, {"runAsUser": 0, "runAsGroup": 9}, (0, 9, [9])),
        ({"supplementalGroups": [30, 20]}, {"runAsUser": 8}, (8, 0, [0, 20, 30])),
        ({"supplementalGroups": [0, 20], "fsGroup": 10}, {}, (0, 0, [0, 10, 20])),
        ({"runAsUser": 2147483647, "runAsGroup": 2147483647}, {}, (2147483647,) * 2),
    ],
    ids=str,
)
def test_users(shared_instance: Instance, pod: Json, own: Json, ids: tuple[Any, ...]) -> None:
    found = report(shared_instance, "users", own, securityContext=pod)["ids"]
    assert found["uids"] == [ids[0]] * 3
    assert found["gids"] == [ids[1]] * 3
    assert found["groups"] == (ids[2] if len(ids) > 2 else [ids[1]])


def test_as_many_groups_as_the_kernel_takes(shared_instance: Instance) -> None:
    groups = list(range(1, 2000))
    shared_instance.start_pod("groups", {}, securityContext={"supplementalGroups": groups})
    status = Path(f"/proc/{shared_instance.pid('groups')}/status").read_text()
    shared_instance.delete("groups")
    line = next(line for line in status.splitlines() if line.startswith("Groups:"))
    assert [int(word) for word in line.split()[1:]] == [0, *groups]


@pytest.mark.field("PodSecurityContext.supplementalGroupsPolicy")
def test_a_user_of_the_image_by_number(shared_instance: Instance, images: Images) -> None:
    """It has the home, the primary group and the groups that the image's files give it; Strict: not the latter."""
    shared_instance.load(images.probe("people", {}))
    base: Json = {"image": "localhost/people:1", "command": ["/probe", "report"]}
    for policy, groups in (("Merge", [1000, 50, 2000]), ("Strict", [1000, 50])):
        context = {"runAsUser": 1000, "supplementalGroupsPolicy": policy}
        shared_instance.run_pod(
            "people", base, securityContext={**context, "supplementalGroups": [50]}
        )
        found = json.loads(shared_instance.output("people"))
        user = shared_instance.container("people")["user"]
        shared_instance.delete("people")
        assert found["ids"]["uids"] == found["ids"]["gids"] == [1000] * 3
        assert sorted(found["ids"]["groups"]) == sorted(groups)
        assert found["env"]["HOME"] == "/home/someone"
        expected = {"uid": 1000, "gid": 1000, "supplementalGroups": groups}
        assert user == {"linux": expected}


def test_home_of_an_unknown_user(shared_instance: Instance) -> None:
    found = report(shared_instance, "home", {"runAsUser": 4321})
    assert found["env"]["HOME"] == "/"
    assert found["caps"] == {
        "inheritable": NONE,
        "permitted": NONE,
        "effective": NONE,
        "bounding": CAPABILITIES,
        "ambient": NONE,
    }
    assert found["seccomp"] == {"mode": "2", "filters": "1", "no_new_privs": "0"}


def test_exec_is_the_same_user(shared_instance: Instance) -> None:
    context = {
        "runAsUser": 77,
        "runAsGroup": 78,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    }
    shared_instance.start_pod(
        "same", {"securityContext": context}, securityContext={"supplementalGroups": [79]}
    )
    found = shared_instance.probe("same", "report")
    shared_instance.delete("same")
    assert (found["ids"]["uid"], found["ids"]["gid"]) == (77, 78)
    assert found["ids"]["groups"] == [78, 79]
    assert found["caps"]["bounding"] == f"{1 << NET_BIND_SERVICE:016x}"
    assert found["seccomp"] == {"mode": "2", "filters": "1", "no_new_privs": "1"}


@pytest.mark.field("PodSecurityContext.runAsNonRoot")
@pytest.mark.parametrize(
    ("user", "context", "words"),
    [
        (None, {}, "container has runAsNonRoot and image will run as root"),
        ("0", {}, "container has runAsNonRoot and image will run as root"),
        ("0:1000", {}, "container has runAsNonRoot and image will run as root"),
        ("someone", {}, "image has non-numeric user (someone), cannot verify user is non-root"),
        ("1000", {"runAsUser": 0}, "container's runAsUser breaks non-root policy"),
    ],
)
def test_run_as_non_root(
    shared_instance: Instance, images: Images, user: str | None, context: Json, words: str
) -> None:
    shared_instance.load(images.probe("rooted", {"User": user} if user else {}))
    container = {"image": "localhost/rooted:1", "securityContext": context}
    shared_instance.create("rooted", container, securityContext={"runAsNonRoot": True})
    found = waiting(shared_instance, "rooted")
    shared_instance.delete("rooted")
    assert found["reason"] == "CreateContainerConfigError"
    assert words in found["message"]
    assert '(pod: "rooted_default(' in found["message"] and "container: c0)" in found["message"]


@pytest.mark.field("SecurityContext.runAsNonRoot")
@pytest.mark.parametrize(
    ("user", "context"),
    [("1000", {}), ("someone", {"runAsUser": 1000}), ("0", {"runAsNonRoot": False})],
)
def test_run_as_non_root_is_met(
    shared_instance: Instance, images: Images, user: str, context: Json
) -> None:
    shared_instance.load(images.probe("rootless", {"User": user, "Cmd": ["ids"]}))
    container = {"image": "localhost/rootless:1", "securityContext": context}
    pod = shared_instance.run_pod("rootless", container, securityContext={"runAsNonRoot": True})
    shared_instance.delete("rootless")
    assert pod["status"]["phase"] == "Succeeded"


# ---- capabilities ---------------------------------------------------------------------------------------------


@pytest.mark.field("Container.securityContext", "Capabilities.add", "Capabilities.drop")
@pytest.mark.parametrize(
    ("capabilities", "changed"),
    [
        ({"add": ["NET_ADMIN"]}, lambda had: had | 1 << NET_ADMIN),
        ({"add": ["cap_net_raw"]}, lambda had: had | 1 << NET_RAW),
        ({"drop": ["CHOWN", "CAP_KILL"]}, lambda had: had & ~(1 << CHOWN | 1 << 5)),
        ({"drop": ["ALL"]}, lambda had: 0),
        ({"drop": ["all"], "add": ["NET_ADMIN"]}, lambda had: 1 << NET_ADMIN),
        ({"add": ["ALL"]}, lambda had: agents_capabilities()),
        ({"add": ["ALL"], "drop": ["CHOWN"]}, lambda had: agents_capabilities() & ~(1 << CHOWN)),
        ({"add": ["NET_ADMIN"], "drop": ["NET_ADMIN"]}, lambda had: had),
    ],
    ids=str,
)
def test_capabilities(shared_instance: Instance, capabilities: Json, changed: Any) -> None:
    found = report(shared_instance, "caps", {"capabilities": capabilities})["caps"]
    expected = f"{changed(int(CAPABILITIES, 16)):016x}"
    assert found == {
        "inheritable": NONE,
        "permitted": expected,
        "effective": expected,
        "bounding": expected,
        "ambient": NONE,
    }


def test_the_filter_follows_the_capabilities(shared_instance: Instance) -> None:
    added = {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
    shared_instance.start_pod("filter", added, {})
    with_it = shared_instance.probe("filter", "try-syscall", "unshare", "0")
    without = shared_instance.probe("filter", "try-syscall", "unshare", "0", container="c1")
    shared_instance.delete("filter")
    assert (with_it["errno"], without["errno"]) == (0, errno.EPERM)


def test_what_the_agent_has_not_is_said(shared_instance: Instance) -> None:
    missing = not agents_capabilities() >> SYS_RESOURCE & 1
    added = {"securityContext": {"capabilities": {"add": ["SYS_RESOURCE"]}}}
    pod = shared_instance.start_pod("weak", added)
    shared_instance.delete("weak")
    notes = [c.get("message", "") for c in pod["status"]["conditions"] if "Degraded" in c["type"]]
    assert any("c0 is without SYS_RESOURCE" in note for note in notes) == missing


def test_no_new_privileges(shared_instance: Instance) -> None:
    found = report(shared_instance, "nnp", {"allowPrivilegeEscalation": False})
    assert found["seccomp"] == {"mode": "2", "filters": "1", "no_new_privs": "1"}
    assert found["caps"]["effective"] == found["caps"]["bounding"] == CAPABILITIES


@pytest.mark.field("SecurityContext.allowPrivilegeEscalation")
def test_no_new_privileges_takes_the_setuid_bit_its_power(shared_instance: Instance) -> None:
    """The same program, setuid root, executed by user 1000: root, and not."""
    copy = "cp /probe /s/probe && chmod 4755 /s/probe && exec sleep 1000"
    mounts = [{"name": "s", "mountPath": "/s"}]
    user = {"runAsUser": 1000}
    wait = ["sh", "-c", "sleep 1000"]
    shared_instance.start_pod(
        "setuid",
        {"command": ["sh", "-c", copy], "volumeMounts": mounts},
        {"command": wait, "volumeMounts": mounts, "securityContext": user},
        {
            "command": wait,
            "volumeMounts": mounts,
            "securityContext": {**user, "allowPrivilegeEscalation": False},
        },
        volumes=[{"name": "s", "emptyDir": {}}],
    )
    uids = []
    for container in ("c1", "c2"):
        for _ in range(200):
            done = shared_instance.exec("setuid", "/s/probe", "ids", container=container)
            if done.returncode == 0:
                break
        uids.append(json.loads(done.stdout)["uids"])
    shared_instance.delete("setuid")
    assert uids == [[1000, 0, 0], [1000, 1000, 1000]]


# ---- the root file system -------------------------------------------------------------------------------------


@pytest.mark.field("SecurityContext.readOnlyRootFilesystem")
def test_read_only_root(shared_instance: Instance) -> None:
    container = {
        "securityContext": {"readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "v", "mountPath": "/made/for/it"}],
        "workingDir": "/made/too",
    }
    shared_instance.start_pod("sealed", container, volumes=[{"name": "v", "emptyDir": {}}])

    def write(path: str) -> Any:
        answer = shared_instance.probe("sealed", "write", path, "x")
        return answer.get("errno", answer.get("written"))

    for path in ("/x", "/tmp/x", "/etc/x", "/made/x", "/etc/hostname", "/etc/resolv.conf"):
        assert write(path) == errno.EROFS, path
    for path in ("/made/for/it/x", "/dev/shm/x", "/dev/x", "/etc/hosts"):
        assert write(path) == 1, path
    assert shared_instance.probe("sealed", "cwd") == "/made/too"
    mounts = {m["target"]: m["options"] for m in shared_instance.probe("sealed", "mounts")}
    assert mounts["/"] == "ro,relatime"
    shared_instance.delete("sealed")


# ---- privileged -----------------------------------------------------------------------------------------------


@pytest.mark.field("SecurityContext.privileged")
def test_privileged(shared_instance: Instance) -> None:
    context = {"privileged": True}
    shared_instance.start_pod("mighty", {"securityContext": context}, {})
    probe = shared_instance.probe
    found = json.loads(shared_instance.first_line("mighty", "c0"))
    executed = probe("mighty", "report")
    for each in (found, executed):
        all_of_them = f"{agents_capabilities():016x}"
        assert each["caps"] == {
            "inheritable": NONE,
            "permitted": all_of_them,
            "effective": all_of_them,
            "bounding": all_of_them,
            "ambient": NONE,
        }
        assert each["seccomp"] == {"mode": "0", "filters": "0", "no_new_privs": "0"}
    mounts = {m["target"]: m["options"] for m in found["mounts"]}
    assert not mounts.keys() & {*MASKED, *READ_ONLY}, "nothing is hidden"
    for path in ("/sys", "/sys/fs/cgroup", "/proc"):
        assert mounts[path] == "rw,nosuid,nodev,noexec,relatime", path
    host = {
        name: os.lstat(f"/dev/{name}")
        for name in os.listdir("/dev")
        if stat.S_ISBLK(os.lstat(f"/dev/{name}").st_mode)
        or stat.S_ISCHR(os.lstat(f"/dev/{name}").st_mode)
    }
    own = ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx")
    assert host.keys() - set(own), "this machine has more devices"
    for name, at in host.items():
        if name in own:
            continue
        seen = found["dev"][name]
        assert seen["rdev"] == [os.major(at.st_rdev), os.minor(at.st_rdev)], name
        assert (seen["mode"], seen["uid"], seen["gid"]) == (
            stat.S_IMODE(at.st_mode),
            at.st_uid,
            at.st_gid,
        ), name
    # And they open: the neighbour may not open the same number.
    if "kmsg" in host:
        directory = Path(f"/proc/{shared_instance.pid('mighty', 'c1')}/root/tmp")
        os.mknod(directory / "kmsg", stat.S_IFCHR | 0o666, host["kmsg"].st_rdev)
        opened = shared_instance.exec("mighty", "sh", "-c", "exec 3</dev/kmsg")
        assert opened.returncode == 0, opened
        answer = probe("mighty", "read", "/tmp/kmsg", container="c1")
        assert answer["errno"] == errno.EPERM
    shared_instance.delete("mighty")


# ---- seccomp --------------------------------------------------------------------------------------------------


def test_unconfined(shared_instance: Instance) -> None:
    found = report(shared_instance, "bare", {"seccompProfile": {"type": "Unconfined"}})
    assert found["seccomp"] == {"mode": "0", "filters": "0", "no_new_privs": "0"}
    assert found["caps"]["effective"] == CAPABILITIES, "SYS_ADMIN was not kept"


@pytest.mark.field(
    "PodSecurityContext.seccompProfile", "SecurityContext.seccompProfile", "SeccompProfile.type"
)
def test_the_containers_profile_goes_before_the_pods(shared_instance: Instance) -> None:
    shared = {"seccompProfile": {"type": "Unconfined"}}
    own = {"seccompProfile": {"type": "RuntimeDefault"}}
    assert report(shared_instance, "own", own, securityContext=shared)["seccomp"]["mode"] == "2"
    assert report(shared_instance, "shared", {}, securityContext=shared)["seccomp"]["mode"] == "0"


@pytest.mark.field("SeccompProfile.localhostProfile")
@pytest.mark.parametrize("unprivileged", [False, True])
def test_localhost_profile(shared_instance: Instance, unprivileged: bool) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["acct", "kcmp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
            },
        ],
    }
    directory = Path(shared_instance.config.root_dir, "seccomp", "team")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "no-kcmp.json").write_text(json.dumps(profile))
    context: Json = {
        "seccompProfile": {"type": "Localhost", "localhostProfile": "team/no-kcmp.json"}
    }
    if unprivileged:
        context["allowPrivilegeEscalation"] = False
    shared_instance.start_pod("local", {"securityContext": context})

    def error(*call: str) -> int:
        number: int = shared_instance.probe("local", "try-syscall", *call)["errno"]
        return number

    assert error("kcmp", "0", "0", "0") == 38
    assert error("socket", "1", "1", "0") == errno.EPERM
    assert error("socket", "2", "1", "0") == 0
    assert error("unshare", "0") == 0, "what the default refuses is allowed here"
    found = shared_instance.probe("local", "report")
    assert found["seccomp"]["mode"] == "2"
    assert found["seccomp"]["no_new_privs"] == str(int(unprivileged))
    shared_instance.delete("local")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "seccomp profile not found: "),
        ("{", "it is not JSON"),
        ('{"defaultAction": "SCMP_ACT_MAYBE"}', "is not one of SCMP_ACT_KILL"),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "nothing listens here"),
    ],
)
def test_localhost_profiles_that_cannot_be_used(
    shared_instance: Instance, text: str | None, words: str
) -> None:
    directory = Path(shared_instance.config.root_dir, "seccomp")
    directory.mkdir(exist_ok=True)
    (directory / "bad.json").unlink(missing_ok=True)
    if text is not None:
        (directory / "bad.json").write_text(text)
    context = {"seccompProfile": {"type": "Localhost", "localhostProfile": "bad.json"}}
    shared_instance.create("badly", {"securityContext": context})
    found = waiting(shared_instance, "badly")
    shared_instance.delete("badly")
    assert found["reason"] == "CreateContainerError"
    assert words in found["message"]


def test_a_profile_outside_of_its_directory_is_not_read(shared_instance: Instance) -> None:
    directory = Path(shared_instance.config.root_dir, "seccomp")
    directory.mkdir(exist_ok=True)
    (directory / "link.json").symlink_to("/etc/passwd")
    context = {"seccompProfile": {"type": "Localhost", "localhostProfile": "link.json"}}
    shared_instance.create("outside", {"securityContext": context})
    found = waiting(shared_instance, "outside")
    shared_instance.delete("outside")
    (directory / "link.json").unlink()
    assert "link.json" in found["message"] and "root:" not in found["message"]


# ---- AppArmor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RuntimeDefault", "Localhost"])
def test_apparmor_that_cannot_be_had(shared_instance: Instance, kind: str) -> None:
    """Where the kernel has none, no pod that asks for it is taken; where it has, a profile has to be loaded."""
    profile = {"type": kind, **({"localhostProfile": "x"} if kind == "Localhost" else {})}
    for own, shared in (({}, {"appArmorProfile": profile}), ({"appArmorProfile": profile}, {})):
        if features.missing("apparmor"):
            with pytest.raises(MinipodError, match="AppArmor is not enabled on the host"):
                shared_instance.create("armor", {"securityContext": own}, securityContext=shared)
        elif kind == "Localhost":
            shared_instance.create("armor", {"securityContext": own}, securityContext=shared)
            found = waiting(shared_instance, "armor")
            shared_instance.delete("armor")
            assert found["reason"] == "CreateContainerError"
            assert "apparmor profile not found: x is not loaded" in found["message"]


def test_unconfined_by_apparmor_needs_none(shared_instance: Instance) -> None:
    report(shared_instance, "noarmor", {"appArmorProfile": {"type": "Unconfined"}})


@pytest.mark.field("SecurityContext.appArmorProfile", "AppArmorProfile.type")
@features.requires("apparmor", "tool:apparmor_parser")
def test_apparmor(shared_instance: Instance) -> None:
    context = {"appArmorProfile": {"type": "RuntimeDefault"}}
    shared_instance.start_pod("armor", {"securityContext": context})
    for pid in (1, "self"):
        text = shared_instance.probe("armor", "read", f"/proc/{pid}/attr/current")["text"]
        assert text.strip() == "minipod-default (enforce)"
    shared_instance.delete("armor")


@pytest.mark.field("PodSecurityContext.appArmorProfile", "AppArmorProfile.localhostProfile")
@features.requires("apparmor", "tool:apparmor_parser")
def test_apparmor_of_the_pod_and_of_ones_own(shared_instance: Instance) -> None:
    name = f"{shared_instance.config.nft_table}-profile"
    text = f"profile {name} flags=(attach_disconnected) {{ file, network, capability, signal, deny /tmp/x w, }}"
    subprocess.run(["apparmor_parser", "--replace"], input=text, text=True, check=True)
    try:
        shared = {"appArmorProfile": {"type": "Localhost", "localhostProfile": name}}
        own = {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}
        shared_instance.start_pod("profile", {}, own, securityContext=shared)
        for container, label in (("c0", f"{name} (enforce)"), ("c1", "unconfined")):
            read = ("read", "/proc/self/attr/current")
            seen = shared_instance.probe("profile", *read, container=container)["text"]
            assert seen.strip() == label
        assert shared_instance.probe("profile", "write", "/tmp/x", "x")["errno"] == errno.EACCES
        assert shared_instance.probe("profile", "write", "/tmp/x", "x", container="c1") == {
            "written": 1
        }
        shared_instance.delete("profile")
    finally:
        subprocess.run(["apparmor_parser", "--remove"], input=text, text=True, check=True)


# ---- sysctls --------------------------------------------------------------------------------------------------


@pytest.mark.field("Sysctl.name", "Sysctl.value")
def test_sysctls(shared_instance: Instance) -> None:
    wanted = {
        "net.ipv4.ip_local_port_range": "30000 30100",
        "net/ipv4/tcp_syncookies": "0",
        "net.ipv4.ping_group_range": "5 6",
        "kernel.shm_rmid_forced": "1",
    }
    before = {name: read_sysctl(name) for name in wanted}
    items = [{"name": name, "value": value} for name, value in wanted.items()]
    shared_instance.start_pod("tuned", {}, securityContext={"sysctls": items})
    for name, value in wanted.items():
        path = f"/proc/sys/{name.replace('.', '/')}"
        assert shared_instance.probe("tuned", "read", path)["text"].split() == value.split(), name
    shared_instance.delete("tuned")
    assert {name: read_sysctl(name) for name in wanted} == before, "only the pod's own"


def read_sysctl(name: str) -> str:
    return Path("/proc/sys", name.replace(".", "/")).read_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.core.somaxconn", "allow it in the agent's setting allowed_unsafe_sysctls"),
        ("kernel.msgmax", "allow it in the agent's setting allowed_unsafe_sysctls"),
        ("kernel.core_pattern", "no namespace holds it"),
        ("vm.swappiness", "no namespace holds it"),
    ],
)
def test_unsafe_sysctls_are_forbidden(shared_instance: Instance, name: str, words: str) -> None:
    items = [{"name": name, "value": "1"}]
    with pytest.raises(MinipodError) as caught:
        shared_instance.create("unsafe", {}, securityContext={"sysctls": items})
    assert f'SysctlForbidden: forbidden sysctl: "{name}" not allowlisted' in str(caught.value)
    assert words in str(caught.value)


def test_unsafe_sysctls_that_are_allowed(test_archive: Path) -> None:
    instance = Instance({"MINIPOD_ALLOWED_UNSAFE_SYSCTLS": "net.core.*, kernel.msgmax"})
    try:
        instance.load(test_archive)
        items = [
            {"name": "net.core.somaxconn", "value": "777"},
            {"name": "kernel.msgmax", "value": "4321"},
        ]
        instance.start_pod("allowed", {}, securityContext={"sysctls": items})
        for path, value in (("net/core/somaxconn", "777"), ("kernel/msgmax", "4321")):
            assert instance.probe("allowed", "read", f"/proc/sys/{path}")["text"].strip() == value
    finally:
        complaints = instance.stop()
    assert not complaints


# ---- fsGroup --------------------------------------------------------------------------------------------------


@pytest.mark.field("PodSecurityContext.fsGroup")
@pytest.mark.parametrize("medium", ["", "Memory"])
def test_fs_group(shared_instance: Instance, medium: str) -> None:
    volumes = [{"name": "v", "emptyDir": {"medium": medium} if medium else {}}]
    container = {
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    shared_instance.start_pod(
        "grouped", container, volumes=volumes, securityContext={"fsGroup": 5000}
    )
    top = shared_instance.probe("grouped", "stat", "/v")
    assert (top["mode"], top["uid"], top["gid"]) == (0o2777, 0, 5000)
    assert shared_instance.probe("grouped", "write", "/v/x", "x") == {"written": 1}
    made = shared_instance.probe("grouped", "stat", "/v/x")
    assert (made["uid"], made["gid"]) == (1000, 5000), "the setgid bit hands the group on"
    assert 5000 in shared_instance.probe("grouped", "ids")["groups"]
    shared_instance.delete("grouped")


def test_fs_group_leaves_host_paths_alone(shared_instance: Instance) -> None:
    outside = shared_instance.base / "not-ours"
    outside.mkdir(mode=0o755)
    before = os.stat(outside)
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volumes = [{"name": "v", "hostPath": {"path": str(outside)}}]
    shared_instance.start_pod("hostly", mounts, volumes=volumes, securityContext={"fsGroup": 5000})
    shared_instance.delete("hostly")
    after = os.stat(outside)
    assert (after.st_gid, after.st_mode) == (before.st_gid, before.st_mode)
    outside.rmdir()
