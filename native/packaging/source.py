# SPDX-License-Identifier: GPL-3.0-or-later
"""What is packaged: a clean copy of the sources, its date, and the source distribution that all else is built from.

Whatever lies about in a working tree (a virtual environment, compiled files, an old list of files) is not in the
copy, so that equal sources give equal packages.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    *(".build", ".git", ".venv", "__pycache__", "bin", "build", "dist", "*.so"),
    *("*.egg-info", "PKG-INFO", "setup.cfg"),  # written into a source distribution
)


def date() -> int:
    """Return the sources' date in seconds since the epoch (reproducible-builds.org/specs/source-date-epoch).

    It is what ``SOURCE_DATE_EPOCH`` says, else the date of the last commit, else that of the unpacked sources.
    """
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    if (TOP / ".git").exists():
        return int(run("git", "log", "-1", "--format=%ct", cwd=TOP))
    return int((TOP / "pyproject.toml").stat().st_mtime)


def copy(target: Path) -> None:
    """Copy the sources to *target*, which is made: what git knows or would take up, else all but what builds leave."""
    if not (TOP / ".git").exists():
        shutil.copytree(TOP, target, ignore=_LEFT_OUT)
        return
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=TOP)
    for name in filter(None, listed.split("\0")):
        if (TOP / name).is_file():  # a file that was removed, but not committed yet, is not
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, target / name)


def distribution(tree: Path, out: Path) -> Path:
    """Build the source distribution of *tree* in *out*; return its path."""
    name = backend("build_sdist", tree, out)
    _make_equal(out / name, date())
    return out / name


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a source distribution of ours in *target*; return the directory that was in it."""
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    (directory,) = target.iterdir()
    return directory


def backend(hook: str, tree: Path, out: Path, environment: Mapping[str, str] | None = None) -> str:
    """Call a hook of the build backend (PEP 517) in *tree* without an isolated environment; return the file's name."""
    program = (
        "import sys; from setuptools import build_meta; "
        "print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
    )
    environment = {"SOURCE_DATE_EPOCH": str(date()), **(environment or {})}
    # setuptools writes to stdout, too; the name is the last of it.
    command = (sys.executable, "-c", program, hook, out.absolute())
    return run(*command, cwd=tree, environment=environment).strip().splitlines()[-1]


def run(
    *command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Return what *command* writes to its stdout; if it fails, end with what it says."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}{command[0]} failed with {done.returncode}")
    return done.stdout


def _make_equal(archive: Path, seconds: int) -> None:
    """Write *archive* anew with sorted names, one date, nobody's ids: setuptools leaves those of the machine in it."""
    new = archive.with_suffix(".new")
    with (
        tarfile.open(archive) as old,
        new.open("wb") as file,
        gzip.GzipFile("", "wb", mtime=seconds, fileobj=file) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime = seconds
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            tar.addfile(member, old.extractfile(member) if member.isfile() else None)
    new.replace(archive)
