# SPDX-License-Identifier: GPL-3.0-or-later
"""How long starts took: what is noted, what of it is kept, and what becomes of it on the disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from minipod.plan import steps as s
from minipod.pods import timeline as module
from minipod.pods.timeline import Span, Start, Timeline

LAUNCH = s.Launch(
    key="app/0",
    kind="CONTAINER",
    steps=(
        s.Harden(),
        s.SetHostname(name="web", source="spec.hostname"),
        s.Exec(candidates=("/a",), argv=("/a",), env=("PASSWORD=hunter2",)),
    ),
    source="spec.containers[0]",
)


def new(directory: Path, keep: int = 2) -> Timeline:
    return Timeline(keep, lambda: str(directory), "boot-1")


def test_the_steps_of_a_launch_get_their_marks(tmp_path: Path) -> None:
    async def go() -> None:
        line = new(tmp_path)
        start = line.begin("app", 0, 0)
        start.launched(LAUNCH, [100, 200, 210, 250, 400])
        (found,) = line.starts()
        assert [(span.by, span.began, span.ended) for span in found.spans[:4]] == [
            ("shim", 100, 200),
            ("clone", 200, 210),
            ("clone", 210, 250),
            ("clone", 250, 400),
        ]
        assert found.spans[2].what == "sethostname web"
        assert found.spans[2].source == "spec.hostname"
        assert found.spans[4].began == 400
        assert "hunter2" not in repr(found)
        line.close()

    asyncio.run(go())


def test_a_launch_that_failed_ends_where_it_did(tmp_path: Path) -> None:
    async def go() -> None:
        line = new(tmp_path)
        line.begin("app", 0, 0).launched(LAUNCH, [100, 200, 210])
        spans = line.starts()[0].spans
        assert [span.what for span in spans[1:]] == [
            LAUNCH.steps[0].describe(),
            "failed: sethostname web",
        ]
        assert spans[-1].source == "spec.hostname"
        line.begin("app", 1, 0).launched(LAUNCH, [])  # a shim of before
        assert len(line.starts()[1].spans) == 1
        line.close()

    asyncio.run(go())


def test_what_was_noted_is_written_later_and_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED", 0.01)

    async def go() -> None:
        line = new(tmp_path)
        start = line.begin("app", 0, 0)
        start.open("readiness probe")
        with start.span("image", "image a"):
            pass
        assert not (tmp_path / "trace.json").exists()
        while not (tmp_path / "trace.json").exists():
            await asyncio.sleep(0.005)
        assert (tmp_path / "trace.json").stat().st_mode & 0o777 == 0o600
        start.close("readiness probe", "ready")
        start.close("readiness probe", "ready")  # once
        line.flush()
        again = new(tmp_path).starts()  # another agent
        assert [(span.stage, span.what) for span in again[0].spans] == [
            ("image", "image a"),
            ("readiness probe", "ready"),
        ]
        assert line.starts() == again

    asyncio.run(go())


def test_listeners_hear_each_span_once(tmp_path: Path) -> None:
    async def go() -> None:
        line, heard = new(tmp_path), list[str]()
        stop = line.listen(lambda start, spans: heard.extend(span.what for span in spans))
        start = line.begin("", 0, 0)
        start.step(s.MakeDirectory(path="/x"), 5)
        start.step(LAUNCH, 5)  # its steps come with the answer
        stop()
        start.add("host", "unheard", 5)
        assert heard == ["make directory /x (mode 0700)"]
        line.close()

    asyncio.run(go())


def test_nothing_is_noted_when_it_is_off(tmp_path: Path) -> None:
    line = new(tmp_path, keep=0)
    start = line.begin("", 0, 0)
    assert not start.is_on
    start.add("host", "x", 5)
    line.flush()
    assert line.starts() == [] and list(tmp_path.iterdir()) == []


def test_a_start_that_was_none_is_forgotten(tmp_path: Path) -> None:
    async def go() -> None:
        line = new(tmp_path)
        start = line.begin("app", 0, 0)
        start.add("image", "not there", 5)
        line.drop(start)
        assert line.starts() == []
        line.close()

    asyncio.run(go())


def begun(container: str, number: int, sandbox: int) -> Start:
    return Start(container, number, sandbox, "b", 1.0 + number, [Span("host", "x", 1, 2)])


def test_what_is_kept() -> None:
    """The last ones, and how the present sandbox came to be."""
    old = [begun("", 0, 0), begun("a", 0, 0)]
    new_ = [begun("", 1, 1), *(begun("a", number, 1) for number in range(1, 9))]
    kept = [start.key for start in module._merge(old, new_, 2)]
    assert kept == [("", 0), ("", 1), ("a", 1), ("a", 7), ("a", 8)]


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"container": 5}]'])
def test_a_broken_file_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "trace.json").write_text(text)
    assert new(tmp_path).starts() == []


def test_without_a_directory_it_waits_for_one(tmp_path: Path) -> None:
    async def go() -> None:
        line = new(tmp_path / "later")
        line.begin("", 0, 0).add("host", "x", 5)
        line.flush()
        (tmp_path / "later").mkdir()
        line.flush()
        assert (tmp_path / "later" / "trace.json").exists()

    asyncio.run(go())
