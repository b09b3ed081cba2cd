# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles a pod's sandbox: cgroup, shim, the pause process with its namespaces and pod-level mounts, the network."""

from __future__ import annotations

from minipod.api import Pod, qos_class
from minipod.api.amounts import is_set
from minipod.api.sysctls import normal_name
from minipod.plan import steps as s
from minipod.plan.context import USER_IDS, Facts, PodContext
from minipod.plan.defaults import (
    MAX_GID,
    PAUSE_UID,
    POD_FILES_BYTES,
    SHM_BYTES,
    TERMINATION_BYTES,
    pod_sysctls,
)
from minipod.plan.emptydir import empty_dir_mode, empty_dir_mounts
from minipod.plan.nfs import attach_nfs, open_nfs
from minipod.plan.ownership import give_volumes
from minipod.plan.podvolumes import mount_volumes, open_images, prepare_images
from minipod.plan.privileges import own_files
from minipod.plan.resources import class_cgroups, pod_writes
from minipod.plan.slots import TERMINATION
from minipod.plan.volumes import in_sandbox

# fd slots of the sandbox's launch; CGROUP is filled by the agent's fd where the clone is born in its cgroup.
CGROUP, PAUSE, NULL, TREE, MOUNT, PROC, NETNS, NETLINK, USERS = range(9)

KEY = "sandbox"


def compile_sandbox(pod: Pod, context: PodContext, facts: Facts) -> tuple[s.Step, ...]:
    """Return the host steps that make *pod*'s sandbox, in order."""
    namespace_steps = (
        *_enter(pod, context, facts),
        *open_images(pod, context, facts, users=USERS),
        *own_files(context),
        *_mounts(pod, context, facts),
        *mount_volumes(pod, facts, tree=TREE, mount=MOUNT),
        *_leave(pod, context),
        *_settings(pod, context),
        *_become_pause(pod, context),
    )
    cgroup2 = facts.cgroup2
    launch = s.Launch(
        key=KEY,
        kind="SANDBOX",
        steps=namespace_steps,
        fds=("cgroup",) if cgroup2 else (),
        into_cgroup=f"{context.cgroup}/sandbox" if cgroup2 else "",
        new_pid_namespace=pod.spec.share_process_namespace,
        pause_slot=PAUSE,
        stdio_slots=(NULL, NULL, NULL),
        source="spec",
    )
    result: list[s.Step] = [
        s.MakeDirectory(path=context.pod_dir),
        s.MakeDirectory(path=context.run_dir),
        s.MakeDirectory(path=f"{context.run_dir}/root"),
        s.MakeDirectory(path=f"{context.run_dir}/exits"),
        s.MakeDirectory(path=context.log_dir, mode=0o755),
        *_volume_directories(pod, context),
        *give_volumes(pod, context),
        *prepare_images(pod, context),
        *class_cgroups(context.parent, qos_class(pod), context.demand, facts),
        s.MakeCgroup(path=context.cgroup, writes=pod_writes(pod, facts), source=_resources(pod)),
        s.MakeCgroup(path=f"{context.cgroup}/sandbox"),
        s.StartShim(run_dir=context.run_dir, label=f"{pod.metadata.namespace}/{pod.metadata.name}"),
        launch,
    ]
    if link := context.link:
        result.append(
            s.AttachNetwork(
                owner=link.owner,
                address=link.address,
                prefix_len=link.prefix_len,
                gateway=link.gateway,
                bridge=context.bridge,
                host_ifname=link.host_ifname,
                mac=link.mac,
                ports=link.ports,
            )
        )
    return tuple(result)


def _resources(pod: Pod) -> str:
    return "spec.resources" if is_set(pod.spec.resources) else "spec.containers"


def _volume_directories(pod: Pod, context: PodContext) -> list[s.Step]:
    result: list[s.Step] = []
    for i, volume in enumerate(pod.spec.volumes):
        source = f"spec.volumes[{i}]"
        if volume.empty_dir and not in_sandbox(volume):
            path, mode = f"{context.pod_dir}/volumes/{volume.name}", empty_dir_mode(volume)
            result.append(s.MakeDirectory(path=path, mode=mode, source=f"{source}.emptyDir"))
        elif (place := context.places.get(volume.name)) and place.create:
            directory = place.create == "directory"
            result.append(s.MakeHostPath(path=place.path, directory=directory, source=source))
        elif volume.host_path and volume.host_path.type in (
            "",
            "DirectoryOrCreate",
            "FileOrCreate",
        ):
            # Type "" makes a directory too when nothing is there, as containerd does.
            kind = context.host_paths.get(volume.name)
            if kind in ("directory", "file"):
                path, directory = volume.host_path.path, kind == "directory"
                step = s.MakeHostPath(path=path, directory=directory, source=f"{source}.hostPath")
                result.append(step)
    return result


def _enter(pod: Pod, context: PodContext, facts: Facts) -> list[s.NamespaceStep]:
    # Host root, all capabilities, the host's namespaces (but PID, when it is shared): new ones from here on.
    # With a user namespace, the mounts are still the host root's own; what belongs to the pod comes in _leave().
    own = () if context.users else _pod_namespaces(pod)
    joins = [
        s.JoinCgroup(directory=f"{h.directory}/{context.cgroup}/sandbox")
        for h in facts.hierarchies
        if h.version == 1
    ]
    result: list[s.NamespaceStep] = [
        s.Harden(),
        *joins,
        *open_nfs(pod, context),
        s.Unshare(namespaces=("mnt", "cgroup", *own), source=_host_fields(pod)),
        s.MakePrivate(),
    ]
    if pod.spec.security_context.sysctls or not pod.spec.host_network:
        result.append(
            s.NewFilesystem(slot=PROC, type="proc", attributes=("nosuid", "nodev", "noexec"))
        )
    if context.users:
        result.append(
            s.MakeUserNamespace(
                slot=USERS,
                proc=PROC,
                first=context.users.first,
                count=USER_IDS,
                source="spec.hostUsers",
            )
        )
    return result


