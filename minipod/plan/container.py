# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles one run of a container, and a command that is executed in a running one.

The order is a security property (docs/architecture.md, "The launch order"): host paths are opened first, as detached
trees; then the sandbox's namespaces are entered; then the mount tree is built by fd; then the root is pivoted; then
privileges are given up, in the order in which each step needs what the next one drops.
"""

from __future__ import annotations

import posixpath

from minipod.api import Container, Pod
from minipod.errors import UsageError
from minipod.plan import sandbox
from minipod.plan import steps as s
from minipod.plan.command import argv, candidates, environment, manifest_env
from minipod.plan.context import ContainerContext, Facts, PodContext
from minipod.plan.defaults import (
    DEFAULT_CAPABILITIES,
    DEVICE_LINKS,
    DEVICES,
    MASKED_PROC,
    MASKED_SYS,
    NOFILE,
    PATH,
    READONLY_PROC,
    TTY_GID,
    capability_mask,
    capability_names,
)
from minipod.plan.resources import container_writes, oom_score_adj

# fd slots. The first four are filled from outside: by the agent's fds in order, and by the shim's pipes.
# TREES and up are the volumes' trees.
CGROUP, STDIN, STDOUT, STDERR, JOIN, PROC, ROOT, MOUNT, PTY, DEV, SHM, CGROUPFS = range(12)
EXEC_STDIO = (0, 1, 2)  # an exec brings its own stdin, stdout and stderr first
TREES = 16
MAX_VOLUME_MOUNTS = 1000  # what MP_SLOTS of native/wire.h leaves

SANDBOX_NAMESPACES = ("mnt", "net", "uts", "ipc")


def process_key(container: str, attempt: int) -> str:
    """Return the shim's name for one run of a container."""
    return f"{container}/{attempt}"


def container_cgroup(pod_cgroup: str, container: str, attempt: int) -> str:
    """Return the cgroup of one run of a container; a new one for each, so that counters start at zero."""
    return f"{pod_cgroup}/{container}.{attempt}"


def container_dir(pod_dir: str, container: str, attempt: int) -> str:
    """Return the directory of one run of a container, which holds its upper and work dirs."""
    return f"{pod_dir}/containers/{container}/{attempt}"


def compile_container(
    pod: Pod, container: Container, context: PodContext, run: ContainerContext, facts: Facts
) -> tuple[s.Step, ...]:
    """Return the host steps that start one run of *container*."""
    at = f"spec.containers[{pod.spec.containers.index(container)}]"
    if len(container.volume_mounts) > MAX_VOLUME_MOUNTS:
        raise UsageError(
            f"{at}.volumeMounts: {len(container.volume_mounts)} are more than {MAX_VOLUME_MOUNTS}",
            "mount a directory that holds several of them",
        )
    directory = container_dir(context.pod_dir, container.name, run.attempt)
    logs = f"{context.log_dir}/{container.name}"
    namespace_steps = (
        *_prepare(pod, container, context, run, facts, at),
        *_root_mounts(pod, container, facts),
        *_volume_mounts(pod, container, context, at),
        *_etc_files(container),
        *_hide(facts),
        *_pivot(container, run, at),
        *_finish(pod, container, context, run, facts, at),
    )
    return (
        s.MakeDirectory(path=f"{directory}/upper", mode=0o755),
        s.MakeDirectory(path=f"{directory}/work"),
        s.MakeDirectory(path=logs, mode=0o755),
        s.MakeCgroup(
            path=container_cgroup(context.cgroup, container.name, run.attempt),
            writes=container_writes(container, facts),
            devices=True,
            source=f"{at}.resources",
        ),
        _launch(pod, container, context, run, facts, namespace_steps, at),
    )


