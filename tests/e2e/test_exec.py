# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod exec``: streams, exit codes, and a terminal with its size, its keys and its end."""

from __future__ import annotations

import pytest

from tests.e2e.user import Running, Terminal, check_error, create, manifest, pod, shell
from tests.instance import Instance


@pytest.fixture(scope="module")
def pods(shared_instance: Instance) -> Instance:
    """The instance with ``web`` (containers ``c0`` and ``side`` run) and ``done`` (has ended)."""
    create(shared_instance, pod("web", shell(), shell(name="side")), pod("done", shell("true")))
    shared_instance.wait("web", "condition=Ready")
    shared_instance.wait("done", "jsonpath={.status.phase}=Succeeded")
    return shared_instance


def test_streams_stay_apart(pods: Instance) -> None:
    done = pods.cli("exec", "web", "-c", "c0", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code_is_the_commands(pods: Instance, code: int) -> None:
    done = pods.cli("exec", "web", "-c", "c0", "--", "sh", "-c", f"exit {code}", check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_killed_command_gives_128_and_the_signal(pods: Instance) -> None:
    assert pods.cli("exec", "web", "--", "sh", "-c", "kill -9 $$", check=False).returncode == 137


def test_standard_input_is_passed_on_when_asked_for(pods: Instance) -> None:
    data = "line\n" * 50_000  # more than a pipe holds
    assert pods.cli("exec", "-i", "web", "--", "cat", input=data).stdout == data
    assert pods.cli("exec", "web", "--", "cat", input=data).stdout == ""
    # A command that does not read to the end is none the worse.
    assert pods.cli("exec", "-i", "web", "--", "head", "-n1", input=data).stdout == "line\n"


def test_in_the_named_container(pods: Instance) -> None:
    pods.cli("exec", "web", "-c", "side", "--", "touch", "/only-here")
    assert pods.cli("exec", "web", "-c", "side", "--", "ls", "/only-here").returncode == 0
    assert (
        pods.cli("exec", "web", "-c", "c0", "--", "ls", "/only-here", check=False).returncode == 1
    )


def test_which_container_is_meant_when_none_is_named_is_told(pods: Instance) -> None:
    done = pods.cli("exec", "web", "--", "echo", "out")
    assert (done.stdout, done.stderr) == ("out\n", 'Defaulted container "c0" out of: c0, side\n')


def test_options_behind_the_dashes_are_the_commands(pods: Instance) -> None:
    assert (
        pods.cli("exec", "web", "-c", "c0", "--", "echo", "-n", "--help", "-c").stdout
        == "--help -c"
    )


def test_interrupt_ends_the_command(pods: Instance) -> None:
    with Running(
        pods, "exec", "web", "-c", "c0", "--", "sh", "-c", "echo $$; exec sleep 4242"
    ) as run:
        run.until_out("\n")
        run.signal()
        assert run.end() == 130, run.err
        assert run.err == ""


def test_terminal_has_the_windows_size_and_follows_it(pods: Instance) -> None:
    with Terminal(pods, "exec", "-it", "web", "--", "sh", size=(31, 97)) as run:
        run.until("#")
        run.type("stty size; tty; echo TERM=$TERM\n")
        run.until("TERM=xterm")
        assert "31 97" in run.screen and "/dev/" in run.screen
        run.resize(17, 55)
        run.type("sleep 0.2; stty size\n")
        run.until("17 55")
        run.type("exit 7\n")
        assert run.end() == 7
        assert run.settings() == run.before, "the terminal is left as it was"


def test_keys_reach_the_command_on_a_terminal(pods: Instance) -> None:
    with Terminal(pods, "exec", "-it", "web", "--", "sh") as run:
        run.until("#")
        run.type("sleep 4711\n")
        run.until("sleep 4711")
        for _ in range(100):
            if "4711" in pods.exec("web", "ps", "-o", "args").stdout:
                break
        run.type("\x03")
        run.type("echo still $((40 + 2))\n")
        run.until("still 42")
        run.type("\x04")
        assert run.end() in (0, 130)  # sh ends with the status of the last command
    assert "4711" not in pods.exec("web", "ps", "-o", "args").stdout


def test_without_a_terminal_of_our_own_there_is_none(pods: Instance) -> None:
    done = pods.cli("exec", "-it", "web", "-c", "c0", "--", "sh", "-c", "tty; cat", input="typed")
    assert done.stdout == "not a tty\ntyped"
    assert done.stderr == "Unable to use a TTY - input is not a terminal\n"


def test_refuses(pods: Instance) -> None:
    check_error(pods.cli("exec", "web", check=False), 2, "no command is given")
    check_error(
        pods.cli("exec", "nobody", "--", "ls", check=False), 1, "pod default/nobody not found"
    )
    done = pods.cli("exec", "web", "-c", "nobody", "--", "ls", check=False)
    check_error(done, 1, "nobody", "c0", "side")
    check_error(pods.cli("exec", "done", "--", "ls", check=False), 1, "done", "not running")


@pytest.mark.parametrize(("command", "code"), [("/no/such", 127), ("/etc", 126), ("nosuch", 127)])
def test_command_that_cannot_be_executed(pods: Instance, command: str, code: int) -> None:
    done = pods.cli("exec", "web", "--", command, check=False)
    assert done.returncode in (code, 1), done
    assert command in done.stderr and "Traceback" not in done.stderr


def test_end_of_the_container_ends_the_command(pods: Instance) -> None:
    pods.cli("run", "-d", "-", input=manifest(pod("ends")))
    with Running(pods, "exec", "ends", "--", "sh", "-c", "echo up; sleep 1000") as run:
        run.until_out("up")
        pods.delete("ends")
        assert run.end() == 137, run.err
