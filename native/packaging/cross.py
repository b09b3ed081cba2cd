# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiling for another architecture than this machine's: Debian's cross compiler, and a file tree of that Debian.

The tree holds what the compiler needs (Python's headers, musl, glibc, the kernel's headers) and enough of a system
to run the result under QEMU's user mode. It is fetched with ``mmdebstrap``, whose ``extract`` variant executes
nothing of it, so the machine's own package system need not know the foreign architecture.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from native.packaging.source import TOP, run

SUITE = "bookworm"  # the oldest release that is supported, with the Python of our stable ABI
PYTHON = "3.11"
LIBC = 36  # the minor version of its glibc
MIRROR = os.environ.get("MINIPOD_MIRROR", "http://deb.debian.org/debian")
PACKAGES = (
    *(f"libpython{PYTHON}-dev", f"python{PYTHON}", "musl-dev", "linux-libc-dev"),
    # What Debian has of minipod's needs: it runs with these under QEMU.
    *("libseccomp2", "python3-cffi-backend", "python3-prctl", "python3-yaml"),
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A processor in the words of everybody who names it.

    Attributes:
        name: the kernel's and Python's name (``uname -m``).
        debian: Debian's name.
    """

    name: str
    debian: str

    @property
    def triplet(self) -> str:
        """The compiler's and Debian's name for its directories."""
        return f"{self.name}-linux-gnu"

    @property
    def is_ours(self) -> bool:
        """Whether this machine is one."""
        return os.uname().machine == self.name


ARCHITECTURES = {
    item.name: item for item in (Architecture("x86_64", "amd64"), Architecture("aarch64", "arm64"))
}


def sysroot(arch: Architecture) -> Path:
    """Return the tree of a Debian of *arch*, fetched when it is not there yet.

    It lies in ``.build/sysroot`` and is made anew when the list of packages changes.
    """
    place = TOP / ".build" / "sysroot"
    tree, wanted = place / arch.name, " ".join((SUITE, *PACKAGES))
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made_from = tree / "packages"
        if not made_from.exists() or made_from.read_text() != wanted:
            shutil.rmtree(tree, ignore_errors=True)
            # Under another name first: a fetch that is cut off leaves no half of a tree.
            with tempfile.TemporaryDirectory(dir=place) as scratch:
                new = Path(scratch, "tree")
                _fetch(arch, new)
                (new / "packages").write_text(wanted)
                new.rename(tree)
    return tree


def _fetch(arch: Architecture, target: Path) -> None:
    run(
        "mmdebstrap",
        "--quiet",
        "--mode=root" if os.geteuid() == 0 else "--mode=auto",
        "--format=directory",
        "--variant=extract",
        f"--architectures={arch.debian}",
        f"--include={','.join(PACKAGES)}",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Languages none",
        "--aptopt=Acquire::Check-Valid-Until false",
        SUITE,
        target,
        MIRROR,
    )


def environment(arch: Architecture, scratch: Path) -> dict[str, str]:
    """Return the variables with which setuptools and ``native/Makefile`` build for *arch*.

    Args:
        arch: not this machine's own.
        scratch: an empty directory, for the compiler's wrapper.
    """
    root = sysroot(arch)
    compiler = f"{arch.triplet}-gcc"
    include = root / "usr/include"
    # Python's headers of that architecture go before those of the Python that runs the build.
    flags = f"--sysroot={root} -I{include}/python{PYTHON} -O2 -Wall -fPIC"
    return {
        "CC": f"{compiler} --sysroot={root}",
        "LDSHARED": f"{compiler} --sysroot={root} -shared",
        "CFLAGS": flags,
        "_PYTHON_HOST_PLATFORM": f"linux-{arch.name}",  # what setuptools calls the wheel
        "MINIPOD_MAKE_SETTINGS": shlex.join(
            (
                f"CC={musl_compiler(arch, scratch)}",
                f"KERNEL_HEADERS={include} {include}/{arch.triplet}",
                "CFLAGS=",
            )
        ),
    }


def musl_compiler(arch: Architecture, scratch: Path) -> Path:
    """Write what ``musl-gcc`` is for this machine: the compiler with the specs of the tree's musl.

    Args:
        arch: not this machine's own.
        scratch: a directory for it.
    """
    root = sysroot(arch)
    musl = f"{arch.name}-linux-musl"
    specs = (root / f"usr/lib/{musl}/musl-gcc.specs").read_text()
    for kind in ("include", "lib"):
        specs = specs.replace(f"/usr/{kind}/{musl}", f"{root}/usr/{kind}/{musl}")
    (scratch / "specs").write_text(specs)
    wrapper = scratch / f"{arch.name}-musl-gcc"
    wrapper.write_text(f'#!/bin/sh\nexec {arch.triplet}-gcc "$@" -specs {scratch}/specs\n')
    wrapper.chmod(0o755)
    return wrapper
