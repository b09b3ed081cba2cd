# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of pods: nothing overflows or overlaps, hostile words stay words, equal input gives equal output."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.graph import diagrams
from minipod.graph.layout import COLUMNS, Box, Drawing, Words, layout
from minipod.graph.model import Container, Mount, Picture, Pod, Process, Volume, short
from minipod.graph.svg import html, svg
from minipod.graph.text import text
from minipod.graph.words import BODY, cells, clean, fit, fit_pixels, width

HOSTILE = (
    "<script>alert(1)</script>",
    "]]> -->",
    '"; node [label="x"] //',
    "a\nend\n```\nclick x",
    "\\",
    "\\N",
    "#quot;",
    "&amp;&lt;",
    "`x` | y",
    "\x1b[31mred\x07",
    "\x00\ud800\u202eabc\uffff",
    "日本語の名前がとても長い" * 4,
    "x" * 253,
    "",
)
SVG = "{http://www.w3.org/2000/svg}"


def container(name: str = "c", count: int = 1, **more: object) -> Container:
    fields: dict[str, object] = {
        "name": name,
        "image": "localhost/busybox:1",
        "namespaces": {"pid": "4026532555", "mnt": "4026532553", "cgroup": "4026532554"},
        "processes": tuple(Process(i + 1, 4000 + i, f"{name} {i}", i) for i in range(count)),
        "limits": ("cpu 500m", "memory 32Mi", "ephemeral-storage 1Gi"),
        "mounts": tuple(Mount(f"v{i}", f"/path/{i}", i % 2 == 0) for i in range(count)),
    }
    return Container(**{**fields, **more})  # type: ignore[arg-type]


def pod(name: str = "web", count: int = 2, **more: object) -> Pod:
    fields: dict[str, object] = {
        "namespace": "default",
        "name": name,
        "quality": "Burstable",
        "address": "10.99.0.4",
        "link": "mp0a630004",
        "hostname": name,
        "pause": 4711,
        "namespaces": {"net": "4026532456", "uts": "4026532450", "ipc": "4026532451"},
        "containers": tuple(container(f"c{i}", i + 1) for i in range(count)),
        "volumes": tuple(Volume(f"v{i}", "emptyDir", "memory 1Mi") for i in range(count)),
        "ports": ("8080/TCP → web 80",),
    }
    return Pod(**{**fields, **more})  # type: ignore[arg-type]


def picture(*pods: Pod) -> Picture:
    return Picture("node", "minipod0", "10.99.0.1/16", "minipod", pods)


def hostile(word: str) -> Picture:
    """Return a picture that says *word* wherever a manifest, an image or a process could."""
    inner = container(
        word,
        image=word,
        state="failed",
        reason=word,
        processes=(Process(1, 2, word),),
        limits=(word,),
        mounts=(Mount(word, word),),
    )
    return Picture(
        word,
        "minipod0",
        "10.99.0.1/16",
        "minipod",
        (
            pod(
                word,
                namespace=word,
                containers=(inner,),
                volumes=(Volume(word, word, word),),
                ports=(word,),
            ),
        ),
    )


PICTURES = [
    picture(pod()),
    picture(pod("big" * 60, 10)),
    picture(*(pod(f"p{i}", i) for i in range(7))),
    picture(pod("none", 0, volumes=())),
    picture(pod("host", 1, host_network=True, link="", namespaces={}, pause=0)),
    picture(pod("over", 1, containers=(container("many", 100),))),
    *map(hostile, HOSTILE),
]


def check(drawing: Drawing) -> None:
    """Check that words stay in their room and all in the drawing, and that no two boxes cross."""
    boxes = [shape for shape in drawing.shapes if isinstance(shape, Box)]
    for box in boxes:
        assert (
            box.x >= 0 and box.x + box.w <= drawing.w and box.y >= 0 and box.y + box.h <= drawing.h
        )
    for words in (shape for shape in drawing.shapes if isinstance(shape, Words)):
        wide = width(words.text, words.font)
        assert wide <= words.room + 0.01, words
        left = words.x - {"start": 0.0, "middle": wide / 2, "end": wide}[words.align]
        right = left + wide
        assert any(
            box.x - 0.01 <= left
            and right <= box.x + box.w + 0.01
            and box.y < words.y <= box.y + box.h
            for box in boxes
        ), words
    for style in ("pod", "card"):
        alike = [box for box in boxes if box.style == style]
        for one, other in itertools.combinations(alike, 2):
            assert apart(one, other), (one, other)
    for card in (box for box in boxes if box.style == "card"):
        assert any(inside(card, box) for box in boxes if box.style == "shared")
    for frame in (box for box in boxes if box.style == "shared"):
        assert any(inside(frame, box) for box in boxes if box.style == "pod")


