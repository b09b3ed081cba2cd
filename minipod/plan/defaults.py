# SPDX-License-Identifier: GPL-3.0-or-later
"""The default posture of every container: what it may, what it sees, what is hidden from it.

The values are those of containerd and moby, so that an image behaves as it does elsewhere; where they differ the
stricter one is taken. Each list is one rule of docs/architecture.md's hardening table.
"""

from __future__ import annotations

from minipod.api.capabilities import CAPABILITIES

# No NET_RAW (CVE-2020-10749: ARP and RA spoofing), no MKNOD, no AUDIT_WRITE; ping works through ping_group_range.
DEFAULT_CAPABILITIES = frozenset(
    [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)

MASKED_PROC = tuple(
    f"/proc/{name}"
    for name in [
        "acpi",
        "asound",
        "interrupts",
        "kcore",
        "keys",
        "latency_stats",
        "sched_debug",
        "scsi",
        "timer_list",
        "timer_stats",
        "sysrq-trigger",
    ]
)
MASKED_SYS = (
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/security",
    "/sys/devices/virtual/powercap",
)
READONLY_PROC = tuple(
    f"/proc/{name}" for name in ["asound", "bus", "fs", "irq", "sys", "sysrq-trigger"]
)

# (name, major, minor): the devices of the OCI runtime specification ("Default Devices").
DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
# What the device cgroup allows: (type, major, minor, access), -1 for any.
# mknod of anything is harmless: opening is not.
DEVICE_RULES = (
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    *(("c", major, minor, "rwm") for _, major, minor in DEVICES),
    ("c", 5, 1, "rwm"),  # /dev/console
    ("c", 5, 2, "rwm"),  # /dev/pts/ptmx
    ("c", 136, -1, "rwm"),  # /dev/pts/N
)

SHM_BYTES = 64 * 1024 * 1024
POD_PIDS = 4096
POD_FILES_BYTES = (
    1024 * 1024
)  # the sandbox's own tmpfs: /etc/hosts, /etc/resolv.conf, /etc/hostname
FILE_VOLUMES_BYTES = 64 * 1024 * 1024
"""What the files of all configMap, secret, downwardAPI and projected volumes of a pod may take up."""
TERMINATION_BYTES = 256 * 1024  # of all containers of a pod: 4096 of each are read
NOFILE = 1048576
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PAUSE_UID = 65535
MAX_GID = (1 << 31) - 1
TTY_GID = 5


# Set in every network namespace that is a pod's own: ping without NET_RAW for every group (containerd's
# enable_unprivileged_icmp), and no forwarding of a pod's packets to its loopback (CVE-2020-8558).
def pod_sysctls(last_group: int) -> tuple[tuple[str, str], ...]:
    """Return the names and values; *last_group* is the largest id of a group that the pod can have."""
    return (
        ("net.ipv4.ping_group_range", f"0 {last_group}"),
        ("net.ipv4.conf.all.route_localnet", "0"),
    )


def capability_mask(names: frozenset[str] | set[str]) -> int:
    """Return the bit mask of capability *names* (without ``CAP_``)."""
    return sum(1 << CAPABILITIES.index(name) for name in names)


def capability_names(mask: int) -> tuple[str, ...]:
    """Return the names of the capabilities in *mask*, sorted."""
    return tuple(sorted(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1))


# A script of a ConfigMap may be executed, as with a kubelet; what else there is in such a volume is plain files.
VOLUME_ATTRIBUTES = ("nosuid", "nodev")
# Read-only and noexec: the API's description of ``volumes.image`` (KEP-4639).
IMAGE_VOLUME_ATTRIBUTES = ("ro", "nosuid", "nodev", "noexec")
