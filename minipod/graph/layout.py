# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything stands: pods as frames in rows, containers as cards in them, below each row the bridge.

A pod's frame holds its volumes and, in an inner frame with its shared namespaces, the pause process and a card per
container. Volumes are told apart by colour, not by lines, which ten containers would make a tangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minipod.graph.model import KINDS, Container, Picture, Pod, Process, Volume, short
from minipod.graph.words import BODY, MONO, NAME, SMALL, TITLE, Font, clean, fit_pixels, width

CARD = 296.0  # the width of a container
COLUMNS = 4  # containers beside each other
MOST_PROCESSES = 8
MOST_MOUNTS = 12
COLOURS = 8
_PAD, _GAP, _LINE = 14.0, 12.0, 17.0
_CHIP = 20.0
_WIRE = 52.0
_RAIL = 34.0
_MARGIN = 24.0
_WIDEST_ROW = 1500.0
_INDENT = 8 * MONO.size * MONO.advance  # behind "limits"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; *tip* is what the pointer shows."""

    x: float
    y: float
    w: float
    h: float
    style: str
    radius: float = 8
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text, with its base line at *y*; *x* is where it starts, or its ``middle`` or ``end``, as *align* says.

    Attributes:
        room: the width that it has.
        tip: what the pointer shows.
    """

    x: float
    y: float
    text: str
    font: Font
    style: str
    room: float
    tip: str = ""
    align: str = "start"


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line, with an arrow at its end where *arrow* says so."""

    x1: float
    y1: float
    x2: float
    y2: float
    style: str
    arrow: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """A filled circle."""

    x: float
    y: float
    r: float
    style: str


Shape = Box | Words | Line | Dot


@dataclass(slots=True)
class Drawing:
    """Shapes, in the order in which they are painted, and the size of all."""

    w: float = 0
    h: float = 0
    shapes: list[Shape] = field(default_factory=list)

    def words(
        self,
        x: float,
        y: float,
        text: str,
        font: Font,
        style: str,
        room: float,
        *,
        middle: bool = False,
        end: bool = False,
    ) -> float:
        """Write *text* as far as there is *room* for it; return the width that it takes."""
        whole = clean(text)
        shown = fit_pixels(whole, room, font, middle=middle)
        tip = whole if shown != whole else ""
        align = "end" if end else "start"
        self.shapes.append(Words(x, y, shown, font, style, room, tip, align))
        return width(shown, font)

    def chip(self, x: float, y: float, text: str, style: str, room: float, tip: str = "") -> float:
        """Draw a small label at *x*, *y* (its upper left); return its width."""
        shown = fit_pixels(clean(text), room - 14, SMALL)
        wide = width(shown, SMALL) + 14
        self.shapes.append(Box(x, y, wide, _CHIP, style, _CHIP / 2, clean(tip or text)))
        middle, inner = x + wide / 2, wide - 14
        self.shapes.append(
            Words(middle, y + 14, shown, SMALL, f"{style}-text", inner, align="middle")
        )
        return wide


def layout(picture: Picture) -> Drawing:
    """Place a picture."""
    frames = [_Frame(pod) for pod in picture.pods]
    rows = _rows(frames)
    inner = max([sum(f.w + _GAP * 2 for f in row) - _GAP * 2 for row in rows] + [420.0])
    trunk = 30.0 if len(rows) > 1 else 0.0
    drawing = Drawing()
    drawing.w = inner + trunk + 4 * _MARGIN
    left = 2 * _MARGIN + trunk
    host = _MARGIN
    y = host + 46
    tops: list[float] = []
    behind = len(drawing.shapes)
    for row in rows:
        x, tall = left, max((frame.h for frame in row), default=0)
        for frame in row:
            frame.draw(drawing, x, y)
            if frame.pod.is_wired:
                _wire(drawing, frame, x, y + frame.h, y + tall + _WIRE)
            x += frame.w + 2 * _GAP
        y += tall + 2 * _GAP
        # Pods without a sandbox have no cable, and need no bridge.
        if any(frame.pod.is_wired for frame in row) or row is rows[-1]:
            y += _WIRE - 2 * _GAP
            tops.append(y)
            y += _RAIL + 2 * _GAP
    y = _bridge(drawing, picture, left - trunk, inner + trunk, trunk, tops)
    y = _host(drawing, picture, left - trunk, y, inner + trunk)
    around = Box(_MARGIN, host, drawing.w - 2 * _MARGIN, y + _PAD - host, "host", 14)
    drawing.shapes.insert(behind, around)
    drawing.words(2 * _MARGIN, host + 28, f"host {picture.host}", TITLE, "title", inner)
    y = _outside(drawing, y + _PAD)
    drawing.h = y + _MARGIN
    return drawing


