# SPDX-License-Identifier: GPL-3.0-or-later
"""Completion: the script for bash in a bash, and those for zsh and fish as their shells call them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.user import PATIENCE, create, pod, shell
from tests.features import requires
from tests.instance import TEST_IMAGE, Instance


@pytest.fixture(scope="module")
def there(shared_instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """The instance with two pods, and a program ``minipod`` that can be called by name."""
    create(
        shared_instance,
        pod("alpha", shell(name="main"), shell(name="side")),
        pod("beta", shell("true", "only")),
    )
    create(shared_instance, pod("gamma", namespace="other"))
    directory = tmp_path_factory.mktemp("bin")
    program = directory / "minipod"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m minipod "$@"\n')
    program.chmod(0o755)
    shared_instance.env["PATH"] = f"{directory}:{os.environ['PATH']}"
    return shared_instance


def call(instance: Instance, *command: str, **env: str) -> str:
    """Return what *command* prints, which must not complain."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd="/",
        env={**instance.env, **env},
    )
    assert done.stderr == "", done
    return done.stdout


def script(instance: Instance, shell_name: str) -> str:
    """Return the completion script for a shell."""
    return call(instance, "minipod", _MINIPOD_COMPLETE=f"source_{shell_name}")


def complete_bash(instance: Instance, line: str) -> list[str]:
    """Return what bash offers behind *line*."""
    words = line.split(" ")
    program = (
        f"{script(instance, 'bash')}\n"
        f"COMP_WORDS=({' '.join(shlex.quote(word) for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        f"_minipod_completion minipod {shlex.quote(words[-1])} {shlex.quote(words[-2])}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return call(instance, "bash", "--norc", "-c", program).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("minipod r", ["run", "resize"]),
        ("minipod de", ["describe", "debug", "delete"]),
        ("minipod get po", ["pods", "pod/alpha", "pod/beta"]),
        ("minipod describe c", ["configmaps"]),
        ("minipod plan pod a", ["alpha"]),
        ("minipod plan po", ["pod/alpha", "pod/beta"]),
        ("minipod plan pod.yaml --diff pod/a", ["pod/alpha"]),
        ("minipod get pods ", ["alpha", "beta"]),
        ("minipod logs al", ["alpha"]),
        ("minipod logs alpha -c ", ["main", "side"]),
        ("minipod exec -c s alpha", ["alpha"]),
        ("minipod delete pod/b", ["pod/beta"]),
        ("minipod -n other logs ", ["gamma"]),
        ("minipod get pods -n o", ["other"]),
        ("minipod get pods -o w", ["wide"]),
        ("minipod image inspect l", [TEST_IMAGE]),
        ("minipod agent st", ["status", "stop"]),
        ("minipod wait pod/alpha --for=cond", ["condition=Ready"]),
        ("minipod logs alpha nosuch", []),
    ],
)
def test_bash(there: Instance, line: str, offered: list[str]) -> None:
    assert complete_bash(there, line) == offered


def test_bash_offers_options(there: Instance) -> None:
    assert {"--detach", "--rm", "--namespace", "--help"} <= set(
        complete_bash(there, "minipod run --")
    )


def test_bash_is_not_disturbed_when_there_is_no_agent(there: Instance, tmp_path: Path) -> None:
    before = there.env
    there.env = {**before, "MINIPOD_RUN_DIR": str(tmp_path / "run")}
    try:
        assert complete_bash(there, "minipod logs ") == []
    finally:
        there.env = before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "wanted"), [("minipod d", "delete"), ("minipod logs al", "alpha")]
)
def test_zsh_and_fish_are_answered(there: Instance, name: str, line: str, wanted: str) -> None:
    text = script(there, name)
    assert f"_MINIPOD_COMPLETE=complete_{name}" in text and "_TYPER_COMPLETE_ARGS" in text
    env = {"_MINIPOD_COMPLETE": f"complete_{name}", "_TYPER_COMPLETE_ARGS": line}
    if name == "fish":
        env["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    assert wanted in call(there, "minipod", **env)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts_are_of_their_shells(there: Instance, name: str) -> None:
    text = script(there, name)
    if not shutil.which(name):
        assert "minipod" in text
        return
    done = subprocess.run(
        [name, "-n"], input=text, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")


@requires("tool:bash")
def test_install_completion_puts_it_into_the_home_directory(
    there: Instance, tmp_path: Path
) -> None:
    env = {**there.env, "HOME": str(tmp_path)}
    # The shell is found by looking at our parents.
    done = subprocess.run(
        ["bash", "--norc", "-c", "minipod --install-completion; true"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd="/",
        env=env,
    )
    assert done.stderr == "", done
    assert "_minipod_completion" in "".join(file.read_text() for file in tmp_path.rglob("*.sh"))
    assert (tmp_path / ".bashrc").exists()