def _launch(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    namespace_steps: tuple[s.NamespaceStep, ...],
    at: str,
) -> s.Launch:
    cgroup2 = facts.cgroup2
    shared = pod.spec.share_process_namespace
    return s.Launch(
        key=process_key(container.name, run.attempt),
        kind="CONTAINER",
        steps=namespace_steps,
        fds=("cgroup",) if cgroup2 else (),
        into_cgroup=container_cgroup(context.cgroup, container.name, run.attempt)
        if cgroup2
        else "",
        new_pid_namespace=not (pod.spec.host_pid or shared),
        join=sandbox.KEY,
        join_slot=JOIN,
        join_pid_namespace=shared and not pod.spec.host_pid,
        stdio="TTY_LOG" if container.tty else "LOG",
        stdio_slots=(STDIN, STDOUT, STDERR),
        keep_stdin=container.stdin,
        log_path=f"{context.log_dir}/{container.name}/{run.attempt}.log",
        source=at,
    )


# ---- in the clone: host root, all capabilities, the host's mount namespace --------------------------------------


def _prepare(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    at: str,
) -> list[s.NamespaceStep]:
    directory = container_dir(context.pod_dir, container.name, run.attempt)
    result: list[s.NamespaceStep] = [
        s.Harden(),
        *_join_v1(facts, container_cgroup(context.cgroup, container.name, run.attempt)),
        s.NewFilesystem(slot=PROC, type="proc", attributes=("nosuid", "nodev", "noexec")),
        *_host_trees(pod, container, context, at),
    ]
    if pod.spec.host_ipc:
        result.append(
            s.OpenTree(slot=SHM, path="/dev/shm", type="directory", source="spec.hostIPC")
        )
    # The overlay last: its legacy form leaves the host's mount namespace.
    result += [
        s.NewOverlay(
            slot=ROOT,
            lower=tuple(reversed(run.layers)),
            upper=f"{directory}/upper",
            work=f"{directory}/work",
            scratch=f"{context.run_dir}/root",
            legacy=not facts.overlay_appends_layers,
            source=f"{at}.image",
        ),
        s.SetNs(pidfd=JOIN, of="the sandbox", namespaces=SANDBOX_NAMESPACES),
        s.Unshare(namespaces=("mnt", "cgroup")),
        s.MakePrivate(),
        s.Attach(slot=ROOT, path="/rootfs", root=-1),
    ]
    return result


def _join_v1(facts: Facts, cgroup: str) -> list[s.NamespaceStep]:
    return [
        s.JoinCgroup(directory=f"{h.directory}/{cgroup}")
        for h in facts.hierarchies
        if h.version == 1
    ]


def _mount_order(container: Container) -> list[int]:
    """Return the indexes of the volume mounts, parents before what is mounted inside them."""
    mounts = container.volume_mounts
    return sorted(range(len(mounts)), key=lambda i: _clean(mounts[i].mount_path).count("/"))


def _clean(path: str) -> str:
    """Return an absolute path as it is compared: without doubled or trailing slashes and ``.``."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _host_trees(
    pod: Pod, container: Container, context: PodContext, at: str
) -> list[s.NamespaceStep]:
    """Take the volumes that lie on the host, while we still see its mounts; later no host path is looked up again."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    result: list[s.NamespaceStep] = []
    for i in _mount_order(container):
        mount = container.volume_mounts[i]
        volume = volumes[mount.name]
        attributes = ("ro",) if mount.read_only else ()
        where = f"{at}.volumeMounts[{i}]"
        if volume.host_path:
            kind = context.host_paths.get(volume.name, "")
            step = s.OpenTree(
                slot=TREES + i,
                path=volume.host_path.path,
                type=kind,
                recursive=True,
                attributes=attributes,
                source=where,
            )
            result.append(step)
        elif volume.empty_dir and volume.empty_dir.medium != "Memory":
            path = f"{context.pod_dir}/volumes/{volume.name}"
            result.append(
                s.OpenTree(
                    slot=TREES + i, path=path, type="directory", attributes=attributes, source=where
                )
            )
    return result


# ---- in the container's own mount namespace ---------------------------------------------------------------------


