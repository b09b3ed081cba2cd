# SPDX-License-Identifier: GPL-3.0-or-later
"""Hundreds of garbled command lines and manifests: words and an exit code, never a traceback."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import crowd
from tests.e2e.user import ESCAPE, create, manifest, pod, shell, verbs
from tests.instance import TEST_IMAGE, TOP, Instance

SEED = 20261121
LINES = 400
MANIFESTS = 300

# What waits for ever, stops the agent, starts another or writes to the home directory.
NEVER = {
    "--watch",
    "--follow",
    "--install-completion",
    "--show-completion",
    "--root-dir",
    "--run-dir",
}
VERBS = [
    (path, command)
    for path, command in verbs()
    if path not in (("doctor",), ("agent",), ("agent", "run"), ("agent", "stop"))
]
LIKELY = [
    "pods",
    "pod",
    "events",
    "there",
    "pod/there",
    "good.yaml",
    "bad.yaml",
    "--",
    "sh",
    "true",
    "-",
]
VALUES = [
    *(
        "pods",
        "pod",
        "po",
        "events",
        "pod/there",
        "there",
        "nobody",
        "pod/",
        "/",
        "",
        " ",
        "all",
        "c0",
        "default",
        "json",
    ),
    *(
        "yaml",
        "wide",
        "name",
        "xml",
        "-1",
        "0",
        "1",
        "99999999999999999999",
        "1e9",
        "5m",
        "nan",
        "a=b",
        "a in (",
        "!",
        "é€😀",
    ),
    *(
        "\x1b[31m",
        "\udcff",
        "a\nb",
        "x" * 5000,
        "no-such.yaml",
        ".",
        "good.yaml",
        "bad.yaml",
        "condition=Ready",
    ),
    *(
        "delete",
        "jsonpath={.status.phase}=x",
        "jsonpath={",
        "ls",
        "inspect",
        "save",
        "load",
        "rm",
        "status",
        "localhost/none:1",
    ),
    *(
        "%s",
        "{}",
        "$(id)",
        "`id`",
        "../../etc/passwd",
        "2026-01-01T00:00:00Z",
        "oci-archive",
        "sh",
        "true",
    ),
]
GARBAGE = [
    "",
    "~",
    "null",
    "{}",
    "[]",
    "-1",
    "1.5",
    "yes",
    "!!binary x",
    "&a *a",
    "*a",
    "'",
    '"',
    "|",
    "- x",
    "\t",
    "{{",
    "99999999999999999999",
    "2026-01-01",
    "é",
    "\x00",
    "\x1b[2J",
    "? x",
    "<<: *a",
    "...",
    "---",
    "%YAML 9",
    "@",
    "`",
    "!!python/object:os.system x",
]


@pytest.fixture(scope="module")
def busy(shared_instance: Instance) -> Instance:
    """The instance with a pod ``there`` to be found, which the command lines may delete."""
    create(
        shared_instance, pod("there", shell("exec sleep 100000"), terminationGracePeriodSeconds=0)
    )
    shared_instance.wait("there", "condition=Ready")
    return shared_instance


def command_lines(chance: random.Random) -> Iterator[tuple[list[str], str]]:
    """Yield command lines: verbs with options of theirs, and words that mean something to some verb."""
    foreign = [option for _, command in VERBS for option in options(command)]
    for _ in range(LINES):
        path, command = chance.choice(VERBS)
        words = list(path)
        for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4))):
            if chance.random() < 0.4:
                flag, has_value = chance.choice(
                    foreign if chance.random() < 0.1 else options(command) or foreign
                )
                words.append(flag)
                if has_value and chance.random() < 0.95:
                    words.append(chance.choice(VALUES))
            else:
                words.append(chance.choice(LIKELY if chance.random() < 0.6 else VALUES))
        if path == ("wait",):
            words = [word for word in words if word != "--"] + ["--timeout=1ms"]
        yield words, chance.choice(["", "a: b", "\x00", "echo hello\n"])


def options(command: Any) -> list[tuple[str, bool]]:
    """Return the options of a verb, and of each whether a value follows."""
    return [
        (name, not param.is_flag)
        for param in command.params
        if param.param_type_name == "option" and not NEVER & set(param.opts)
        for name in (*param.opts, *param.secondary_opts)
    ]


def check(code: int, out: str, err: str, *, raw: bool = False) -> str:
    """Return what is wrong with how a command ended, or an empty string."""
    if code not in (0, 1, 2, 126, 127):
        return f"exit code {code}"
    if "Traceback" in err or "internal error" in err:
        return "not in words"
    if code != 0 and not err:
        return "a failure without a word"
    if ESCAPE in err + ("" if raw else out):
        return "control bytes"
    return ""


def test_command_lines(busy: Instance, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(manifest(pod("quick", shell("true"))))
    (tmp_path / "bad.yaml").write_text("kind: Pod\nspec: 3\n")
    lines = list(command_lines(random.Random(SEED)))
    wrong, codes = [], set()
    for (words, _), (code, out, err) in zip(
        lines, crowd.run_all(busy, lines, tmp_path), strict=True
    ):
        codes.add(code)
        if why := check(code, out, err, raw=words[:1] in (["logs"], ["exec"])):
            wrong.append(f"{why}: {words!a}: {code}\n{out[-300:]}\n{err[-1000:]}")
    assert not wrong, f"{len(wrong)} of {len(lines)}, seed {SEED}:\n" + "\n".join(wrong[:5])
    assert {0, 1, 2} <= codes, (
        "some were right, some meant nothing that is there, some were refused"
    )


def mutants(chance: random.Random) -> Iterator[str]:
    """Yield manifests that are a little, or very, wrong."""
    text = (TOP / "examples" / "web.yaml").read_text().replace("localhost/busybox:1", TEST_IMAGE)
    letters = string.printable + "\x00\x1b\u202e\udcff"
    for _ in range(MANIFESTS):
        lines = text.splitlines()
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(lines))
            match chance.randrange(7):
                case 0:
                    del lines[at]
                case 1:
                    lines.insert(chance.randrange(len(lines)), lines[at])
                case 2:
                    lines[at] = lines[at].split(":")[0] + ": " + chance.choice(GARBAGE)
                case 3:
                    lines[at] = " " * chance.randrange(9) + lines[at].lstrip()
                case 4:
                    lines[at] = chance.choice(GARBAGE) + lines[at]
                case 5:
                    where = chance.randrange(len(lines[at]) + 1)
                    lines[at] = lines[at][:where] + chance.choice(letters) + lines[at][where + 1 :]
                case _:
                    lines = lines[:at] or [""]
            lines = lines or [""]
        yield "\n".join(lines)
    for _ in range(MANIFESTS // 10):
        yield "".join(chance.choices(letters, k=chance.randrange(300)))


def test_manifests(busy: Instance, tmp_path: Path) -> None:
    texts = list(mutants(random.Random(SEED)))
    commands = [(["plan", "-"], text) for text in texts]
    wrong, refused = [], 0
    for text, (code, out, err) in zip(texts, crowd.run_all(busy, commands, tmp_path), strict=True):
        refused += code == 2
        why = check(code, out, err)
        if code == 2 and not all(
            line.startswith(("<stdin>:", "minipod: <stdin>", "  hint: "))
            for line in err.splitlines()
        ):
            why = "a line without its place"
        if why or code not in (0, 2):
            wrong.append(f"{why}: {code}\n{err[-1000:]}\n{text!a}")
    assert not wrong, f"{len(wrong)} of {len(texts)}, seed {SEED}:\n" + "\n".join(wrong[:5])
    assert MANIFESTS // 2 < refused < len(texts), "some were right and most were wrong"
