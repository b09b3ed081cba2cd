# SPDX-License-Identifier: GPL-3.0-or-later
"""Sysctls: their names, which namespace holds each, and which of them every pod may set.

The rules are the kubelet's (``k8s.io/kubernetes/pkg/kubelet/sysctl``,
``k8s.io/component-helpers/node/util/sysctl``).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

MAX_NAME = 253
_NAME = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
# No control bytes and nothing that a file of /proc/sys would not take (CRI-O CVE-2022-0811).
_VALUE = re.compile(r"[-+ \t./:,_A-Za-z0-9]*")

# What cannot harm another pod or the machine, whoever sets it.
SAFE = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    )
)
_IPC = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
_NET = ("net.",)


def normal_name(name: str) -> str:
    """Return *name* with dots between its parts, whichever of ``.`` and ``/`` it is written with (``sysctl.d(5)``)."""
    first = next((c for c in name if c in "./"), ".")
    return name.translate(str.maketrans("./", "/.")) if first == "/" else name


def is_name(name: str) -> bool:
    """Return whether *name* can be a sysctl's."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def is_value(value: str) -> bool:
    """Return whether *value* has only characters that values of sysctls have."""
    return _VALUE.fullmatch(value) is not None


def namespace(name: str) -> str:
    """Return which namespace holds a sysctl: ``net``, ``ipc``, or ``""`` when it is the whole machine's."""
    name = normal_name(name)
    if name.startswith(_NET):
        return "net"
    return "ipc" if name.startswith(_IPC) else ""


def is_allowed(name: str, unsafe: Sequence[str]) -> bool:
    """Return whether a pod may set a sysctl; *unsafe* are names or patterns (``net.core.*``) that are allowed too.

    What no namespace holds is never allowed: it would be the whole machine's.
    """
    name = normal_name(name)
    if not namespace(name):
        return False
    return name in SAFE or any(fnmatch.fnmatchcase(name, normal_name(each)) for each in unsafe)