def _root_mounts(pod: Pod, container: Container, facts: Facts) -> list[s.NamespaceStep]:
    own = {_clean(mount.mount_path) for mount in container.volume_mounts}
    quiet = ("nosuid", "nodev", "noexec")
    result: list[s.NamespaceStep] = [
        s.Attach(slot=PROC, path="/proc", root=ROOT, create="directory", no_symlinks=True),
        s.NewFilesystem(slot=MOUNT, type="sysfs", attributes=("ro", *quiet)),
        s.Attach(slot=MOUNT, path="/sys", root=ROOT, create="directory", no_symlinks=True),
    ]
    result += _devices()
    if not (container.stdin or container.tty):
        # Not the shim's /dev/null, which is the host's: the container's root could chmod what it has open.
        result.append(s.OpenFile(slot=STDIN, path="/dev/null", root=ROOT))
    if "/dev/shm" not in own:
        if not pod.spec.host_ipc:
            result.append(s.OpenTree(slot=SHM, path="/shm", type="directory"))
        result.append(s.Attach(slot=SHM, path="/dev/shm", root=ROOT, no_symlinks=True))
    result += [
        s.NewFilesystem(
            slot=MOUNT,
            type="devpts",
            options=("newinstance", "ptmxmode=0666", "mode=0620", f"gid={TTY_GID}"),
            attributes=("nosuid", "noexec"),
        ),
        s.Attach(slot=MOUNT, path="/dev/pts", root=ROOT, no_symlinks=True),
    ]
    if "/dev/mqueue" not in own:
        result += [
            s.NewFilesystem(slot=MOUNT, type="mqueue", attributes=quiet),
            s.Attach(slot=MOUNT, path="/dev/mqueue", root=ROOT, no_symlinks=True),
        ]
    result += _cgroup_mounts(facts)
    return result


def _etc_files(container: Container) -> list[s.NamespaceStep]:
    """The pod's own files come on top of the volumes, so that one on /etc does not hide them (containerd's order)."""
    own = {_clean(mount.mount_path) for mount in container.volume_mounts}
    result: list[s.NamespaceStep] = []
    for name in ("hosts", "resolv.conf", "hostname"):
        if f"/etc/{name}" not in own:
            result += [
                s.OpenTree(slot=MOUNT, path=f"/files/{name}", type="file"),
                s.Attach(slot=MOUNT, path=f"/etc/{name}", root=ROOT, create="file"),
            ]
    return result


def _devices() -> list[s.NamespaceStep]:
    result: list[s.NamespaceStep] = [
        s.NewFilesystem(
            slot=DEV,
            type="tmpfs",
            options=("mode=0755", "size=65536k"),
            attributes=("nosuid", "noexec"),
        )
    ]
    result += [
        s.Mknod(path=f"/{name}", root=DEV, major=major, minor=minor)
        for name, major, minor in DEVICES
    ]
    result += [s.Symlink(path=f"/{name}", target=target, root=DEV) for name, target in DEVICE_LINKS]
    result += [s.Mkdir(path=f"/{name}", root=DEV) for name in ("pts", "shm", "mqueue")]
    result.append(s.Attach(slot=DEV, path="/dev", root=ROOT, create="directory", no_symlinks=True))
    return result