def _rows(frames: Sequence[_Frame]) -> list[list[_Frame]]:
    rows: list[list[_Frame]] = [[]]
    used = 0.0
    for frame in frames:
        if rows[-1] and used + frame.w > _WIDEST_ROW:
            rows.append([])
            used = 0.0
        rows[-1].append(frame)
        used += frame.w + 2 * _GAP
    return rows


def _wire(drawing: Drawing, frame: _Frame, x: float, y: float, end: float) -> None:
    """Draw the veth pair from a pod's bottom edge, where its eth0 is, to the bridge below."""
    at, room = x + 2 * _PAD + 20, frame.w - 4 * _PAD
    drawing.shapes.append(Line(at, y, at, end, "wire"))
    drawing.chip(at - 20, y - _CHIP / 2, f"eth0 {frame.pod.address}", "net", room)
    drawing.words(at + 10, y + _WIRE - 18, f"veth {frame.pod.link}", SMALL, "muted mono", room)


def _bridge(
    drawing: Drawing, picture: Picture, x: float, wide: float, trunk: float, tops: list[float]
) -> float:
    """Draw the bridge: a rail below each row of pods, and what joins the rails; return where it ends."""
    if trunk:
        drawing.shapes.append(Box(x, tops[0], 12, tops[-1] - tops[0] + _RAIL, "bridge", 5))
    for top in tops[:-1]:
        drawing.shapes.append(Box(x, top, wide, 12, "bridge", 5))
    top = tops[-1]
    drawing.shapes.append(Box(x, top, wide, _RAIL, "bridge", 8))
    used = drawing.words(
        x + _PAD, top + 22, f"bridge {picture.bridge}", NAME, "bridge-text", wide * 0.6
    )
    drawing.words(
        x + _PAD + used + 14,
        top + 22,
        picture.bridge_address,
        MONO,
        "bridge-text mono",
        wide - used - 3 * _PAD,
    )
    return top + _RAIL


def _host(drawing: Drawing, picture: Picture, x: float, y: float, wide: float) -> float:
    """Draw what the host does with packets, as chips below the bridge; return where they end."""
    ports = [port for pod in picture.pods for port in pod.ports]
    texts = [(f"nft table {picture.table}: masquerade what leaves", "rule")]
    texts += [(f"hostPort {port}", "port") for port in ports]
    at, y = x, y + _GAP
    for text, style in texts:
        need = width(clean(text), SMALL) + 14
        if at > x and at + need > x + wide:
            at, y = x, y + _CHIP + 6
        at += drawing.chip(at, y, text, style, min(need + 1, wide)) + 8
    return y + _CHIP


def _outside(drawing: Drawing, y: float) -> float:
    middle = drawing.w / 2
    drawing.shapes.append(Line(middle, y, middle, y + 30, "wire", arrow=True))
    text = "outside"
    wide = width(text, BODY) + 40
    drawing.shapes.append(Box(middle - wide / 2, y + 32, wide, 28, "outside", 14))
    drawing.words(middle - wide / 2 + 20, y + 50, text, BODY, "outside-text", wide - 40)
    return y + 60


