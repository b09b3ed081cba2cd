# SPDX-License-Identifier: GPL-3.0-or-later
"""Which system calls a container may make: the profile ``RuntimeDefault``, as data.

The facts are those of moby's default profile (github.com/moby/profiles, seccomp/default.json, as of September 2026: the
one with an allow list of socket families), which is also what containerd and CRI-O follow. Ours differs in this:

- x86_64 and aarch64 only, and only their native interface. moby also admits their 32-bit ones (i386, x32, arm), where
  ``socketcall`` hides the address family from the filter. The names that only those have are left out here.
- The rule is fixed at Linux 4.8 and later (below, ptrace could be used to leave the filter); we need 5.12 anyway.
- Numbers above :data:`NEWEST` give ENOSYS, because C libraries take EPERM from a system call that is newer than the
  profile for a real refusal and do not fall back (runc does the same: libcontainer/seccomp/patchbpf).

Of the 381 x86_64 system calls of Linux 6.17 (uretprobe aside, which no program makes by itself) the default
capabilities allow 308, ``clone``, ``socket`` and ``personality`` only with certain arguments; 69 give EPERM; ``clone3``
and the three above :data:`NEWEST` (open_tree_attr, file_getattr, file_setattr) give ENOSYS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from errno import ENOSYS, EPERM
from functools import cache

MACHINES = ("x86_64", "aarch64")

# removexattrat(2), Linux 6.13: the newest that the profile has an opinion about.
NEWEST = 466

# In a profile's place of such a number: the newest that its own rules mention.
MENTIONED = -1

# The system calls that a libseccomp of Debian 12 or Ubuntu 24.04 may not know by name. From 424 on, a number means the
# same on all machines; uretprobe exists on x86_64 only.
NUMBERS = {
    "uretprobe": 335,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
}


class Operator(Enum):
    """How an argument, as an unsigned 64-bit number, is compared."""

    NOT_EQUAL = "!="
    LESS = "<"
    LESS_EQUAL = "<="
    EQUAL = "=="
    GREATER_EQUAL = ">="
    GREATER = ">"
    MASKED_EQUAL = "&"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A condition on one argument.

    Attributes:
        index: which argument, from 0.
        operator: ``MASKED_EQUAL`` compares its bits in *mask* with *value*, the others all of it.
        value: what it is compared with.
        mask: the bits that count, for ``MASKED_EQUAL``.
    """

    index: int
    operator: Operator
    value: int
    mask: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to one system call; several rules for one name are alternatives.

    Attributes:
        name: the system call's name; rules for names that the machine lacks have no effect.
        errno: 0 to allow the call, else the error it gets.
        comparisons: what must hold, all of it, for the rule to apply.
        action: ``SECCOMP_RET_*`` with its data, for what *errno* cannot say.
    """

    name: str
    errno: int = 0
    comparisons: tuple[Comparison, ...] = ()
    action: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A system call filter before it is compiled.

    Attributes:
        machine: as of ``uname -m``; a call through any other interface kills the process.
        default_errno: what a call gets for which no rule applies.
        newest: numbers above this get ENOSYS; :data:`MENTIONED`, or None for no such limit.
        rules: in order of their topics.
        default_action: ``SECCOMP_RET_*`` with its data, for what *default_errno* cannot say.
        interfaces: those of the machine's other interfaces that the rules hold for, too: X86, X32, ARM.
    """

    machine: str
    default_errno: int
    newest: int | None
    rules: tuple[Rule, ...]
    default_action: int | None = None
    interfaces: tuple[str, ...] = ()


# What every container may call, by topic. Names that only one of the machines has are harmless on the other.
_FILES = """
    access faccessat faccessat2 chdir fchdir chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown getcwd umask
    close close_range creat open openat openat2 dup dup2 dup3 fcntl flock lseek pipe pipe2
    read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 readahead
    copy_file_range sendfile splice tee vmsplice fallocate fadvise64 truncate ftruncate cachestat
    fsync fdatasync sync syncfs sync_file_range
    stat fstat lstat newfstatat statx statfs fstatfs getdents getdents64 name_to_handle_at
    link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir
    mknod mknodat utime utimes futimesat utimensat ioctl
    getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
    listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat
"""
# What a process sees of its own mount namespace; changing it is SYS_ADMIN's.
_MOUNTS = "statmount listmount"
# fanotify_mark is useless without fanotify_init.
_EVENTS = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
    poll ppoll select pselect6 eventfd eventfd2 signalfd signalfd4
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
"""
# The old interface only: io_uring runs operations that no filter sees (moby/moby#46762).
_ASYNCHRONOUS_IO = (
    "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents ioprio_get ioprio_set"
)
# Not userfaultfd, which makes kernel races easy to win; not the NUMA policies, which are SYS_NICE's.
_MEMORY = """
    brk mmap munmap mremap mprotect madvise mincore msync mseal remap_file_pages map_shadow_stack membarrier
    mlock mlock2 mlockall munlock munlockall memfd_create memfd_secret pkey_alloc pkey_free pkey_mprotect
    process_mrelease