def _cgroup_mounts(facts: Facts) -> list[s.NamespaceStep]:
    """Show the container its own cgroup, read-only: one mount on cgroup v2, one per hierarchy on v1."""
    read_only = ("ro", "nosuid", "nodev", "noexec")
    v1 = [h for h in facts.hierarchies if h.version == 1]
    if not v1:
        return [
            s.NewFilesystem(slot=MOUNT, type="cgroup2", attributes=read_only),
            s.Attach(slot=MOUNT, path="/sys/fs/cgroup", root=ROOT, no_symlinks=True),
        ]
    result: list[s.NamespaceStep] = [
        s.NewFilesystem(
            slot=CGROUPFS,
            type="tmpfs",
            options=("mode=0755", "nr_inodes=64"),
            attributes=("nosuid", "nodev", "noexec"),
        ),
        *(s.Mkdir(path=f"/{h.name}", root=CGROUPFS) for h in v1),
        s.Attach(slot=CGROUPFS, path="/sys/fs/cgroup", root=ROOT, no_symlinks=True),
    ]
    for hierarchy in v1:
        result += [
            s.NewFilesystem(
                slot=MOUNT, type="cgroup", options=hierarchy.controllers, attributes=read_only
            ),
            s.Attach(
                slot=MOUNT, path=f"/sys/fs/cgroup/{hierarchy.name}", root=ROOT, no_symlinks=True
            ),
        ]
    result.append(s.SetMountAttributes(slot=CGROUPFS, what="/sys/fs/cgroup", attributes=("ro",)))
    return result


def _volume_mounts(
    pod: Pod, container: Container, context: PodContext, at: str
) -> list[s.NamespaceStep]:
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    result: list[s.NamespaceStep] = []
    for i in _mount_order(container):
        mount = container.volume_mounts[i]
        volume = volumes[mount.name]
        where = f"{at}.volumeMounts[{i}]"
        if volume.empty_dir and volume.empty_dir.medium == "Memory":
            attributes = ("ro",) if mount.read_only else ()
            path = f"/volumes/{volume.name}"
            result.append(
                s.OpenTree(
                    slot=TREES + i, path=path, type="directory", attributes=attributes, source=where
                )
            )
        kind = context.host_paths.get(volume.name, "directory") if volume.host_path else "directory"
        create = "directory" if kind == "directory" else "file"
        result.append(
            s.Attach(slot=TREES + i, path=mount.mount_path, root=ROOT, create=create, source=where)
        )
    return result


def _hide(facts: Facts) -> list[s.NamespaceStep]:
    # Read-only first: some paths are in both lists, and what masks them is no procfs any more.
    return [
        s.ReadonlyPaths(root=ROOT, paths=READONLY_PROC, on_proc=True),
        s.MaskPaths(root=ROOT, paths=MASKED_PROC, on_proc=True),
        s.MaskPaths(root=ROOT, paths=MASKED_SYS + facts.masked_sys),
    ]


def _pivot(container: Container, run: ContainerContext, at: str) -> list[s.NamespaceStep]:
    result: list[s.NamespaceStep] = []
    if container.tty:
        result.append(s.OpenPty(slot=PTY, root=ROOT, console=True, source=f"{at}.tty"))
    directory = _working_dir(container, run)
    if directory != "/":
        result.append(s.Mkdir(path=directory, root=ROOT, parents=True, source=f"{at}.workingDir"))
    result.append(s.PivotRoot(slot=ROOT))
    return result


def _working_dir(container: Container, run: ContainerContext) -> str:
    return container.working_dir or run.working_dir or "/"


# ---- inside its own root: privileges go, in the order in which they are needed ------------------------------------


def _finish(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    at: str,
) -> list[s.NamespaceStep]:
    env = environment(container, run, context.hostname)
    words = argv(container, run.entrypoint, run.cmd, manifest_env(container))
    if not words:
        raise UsageError(
            f"{at}: neither the manifest nor image {container.image} says what to execute",
            f"set {at}.command",
        )
    return [
        s.NewSession(),
        s.NewKeyring(),
        *_limits(pod, container, facts, at),
        _stdio(container),
        *_drop(run, facts, _working_dir(container, run), at),
        s.Exec(
            candidates=candidates(words[0], env.get("PATH", PATH)),
            argv=words,
            env=tuple(f"{name}={value}" for name, value in env.items()),
            source=f"{at}.command" if container.command else f"{at}.image",
        ),
    ]


