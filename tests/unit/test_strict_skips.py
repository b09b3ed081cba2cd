# SPDX-License-Identifier: GPL-3.0-or-later
"""Skips: allowed, listed, and failures when strict (tests/skips.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import features

TOP = Path(__file__).resolve().parents[2]
EXAMPLES = """
import pytest
from tests import features
features.PROBES["kvm"] = lambda: "tried in vain"
features.PROBES["nft"] = lambda: "tried in vain"

@pytest.mark.requires("kvm")
def test_machine(): ...

@pytest.mark.requires("nft")
def test_installable(): ...

def test_bare():
    pytest.skip("just so")

@pytest.mark.xfail(strict=True)
def test_expected():
    assert False
"""


def run(directory: Path, strict: str, text: str = EXAMPLES) -> str:
    (directory / "test_examples.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = requires(*features): needs\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.skips",
        "-p",
        "no:cacheprovider",
        "-rA",
        ".",
    ]
    env = {**os.environ, "PYTHONPATH": str(TOP), "MINIPOD_TEST_STRICT": strict}
    return subprocess.run(command, capture_output=True, text=True, cwd=directory, env=env).stdout


def test_skips_are_listed(tmp_path: Path) -> None:
    output = run(tmp_path, strict="")
    assert "3 skipped, 1 xfailed" in output
    assert "1 × this machine lacks kvm: tried in vain\n    test_examples.py::test_machine" in output
    assert "1 × just so\n    test_examples.py::test_bare" in output


def test_skips_are_failures_when_strict(tmp_path: Path) -> None:
    output = run(tmp_path, strict="1")
    # What a test requires is looked at in its set-up, where a failure is called an error.
    assert "1 failed, 1 skipped, 1 xfailed, 1 error" in output
    assert "skips are failures (MINIPOD_TEST_STRICT): just so" in output
    assert (
        "skips are failures (MINIPOD_TEST_STRICT): this machine lacks nft: tried in vain" in output
    )


def test_a_module_that_skips_itself_is_a_failure_when_strict(tmp_path: Path) -> None:
    text = "import pytest\npytest.importorskip('no_such_module')\n"
    assert "1 skipped" in run(tmp_path, strict="", text=text)
    assert "1 error" in run(tmp_path, strict="1", text=text)


def test_an_unknown_feature_is_an_error() -> None:
    with pytest.raises(LookupError):
        features.probe("no-such-feature")


def test_everything_that_a_machine_may_lack_can_be_probed() -> None:
    assert set(features.PROBES) >= features.MACHINE_MAY_LACK
