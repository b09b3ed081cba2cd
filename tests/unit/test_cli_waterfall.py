# SPDX-License-Identifier: GPL-3.0-or-later
"""A start as a picture: what it shows, the critical path, and its three forms."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from minipod.cli import waterfall
from minipod.cli.output import painter
from minipod.cli.tracepage import events, page
from minipod.cli.waterfall import Picture, picture, summary

Json = dict[str, Any]
MS = 1_000_000
BLOCKS = "[▏▎▍▌▋▊▉█]"
EVIL = "</title><script>alert(1)</script>\x1b[31m\u202e"


def span(stage: str, what: str, began: float, ended: float, **more: str) -> Json:
    return {
        "stage": stage,
        "what": what,
        "began": int(began * MS),
        "ended": int(ended * MS),
        **more,
    }


def start(container: str, number: int, *spans: Json, sandbox: int = 0) -> Json:
    head = {"container": container, "number": number, "sandbox": sandbox, "boot": "b", "wall": 1e9}
    return {**head, "spans": list(spans)}


DATA: Json = {
    "namespace": "default",
    "name": "web",
    "recorded": True,
    "containers": [{"name": "a", "kind": "init"}, {"name": "b", "kind": "app"}],
    "starts": [
        start(
            "",
            0,
            span("accept", "read", 100, 102),
            span("host", "mkdir", 102, 103),
            span("host", "shim", 103, 110),
            span("launch", "clone", 110, 111, by="shim"),
            span("launch", "unshare", 111, 113, by="clone", source="spec.hostNetwork"),
            span("network", "veth", 112, 120),
        ),
        start("a", 0, span("image", "image x", 121, 122), span("run", "ran", 122, 150)),
        start("b", 0, span("image", EVIL, 121, 121.5), span("launch", "exec", 150, 160)),
        start("b", 1, span("launch", "later", 500, 501)),
    ],
}


def drawn(data: Json = DATA, container: str = "") -> Picture:
    shown = picture(data, container)
    assert shown
    return shown


def lines(shown: Picture, width: int, *, every: bool = False) -> list[str]:
    return waterfall.text(shown, width, lambda text, colour: text, every=every)


def test_the_first_start_of_each_counts() -> None:
    shown = drawn()
    assert shown.total == 60 * MS
    assert [lane.title for lane in shown.lanes] == ["sandbox", "init container a", "container b"]
    assert drawn(container="b").total == 1 * MS
    assert drawn(container="b").lanes[0].title == "container b, run 2"
    assert picture(DATA, "c") is None
    assert picture({**DATA, "starts": []}) is None


def test_another_sandbox_is_another_picture() -> None:
    again = start("", 1, span("host", "mkdir", 900, 905), sandbox=1)
    shown = drawn({**DATA, "starts": [*DATA["starts"], again]})
    assert [lane.title for lane in shown.lanes] == ["sandbox 2"]


def test_the_critical_path() -> None:
    """What the end waited for; what ran beside it is not on it."""
    shown = drawn()
    found = [bar.what for _, _, bar in shown.path]
    assert found == ["read", "mkdir", "shim", "clone", "veth", "image x", "ran", "exec"]
    bars = [bar for lane in shown.lanes for stage in lane.stages for bar in stage.bars]
    assert [bar.what for bar in bars if not bar.critical] == ["unshare", EVIL]
    rows = summary(shown)
    assert rows[0][:2] == ("sandbox", 19 * MS)
    assert (
        rows[0][2]
        == "request accepted 2.0 ms, made on the host 8.0 ms, launched 1.0 ms, network 8.0 ms"
    )
    assert rows[-1] == ("between them", 2 * MS, "")
    assert sum(row[1] for row in rows) == shown.total


def test_at_a_tie_the_path_stays_in_its_lane() -> None:
    data = {
        **DATA,
        "starts": [
            start("", 0, span("host", "x", 0, 1)),
            start("a", 0, span("image", "mine", 1, 5), span("launch", "last", 5, 9)),
            start("b", 0, span("image", "other", 1, 5)),
        ],
    }
    assert [bar.what for _, _, bar in drawn(data).path] == ["x", "mine", "last"]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_lines_fit_and_are_harmless(width: int) -> None:
    for every in (False, True):
        text = lines(drawn(), width, every=every)
        assert max(map(len, text)) <= width
        assert not re.search("[\x00-\x1f\u202e]", "".join(text))
    assert any("script" in line for line in lines(drawn(), 200, every=True))


def test_what_a_row_says() -> None:
    text = lines(drawn(), 80)
    assert text[0].startswith("pod default/web: 60.0 ms from 2001-09-")
    bars = {line[2:30].split("   ")[0].strip(): line for line in text if re.search(BLOCKS, line)}
    rows = {title: (line, re.search(BLOCKS, line).start()) for title, line in bars.items()}  # type: ignore[union-attr]
    title = next(title for title in rows if title.startswith("made on the host"))
    assert rows[title][0].startswith("* ") and " 8.0 ms " in rows[title][0]
    assert rows["request accepted"][1] < rows["network: veth"][1] < rows["ran"][1]


def test_short_steps_are_shown_on_demand() -> None:
    tiny = start("", 0, span("host", "long", 0, 100), span("host", "short", 100, 100.1))
    data = {**DATA, "starts": [tiny]}
    assert not any("short" in line for line in lines(drawn(data), 80))
    assert any("short" in line for line in lines(drawn(data), 80, every=True))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing() -> None:
    text = page(drawn())
    parser = _Page()
    parser.feed(text)
    assert parser.open == []
    assert {tag for tag, _ in parser.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "b", "span", "div"),
        *("details", "summary"),
    }
    assert not any(name in attrs for _, attrs in parser.tags for name in ("src", "href"))
    assert "url(" not in text and "@import" not in text and "http://" not in text
    assert "\x1b" not in text and "\u202e" not in text
    assert "spec.hostNetwork" in text


def test_trace_events() -> None:
    made = json.loads(json.dumps(events(drawn())))["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in made if e["name"] == "thread_name"}
    assert names == {1: "sandbox", 2: "init container a", 3: "container b"}
    complete = [e for e in made if e["ph"] == "X"]
    assert all(e["dur"] >= 0 and e["ts"] >= 0 and e["pid"] == 1 for e in complete)
    (unshare,) = [e for e in complete if e["name"] == "unshare"]
    assert (unshare["ts"], unshare["dur"], unshare["tid"]) == (11000.0, 2000.0, 1)
    assert unshare["args"] == {"by": "clone", "critical": False, "field": "spec.hostNetwork"}


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 µs"),
        (999_499, "999 µs"),
        (999_500, "1.0 ms"),
        (99_949_999, "99.9 ms"),
        (99_950_000, "100 ms"),
        (999_499_999, "999 ms"),
        (999_500_000, "1.00 s"),
        (61_000_000_000, "61.00 s"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert waterfall.duration(ns) == text


def test_no_colour_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    assert painter(io.StringIO())("x", "red") == "x"
