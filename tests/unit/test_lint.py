# SPDX-License-Identifier: GPL-3.0-or-later
"""The linters have nothing to say, every source file names its licence, and the top level is as agreed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "minipod", "native", "tests", "vagrant", "Makefile"),
    *("LICENSE", "examples", "docs"),
}
# Made by tools, ignored by git.
GENERATED = {"build", "dist", "minipod.egg-info"}
SOURCES = {".py", ".c", ".h", ".sh", ".toml", ".service"}
SOURCE_NAMES = {"Makefile", "Vagrantfile", "busybox-image", "run", ".clang-format"}


def complaints(*command: str | Path) -> str:
    """Run a linter at the top of the tree; return what it says when it is not content."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def tool(module: str) -> list[str]:
    """Return the command of a Python tool, or skip the test (a failure when skips are)."""
    if (
        subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode
        != 0
    ):
        pytest.skip(f"{module} is not installed: make test-setup")
    return [sys.executable, "-m", module]


def source_files() -> Iterator[Path]:
    """Yield the project's source files: no directory that a tool made, no test data."""
    for name in sorted(os.listdir(TOP)):
        path = TOP / name
        if path.is_file():
            yield path
        elif name in TOP_LEVEL or name == ".ci":
            for directory, below, files in os.walk(path):
                below[:] = [x for x in below if x not in ("__pycache__", "bin", "data", ".vagrant")]
                yield from (Path(directory, file) for file in files)


def test_ruff_check() -> None:
    assert complaints(*tool("ruff"), "check", "--no-cache", ".") == ""


def test_ruff_format() -> None:
    assert complaints(*tool("ruff"), "format", "--check", "--no-cache", ".") == ""


def test_mypy() -> None:
    assert complaints(*tool("mypy")) == ""


def test_clang_format() -> None:
    tool("clang_format")
    program = Path(sys.executable).with_name("clang-format")
    assert complaints("make", "-C", "native", "format-check", f"CLANG_FORMAT={program}") == ""


def test_every_source_file_names_its_licence() -> None:
    missing = []
    for path in source_files():
        if path.suffix in SOURCES or path.name in SOURCE_NAMES:
            lines = path.read_text().splitlines()[:2]
            if not any(LICENCE in line for line in lines):
                missing.append(str(path.relative_to(TOP)))
    assert missing == []


def test_the_top_level_is_as_agreed() -> None:
    present = {name for name in os.listdir(TOP) if not name.startswith(".")}
    assert present - TOP_LEVEL - GENERATED == set()
