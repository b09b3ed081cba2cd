# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod doctor``: whether this machine can run pods, found out by trying; needs no agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from minipod.cli.options import SETTINGS, Output, session, verb

if TYPE_CHECKING:
    from minipod.cli.checks import Result
    from minipod.config import Config

app = typer.Typer(**SETTINGS)

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


@verb(app, "sudo minipod doctor", "sudo minipod doctor -o json")
def doctor(
    ctx: typer.Context,
    output: Output = "",
) -> None:
    """Check what pods need of this machine.

    Each thing is tried. What is missing is named, with the command that mends it: "fail" is what no pod can do
    without, and then the exit code is 1; with "warn" pods run, and lack what is said; "skip" was not tried.
    """
    from minipod.cli.output import check_format, dump

    form = check_format(output, ("json", "yaml")) if output else ""
    found = []
    for name, result in _examined(ctx):
        found.append((name, result))
        if not form:
            _show(name, result)
    failed = any(result.level == "fail" for _, result in found)
    if form:
        checks = [
            {"name": name, "level": result.level, "text": result.text, "remedy": result.remedy}
            for name, result in found
        ]
        dump({"ok": not failed, "checks": checks}, form)
    if failed:
        raise typer.Exit(1)


def _examined(ctx: typer.Context) -> Iterator[tuple[str, Result]]:
    """Yield each check with what it found, as it goes."""
    from minipod.cli.checks import CHECKS, Result, examine
    from minipod.config import Config
    from minipod.errors import MinipodError

    config: Config
    try:
        config, wrong = session(ctx).config, None
    except MinipodError as error:
        config, wrong = Config(), error
    for check in CHECKS:
        if wrong and check.name == "settings":
            yield check.name, Result("fail", wrong.what, wrong.remedy)
        elif check.needs_root and os.geteuid() != 0:
            yield check.name, Result("skip", "needs root")
        else:
            yield check.name, examine(check, config)


def _show(name: str, result: Result) -> None:
    from minipod.cli.output import escape, painter

    paint = painter(sys.stdout)
    level = paint(f"{result.level:<4}", _COLOURS[result.level])
    print(f"{level}  {name}: {escape(result.text)}")
    if result.remedy:
        print(f"      {paint('hint:', 'cyan')} {escape(result.remedy)}")
    sys.stdout.flush()
