# SPDX-License-Identifier: GPL-3.0-or-later
"""A start as one HTML page that needs nothing else, and as a Trace Event file. Pure.

Sources: "Trace Event Format" (catapult-project), which Perfetto and chrome://tracing read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from minipod.cli.output import escape as harmless
from minipod.cli.waterfall import Bar, Lane, Picture, duration, summary

Json = dict[str, Any]

_TITLED = ("accept", "prepare", "host", "launch", "network", "postStart")
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --dim: #667; --back: #fff; --line: #d8dee4; --bar: #4c8dd6;
  --clone: #59a89c; --hot: #d1495b; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --dim: #9aa; --back: #14171a; --line: #30363d;
  --bar: #5b9be0; --clone: #6cc0b2; --hot: #f0717f; } }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto;
  max-width: 1400px; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 1.4rem 0 .2rem; }
p { color: var(--dim); margin: .3rem 0; }
.row { display: grid; grid-template-columns: minmax(16rem, 34%) 6rem 1fr; gap: .8rem; align-items: center;
  border-bottom: 1px solid var(--line); padding: 1px 0; }
.name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.step .name { padding-left: 1.6rem; font: 12px ui-monospace, monospace; }
.took { text-align: right; font-variant-numeric: tabular-nums; }
.track { position: relative; height: 1rem; background: linear-gradient(90deg, var(--line) 1px, transparent 1px)
  0 0 / 10% 100%; }
.bar { position: absolute; top: .12rem; bottom: .12rem; min-width: 2px; border-radius: 2px; background: var(--bar); }
.clone { background: var(--clone); } .critical { background: var(--hot); }
summary { list-style: none; cursor: pointer; } summary .name::before { content: "▸ "; }
details[open] summary .name::before { content: "▾ "; } .plain .name::before { content: "\\00a0\\00a0\\00a0"; }
.scale { border: 0; margin-top: 1.5rem; color: var(--dim); font-size: 12px; } .scale span { position: absolute;
  padding-left: .3em; } .step .track { background-color: color-mix(in srgb, var(--line) 35%, transparent); }
.key span { display: inline-block; width: 1.2em; height: .8em; border-radius: 2px; margin: 0 .3em 0 1em; }
"""


def page(shown: Picture) -> str:
    """Return the waterfall as an HTML page: no script, nothing that is fetched; each stage can be unfolded."""
    began = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(shown.began))
    title = _html(f"{shown.title}: {duration(shown.total)}")
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1><p>begun {_html(began)}</p>",
        "<h2>critical path</h2>",
        *(
            f"<p><b>{_html(whose)}</b> {_html(duration(took))} {_html(words)}</p>"
            for whose, took, words in summary(shown)
        ),
        '<p class="key"><span style="background:var(--bar)"></span>agent, shim'
        '<span style="background:var(--clone)"></span>in the clone'
        '<span style="background:var(--hot)"></span>critical path. Unfolded: on the scale of the stage.</p>',
    ]
    lines.append(_scale(shown.total))
    for lane in shown.lanes:
        lines += _lane(lane, shown.total)
    return "\n".join([*lines, "</body></html>", ""])


def _html(text: str) -> str:
    from html import escape

    return escape(harmless(text))


def _scale(total: int) -> str:
    marks = "".join(
        f'<span style="left:{10 * part}%">{_html(duration(total * part // 10))}</span>'
        for part in range(0, 10, 2)
    )
    return f'<div class="row scale"><div></div><div></div><div class="track">{marks}</div></div>'


def _lane(lane: Lane, total: int) -> Iterator[str]:
    yield f"<h2>{_html(lane.title)}</h2>"
    for stage in lane.stages:
        whole = Bar(stage.title, stage.began, stage.ended, "", "agent", stage.critical)
        if len(stage.bars) == 1:
            own = stage.bars[0].what
            whole.what = f"{stage.title}: {own}" if stage.name in _TITLED else own
            yield _row(whole, 0, total, "row plain")
            continue
        yield f"<details><summary>{_row(whole, 0, total, 'row')}</summary>"
        # On a scale of their own, which is the stage: microseconds are not seen on that of the whole.
        for bar in stage.bars:
            yield _row(bar, stage.began, stage.ended - stage.began, "row step")
        yield "</details>"


def _row(bar: Bar, start: int, total: int, kind: str) -> str:
    left, width = 100 * (bar.began - start) / max(1, total), 100 * bar.took / max(1, total)
    colour = "critical" if bar.critical else "clone" if bar.by == "clone" else ""
    words = _html(bar.what)
    title = words + (f" — {_html(bar.source)}" if bar.source else "")
    return (
        f'<div class="{kind}" title="{title}"><div class="name">{words}</div>'
        f'<div class="took">{_html(duration(bar.took))}</div><div class="track">'
        f'<div class="bar {colour}" style="left:{left:.3f}%;width:{width:.3f}%"></div></div></div>'
    )


def events(shown: Picture) -> Json:
    """Return a Trace Event file: a process for the pod, a thread for each lane, times in µs."""
    made: list[Json] = [
        {"ph": "M", "pid": 1, "tid": 0, "name": "process_name", "args": {"name": shown.title}}
    ]
    for number, lane in enumerate(shown.lanes, 1):
        thread = {"pid": 1, "tid": number}
        made.append({"ph": "M", **thread, "name": "thread_name", "args": {"name": lane.title}})
        order = {"name": "thread_sort_index", "args": {"sort_index": number}}
        made.append({"ph": "M", **thread, **order})
        for stage in lane.stages:
            if len(stage.bars) > 1:
                whole = Bar(stage.title, stage.began, stage.ended, "", "agent", stage.critical)
                made.append({**thread, **_complete(whole, "stage")})
            made += [{**thread, **_complete(bar, stage.name)} for bar in stage.bars]
    return {"traceEvents": made, "displayTimeUnit": "ms"}


def _complete(bar: Bar, category: str) -> Json:
    more = {"field": bar.source} if bar.source else {}
    return {
        "ph": "X",
        "name": bar.what,
        "cat": category,
        "ts": bar.began / 1000,
        "dur": bar.took / 1000,
        "args": {"by": bar.by, "critical": bar.critical, **more},
    }
