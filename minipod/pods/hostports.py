# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of the host that pods have: which those are, and whether they are free.

A pod is refused whole when a port that it asks for is another pod's, by the scheduler's rule
(``HostPortInfo.CheckConflict``), or when a process of the host has it, to whose clients it would be lost.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator

from minipod.api import Pod, Problem, members
from minipod.config import Config
from minipod.network import PodLink, pod_link
from minipod.plan import HostPort

_ANY = "0.0.0.0"
_KINDS = {
    "TCP": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "UDP": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "SCTP": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


def link_of(config: Config, pod: Pod, address: str) -> PodLink | None:
    """Return the link of a pod at *address*, with the ports that are forwarded to it; None on the host's network."""
    if pod.spec.host_network or not address:
        return None
    ports = tuple(dict.fromkeys(port for _, port in claims(pod)))
    return pod_link(config, pod.metadata.uid, address, ports)


def claims(pod: Pod) -> Iterator[tuple[str, HostPort]]:
    """Yield each port of the host that *pod* has while it runs, and where the manifest says so.

    On the host's network a pod has all ports that its containers name, as for Kubernetes' scheduler.
    """
    shared = pod.spec.host_network
    for found in members(pod):
        if found.kind != "app" and not found.is_sidecar:
            continue
        for i, port in enumerate(found.container.ports):
            number = port.container_port if shared else port.host_port
            if number:
                address = _ANY if shared else port.host_ip or _ANY
                where = f"{found.path}.ports[{i}].{'containerPort' if shared else 'hostPort'}"
                yield where, HostPort(address, port.protocol, number, port.container_port)


def preflight(
    pod: Pod, others: Iterable[Pod], source: str, lines: dict[str, int], *, replaces: bool = False
) -> tuple[list[Problem], list[Problem]]:
    """Return what keeps *pod* from having its ports of the host, and what is to be told of them.

    Args:
        pod: the one that is to be created.
        others: the pods that there are, without those that have ended.
        source, lines: where *pod* is written.
        replaces: a pod is still there that will have gone first, and may hold the ports.
    """
    problems, warnings = [], []
    taken = [(each, port) for each in others for _, port in claims(each)]

    def line(path: str) -> int:
        return lines.get(path) or lines.get(path.rpartition(".")[0]) or lines.get("spec", 1)

    for path, port in claims(pod):
        owner = next((each for each, theirs in taken if _conflict(port, theirs)), None)
        if owner is not None:
            name = f"{owner.metadata.namespace}/{owner.metadata.name}"
            what = (
                f"port {port} of the host is taken by pod {name} (delete it, or choose another one)"
            )
            problems.append(Problem(source, line(path), path, what))
            continue
        answer = 0 if replaces else _try(port)
        if answer == errno.EADDRNOTAVAIL:
            what = f"{port.address} is no address of this host now: the port is forwarded once it is one"
            warnings.append(Problem(source, line(path), path, what))
        elif answer == errno.EADDRINUSE:
            what = (
                f"port {port} is taken on this host "
                "(end what listens on it, `ss -lntup` shows it, or choose another one)"
            )
            problems.append(Problem(source, line(path), path, what))
    return problems, warnings


def _conflict(one: HostPort, other: HostPort) -> bool:
    if (one.protocol, one.host_port) != (other.protocol, other.host_port):
        return False
    return one.address == other.address or _ANY in (one.address, other.address)


def _try(port: HostPort) -> int:
    """Return the errno of binding a socket to *port* of the host, 0 if that can be done."""
    kind, protocol = _KINDS[port.protocol]
    try:
        with socket.socket(socket.AF_INET, kind, protocol) as probe:
            if kind == socket.SOCK_STREAM:
                # Connections that linger are no listeners.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((port.address, port.host_port))
    except OSError as error:
        return error.errno or 0
    return 0
