# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel must be able to do, tried in child processes and in namespaces of their own."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

from minipod.cli.checks.base import Check, Result, in_child, package
from minipod.config import Config
from minipod.errors import MinipodError

KERNEL_FLOOR = (5, 12)  # mount_setattr(2)
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_MS_REC_PRIVATE = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE, mount(2)


def _kernel(config: Config) -> Result:
    release = os.uname().release
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    floor = ".".join(map(str, KERNEL_FLOOR))
    if numbers < KERNEL_FLOOR:
        return Result("fail", f"Linux {release}", f"use Linux {floor} or newer")
    if container := _container():
        return Result(
            "warn",
            f"Linux {release}, inside of a container ({container}): much of it may be out of reach",
            "run minipod on the machine itself, or in a virtual machine",
        )
    return Result("ok", f"Linux {release}{', in a virtual machine' if _is_virtual() else ''}")


def _container() -> str:
    """Return what kind of container we are in, as its maker says (systemd.io/CONTAINER_INTERFACE); "" for none."""
    # The kernel's word first: a machine may have been made from a container's image.
    if os.stat("/proc/self/ns/pid").st_ino == _FIRST_PID_NAMESPACE:
        return ""
    for path, kind in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if os.path.exists(path):
            return kind
    try:
        return Path("/run/systemd/container").read_text().strip()
    except OSError:
        return "of an unknown kind"


def _is_virtual() -> bool:
    """Whether the processor says that a hypervisor is below it (x86 only)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    return any("hypervisor" in line.split() for line in lines if line.startswith("flags"))


def _capabilities(config: Config) -> Result:
    return judge_capabilities(_shortcomings())


def judge_capabilities(shortcomings: dict[str, str]) -> Result:
    """Say what we lack ourselves, of all that :func:`~minipod.runtime.facts.shortcomings` found."""
    if missing := shortcomings.get("capabilities"):
        return Result("warn", missing, "grant CAP_SYS_RESOURCE to have what Kubernetes gives")
    return Result("ok", "all that are needed")


def _secrets(config: Config) -> Result:
    try:
        found = _shortcomings()
    except MinipodError:
        return Result("skip", "needs capabilities")  # whose check tells of it
    return judge_secrets(found)


def judge_secrets(shortcomings: dict[str, str]) -> Result:
    """Say whether the files of Secrets may get to a disk."""
    if leak := shortcomings.get("secrets"):
        remedy = "use Linux 6.4 or newer, encrypt the swap, or do without it: sudo swapoff --all"
        return Result("warn", leak, remedy)
    return Result("ok", "their files stay in memory")


def _shortcomings() -> dict[str, str]:
    """Return what the agent would note of this machine in each pod's status."""
    from minipod.runtime import facts

    return facts.shortcomings(facts.gather())


def _namespaces(config: Config) -> Result:
    from minipod import native

    kinds = {
        "mnt": native.CLONE_NEWNS,
        "uts": native.CLONE_NEWUTS,
        "ipc": native.CLONE_NEWIPC,
        "pid": native.CLONE_NEWPID,
        "net": native.CLONE_NEWNET,
        "cgroup": native.CLONE_NEWCGROUP,
        "user": native.CLONE_NEWUSER,
    }
    failed = {}
    for kind, flag in kinds.items():
        try:
            in_child(lambda flag=flag: native.unshare(flag))  # type: ignore[misc]
        except OSError as error:
            failed[kind] = error.strerror
    words = ", ".join(f"{kind}: {why}" for kind, why in failed.items())
    if failed.keys() - {"user"}:
        return Result("fail", words, "run outside of a container, on a kernel with all namespaces")
    if failed:
        return Result(
            "warn", words, "sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone"
        )
    return Result("ok", ", ".join(kinds))


def _overlay(config: Config) -> Result:
    import tempfile

    from minipod import native

    appends = native.overlay_appends_layers()
    # Where containers' files will be: an overlay takes not every file system as its upper layer.
    base = Path(config.root_dir)
    while not base.is_dir():
        base = base.parent
    with tempfile.TemporaryDirectory(prefix=".minipod-doctor-", dir=base) as scratch:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{scratch}/{name}")
        try:
            in_child(lambda: _mount_overlay(scratch))
        except OSError as error:
            return Result(
                "fail",
                f"no overlay in {base}: {error.strerror}",
                "choose a --root-dir on ext4, xfs or btrfs",
            )
    how = "layers one by one" if appends else "layers by name (before Linux 6.5)"
    return Result("ok", f"mounted one in {base}; {how}")


