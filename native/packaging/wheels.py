# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the source distribution and from it, and from nothing else, a wheel for each architecture.

    python -m native.packaging.wheels [--arch x86_64] [--arch aarch64] dist

Each wheel serves every Python from 3.11 on. It says which C library it needs at least (its ``manylinux`` tag) as
auditwheel finds it out from the binding's symbols; the executables in it are static and need none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from native.packaging import cross, source

# The command of the Python that runs the build may tell the linker where that Python's own libraries are.
NATIVE = {"LDSHARED": "gcc -shared"}


def main() -> None:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description="build the source distribution and the wheels")
    parser.add_argument("--arch", action="append", choices=cross.ARCHITECTURES, help="all of them")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    os.umask(0o022)  # modes of files are in the wheels, too
    for path in build(asked.out, asked.arch or list(cross.ARCHITECTURES)):
        print(path)


def build(out: Path, architectures: list[str]) -> list[Path]:
    """Build the source distribution and the wheels for *architectures* in *out*; return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="minipod-packaging-") as scratch:
        tree = Path(scratch, "tree")
        source.copy(tree)
        made = [source.distribution(tree, out)]
        for name in architectures:
            made.append(wheel(made[0], cross.ARCHITECTURES[name], out, Path(scratch)))
    return made


def wheel(archive: Path, arch: cross.Architecture, out: Path, scratch: Path) -> Path:
    """Build the wheel of the source distribution *archive* for *arch* in *out*; return its path."""
    place = scratch / arch.name
    place.mkdir()
    environment = NATIVE if arch.is_ours else cross.environment(arch, place)
    tree = source.unpack(archive, place / "source")
    built = place / source.backend("build_wheel", tree, place, environment)
    command = (sys.executable, "-m", "auditwheel", "show", "--json", built)
    tag = json.loads(source.run(*command))["overall_tag"]
    retag = (sys.executable, "-m", "wheel", "tags", "--remove", f"--platform-tag={tag}", built)
    date = {"SOURCE_DATE_EPOCH": str(source.date())}
    final = place / source.run(*retag, environment=date).strip().splitlines()[-1]
    return final.replace(out / final.name)


if __name__ == "__main__":
    main()
