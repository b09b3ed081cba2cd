# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts of the labs: one Markdown file each, of a fixed structure, from which the terminal, ``docs/labs/`` and
the scripts of set-up and solution come.

::

    ---
    title: A host name of its own
    part: by hand
    check: namespaces.uts
    tools: unshare nsenter
    ---
    What it is about.

    ## Do it
    ## What is checked
    ## Set-up          (with one block of sh; only where the learner starts from something)
    ## Solution        (with one block of sh, which is what the tests run)
    ## What happened
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from minipod.errors import NotFound

FIELDS = ("title", "part", "check", "tools")
REQUIRED = ("Do it", "What is checked", "Solution", "What happened")
SECTIONS = ("Do it", "What is checked", "Set-up", "Solution", "What happened")
IMAGE = "localhost/busybox:1"
_NAME = re.compile(r"(\d\d)-([a-z0-9-]+)\.md")
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Lab:
    """One exercise.

    Attributes:
        number: by which it is called.
        slug: its file's name without number and suffix.
        title: one line, without a full stop.
        part: ``by hand``, or ``break it`` for those with minipod's pods.
        check: MODULE.FUNCTION below ``minipod.lab.checks``.
        tools: the host's programs that it takes; ``image`` stands for the busybox image in minipod's store.
        intro: what it is about, Markdown.
        sections: the text under each heading, Markdown, in the order of :data:`SECTIONS`.
    """

    number: int
    slug: str
    title: str
    part: str
    check: str
    tools: tuple[str, ...]
    intro: str
    sections: dict[str, str]

    @property
    def name(self) -> str:
        """``labN``: what all objects of the lab are called."""
        return f"lab{self.number}"

    @property
    def solution(self) -> str:
        """The solution as a script for sh."""
        return script(self.sections["Solution"])

    @property
    def setup(self) -> str:
        """What ``lab start`` runs, a script for sh; empty when the lab starts from nothing."""
        return script(self.sections["Set-up"]) if "Set-up" in self.sections else ""


def script(markdown: str) -> str:
    """Return the ``sh`` blocks of *markdown*, one after the other."""
    return "".join(_BLOCK.findall(markdown))


def parse(filename: str, text: str) -> Lab:
    """Return the lab that a file holds.

    Raises:
        ValueError: it has not the fixed structure.
    """
    found = _NAME.fullmatch(filename)
    if not found or not text.startswith("---\n"):
        raise ValueError(f"{filename}: no name or no front matter of a lab")
    head, _, body = text[4:].partition("\n---\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    if tuple(fields) != FIELDS:
        raise ValueError(f"{filename}: the front matter is not {', '.join(FIELDS)}")
    intro, *parts = re.split(r"^## (.*)\n", body, flags=re.MULTILINE)
    sections = {
        title: part.strip("\n") for title, part in zip(parts[::2], parts[1::2], strict=True)
    }
    if tuple(sections) != tuple(name for name in SECTIONS if name in sections):
        raise ValueError(f"{filename}: the sections are {', '.join(sections)}")
    if missing := [name for name in REQUIRED if not sections.get(name)]:
        raise ValueError(f"{filename}: there is no section {missing[0]!r}")
    return Lab(
        number=int(found[1]),
        slug=found[2],
        title=fields["title"],
        part=fields["part"],
        check=fields["check"],
        tools=tuple(fields["tools"].split()),
        intro=intro.strip("\n"),
        sections=sections,
    )


@cache
def all_labs() -> tuple[Lab, ...]:
    """Return the labs, in their order."""
    directory = resources.files("minipod.lab") / "labs"
    found = (each for each in directory.iterdir() if each.name.endswith(".md"))
    files = sorted(found, key=lambda each: each.name)
    return tuple(parse(each.name, each.read_text("utf-8")) for each in files)


def find(number: int) -> Lab:
    """Return a lab by its number.

    Raises:
        NotFound: there is none.
    """
    labs = all_labs()
    for lab in labs:
        if lab.number == number:
            return lab
    raise NotFound(f"there is no lab {number}", f"minipod lab lists them: 1 to {labs[-1].number}")
