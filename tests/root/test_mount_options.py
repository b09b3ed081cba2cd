# SPDX-License-Identifier: GPL-3.0-or-later
"""What a volume mount says besides where: subPath, propagation, read-only, options; an emptyDir's mode and size."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from tests.features import requires
from tests.instance import Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

DISK: Json = {"emptyDir": {}}
MEMORY: Json = {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def mount(path: str, name: str = "v", **more: object) -> Json:
    return {"name": name, "mountPath": path, **more}


def volume(source: Json, name: str = "v") -> list[Json]:
    return [{"name": name, **source}]


def directory(instance: Instance, name: str, of: str = "v") -> Path:
    """Return where a volume on disk lies."""
    uid = instance.pod(name)["metadata"]["uid"]
    return Path(instance.config.root_dir, "pods", uid, "volumes", of)


def options_of(instance: Instance, name: str, path: str, container: str = "c0") -> list[str]:
    """Return the options of the topmost mount at *path*, as the kernel tells the host."""
    lines = Path(f"/proc/{instance.pid(name, container)}/mountinfo").read_text().splitlines()
    return next(x for x in reversed(lines) if x.split()[4] == path).split()[5].split(",")


@pytest.fixture
def outside(shared_instance: Instance) -> Iterator[Path]:
    """A directory of the host that volumes come from, a mount of its own whose mounts are shared."""
    path = shared_instance.base / "outside"
    path.mkdir()
    subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    yield path
    subprocess.run(["umount", "-R", "-l", path], check=True)
    shutil.rmtree(path)


# ---- subPath --------------------------------------------------------------------------------------------------


@pytest.mark.field("VolumeMount.subPath", "VolumeMount.subPathExpr")
@pytest.mark.parametrize("source", [DISK, MEMORY], ids=["disk", "memory"])
def test_sub_path(shared_instance: Instance, source: Json) -> None:
    name = "subpath"
    mounts = [
        mount("/all"),
        mount("/one", subPath="made/on/the/way"),
        mount("/ro", subPath="made", readOnly=True),
        mount("/expr", subPathExpr="$(WHO)/$$(WHO)"),
    ]
    container = {"volumeMounts": mounts, "env": [{"name": "WHO", "value": "me"}]}
    shared_instance.start_pod(name, container, volumes=volume(source))
    assert shared_instance.probe(name, "list", "/all").keys() == {"made", "me"}
    assert shared_instance.probe(name, "write", "/one/file", "x") == {"written": 1}
    assert shared_instance.probe(name, "read", "/all/made/on/the/way/file") == {"text": "x"}
    assert shared_instance.probe(name, "read", "/ro/on/the/way/file") == {"text": "x"}
    assert shared_instance.probe(name, "write", "/ro/file", "x")["errno"] == errno.EROFS
    assert shared_instance.probe(name, "write", "/expr/file", "y") == {"written": 1}
    assert shared_instance.probe(name, "read", "/all/me/$(WHO)/file") == {"text": "y"}
    # As the kubelet: with the mode of the volume itself.
    assert shared_instance.probe(name, "stat", "/all/made/on")["mode"] == 0o777
    # It is the mount's root: what is above it is not to be reached.
    above = shared_instance.probe(name, "stat", "/one/..")
    assert above["inode"] == shared_instance.probe(name, "stat", "/")["inode"]
    shared_instance.delete(name)


def test_sub_path_of_a_file(shared_instance: Instance, outside: Path) -> None:
    (outside / "file").write_text("from the host")
    (outside / "link").symlink_to("/file")  # from the volume's root
    mounts = [
        mount("/etc/made/file", subPath="file"),
        mount("/linked", subPath="link", readOnly=True),
    ]
    source = volume({"hostPath": {"path": str(outside)}})
    shared_instance.start_pod("subfile", {"volumeMounts": mounts}, volumes=source)
    for path in ("/etc/made/file", "/linked"):
        assert shared_instance.probe("subfile", "read", path) == {"text": "from the host"}
    assert shared_instance.probe("subfile", "write", "/linked", "x")["errno"] == errno.EROFS
    shared_instance.delete("subfile")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc", "leads nowhere inside the volume"),
        ("../../../../../../../../etc", "leads nowhere inside the volume"),
        ("/proc/self/root/etc", "leads nowhere inside the volume"),
        ("escape", "leads to itself"),
        ("file", "is no directory in the volume"),
    ],
)
def test_links_in_a_volume_do_not_lead_out(
    shared_instance: Instance, outside: Path, target: str, words: str
) -> None:
    """CVE-2017-1002101: a link that a container has planted, on the way of another's subPath."""
    (outside / "file").write_text("")
    (outside / "escape").symlink_to(target)
    source = volume({"hostPath": {"path": str(outside)}})
    for leaf in (
        "mpt-sub",
        "hosts",
    ):  # what is not on the host would be made, and what is would be mounted
        mounts = [mount("/v", subPath=f"escape/{leaf}")]
        pod = shared_instance.run_pod("escape", {"volumeMounts": mounts}, volumes=source)
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["reason"] == "StartError" and words in ended["message"], ended
        assert "spec.containers[0].volumeMounts[0]" in ended["message"]
        assert not os.path.exists("/etc/mpt-sub")
        shared_instance.delete("escape")


