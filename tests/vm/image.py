# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the virtual machine's disk: a small Debian 12 with systemd, what minipod needs at run time, and pytest.

Everything comes from a Debian mirror (mmdebstrap) and a Python package index (pip). The result lies in
``.build/vm/<hash of what it is made from>/`` and is used again; minipod itself is not in it (:mod:`tests.vm.machine`
brings it at each boot), so a changed minipod needs no new disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

TOP = Path(__file__).resolve().parent.parent.parent
PLACE = TOP / ".build" / "vm"
SUITE = "bookworm"
MIRROR = os.environ.get("MINIPOD_TEST_MIRROR", "http://deb.debian.org/debian")
DISK_SIZE = 4 << 30  # sparse
PYTHON = "3.11"  # of SUITE
GUEST_SERVER = Path(__file__).with_name("guest.py")
CONSTRAINTS = ("pytest>=8.3", "pytest-asyncio>=1.0", "hypothesis>=6.100")
FROM_DEBIAN = "python-prctl"  # the index has its source only

# Essential packages are meant to be on any Debian; then minipod's own needs as in the Makefile; then the tests'.
PACKAGES = (
    "linux-image-cloud-amd64",
    "systemd-sysv dbus udev kmod procps",
    "python3 python3-prctl libseccomp2 nftables busybox-static apparmor",
    "iproute2 strace",
)
# Virtio is in modules; ext4 is not.
MODULES = (
    "virtio/virtio",
    "virtio/virtio_ring",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
    "char/virtio_console",
)
INIT = """#!/bin/busybox sh
for module in {modules}; do /bin/busybox insmod /$module.ko; done
/bin/busybox mount -t devtmpfs none /dev
while [ ! -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""
SERVICE = """[Unit]
Description=runs the commands of the host
[Service]
ExecStart=/usr/bin/python3 -S /usr/local/lib/vm-guest.py
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
KillMode=process
[Install]
WantedBy=multi-user.target
"""
# What a login, a laptop or a long life would need; and Debian's own profiles, which take long to compile.
MASKED = (
    "apparmor.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "serial-getty@ttyS0.service",
    "systemd-pstore.service",
    "systemd-logind.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
)


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU boots from; not to be written to."""

    kernel: Path
    initrd: Path
    disk: Path


def image() -> Image:
    """Return the disk, kernel and initrd, built if these are not there yet.

    Raises:
        AssertionError: a tool failed, with what it said.
    """
    place = PLACE / _key()
    result = Image(place / "vmlinuz", place / "initrd", place / "disk")
    PLACE.mkdir(parents=True, exist_ok=True)
    lock = os.open(PLACE / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            for old in PLACE.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _build(place)
    finally:
        os.close(lock)
    return result


def _key() -> str:
    parts = [Path(__file__).read_bytes(), GUEST_SERVER.read_bytes(), *map(str.encode, _wheels())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _wheels() -> list[str]:
    """Return minipod's and the tests' dependencies; markers are for other Pythons than the guest's."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    own = [text.split(";")[0].strip() for text in project["dependencies"]]
    return [text for text in own if not text.startswith(FROM_DEBIAN)] + list(CONSTRAINTS)


def _build(place: Path) -> None:
    # Not in /tmp, which may be small or mounted nodev.
    with tempfile.TemporaryDirectory(prefix="new-", dir=PLACE) as scratch:
        root, new = Path(scratch, "root"), Path(scratch, "new")
        new.mkdir()
        _debian(root)
        _python_packages(root)
        _settings(root)
        (kernel,) = (root / "boot").glob("vmlinuz-*")
        shutil.copy(kernel, new / "vmlinuz")
        _initrd(root, kernel.name.removeprefix("vmlinuz-"), new / "initrd")
        shutil.rmtree(root / "boot")
        disk = new / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK_SIZE)
        flags = ("-q", "-F", "-m0", "-O", "^has_journal", "-E", "lazy_itable_init=1")
        _run("mkfs.ext4", *flags, "-d", root, disk)
        new.rename(place)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-8000:]}{done.stderr[-8000:]}"


def _debian(root: Path) -> None:
    paths = ("doc", "info", "locale", "man", "zoneinfo")
    _run(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--format=directory",
        "--variant=essential",
        f"--include={','.join(' '.join(PACKAGES).split())}",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Languages none",
        # A mirror may be a snapshot of some age; signatures are checked all the same.
        "--aptopt=Acquire::Check-Valid-Until false",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in paths),
        SUITE,
        str(root),
        MIRROR,
    )


def _python_packages(root: Path) -> None:
    target = root / f"usr/local/lib/python{PYTHON}/dist-packages"
    tags = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
    _run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", target),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"),
        *(f"--abi={abi}" for abi in ("cp311", "abi3", "none")),
        *(f"--platform={tag}_x86_64" for tag in tags),
        *_wheels(),
    )
    _run("chroot", root, "python3", "-m", "compileall", "-q", f"/{target.relative_to(root)}")


def _settings(root: Path) -> None:
    (root / "etc/hostname").write_text("minipod-vm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost minipod-vm\n")
    (root / "etc/machine-id").write_text("6d696e69706f642d766d000000000000\n")
    shutil.copy(GUEST_SERVER, root / "usr/local/lib/vm-guest.py")
    units = root / "etc/systemd/system"
    (units / "vm-guest.service").write_text(SERVICE)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "vm-guest.service").symlink_to("/etc/systemd/system/vm-guest.service")
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")


def _initrd(root: Path, version: str, path: Path) -> None:
    """Write a cpio archive with busybox, virtio's modules, and a script that mounts the disk and leaves for it."""
    names = [module.rsplit("/", 1)[1] for module in MODULES]
    drivers = root / f"lib/modules/{version}/kernel/drivers"
    with path.open("wb") as file:
        for name in ("bin", "dev", "root"):
            _cpio(file, name, 0o40755)
        _cpio(file, "dev/console", 0o20600, device=(5, 1))
        _cpio(file, "bin/busybox", 0o100755, (root / "bin/busybox").read_bytes())
        for name, module in zip(names, MODULES, strict=True):
            _cpio(file, f"{name}.ko", 0o100644, (drivers / f"{module}.ko").read_bytes())
        _cpio(file, "init", 0o100755, INIT.format(modules=" ".join(names)).encode())
        _cpio(file, "TRAILER!!!", 0)


def _cpio(
    file: BinaryIO, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
) -> None:
    """Write one entry in the "newc" format (the kernel's initramfs buffer format)."""
    path = name.encode() + b"\0"
    inode = file.tell() + 1
    numbers: Iterable[int] = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + path
    for part in (head, data):
        file.write(part + b"\0" * (-len(part) % 4))