def _mount_overlay(scratch: str) -> None:
    from minipod import native

    native.unshare(native.CLONE_NEWNS)
    _mount("none", "/", None, _MS_REC_PRIVATE, "")
    options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
    _mount("overlay", f"{scratch}/merged", "overlay", 0, options)
    Path(scratch, "merged", "file").write_text("")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (source.encode(), os.fsencode(target), kind.encode() if kind else None)
    if libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(options)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _cgroups(config: Config) -> Result:
    from minipod.runtime.facts import cgroup_hierarchies

    hierarchies = cgroup_hierarchies()
    for hierarchy in hierarchies:
        directory = f"{hierarchy.directory}/minipod-doctor-{os.getpid()}"
        os.mkdir(directory)
        os.rmdir(directory)
    present = {name for hierarchy in hierarchies for name in hierarchy.controllers}
    versions = "v" + " and v".join(sorted({str(hierarchy.version) for hierarchy in hierarchies}))
    return judge_cgroups(versions, present)


def judge_cgroups(versions: str, present: set[str]) -> Result:
    """Say what it means that the mounted hierarchies have these controllers."""
    absent = sorted({"cpu", "memory", "pids"} - present)
    if absent:
        return Result(
            "warn",
            f"{versions}, without {', '.join(absent)}: such limits are not enforced",
            "boot with cgroup_enable=memory, and systemd.unified_cgroup_hierarchy=1",
        )
    if "v2" not in versions:
        return Result(
            "ok", f"{versions} with {', '.join(sorted(present))}; v2 alone can do more (memory QoS)"
        )
    return Result("ok", f"{versions} with {', '.join(sorted(present))}")


def _ids(config: Config) -> Result:
    base = Path(config.root_dir)
    while not base.is_dir():
        base = base.parent
    try:
        in_child(lambda: _map_ids(str(base)))
    except OSError as error:
        return Result(
            "warn",
            f"{base} has no idmapped mounts ({error.strerror}): pods with hostUsers: false are refused",
            "use Linux 5.19 or newer, with the root directory on ext4, xfs or btrfs",
        )
    return Result("ok", f"{base} has idmapped mounts, for pods with hostUsers: false")


def _map_ids(directory: str) -> None:
    """Map the ids of a detached clone of *directory* to those of a throw-away user namespace (mount_setattr(2))."""
    import ctypes

    from minipod import native

    open_tree, mount_setattr, clone, empty_path, idmap = 428, 442, 1, 0x1000, 0x100000
    ours, theirs = os.pipe()
    ready, is_ready = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            os.close(theirs)
            native.unshare(native.CLONE_NEWUSER)
            os.write(is_ready, b"x")
            os.read(ours, 1)  # until the other end goes
        finally:
            os._exit(0)
    os.close(is_ready)
    try:
        if not os.read(ready, 1):
            raise OSError(errno.EPERM, "no user namespace")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder}/{name}").write_text("0 65536 65536")
        libc = ctypes.CDLL(None, use_errno=True)
        users = os.open(f"/proc/{holder}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        tree = libc.syscall(open_tree, -100, os.fsencode(directory), clone | os.O_CLOEXEC)
        attributes = struct.pack("=QQQQ", idmap, 0, 0, users)
        if tree < 0 or libc.syscall(
            mount_setattr, tree, b"", empty_path, attributes, ctypes.c_size_t(len(attributes))
        ):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(theirs)
        os.waitpid(holder, 0)


def _apparmor(config: Config) -> Result:
    from minipod.runtime import apparmor

    return judge_apparmor(apparmor.enabled(), apparmor.supported())


def judge_apparmor(enabled: bool, supported: bool) -> Result:
    """Say what AppArmor does for pods: the kernel's part, and whether its profiles can be loaded."""
    if not enabled:
        return Result("ok", "not in this kernel, or off; pods that ask for a profile are refused")
    if not supported:
        return Result(
            "warn",
            "the kernel has it, but no apparmor_parser is there: containers run without it",
            package("apparmor"),
        )
    return Result("ok", "confines containers that do not say otherwise")


def _seccomp(config: Config) -> Result:
    in_child(_load_filter)
    return Result("ok", "loaded a filter")


def _load_filter() -> None:
    import ctypes

    set_no_new_privs, set_seccomp, mode_filter, allow = (
        38,
        22,
        2,
        0x7FFF0000,
    )  # prctl(2), seccomp(2)
    code = ctypes.create_string_buffer(
        (0x06).to_bytes(2, "little") + bytes(2) + allow.to_bytes(4, "little"), 8
    )

    class Program(ctypes.Structure):
        """``struct sock_fprog``."""

        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(1, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(set_no_new_privs, 1, 0, 0, 0) or libc.prctl(
        set_seccomp, mode_filter, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


CHECKS = (
    Check("kernel", _kernel, needs_root=False),
    Check("capabilities", _capabilities, "run it as root, outside of a container"),
    Check("secrets", _secrets),
    Check("namespaces", _namespaces),
    Check("overlayfs", _overlay, "sudo modprobe overlay"),
    Check("user namespaces", _ids),
    Check("cgroups", _cgroups, "mount the cgroup file system so that root can write to it"),
    Check("seccomp", _seccomp, "use a kernel with CONFIG_SECCOMP_FILTER", needs_root=False),
    Check("apparmor", _apparmor, needs_root=False),
)
