# SPDX-License-Identifier: GPL-3.0-or-later
"""What each kind of step does and why, in words: one entry for every kind, and a test that none is missing.

``Step.describe()`` says a step in the words of the field, as a man page would. Here it is said to somebody who has not
read the man page yet. The reasons are those of docs/architecture.md ("The launch order") and of the mistakes that
other runtimes have made (CVE numbers name them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minipod.plan import steps as s
from minipod.plan.explain import places

LAYOUT = "minipod's layout"
ORDER = "the launch order"
HARDENING = "hardening"
KUBERNETES = "Kubernetes"
IMAGE = "the image"


@dataclass(frozen=True, slots=True)
class Words:
    """Words about a step.

    Attributes:
        what: what it does.
        why: what for, or what would go wrong without it.
        rule: where it comes from when no line of the manifest asks for it.
    """

    what: str
    why: str
    rule: str = LAYOUT


def words_of(step: s.Step) -> Words:
    """Return the words about *step*."""
    entry = _WORDS[type(step)]
    return entry if isinstance(entry, Words) else entry(step)


def kinds() -> frozenset[type[s.Step]]:
    """Return the kinds of steps that there are words for."""
    return frozenset(_WORDS)


# ---- the host's steps -------------------------------------------------------------------------------------------


def _make_directory(step: s.MakeDirectory) -> Words:
    return Words(
        "makes a directory of minipod's own, with its parents", places.directory(step.path)
    )


def _make_cgroup(step: s.MakeCgroup) -> Words:
    what = "makes a control group in every hierarchy"
    if step.writes:
        what += " and writes its limits and weights"
    if step.devices:
        what += "; only the default devices can be opened in it"
    return Words(what, places.cgroup(step.path), KUBERNETES if step.writes else LAYOUT)


def _launch(step: s.Launch) -> Words:
    if step.kind == "SANDBOX":
        return Words(
            "the shim clones a process that becomes the pod's pause process, by the steps of pause",
            "somebody has to hold the namespaces that all containers share, whichever of them lives",
        )
    return Words(
        "the shim clones a process that becomes the container, by the steps under its name",
        "a container is a process that has walked through these steps, and nothing else",
    )


# ---- what a process is part of ----------------------------------------------------------------------------------

_NAMESPACES = {
    "mnt": "mounts",
    "cgroup": "its own cgroup as the root of all",
    "uts": "a host name",
    "ipc": "System V IPC and message queues",
    "net": "links, addresses, routes and ports",
}


def _unshare(step: s.Unshare) -> Words:
    seen = ", ".join(_NAMESPACES[name] for name in step.namespaces)
    why = "from here on it sees its own of these, and the host's stay as they are"
    if step.namespaces == ("mnt", "cgroup"):
        why = "what is mounted from here on is seen by this container alone; the rest stays shared"
    return Words(f"moves into new namespaces: {seen}", why)


def _set_ns(step: s.SetNs) -> Words:
    return Words(
        f"enters the namespaces of {step.of}, named by a pidfd",
        "the containers of a pod share network, host name and IPC; a pidfd cannot mean another "
        "process, as a number that was given anew can",
    )


def _sysctl(step: s.Sysctl) -> Words:
    return Words(
        "sets a kernel parameter of the new namespaces, through the private procfs",
        places.SYSCTLS.get(step.name, "the manifest asks for it; only namespaced ones are taken"),
        HARDENING,
    )


# ---- mounts -----------------------------------------------------------------------------------------------------


def _new_filesystem(step: s.NewFilesystem) -> Words:
    what = f"makes {places.FILESYSTEMS.get(step.type, step.type)} as a mount that lies nowhere yet"
    return Words(what, places.why_filesystem(step), HARDENING if step.type == "proc" else LAYOUT)


def _open_tree(step: s.OpenTree) -> Words:
    what = "takes what is to be mounted as a detached copy of the mount, and checks its type by fd"
    if step.inside:
        what += "; a path in it is resolved without ever leaving it"
    if step.path.startswith(("/files/", "/shm", "/termination/", "/dev/shm")):
        return Words(what, places.mount_point(step.path))
    return Words(
        what, "no path of the volume is looked up again: nobody can swap it (CVE-2021-25741)"
    )


def _attach(step: s.Attach) -> Words:
    how = "refusing symbolic links" if step.no_symlinks else "found without leaving the root"
    return Words(
        f"puts the detached mount in its place, {how}",
        places.mount_point(step.path),
        LAYOUT,
    )


def _overlay(step: s.NewOverlay) -> Words:
    if not step.upper:
        return Words(
            "stacks the image's layers into one read-only tree",
            "an image as a volume is shared by all containers, and no one can change it",
        )
    return Words(
        "stacks the image's layers, and an empty directory for the container's own changes on top",
        "every container gets a root of its own for nothing: the layers are shared and not copied",
        IMAGE,
    )


def _write_file(step: s.WriteFile) -> Words:
    return Words("writes a new file", places.file(step.path), KUBERNETES)


def _mkdir(step: s.Mkdir) -> Words:
    return Words("makes a directory inside the tree that is being built", places.made(step.path))


def _attributes(step: s.SetMountAttributes) -> Words:
    if step.propagation:
        return Words(
            "lets mounts made below be seen on its other sides",
            "a volume with mountPropagation carries them between containers",
        )
    return Words(
        "makes a mount read-only that was filled until now",
        "what has to be made in it is made: nobody has to write to it any more",
    )


# ---- privileges -------------------------------------------------------------------------------------------------


def _identity(step: s.SetIdentity) -> Words:
    who = "root" if step.uid == 0 else f"user {step.uid}"
    return Words(
        f"becomes {who}: supplementary groups, then group, then user",
        "in this order, because each needs the privilege that the next gives up (CVE-2019-11245)",
        IMAGE,
    )


def _capabilities(step: s.SetCapabilities) -> Words:
    what = "throws away all parts of root's power but those named, for good"
    if not step.names:
        what = "throws away all of root's power, for good"
    return Words(
        what,
        "the bounding set is what no exec can bring back; after the ids, as they rewrite the rest",
        HARDENING,
    )


_WORDS: dict[type[s.Step], Words | Callable[[Any], Words]] = {
    s.MakeDirectory: _make_directory,
    s.MakeHostPath: Words(
        "makes what a hostPath volume needs on the host, if nothing is there",
        "its type says so: DirectoryOrCreate, FileOrCreate, or none",
    ),
    s.GiveToGroup: Words(
        "gives a volume and all that is in it to the pod's fsGroup",
        "containers of any user can then write to it, as members of the group",
    ),
    s.MakeCgroup: _make_cgroup,
    s.StartShim: Words(
        "starts a small process, the parent of all that will run in this pod",
        "it writes the logs and keeps exit statuses; the agent can die and nothing happens to the pod",
    ),
    s.AttachNetwork: Words(
        "makes a pair of virtual links, one end on the bridge and one inside, and gives it an address",
        "the pod is reached under its own address; the bridge lets no other sender's pass through",
        KUBERNETES,
    ),
    s.Launch: _launch,
    s.Harden: Words(
        "forbids others to look into this process or trace it",
        "a process of the pod must not reach the host through one that is on its way in "
        "(CVE-2016-9962)",
        HARDENING,
    ),
    s.JoinCgroup: Words(
        "moves itself into its cgroup of this hierarchy",
        "before anything else is done: what it uses is counted from the first page on",
    ),
    s.Unshare: _unshare,
    s.SetNs: _set_ns,
    s.MakeUserNamespace: Words(
        "makes a user namespace and maps 65,536 ids that no other pod has to 0 and up in it",
        "root of this pod is nobody outside of it",
    ),
    s.EnterUserNamespace: Words(
        "enters the pod's user namespace, as its root",
        "from here on no power over the host is needed, and none is left",
    ),
    s.OwnFiles: Words(
        "makes files belong to the pod's root from here on, without becoming it",
        "the host's root still mounts; what it makes has to belong to the pod",
    ),
    s.Sysctl: _sysctl,
    s.SetHostname: Words(
        "sets the host name in the new UTS namespace",
        "all containers of the pod see the pod's name",
        KUBERNETES,
    ),
    s.LinkUp: Words(
        "sets the loopback link up",
        "a new network namespace has it, but down: nothing could talk to itself",
    ),
    s.OpenNetlink: Words(
        "opens a routing socket inside the pod's network",
        "the agent configures the pod's link through it and never has to enter the namespace",
    ),
    s.OpenFile: Words(
        "opens a file or directory",
        "a later step uses the fd and so means this very file",
    ),
    s.SendFd: Words(
        "passes an open fd to the agent",
        "the agent gives the pod its link with it, while pause goes on",
    ),
    s.NewSession: Words(
        "becomes the leader of a new session",
        "signals and terminals of the shim are not its own",
        ORDER,
    ),
    s.NewKeyring: Words(
        "joins a new and empty session keyring",
        "keys of the host's root stay out of reach",
        HARDENING,
    ),
    s.SetRlimit: Words(
        "sets a resource limit of the process",
        "programs get the same number of files on every machine, whatever the agent had",
    ),
    s.SetOomScoreAdj: Words(
        "tells the kernel how early to kill it when memory runs out",
        "who has asked for the memory that it uses goes last: the pod's class of service",
        KUBERNETES,
    ),
    s.OpenPty: Words(
        "opens a terminal in the container's own devpts",
        "the host's terminals are not in reach, and the container can open its own by name",
    ),
    s.SetStdio: Words(
        "puts its standard input, output and errors where they belong",
        "output goes to the shim, which writes the log; input is empty unless asked for",
    ),
    s.MakePrivate: Words(
        "cuts every mount off from its twin in the namespace that this one was copied from",
        "else the pod's mounts would appear on the host, and the host's in the pod",
        ORDER,
    ),
    s.NewFilesystem: _new_filesystem,
    s.NewOverlay: _overlay,
    s.OpenTree: _open_tree,
    s.Attach: _attach,
    s.SetMountAttributes: _attributes,
    s.Mkdir: _mkdir,
    s.Mknod: Words(
        "makes a device node",
        "programs expect it; which devices can be opened the cgroup decides",
        "the OCI runtime specification",
    ),
    s.Symlink: Words(
        "makes a symbolic link in /dev",
        "programs expect these names",
        "the OCI runtime specification",
    ),
    s.WriteFile: _write_file,
    s.MaskPaths: Words(
        "hides files behind /dev/null and directories behind an empty tmpfs",
        "the kernel shows the host's secrets there; the null device is checked first (CVE-2025-31133)",
        HARDENING,
    ),
    s.ReadonlyPaths: Words(
        "makes parts of /proc read-only",
        "writing there would change the host's kernel",
        HARDENING,
    ),
    s.PivotRoot: Words(
        "makes the new tree the root and throws the old one away",
        "from here on no path leads to the host; unlike chroot, there is nothing to break out to",
        ORDER,
    ),
    s.ApplyAppArmor: Words(
        "has the kernel change to an AppArmor profile at the exec",
        "while root still may choose it",
        KUBERNETES,
    ),
    s.OwnStdio: Words(
        "gives its standard streams to the user that it is about to become",
        "else the program could not open /dev/stdout",
    ),
    s.SetIdentity: _identity,
    s.SetCapabilities: _capabilities,
    s.NoNewPrivs: Words(
        "swears off privileges that an exec could give, such as by a set-user-ID program",
        "allowPrivilegeEscalation: false asks for it, and pause needs none",
        HARDENING,
    ),
    s.Chdir: Words(
        "enters the working directory and checks that it lies inside the root",
        "as the final user, who must be allowed to; one outside would be a way out (CVE-2024-21626)",
        IMAGE,
    ),
    s.LoadSeccomp: Words(
        "has the kernel refuse system calls that are not on the list",
        "most holes of the kernel are in calls that no ordinary program makes; last, because the "
        "steps before need some of them",
        HARDENING,
    ),
    s.CloseRange: Words(
        "marks every fd but the standard ones to be closed at the exec",
        "no fd of the host survives in the container (CVE-2024-21626)",
        HARDENING,
    ),
    s.Exec: Words(
        "becomes the container's program",
        "all is in place; nothing of minipod is left in this process",
        IMAGE,
    ),
    s.ExecPause: Words(
        "becomes the pause program, from a copy in memory that nobody can change",
        "it holds the namespaces and reaps; a container could overwrite a file (CVE-2019-5736)",
    ),
}
