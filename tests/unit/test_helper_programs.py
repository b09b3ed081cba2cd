# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's programs that the agent runs: whoever started it steers none of them (HARDENING: a fixed environment)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import minipod
from minipod.config import HELPER_ENV

TOP = Path(minipod.__file__).parent
STARTERS = {"asyncio.create_subprocess_exec", "subprocess.run", "subprocess.Popen"}


def starts() -> Iterator[tuple[str, set[str | None]]]:
    """Yield where a program is started, and the names of the arguments that say how."""
    for package in ("agent", "images", "network", "plan", "pods", "runtime"):
        for path in sorted((TOP / package).rglob("*.py")):
            name = path.relative_to(TOP).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTERS:
                    yield f"{name}:{node.lineno}", {keyword.arg for keyword in node.keywords}


def test_each_has_an_environment_and_a_directory_of_our_choice() -> None:
    found = list(starts())
    assert len(found) >= 9
    assert [where for where, given in found if not {"env", "cwd"} <= given] == []
    assert set(HELPER_ENV) == {"PATH", "LC_ALL"}