def _limits(pod: Pod, container: Container, facts: Facts, at: str) -> list[s.NamespaceStep]:
    nofile = NOFILE if facts.can_raise_limits else min(NOFILE, facts.nofile_hard)
    score = oom_score_adj(pod, container, facts.memory)
    if not facts.can_raise_limits:
        score = max(0, score)  # said in the pod's status: see runtime/facts.py
    return [
        s.SetRlimit(name="nofile", soft=nofile, hard=nofile),
        s.SetOomScoreAdj(proc=PROC, value=score, source=f"{at}.resources"),
    ]


def _stdio(container: Container) -> s.SetStdio:
    if container.tty:
        return s.SetStdio(slots=(PTY, PTY, PTY), terminal=True)
    return s.SetStdio(slots=(STDIN, STDOUT, STDERR))


def _drop(run: ContainerContext, facts: Facts, directory: str, at: str) -> list[s.NamespaceStep]:
    """Return the steps from root with all capabilities to the container's own user with the default ones."""
    bounding = capability_mask(DEFAULT_CAPABILITIES) & facts.capabilities
    # Without no_new_privs the filter needs CAP_SYS_ADMIN (seccomp(2)); execve then drops it, because it is not in
    # the bounding set.
    until_exec = bounding | capability_mask({"SYS_ADMIN"})
    return [
        s.SetIdentity(
            uid=run.uid,
            gid=run.gid,
            groups=run.groups,
            stdio_owner=run.uid != 0,
            source=f"{at}.image",
        ),
        s.SetCapabilities(
            bounding=bounding, until_exec=until_exec, names=capability_names(bounding)
        ),
        s.Chdir(path=directory, source=f"{at}.workingDir"),
        s.LoadSeccomp(program=run.seccomp, profile="RuntimeDefault"),
        s.CloseRange(),
    ]


# ---- exec ---------------------------------------------------------------------------------------------------------


def compile_exec(
    pod: Pod,
    container: Container,
    context: PodContext,
    run: ContainerContext,
    facts: Facts,
    command: tuple[str, ...],
    *,
    number: int,
    tty: bool,
    size: tuple[int, int] = (0, 0),
    term: str = "",
) -> s.Launch:
    """Return the launch of *command* in a running container: same user, same capabilities, same filter."""
    env = environment(container, run, context.hostname)
    if tty:
        env["TERM"] = term or env.get("TERM", "xterm")
    cgroup = container_cgroup(context.cgroup, container.name, run.attempt)
    at = f"spec.containers[{pod.spec.containers.index(container)}]"
    steps: list[s.NamespaceStep] = [
        s.Harden(),
        *_join_v1(facts, cgroup),
        s.NewFilesystem(slot=PROC, type="proc", attributes=("nosuid", "nodev", "noexec")),
        s.SetNs(
            pidfd=JOIN, of=f"container {container.name}", namespaces=(*SANDBOX_NAMESPACES, "cgroup")
        ),
    ]
    if tty:
        steps += [
            s.OpenFile(slot=ROOT, path="/"),
            s.OpenPty(slot=PTY, root=ROOT, rows=size[0], columns=size[1]),
        ]
    steps += [
        s.NewSession(),
        s.NewKeyring(),
        *_limits(pod, container, facts, at),
        s.SetStdio(slots=(PTY, PTY, PTY), terminal=True) if tty else s.SetStdio(slots=EXEC_STDIO),
        *_drop(run, facts, _working_dir(container, run), at),
        s.Exec(
            candidates=candidates(command[0], env.get("PATH", PATH)),
            argv=command,
            env=tuple(f"{name}={value}" for name, value in env.items()),
        ),
    ]
    stdio = () if tty else ("stdin", "stdout", "stderr")
    return s.Launch(
        key=f"exec/{number}",
        kind="EXEC",
        steps=tuple(steps),
        fds=(*stdio, "cgroup") if facts.cgroup2 else stdio,
        into_cgroup=cgroup if facts.cgroup2 else "",
        join=process_key(container.name, run.attempt),
        join_slot=JOIN,
        join_pid_namespace=not pod.spec.host_pid,
        stdio="TTY" if tty else "FDS",
    )
