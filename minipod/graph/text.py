# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture in a terminal's characters: boxes in boxes, down to the bridge."""

from __future__ import annotations

from collections.abc import Iterable

from minipod.graph.model import KINDS, Container, Picture, Pod, short
from minipod.graph.words import cells, clean, fit


def text(picture: Picture, columns: int = 80) -> str:
    """Return *picture* in lines of at most *columns* columns (40 and more)."""
    columns = max(columns, 40)
    lines: list[str] = []
    for pod in picture.pods:
        if lines:
            lines.append("")
        lines += _pod(pod, columns)
        if pod.is_wired:
            lines.append(f"     │ veth {clean(pod.link)}")
        for port in pod.ports:
            lines.append(fit(f"     │ hostPort {clean(port)}", columns))
    words = f" bridge {clean(picture.bridge)} {clean(picture.bridge_address)} "
    joint = "╧" if picture.pods and picture.pods[-1].is_wired else "═"
    lines.append(_filled(f"═════{joint}══{fit(words, columns - 9)}", "═", columns))
    words = f"     │ host {clean(picture.host)}: nft table {clean(picture.table)} masquerades what leaves"
    lines += [fit(words, columns), "     ▼ outside"]
    return "\n".join(lines)


def _filled(line: str, char: str, columns: int) -> str:
    return line + char * (columns - cells(line))


def _box(title: str, lines: Iterable[str], columns: int, side: str = "") -> list[str]:
    """Return *lines* in a box whose upper edge has *title* in it, and *side* at its right."""
    inner = columns - 4
    right = f" {fit(clean(side), inner // 2)} ─┐" if side else "─┐"
    head = fit(clean(title), columns - 5 - cells(right))
    top = _filled(f"┌─ {head} ", "─", columns - cells(right)) + right
    body = (fit(line, inner) for line in lines)
    return [
        top,
        *(f"│ {line}{' ' * (inner - cells(line))} │" for line in body),
        f"└{'─' * (columns - 2)}┘",
    ]


def _spaces(namespaces: dict[str, str]) -> str:
    return "  ".join(f"{kind} {short(namespaces[kind])}" for kind in KINDS if kind in namespaces)


def _pod(pod: Pod, columns: int) -> list[str]:
    lines: list[str] = []
    if pod.namespaces:
        lines.append(f"shared   {_spaces(pod.namespaces)}")
    if pod.host_network:
        lines.append("network  the host's")
    for index, volume in enumerate(pod.volumes):
        words = " ".join(filter(None, (volume.name, volume.kind, volume.detail)))
        lines.append(f"{'volumes' if index == 0 else '':<7}  {clean(words)}")
    if pod.pause:
        lines.append(f"pause    {pod.pause}, holds what they share")
    for container in pod.containers:
        lines += _container(container, columns - 4)
    side = " ".join(filter(None, (pod.phase, pod.quality)))
    box = _box(f"pod {pod.full_name}", lines, columns, side)
    if pod.is_wired:
        words = fit(f" eth0 {clean(pod.address)} ", columns - 8)
        box[-1] = _filled(f"└────┬{words}", "─", columns - 1) + "┘"
    return box


def _container(container: Container, columns: int) -> list[str]:
    lines = [clean(container.image)]
    if container.namespaces:
        lines.append(f"own      {_spaces(container.namespaces)}")
    width = max((len(str(process.pid)) for process in container.processes), default=0)
    room = columns - 4
    for process in container.processes:
        side = f"  {process.host_pid}"
        start = f"{process.pid:>{width}} {'  ' * process.depth}{clean(process.command)}"
        start = fit(start, room - len(side))
        lines.append(f"{start}{' ' * (room - len(side) - cells(start))}{side}")
    if container.limits:
        lines.append(f"limits   {clean(', '.join(container.limits))}")
    for index, mount in enumerate(container.mounts):
        words = f"{mount.volume} at {mount.path}{' read-only' if mount.read_only else ''}"
        lines.append(f"{'mounts' if index == 0 else '':<7}  {clean(words)}")
    state = container.state if container.state == "running" else container.reason or container.state
    side = " ".join(filter(None, (container.role, state)))
    return _box(container.name, lines, columns, side)
