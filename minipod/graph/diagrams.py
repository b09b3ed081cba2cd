# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture in the languages of Graphviz and of Mermaid, whose programs place things themselves."""

from __future__ import annotations

from collections.abc import Iterable

from minipod.graph.model import KINDS, Container, Picture, Pod, Volume, short
from minipod.graph.words import clean, fit

_LONGEST = 60  # columns of a line in a box

Lines = list[str]


def dot(picture: Picture) -> str:
    """Return *picture* as a graph for ``dot``."""
    bridge = _dot([f"bridge {picture.bridge}", picture.bridge_address])
    lines = [
        "digraph minipod {",
        "  graph [compound=true, fontname=sans, rankdir=TB, nodesep=0.3];",
        "  node [shape=box, style=rounded, fontname=monospace, fontsize=10];",
        "  edge [fontname=sans, fontsize=9];",
        *(line for number, pod in enumerate(picture.pods) for line in _dot_pod(f"p{number}", pod)),
        f"  bridge [label={bridge}, style=filled, fillcolor=palegreen];",
        f"  outside [shape=ellipse, label={_dot(['outside'])}];",
        f"  bridge -> outside [label={_dot([_leaving(picture)])}];",
        *(
            f"  outside -> p{number}_pause [label={_dot([port])}];"
            for number, port in _ports(picture)
        ),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _dot_pod(name: str, pod: Pod) -> Lines:
    lines = [
        f"  subgraph cluster_{name} {{",
        f"    label={_dot(_pod_lines(pod))}; style=rounded; labeljust=l;",
        f"    {name}_pause [label={_dot(_pause_lines(pod))}];",
    ]
    for index, container in enumerate(pod.containers):
        lines.append(f"    {name}_c{index} [label={_dot(_container_lines(container))}];")
    for index, volume in enumerate(pod.volumes):
        lines.append(f"    {name}_v{index} [shape=cylinder, label={_dot(_volume_lines(volume))}];")
    for index, to, path in _mounts(pod):
        lines.append(f"    {name}_c{index} -> {name}_v{to} [label={_dot([path])}, dir=none];")
    lines.append("  }")
    if pod.is_wired:
        label = _dot([f"eth0 {pod.address}", f"veth {pod.link}"])
        attributes = f"label={label}, dir=none, ltail=cluster_{name}"
        lines.append(f"  {name}_pause -> bridge [{attributes}];")
    return lines


def mermaid(picture: Picture) -> str:
    """Return *picture* as a Mermaid flowchart."""
    bridge = _mermaid([f"bridge {picture.bridge}", picture.bridge_address])
    lines = [
        "flowchart TB",
        f"  subgraph host[{_mermaid([f'host {picture.host}'])}]",
        *(
            line
            for number, pod in enumerate(picture.pods)
            for line in _mermaid_pod(f"p{number}", pod)
        ),
        f"    bridge[{bridge}]",
        "  end",
        f"  bridge -->|{_mermaid([_leaving(picture)])}| outside(({_mermaid(['outside'])}))",
        *(f"  outside -->|{_mermaid([port])}| p{number}pause" for number, port in _ports(picture)),
    ]
    return "\n".join(lines) + "\n"


def _mermaid_pod(name: str, pod: Pod) -> Lines:
    lines = [
        f"    subgraph {name}[{_mermaid(_pod_lines(pod))}]",
        f"      {name}pause[{_mermaid(_pause_lines(pod))}]",
    ]
    for index, container in enumerate(pod.containers):
        lines.append(f"      {name}c{index}[{_mermaid(_container_lines(container))}]")
    for index, volume in enumerate(pod.volumes):
        lines.append(f"      {name}v{index}[({_mermaid(_volume_lines(volume))})]")
    for index, to, path in _mounts(pod):
        lines.append(f"      {name}c{index} ---|{_mermaid([path])}| {name}v{to}")
    lines.append("    end")
    if pod.is_wired:
        lines.append(f"    {name}pause ---|{_mermaid([f'eth0 {pod.address}'])}| bridge")
    return lines


def _dot(lines: Iterable[str]) -> str:
    r"""Return a quoted label; in it ``\l`` ends a line that stands at the left."""
    parts = (_cut(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "".join(f"{part}\\l" for part in parts) + '"'


def _mermaid(lines: Iterable[str]) -> str:
    """Return a quoted label; all that could mean something to Mermaid or to HTML is a character by its number."""
    return '"' + "<br/>".join(_numbered(_cut(line)) for line in lines) + '"'


def _numbered(text: str) -> str:
    return "".join(
        char if char.isalnum() or char in " .,:/-_@()=" else f"#{ord(char)};" for char in text
    )


def _cut(text: str) -> str:
    return fit(clean(text), _LONGEST, middle=True)


def _pod_lines(pod: Pod) -> Lines:
    return [f"pod {pod.full_name}", " ".join(filter(None, (pod.phase, pod.quality)))]


def _volume_lines(volume: Volume) -> Lines:
    return [volume.name, " ".join(filter(None, (volume.kind, volume.detail)))]


def _pause_lines(pod: Pod) -> Lines:
    first = f"pause {pod.pause}" if pod.pause else "no sandbox"
    network = ["net: the host's"] if pod.host_network else []
    return [first, *_spaces(pod.namespaces), *network]


def _spaces(namespaces: dict[str, str]) -> Lines:
    return [f"{kind} {short(namespaces[kind])}" for kind in KINDS if kind in namespaces]


def _container_lines(container: Container) -> Lines:
    state = container.state if container.state == "running" else container.reason or container.state
    lines = [" ".join(filter(None, (container.name, container.role, state))), container.image]
    if container.namespaces:
        lines.append(", ".join(_spaces(container.namespaces)))
    lines += [
        f"{each.pid} {'  ' * each.depth}{each.command} ({each.host_pid})"
        for each in container.processes
    ]
    if container.limits:
        lines.append(f"limits: {', '.join(container.limits)}")
    return lines


def _mounts(pod: Pod) -> list[tuple[int, int, str]]:
    """Return (container, volume, words) for each volume that a container has mounted."""
    numbers = {volume.name: index for index, volume in enumerate(pod.volumes)}
    return [
        (index, numbers[mount.volume], f"{mount.path}{' read-only' if mount.read_only else ''}")
        for index, container in enumerate(pod.containers)
        for mount in container.mounts
        if mount.volume in numbers
    ]


def _leaving(picture: Picture) -> str:
    return f"nft table {picture.table}: masquerade"


def _ports(picture: Picture) -> list[tuple[int, str]]:
    return [
        (number, f"hostPort {port}")
        for number, pod in enumerate(picture.pods)
        for port in pod.ports
    ]