def test_links_below_proc_are_no_way_out(shared_instance: Instance) -> None:
    mounts = [mount("/v", subPath="self/root/etc")]
    source = volume({"hostPath": {"path": "/proc"}})
    pod = shared_instance.run_pod("magic", {"volumeMounts": mounts}, volumes=source)
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["reason"] == "StartError" and "ELOOP" in ended["message"], ended
    shared_instance.delete("magic")


def test_a_race_for_a_sub_path(shared_instance: Instance) -> None:
    """CVE-2021-25741: one container exchanges a directory for a link while the other is mounted from there."""
    racer = (
        "cd /v; mkdir -p d; ln -s / l; echo inside >d/mark; echo ready; "
        "while :; do mv -T d t; mv -T l d; mv -T d l; mv -T t d; done"
    )
    victim = "if [ -e /sub/etc ] || [ -e /sub/proc ]; then echo ESCAPED; fi; ls /sub"
    shared_instance.create(
        "race",
        {"command": ["sh", "-c", racer], "volumeMounts": [mount("/v")]},
        {
            "command": ["sh", "-c", f"{victim}; exit 1"],
            "volumeMounts": [mount("/sub", subPath="d")],
        },
        volumes=volume(DISK),
        restartPolicy="Never",
    )
    shared_instance.first_line("race", "c0")
    # Beside the pod's own containers, many launches of the same kind: in pods of their own on the same directory.
    path = directory(shared_instance, "race")
    names = [f"race{i}" for i in range(12)]
    for name in names:
        shared_instance.create(
            name,
            {"command": ["sh", "-c", victim], "volumeMounts": [mount("/sub", subPath="d")]},
            volumes=volume({"hostPath": {"path": str(path)}}),
        )
    for name in names:
        pod = shared_instance.until(
            name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed")
        )
        state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        if state["reason"] != "StartError":
            assert "ESCAPED" not in shared_instance.output(name)
    shared_instance.delete("race", *names)


def test_sub_path_expr_without_its_variable(shared_instance: Instance) -> None:
    mounts = [mount("/v", subPathExpr="$(NONE)")]
    shared_instance.create("novar", {"volumeMounts": mounts}, volumes=volume(DISK))

    def waits(pod: Json) -> bool:
        statuses = pod["status"].get("containerStatuses") or [{"state": {}}]
        found = statuses[0]["state"].get("waiting", {})
        words = "the container has no variable NONE"
        return found.get("reason") == "CreateContainerConfigError" and words in found["message"]

    shared_instance.until("novar", waits)
    shared_instance.delete("novar")


# ---- read-only and options ------------------------------------------------------------------------------------


@pytest.mark.field("VolumeMount.recursiveReadOnly")
def test_recursive_read_only(shared_instance: Instance, outside: Path) -> None:
    below = outside / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", below], check=True)
    mounts = [
        mount("/plain", readOnly=True),
        mount("/off", readOnly=True, recursiveReadOnly="Disabled"),
        mount("/if", readOnly=True, recursiveReadOnly="IfPossible"),
        mount("/on", readOnly=True, recursiveReadOnly="Enabled"),
        mount("/rw"),
    ]
    source = volume({"hostPath": {"path": str(outside)}})
    shared_instance.start_pod("rro", {"volumeMounts": mounts}, volumes=source)
    for path in ("/plain", "/off", "/if", "/on"):
        assert shared_instance.probe("rro", "write", f"{path}/x", "x")["errno"] == errno.EROFS
    for path in ("/plain", "/off", "/rw"):
        assert shared_instance.probe("rro", "write", f"{path}/below/x", "x") == {"written": 1}
    for path in ("/if", "/on"):
        answer = shared_instance.probe("rro", "write", f"{path}/below/x", "x")
        assert answer["errno"] == errno.EROFS
    said = {
        m["mountPath"]: (m.get("readOnly", False), m.get("recursiveReadOnly"))
        for m in shared_instance.container("rro")["volumeMounts"]
    }
    assert said == {
        "/plain": (True, "Disabled"),
        "/off": (True, "Disabled"),
        "/if": (True, "Enabled"),
        "/on": (True, "Enabled"),
        "/rw": (False, None),
    }
    shared_instance.delete("rro")


