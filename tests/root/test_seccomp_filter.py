# SPDX-License-Identifier: GPL-3.0-or-later
"""The default profile, loaded into a real process: the kernel takes the program, and programs can live with it.

The process is a Python of its own, with all of root's capabilities, so that an EPERM can only be the filter's.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minipod.plan.defaults import DEFAULT_CAPABILITIES
from minipod.plan.seccomp import default_profile
from minipod.runtime.seccomp import compile_profile
from tests.features import requires

MACHINE = os.uname().machine

pytestmark = requires("root")

# The kernel's tables: x86_64, aarch64. From 424 on the numbers are the same.
NUMBERS = {
    "bpf": (321, 280),
    "clone": (56, 220),
    "getpid": (39, 172),
    "getrandom": (318, 278),
    "init_module": (175, 105),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "mount": (165, 40),
    "pivot_root": (155, 41),
    "prlimit64": (302, 261),
    "setns": (308, 268),
    "sethostname": (170, 161),
    "socket": (41, 198),
    "swapoff": (168, 225),
    "umask": (95, 166),
    "umount2": (166, 39),
    "unshare": (272, 97),
}
nr = {name: numbers[MACHINE == "aarch64"] for name, numbers in NUMBERS.items()}
IO_URING_SETUP, OPEN_TREE, FSOPEN, CLONE3, OPEN_TREE_ATTR = 425, 428, 430, 435, 467
FUTEX_WAKE, STATMOUNT = 454, 457

# Loads the filter (prctl(2)), then makes the system calls that stdin names; [number, argument…] each.
CHILD = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
class Filters(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.c_void_p)]
program = open(sys.argv[1], "rb").read()
buffer = ctypes.create_string_buffer(program, len(program))
filters = Filters(len(program) // 8, ctypes.addressof(buffer))
if libc.prctl(22, 2, ctypes.byref(filters)):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    sys.exit("prctl: errno %d" % ctypes.get_errno())
answers = []
for call in json.loads(sys.stdin.read()):
    result = libc.syscall(*(ctypes.c_long(number) for number in call))
    answers.append(ctypes.get_errno() if result < 0 else 0)
print(json.dumps(answers))
"""

# getpid by the i386 interface: mov eax, 20; int 0x80; ret
INT80 = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""

MISSING = -1  # an argument that is no address, no flag, no fd


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seccomp") / "default.bpf"
    path.write_bytes(compile_profile(default_profile(DEFAULT_CAPABILITIES, MACHINE)))
    return path


def calls(program: Path, *calls: tuple[int, ...], code: str = CHILD) -> Any:
    """Return the errno of each of *calls*, 0 for success."""
    command = [sys.executable, "-c", code, str(program)]
    done = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_refused(program: Path) -> None:
    mounts = [nr["mount"], nr["umount2"], nr["pivot_root"], OPEN_TREE, FSOPEN]
    namespaces = [nr["setns"], nr["unshare"], nr["sethostname"]]
    others = [nr["bpf"], nr["init_module"], nr["keyctl"], nr["swapoff"], IO_URING_SETUP]
    numbers = mounts + namespaces + others
    assert calls(program, *((n, *[MISSING] * 5) for n in numbers)) == [errno.EPERM] * len(numbers)


def test_as_if_the_kernel_were_older(program: Path) -> None:
    unborn, x32, none = 1000, 0x40000000 | nr["getpid"], -1
    numbers = (CLONE3, OPEN_TREE_ATTR, unborn, x32, none)
    assert calls(program, *((n, *[MISSING] * 5) for n in numbers)) == [errno.ENOSYS] * len(numbers)


def test_allowed(program: Path) -> None:
    umask, kill = (nr["umask"], 0o22), (nr["kill"], 0, 0)
    prlimit, getrandom = (nr["prlimit64"], 0, 7, 0, 0), (nr["getrandom"], 0, 0, 0)
    assert calls(program, (nr["getpid"],), umask, kill, prlimit, getrandom) == [0] * 5
    # Newer than some libseccomp; whatever this kernel answers, it was asked.
    newer = (STATMOUNT, 0, 0, 0, MISSING), (FUTEX_WAKE, 0, 0, 0, MISSING)
    assert errno.EPERM not in calls(program, *newer)


def test_sockets(program: Path) -> None:
    unix, inet, alg, vsock = ((nr["socket"], family, 2, 0) for family in (1, 2, 38, 40))
    netlink = (nr["socket"], 16, 3, 0)
    assert calls(program, unix, inet, netlink, alg, vsock) == [0, 0, 0, errno.EPERM, errno.EPERM]


def test_no_namespace_by_clone(program: Path) -> None:
    user, pidfd, parent_settid = 0x10000000, 0x00001000, 0x00100000
    assert calls(program, (nr["clone"], user | signal.SIGCHLD, 0, 0, 0, 0)) == [errno.EPERM]
    # The filter lets this pass; the kernel refuses it, because clone has one address for both.
    assert calls(program, (nr["clone"], pidfd | parent_settid, 0, 0, 0, 0)) == [errno.EINVAL]


def test_threads_and_children_live_with_it(program: Path) -> None:
    """The C library falls back from clone3 to clone; a shell, forked and executed, works under the filter."""
    code = CHILD + (
        "import os, subprocess, threading\n"
        "thread = threading.Thread(target=os.getpid); thread.start(); thread.join()\n"
        "subprocess.run(['sh', '-c', 'ls -l / | sort >/dev/null && cat /proc/self/status >/dev/null'], check=True)\n"
    )
    assert calls(program, code=code) == []


if MACHINE == "x86_64":

    def test_i386_kills(program: Path) -> None:
        has_ia32 = (
            subprocess.run([sys.executable, "-c", INT80], capture_output=True).returncode == 0
        )
        command = [sys.executable, "-c", CHILD + INT80, str(program)]
        done = subprocess.run(command, input="[]", capture_output=True, text=True)
        # A kernel without the i386 interface takes it for a wild instruction.
        assert done.returncode == -(signal.SIGSYS if has_ia32 else signal.SIGSEGV), done.stderr