def _pod_namespaces(pod: Pod) -> tuple[str, ...]:
    names = () if pod.spec.host_network else ("net", "uts")
    return names if pod.spec.host_ipc else (*names, "ipc")


def _leave(pod: Pod, context: PodContext) -> list[s.NamespaceStep]:
    # To the user namespace, once all is mounted that only the host's root can mount: the pod's other namespaces belong
    # to it, and its root may change what they hold.
    if context.users is None:
        return []
    return [
        s.PivotRoot(slot=TREE),
        s.EnterUserNamespace(slot=USERS, source="spec.hostUsers"),
        s.Unshare(namespaces=_pod_namespaces(pod)),
    ]


def _host_fields(pod: Pod) -> str:
    spec = pod.spec
    used = [
        name for name, on in (("hostNetwork", spec.host_network), ("hostIPC", spec.host_ipc)) if on
    ]
    return f"spec.{used[0]}" if used else ""


def _mounts(pod: Pod, context: PodContext, facts: Facts) -> list[s.NamespaceStep]:
    # The sandbox's root is a small tmpfs that holds the pod's own mounts and files, and nothing of the host:
    # with a shared PID namespace, /proc/1/root of the pause process is all that a container can reach.
    result: list[s.NamespaceStep] = [
        s.NewFilesystem(
            slot=TREE,
            type="tmpfs",
            options=("mode=0755", f"size={POD_FILES_BYTES}"),
            attributes=("nosuid", "nodev", "noexec"),
        ),
        s.Attach(slot=TREE, path=f"{context.run_dir}/root", root=-1),
        s.Mkdir(path="/rootfs", root=TREE),
        s.Mkdir(path="/files", root=TREE),
        s.Mkdir(path="/volumes", root=TREE),
        s.WriteFile(path="/files/hosts", root=TREE, content=context.hosts),
        s.WriteFile(
            path="/files/resolv.conf",
            root=TREE,
            content=context.resolv_conf,
            source="spec.dnsPolicy",
        ),
        s.WriteFile(
            path="/files/hostname",
            root=TREE,
            content=context.hostname + "\n",
            source="spec.hostname",
        ),
    ]
    # A filesystem of its own, so that whoever fills it takes nothing from the files above.
    result += [
        s.Mkdir(path=TERMINATION, root=TREE),
        s.NewFilesystem(
            slot=MOUNT,
            type="tmpfs",
            options=("mode=0755", f"size={TERMINATION_BYTES}"),
            attributes=("nosuid", "nodev", "noexec"),
        ),
        s.Attach(slot=MOUNT, path=TERMINATION, root=TREE, no_symlinks=True),
    ]
    if not pod.spec.host_ipc:
        result += [
            s.Mkdir(path="/shm", root=TREE),
            s.NewFilesystem(
                slot=MOUNT,
                type="tmpfs",
                options=("mode=1777", f"size={SHM_BYTES}"),
                attributes=("nosuid", "nodev", "noexec"),
            ),
            s.Attach(slot=MOUNT, path="/shm", root=TREE, no_symlinks=True),
        ]
    result += empty_dir_mounts(pod, context, facts, tree=TREE, mount=MOUNT)
    return result + attach_nfs(pod, context, TREE)


def _settings(pod: Pod, context: PodContext) -> list[s.NamespaceStep]:
    result: list[s.NamespaceStep] = []
    if not pod.spec.host_network:
        result += [
            s.Sysctl(proc=PROC, name=name, value=value, optional=True)
            for name, value in pod_sysctls(USER_IDS - 1 if context.users else MAX_GID)
        ]
    result += [
        s.Sysctl(
            proc=PROC,
            name=normal_name(sysctl.name),
            value=sysctl.value,
            source=f"spec.securityContext.sysctls[{i}]",
        )
        for i, sysctl in enumerate(pod.spec.security_context.sysctls)
    ]
    if pod.spec.host_network:
        return result
    return [
        *result,
        s.SetHostname(name=context.hostname, source="spec.hostname"),
        s.LinkUp(name="lo"),
        s.OpenFile(slot=NETNS, path="thread-self/ns/net", root=PROC, proc=True),
        s.SendFd(slot=NETNS, what="the network namespace"),
        s.OpenNetlink(slot=NETLINK),
        s.SendFd(slot=NETLINK, what="the netlink socket"),
    ]


def _become_pause(pod: Pod, context: PodContext) -> list[s.NamespaceStep]:
    return [
        *(() if context.users else (s.PivotRoot(slot=TREE),)),
        s.NewSession(),
        s.NewKeyring(),
        s.SetStdio(slots=(NULL, NULL, NULL)),
        # ---- unprivileged from here ----
        s.SetIdentity(uid=PAUSE_UID, gid=PAUSE_UID),
        s.SetCapabilities(bounding=0, until_exec=0, names=()),
        s.NoNewPrivs(),
        s.Chdir(path="/"),
        s.CloseRange(),
        s.ExecPause(slot=PAUSE, argv=("minipod-pause",)),
    ]
