# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: emptyDir on disk and in memory, hostPath in all its types, and where they may be mounted."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from tests.conftest import Images
from tests.features import requires
from tests.instance import Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

DISK: Json = {"emptyDir": {}}
MEMORY: Json = {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def mounted(*mounts: tuple[str, str] | tuple[str, str, bool], **container: object) -> Json:
    """Return a container with (volume, path[, read-only]) mounts."""
    keys = ("name", "mountPath", "readOnly")
    made = [dict(zip(keys, mount, strict=False)) for mount in mounts]
    return {"volumeMounts": made, **container}


def volumes(**sources: Json) -> list[Json]:
    return [{"name": name, **source} for name, source in sources.items()]


def host_path(path: Path | str, kind: str = "") -> Json:
    return {"hostPath": {"path": str(path), **({"type": kind} if kind else {})}}


def mount_of(
    instance: Instance, name: str, path: str, container: str = "c0"
) -> tuple[str, str, str]:
    """Return (type, options, super options) of the topmost mount at *path*, as the kernel tells the host."""
    lines = Path(f"/proc/{instance.pid(name, container)}/mountinfo").read_text().splitlines()
    before, _, after = next(x for x in reversed(lines) if x.split()[4] == path).partition(" - ")
    kind, _, options = after.split(" ", 2)
    return kind, before.split()[5], options


@pytest.fixture
def outside(shared_instance: Instance) -> Iterator[Path]:
    """A directory of the host that volumes come from."""
    path = shared_instance.base / "outside"
    path.mkdir()
    yield path
    shutil.rmtree(path)


# ---- emptyDir -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["disk", "memory"])
def shared(request: pytest.FixtureRequest, shared_instance: Instance) -> Iterator[str]:
    """Pod ``disk`` or ``memory``: c0 writes to a volume that c1 sees elsewhere, and c2 as read-only."""
    name = str(request.param)
    shared_instance.start_pod(
        name,
        mounted(("v", "/a")),
        mounted(("v", "/b/deep/er")),
        mounted(("v", "/c", True)),
        volumes=volumes(v=DISK if name == "disk" else MEMORY),
    )
    yield name
    shared_instance.delete(name)


@pytest.mark.field(
    "PodSpec.volumes",
    "Volume.name",
    "Volume.emptyDir",
    "Container.volumeMounts",
    "VolumeMount.name",
    "VolumeMount.mountPath",
)
def test_empty_dir_is_shared(shared_instance: Instance, shared: str) -> None:
    assert shared_instance.probe(shared, "list", "/a") == {}
    assert shared_instance.probe(shared, "write", "/a/file", "hello") == {"written": 5}
    answer = shared_instance.probe(shared, "read", "/b/deep/er/file", container="c1")
    assert answer == {"text": "hello"}
    answer = shared_instance.probe(shared, "read", "/c/file", container="c2")
    assert answer == {"text": "hello"}


def test_empty_dir_is_for_everybody(shared_instance: Instance, shared: str) -> None:
    seen = shared_instance.probe(shared, "stat", "/a")
    assert (seen["mode"], seen["uid"], seen["gid"]) == (0o777, 0, 0)


@pytest.mark.field("VolumeMount.readOnly")
def test_read_only_mount(shared_instance: Instance, shared: str) -> None:
    answer = shared_instance.probe(shared, "write", "/c/new", "x", container="c2")
    assert answer["errno"] == errno.EROFS
    kind, options, _ = mount_of(shared_instance, shared, "/c", "c2")
    assert options.startswith("ro,")
    assert kind == "tmpfs" if shared == "memory" else kind != "tmpfs"
    assert mount_of(shared_instance, shared, "/a")[1].startswith("rw,")


@pytest.mark.field("EmptyDirVolumeSource.medium", "EmptyDirVolumeSource.sizeLimit")
def test_where_it_lies(shared_instance: Instance, shared: str) -> None:
    uid = shared_instance.pod(shared)["metadata"]["uid"]
    shared_instance.probe(shared, "write", "/a/where", "x")
    on_disk = Path(shared_instance.config.root_dir, "pods", uid, "volumes", "v", "where")
    assert on_disk.exists() == (shared == "disk")
    if shared == "memory":
        done = shared_instance.exec(
            shared, "dd", "if=/dev/zero", "of=/a/full", "bs=64k", "count=32"
        )
        assert "No space left on device" in done.stdout
        assert "size=1024k" in mount_of(shared_instance, shared, "/a")[2]
        shared_instance.exec(shared, "rm", "/a/full")


@pytest.mark.parametrize("source", [DISK, MEMORY], ids=["disk", "memory"])
def test_survives_a_restart_and_not_the_pod(shared_instance: Instance, source: Json) -> None:
    script = "cat /v/runs /own; echo run >>/v/runs; echo own >/own; [ $(wc -l </v/runs) = 2 ] && sleep 1000; exit 1"
    container = mounted(("v", "/v"), command=["sh", "-c", script])
    name = "restart"
    shared_instance.create(name, container, volumes=volumes(v=source), restartPolicy="Always")
    shared_instance.until(
        name,
        lambda pod: (
            (s := pod["status"].get("containerStatuses"))
            and s[0]["restartCount"] == 1
            and "running" in s[0]["state"]
        ),
    )
    first = "cat: can't open '/v/runs': No such file or directory\n"
    own = "cat: can't open '/own': No such file or directory\n"
    assert shared_instance.output(name, previous=True) == first + own
    assert shared_instance.first_line(name) == "run", "the volume is the same"
    shared_instance.probe(name, "read", "/v/runs")
    assert "own\n" not in shared_instance.output(name), "the container's own files are new"
    uid = shared_instance.pod(name)["metadata"]["uid"]
    shared_instance.delete(name)
    assert not Path(shared_instance.config.root_dir, "pods", uid).exists()
    # A pod of the same name starts with nothing.
    shared_instance.start_pod(name, mounted(("v", "/v")), volumes=volumes(v=source))
    assert shared_instance.probe(name, "list", "/v") == {}
    shared_instance.delete(name)


def test_what_containers_leave_in_a_volume_can_be_removed(shared_instance: Instance) -> None:
    deep = "/".join(["d"] * 500)
    script = f"mkdir -p /v/{deep} && touch '/v/ - \\n*' && ln -s /etc /v/link && mkfifo /v/fifo && chmod 0 /v"
    pod = shared_instance.run_pod(
        "debris", mounted(("v", "/v"), command=["sh", "-c", script]), volumes=volumes(v=DISK)
    )
    assert pod["status"]["phase"] == "Succeeded", shared_instance.output("debris")
    shared_instance.delete("debris")
    assert not Path(shared_instance.config.root_dir, "pods", pod["metadata"]["uid"]).exists()
    assert os.path.isdir("/etc")


# ---- where it is mounted --------------------------------------------------------------------------------------


def test_mount_points(shared_instance: Instance, outside: Path, images: Images) -> None:
    """Many at once: nested, over what the image has, over what every container has, through links."""
    links = (("link", None, "/tmp"), ("up", None, "/../../../../../../tmp"))
    shared_instance.load(images.probe("links", {"Cmd": ["report", "hold"]}, *links))
    (outside / "hosts").write_text("192.0.2.1 mine\n")
    (outside / "file").write_text("from the host")
    shared_instance.start_pod(
        "places",
        mounted(
            ("inner", "/a/b/c"),  # before its parent
            ("outer", "/a"),
            ("middle", "//a/b/"),
            ("image", "/etc"),
            ("shm", "/dev/shm/"),
            ("hosts", "/etc/hosts"),
            ("file", "/probe2"),
            ("link", "/link/inside"),
            ("up", "/up/mpt-up"),
            ("sys", "/sys/fs/cgroup"),
            image="localhost/links:1",
        ),
        volumes=volumes(
            **{n: DISK for n in ("inner", "outer", "middle", "image", "link", "up", "sys")},
            shm={"emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}},
            hosts=host_path(outside / "hosts", "File"),
            file=host_path(outside / "file"),
        ),
    )
    uid = shared_instance.pod("places")["metadata"]["uid"]
    base = Path(shared_instance.config.root_dir, "pods", uid, "volumes")

    def look(*arguments: str) -> Json:
        found: Json = shared_instance.probe("places", *arguments)
        return found

    for path in ("/a/outer", "/a/b/middle", "/a/b/c/inner", "/etc/image", "/link/inside/link"):
        assert look("write", path, "x") == {"written": 1}
        volume = path.rsplit("/", 1)[1]
        assert (base / volume / volume).read_text() == "x"
    # /etc is the volume; the files that every pod has are mounted in it.
    assert set(look("list", "/etc")) >= {"image", "hosts"}
    assert "passwd" not in look("list", "/etc")
    assert look("read", "/etc/hosts") == {"text": "192.0.2.1 mine\n"}
    assert look("read", "/probe2") == {"text": "from the host"}
    assert "size=2048k" in mount_of(shared_instance, "places", "/dev/shm")[2]
    # Links are followed inside the container's root only.
    assert look("write", "/up/mpt-up/up", "x") == {"written": 1}
    assert set(look("list", "/tmp")) == {"inside", "mpt-up"}
    assert not os.path.exists("/tmp/mpt-up") and not os.path.exists("/tmp/inside")
    assert look("write", "/sys/fs/cgroup/x", "x") == {"written": 1}
    shared_instance.delete("places")


@pytest.mark.parametrize("name", ["hosts", "resolv.conf", "hostname"])
def test_a_volume_on_a_file_that_pods_have(
    shared_instance: Instance, outside: Path, name: str
) -> None:
    (outside / name).write_text("mine\n")
    pod = name.replace(".", "-")
    container = mounted(("v", f"/etc/{name}", True))
    shared_instance.start_pod(pod, container, volumes=volumes(v=host_path(outside / name, "File")))
    assert shared_instance.probe(pod, "read", f"/etc/{name}") == {"text": "mine\n"}
    assert shared_instance.probe(pod, "write", f"/etc/{name}", "x")["errno"] == errno.EROFS
    mounts = [m for m in shared_instance.probe(pod, "mounts") if m["target"] == f"/etc/{name}"]
    assert len(mounts) == 1
    shared_instance.delete(pod)
    assert (outside / name).read_text() == "mine\n"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "must not be the root of the container"),
        ("/proc", "must not be on or under /proc"),
        ("//proc/./sys", "must not be on or under /proc"),
        ("/a/../proc", "must not contain ..|must not be on or under /proc"),
        ("a", "must be an absolute path"),
    ],
)
def test_mount_points_that_are_refused(shared_instance: Instance, path: str, words: str) -> None:
    with pytest.raises(MinipodError, match=words):
        shared_instance.create("refused", mounted(("v", path)), volumes=volumes(v=DISK))