"""
# ptrace and process_vm_*: the kernel's own checks (same user, no more capabilities) are enough since Linux 4.8.
_PROCESSES = """
    fork vfork execve execveat exit exit_group wait4 waitid pause restart_syscall
    getpid getppid gettid getpgid getpgrp setpgid getsid setsid pidfd_open pidfd_send_signal
    set_tid_address set_robust_list get_robust_list rseq prctl arch_prctl modify_ldt get_thread_area set_thread_area
    ptrace process_vm_readv process_vm_writev seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    getcpu getpriority setpriority getrlimit setrlimit prlimit64 getrusage times uname sysinfo getrandom
    futex futex_waitv futex_wake futex_wait futex_requeue
"""
# The kernel itself makes a traced process call uretprobe: refusing it would kill the process.
_TRACING = "uretprobe"
_SCHEDULING = """
    sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
    sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
"""
_SIGNALS = """
    kill tkill tgkill sigaltstack rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_tgsigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait
"""
# adjtimex and clock_adjtime read the clock; the kernel wants SYS_TIME of those who set it.
_TIME = """
    time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep alarm getitimer setitimer
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime
    timerfd_create timerfd_gettime timerfd_settime adjtimex clock_adjtime
"""
_IDENTITY = """
    getuid geteuid getresuid getgid getegid getresgid getgroups capget
    setuid setreuid setresuid setfsuid setgid setregid setresgid setfsgid setgroups capset
"""
# socket itself is below.
_SOCKETS = """
    socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt
    sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg
"""
# System V and POSIX queues live in the pod's own IPC namespace.
_IPC = """
    msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget
    mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedsend
"""

_ALWAYS = (
    _FILES, _MOUNTS, _EVENTS, _ASYNCHRONOUS_IO, _MEMORY, _PROCESSES, _TRACING, _SCHEDULING, _SIGNALS, _TIME, _IDENTITY,
    _SOCKETS, _IPC,
)  # fmt: skip

# What a capability is worth nothing without.
_WITH_CAPABILITY = {
    "BPF": "bpf",
    "DAC_READ_SEARCH": "open_by_handle_at",  # opens any file by number (the "shocker" of 2014)
    "PERFMON": "perf_event_open",
    "SYSLOG": "syslog",
    "SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount2 unshare
    """,
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime settimeofday",
    "SYS_TTY_CONFIG": "vhangup",
}

# socket(2) families (linux/socket.h): all below 12 and these. What is missing no longer exists in Linux (DECnet,
# ECONET, ATMSVC, IRDA, WANPIPE, ISDN, CAIF), or is refused: AF_ALG (38), of no use in a container and a hole in 2026
# (CVE-2026-31431); AF_VSOCK (40), which no network namespace holds.
_FAMILIES_BELOW = 12
_FAMILIES = (
    13, 14, 15, 16, 17, 18,  # NETBEUI SECURITY KEY NETLINK PACKET ASH
    21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33,  # RDS SNA PPPOX LLC IB MPLS CAN TIPC BLUETOOTH IUCV RXRPC
    35, 36, 39, 41, 42, 43, 44, 45,  # PHONET IEEE802154 NFC KCM QIPCRTR SMC XDP MCTP
)  # fmt: skip

# personality(2): PER_LINUX, PER_LINUX32, each with UNAME26 (0x20000), and the query. Not ADDR_NO_RANDOMIZE.
_PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (sched.h): a new user namespace would give its maker
# every capability inside it, and with them the kernel's larger half to attack.
_NAMESPACES = (
    0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
)


@cache
def default_profile(capabilities: frozenset[str], machine: str) -> Profile:
    """Return ``RuntimeDefault`` for a container that has *capabilities* (as in a manifest: ``"SYS_CHROOT"``).

    Raises:
        ValueError: there is no profile for *machine* (as of ``uname -m``).
    """
    if machine not in MACHINES:
        raise ValueError(
            f"no seccomp profile for machine {machine!r}, only for {' and '.join(MACHINES)}"
        )
    names = [name for topic in _ALWAYS for name in topic.split()]
    for capability in sorted(capabilities & _WITH_CAPABILITY.keys()):
        names += _WITH_CAPABILITY[capability].split()
    rules = [Rule(name) for name in dict.fromkeys(names)]
    rules.append(_when("socket", Operator.LESS, _FAMILIES_BELOW))
    rules += [_when("socket", Operator.EQUAL, family) for family in _FAMILIES]
    rules += [_when("personality", Operator.EQUAL, persona) for persona in _PERSONALITIES]
    if "SYS_ADMIN" not in capabilities:
        rules.append(_when("clone", Operator.MASKED_EQUAL, 0, _NAMESPACES))
        # Its flags lie in memory, out of a filter's sight; on ENOSYS a C library falls back to clone.
        rules.append(Rule("clone3", ENOSYS))
    if machine != "x86_64":
        rules = [rule for rule in rules if rule.name != "uretprobe"]
    return Profile(machine, default_errno=EPERM, newest=NEWEST, rules=tuple(rules))


def _when(name: str, operator: Operator, value: int, mask: int = 0) -> Rule:
    return Rule(name, comparisons=(Comparison(0, operator, value, mask),))
