# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the manual pages, in man(7)'s language, from what ``--help`` is made of, and the shells' completions.

    python native/packaging/manpages.py DIRECTORY

``minipod(1)`` and a page for each verb, and for each verb of a verb: nothing in them is written by hand but what no
help says (exit codes, files). They go below ``DIRECTORY/share``, as wheels and Debian's packages have them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from minipod import __version__
from minipod.cli.app import COMPLETION, NAME, app
from minipod.config import DEFAULT_FILE, Config

Command = Any  # typer has no public name for what a command line is made of
COMPLETIONS = {
    "bash": "bash-completion/completions/minipod",
    "fish": "fish/vendor_completions.d/minipod.fish",
    "zsh": "zsh/site-functions/_minipod",
}
EXIT_CODES = {
    "0": "Done.",
    "1": "An error, which is told in one line, with what to do about it.",
    "2": "The command line or a manifest is wrong; nothing was done.",
    "130": "Interrupted.",
    "141": "Nobody reads the output.",
}
FILES = {
    DEFAULT_FILE: 'Settings, as TOML: lines like bridge = "minipod0". MINIPOD_CONFIG names another file.',
    Config().root_dir: "Pods, images, the agent's state and its log.",
    Config().run_dir: "The agent's socket, and what goes with a reboot.",
    Config().log_dir: "What containers write, in the form of a kubelet's logs.",
}


def write(directory: Path) -> None:
    """Write all pages and completions below *directory*/share."""
    pages = directory / "share/man/man1"
    pages.mkdir(parents=True)
    for path, text in manual():
        (pages / f"{'-'.join(path)}.1").write_text(text)
    for shell, name in COMPLETIONS.items():
        file = directory / "share" / name
        file.parent.mkdir(parents=True)
        file.write_text(completion(shell))


def completion(shell: str) -> str:
    """Return the completion script for *shell*, as the program itself gives it."""
    env = {**os.environ, COMPLETION: f"source_{shell}"}
    done = subprocess.run(
        [sys.executable, "-m", NAME], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip() + "\n"


def manual() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each page: the words of its command, and its text."""
    root = typer.main.get_command(app)
    context = root.context_class(root, info_name=NAME, **app.info.context_settings or {})
    yield from _pages((NAME,), root, context)


def _pages(
    path: tuple[str, ...], command: Command, context: Any
) -> Iterator[tuple[tuple[str, ...], str]]:
    yield path, page(path, command, context)
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        below = command.get_command(context, name)
        inner = below.context_class(below, info_name=name, parent=context)
        yield from _pages((*path, name), below, inner)


def page(path: tuple[str, ...], command: Command, context: Any) -> str:
    """Return the page of one command."""
    day = time.strftime(
        "%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    )
    title = escape("-".join(path))
    first, _, rest = str(command.help).strip().partition("\n\n")
    summary = " ".join(first.split()).rstrip(".")
    usage = escape(" ".join(command.collect_usage_pieces(context)))
    lines = [
        f'.TH {title.upper()} 1 {day} "minipod {__version__}" "User commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        rf"{title} \- {escape(summary[:1].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        rf"\fB{escape(' '.join(path))}\fR {usage}",
        ".SH DESCRIPTION",
        *paragraphs(first + "\n\n" + rest),
    ]
    examples, epilog = split_epilog(command.epilog or "")
    records = [p.get_help_record(context) for p in command.get_params(context)]
    given = [record for record in records if record]
    lines += _list("ARGUMENTS", [r for r in given if not r[0].startswith("-")])
    lines += _list("OPTIONS", [r for r in given if r[0].startswith("-")])
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    helps = [(name, command.get_command(context, name).help or "") for name in names]
    lines += _list("COMMANDS", [(name, text.split("\n\n")[0]) for name, text in helps])
    lines += [".SH EXAMPLES", ".EX", *map(_literal, examples), ".EE"]
    if len(path) == 1:
        lines += _of_all(epilog)
    lines += [
        ".SH SEE ALSO",
        ",\n".join(rf"\fB{escape(name)}\fR(1)" for name in _others(path, names)),
    ]
    return "\n".join(lines) + "\n"


def _of_all(epilog: list[str]) -> list[str]:
    """Return the sections that only ``minipod(1)`` has, for all verbs."""
    settings = [(f"{name}, MINIPOD_{name.upper()}", text) for name, text in settings_of(Config)]
    return [
        *_list("EXIT STATUS", list(EXIT_CODES.items())),
        ".PP",
        escape("exec and run pass on the exit codes of containers."),
        *_list("SETTINGS", settings, intro="\n\n".join(epilog)),
        *_list("FILES", list(FILES.items())),
    ]


def _others(path: tuple[str, ...], below: list[str]) -> list[str]:
    """Return the pages to read next: those above and those below."""
    above = ["-".join(path[:n]) for n in range(1, len(path))]
    return [*above, *("-".join((*path, name)) for name in below)]


def settings_of(config: type[Config]) -> list[tuple[str, str]]:
    """Return each setting with what its class says about it."""
    text = (config.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^        (\w+): (.*\n(?:^ {12}.*\n)*)", text, re.MULTILINE)
    defaults = config()
    return [
        (name, f"{' '.join(words.split())} {_default(getattr(defaults, name))}")
        for name, words in found
    ]


def _default(value: str) -> str:
    return f"Default: {value}" if value else "Default: none."


def split_epilog(text: str) -> tuple[list[str], list[str]]:
    """Return the lines of the examples, and the paragraphs that follow them."""
    examples, *others = text.removeprefix("\b\n").strip().split("\n\n")
    return [line.strip() for line in examples.splitlines()[1:]], others


def _list(title: str, items: list[tuple[str, str]], intro: str = "") -> list[str]:
    """Return a section of terms and what they mean; none when there are no items."""
    if not items:
        return []
    lines = [f".SH {title}", *paragraphs(intro)]
    for term, text in items:
        lines += [".TP", rf"\fB{escape(term)}\fR", *paragraphs(text)[:1]]
        lines += [
            line for more in paragraphs(text)[1:] for line in ([".IP"] if more == ".PP" else [more])
        ]
    return lines


def paragraphs(text: str) -> list[str]:
    """Return filled paragraphs with ``.PP`` between them; one that begins with a backspace keeps its lines."""
    lines: list[str] = []
    for block in filter(None, (block.strip("\n") for block in text.split("\n\n"))):
        if lines:
            lines.append(".PP")
        if block.startswith("\b"):
            kept = block.removeprefix("\b").strip("\n").splitlines()
            lines += [".nf", *(_literal(line.rstrip()) for line in kept), ".fi"]
        else:
            # A sentence a line, as man(7)'s manual wants it: the formatter sets the space between them.
            lines += [
                _literal(x) for x in re.split(r"(?<=[.?!]) +(?=[A-Z])", " ".join(block.split()))
            ]
    return lines


def _literal(line: str) -> str:
    r"""Return a line of text that is no request, whatever it begins with (``\&``, man(7))."""
    return (r"\&" if line[:1] in (".", "'") else "") + escape(line)


def escape(text: str) -> str:
    """Return *text* as roff prints it: a minus that can be copied, no backslash of its own."""
    return text.replace("\\", r"\e").replace("-", r"\-").replace("\b", "").replace("``", "")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
