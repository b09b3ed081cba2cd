# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of broken rules, and what several subjects check."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from minipod.api import names
from minipod.api.problems import Report, did_you_mean
from minipod.api.yaml import shown


def say(report: Report, path: str, wrong: str) -> None:
    """Report *wrong*, the words of a rule that was broken, unless it is empty."""
    if wrong:
        report.error(path, wrong)


def one_of(report: Report, path: str, value: str, allowed: tuple[str, ...]) -> None:
    """Report a value that is none of *allowed*."""
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        report.error(path, f"{shown(value)} is not one of {', '.join(allowed)}{hint}")


def unique(report: Report, found: Iterable[tuple[str, str]], what: str) -> None:
    """Report every path whose non-empty value was there before, with the line of the first."""
    first: dict[str, str] = {}
    for path, value in found:
        if value and value in first:
            report.error(
                path,
                f"{what} {shown(value)} is given twice, first on line {report.line(first[value])}",
            )
        first.setdefault(value, path)


def label(report: Report, path: str, name: str) -> None:
    """Check a name that is required and a DNS label."""
    if not name:
        report.error(path, "missing, and required")
    else:
        say(report, path, names.dns_label(name))


def clean(path: str) -> str:
    """Return an absolute path without doubled slashes, ``.`` and ``..``."""
    return posixpath.normpath("/" + path.lstrip("/")) if path else ""


def under_proc(path: str) -> bool:
    """Return whether an absolute path is on or under /proc."""
    return f"{clean(path)}/".startswith("/proc/")
