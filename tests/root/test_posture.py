# SPDX-License-Identifier: GPL-3.0-or-later
"""What a default container is, exactly: seen by its first process, by an executed command, and by the host's kernel.

Every expectation is written out here, not taken from the product's own tables.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError
from tests import features
from tests.conftest import Images
from tests.instance import Instance, Json
from tests.patience import patience

pytestmark = features.requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

# linux/capability.h: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
CAPABILITIES = f"{sum(1 << n for n in (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31)):016x}"
NONE = f"{0:016x}"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN, POD, HOST = ("mnt", "pid", "cgroup"), ("net", "uts", "ipc"), ("user", "time")

MASKED = [
    *(f"/proc/{name}" for name in ("acpi", "asound", "interrupts", "kcore", "keys")),
    *(f"/proc/{name}" for name in ("latency_stats", "sched_debug", "scsi", "timer_list")),
    *("/proc/timer_stats", "/proc/sysrq-trigger"),
    *("/sys/firmware", "/sys/fs/selinux", "/sys/kernel/security", "/sys/devices/virtual/powercap"),
    *(str(path) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")),
]
READ_ONLY = [f"/proc/{name}" for name in ("asound", "bus", "fs", "irq", "sys", "sysrq-trigger")]

CAN_RAISE_LIMITS = not features.missing("cap-sys-resource")


@dataclass(frozen=True)
class Box:
    """A default container that runs, and what was seen of it."""

    instance: Instance
    name: str
    first: Json
    executed: Json
    pid: int

    def probe(self, *arguments: str) -> Any:
        return self.instance.probe(self.name, *arguments)


@pytest.fixture(scope="module")
def box(shared_instance: Instance) -> Iterator[Box]:
    shared_instance.start_pod("box", {}, {})
    first = json.loads(shared_instance.first_line("box"))
    executed = shared_instance.probe("box", "report")
    yield Box(shared_instance, "box", first, executed, shared_instance.pid("box"))
    shared_instance.delete("box")


@pytest.fixture(params=["first", "executed"])
def report(request: pytest.FixtureRequest, box: Box) -> Json:
    """What the first process, or an executed command, says of itself."""
    found: Json = getattr(box, request.param)
    return found


def session_keyrings() -> Iterator[str]:
    """Yield the ids of the session keyrings on this host that root may see (``proc(5)``, /proc/keys)."""
    for line in Path("/proc/keys").read_text().splitlines():
        words = line.split()
        if words[7] == "keyring" and words[8].startswith("_ses"):
            yield words[0]


def namespaces(pid: int | str) -> dict[str, int]:
    return {name: os.stat(f"/proc/{pid}/ns/{name}").st_ino for name in (*OWN, *POD, *HOST)}


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


# ---- privileges -----------------------------------------------------------------------------------------------


def test_capabilities(report: Json, box: Box) -> None:
    assert report["caps"] == {
        "inheritable": NONE,
        "permitted": CAPABILITIES,
        "effective": CAPABILITIES,
        "bounding": CAPABILITIES,
        "ambient": NONE,
    }
    outside = status(box.pid)
    assert [outside[f"Cap{s}"] for s in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [
        *(NONE, CAPABILITIES, CAPABILITIES, CAPABILITIES, NONE)
    ]


def test_seccomp(report: Json, box: Box) -> None:
    assert report["seccomp"] == {"mode": "2", "filters": "1", "no_new_privs": "0"}
    assert status(box.pid)["Seccomp"] == "2"


def test_identity(report: Json) -> None:
    ids = report["ids"]
    assert (ids["uids"], ids["gids"], ids["groups"]) == ([0] * 3, [0] * 3, [0])
    assert ids["sid"] == ids["pgid"] == ids["pid"], "leads a session of its own"
    assert ids["ppid"] == 0, "its parent is not to be seen"
    assert report["status"]["Umask"] == "0022"
    assert report["cwd"] == "/"
    assert {report["status"][f"Sig{s}"] for s in ("Blk", "Ign", "Cgt")} == {NONE}


def test_first_process_is_pid_1_and_alone(box: Box) -> None:
    assert box.first["ids"]["pid"] == 1
    assert box.first["ps"] == {"1": "probe"}
    assert list(box.executed["ps"].values()) == ["probe", "probe"]


def test_limits(report: Json) -> None:
    expected = [1048576] * 2
    if not CAN_RAISE_LIMITS:
        expected = [min(1048576, resource.getrlimit(resource.RLIMIT_NOFILE)[1])] * 2
    limits = {name: values for name, values in report["limits"].items() if name != "nofile"}
    assert report["limits"]["nofile"] == expected
    # The rest is the agent's own, which a test's environment gave it.
    for name, values in limits.items():
        if number := getattr(resource, f"RLIMIT_{name.upper()}", None):
            assert values == list(resource.getrlimit(number)), name


def test_environment(report: Json) -> None:
    assert report["env"] == {"PATH": PATH, "HOSTNAME": "box", "HOME": "/root"}


def test_open_files(box: Box) -> None:
    first, executed = box.first["fds"], box.executed["fds"]
    assert sorted(first) == sorted(executed) == ["0", "1", "2"]
    assert first["0"] == "/dev/null"
    for path in (first["1"], first["2"], *executed.values()):
        assert path.startswith("pipe:")
    assert sorted(os.listdir(f"/proc/{box.pid}/fd")) == ["0", "1", "2"]


def test_standard_input_is_the_containers_own_null_device(box: Box) -> None:
    # The host's /dev/null, as an open file, could be chmod'ed by the container's root (runc's reOpenDevNull).
    given, own = os.stat(f"/proc/{box.pid}/fd/0"), os.stat(f"/proc/{box.pid}/root/dev/null")
    assert stat.S_ISCHR(given.st_mode) and given.st_rdev == os.makedev(1, 3)
    assert (given.st_dev, given.st_ino) == (own.st_dev, own.st_ino)
    assert given.st_dev != os.stat("/dev/null").st_dev


def test_a_session_keyring_of_its_own(box: Box) -> None:
    assert box.first["keyring"] == box.executed["keyring"] == {"errno": errno.EPERM}
    before = set(session_keyrings())
    box.instance.start_pod("keyrings", *[{}] * 8)
    made = set(session_keyrings()) - before
    assert len(made) >= 8 + 1, "one for each container, and the pause process's"
    box.instance.delete("keyrings")
    deadline = time.monotonic() + patience(30)
    while made <= set(session_keyrings()) and time.monotonic() < deadline:  # collected in time
        time.sleep(0.05)
    assert not made <= set(session_keyrings())


# ---- namespaces -----------------------------------------------------------------------------------------------


def test_namespaces(report: Json, box: Box) -> None:
    seen = {name: report["ns"][name] for name in (*OWN, *POD, *HOST)}
    other, host = box.instance.pid("box", "c1"), namespaces("self")
    assert seen == namespaces(box.pid)
    neighbour = namespaces(other)
    for name in OWN:
        assert seen[name] not in (host[name], neighbour[name]), name
    for name in POD:
        assert seen[name] == neighbour[name] != host[name], name
    for name in HOST:
        assert seen[name] == host[name], name


def test_the_pause_process_holds_the_pods_namespaces(box: Box) -> None:
    pause = [p for p in box.instance.processes() if p.comm == "minipod-pause"]
    assert len(pause) == 1
    held, own = namespaces(pause[0].pid), namespaces(box.pid)
    for name in POD:
        assert held[name] == own[name]
    said = status(pause[0].pid)
    assert {said[f"Cap{s}"] for s in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {NONE}
    assert said["NoNewPrivs"] == "1"
    assert said["Uid"].split() == ["65535"] * 4


# ---- mounts ---------------------------------------------------------------------------------------------------


def expected_mounts(instance: Instance, pod: Json) -> dict[str, tuple[str, str, str]]:
    """Return target -> (type, options, root) of everything that a default container sees."""
    proc = ("proc", "rw,nosuid,nodev,noexec,relatime", "/")
    quiet, quiet_ro = "rw,nosuid,nodev,noexec,relatime", "ro,nosuid,nodev,noexec,relatime"
    found = {
        "/": ("overlay", "rw,relatime", "/"),
        "/proc": proc,
        "/sys": ("sysfs", quiet_ro, "/"),
        "/dev": ("tmpfs", "rw,nosuid,noexec,relatime", "/"),
        "/dev/shm": ("tmpfs", quiet, "/"),
        "/dev/pts": ("devpts", "rw,nosuid,noexec,relatime", "/"),
        "/dev/mqueue": ("mqueue", quiet, "/"),
    }
    v1 = [
        path.name
        for kind, path, options in features.cgroup_mounts()
        if kind == "cgroup" and options & {"cpu", "cpuacct", "memory", "pids", "devices"}
    ]
    found["/sys/fs/cgroup"] = ("tmpfs" if v1 else "cgroup2", quiet_ro, "/")
    found |= {f"/sys/fs/cgroup/{name}": ("cgroup", quiet_ro, "/") for name in v1}
    for name in ("hosts", "resolv.conf", "hostname"):
        found[f"/etc/{name}"] = ("tmpfs", quiet, f"/files/{name}")
    found["/dev/termination-log"] = ("tmpfs", quiet, "/c0.0")
    for path in MASKED:
        if os.path.isdir(path):
            found[path] = ("tmpfs", quiet_ro, "/")
        elif os.path.exists(path):
            found[path] = ("tmpfs", "rw,nosuid,noexec,relatime", "/null")
    for path in READ_ONLY:
        if os.path.exists(path) and path not in MASKED:
            found[path] = ("proc", quiet_ro, path.removeprefix("/proc"))
    return found


def test_mounts_are_exactly_these(report: Json, box: Box) -> None:
    # What is read-only and masked has both mounts, where the kernel has it (CONFIG_MAGIC_SYSRQ).
    both = set(MASKED) & set(READ_ONLY)
    under = {m["id"]: m for m in report["mounts"] if m["target"] in both and m["type"] == "proc"}
    mounts = [m for m in report["mounts"] if m["id"] not in under]
    assert len({m["target"] for m in mounts}) == len(mounts), "nothing else hides anything"
    seen = {m["target"]: (m["type"], m["options"], m["root"]) for m in mounts}
    assert seen == expected_mounts(box.instance, box.instance.pod("box"))
    assert all(m["propagation"] == [] for m in mounts), "nothing propagates in or out"
    # Each lies on the mount of the longest path above it: the order of mounting was right.
    ids = {m["id"]: m["target"] for m in mounts}
    ids |= {m["id"]: ids[m["parent"]] for m in under.values()}
    for mount in mounts:
        target = mount["target"]
        above = [t for t in seen if t != target and f"{target}/".startswith(t.rstrip("/") + "/")]
        assert ids.get(mount["parent"]) == (max(above, key=len) if above else None), target


def test_file_system_options(box: Box) -> None:
    options = {m["target"]: set(m["super"].split(",")) for m in box.first["mounts"]}
    assert options["/dev"] >= {"size=65536k", "mode=755"}
    assert options["/dev/shm"] >= {"size=65536k"}
    assert options["/dev/pts"] >= {"gid=5", "mode=620", "ptmxmode=666"}
    assert box.probe("stat", "/dev/shm")["mode"] == 0o1777
    uid = box.instance.pod("box")["metadata"]["uid"]
    directory = f"{box.instance.config.root_dir}/pods/{uid}/containers/c0/0"
    assert options["/"] >= {f"upperdir={directory}/upper", f"workdir={directory}/work"}


def test_nothing_of_the_pod_is_mounted_on_the_host(box: Box) -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    assert [line for line in lines if str(box.instance.base) in line] == []


def test_devices(report: Json) -> None:
    dev = report["dev"]
    nodes = {n: (e["mode"], *e["rdev"]) for n, e in dev.items() if e["type"] == "char"}
    assert nodes == {
        "null": (0o666, 1, 3),
        "zero": (0o666, 1, 5),
        "full": (0o666, 1, 7),
        "random": (0o666, 1, 8),
        "urandom": (0o666, 1, 9),
        "tty": (0o666, 5, 0),
    }
    assert {n: e["target"] for n, e in dev.items() if e["type"] == "link"} == {
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
        "ptmx": "pts/ptmx",
    }
    assert {n for n, e in dev.items() if e["type"] == "dir"} == {"pts", "shm", "mqueue"}
    log = dev["termination-log"]
    assert (log["type"], log["mode"]) == ("file", 0o666), "for every user"
    assert len(dev) == 15
    assert all((e["uid"], e["gid"]) == (0, 0) for e in dev.values())


def test_masked_paths_are_empty(box: Box) -> None:
    hidden = [path for path in MASKED if os.path.exists(path)]
    assert hidden, "this kernel has some of them"
    for path in hidden:
        if os.path.isdir(path):
            assert box.probe("list", path) == {}, path
            assert box.probe("write", f"{path}/x", "x")["errno"] == errno.EROFS, path
        else:
            assert box.probe("read", path) == {"text": ""}, path
            assert Path(path).stat().st_ino != os.stat(f"/proc/{box.pid}/root{path}").st_ino


def test_read_only_paths(box: Box) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/irq/default_smp_affinity",
    ]
    paths += ["/sys/class/x", "/sys/kernel/x", "/sys/fs/cgroup/x"]
    if os.path.exists("/proc/sysrq-trigger"):
        assert box.probe("write", "/proc/sysrq-trigger", "h") == {"written": 1}, "it is /dev/null"
    for path in paths:
        assert box.probe("write", path, "x")["errno"] == errno.EROFS, path
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before
    for kind, top, options in features.cgroup_mounts():
        if kind == "cgroup" and "memory" in options:
            limit = f"/sys/fs/cgroup/{top.name}/memory.limit_in_bytes"
            assert box.probe("write", limit, "1")["errno"] == errno.EROFS
    # Where writing is meant to work, it does: the refusals above are not some other fault.
    assert box.probe("write", "/tmp/x", "x") == box.probe("write", "/x", "x") == {"written": 1}
    assert box.probe("write", "/dev/shm/x", "x") == {"written": 1}


# ---- cgroups --------------------------------------------------------------------------------------------------


def hierarchies() -> list[Path]:
    used = {"cpu", "cpuacct", "memory", "pids", "devices"}
    return [
        path
        for kind, path, options in features.cgroup_mounts()
        if kind == "cgroup2" or options & used
    ]


def test_own_cgroup_is_the_root(report: Json, box: Box) -> None:
    text = box.probe("read", "/proc/self/cgroup")["text"]
    assert {line.split(":", 2)[2] for line in text.splitlines()} == {"/"}
    text = box.probe("read", "/proc/1/cgroup")["text"]
    assert {line.split(":", 2)[2] for line in text.splitlines()} == {"/"}


def test_is_in_its_cgroup_of_every_hierarchy(box: Box) -> None:
    name = box.instance.pod_cgroup("box")
    for top in hierarchies():
        assert (top / name / "c0.0" / "cgroup.procs").read_text().split() == [str(box.pid)], top
        assert (top / name / "sandbox" / "cgroup.procs").read_text().split(), top


def test_its_cgroup_can_be_read_by_every_user(box: Box) -> None:
    for top in hierarchies():
        if top in (path for kind, path, _ in features.cgroup_mounts() if kind == "cgroup"):
            mode = box.probe("stat", f"/sys/fs/cgroup/{top.name}")["mode"]
            assert mode == 0o755, "runtimes read their limits here, as whatever user they are"


def test_pids_limit_of_a_pod(box: Box) -> None:
    limit = next(
        path
        for top in hierarchies()
        if (path := top / box.instance.pod_cgroup("box") / "pids.max").exists()
    )
    assert limit.read_text() == "4096\n"
    answer = box.probe("fork", "4200")
    assert answer["errno"] == errno.EAGAIN
    # Two containers, the pause process, and the probe itself are in it, too.
    assert answer["forked"] == 4096 - 4


def test_device_nodes_that_are_not_allowed_cannot_be_opened(box: Box) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    box.instance.start_pod("nodes", mount, volumes=[{"name": "v", "emptyDir": {}}])
    directory = Path(f"/proc/{box.instance.pid('nodes')}/root/v")
    nodes = {"mem": (1, 1), "kmsg": (1, 11), "tty1": (4, 1), "null": (1, 3), "zero": (1, 5)}
    for name, numbers in nodes.items():
        os.mknod(directory / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))
    disk = os.stat("/").st_dev
    os.mknod(directory / "disk", stat.S_IFBLK | 0o666, disk)
    answers = {name: box.instance.probe("nodes", "read", f"/v/{name}") for name in (*nodes, "disk")}
    assert answers.pop("null") == {"text": ""}
    assert "text" in answers.pop("zero"), (
        "an allowed one opens: it is not the file system that refuses"
    )
    assert {answer["errno"] for answer in answers.values()} == {errno.EPERM}
    box.instance.delete("nodes")


def test_mknod_itself_is_refused(box: Box) -> None:
    done = box.instance.exec("box", "mknod", "/tmp/mem", "c", "1", "1")
    assert done.returncode != 0 and "not permitted" in done.stdout


@pytest.mark.parametrize(
    ("quality", "resources", "score"),
    [
        ("besteffort", {}, 1000),
        ("burstable", {"requests": {"memory": "1Gi"}}, None),
        ("burstable-large", {"requests": {"memory": "1Ei"}}, 3),
        ("burstable-cpu", {"requests": {"cpu": "1m"}}, 999),
        ("guaranteed", {"limits": {"cpu": "1", "memory": "64Mi"}}, -997 if CAN_RAISE_LIMITS else 0),
    ],
)
def test_oom_score_adj(
    shared_instance: Instance, quality: str, resources: Json, score: int | None
) -> None:
    shared_instance.start_pod(quality, {"resources": resources})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    expected = 1000 - 1000 * (1 << 30) // memory if score is None else score
    pid = shared_instance.pid(quality)
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == expected
    assert shared_instance.probe(quality, "read", "/proc/self/oom_score_adj")[
        "text"
    ].strip() == str(expected)
    shared_instance.delete(quality)


# ---- system calls ---------------------------------------------------------------------------------------------

AF_UNIX, AF_INET, AF_ALG, AF_VSOCK = 1, 2, 38, 40
CLONE_NEWUSER = 0x10000000


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("clone3", "0", "0"), errno.ENOSYS),
        (("1023",), errno.ENOSYS),
        (("unshare", "0"), errno.EPERM),
        (("unshare", str(CLONE_NEWUSER)), errno.EPERM),
        (("clone", str(CLONE_NEWUSER | 17)), errno.EPERM),
        (("setns", "-1", "0"), errno.EPERM),
        (("mount", "0", "0", "0", "0", "0"), errno.EPERM),
        (("fsopen", "0", "0"), errno.EPERM),
        (("open_tree", "-1", "0", "0"), errno.EPERM),
        (("keyctl", "0", "-3", "0"), errno.EPERM),
        (("add_key", "0", "0", "0", "0", "0"), errno.EPERM),
        (("bpf", "0", "0", "0"), errno.EPERM),
        (("userfaultfd", "1"), errno.EPERM),
        (("io_uring_setup", "1", "0"), errno.EPERM),
        (("perf_event_open", "0", "0", "0", "0", "0"), errno.EPERM),
        (("open_by_handle_at", "-1", "0", "0"), errno.EPERM),
        (("socket", str(AF_ALG), "5", "0"), errno.EPERM),
        (("socket", str(AF_VSOCK), "1", "0"), errno.EPERM),
        (("socket", str(AF_INET), "3", "1"), errno.EPERM),  # SOCK_RAW: no CAP_NET_RAW
        (("socket", str(AF_INET), "1", "0"), 0),
        (("socket", str(AF_UNIX), "1", "0"), 0),
        (("getpid",), 0),
    ],
    ids=lambda value: (
        " ".join(value) if isinstance(value, tuple) else errno.errorcode.get(value, "0")
    ),
)
def test_system_calls(box: Box, call: tuple[str, ...], error: int) -> None:
    answer = box.probe("try-syscall", *call)
    assert (answer["errno"], answer["signal"]) == (error, 0)


def test_ping_needs_no_capability(box: Box) -> None:
    gateway = box.instance.config.pod_cidr.replace(".0.0/16", ".0.1")
    assert box.probe("ping", gateway) == {"type": 0}
    assert box.probe("ping", "127.0.0.1") == {"type": 0}


# ---- what an image says ---------------------------------------------------------------------------------------


def run_image(instance: Instance, name: str, **container: Any) -> Json:
    """Run a container of ``localhost/NAME:1`` to its end; return its terminated state, with the output."""
    pod = instance.run_pod(name, {"image": f"localhost/{name}:1", **container})
    ended: Json = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    ended["output"] = instance.output(name) if ended["reason"] != "StartError" else ""
    instance.delete(name)
    return ended


def test_user_of_the_image(shared_instance: Instance, images: Images) -> None:
    shared_instance.load(
        images.probe("user", {"User": "someone", "Env": ["PATH=/", "A=b=c", "HOSTNAME=x"]})
    )
    report = json.loads(run_image(shared_instance, "user")["output"])
    assert report["ids"]["uids"] == report["ids"]["gids"] == [1000] * 3
    assert report["ids"]["groups"] == [1000, 2000]
    assert report["caps"] == {
        "inheritable": NONE,
        "permitted": NONE,
        "effective": NONE,
        "bounding": CAPABILITIES,
        "ambient": NONE,
    }
    assert report["env"] == {"PATH": "/", "A": "b=c", "HOSTNAME": "x", "HOME": "/home/someone"}
    assert report["seccomp"]["mode"] == "2"
    for path in ("/dev/stdout", "/dev/stderr", "/proc/self/fd/1"):
        ended = run_image(shared_instance, "user", args=["write", path, "through the path"])
        assert "through the path" in ended["output"], path
    ended = run_image(shared_instance, "user", args=["write", "/etc/x", "x"])
    assert json.loads(ended["output"])["errno"] == errno.EACCES


@pytest.mark.parametrize(
    ("name", "user", "ids"),
    [
        ("user-number", "1000", (1000, 1000, [1000, 2000])),
        ("user-unknown", "4321", (4321, 0, [0])),
        ("user-both", "1234:4567", (1234, 4567, [4567])),
        ("user-group", "someone:extra", (1000, 2000, [2000])),
    ],
)
def test_users_by_number(
    shared_instance: Instance, images: Images, name: str, user: str, ids: tuple[int, int, list[int]]
) -> None:
    shared_instance.load(images.probe(name, {"User": user, "Cmd": ["ids"]}))
    report = json.loads(run_image(shared_instance, name)["output"])
    assert (report["uid"], report["gid"], report["groups"]) == ids


@pytest.mark.parametrize(
    ("name", "user", "words"),
    [
        ("user-none", "nobody-here", "user 'nobody-here' is not in /etc/passwd"),
        ("user-large", "4294967296", "is not from 0 to 2147483647"),
        ("user-minus", "-1", "is not in /etc/passwd"),
    ],
)
def test_users_that_are_refused(
    shared_instance: Instance, images: Images, name: str, user: str, words: str
) -> None:
    shared_instance.load(images.probe(name, {"User": user}))
    with pytest.raises(MinipodError, match=words):
        shared_instance.create(name, {"image": f"localhost/{name}:1"})


@pytest.mark.parametrize("directory", ["/proc/self/fd/8", "//proc//1/cwd/", "/x/../proc/self"])
def test_working_directory_under_proc_is_refused(
    shared_instance: Instance, images: Images, directory: str
) -> None:
    """runc CVE-2024-21626."""
    shared_instance.load(images.probe("cwd", {"WorkingDir": directory}))
    with pytest.raises(MinipodError, match="working directory below /proc"):
        shared_instance.create("cwd", {"image": "localhost/cwd:1"})


def test_working_directory_that_is_a_link_into_proc_is_harmless(
    shared_instance: Instance, images: Images
) -> None:
    archive = images.probe("cwdlink", {"WorkingDir": "/x"}, ("x", None, "/proc/self/fd/8"))
    shared_instance.load(archive)
    ended = run_image(shared_instance, "cwdlink", args=["cwd"])
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")


@pytest.mark.parametrize(
    ("name", "link", "target"),
    [
        ("link-dev", "dev", "/tmp"),
        ("link-proc", "proc", "/tmp"),
        ("link-proc-up", "proc", "../../../../tmp"),
        ("link-sys", "sys", "/tmp"),
    ],
)
def test_links_where_mounts_must_be_are_refused(
    shared_instance: Instance, images: Images, name: str, link: str, target: str
) -> None:
    shared_instance.load(images.probe(name, {}, (link, None, target)))
    ended = run_image(shared_instance, name)
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert f"move_mount it to /{link}" in ended["message"]
    assert "the image has a symbolic link where a mount point must be" in ended["message"]


@pytest.mark.parametrize("target", ["/tmp", "/../../../../../etc", "/proc/1", "/nowhere"])
def test_etc_as_a_link_is_harmless(shared_instance: Instance, images: Images, target: str) -> None:
    before = {path: Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf")}
    entries = set(os.listdir("/etc"))
    shared_instance.load(
        images.probe("link-etc", {"Cmd": ["read", "/etc/hosts"]}, ("etc", None, target))
    )
    ended = run_image(shared_instance, "link-etc")
    if ended["reason"] == "Completed":
        assert "Kubernetes-managed hosts file" in ended["output"]
    else:
        assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert before == {path: Path(path).read_bytes() for path in before}
    assert set(os.listdir("/etc")) == entries


# ---- other postures: exactly what differs ---------------------------------------------------------------------

ALL = int(status(os.getpid())["CapEff"], 16)


@dataclass(frozen=True)
class Posture:
    """How a security context differs from the default container."""

    context: Json
    capabilities: tuple[str, str] = (CAPABILITIES, CAPABILITIES)  # effective, bounding
    seccomp: tuple[str, str] = ("2", "0")  # mode, no_new_privs
    user: int = 0
    changed: dict[str, str] = field(default_factory=dict)  # targets with other options
    gone: tuple[str, ...] = ()


QUIET, QUIET_RO = "rw,nosuid,nodev,noexec,relatime", "ro,nosuid,nodev,noexec,relatime"
CGROUPS = [
    f"/sys/fs/cgroup/{path.name}"
    for kind, path, options in features.cgroup_mounts()
    if kind == "cgroup" and options & {"cpu", "cpuacct", "memory", "pids", "devices"}
]
POSTURES = {
    "privileged": Posture(
        {"privileged": True},
        (f"{ALL:016x}", f"{ALL:016x}"),
        ("0", "0"),
        changed=dict.fromkeys(("/sys", "/sys/fs/cgroup", *CGROUPS), QUIET),
        gone=(*MASKED, *READ_ONLY),
    ),
    "non-root": Posture({"runAsUser": 4321}, (NONE, CAPABILITIES), user=4321),
    "no-new-privileges": Posture({"allowPrivilegeEscalation": False}, seccomp=("2", "1")),
    "read-only-root": Posture(
        {"readOnlyRootFilesystem": True},
        changed={"/": "ro,relatime", "/etc/hostname": QUIET_RO, "/etc/resolv.conf": QUIET_RO},
    ),
    "unconfined": Posture({"seccompProfile": {"type": "Unconfined"}}, seccomp=("0", "0")),
    "no-capabilities": Posture({"capabilities": {"drop": ["ALL"]}}, (NONE, NONE)),
}


@pytest.mark.parametrize("name", POSTURES)
def test_posture(shared_instance: Instance, name: str) -> None:
    posture = POSTURES[name]
    shared_instance.start_pod(name, {"securityContext": posture.context})
    reports = [
        json.loads(shared_instance.first_line(name)),
        shared_instance.probe(name, "report"),
    ]
    expected = expected_mounts(shared_instance, shared_instance.pod(name))
    shared_instance.delete(name)
    for target, options in posture.changed.items():
        kind, _, root = expected[target]
        expected[target] = (kind, options, root)
    expected = {target: what for target, what in expected.items() if target not in posture.gone}
    for found in reports:
        effective, bounding = posture.capabilities
        assert found["caps"] == {
            "inheritable": NONE,
            "permitted": effective,
            "effective": effective,
            "bounding": bounding,
            "ambient": NONE,
        }
        mode, forbidden = posture.seccomp
        filters = "1" if mode == "2" else "0"
        assert found["seccomp"] == {"mode": mode, "filters": filters, "no_new_privs": forbidden}
        assert found["ids"]["uids"] == [posture.user] * 3
        mounts = {m["target"]: (m["type"], m["options"], m["root"]) for m in found["mounts"]}
        assert mounts == expected
        assert all(m["propagation"] == [] for m in found["mounts"])
        devices = {n for n, e in found["dev"].items() if e["type"] in ("char", "block")}
        own = {"null", "zero", "full", "random", "urandom", "tty"}
        assert (devices - own != set()) == (name == "privileged")
