# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of the Linux capabilities, and what a manifest may call them."""

from __future__ import annotations

# Linux capabilities by number (include/uapi/linux/capability.h); the name's place is its number.
CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]

ALL = "ALL"


def capability_name(text: str) -> str:
    """Return the name of a capability as a manifest gives it: in any case, with or without ``CAP_``; or ``ALL``.

    containerd compares without regard to case; CRI-O and podman take the prefix, too.

    Raises:
        ValueError: there is no such capability.
    """
    name = text.upper().removeprefix("CAP_")
    if name != ALL and name not in CAPABILITIES:
        raise ValueError(name)
    return name
