# SPDX-License-Identifier: GPL-3.0-or-later
"""``docs/labs/``, written from the labs' texts: ``python -m minipod.lab.pages docs/labs`` (``make docs``)."""

from __future__ import annotations

import sys
from pathlib import Path

from minipod.lab.text import Lab, all_labs

INDEX = "README.md"
_INTRO = """\
# Labs

Exercises for a terminal: first what a pod is made of, by hand with the kernel's own tools, then pods that break.
`minipod lab` has the same texts, and its `check` looks on the real system whether you have done what they ask for.

    minipod lab
    minipod lab show 1
    sudo minipod lab check 1
    minipod lab solve 1
    sudo minipod lab reset 1

Work as root (`sudo -i`), with two terminals open. All that a lab makes has its name (`lab6`, `/run/lab6`,
`MINIPOD_LAB=6` in the environment of processes), by which `minipod lab reset` finds it; nothing else is touched.
Which labs are solved is read from the system each time: after a reset, or a reboot, they are open again.
"""


def pages() -> dict[str, str]:
    """Return the text of each file, by its name."""
    labs = all_labs()
    return {INDEX: _index(labs), **{_file(lab): _page(lab) for lab in labs}}


def _file(lab: Lab) -> str:
    return f"{lab.number:02}-{lab.slug}.md"


def _index(labs: tuple[Lab, ...]) -> str:
    lines = [_INTRO]
    part = ""
    for lab in labs:
        if lab.part != part:
            part = lab.part
            lines.append(f"\n## {part[:1].upper()}{part[1:]}\n")
        lines.append(f"{lab.number}. [{lab.title}]({_file(lab)})")
    return "\n".join(lines) + "\n"


def _page(lab: Lab) -> str:
    parts = [f"# Lab {lab.number}: {lab.title}", lab.intro]
    if lab.setup:
        parts.append(f"Start with `sudo minipod lab start {lab.number}`.")
    for name, text in lab.sections.items():
        if name == "Solution":
            summary = f"<summary>Solution, as <code>minipod lab solve {lab.number}</code> shows it</summary>"
            parts.append(f"## {name}\n\n<details>{summary}\n\n{text}\n\n</details>")
        elif name == "Set-up":
            parts.append(f"## {name}\n\nWhat `minipod lab start {lab.number}` does:\n\n{text}")
        else:
            parts.append(f"## {name}\n\n{text}")
    return "\n\n".join(parts) + f"\n\n[All labs]({INDEX})\n"


def main() -> None:
    """Write the files into the directory that is named; one that belongs to no lab any more goes."""
    directory = Path(sys.argv[1])
    directory.mkdir(exist_ok=True)
    wanted = pages()
    for path in directory.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
