# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``doctor`` checks: one small function for each thing that pods need, which tries it and cleans up.

What is made for a trial is made in a child process and in namespaces of its own, and goes with them.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minipod.config import Config
from minipod.errors import MinipodError

if TYPE_CHECKING:
    import subprocess

KERNEL_FLOOR = (5, 12)  # mount_setattr(2)
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_MS_REC_PRIVATE = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE, mount(2)


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found.

    Attributes:
        level: ``ok``, ``warn`` (pods run, with less), ``fail`` (they do not), ``skip``.
        text: what was seen.
        remedy: what to do about it.
    """

    level: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A named trial; *run* may raise ``OSError`` or ``MinipodError`` for a failure with *remedy*."""

    name: str
    run: Callable[[Config], Result]
    remedy: str = ""
    needs_root: bool = True


def examine(check: Check, config: Config) -> Result:
    """Run *check*; whatever it raises is a failure, never the doctor's own."""
    try:
        return check.run(config)
    except MinipodError as error:
        return Result("fail", error.what, error.remedy or check.remedy)
    except (OSError, ImportError, ValueError, LookupError) as error:
        return Result("fail", str(error), check.remedy)


def in_child(trial: Callable[[], None]) -> None:
    """Run *trial* in a child process, which takes what it did to itself along.

    Raises:
        OSError: what the trial raised.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            trial()
        except OSError as error:
            os.write(write, json.dumps([error.errno, error.strerror or str(error)]).encode())
        except BaseException as error:
            os.write(write, json.dumps([0, f"{type(error).__name__}: {error}"]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        data = said.read()
    os.waitpid(pid, 0)
    if data:
        number, words = json.loads(data)
        raise OSError(number, words)


def _root(config: Config) -> Result:
    if os.geteuid() != 0:
        return Result("fail", f"running as uid {os.geteuid()}", "sudo minipod doctor")
    return Result("ok", "running as root")


def _kernel(config: Config) -> Result:
    release = os.uname().release
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    floor = ".".join(map(str, KERNEL_FLOOR))
    if numbers < KERNEL_FLOOR:
        return Result("fail", f"Linux {release}", f"use Linux {floor} or newer")
    return Result("ok", f"Linux {release}")


def _executables(config: Config) -> Result:
    from minipod import native

    for name in ("minipod-shim", "minipod-pause"):
        path = native.executable(name)
        if not os.access(path, os.X_OK):
            return Result(
                "fail",
                f"{path} is missing or not executable",
                "install minipod anew, or run make setup",
            )
    return Result(
        "ok", f"minipod-shim and minipod-pause in {native.executable('minipod-shim').parent}"
    )


def _libraries(config: Config) -> Result:
    from importlib import import_module

    for name in ("cffi", "isal", "msgspec", "prctl", "pyroute2", "pyseccomp", "yaml"):
        try:
            import_module(name)
        except Exception as error:
            return Result(
                "fail", f"{name}: {error}", "install minipod anew, with libseccomp2 and libcap2"
            )
    return Result("ok", "all Python packages load")


def _capabilities(config: Config) -> Result:
    from minipod.runtime import facts

    notes = [note for note in facts.shortcomings(facts.gather()) if "cgroup" not in note]
    if notes:
        return Result(
            "warn", "; ".join(notes), "grant CAP_SYS_RESOURCE to have what Kubernetes gives"
        )
    return Result("ok", "all that are needed")


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
    absent = sorted({"cpu", "memory", "pids"} - present)
    if absent:
        return Result(
            "warn",
            f"{versions}, without {', '.join(absent)}: such limits are not enforced",
            "boot with cgroup_enable=memory, and systemd.unified_cgroup_hierarchy=1",
        )
    return Result("ok", f"{versions} with {', '.join(sorted(present))}")


def _nft_program() -> str:
    program = shutil.which("nft", path=_PATH)
    if not program:
        raise MinipodError(f"there is no nft in {_PATH}", "install the package nftables")
    return program


def _run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    import subprocess

    env = {"PATH": _PATH, "LC_ALL": "C"}
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",
        env=env,
        check=False,
    )


def _nft(config: Config) -> Result:
    from minipod.network import ruleset

    done = _run(_nft_program(), "-c", "-f", "-", stdin=ruleset.full(config, []))
    if done.returncode != 0:
        first = next(iter(done.stderr.splitlines()), "no message")
        return Result(
            "fail", f"nft refuses our ruleset: {first}", "modprobe nf_tables nft_masq nft_chain_nat"
        )
    return Result("ok", "takes our ruleset (tried, not applied)")


def _links(config: Config) -> Result:
    in_child(_make_links)
    return Result("ok", "made both, in a network namespace of their own")


def _make_links() -> None:
    from minipod import native
    from minipod.network import netlink

    native.unshare(native.CLONE_NEWNET)
    netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with netlink.RouteSocket() as route:
        route.run(netlink.add_bridge("mpdoctor", "02:00:00:00:00:01", 1500))
        index = route.index("mpdoctor")
        if index is None:
            raise OSError(errno.ENODEV, "the bridge is not there")
        route.run(netlink.add_veth("mpdoctor1", index, 1500, "02:00:00:00:00:02", netns))


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


def _range(config: Config) -> Result:
    from minipod.network.bridge import HostLinks

    host = HostLinks(config)
    try:
        host.check_range()
    finally:
        host.close()
    return Result("ok", f"{config.pod_cidr} overlaps nothing of the host's")


def _forwarding(config: Config) -> Result:
    path = "/proc/sys/net/ipv4/ip_forward"
    if Path(path).read_text().strip() == "1":
        return Result("ok", "on")
    if os.access(path, os.W_OK):
        return Result("ok", "off; the agent turns it on")
    return Result("fail", "off, and it cannot be turned on here", "sysctl -w net.ipv4.ip_forward=1")


def _firewalls(config: Config) -> Result:
    done = _run(_nft_program(), "-j", "list", "chains")
    if done.returncode != 0:
        raise OSError(errno.EPERM, done.stderr.strip())
    if others := dropping_chains(done.stdout, config.nft_table):
        return Result(
            "warn",
            f"{', '.join(others)} drops what it does not know: pods may not reach other machines",
            admitting(done.stdout, config.bridge),
        )
    return Result("ok", "no other table drops forwarded packets")


def admitting(chains: str, bridge: str) -> str:
    """Return what lets the packets of *bridge* through, in the words of whoever made the *chains* (as of nft -j).

    It is for the user to do: those chains are another program's, which would drop what we put there, or keep it
    for ever, when it starts anew.
    """
    names = {item.get("chain", {}).get("name", "") for item in json.loads(chains)["nftables"]}
    if "DOCKER-USER" in names:  # Docker keeps the rules of this one, and of no other
        chain = "DOCKER-USER"
    elif any(name.startswith("ufw-") for name in names):
        return f"ufw route allow in on {bridge}; ufw route allow out on {bridge}"
    else:
        chain = "FORWARD"
    return f"iptables -I {chain} -i {bridge} -j ACCEPT; iptables -I {chain} -o {bridge} -j ACCEPT"


def dropping_chains(chains: str, own_table: str) -> list[str]:
    """Return the chains in ``nft -j list chains`` that drop forwarded IPv4 by policy, but those of our table."""
    found = []
    for item in json.loads(chains)["nftables"]:
        chain = item.get("chain", {})
        if (
            chain.get("hook") == "forward"
            and chain.get("policy") == "drop"
            and chain.get("family") in ("ip", "inet")
            and chain.get("table") != own_table
        ):
            found.append(f"{chain['family']} {chain['table']} {chain['name']}")
    return found


def _agent(config: Config) -> Result:
    from minipod.cli.client import AgentDown, call

    try:
        with call(config, {"verb": "agent-status"}, start=False, timeout=5.0) as answer:
            done = answer.finish()
    except AgentDown:
        return Result("ok", "not running; the first command that needs it starts it")
    return Result("ok", f"running, pid {done.get('pid')}, {done.get('pods')} pods")


CHECKS = (
    Check("root", _root, needs_root=False),
    Check("kernel", _kernel, needs_root=False),
    Check("executables", _executables, "install minipod anew, or run make setup", needs_root=False),
    Check("libraries", _libraries, needs_root=False),
    Check("capabilities", _capabilities, "run it as root, outside of a container"),
    Check("namespaces", _namespaces),
    Check("overlayfs", _overlay, "modprobe overlay"),
    Check("cgroups", _cgroups, "mount the cgroup file system so that root can write to it"),
    Check("seccomp", _seccomp, "use a kernel with CONFIG_SECCOMP_FILTER", needs_root=False),
    Check("nftables", _nft, "modprobe nf_tables"),
    Check("bridge and veth", _links, "modprobe bridge veth"),
    Check("pod range", _range, "set MINIPOD_POD_CIDR to a range that is free"),
    Check("forwarding", _forwarding, "sysctl -w net.ipv4.ip_forward=1"),
    Check("other firewalls", _firewalls),
    Check(
        "agent",
        _agent,
        "minipod agent status; its log: journalctl -u minipod-agent, or agent.log in the root directory",
    ),
)
