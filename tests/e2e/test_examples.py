# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples do what they say.

Their comments say what is to come: ``# expect: TEXT``, a part of the output; ``# exit: N``, the exit code of
``minipod run`` (0); ``# detached``, for pods that do not end: their logs are read instead, and what ``# fetch:
PORT/PATH`` names; ``# needs: FEATURE``, what the machine must have (tests/features.py).

Those in ``examples/registry`` have images of Docker Hub; here a registry of the tests stands for it, as a mirror.
"""

from __future__ import annotations

import contextlib
import re
import time
import urllib.request
from pathlib import Path

import pytest

from tests import features
from tests.instance import TOP, Instance, Json
from tests.patience import patience

REGISTRY = TOP / "examples/registry"
EXAMPLES = sorted((TOP / "examples").glob("*.yaml")) + sorted(REGISTRY.glob("*.yaml"))
PATIENCE = patience(60)


def said(text: str, key: str) -> list[str]:
    """Return what the comments of an example say about *key*."""
    return [found.strip() for found in re.findall(rf"^# {key}:(.*)$", text, re.MULTILINE)]


def pods(instance: Instance) -> list[Json]:
    """Return the pods that there are."""
    found: list[Json] = instance.get("pods")["items"]
    return found


def read(instance: Instance, pod: Json, places: list[str]) -> str:
    """Return the logs of *pod*, and what it serves at *places*, as far as it does."""
    text: str = instance.cli(
        "logs", "--all-containers", pod["metadata"]["name"], check=False
    ).stdout
    for place in places:
        with contextlib.suppress(OSError):
            url = f"http://{pod['status']['podIP']}:{place}"
            text += urllib.request.urlopen(url, timeout=patience(5)).read().decode()
    return text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_says_what_to_expect(path: Path) -> None:
    text = path.read_text()
    assert said(text, "expect"), "an example without an expectation shows nothing"
    assert text.startswith("# "), "the first line says what it is about"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    if reason := features.missing(*said(text, "needs")):
        pytest.skip(reason)
    instance: Instance = request.getfixturevalue(
        "hub_instance" if path.parent == REGISTRY else "instance"
    )
    expected = said(text, "expect")
    code = int((said(text, "exit") or ["0"])[0])
    if "# detached\n" not in text:
        done = instance.cli("run", "--rm", path, check=False, timeout=PATIENCE * 2)
        assert done.returncode == code, done
        for words in expected:
            assert words in done.stdout + done.stderr, (words, done)
        return
    instance.cli("run", "-d", path)
    output, end = "", time.monotonic() + PATIENCE
    while missing := [words for words in expected if words not in output]:
        assert time.monotonic() < end, (missing, output)
        output = "".join(read(instance, pod, said(text, "fetch")) for pod in pods(instance))
        time.sleep(0.1)
    instance.cli("delete", "-f", path)
