# SPDX-License-Identifier: GPL-3.0-or-later
"""With which privileges a pod and its containers run."""

from __future__ import annotations

import msgspec

from minipod.api.field import Tables, all_refused, no, yes
from minipod.api.objects.base import Object


class SeccompProfile(Object):
    """A system call filter; *type* is RuntimeDefault, Unconfined or Localhost."""

    type: str = ""
    localhost_profile: str | None = None


class AppArmorProfile(Object):
    """An AppArmor profile; *type* is RuntimeDefault, Unconfined or Localhost."""

    type: str = ""
    localhost_profile: str | None = None


class Sysctl(Object):
    """A kernel parameter of the pod's namespaces."""

    name: str = ""
    value: str = ""


class Capabilities(Object):
    """What is added to, and dropped from, the default capabilities; ``ALL`` means all."""

    add: list[str] = msgspec.field(default_factory=list)
    drop: list[str] = msgspec.field(default_factory=list)


class PodSecurityContext(Object):
    """What holds for all containers of a pod; what a container says itself goes before it.

    ``None``: not said.
    """

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: list[int] = msgspec.field(default_factory=list)
    supplemental_groups_policy: str | None = None
    fs_group: int | None = None
    fs_group_change_policy: str | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    sysctls: list[Sysctl] = msgspec.field(default_factory=list)


class SecurityContext(Object):
    """What holds for one container.

    ``None``: not said.
    """

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    privileged: bool | None = None
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities | None = None
    read_only_root_filesystem: bool | None = None
    proc_mount: str | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None


_NO_SELINUX = "remove it, minipod labels nothing for SELinux"
_NO_WINDOWS = "remove it, only linux runs here"
_USER = (
    "The numeric user that the first process runs as, 0 to 2147483647; it need not be in the image's "
    "/etc/passwd. Default: the image's user."
)
_GROUP = (
    "The numeric primary group of the first process, 0 to 2147483647. Default: the user's group in the "
    "image's /etc/passwd, else 0."
)
_NON_ROOT = (
    "Whether a container that would run as user 0 is kept from starting (CreateContainerConfigError). An image "
    "whose user is a name counts as one that might."
)
_SECCOMP = "The filter for system calls. Default: RuntimeDefault; a privileged container has none whatever is said."
_APPARMOR = (
    "The AppArmor profile of the containers. A pod that asks for one is refused where the kernel "
    "has no AppArmor. Default: RuntimeDefault where the kernel has it and apparmor_parser is installed; "
    "a privileged container has none whatever is said."
)

FIELDS: Tables = {
    "PodSecurityContext": {
        "appArmorProfile": yes("AppArmorProfile", doc=_APPARMOR),
        "fsGroup": yes(
            "int",
            doc="A group that owns the pod's volumes and that every process is a member of: volumes "
            "get this group, the "
            "setgid bit, and rw for the group (r where they are read-only). hostPath and nfs volumes "
            "stay as they are.",
        ),
        "fsGroupChangePolicy": yes(
            doc="When fsGroup changes a volume that outlives the pod: Always (the default), or "
            "OnRootMismatch, only if the "
            "volume's top directory is not right yet."
        ),
        "runAsGroup": yes("int", doc=_GROUP),
        "runAsNonRoot": yes("bool", doc=_NON_ROOT),
        "runAsUser": yes("int", doc=_USER),
        "seLinuxChangePolicy": no("str", _NO_SELINUX, doc="How SELinux labels get onto volumes."),
        "seLinuxOptions": no(
            "SELinuxOptions", _NO_SELINUX, doc="The SELinux label of all containers."
        ),
        "seccompProfile": yes("SeccompProfile", doc=_SECCOMP),
        "supplementalGroups": yes(
            "[int]",
            doc="Groups that every first process is a member of, besides its primary group and fsGroup.",
        ),
        "supplementalGroupsPolicy": yes(
            doc="Whether the groups of the image's /etc/group that list the user count too: Merge "
            "(the default) or Strict."
        ),
        "sysctls": yes(
            "[Sysctl]",
            doc="Kernel parameters of the pod's network and IPC namespaces. Those of Kubernetes' "
            "safe list are set; others "
            "only if the agent's setting allowed_unsafe_sysctls names them.",
        ),
        "windowsOptions": no(
            "WindowsSecurityContextOptions", _NO_WINDOWS, doc="What holds on Windows only."
        ),
    },
    "SecurityContext": {
        "allowPrivilegeEscalation": yes(
            "bool",
            doc="If false, no program gains privileges by being executed (no_new_privs): setuid bits "
            "and file capabilities "
            "have no effect. Default: true.",
        ),
        "appArmorProfile": yes("AppArmorProfile", doc=_APPARMOR),
        "capabilities": yes(
            "Capabilities",
            doc="Which capabilities differ from the default ones. Processes of other users than 0 get none.",
        ),
        "privileged": yes(
            "bool",
            doc="Whether the container has all capabilities of the agent, all devices of the host, "
            "writable /sys and cgroups, "
            "no hidden paths and no filter: in effect root on the host. Default: false.",
        ),
        "procMount": yes(
            doc="Default hides and write-protects the dangerous parts of /proc; Unmasked does not, "
            "and needs hostUsers: false."
        ),
        "readOnlyRootFilesystem": yes(
            "bool",
            doc="Whether the container cannot write to its image's files, only to volumes and "
            "/dev/shm. Default: false.",
        ),
        "runAsGroup": yes("int", doc=_GROUP),
        "runAsNonRoot": yes("bool", doc=_NON_ROOT),
        "runAsUser": yes("int", doc=_USER),
        "seLinuxOptions": no("SELinuxOptions", _NO_SELINUX, doc="The container's SELinux label."),
        "seccompProfile": yes("SeccompProfile", doc=_SECCOMP),
        "windowsOptions": no(
            "WindowsSecurityContextOptions", _NO_WINDOWS, doc="What holds on Windows only."
        ),
    },
    "AppArmorProfile": {
        "localhostProfile": yes(
            doc="The name of a profile that is loaded on this machine; only with type Localhost."
        ),
        "type": yes(
            doc="RuntimeDefault (a profile of minipod's own), Localhost (one that is loaded already) or Unconfined."
        ),
    },
    "Capabilities": {
        "add": yes(
            "[str]", doc="Capabilities to add, as NET_ADMIN; ALL adds all that the agent has."
        ),
        "drop": yes(
            "[str]",
            doc="Capabilities to drop, as CHOWN, after those in add were added; ALL drops all others.",
        ),
    },
    "SELinuxOptions": all_refused("""
        level - The label's level.
        role - The label's role.
        type - The label's type.
        user - The label's user.
        """),
    "SeccompProfile": {
        "localhostProfile": yes(
            doc="The profile's file (JSON, as moby's or the OCI's), relative to the directory "
            "seccomp in minipod's root_dir; "
            "only with type Localhost."
        ),
        "type": yes(doc="RuntimeDefault, Localhost (a file) or Unconfined (no filter)."),
    },
    "WindowsSecurityContextOptions": all_refused("""
        gmsaCredentialSpec - The GMSA credential spec itself.
        gmsaCredentialSpecName - The name of the GMSA credential spec.
        hostProcess:bool - Runs as a process of the host.
        runAsUserName - As which Windows user it runs.
        """),
    "Sysctl": {
        "name": yes(doc="The parameter, as net.ipv4.tcp_syncookies; dots or slashes."),
        "value": yes(doc="What it is set to."),
    },
}