def apart(one: Box, other: Box) -> bool:
    return (
        one.x + one.w <= other.x
        or other.x + other.w <= one.x
        or one.y + one.h <= other.y
        or other.y + other.h <= one.y
    )


def inside(one: Box, other: Box) -> bool:
    return (
        other.x <= one.x
        and one.x + one.w <= other.x + other.w
        and other.y <= one.y
        and one.y + one.h <= other.y + other.h
    )


@pytest.mark.parametrize("what", PICTURES, ids=range(len(PICTURES)))
def test_nothing_overflows_or_overlaps(what: Picture) -> None:
    check(layout(what))


@given(st.integers(0, 12), st.integers(1, 5), st.text(max_size=300))
@settings(max_examples=40, deadline=None)
def test_any_picture_is_laid_out(containers: int, pods: int, word: str) -> None:
    found = picture(*(pod(word + str(i), containers) for i in range(pods)))
    check(layout(found))
    ET.fromstring(svg(found))
    assert all(cells(line) <= 72 for line in text(found, 72).splitlines())


def test_words_that_would_be_words_of_their_own_in_a_card_fail_the_check() -> None:
    """The check above sees what it is for."""
    drawing = layout(picture(pod()))
    index = next(i for i, s in enumerate(drawing.shapes) if isinstance(s, Words))
    bad = drawing.shapes[index]
    assert isinstance(bad, Words)
    drawing.shapes[index] = Words(bad.x, bad.y, "x" * 400, bad.font, bad.style, bad.room)
    with pytest.raises(AssertionError):
        check(drawing)


def test_ten_containers_stand_in_rows() -> None:
    cards = [
        s for s in layout(picture(pod("x", 10))).shapes if isinstance(s, Box) and s.style == "card"
    ]
    assert len(cards) == 10 and len({card.x for card in cards}) == COLUMNS
    for row in {card.y for card in cards}:
        assert len({card.h for card in cards if card.y == row}) == 1


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_are_words_in_svg_and_html(word: str) -> None:
    found = hostile(word)
    root = ET.fromstring(svg(found))
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        *("svg", "style", "defs", "marker", "path", "rect", "text", "title", "line", "circle")
    }
    assert not any(
        name.startswith("on") or "href" in name for each in root.iter() for name in each.attrib
    )
    everything = "".join(root.itertext())
    if len(word) < 30:
        assert clean(word) in everything
    page = html(found)
    assert "<script" not in page and "\x1b" not in page and "\x00" not in page
    assert page.count("<svg") == page.count("</svg>") == page.count("</html>") == 1
    page.encode()  # no surrogates


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_are_words_in_text(word: str) -> None:
    for columns in (40, 63, 100):
        shown = text(hostile(word), columns)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\ud800-\udfff]", shown)
        lines = shown.splitlines()
        assert all(cells(line) <= columns for line in lines)
        assert sum(line.startswith("┌") for line in lines) == 1


# One statement of the graph per line, of these forms only; a label is one quoted string (Graphviz' "DOT Language").
_LABEL = r'"(?:[^"\\]|\\["\\l])*"'
_ATTRIBUTES = (
    rf"\[label={_LABEL}(?:, (?:dir=none|ltail=cluster_p\d+|style=filled|fillcolor=palegreen))*\];"
)
DOT_LINES = (
    r"digraph minipod \{",
    r"  (?:graph|node|edge) \[[a-z0-9=, .A-Z]+\];",
    r"  subgraph cluster_p\d+ \{",
    rf"    label={_LABEL}; style=rounded; labeljust=l;",
    rf"    p\d+_(?:pause|c\d+) {_ATTRIBUTES}",
    rf"    p\d+_v\d+ \[shape=cylinder, label={_LABEL}\];",
    rf"    p\d+_c\d+ -> p\d+_v\d+ {_ATTRIBUTES}",
    r"  \}",
    rf"  (?:p\d+_pause -> bridge|bridge|bridge -> outside|outside -> p\d+_pause) {_ATTRIBUTES}",
    rf"  outside \[shape=ellipse, label={_LABEL}\];",
    r"\}",
)
_TEXT = r'"(?:[\w .,:/\-@()=]|<br/>|#\d+;)*"'
MERMAID_LINES = (
    "flowchart TB",
    rf" +subgraph \w+\[{_TEXT}\]",
    rf" +\w+\[{_TEXT}\]",
    rf" +\w+\[\({_TEXT}\)\]",
    rf" +\w+ ---\|{_TEXT}\| \w+",
    rf" +(?:bridge|outside) -->\|{_TEXT}\| \w+(?:\(\({_TEXT}\)\))?",
    " +end",
)


