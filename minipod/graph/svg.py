# SPDX-License-Identifier: GPL-3.0-or-later
"""A drawing as SVG, for light and dark pages, and as one HTML page."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from minipod.graph.layout import Box, Dot, Line, Shape, Words, layout
from minipod.graph.model import Picture
from minipod.graph.words import clean

SANS = "'DejaVu Sans', Verdana, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MONO = "'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
_BOLD = ("title", "name", "bridge-text")


class _Ink(NamedTuple):
    """Colours of a box: what fills it, what surrounds it, and its words."""

    fill: str
    line: str = "none"
    text: str = ""


_LIGHT = {
    "page": _Ink("#ffffff"),
    "host": _Ink("#f6f8fa", "#d0d7de"),
    "pod": _Ink("#ffffff", "#8c959f"),
    "shared": _Ink("#eef6ff", "#80b3ec"),
    "pause": _Ink("#ffffff", "#b6d4f5"),
    "card": _Ink("#ffffff", "#afb8c1"),
    "ns": _Ink("#d4e7fd", "none", "#0a4a94"),
    "own": _Ink("#eaeef2", "none", "#424a53"),
    "tag": _Ink("#fff4d6", "none", "#6f4a00"),
    "net": _Ink("#0b6e4f", "none", "#ffffff"),
    "bridge": _Ink("#0b6e4f", "none", "#ffffff"),
    "rule": _Ink("#eaeef2", "none", "#424a53"),
    "port": _Ink("#fff4d6", "none", "#6f4a00"),
    "outside": _Ink("#ffffff", "#8c959f", "#1f2328"),
    "good": _Ink("#d3f5dc", "none", "#11602b"),
    "warn": _Ink("#fff4d6", "none", "#6f4a00"),
    "bad": _Ink("#ffe0dd", "none", "#a40e26"),
    "quiet": _Ink("#eaeef2", "none", "#424a53"),
}
_DARK = {
    "page": _Ink("#0d1117"),
    "host": _Ink("#11161d", "#30363d"),
    "pod": _Ink("#161b22", "#6e7681"),
    "shared": _Ink("#10233a", "#2f6db5"),
    "pause": _Ink("#161b22", "#264d7d"),
    "card": _Ink("#1b222b", "#484f58"),
    "ns": _Ink("#1d426e", "none", "#cfe5ff"),
    "own": _Ink("#2d343d", "none", "#c9d1d9"),
    "tag": _Ink("#4a3a10", "none", "#f5d98a"),
    "net": _Ink("#1f9e74", "none", "#04150f"),
    "bridge": _Ink("#1f9e74", "none", "#04150f"),
    "rule": _Ink("#2d343d", "none", "#c9d1d9"),
    "port": _Ink("#4a3a10", "none", "#f5d98a"),
    "outside": _Ink("#0d1117", "#6e7681", "#e6edf3"),
    "good": _Ink("#12401f", "none", "#9ff0b2"),
    "warn": _Ink("#4a3a10", "none", "#f5d98a"),
    "bad": _Ink("#571c1c", "none", "#ffb4ab"),
    "quiet": _Ink("#2d343d", "none", "#c9d1d9"),
}
_PLAIN = {  # (light, dark)
    "text": ("#1f2328", "#e6edf3"),
    "title": ("#1f2328", "#f0f6fc"),
    "name": ("#1f2328", "#f0f6fc"),
    "muted": ("#5b636d", "#9aa4af"),
    "pid": ("#0a4a94", "#8cc2ff"),
}
_DOTS = {
    "good-dot": ("#1a7f37", "#3fb950"),
    "warn-dot": ("#bf8700", "#d29922"),
    "bad-dot": ("#cf222e", "#f85149"),
    "quiet-dot": ("#8c959f", "#8b949e"),
}
# Volumes: told apart by hue, each with dark words on a light page and the other way round.
_HUES = (262, 28, 190, 330, 95, 8, 225, 55)


def svg(picture: Picture, *, theme: str = "auto") -> str:
    """Return *picture* as an SVG document.

    Args:
        picture: what to draw.
        theme: ``auto`` follows the page's (``prefers-color-scheme``); ``light`` and ``dark`` do not.
    """
    drawing = layout(picture)
    w, h = _number(drawing.w), _number(drawing.h)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
        f'role="img" aria-label="{escape(clean(picture.title))}">'
    )
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="4" markerHeight="4" '
        'orient="auto"><path class="arrow" d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    body = "\n".join(_shape(shape) for shape in drawing.shapes)
    page = f'<rect class="page" width="{w}" height="{h}"/>'
    return f"{head}\n<style>{_style(theme)}</style>\n{arrow}\n{page}\n{body}\n</svg>\n"


def html(picture: Picture) -> str:
    """Return *picture* as one HTML page that needs nothing else."""
    title = escape(clean(picture.title))
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<style>body{margin:0;background:#fff}svg{max-width:100%;height:auto;display:block;margin:auto}"
        "@media (prefers-color-scheme:dark){body{background:#0d1117}}</style></head>\n"
        f"<body>\n{svg(picture)}</body></html>\n"
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _shape(shape: Shape) -> str:
    n = _number
    if isinstance(shape, Words):
        anchor = "" if shape.align == "start" else f' text-anchor="{shape.align}"'
        size = n(shape.font.size)
        tip = f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
        return (
            f'<text class="{shape.style}" x="{n(shape.x)}" y="{n(shape.y)}" font-size="{size}"{anchor}>'
            f"{tip}{escape(shape.text)}</text>"
        )
    if isinstance(shape, Box):
        place = f'x="{n(shape.x)}" y="{n(shape.y)}" width="{n(shape.w)}" height="{n(shape.h)}"'
        start = f'<rect class="{shape.style}" {place} rx="{n(shape.radius)}"'
        return f"{start}><title>{escape(shape.tip)}</title></rect>" if shape.tip else f"{start}/>"
    if isinstance(shape, Line):
        ends = f'x1="{n(shape.x1)}" y1="{n(shape.y1)}" x2="{n(shape.x2)}" y2="{n(shape.y2)}"'
        arrow = ' marker-end="url(#arrow)"' if shape.arrow else ""
        return f'<line class="{shape.style}" {ends}{arrow}/>'
    assert isinstance(shape, Dot)
    return f'<circle class="{shape.style}" cx="{n(shape.x)}" cy="{n(shape.y)}" r="{n(shape.r)}"/>'


def _style(theme: str) -> str:
    fixed = (
        f"text{{font-family:{SANS}}}.mono,.ns-text,.own-text{{font-family:{MONO}}}"
        f".{',.'.join(_BOLD)}{{font-weight:600}}.bridge-text.mono{{font-weight:400}}"
        ".shared{stroke-dasharray:5 3}.wire{stroke-width:3}"
    )
    if theme == "dark":
        return fixed + _colours(dark=True)
    light = fixed + _colours(dark=False)
    if theme == "light":
        return light
    return f"{light}@media (prefers-color-scheme:dark){{{_colours(dark=True)}}}"


def _colours(*, dark: bool) -> str:
    rules = []
    for name, ink in (_DARK if dark else _LIGHT).items():
        rules.append(f".{name}{{fill:{ink.fill};stroke:{ink.line}}}")
        if ink.text:
            rules.append(f".{name}-text{{fill:{ink.text}}}")
    for name, pair in {**_PLAIN, **_DOTS}.items():
        rules.append(f".{name}{{fill:{pair[dark]}}}")
    for index, hue in enumerate(_HUES):
        fill, text = _volume(hue, dark=dark)
        rules.append(f".volume{index}{{fill:{fill}}}.volume{index}-text{{fill:{text}}}")
    green, rule = ("#1f9e74", "#30363d") if dark else ("#0b6e4f", "#d8dee4")
    rules.append(f".wire{{stroke:{green}}}.arrow{{fill:{green}}}.rule-line{{stroke:{rule}}}")
    return "".join(rules)


def _volume(hue: int, *, dark: bool) -> tuple[str, str]:
    """Return the colours of a volume's chip and of its words, as numbers: not all programs know ``hsl()``."""
    import colorsys

    def shade(light: float, much: float) -> str:
        parts = colorsys.hls_to_rgb(hue / 360, light, much)
        return "#" + "".join(f"{round(255 * part):02x}" for part in parts)

    return (shade(0.38, 0.45), shade(0.93, 0.8)) if dark else (shade(0.78, 0.75), shade(0.16, 0.7))
