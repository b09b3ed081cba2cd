# SPDX-License-Identifier: GPL-3.0-or-later
"""The labs' texts have their structure, their checks exist, and ``docs/labs`` is what they make."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from minipod.cli.app import VERBS
from minipod.cli.markdown import render
from minipod.errors import NotFound
from minipod.lab import pages, things
from minipod.lab.look import check_of
from minipod.lab.text import IMAGE, SECTIONS, Lab, all_labs, find, parse, script
from tests.e2e.user import understand

TOP = Path(__file__).resolve().parents[2]
LABS = all_labs()
GOOD = (
    "---\ntitle: T\npart: by hand\ncheck: a.b\ntools: ip image\n---\nIntro.\n\n## Do it\nx\n\n"
    "## What is checked\ny\n\n## Solution\n```sh\ntrue\n```\n\n## What happened\nz\n"
)


def test_they_are_numbered_from_one() -> None:
    assert len(LABS) >= 14
    assert [lab.number for lab in LABS] == list(range(1, len(LABS) + 1))
    assert find(1) is LABS[0]
    with pytest.raises(NotFound):
        find(0)


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_each_is_whole(lab: Lab) -> None:
    assert lab.part in ("by hand", "break it")
    assert not lab.title.endswith(".") and lab.tools and lab.intro
    assert inspect.isgeneratorfunction(check_of(lab)), "a check is a generator"
    assert lab.name in lab.solution or f"MINIPOD_LAB={lab.number}" in lab.solution
    assert (IMAGE in lab.solution + lab.setup) <= ("image" in lab.tools)
    for text in filter(None, (lab.solution, lab.setup)):
        done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_each_names_only_things_of_its_own(lab: Lab) -> None:
    text = "\n".join([lab.intro, *lab.sections.values()])
    for name in re.findall(r"\blab\d+[a-z-]*", text):
        assert things.number_of(name.rstrip("-")) == lab.number, name
    for path in re.findall(
        r" (/(?:tmp|run|var)/\w+)", text
    ):  # what a learner makes, reset has to find
        assert path in (f"/run/lab{lab.number}", "/run/netns"), path
    assert set(re.findall(r"MINIPOD_LAB=(\d+)", text)) <= {str(lab.number)}
    for mentioned in re.findall(r"\blabs? (\d+)", text):
        assert 0 < int(mentioned) <= len(LABS)


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_commands_of_minipod_in_them_are_understood(lab: Lab) -> None:
    text = "\n".join([lab.intro, *lab.sections.values()])
    blocks = "".join(re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:# )?(minipod .*)$", blocks, re.MULTILINE)
    lines += re.findall(r"`(?:sudo )?(minipod [^`]+)`", text)
    for line in lines:
        words = shlex.split(line.partition(" <<")[0].partition("|")[0].partition(" >")[0])
        if len(words) > 2:  # else it is a verb that is only named
            understand(words[1:])
        assert words[1] in VERBS


def test_docs_are_what_make_docs_writes() -> None:
    there = {path.name: path.read_text() for path in (TOP / "docs/labs").glob("*.md")}
    assert there == pages.pages()


def test_a_text_is_parsed() -> None:
    lab = parse("07-x-y.md", GOOD)
    assert (lab.number, lab.slug, lab.title, lab.tools) == (7, "x-y", "T", ("ip", "image"))
    assert (lab.intro, lab.solution, lab.setup) == ("Intro.", "true\n", "")
    assert list(lab.sections) == [name for name in SECTIONS if name != "Set-up"]
    assert script("```sh\na\n```\nand\n```console\n# b\n```\n```sh\nc\n```\n") == "a\nc\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("7-x.md", GOOD),
        ("07-x.md", GOOD.removeprefix("---")),
        ("07-x.md", GOOD.replace("tools: ip image\n", "")),
        ("07-x.md", GOOD.replace("## Do it\nx\n", "")),
        ("07-x.md", GOOD.replace("Do it", "Whatever")),
        ("07-x.md", GOOD.replace("## What happened", "## Solution")),
    ],
)
def test_another_structure_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=name):
        parse(name, text)


@pytest.mark.parametrize("name", ["lab6", "lab6b", "lab6-out", "lab6-a-b"])
def test_names_of_a_lab(name: str) -> None:
    assert things.number_of(name) == 6


@pytest.mark.parametrize(
    "name", ["lab66", "lab", "xlab6", "lab6_b", "lab6-", "lab6/..", "LAB6", "lab6\n"]
)
def test_names_of_something_else(name: str) -> None:
    assert things.number_of(name) != 6


def test_markdown_on_a_terminal() -> None:
    text = (
        "# Title\n\nA `word` and a [link](to) that go *over* one line.\n\n## Do it\n* one item\n  goes on\n"
        "* two\n\nEnd.\n\n```console\n# a   b\n```\n"
    )
    shown = render(text, 30, lambda words, colour: words)
    assert shown == (
        "Title\n\nA word and a link that go over\none line.\n\nDO IT\n\n  * one item goes on\n  * two\n\n"
        "End.\n\n    # a   b"
    )