@pytest.mark.parametrize("target", ["/proc/sys", "/proc/self/root", "/proc/self/cwd"])
def test_a_link_into_proc_on_the_way_to_a_mount_point(
    shared_instance: Instance, images: Images, target: str
) -> None:
    """runc CVE-2019-19921: what the manifest may not say, the image may not say by a link."""
    shared_instance.load(images.probe("linkproc", {}, ("link", None, target)))
    container = mounted(("v", "/link/kernel"), image="localhost/linkproc:1", args=["mounts"])
    pod = shared_instance.run_pod("linkproc", container, volumes=volumes(v=DISK))
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError"), shared_instance.output(
        "linkproc"
    )
    shared_instance.delete("linkproc")


def test_file_on_directory_is_refused(shared_instance: Instance, outside: Path) -> None:
    (outside / "file").write_text("")
    container = mounted(("v", "/tmp"))
    pod = shared_instance.run_pod(
        "fileondir", container, volumes=volumes(v=host_path(outside / "file"))
    )
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["reason"] == "StartError"
    assert "a file cannot be mounted on a directory" in ended["message"]
    assert "volumeMounts[0]" in ended["message"]
    shared_instance.delete("fileondir")


# ---- hostPath -------------------------------------------------------------------------------------------------


def populate(directory: Path) -> None:
    """Make one of each: dir, file, socket, char, block, link (to dir); and nothing at none."""
    (directory / "dir").mkdir()
    (directory / "dir" / "inside").write_text("inside")
    (directory / "file").write_text("content")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "socket"))
    os.mknod(directory / "char", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(directory / "block", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    (directory / "link").symlink_to("dir")


GOOD = [
    ("", "dir", "dir"),
    ("", "file", "file"),
    ("", "link", "dir"),
    ("", "none", "dir"),
    ("Directory", "dir", "dir"),
    ("DirectoryOrCreate", "dir", "dir"),
    ("DirectoryOrCreate", "none", "dir"),
    ("File", "file", "file"),
    ("FileOrCreate", "file", "file"),
    ("FileOrCreate", "none", "file"),
    ("Socket", "socket", "socket"),
    ("CharDevice", "char", "char"),
    ("BlockDevice", "block", "block"),
]
BAD = [
    ("Directory", "file", "is a file"),
    ("Directory", "none", "does not exist"),
    ("DirectoryOrCreate", "file", "is a file"),
    ("File", "dir", "is a directory"),
    ("File", "none", "does not exist"),
    ("File", "socket", "is a socket"),
    ("FileOrCreate", "dir", "is a directory"),
    ("Socket", "file", "is a file"),
    ("Socket", "none", "does not exist"),
    ("CharDevice", "block", "is a block"),
    ("BlockDevice", "char", "is a char"),
    ("BlockDevice", "none", "does not exist"),
]


@pytest.mark.field("Volume.hostPath", "HostPathVolumeSource.path", "HostPathVolumeSource.type")
def test_host_path_types(shared_instance: Instance, outside: Path) -> None:
    """One container per type, all of one pod."""
    containers, sources = [], {}
    for number, (kind, what, _) in enumerate(GOOD):
        directory = outside / str(number)
        directory.mkdir()
        populate(directory)
        sources[f"v{number}"] = host_path(directory / what, kind)
        containers.append((f"v{number}", f"/mnt/{number}"))
    shared_instance.start_pod("types", mounted(*containers), volumes=volumes(**sources))
    for number, (kind, what, expected) in enumerate(GOOD):
        seen = shared_instance.probe("types", "stat", f"/mnt/{number}")
        there = os.stat(outside / str(number) / what)
        assert (seen["type"], seen["inode"]) == (expected, there.st_ino), (kind, what)
        if what == "none":
            mode = 0o755 if expected == "dir" else 0o644
            assert (stat.S_IMODE(there.st_mode), there.st_uid) == (mode, 0), kind
    assert shared_instance.probe("types", "read", "/mnt/0/inside") == {"text": "inside"}
    assert shared_instance.probe("types", "read", "/mnt/11") == {"text": ""}, "a null device works"
    assert shared_instance.probe("types", "write", "/mnt/0/new", "x") == {"written": 1}
    assert (outside / "0" / "dir" / "new").read_text() == "x"
    shared_instance.delete("types")
    for number in range(len(GOOD)):
        assert (outside / str(number) / "dir" / "inside").read_text() == "inside", (
            "the host's stays"
        )


@pytest.mark.parametrize(("kind", "what", "words"), BAD)
def test_host_paths_that_are_refused(
    shared_instance: Instance, outside: Path, kind: str, what: str, words: str
) -> None:
    populate(outside)
    with pytest.raises(MinipodError) as caught:
        source = volumes(v=host_path(outside / what, kind))
        shared_instance.create("refused", mounted(("v", "/v")), volumes=source)
    said = str(caught.value)
    assert f"volume v: hostPath {outside / what} {words}, but its type is {kind}" in said
    assert said.startswith("refused.yaml:1: spec.volumes")
    assert not (outside / "none").exists()


def test_file_or_create_makes_no_parents(shared_instance: Instance, outside: Path) -> None:
    source = volumes(v=host_path(outside / "none" / "file", "FileOrCreate"))
    shared_instance.create("noparent", mounted(("v", "/v")), volumes=source)
    shared_instance.until("noparent", lambda _: bool(failures(shared_instance, "noparent")))
    said = failures(shared_instance, "noparent")[0]
    assert "No such file or directory" in said and str(outside / "none" / "file") in said
    assert "spec.volumes[0].hostPath" in said
    assert not (outside / "none").exists()
    shared_instance.delete("noparent")


def failures(instance: Instance, name: str) -> list[str]:
    events = instance.events(name)
    return [e["message"] for e in events if e["reason"] == "FailedCreatePodSandBox"]


def test_read_only_host_path(shared_instance: Instance, outside: Path) -> None:
    populate(outside)
    shared_instance.start_pod(
        "readonly",
        mounted(("v", "/v", True), ("f", "/f", True), ("v", "/w")),
        volumes=volumes(v=host_path(outside / "dir"), f=host_path(outside / "file")),
    )
    for path in ("/v/new", "/v/inside", "/f"):
        assert shared_instance.probe("readonly", "write", path, "x")["errno"] == errno.EROFS
    assert shared_instance.exec("readonly", "chmod", "777", "/v").returncode != 0
    assert shared_instance.exec("readonly", "mount", "-o", "remount,rw", "/v").returncode != 0
    assert shared_instance.probe("readonly", "write", "/w/new", "x") == {"written": 1}
    shared_instance.delete("readonly")
    assert (outside / "dir" / "inside").read_text() == "inside"


def test_a_device_as_a_volume_is_still_not_allowed(shared_instance: Instance) -> None:
    if not os.path.exists("/dev/kmsg"):
        pytest.skip("this machine lacks /dev/kmsg")
    source = volumes(v=host_path("/dev/kmsg", "CharDevice"))
    shared_instance.start_pod("device", mounted(("v", "/dev/kmsg")), volumes=source)
    assert shared_instance.probe("device", "stat", "/dev/kmsg")["rdev"] == [1, 11]
    assert shared_instance.probe("device", "read", "/dev/kmsg")["errno"] == errno.EPERM
    shared_instance.delete("device")


def test_the_whole_host_read_only(shared_instance: Instance) -> None:
    mounts = len(Path("/proc/self/mountinfo").read_text().splitlines())
    source = volumes(v=host_path("/", "Directory"))
    shared_instance.start_pod("host", mounted(("v", "/host", True)), volumes=source)
    assert shared_instance.probe("host", "write", "/host/mpt-x", "x")["errno"] == errno.EROFS
    seen = shared_instance.probe("host", "stat", "/host/etc")
    assert seen["inode"] == os.stat("/etc").st_ino
    # With the file systems that the host has mounted below.
    assert shared_instance.probe("host", "stat", "/host/proc/self")["type"] == "link"
    shared_instance.delete("host")
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == mounts
