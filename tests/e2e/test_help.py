# SPDX-License-Identifier: GPL-3.0-or-later
"""Every verb explains itself, and what it explains is true: the examples of ``--help`` are understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import crowd
from tests.e2e.user import ESCAPE, commands, understand, verbs
from tests.instance import Instance

Answers = dict[tuple[str, ...], crowd.Answer]


ALL = dict(verbs())


@pytest.fixture(scope="module")
def answers(shared_instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What ``--help`` says of each verb."""
    lines = [([*path, "--help"], "") for path in ALL]
    said = crowd.run_all(shared_instance, lines, tmp_path_factory.mktemp("help"))
    return dict(zip(ALL, said, strict=True))


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "minipod")
def test_help_has_an_example_that_is_understood(answers: Answers, path: tuple[str, ...]) -> None:
    code, out, err = answers[path]
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(('minipod', *path))} ")
    assert ESCAPE not in out
    assert all(len(line) <= 100 for line in out.splitlines())
    shown = out.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert shown, out
    for line in shown:
        for words in commands(line):
            understand(words)
        assert "minipod" in line, line


def test_files_of_help_need_nothing(shared_instance: Instance, tmp_path: Path) -> None:
    """``minipod`` alone and ``-h`` show the help too."""
    said = crowd.run_all(
        shared_instance, [([], ""), (["-h"], ""), (["--version"], ""), (["version"], "")], tmp_path
    )
    assert said[0] == said[1] and said[0][1].startswith("Usage: minipod")
    assert said[2] == said[3] and said[2][1].startswith("minipod 0.")
