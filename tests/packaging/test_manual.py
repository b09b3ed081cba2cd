# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual pages and the version: both are made from what the program itself says."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import minipod
from minipod.config import Config
from native.packaging import manpages
from tests.e2e.user import verbs
from tests.features import requires
from tests.instance import TOP

PAGES = {path[1:]: text for path, text in manpages.manual()}


def test_every_verb_has_a_page() -> None:
    assert PAGES.keys() == {path for path, _ in verbs()}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: "-".join(("minipod", *path)))
def test_a_page_has_all_that_help_has(path: tuple[str, ...]) -> None:
    page = PAGES[path].replace(r"\-", "-")
    command = dict(verbs())[path]
    for option in command.params:
        if not getattr(option, "hidden", False):
            names = [name for name in option.opts if name.startswith("-")]
            for name in names or [option.metavar]:
                assert name in page
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"):
        assert f"\n.SH {section}\n" in page
    # An option that was added must not push the examples out.
    examples = page.partition(".SH EXAMPLES\n.EX\n")[2].partition(".EE")[0]
    assert "minipod" in examples


def test_the_first_page_has_every_setting() -> None:
    page = PAGES[()].replace(r"\-", "-")
    for name, value in Config().to_env().items():
        assert name in page and value in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".so /etc/passwd", r"\&.so /etc/passwd"),
        ("'br", r"\&'br"),
        ("a -n b", r"a \-n b"),
        (r"c:\n", r"c:\en"),
        ("see ``x``", "see x"),
    ],
)
def test_no_text_is_taken_for_a_request(text: str, expected: str) -> None:
    assert manpages.paragraphs(text) == [expected]


@requires("tool:mandoc")
def test_mandoc_has_nothing_to_say(tmp_path: Path) -> None:
    files = []
    for path, text in PAGES.items():
        files.append(tmp_path / f"{'-'.join(('minipod', *path))}.1")
        files[-1].write_text(text)
    command = ["mandoc", "-Tlint", "-Wwarning", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    shown = subprocess.run(
        ["mandoc", "-Tascii", files[0]], capture_output=True, text=True, check=True
    ).stdout
    assert f"minipod {minipod.__version__}" in shown


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "minipod.__version__"}
    here = {TOP / "minipod/__init__.py"}
    places = [*(TOP / "minipod").rglob("*.py"), *(TOP / "native").rglob("*")]
    places += [TOP / "Makefile", TOP / "pyproject.toml"]
    literal = re.compile(rf"(?<![\d.]){re.escape(minipod.__version__)}(?![\d.])")
    written = {
        path
        for path in places
        if path.is_file() and path.suffix in (".py", ".c", ".h", ".toml", "", ".service")
        if literal.search(path.read_text(errors="replace"))
    }
    assert written == here


def test_the_manual_is_made_with_the_typer_that_runs() -> None:
    """The build's own requirement is the one of the installed program: one help, one manual."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    (build,) = (x for x in project["build-system"]["requires"] if x.startswith("typer"))
    assert build in project["project"]["dependencies"]
