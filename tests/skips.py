# SPDX-License-Identifier: GPL-3.0-or-later
"""The pytest hooks around skips: evaluate ``requires``, list what was skipped, and, when strict, fail for it."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests import features


def is_strict() -> bool:
    """Whether a skip is a failure; a CI sets ``MINIPOD_TEST_STRICT=1``."""
    return os.environ.get("MINIPOD_TEST_STRICT", "") not in ("", "0")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose ``requires`` are not met; the probes run only for tests that run."""
    for mark in item.iter_markers("requires"):
        if reason := features.missing(*mark.args):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a test's skip into a failure when strict, and leave the outcome where fixtures can see it."""
    report = yield
    refuse(report)
    item.stash.setdefault(OUTCOMES, {})[report.when] = report.outcome
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself whole."""
    report = yield
    refuse(report)
    return report


OUTCOMES = pytest.StashKey[dict[str, str]]()


def refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip that is not the machine's fault; an expected failure (xfail) is no skip."""
    if is_strict() and report.skipped and not hasattr(report, "wasxfail"):
        reason = reason_of(report)
        if not features.is_allowed(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped, and skips are failures (MINIPOD_TEST_STRICT): {reason}"


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a report is a skip."""
    details = report.longrepr
    return str(details[2] if isinstance(details, tuple) else details).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each reason for a skip once, with the tests that it kept from running."""
    skipped: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        skipped.setdefault(reason_of(report), []).append(report.nodeid)
    terminalreporter.section("skipped" if skipped else "nothing was skipped", sep="-")
    for reason, tests in sorted(skipped.items()):
        terminalreporter.line(f"{len(tests)} × {reason}")
        for test in tests:
            terminalreporter.line(f"    {test}")
