# SPDX-License-Identifier: GPL-3.0-or-later
"""``make vm-image``: packs a disk of kind box for QEMU (qcow2) and for Vagrant's libvirt provider (.box).

The format of a box is that of vagrant-libvirt: a tar archive of ``metadata.json``, a ``Vagrantfile`` and ``box.img``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
from io import BytesIO
from pathlib import Path

from tests.vm import qemu
from tests.vm.disk import run
from tests.vm.image import GB, Image, Kind, image
from tests.vm.recipe import TOP
from tests.vm.release import RELEASES

PLACE = TOP / ".build" / "vm-image"
VAGRANTFILE = """# What this box needs wherever it is used.
Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |libvirt|
    libvirt.disk_bus = "virtio" # its initrd has no other driver
    libvirt.nic_model_type = "virtio"
  end
end
"""


def pack(made: Image) -> tuple[Path, Path]:
    """Return the disk as qcow2 and as a box, both in ``.build/vm-image``; made anew unless newer than *made*.

    Raises:
        AssertionError: qemu-img failed, with what it said.
    """
    PLACE.mkdir(parents=True, exist_ok=True)
    disk = PLACE / f"minipod-{made.release.suite}.qcow2"
    box = disk.with_suffix(".box")
    if disk.exists() and box.exists() and disk.stat().st_mtime > made.disk.stat().st_mtime:
        return disk, box
    new = disk.with_suffix(".new")
    run("qemu-img", "convert", "-O", "qcow2", made.disk, new)
    metadata = {
        "provider": "libvirt",
        "format": "qcow2",
        "virtual_size": made.disk.stat().st_size // GB,
    }
    with tarfile.open(box, "w") as archive:
        for name, text in (("metadata.json", json.dumps(metadata)), ("Vagrantfile", VAGRANTFILE)):
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, BytesIO(text.encode()))
        archive.add(new, "box.img")
    new.rename(disk)
    return disk, box


def main() -> int:
    """Build, and say what there is; with ``--driver`` only say whether libvirt should use kvm or qemu."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm.box")
    parser.add_argument("release", choices=RELEASES)
    parser.add_argument("--driver", action="store_true")
    options = parser.parse_args()
    made = image(RELEASES[options.release], Kind.BOX)
    if options.driver:
        print("kvm" if qemu.accelerator(made.kernel, made.initrd) == qemu.KVM else "qemu")
        return 0
    for path in pack(made):
        owner = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
        if all(owner):
            os.chown(path, int(owner[0] or 0), int(owner[1] or 0))
        print(path.relative_to(TOP))
    return 0


if __name__ == "__main__":
    sys.exit(main())
