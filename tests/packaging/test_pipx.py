# SPDX-License-Identifier: GPL-3.0-or-later
"""``pipx install``, in a home of its own, from the wheel and from the source distribution."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minipod import __version__
from tests.features import requires
from tests.packaging.conftest import Built

pytestmark = requires("root", "tool:mmdebstrap")


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_pipx_installs_it(built: Built, tmp_path: Path, kind: str) -> None:
    home = {
        "HOME": str(tmp_path),
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_MAN_DIR": str(tmp_path / "man"),
        "PYTHONDONTWRITEBYTECODE": "1",  # quicker, for a test
    }

    def pipx(*words: str | Path) -> str:
        command = [sys.executable, "-m", "pipx", *map(str, words)]
        done = subprocess.run(command, env={**os.environ, **home}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    what = built.native if kind == "wheel" else built.sdist
    # The same Python as ours: it has what python-prctl is compiled with.
    pipx("install", "--python", sys.executable, what)
    program = tmp_path / "bin/minipod"
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=True, cwd="/")
    assert said.stdout == f"minipod {__version__}\n"
    said = subprocess.run([program, "doctor"], capture_output=True, text=True, check=False, cwd="/")
    for line in ("executables: ", "libraries: all"):
        assert f"ok    {line}" in said.stdout
    assert str(tmp_path / "pipx") in said.stdout, "its own executables"
    assert (tmp_path / "man/man1/minipod-run.1").exists()
    pipx("uninstall", "minipod")
    assert not program.exists() and not program.is_symlink()