@pytest.mark.field("VolumeMount.bindMountOptions")
def test_bind_mount_options(shared_instance: Instance) -> None:
    mounts = [
        mount("/plain"),
        mount("/noexec", bindMountOptions=["noexec"]),
        mount("/all", bindMountOptions=["nosuid", "nodev", "noexec"]),
    ]
    shared_instance.start_pod("options", {"volumeMounts": mounts}, volumes=volume(DISK))
    assert shared_instance.exec("options", "cp", "/bin/busybox", "/plain/sh").returncode == 0
    assert shared_instance.exec("options", "/plain/sh", "-c", "exit 3").returncode == 3
    with pytest.raises(MinipodError, match=r"execve /noexec/sh .*EACCES"):
        shared_instance.exec("options", "/noexec/sh", "-c", "exit 3")
    assert "noexec" not in options_of(shared_instance, "options", "/plain")
    assert {"nosuid", "nodev", "noexec"} <= set(options_of(shared_instance, "options", "/all"))
    shared_instance.delete("options")


# ---- propagation ----------------------------------------------------------------------------------------------


def test_mounts_of_the_host_reach_the_container(shared_instance: Instance, outside: Path) -> None:
    mounts = [mount("/none"), mount("/slave", mountPropagation="HostToContainer")]
    source = volume({"hostPath": {"path": str(outside)}})
    (outside / "late").mkdir()
    shared_instance.start_pod("slave", {"volumeMounts": mounts}, volumes=source)
    subprocess.run(["mount", "-t", "tmpfs", "none", outside / "late"], check=True)
    (outside / "late" / "file").write_text("mounted later")
    assert shared_instance.probe("slave", "read", "/slave/late/file") == {"text": "mounted later"}
    assert shared_instance.probe("slave", "list", "/none/late") == {}
    subprocess.run(["umount", outside / "late"], check=True)
    assert shared_instance.probe("slave", "list", "/slave/late") == {}
    shared_instance.delete("slave")


PRIVILEGED: Json = {"securityContext": {"privileged": True}}


@pytest.mark.field("VolumeMount.mountPropagation")
def test_mounts_of_a_container_reach_the_host_and_others(
    shared_instance: Instance, outside: Path
) -> None:
    both = {**PRIVILEGED, "volumeMounts": [mount("/v", mountPropagation="Bidirectional")]}
    slave = {"volumeMounts": [mount("/v", mountPropagation="HostToContainer")]}
    alone = {"volumeMounts": [mount("/v")]}
    (outside / "late").mkdir()
    source = volume({"hostPath": {"path": str(outside)}})
    shared_instance.start_pod("both", both, slave, alone, volumes=source)
    done = shared_instance.exec("both", "mount", "-t", "tmpfs", "none", "/v/late")
    assert done.returncode == 0, done.stdout
    assert shared_instance.exec("both", "touch", "/v/late/file").returncode == 0
    assert [x.name for x in (outside / "late").iterdir()] == ["file"]
    assert "file" in shared_instance.probe("both", "list", "/v/late", container="c1")
    assert shared_instance.probe("both", "list", "/v/late", container="c2") == {}
    # What comes from the host is not the other way round to be undone.
    assert shared_instance.exec("both", "umount", "/v/late", container="c1").returncode != 0
    shared_instance.delete("both")
    # As with Kubernetes: it stays on the host, where it was asked to be.
    subprocess.run(["umount", outside / "late"], check=True)


def test_mounts_in_memory_reach_the_pods_others(shared_instance: Instance) -> None:
    both = {**PRIVILEGED, "volumeMounts": [mount("/v", mountPropagation="Bidirectional")]}
    slave = {"volumeMounts": [mount("/v", mountPropagation="HostToContainer")]}
    alone = {"volumeMounts": [mount("/v")]}
    shared_instance.start_pod("inmem", both, slave, alone, volumes=volume(MEMORY))
    assert shared_instance.exec("inmem", "mkdir", "/v/late").returncode == 0
    done = shared_instance.exec("inmem", "mount", "-t", "tmpfs", "none", "/v/late")
    assert done.returncode == 0, done.stdout
    assert shared_instance.exec("inmem", "touch", "/v/late/file").returncode == 0
    assert "file" in shared_instance.probe("inmem", "list", "/v/late", container="c1")
    assert shared_instance.probe("inmem", "list", "/v/late", container="c2") == {}
    shared_instance.delete("inmem")


