# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a disk of a directory, without mounting anything: partition table, boot loader, initrd, ext4.

The boot loader is GRUB for a PC's BIOS, as it lies in the directory (Debian's grub-pc-bin). The initrd is our own: what
Debian makes is for every machine, and slow to unpack where the CPU is emulated.
"""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

SECTOR = 512
START = 2048  # the sector where the partition begins, as every partitioning tool has it
ROOT_DEVICE = "/dev/vda1"
# What a kernel does not have built in; Debian's cloud kernel has ext4, Ubuntu's has all of it.
MODULES = (
    "virtio/virtio",
    "virtio/virtio_ring",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
    "char/virtio_console",
)
# On a busy host the emulated timer may not tick while Linux looks whether it does, and Linux panics.
NO_TIMER_CHECK = "no_timer_check"
# Words of the kernel's command line that it does not know are variables here.
PROBE_WORD = "just_probing=1"
INIT = """#!/bin/busybox sh
if [ -n "$just_probing" ]; then /bin/busybox poweroff -f; fi
/bin/busybox mount -t devtmpfs none /dev
for module in {modules}; do /bin/busybox insmod /$module.ko; done
while [ ! -b {device} ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 -o noatime {device} /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""
GRUB_CONFIG = f"""linux /boot/vmlinuz root={ROOT_DEVICE} {{words}}
initrd /boot/initrd
boot
"""
GRUB_EARLY = "set root=(hd0,msdos1)\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "linux", "normal", "configfile")


def run(*command: str | Path, **options: str) -> str:
    """Run a tool; *options* are variables besides ours.

    Raises:
        AssertionError: it failed, with what it said.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **options},
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-8000:]}{done.stderr[-8000:]}"
    return done.stdout


def take_kernel(root: Path, place: Path) -> None:
    """Put the kernel of the system in *root*, and an initrd for it, into *place* as ``vmlinuz`` and ``initrd``."""
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    shutil.copy(kernel, place / "vmlinuz")
    _initrd(root, kernel.name.removeprefix("vmlinuz-"), place / "initrd")


def write_disk(root: Path, disk: Path, size: int, *, journal: bool, boot_words: str = "") -> None:
    """Write a raw disk of *size* bytes (sparse), with *root* in its only partition.

    Args:
        root: what is to be on it.
        disk: the file that is made.
        size: in bytes.
        journal: whether the filesystem has one.
        boot_words: the kernel's command line, for a disk that a BIOS can boot; without it, it has no boot loader.
    """
    with disk.open("wb") as file:
        file.truncate(size)
    flags = ["-q", "-F", "-m0", "-E", f"lazy_itable_init=1,offset={START * SECTOR}"]
    if not journal:
        flags += ["-O", "^has_journal"]
    if boot_words:
        _grub(root, disk, boot_words)
    sectors = size // SECTOR - START
    run("mkfs.ext4", *flags, "-d", root, disk, f"{sectors // 2}k")
    # One entry: active, type 83, with addresses that only count sectors (255, 255 and so on: "too large for CHS").
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", START, sectors)
    with disk.open("r+b") as file:
        file.seek(446)
        file.write(entry.ljust(64, b"\0") + b"\x55\xaa")


def _grub(root: Path, disk: Path, words: str) -> None:
    """Write GRUB's two parts: 446 bytes of the first sector, and the core behind it, where their defaults find it."""
    place = root / "boot/grub"
    place.mkdir(exist_ok=True)
    (place / "grub.cfg").write_text(GRUB_CONFIG.format(words=words))
    early, core = place / "early.cfg", place / "core.img"
    early.write_text(GRUB_EARLY)
    inside = [f"/{path.relative_to(root)}" for path in (early, core)]
    run(
        *("chroot", root, "grub-mkimage", "--format=i386-pc", f"--config={inside[0]}"),
        *(f"--output={inside[1]}", "--prefix=/boot/grub", *GRUB_MODULES),
    )
    data = core.read_bytes()
    assert len(data) <= (START - 1) * SECTOR, "GRUB does not fit in front of the partition"
    with disk.open("r+b") as file:
        file.write((root / "usr/lib/grub/i386-pc/boot.img").read_bytes()[:440])
        file.seek(SECTOR)
        file.write(data)


def _initrd(root: Path, version: str, path: Path) -> None:
    """Write a cpio archive with busybox, virtio's modules, and a script that mounts the disk and leaves for it."""
    drivers = root / f"lib/modules/{version}/kernel/drivers"
    modules = {module: _module(drivers, module) for module in MODULES}
    names = {module: module.rsplit("/", 1)[1] for module, data in modules.items() if data}
    init = INIT.format(modules=" ".join(names.values()), device=ROOT_DEVICE)
    with path.open("wb") as file:
        for name in ("bin", "dev", "root"):
            _cpio(file, name, 0o40755)
        _cpio(file, "dev/console", 0o20600, device=(5, 1))
        _cpio(file, "bin/busybox", 0o100755, (root / "bin/busybox").read_bytes())
        for module, name in names.items():
            _cpio(file, f"{name}.ko", 0o100644, modules[module])
        _cpio(file, "init", 0o100755, init.encode())
        _cpio(file, "TRAILER!!!", 0)


def _module(drivers: Path, name: str) -> bytes:
    """Return a module, unpacked; nothing when the kernel has it built in."""
    if (plain := drivers / f"{name}.ko").exists():
        return plain.read_bytes()
    if (packed := drivers / f"{name}.ko.xz").exists():
        return lzma.decompress(packed.read_bytes())
    built_in = (drivers.parent.parent / "modules.builtin").read_text()
    assert f"/{name}.ko\n" in built_in, f"the kernel has no {name}"
    return b""


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
