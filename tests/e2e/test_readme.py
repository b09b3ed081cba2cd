# SPDX-License-Identifier: GPL-3.0-or-later
"""The README and the examples are true: their commands exist, their pods run, their messages are what is said."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

from minipod.cli.app import VERBS
from minipod.cli.podtable import POD_TITLES_WIDE
from tests.e2e.user import address_in, commands, understand
from tests.instance import TOP, Instance
from tests.patience import patience

README = (TOP / "README.md").read_text()
TEXTS = [README, *(path.read_text() for path in sorted((TOP / "docs").rglob("*.md")))]
PROMPT = re.compile(r"^(?: {4}|[#$] )(?:sudo )?(minipod .*)$", re.MULTILINE)


def command_lines() -> list[str]:
    """Return the command lines of minipod that stand in the documentation's blocks."""
    return sorted(
        {
            line
            for text in TEXTS
            for line in PROMPT.findall(text)
            if not line.startswith("minipod: ")
        }
    )


def test_there_are_commands() -> None:
    assert len(command_lines()) >= 8 and "minipod run pod.yaml" in command_lines()


@pytest.mark.parametrize("line", command_lines())
def test_commands_are_understood(line: str) -> None:
    for words in commands(line):
        understand(words)


def test_commands_that_are_named_in_sentences() -> None:
    for text in TEXTS:
        for word in re.findall(r"`(?:sudo )?minipod ([a-z]+)[^`]*`", text):
            assert word in VERBS, word


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    for text in TEXTS:
        for target in re.findall(r"(?:`|^ {4})(?:sudo )?make ([a-z-]+)", text, re.MULTILINE):
            assert target in targets, target


def test_links_lead_somewhere() -> None:
    for path in [TOP / "README.md", *(TOP / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), (path, target)


def test_examples_run(instance: Instance) -> None:
    """``hello`` to its end; ``web`` serves its page at the pod's address; then the end of the tour."""
    done = instance.cli("run", TOP / "examples" / "hello.yaml")
    lines = done.stdout.splitlines()
    assert lines[0] == "[hello] Hello from a pod called hello"
    assert lines[1].startswith("[hello] my address is 10.") and lines[2].endswith("that I can see:")
    assert lines[4].split()[:3] == ["[hello]", "1", "sh"]

    done = instance.cli("run", "-d", TOP / "examples" / "web.yaml")
    assert done.stdout.startswith("web  10.") and len(done.stdout.splitlines()) == 1
    assert done.stderr.splitlines()[0] == "web: ContainerCreating"
    page = fetch(address_in(done.stdout))
    assert re.fullmatch(r"\w{3} \w{3} +\d+ \d\d:\d\d:\d\d UTC \d{4}\n", page), page
    assert instance.cli("get", "pods", "-o", "wide").stdout.split()[: len(POD_TITLES_WIDE)] == list(
        POD_TITLES_WIDE
    )
    assert "response:200" in instance.cli("logs", "web", "-c", "server").stdout
    seen = instance.cli("exec", "web", "-c", "server", "--", "ps", "-o", "pid,user,comm").stdout
    assert [line.split() for line in seen.splitlines()][:2] == [
        ["PID", "USER", "COMMAND"],
        ["1", "root", "httpd"],
    ]
    assert len(seen.splitlines()) == 3
    deleted = instance.cli("delete", "pod", "web", "hello").stdout
    assert deleted in README
    assert instance.cli("agent", "stop").stdout in README


def fetch(address: str) -> str:
    """Return the page that ``web`` serves, once it has been written."""
    for _ in range(60):
        try:
            with urllib.request.urlopen(f"http://{address}:8080/", timeout=patience(10)) as answer:
                return str(answer.read().decode())
        except OSError:  # httpd is not there yet, or the page is not
            subprocess.run(["sleep", "0.2"], check=True)
    raise AssertionError(f"nothing is served at {address}")


def test_mistakes_of_the_readme_are_reported_as_it_says(instance: Instance, tmp_path: Path) -> None:
    typo = (
        (TOP / "examples" / "web.yaml")
        .read_text()
        .replace("image:", "imag:")
        .replace("containerPort", "containerport")
    )
    (tmp_path / "typo.yaml").write_text(typo)
    done = instance.cli("run", tmp_path / "typo.yaml", check=False)
    assert done.returncode == 2
    said = done.stderr.replace(f"{tmp_path}/", "")
    assert said in README, said


def test_plan_of_the_readme_is_the_plan(instance: Instance) -> None:
    shown = (
        README[README.index("# minipod plan examples/web.yaml") :]
        .partition("\n```")[0]
        .splitlines()[1:]
    )
    text = instance.cli("plan", TOP / "examples" / "web.yaml").stdout.replace(f"{TOP}/", "")
    own = {
        "minipod0": instance.config.bridge,
        "minipod/burstable/pod": f"{instance.config.cgroup_parent}/burstable/pod",
    }
    for line in shown:
        # What is of the instance (addresses, names) is not compared.
        words = re.split(r"\d+\.\d+\.\d+\.\d+|mp0a|0a:58|   # |" + "|".join(own), line)[0].strip()
        if words not in ("", "…"):
            assert words in text, (line, text)
