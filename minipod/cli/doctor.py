# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod doctor``: whether this machine can run pods, found out by trying; needs no agent."""

from __future__ import annotations

import os
import sys

import typer

from minipod.cli.options import SETTINGS, session, verb

app = typer.Typer(**SETTINGS)

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


@verb(app, "sudo minipod doctor")
def doctor(ctx: typer.Context) -> None:
    """Check what pods need of this machine.

    Each thing is tried, and what is missing is named with what to do about it; then the exit code is 1.
    """
    from minipod.cli.checks import CHECKS, Result, examine
    from minipod.cli.output import escape, painter

    config = session(ctx).config
    paint = painter(sys.stdout)
    failed = 0
    for check in CHECKS:
        skipped = check.needs_root and os.geteuid() != 0
        result = Result("skip", "needs root") if skipped else examine(check, config)
        failed += result.level == "fail"
        print(
            f"{paint(f'{result.level:<4}', _COLOURS[result.level])}  {check.name}: {escape(result.text)}"
        )
        if result.remedy:
            print(f"      {paint('hint:', 'cyan')} {escape(result.remedy)}")
        sys.stdout.flush()
    if failed:
        raise typer.Exit(1)
