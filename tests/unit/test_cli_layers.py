# SPDX-License-Identifier: GPL-3.0-or-later
"""What is drawn while an image comes: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from minipod.cli import layers
from minipod.cli.layers import Layers

NAMES = ("a" * 64, "b" * 64)
_UP = re.compile(r"\x1b\[([0-9]+)F\x1b\[J")


def step(number: int, status: str, done: int, total: int = 1000) -> dict[str, Any]:
    return {"layer": f"sha256:{NAMES[number]}", "status": status, "done": done, "total": total}


class Screen:
    """What a terminal shows after all that was written."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._written = ""

    def written(self) -> str:
        self._written += self._capsys.readouterr().err
        return self._written

    def shown(self) -> list[str]:
        lines = [""]
        rest = self.written()
        while rest:
            if up := _UP.match(rest):
                del lines[len(lines) - 1 - int(up[1]) :]
                lines.append("")
                rest = rest[up.end() :]
            elif rest[0] == "\n":
                lines.append("")
                rest = rest[1:]
            else:
                assert rest[0] != "\x1b", repr(rest[:20])
                lines[-1] += rest[0]
                rest = rest[1:]
        return lines[:-1]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Screen:
    monkeypatch.setattr(layers, "_EVERY", 0)
    monkeypatch.setattr(layers, "is_terminal", lambda _: True)
    set_size(monkeypatch, 80, 24)
    return Screen(capsys)


def set_size(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int) -> None:
    size = os.terminal_size((columns, rows))
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: size)


def test_a_bar_for_each_layer_and_a_total(screen: Screen) -> None:
    bars = Layers()
    bars.update(step(0, "waiting", 0))
    bars.update(step(1, "waiting", 0, 3000))
    first, second, total = screen.shown()
    assert first.startswith("aaaaaaaaaaaa  ░░░") and first.endswith("waiting")
    assert total.startswith("total") and total.endswith("0B of 4kB")
    bars.update(step(1, "downloading", 1500, 3000))
    first, second, total = screen.shown()
    assert second.count("█") == second.count("░") and second.endswith("downloading")
    assert total.endswith("1.5kB of 4kB")
    bars.update(step(1, "unpacking", 1500, 3000))
    bars.update(step(0, "present", 1000))
    assert screen.shown()[-1].endswith("4kB of 4kB"), "what is here counts, unpacked or not"
    bars.clear()
    assert screen.shown() == []


def test_more_layers_than_lines(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    set_size(monkeypatch, 20, 2)
    bars = Layers()
    for number in (0, 1):
        bars.update(step(number, "downloading", 5))
    assert len(screen.shown()) == 1 and len(screen.shown()[0]) <= 19
    bars.clear()
    assert screen.shown() == []


def test_lines_elsewhere(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "is_terminal", lambda _: False)
    lines = Layers()
    for status in ("waiting", "downloading", "unpacking", "done", "done"):
        lines.update(step(0, status, 1000))
    lines.update(step(1, "present", 1000))
    lines.clear()
    assert screen.written() == "aaaaaaaaaaaa  1kB  done\nbbbbbbbbbbbb  1kB  present\n"


def test_words_of_a_registry_do_no_harm(screen: Screen) -> None:
    Layers().update({"layer": "\x1b[2J", "status": "\x1b]0;x\a", "done": 1, "total": 1})
    assert "\x1b" not in screen.written()
