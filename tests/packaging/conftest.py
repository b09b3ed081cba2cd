# SPDX-License-Identifier: GPL-3.0-or-later
"""What is packaged, built once for all tests here, and the tree of another architecture to run it in."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from native.packaging import cross, wheels
from tests.instance import TOP

FROM_DEBIAN = ("python-prctl", "PyYAML", "cffi")  # in the foreign tree by cross.PACKAGES


@dataclass(frozen=True, slots=True)
class Built:
    """The files that ``make wheels`` makes."""

    sdist: Path
    native: Path
    foreign: Path


@dataclass(frozen=True, slots=True)
class Foreign:
    """The other architecture's wheel, installed with its dependencies, and what runs it.

    Attributes:
        arch: the architecture.
        site: where the packages are.
        qemu: the emulator of its programs.
        scratch: a directory for whatever else a test makes.
    """

    arch: cross.Architecture
    site: Path
    qemu: Path
    scratch: Path

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the foreign tree's Python."""
        root = cross.sysroot(self.arch)
        python = root / f"usr/bin/python{cross.PYTHON}"
        command = [str(self.qemu), "-L", str(root), "-E", f"PYTHONPATH={self.site}", str(python)]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=300, cwd="/"
        )


@pytest.fixture(scope="session")
def built(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source distribution, this machine's wheel, and the other architecture's."""
    archive, native = distributions
    scratch = tmp_path_factory.mktemp("foreign")
    (foreign,) = (arch for arch in cross.ARCHITECTURES.values() if not arch.is_ours)
    return Built(archive, native, wheels.wheel(archive, foreign, archive.parent, scratch))


@pytest.fixture(scope="session")
def foreign(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """The foreign wheel with what Debian's packages do not have of its dependencies."""
    (arch,) = (arch for arch in cross.ARCHITECTURES.values() if not arch.is_ours)
    scratch = tmp_path_factory.mktemp(arch.name)
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    # Markers are evaluated for the Python that runs pip, not for the one that it installs for.
    needs = [text.split(";")[0].strip() for text in project["dependencies"]]
    needs = [text for text in needs if not text.startswith(FROM_DEBIAN)]
    platforms = [f"manylinux_2_{n}_{arch.name}" for n in range(17, cross.LIBC + 1)]
    platforms.append(f"manylinux2014_{arch.name}")
    # The wheel itself without its dependencies, which name what comes from Debian.
    for what in (["--no-deps", str(built.foreign)], needs):
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet"),
                *("--target", scratch / "site", "--only-binary=:all:", "--implementation=cp"),
                f"--python-version={cross.PYTHON}",
                *(f"--abi={abi}" for abi in ("cp311", "abi3", "none")),
                *(f"--platform={platform}" for platform in platforms),
                *what,
            ],
            check=True,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
    return Foreign(arch, scratch / "site", Path(f"/usr/bin/qemu-{arch.name}-static"), scratch)