def test_mounts_that_are_left_in_a_volume_go_with_the_pod(shared_instance: Instance) -> None:
    """The directory of an emptyDir is a mount of the host's here, so that it can be shared at all."""
    root = Path(shared_instance.config.root_dir)
    subprocess.run(["mount", "--bind", root, root], check=True)
    subprocess.run(["mount", "--make-shared", root], check=True)
    try:
        both = {**PRIVILEGED, "volumeMounts": [mount("/v", mountPropagation="Bidirectional")]}
        shared_instance.start_pod("left", both, volumes=volume(DISK))
        place = directory(shared_instance, "left")
        assert shared_instance.exec("left", "mkdir", "/v/late").returncode == 0
        assert (
            shared_instance.exec("left", "mount", "-t", "tmpfs", "none", "/v/late").returncode == 0
        )
        assert os.path.ismount(place / "late")
        shared_instance.delete("left")
        assert not place.exists()
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def test_a_mount_of_the_host_that_is_not_shared(shared_instance: Instance, outside: Path) -> None:
    subprocess.run(["mount", "--make-private", outside], check=True)
    source = volume({"hostPath": {"path": str(outside)}})
    mounts = [mount("/v", mountPropagation="HostToContainer")]
    shared_instance.create("private", {"volumeMounts": mounts}, volumes=source)

    def waits(pod: Json) -> bool:
        statuses = pod["status"].get("containerStatuses") or [{"state": {}}]
        found = statuses[0]["state"].get("waiting", {})
        words = f'is mounted on "{outside}" but it is not a shared or slave mount'
        return found.get("reason") == "CreateContainerError" and words in found["message"]

    shared_instance.until("private", waits)
    shared_instance.delete("private")


# ---- emptyDir -------------------------------------------------------------------------------------------------


@pytest.mark.field("EmptyDirVolumeSource.mode")
@pytest.mark.parametrize("medium", ["", "Memory"])
def test_empty_dir_mode(shared_instance: Instance, medium: str) -> None:
    source = {"emptyDir": {"medium": medium, "mode": 0o1750}}
    shared_instance.start_pod("mode", {"volumeMounts": [mount("/v")]}, volumes=volume(source))
    assert shared_instance.probe("mode", "stat", "/v")["mode"] == 0o1750
    shared_instance.delete("mode")


def test_memory_of_the_pod_bounds_a_volume_in_memory(shared_instance: Instance) -> None:
    limited = {"resources": {"limits": {"memory": "16Mi"}}, "volumeMounts": [mount("/v")]}
    source = {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    shared_instance.start_pod("bounded", limited, volumes=volume(source))
    lines = Path(f"/proc/{shared_instance.pid('bounded')}/mountinfo").read_text().splitlines()
    (line,) = [line for line in lines if line.split()[4] == "/v"]
    assert "size=16384k" in line
    shared_instance.delete("bounded")


@pytest.fixture
def huge_page() -> Iterator[int]:
    """The KiB of a huge page, of which the machine has at least one."""
    pools = sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-2048kB/nr_hugepages"))
    if not pools:
        pytest.skip("this machine lacks huge pages of 2 MiB")
    before = pools[0].read_text()
    pools[0].write_text(str(max(1, int(before))))
    yield 2048
    pools[0].write_text(before)


def test_huge_pages(shared_instance: Instance, huge_page: int) -> None:
    source = {"emptyDir": {"medium": "HugePages"}}
    limits = {"hugepages-2Mi": "2Mi", "memory": "64Mi"}
    container = {"volumeMounts": [mount("/v")], "resources": {"limits": limits}}
    shared_instance.start_pod("huge", container, volumes=volume(source))
    lines = Path(f"/proc/{shared_instance.pid('huge')}/mountinfo").read_text().splitlines()
    (line,) = [line for line in lines if line.split()[4] == "/v"]
    assert " - hugetlbfs " in line
    assert f"pagesize={huge_page // 1024}M" in line
    shared_instance.delete("huge")


# ---- /dev -----------------------------------------------------------------------------------------------------


def test_a_volume_over_the_devices(shared_instance: Instance, outside: Path) -> None:
    with pytest.raises(MinipodError, match="would hide the container's devices"):
        shared_instance.create("devs", {"volumeMounts": [mount("/dev/")]}, volumes=volume(DISK))
    source = volume({"hostPath": {"path": str(outside)}})
    pod = shared_instance.run_pod("devs", {"volumeMounts": [mount("/dev")]}, volumes=source)
    message = pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    assert "there is no /dev/null in the container" in message, message
    shared_instance.delete("devs")
    # The host's own has what it needs.
    source = volume({"hostPath": {"path": "/dev"}})
    shared_instance.start_pod("devs", {"volumeMounts": [mount("/dev")]}, volumes=source)
    assert shared_instance.probe("devs", "stat", "/dev/null")["rdev"] == [1, 3]
    shared_instance.delete("devs")
