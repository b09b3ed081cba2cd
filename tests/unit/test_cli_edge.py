# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge of the command line: errors, exit codes, help, completion, and what starting it costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from minipod.cli import app as cli_app
from minipod.cli.main import main
from minipod.config import SETTING_NAMES
from minipod.errors import MinipodError
from tests.unit.test_cli_client import FakeAgent
from tests.unit.test_cli_verbs import items, pod

TOP = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "minipod"]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    fake = FakeAgent(tmp_path)
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    yield fake
    fake.close()


def minipod(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    outer = {**os.environ, "COLUMNS": "80", **env}
    return subprocess.run([*COMMAND, *argv], capture_output=True, text=True, cwd=TOP, env=outer)


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group."""
    root: Any = typer.main.get_command(cli_app.app)
    context = typer.Context(root)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        yield (name,)
        for below in getattr(command, "commands", {}):
            yield (name, below)


# ---- help ----


@pytest.mark.parametrize("words", [(), *commands()])
def test_help_has_an_example(words: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    _, _, example = out.partition("  Examples:\n")
    assert f"minipod {' '.join(words)}".strip() in example
    assert "{" not in out.splitlines()[0]


def test_all_verbs_are_there() -> None:
    found = set(commands())
    for verb in (
        *("run", "create", "apply", "get", "describe", "logs", "exec", "delete", "wait"),
        *("events", "image", "plan", "doctor", "agent", "version"),
    ):
        assert (verb,) in found
    assert {("image", op) for op in ("ls", "load", "save", "rm", "inspect")} <= found
    assert {("agent", op) for op in ("status", "stop", "run")} <= found


def test_short_help_is_not_cut_off(capfd: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    out, _ = capfd.readouterr()
    assert "..." not in out.partition("Commands:")[2]


def test_without_a_verb_there_is_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: minipod [OPTIONS] COMMAND" in capfd.readouterr().out


def test_every_setting_has_an_option() -> None:
    root: Any = typer.main.get_command(cli_app.app)
    names = {param.name for param in root.params}
    assert set(SETTING_NAMES) <= names
    hidden = {param.name for param in root.params if getattr(param, "hidden", False)}
    shown = root.get_help(typer.Context(root, info_name="minipod")).replace("-\n  ", "-")
    for name in hidden:
        assert f"--{name.replace('_', '-')}" in shown


def test_the_options_before_the_verb_win(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MINIPOD_RUN_DIR", str(tmp_path / "elsewhere"))
    assert main(["--run-dir", agent.config.run_dir, "get", "pods"]) == 0
    assert len(agent.requests) == 1


# ---- errors ----


@pytest.mark.parametrize(
    ("argv", "first", "hint"),
    [
        (["gte"], "there is no verb 'gte'; did you mean get?", "minipod --help"),
        (["xyzzy"], "there is no verb 'xyzzy'", "minipod --help"),
        (["get"], "get: missing argument 'KIND [NAME]...'", "minipod get --help"),
        (["logs", "web", "--bad"], "logs: no such option: --bad", "minipod logs --help"),
        (["--bad", "logs"], "no such option: --bad", "minipod --help"),
        (["exec", "web"], "exec: no command is given", "minipod exec POD -- COMMAND"),
        (["image", "lod"], "image: no such command 'lod'", "minipod image --help"),
    ],
)
def test_bad_usage(
    argv: list[str], first: str, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0].startswith(f"minipod: {first}")
    assert lines[1:] == [f"  hint: {hint}"]


def raising(error: BaseException) -> Any:
    def run(args: list[str]) -> int:
        print("before")
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MinipodError("it broke", "mend it"), 1, "minipod: it broke\n  hint: mend it\n"),
        (MinipodError("ctrl \x1b[2J"), 1, "minipod: ctrl \\x1b[2J\n"),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            1,
            "minipod: /x: no such file or directory\n",
        ),
        (OSError("odd"), 1, "minipod: odd\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_errors_become_words(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli_app, "run", raising(error))
    assert main([]) == code
    assert capfd.readouterr() == ("before\n", said)


def test_an_internal_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_app, "run", raising(KeyError("x\ny")))
    monkeypatch.delenv("MINIPOD_DEBUG", raising=False)
    monkeypatch.setenv("MINIPOD_ROOT_DIR", "/some/where")
    assert main([]) == 1
    first, second = capfd.readouterr().err.splitlines()
    assert first == "minipod: internal error: KeyError: 'x\\ny', please report it"
    assert "/some/where/agent.log" in second
    monkeypatch.setenv("MINIPOD_DEBUG", "1")
    assert main([]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_colour_of_errors_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_app, "run", raising(MinipodError("it broke")))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main([])
    assert capfd.readouterr().err == "\x1b[31mminipod:\x1b[0m it broke\n"


def test_a_reader_that_leaves_is_no_error(agent: FakeAgent) -> None:
    agent.answers["get"] = items(*(pod(f"pod-{n}") for n in range(20_000)))
    with subprocess.Popen(
        [*COMMAND, "get", "pods"], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        command = [*COMMAND, "version"]
        done = subprocess.run(command, cwd=TOP, stdout=full, stderr=subprocess.PIPE, env=env)
    assert done.returncode == 1
    assert done.stderr == b"minipod: standard output: no space left on device\n"


def test_names_that_the_encoding_lacks(agent: FakeAgent) -> None:
    agent.answers["get"] = items(pod("wéb\udcff漢"))
    done = minipod("get", "pods", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert "w\\xe9b\\xff\\u6f22" in done.stdout


def test_no_root_is_needed_for_help_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["version"]) == 0
    assert main(["get", "--help"]) == 0


def test_who_is_not_root_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["minipod", "get", "pods"])
    monkeypatch.setenv("MINIPOD_RUN_DIR", str(tmp_path / "run"))
    assert main() == 1
    assert capfd.readouterr().err == "minipod: must run as root\n  hint: sudo minipod get pods\n"
    assert main(["agent", "run"]) == 1


def test_a_wrong_config_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text("no_such = 'x'\n")
    monkeypatch.setenv("MINIPOD_CONFIG", str(path))
    assert main(["get", "pods"]) == 2
    assert f"config file {path}: unknown setting" in capfd.readouterr().err


# ---- completion ----


def complete(words: str, shell: str = "bash", **env: str) -> list[str]:
    """Return what a shell would offer for the last of *words*."""
    if shell == "bash":
        number = str(len(words.split(" ")) - 1)
        asked = {"COMP_WORDS": words, "COMP_CWORD": number}
    else:
        asked = {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = minipod(_MINIPOD_COMPLETE=f"complete_{shell}", **asked, **env)
    assert done.stderr == ""
    return [word for word in done.stdout.split("\n") if word]


def test_verbs_are_completed() -> None:
    offered = complete("minipod de")
    assert offered == ["describe", "debug", "delete"]
    for shell in ("zsh", "fish"):
        assert "describe" in "\n".join(complete("minipod de", shell))


def test_names_are_completed(agent: FakeAgent) -> None:
    agent.answers["get"] = items(pod("web-1"), pod("web-2"), pod("db", "other"))
    agent.answers["image-list"] = [{"done": {"images": [{"references": ["app:1"]}]}}]

    def offered(words: str) -> list[str]:
        return complete(words)

    assert offered("minipod logs we") == ["web-1", "web-2"]
    assert offered("minipod logs pod/we") == ["pod/web-1", "pod/web-2"]
    assert offered("minipod delete pod web-2") == ["web-2"]
    assert "pod/web-1" in offered("minipod get po")
    assert offered("minipod exec web-1 -c m") == ["main"]
    assert offered("minipod get pods -n o") == ["other"]
    assert offered("minipod image rm ap") == ["app:1"]
    assert offered("minipod get pods -o js") == ["json", "jsonpath="]
    agent.requests.clear()
    offered("minipod -n demo logs we")
    assert agent.requests[0]["namespace"] == "demo"


def test_completion_is_silent_and_starts_nothing(tmp_path: Path) -> None:
    env = {"MINIPOD_RUN_DIR": str(tmp_path / "run"), "MINIPOD_ROOT_DIR": str(tmp_path / "root")}
    assert complete("minipod logs we", **env) == []
    assert complete("minipod logs we", MINIPOD_CONFIG="/nonexistent") == []
    assert list(tmp_path.iterdir()) == []
    done = minipod(_MINIPOD_COMPLETE="complete_bash")  # COMP_WORDS is missing
    assert (done.stdout, done.stderr) == ("", "")


def test_an_agent_that_complains_is_not_heard(agent: FakeAgent) -> None:
    agent.answers["get"] = [{"error": MinipodError("no").to_status()}]
    assert complete("minipod logs we") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed(shell: str, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = minipod("--show-completion", shell, **env)
    assert shown.returncode == 0
    assert "_MINIPOD_COMPLETE=complete_" in shown.stdout
    assert minipod("--install-completion", shell, **env).returncode == 0
    assert any("minipod" in path.name for path in tmp_path.rglob("*"))


# ---- start-up ----


def test_a_verb_loads_no_other_verb() -> None:
    program = (
        "import sys; from minipod.cli.main import main; main(['version']); "
        "print(*sorted(name for name in sys.modules if name.startswith('minipod')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True)
    assert set(done.stdout.splitlines()[1].split()) == {
        "minipod",
        "minipod.config",
        "minipod.errors",
        *(
            f"minipod.{name}"
            for name in ("cli", "cli.app", "cli.deferred", "cli.main", "cli.options", "cli.version")
        ),
    }


def test_what_is_seldom_used_is_not_loaded_with_typer() -> None:
    program = (
        "import sys; there = {*sys.modules}; "  # Python 3.13 itself loads one for -c
        "from minipod.cli.deferred import SELDOM_USED, Deferred, defer; defer(); import minipod.cli.app; "
        "print(*(name for name in SELDOM_USED if name not in there and type(sys.modules[name]) is not Deferred)); "
        "import subprocess, zlib; print(subprocess.run(['true']).returncode, zlib.crc32(b'a'))"
    )
    done = subprocess.run([sys.executable, "-Ic", program], cwd=TOP, capture_output=True, text=True)
    loaded, used = done.stdout.splitlines()
    assert loaded == ""
    assert used == "0 3904355907"


def test_an_interrupt_while_it_is_loaded_has_no_words(tmp_path: Path) -> None:
    loading = tmp_path / "typer.py"
    loading.write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    program = "from minipod.cli.main import entry; entry()"
    process = subprocess.Popen(
        # What is started in the background has interrupts ignored; a shell's user has not.
        ["env", "--default-signal=INT", sys.executable, "-c", program, "version"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{TOP}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGINT, b"")