class _Frame:
    """A pod: its size, then its shapes.

    Attributes:
        w, h: its size.
    """

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self._colour = {v.name: f"volume{i % COLOURS}" for i, v in enumerate(pod.volumes)}
        self._cards = [_Card(each, self._colour) for each in pod.containers]
        columns = max(1, min(COLUMNS, len(self._cards)))
        self._rows = [self._cards[i : i + columns] for i in range(0, len(self._cards), columns)]
        # The last two rows alike, rather than a full one and a lonely card.
        if len(self._rows) > 1:
            even = -(-len(self._cards) // len(self._rows))
            self._rows = [self._cards[i : i + even] for i in range(0, len(self._cards), even)]
            columns = even
        heading = width(clean(pod.name), TITLE) + width(self._side(), SMALL) + 14 + 16 + 2 * _PAD
        self.w = columns * CARD + (columns - 1) * _GAP + 4 * _PAD
        self.w = max(self.w, min(heading + 4, 2 * CARD))
        self._volumes = self._place_volumes()
        self._shared = self._place_shared()
        heights = [max(card.h for card in row) for row in self._rows]
        self._inner = (
            _PAD
            + (self._shared[-1][1] + _CHIP if self._shared else 0)
            + (_GAP + 30 if pod.pause else 0)
            + sum(height + _GAP for height in heights)
            + _PAD
            + (_CHIP / 2 if pod.is_wired else 0)
        )
        self._above = 62 + (self._volumes[-1][1] + _CHIP + _GAP if self._volumes else 0)
        self.h = self._above + self._inner + _PAD

    def _side(self) -> str:
        return clean(" · ".join(filter(None, (self.pod.phase, self.pod.quality))))

    def _flow(self, texts: list[str], room: float) -> list[tuple[float, float]]:
        """Return where chips with these texts stand, relative to the first."""
        places: list[tuple[float, float]] = []
        x = y = 0.0
        for text in texts:
            need = min(width(clean(text), SMALL) + 14, room)
            if x and x + need > room:
                x, y = 0.0, y + _CHIP + 6
            places.append((x, y))
            x += need + 8
        return places

    def _place_volumes(self) -> list[tuple[float, float]]:
        return self._flow([_volume_text(v) for v in self.pod.volumes], self.w - 2 * _PAD)

    def _place_shared(self) -> list[tuple[float, float]]:
        return self._flow(list(self._shared_texts()), self.w - 4 * _PAD)

    def _shared_texts(self) -> dict[str, str]:
        found = {}
        for kind in KINDS:
            if inode := self.pod.namespaces.get(kind):
                name = f" {self.pod.hostname}" if kind == "uts" and self.pod.hostname else ""
                found[f"{kind} {short(inode)}{name}"] = f"{kind}:[{inode}]{name}"
        if self.pod.host_network:
            found["net: the host's"] = "hostNetwork: true"
        return found

    def draw(self, drawing: Drawing, x: float, y: float) -> None:
        """Add the shapes, with the upper left corner at *x*, *y*."""
        pod = self.pod
        drawing.shapes.append(Box(x, y, self.w, self.h, "pod", 12))
        room = self.w - 2 * _PAD
        side = self._side()
        pill = min(width(side, SMALL) + 14, room * 0.5)
        style = {"Running": "good", "Succeeded": "quiet", "Failed": "bad"}.get(pod.phase, "warn")
        drawing.chip(x + self.w - _PAD - pill, y + 13, side, style, pill + 1)
        drawing.words(x + _PAD, y + 29, pod.name, TITLE, "title", room - pill - 16, middle=True)
        drawing.words(
            x + _PAD, y + 47, f"pod in namespace {pod.namespace}", BODY, "muted", room, middle=True
        )
        for volume, (dx, dy) in zip(pod.volumes, self._volumes, strict=True):
            style = self._colour[volume.name]
            text = _volume_text(volume)
            wide = width(clean(text), SMALL) + 15
            drawing.chip(x + _PAD + dx, y + 62 + dy, text, style, min(wide, room))
        self._draw_inner(drawing, x + _PAD, y + self._above, self.h - self._above - _PAD)

    def _draw_inner(self, drawing: Drawing, x: float, y: float, h: float) -> None:
        wide = self.w - 2 * _PAD
        drawing.shapes.append(Box(x, y, wide, h, "shared", 10))
        for (text, tip), (dx, dy) in zip(self._shared_texts().items(), self._shared, strict=True):
            room = min(width(clean(text), SMALL) + 15, wide - 2 * _PAD)
            drawing.chip(x + _PAD + dx, y + _PAD + dy, text, "ns", room, tip)
        at = y + _PAD + (self._shared[-1][1] + _CHIP if self._shared else 0)
        if self.pod.pause:
            at += _GAP
            drawing.shapes.append(Box(x + _PAD, at, wide - 2 * _PAD, 30, "pause", 6))
            drawing.shapes.append(Dot(x + _PAD + 14, at + 15, 4, "quiet-dot"))
            words, end = "pause holds what they share", x + wide - 2 * _PAD
            drawing.words(x + _PAD + 26, at + 19, words, BODY, "text", wide - 2 * _PAD - 90)
            drawing.words(end, at + 19, str(self.pod.pause), MONO, "muted mono", 60, end=True)
            at += 30
        for row in self._rows:
            at += _GAP
            tall = max(card.h for card in row)
            for index, card in enumerate(row):
                card.draw(drawing, x + _PAD + index * (CARD + _GAP), at, tall)
            at += tall


def _volume_text(volume: Volume) -> str:
    return " ".join(filter(None, (volume.name, volume.kind, volume.detail)))


def _lines(limits: Sequence[str]) -> list[str]:
    """Return limits with as many on a line as there is room for."""
    lines: list[str] = []
    for limit in map(clean, limits):
        joined = f"{lines[-1]}, {limit}" if lines else limit
        if lines and width(joined, MONO) <= CARD - 24 - _INDENT:
            lines[-1] = joined
        else:
            lines.append(limit)
    return lines


class _Card:
    """A container: its size, then its shapes.

    Attributes:
        h: its least height.
    """

    def __init__(self, container: Container, colours: dict[str, str]) -> None:
        self._container = container
        self._colours = colours
        self._processes = container.processes[:MOST_PROCESSES]
        self._mounts = container.mounts[:MOST_MOUNTS]
        lines = len(self._processes) + (len(container.processes) > MOST_PROCESSES)
        mounts = len(self._mounts) + (len(container.mounts) > MOST_MOUNTS)
        self.h = 50 + (26.0 if container.namespaces else 0)
        self._limits = _lines(container.limits)
        for count in (lines, len(self._limits), mounts):
            self.h += count * _LINE + 9 if count else 0
        self.h += 6

    def draw(self, drawing: Drawing, x: float, y: float, h: float) -> None:
        """Add the shapes, with the upper left corner at *x*, *y* and a height of *h*."""
        container = self._container
        drawing.shapes.append(Box(x, y, CARD, h, "card", 8))
        left, room = x + 12, CARD - 24
        dot = {"running": "good", "failed": "bad", "done": "quiet"}.get(container.state, "warn")
        drawing.shapes.append(Dot(left + 4, y + 17, 4.5, f"{dot}-dot"))
        tag, style = container.role, "ns"
        if container.state != "running":
            tag = " · ".join(filter(None, (container.reason or container.state, tag)))
            style = dot
        pill = 0.0
        if tag:
            # What the name leaves, and never less than a word.
            left_over = room - 22 - width(clean(container.name), NAME)
            pill = min(width(clean(tag), SMALL) + 14, max(left_over, 100.0))
            drawing.chip(left + room - pill, y + 7, tag, style, pill + 1)
        drawing.words(
            left + 16, y + 22, container.name, NAME, "name", room - 22 - pill, middle=True
        )
        drawing.words(left, y + 40, container.image, MONO, "muted mono", room, middle=True)
        at = y + 50
        if container.namespaces:
            self._draw_namespaces(drawing, left, at, room)
            at += 26
        at = self._draw_processes(drawing, left, at, room)
        at = self._draw_limits(drawing, left, at, room)
        self._draw_mounts(drawing, left, at, room)

    def _draw_namespaces(self, drawing: Drawing, x: float, y: float, room: float) -> None:
        at = x
        for kind in KINDS:
            if inode := self._container.namespaces.get(kind):
                left = room - (at - x)
                if left > 40:
                    at += 6 + drawing.chip(
                        at, y, f"{kind} {short(inode)}", "own", left, f"{kind}:[{inode}]"
                    )

    @staticmethod
    def _rule(drawing: Drawing, x: float, y: float, room: float) -> float:
        drawing.shapes.append(Line(x, y + 4, x + room, y + 4, "rule-line"))
        return y + 9

    def _draw_processes(self, drawing: Drawing, x: float, y: float, room: float) -> float:
        if not self._processes:
            return y
        y = self._rule(drawing, x, y, room)
        number = max(len(str(each.pid)) for each in self._processes)
        outside = max(len(str(each.host_pid)) for each in self._processes)
        for each in self._processes:
            self._draw_process(drawing, each, x, y + 12, room, number, outside)
            y += _LINE
        more = len(self._container.processes) - len(self._processes)
        if more:
            drawing.words(x, y + 12, f"… and {more} more", MONO, "muted mono", room)
            y += _LINE
        return y

    @staticmethod
    def _draw_process(
        drawing: Drawing,
        process: Process,
        x: float,
        y: float,
        room: float,
        number: int,
        outside: int,
    ) -> None:
        step = MONO.size * MONO.advance
        drawing.words(
            x + number * step, y, str(process.pid), MONO, "pid mono", number * step + 1, end=True
        )
        start = (number + 1 + 2 * min(process.depth, 4)) * step
        right = (outside + 1) * step
        drawing.words(x + start, y, process.command, MONO, "text mono", room - start - right)
        drawing.words(x + room, y, str(process.host_pid), MONO, "muted mono", right, end=True)

    def _draw_limits(self, drawing: Drawing, x: float, y: float, room: float) -> float:
        if not self._limits:
            return y
        y = self._rule(drawing, x, y, room)
        drawing.words(x, y + 12, "limits", MONO, "muted mono", room)
        for line in self._limits:
            drawing.words(x + _INDENT, y + 12, line, MONO, "text mono", room - _INDENT)
            y += _LINE
        return y

    def _draw_mounts(self, drawing: Drawing, x: float, y: float, room: float) -> None:
        if not self._mounts:
            return
        y = self._rule(drawing, x, y, room)
        for mount in self._mounts:
            colour = self._colours.get(mount.volume, "volume0")
            drawing.shapes.append(Box(x, y + 3, 10, 10, f"{colour}", 3))
            note = "read-only" if mount.read_only else ""
            side = width(note, MONO) + 8 if note else 0.0
            path_room = room - 18 - side
            drawing.words(x + 18, y + 12, mount.path, MONO, "text mono", path_room, middle=True)
            if note:
                drawing.words(x + room, y + 12, note, MONO, "muted mono", side, end=True)
            y += _LINE
        more = len(self._container.mounts) - len(self._mounts)
        if more:
            drawing.words(x, y + 12, f"… and {more} more", MONO, "muted mono", room)
