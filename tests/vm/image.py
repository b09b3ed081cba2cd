# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the virtual machines' disks from a release's packages; each is used again while its recipe is the same.

There are four kinds. All are made by the same steps; they differ in what is in them:

* ``test``: what minipod needs at run time, and pytest. Its commands come over a serial port (:mod:`tests.vm.guest`),
  and minipod itself is brought at each boot, so that a changed minipod needs no new disk.
* ``bare``: what a fresh machine has, git, sudo and ssh; nothing of ours. QEMU's network leads to the host's.
* ``foreign``: a test disk for another architecture, whose packages lie there as they were unpacked
  (:mod:`tests.vm.foreign`).
* ``box``: a bare one in which ``make test-setup`` has run on a copy of this checkout, and what Vagrant needs.

The results lie in ``.build/vm/<release>-<kind>-<hash of the recipe>/``.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.vm import disk, foreign, recipe
from tests.vm.release import Release

PLACE = recipe.TOP / ".build" / "vm"
GB = 1 << 30
CONSOLE = "console=tty0 console=ttyS0"
WORDS = f"quiet systemd.show_status=0 {disk.NO_TIMER_CHECK}"


class Kind(enum.StrEnum):
    """What a disk is for; see the module."""

    TEST = "test"
    BARE = "bare"
    BOX = "box"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU boots from; not to be written to.

    Attributes:
        release: what system it is.
        kernel: to be handed to QEMU directly, with *initrd*; a disk of kind bare or box also boots by itself.
        initrd: see there.
        disk: a raw, sparse file.
    """

    release: Release
    kernel: Path
    initrd: Path
    disk: Path


def image(release: Release, kind: Kind = Kind.TEST) -> Image:
    """Return a disk, kernel and initrd, built if these are not there yet.

    Raises:
        AssertionError: a tool failed, with what it said.
    """
    name = f"{release.suite}-{kind}-"
    place = PLACE / f"{name}{_key(release, kind)}"
    result = Image(release, place / "vmlinuz", place / "initrd", place / "disk")
    PLACE.mkdir(parents=True, exist_ok=True)
    lock = os.open(PLACE / f"{name}lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            for old in PLACE.glob(f"{name}*/"):
                shutil.rmtree(old)
            _build(release, kind, place)
    finally:
        os.close(lock)
    return result


def _key(release: Release, kind: Kind) -> str:
    """Return a hash of the recipe: the modules that build, the release, and what goes in by name."""
    parts = [repr(release), kind.value, *recipe.ingredients(kind == Kind.BOX)]
    modules = [
        __file__,
        disk.__file__,
        recipe.__file__,
        *([foreign.__file__] * (kind == Kind.FOREIGN)),
    ]
    sources = [*map(Path, modules), recipe.GUEST_SERVER]
    data = [path.read_bytes() for path in sources] + [part.encode() for part in parts]
    return hashlib.sha256(b"\0".join(data)).hexdigest()[:16]


def _build(release: Release, kind: Kind, place: Path) -> None:
    # Not in /tmp, which may be small or mounted nodev.
    with tempfile.TemporaryDirectory(prefix="new-", dir=PLACE) as scratch:
        root, new = Path(scratch, "root"), Path(scratch, "new")
        new.mkdir()
        if kind == Kind.TEST:
            recipe.debian(release, root, recipe.TEST_PACKAGES)
            recipe.python_packages(release, root)
            recipe.compile_python(release, root)
            recipe.serve_commands(root)
            recipe.mask(root, recipe.NEVER + recipe.NOT_IN_TESTS)
            recipe.up_to_date(root)
        elif kind == Kind.FOREIGN:
            foreign.fill(release, root)
        else:
            packages = recipe.BARE_PACKAGES
            if kind == Kind.BOX:
                packages += recipe.BOX_PACKAGES + recipe.makefile_packages()
            recipe.debian(release, root, packages)
            recipe.network(root)
            recipe.user(root)
            recipe.certificates(root)
            if kind == Kind.BOX:
                recipe.project(root)
            recipe.mask(root, recipe.NEVER)
        recipe.names(root, "" if kind == Kind.BOX else recipe.MACHINE_ID)
        disk.take_kernel(root, new)
        if kind in (Kind.TEST, Kind.FOREIGN):
            shutil.rmtree(root / "boot")
            disk.write_disk(root, new / "disk", 4 * GB, journal=False)
        else:
            for name in ("vmlinuz", "initrd"):
                shutil.copy(new / name, root / "boot")
            words = f"{CONSOLE} {WORDS}"
            disk.write_disk(root, new / "disk", 20 * GB, journal=True, boot_words=words)
        new.rename(place)
