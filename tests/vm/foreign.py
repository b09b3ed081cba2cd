# SPDX-License-Identifier: GPL-3.0-or-later
"""A system of another architecture: packages unpacked side by side, without their scripts, and busybox as its init.

Nothing of it can run here, so nothing is configured; for minipod, which wants a kernel, Python and nft, that is enough.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.vm import recipe
from tests.vm.release import Release

TOOLS = "bash coreutils dash findutils grep iproute2 kmod libc-bin mount procps sed tar util-linux"
NEEDS = "busybox-static libseccomp2 nftables python3 python3-prctl"
MODES = {
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "sys": 0o555,
    "usr/local/bin": 0o755,
}
USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUPS = "root:x:0:\nnogroup:x:65534:\n"
# What maintainer scripts and systemd would do.
RC = f"""#!/bin/sh -e
mkdir /dev/pts /dev/shm
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
depmod    # where the kernel looks for modules
ldconfig  # where ctypes looks for libraries
exec {recipe.GUEST_COMMAND}
"""
INITTAB = f"::once:/usr/bin/env {recipe.GUEST_ENVIRONMENT} /etc/rc\n"


def fill(release: Release, root: Path) -> None:
    """Make *root* a system that boots and executes the host's commands (:mod:`tests.vm.guest`).

    Raises:
        AssertionError: a tool failed, with what it said.
    """
    recipe.debian(release, root, (*TOOLS.split(), *NEEDS.split()), variant="extract")
    recipe.python_packages(release, root)
    for name, mode in MODES.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    for name, text in (("passwd", USERS), ("group", GROUPS), ("rc", RC), ("inittab", INITTAB)):
        (root / "etc" / name).write_text(text)
    (root / "etc/rc").chmod(0o755)
    (root / "sbin/init").symlink_to("/bin/busybox")
    shutil.copy(recipe.GUEST_SERVER, root / "usr/local/lib/vm-guest.py")
