# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests of the C core: a shim per test, once as it is installed and once with sanitizers.

Test modules name this one in ``pytest_plugins``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.shimkit import Build, Kit, running_kit


@pytest.fixture(params=["static", "sanitized"])
def build(request: pytest.FixtureRequest) -> Build:
    """The executables: each test runs with both builds."""
    if request.param == "static":
        return Build.static()
    return Build.sanitized(request.getfixturevalue("sanitized"))


@pytest.fixture
async def kit(tmp_path: Path, build: Build) -> AsyncIterator[Kit]:
    """A running shim; it must be fit to shut down when the test is over."""
    async with running_kit(tmp_path, build) as kit:
        yield kit