@pytest.mark.parametrize("what", PICTURES, ids=range(len(PICTURES)))
def test_dot_has_no_line_but_these(what: Picture) -> None:
    made = diagrams.dot(what)
    for line in made.splitlines():
        assert any(re.fullmatch(form, line) for form in DOT_LINES), line
    assert made.count("{\n") == made.count("}\n")
    if dot := shutil.which("dot"):  # graphviz itself, where it is
        done = subprocess.run([dot, "-Tcanon"], input=made.encode(), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("what", PICTURES, ids=range(len(PICTURES)))
def test_mermaid_has_no_line_but_these(what: Picture) -> None:
    made = diagrams.mermaid(what)
    depth = 0
    for line in made.splitlines():
        assert any(re.fullmatch(form, line) for form in MERMAID_LINES), line
        depth += line.strip().startswith("subgraph ")
        depth -= line.strip() == "end"
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize("draw", [svg, html, text, diagrams.dot, diagrams.mermaid])
def test_equal_input_gives_equal_output(draw: object) -> None:
    assert callable(draw)
    assert draw(picture(pod())) == draw(picture(pod()))


def test_both_themes() -> None:
    found = picture(pod())
    both, light, dark = (svg(found, theme=theme) for theme in ("auto", "light", "dark"))
    query = "@media (prefers-color-scheme:dark)"
    assert query in both and query not in light + dark
    assert light != dark
    used = {each for found in re.findall(r'class="([^"]+)"', both) for each in found.split()}
    for name in used - {"mono", "page"}:
        assert f".{name}{{" in light and f".{name}{{" in dark, name


def test_text_of_a_pod() -> None:
    small = Pod(
        "default",
        "web",
        address="10.99.0.4",
        link="mp0a630004",
        pause=7,
        namespaces={"net": "4026532456"},
        containers=(container("server", limits=("cpu 500m",)),),
        volumes=(Volume("v0", "emptyDir"),),
    )
    assert text(picture(small), 60).splitlines() == [
        "┌─ pod default/web ────────────────────────────── Running ─┐",
        "│ shared   net …2456                                       │",
        "│ volumes  v0 emptyDir                                     │",
        "│ pause    7, holds what they share                        │",
        "│ ┌─ server ─────────────────────────────────── running ─┐ │",
        "│ │ localhost/busybox:1                                  │ │",
        "│ │ own      pid …2555  mnt …2553  cgroup …2554          │ │",
        "│ │ 1 server 0                                      4000 │ │",
        "│ │ limits   cpu 500m                                    │ │",
        "│ │ mounts   v0 at /path/0 read-only                     │ │",
        "│ └──────────────────────────────────────────────────────┘ │",
        "└────┬ eth0 10.99.0.4 ─────────────────────────────────────┘",
        "     │ veth mp0a630004",
        "═════╧══ bridge minipod0 10.99.0.1/16 ══════════════════════",
        "     │ host node: nft table minipod masquerades what leaves",
        "     ▼ outside",
    ]


def test_words_are_cut_to_the_room() -> None:
    assert fit("abcdef", 6) == "abcdef" and fit("abcdef", 5) == "abcd…" and fit("abc", 0) == ""
    assert fit("abcdefghij", 7, middle=True) == "abc…hij"
    assert fit("日本語", 4) == "日…" and cells("日本語") == 6
    assert fit_pixels("x" * 100, 3 * BODY.size * BODY.advance + 0.1, BODY) == "xx…"
    assert clean("a\x00b\u202ec\ud800") == "a\ufffdb\ufffdc\ufffd"
    assert short("4026532555") == "…2555" and short("42") == "42"
