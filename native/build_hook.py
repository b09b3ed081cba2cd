# SPDX-License-Identifier: GPL-3.0-or-later
"""The build's own commands, named in pyproject.toml: what ``pip install`` does beyond copying Python files.

Two things are built from C: the cffi binding ``minipod.native._core`` (a stable-ABI extension module, described by
``minipod/native/_build.py``), and the static executables in ``minipod/native/bin`` (described by ``native/Makefile``).
Works for wheels, editable installs and source distributions; paths are relative to the top of the source tree, which
is where a build backend runs (PEP 517).
"""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools import Command
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

EXECUTABLES = ("minipod-shim", "minipod-pause")
BIN = "minipod/native/bin"
SOURCE_FILES = (".clang-format", ".gitignore", "Makefile")
SOURCE_TREES = (".ci", "docs", "examples", "native", "tests", "vagrant")
MADE = {"__pycache__", ".vagrant"}
# Settings for native/Makefile, as on make's command line: another compiler than the binding's, for example.
MAKE_SETTINGS = "MINIPOD_MAKE_SETTINGS"


class Build(build):
    """setuptools' ``build``, with the executables as one more part, out of sight of the top level."""

    sub_commands = [*build.sub_commands, ("build_executables", None)]  # noqa: RUF012  (their protocol)

    def initialize_options(self) -> None:
        """Move the directory for intermediate files."""
        super().initialize_options()
        self.build_base = ".build/setuptools"


class Wheel(bdist_wheel):
    """One wheel for every Python from 3.11 on: the binding uses the stable ABI only."""

    def initialize_options(self) -> None:
        """Name the oldest Python of the stable ABI."""
        super().initialize_options()
        self.py_limited_api = "cp311"

    def run(self) -> None:
        """Write the manual pages and completions, which go to ``share`` beside the ``bin`` of the Python.

        Raises:
            CalledProcessError: what they are made from cannot be loaded.
        """
        top = Path(".build/setuptools/manual")
        shutil.rmtree(top, ignore_errors=True)
        # Beside pip's own path to the isolated environment that it builds in.
        path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
        command = (sys.executable, "native/packaging/manpages.py", str(top))
        subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)
        files = sorted(path for path in top.rglob("*") if path.is_file())
        self.distribution.data_files = [
            (str(path.parent.relative_to(top)), [str(path)]) for path in files
        ]
        super().run()


class BuildBinding(build_ext):
    """Compile the extension module from the C source that cffi generates."""

    def build_extension(self, ext: Any) -> None:
        """Replace the declared extension by what ``_build.py`` says, then compile it as usual."""
        generated = runpy.run_path("minipod/native/_build.py")["ffibuilder"].distutils_extension(
            self.build_temp
        )
        ext.sources = generated.sources
        for name in (
            "depends",
            "include_dirs",
            "define_macros",
            "libraries",
            "extra_compile_args",
            "extra_link_args",
        ):
            setattr(ext, name, getattr(generated, name))
        super().build_extension(ext)


class BuildExecutables(Command):
    """Run ``make -C native`` into the wheel, or into the source tree of an editable install."""

    description = "build minipod-shim and minipod-pause"
    user_options: list[tuple[str, str, str]] = []  # noqa: RUF012  (their protocol)
    editable_mode = False
    build_lib: str | None

    def initialize_options(self) -> None:
        """Set what ``build`` fills in."""
        self.build_lib = None

    def finalize_options(self) -> None:
        """Take the output directory from ``build``."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Build; a compiler's complaint is shown as it is.

        Raises:
            CalledProcessError: make or the compiler failed.
        """
        target = Path(BIN) if self.editable_mode else Path(self.build_lib or "", BIN)
        settings = shlex.split(os.environ.get(MAKE_SETTINGS, ""))
        command = ["make", "-C", "native", f"BUILDDIR={target.absolute()}", *settings]
        subprocess.run(command, check=True)

    def get_source_files(self) -> list[str]:
        """Return what a source distribution must hold: what builds minipod also tests it and explains it."""
        files = [Path(name) for name in SOURCE_FILES]
        for top in SOURCE_TREES:
            files += (path for path in sorted(Path(top).rglob("*")) if path.is_file())
        return [str(path) for path in files if not MADE.intersection(path.parts)]

    def get_outputs(self) -> list[str]:
        """Return the files of the wheel."""
        return [f"{self.build_lib}/{BIN}/{name}" for name in EXECUTABLES]

    def get_output_mapping(self) -> dict[str, str]:
        """Return nothing: an editable install finds the executables in the source tree by itself."""
        return {}
