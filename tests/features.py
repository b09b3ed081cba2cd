# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine can do, found out by trying it, never guessed from uid or version.

A test says what it needs with ``@requires("overlay", "nft")`` (or ``pytestmark = requires(…)``); what is
missing makes it a skip with a reason. With ``MINIPOD_TEST_STRICT=1`` a skip is a failure, except for what a
machine may truly lack (:data:`MACHINE_MAY_LACK`): everything else can be installed or must be there.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vm.release import RELEASES

# The kernel, the machine or its network decides on these; nothing in the project or in apt could.
MACHINE_MAY_LACK = frozenset(
    {
        "apparmor",
        "bpf",
        "cap-sys-resource",
        "cgroup1",
        "cgroup2",
        "cgroup2-controllers",
        "idmap",
        "ipv6",
        "kvm",
        "selinux",
        "systemd",
        "ubuntu-archive",
        "userns",
        "x86_64",
    }
)
LACKS = "this machine lacks "


def requires(*features: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test on a machine without all of *features* (or ``tool:NAME`` for a program)."""
    return pytest.mark.requires(*features)


def missing(*features: str) -> str:
    """Return why the first absent of *features* is absent, as the reason for a skip, or an empty string."""
    for feature in features:
        if reason := probe(feature):
            return f"{LACKS}{feature}: {reason}"
    return ""


def is_allowed(reason: str) -> bool:
    """Whether a skip with *reason* stays a skip when skips are failures."""
    text = reason.removeprefix("Skipped: ")
    return text.startswith(LACKS) and text.removeprefix(LACKS).split(":", 1)[0] in MACHINE_MAY_LACK


@functools.cache
def probe(feature: str) -> str:
    """Try *feature* once; return what went wrong, or an empty string.

    Raises:
        LookupError: there is no such feature (a test's typing error must not look like a skip).
    """
    if feature.startswith("tool:"):
        name = feature.removeprefix("tool:")
        return "" if shutil.which(name) else f"no {name} in PATH"
    try:
        return PROBES[feature]()
    except OSError as error:
        return str(error)


def _run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    return "" if done.returncode == 0 else done.stderr.strip().replace("\n", " ") or "failed"


def _root() -> str:
    return "" if os.geteuid() == 0 else f"uid {os.geteuid()}"


def _x86_64() -> str:
    machine = os.uname().machine
    return "" if machine == "x86_64" else f"it is {machine}"


def _namespaces() -> str:
    return _run(
        "unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "true"
    )


def _userns() -> str:
    return _run("unshare", "--user", "--map-root-user", "true")


def _overlay() -> str:
    script = (
        'mount -t tmpfs none "$1" && cd "$1" && mkdir lower upper work merged && '
        "mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work merged && touch merged/file"
    )
    with tempfile.TemporaryDirectory(prefix="mpt") as scratch:
        return _run("unshare", "--mount", "sh", "-c", script, "sh", scratch)


def _nft() -> str:
    chain = "chain c { type filter hook input priority 0; policy accept; }"
    rules = "".join(f"table {family} mpt {{\n{chain}\n}}\n" for family in ("inet", "bridge"))
    return _run("unshare", "--net", "nft", "-f", "-", stdin=rules)


def _veth() -> str:
    script = "ip link add mptb type bridge && ip link add mpt0 type veth peer name mpt1 && ip link set mpt0 master mptb"
    return _run("unshare", "--net", "sh", "-c", script)


def _ipv6() -> str:
    bind = "import socket; socket.socket(socket.AF_INET6).bind(('::1', 0))"
    script = 'ip link set lo up && exec "$1" -c "$2"'
    return _run("unshare", "--net", "sh", "-c", script, "sh", sys.executable, bind)


def cgroup_mounts() -> list[tuple[str, Path, frozenset[str]]]:
    """Return (type, mount point, super options) of every cgroup hierarchy that is mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            found.append((kind, Path(before.split()[4]), frozenset(options.split(","))))
    return found


def _try_cgroup(directory: Path) -> str:
    scratch = directory / f"mpt-probe-{os.getpid()}"
    try:
        scratch.mkdir()
        scratch.rmdir()
    except OSError as error:
        return str(error)
    return ""


def _cgroup(controller: str) -> str:
    """Whether *controller* can be used, in whichever version."""
    for kind, path, options in cgroup_mounts():
        if kind == "cgroup" and controller in options:
            return _try_cgroup(path)
        if kind == "cgroup2" and controller in (path / "cgroup.controllers").read_text().split():
            return _try_cgroup(path)
    return f"no cgroup hierarchy has the {controller} controller"


def _cgroup1() -> str:
    paths = [path for kind, path, _ in cgroup_mounts() if kind == "cgroup"]
    return _try_cgroup(paths[0]) if paths else "no cgroup v1 hierarchy is mounted"


def _cgroup2() -> str:
    paths = [path for kind, path, _ in cgroup_mounts() if kind == "cgroup2"]
    return _try_cgroup(paths[0]) if paths else "no cgroup v2 hierarchy is mounted"


def _cgroup2_controllers() -> str:
    if reason := _cgroup2():
        return reason
    path = next(path for kind, path, _ in cgroup_mounts() if kind == "cgroup2")
    absent = {"cpu", "memory", "pids"} - set((path / "cgroup.controllers").read_text().split())
    return f"cgroup v2 has no controller {', '.join(sorted(absent))}" if absent else ""


def _cap_sys_resource() -> str:
    # A hard limit that was lowered can be raised again with this capability only (setrlimit(2)).
    lower_and_raise = "import resource as r; n = r.RLIMIT_CORE; r.setrlimit(n, (0, 0)); r.setrlimit(n, (4096, 4096))"
    return _run(sys.executable, "-c", lower_and_raise) and "a hard limit cannot be raised"


def _kvm() -> str:
    get_api_version, create_vm = 0xAE00, 0xAE01
    with open("/dev/kvm", "rb+", buffering=0) as kvm:
        version = fcntl.ioctl(kvm, get_api_version, 0)
        os.close(fcntl.ioctl(kvm, create_vm, 0))
    return "" if version == 12 else f"KVM API version {version}"


def _apparmor() -> str:
    enabled = Path("/sys/module/apparmor/parameters/enabled").read_text().strip()
    return (
        "" if enabled == "Y" and Path("/sys/kernel/security/apparmor").is_dir() else "not enabled"
    )


def _selinux() -> str:
    return "" if Path("/sys/fs/selinux/enforce").exists() else "no selinuxfs"


def _systemd() -> str:
    # sd_booted(3), then one answer from its manager.
    if not Path("/run/systemd/system").is_dir():
        return "PID 1 is not systemd"
    return _run("systemctl", "show", "--property=Version")


def _ubuntu_archive() -> str:
    """Fetch what names the files of the release that a machine of tests/vm is made of."""
    suite = RELEASES["noble"]
    with urllib.request.urlopen(
        f"{suite.mirror}/dists/{suite.suite}/Release", timeout=60
    ) as answer:
        return "" if answer.read(1) else "it is empty"


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _bpf() -> str:
    """Load a device filter that says yes: ``mov r0, 1; exit``."""
    number = {"x86_64": 321, "aarch64": 280, "riscv64": 280}.get(os.uname().machine)
    if number is None:
        return f"the number of bpf(2) on {os.uname().machine} is not known here"
    load, cgroup_device = 5, 15
    code = ctypes.create_string_buffer(bytes.fromhex("b700000001000000 9500000000000000"))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "=IIQQ", cgroup_device, 2, ctypes.addressof(code), ctypes.addressof(licence)
    )
    buffer = ctypes.create_string_buffer(attributes + bytes(104))
    os.close(_syscall(number, ctypes.c_int(load), buffer, ctypes.c_uint(len(attributes) + 24)))
    return ""


def _idmap() -> str:
    """Map the ids of a detached clone of the temporary directory (``mount_setattr(2)``, Linux 5.12)."""
    open_tree, mount_setattr, clone, empty_path, idmap = 428, 442, 1, 0x1000, 0x100000
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", "echo; read _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        if not holder.stdout.readline():
            return "no user namespace"
        users = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            directory = ctypes.c_char_p(os.fsencode(tempfile.gettempdir()))
            tree = _syscall(
                open_tree, ctypes.c_int(-100), directory, ctypes.c_uint(clone | os.O_CLOEXEC)
            )
            try:
                attributes = ctypes.create_string_buffer(
                    struct.pack("=QQQQ", idmap, 0, 0, users), 32
                )
                arguments = (ctypes.c_int(tree), ctypes.c_char_p(b""), ctypes.c_uint(empty_path))
                _syscall(mount_setattr, *arguments, attributes, ctypes.c_size_t(32))
            finally:
                os.close(tree)
        finally:
            os.close(users)
    return ""


PROBES: dict[str, Callable[[], str]] = {
    "apparmor": _apparmor,
    "bpf": _bpf,
    "cap-sys-resource": _cap_sys_resource,
    "cgroup1": _cgroup1,
    "cgroup2": _cgroup2,
    "cgroup2-controllers": _cgroup2_controllers,
    "cgroup:cpu": lambda: _cgroup("cpu"),
    "cgroup:memory": lambda: _cgroup("memory"),
    "cgroup:pids": lambda: _cgroup("pids"),
    "idmap": _idmap,
    "ipv6": _ipv6,
    "kvm": _kvm,
    "namespaces": _namespaces,
    "nft": _nft,
    "overlay": _overlay,
    "root": _root,
    "selinux": _selinux,
    "systemd": _systemd,
    "ubuntu-archive": _ubuntu_archive,
    "userns": _userns,
    "veth": _veth,
    "x86_64": _x86_64,
}
