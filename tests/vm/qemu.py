# SPDX-License-Identifier: GPL-3.0-or-later
"""How QEMU is started: what all virtual machines have in common, and whether the CPU helps (KVM) or is emulated."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from pathlib import Path

from tests.vm.disk import NO_TIMER_CHECK, PROBE_WORD
from tests.vm.image import Image

MEMORY = 2048  # MiB
# x86-64-v2 and no more: libraries would choose AVX where they can, which is slow to emulate. And without cmpxchg16b,
# after which QEMU 7.2 leaves garbage in the flags: Linux 6.12 has it in its allocator, and dies of it.
TCG = ("-accel", "tcg,thread=multi")
EMULATED = (*TCG, "-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,-cx16")
KVM = ("-accel", "kvm", "-cpu", "host")
PROBE_TIMEOUT = 20.0  # seconds; a kernel that KVM runs has switched itself off within two
COMMON = (
    *("-name", "minipod-vm", "-nodefaults", "-no-user-config"),
    *("-smp", "2", "-m", str(MEMORY), "-display", "none", "-device", "virtio-rng-pci"),
)
OURS = ("qemu-system-x86_64", *COMMON, "-machine", "q35,usb=off")
FOREIGN = ("qemu-system-aarch64", *COMMON, "-machine", "virt", *TCG, "-cpu", "cortex-a72")
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}


def start(directory: Path, image: Image, *options: str) -> subprocess.Popen[bytes]:
    """Start a machine.

    Args:
        directory: gets ``qemu`` and ``console``, what these say.
        image: what it will boot, also used to find out whether KVM works.
        options: QEMU's, for disks, devices and the kernel.
    """
    with (directory / "qemu").open("wb") as log:
        return subprocess.Popen(
            [
                # A killed test run leaves no machine behind.
                *("setpriv", "--pdeathsig", "KILL", "--", *_machine(image)),
                *("-serial", f"file:{directory}/console", *options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _machine(image: Image) -> tuple[str, ...]:
    if image.release.architecture == "arm64":
        return FOREIGN
    return (*OURS, *accelerator(image.kernel, image.initrd))


def said(directory: Path) -> str:
    """Return the end of what QEMU and the kernel of a machine said."""
    texts = []
    for name in ("qemu", "console"):
        with contextlib.suppress(FileNotFoundError):
            texts.append((directory / name).read_text(errors="replace")[-8000:])
    return "\n".join(texts)


@functools.cache
def accelerator(kernel: Path, initrd: Path) -> tuple[str, ...]:
    """Return the options for the CPU: KVM's if a kernel that switches itself off at once can be booted with it.

    That ``/dev/kvm`` is there and answers says little: nested in another machine it may run nothing.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return EMULATED
    words = f"quiet panic=-1 {NO_TIMER_CHECK} {PROBE_WORD}"
    boot = ("-kernel", str(kernel), "-initrd", str(initrd), "-append", words, "-no-reboot")
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [*OURS, *KVM, *boot],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT,
        )
        if done.returncode == 0:
            return KVM
    return EMULATED
