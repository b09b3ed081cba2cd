# SPDX-License-Identifier: GPL-3.0-or-later
"""Many command lines for the price of one start: a process that has imported the command line forks for each.

Reads a JSON list of ``[arguments, standard input]`` and writes a list of ``[exit code, stdout, stderr]``; an exit
code below zero is the signal that ended the command.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.instance import Instance

LONGEST = 60  # seconds that one command may take
Answer = tuple[int, str, str]


def run_all(
    instance: Instance, commands: Sequence[tuple[Sequence[str], str]], directory: Path
) -> list[Answer]:
    """Run *commands*, each (arguments, standard input), in *directory* and return how they ended."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.crowd"],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=600,
        cwd=directory,
        env={**instance.env, "HOME": str(directory)},
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def _run(arguments: list[str], text: str) -> Answer:
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(text.encode("utf-8", "surrogateescape"))
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            _become(arguments, given.fileno(), out.fileno(), err.fileno())
        _, status = os.waitpid(pid, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return os.waitstatus_to_exitcode(status), texts[0], texts[1]


def _become(arguments: list[str], given: int, out: int, err: int) -> None:
    from minipod.cli.main import main

    for number, fd in enumerate((given, out, err)):
        os.dup2(fd, number)
    signal.alarm(LONGEST)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = ["minipod", *arguments]
    os._exit(main(arguments))


if __name__ == "__main__":
    import_module("minipod.cli.app")  # for all children at once
    ours = os.dup(1)
    asked = json.loads(sys.stdin.read())
    answers = [_run(arguments, text) for arguments, text in asked]
    with open(ours, "w") as output:
        json.dump(answers, output)
