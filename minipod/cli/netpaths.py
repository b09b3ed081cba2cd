# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of a pod's packets, in words: hop by hop, with the kernel's counters. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from minipod.cli.inside import size
from minipod.cli.output import Paint, escape

Json = dict[str, Any]
_Line = tuple[str, str]  # text, colour
_PLACE = 21


def overview(data: Json) -> Iterator[str]:
    """Yield the lines about all pods, the bridge and the range."""
    bridge = data["bridge"]
    state = f"{bridge.get('operstate', 'not there')}, mtu {bridge.get('mtu', '?')}"
    yield f"bridge {bridge['name']}  {bridge['address']}  {state}"
    yield f"range {data['range']}  {data['used']} of {data['size']} addresses used"
    yield ""
    titles = ("NAMESPACE", "NAME", "ADDRESS", "VETH", "IN", "OUT", "HOSTPORTS")
    rows = [titles]
    for pod in sorted(data["pods"], key=lambda pod: (pod["namespace"], pod["name"])):
        veth = pod.get("veth", {})
        address = "(host's network)" if pod["hostNetwork"] else pod["address"] or "-"
        # What the host's end sends is what the pod receives.
        traffic = [size(veth[key]) if key in veth else "-" for key in ("tx_bytes", "rx_bytes")]
        ports = ",".join(_port(port) for port in pod["ports"]) or "-"
        rows.append(
            (pod["namespace"], pod["name"], address, veth.get("name", "-"), *traffic, ports)
        )
    cells = [[escape(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(titles))]
    for row in cells:
        yield "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()


def _port(port: Json) -> str:
    where = "" if port["hostIP"] == "0.0.0.0" else f"{port['hostIP']}:"
    return f"{where}{port['hostPort']}→{port['containerPort']}/{port['protocol'].lower()}"


def ways(data: Json, width: int, paint: Paint) -> Iterator[str]:
    """Yield the lines about one pod's ways, in *width* columns."""
    for text, colour in _ways(data):
        for line in textwrap.wrap(text, width, subsequent_indent=" " * _PLACE) or [""]:
            yield paint(line, colour) if colour else line


def _ways(data: Json) -> Iterator[_Line]:
    pod, bridge = data["pod"], data["bridge"]["name"]
    title = f"pod {pod['namespace']}/{pod['name']}"
    if pod["hostNetwork"]:
        yield f"{title} is on the host's network: its packets are the host's own", ""
        return
    if not pod["address"]:
        yield f"{title} has no address: it is {pod['phase']}", ""
        return
    yield f"{title}  {pod['address']}/{pod['prefixLength']}  {pod['mac']}", ""
    rules = _Rules(data)
    yield from _heading("to another pod")
    yield from _out_of_pod(pod, rules)
    others = sum(
        1 for other in data["pods"] if other["address"] and other["address"] != pod["address"]
    )
    yield _hop(
        f"bridge {bridge}",
        f"to the port of the other pod, by its MAC; {_count(others, 'other pod')}",
    )
    yield from _heading("to the host")
    yield _hop("eth0, veth", "as above")
    yield _hop(
        f"bridge {bridge}", f"{data['bridge']['address']}, the host's own; never its 127.0.0.0/8"
    )
    yield from _heading("to the outside")
    yield _hop("eth0, veth", "as above, to the gateway " + pod["gateway"])
    yield from _forwarded(data, rules)
    way = next((r for r in pod.get("hostRoutes", []) if r["to"] == "default"), None)
    words = (
        f"default via {way['via'] or 'the link'} dev {way['dev']}"
        if way
        else "there is no default route"
    )
    yield _hop("route", words)
    yield _hop("masquerade", f"as {data['hostIP']}; {rules.masqueraded()}")
    yield from _heading("in through a port of the host")
    yield from _in(pod, rules, data)


def _heading(words: str) -> Iterator[_Line]:
    yield "", ""
    yield words, "cyan"


def _hop(place: str, words: str, colour: str = "") -> _Line:
    return escape(f"  {place:<{_PLACE - 3}} {words}"), colour


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _traffic(link: Json, sent: str, received: str) -> str:
    """Return what a link has passed on, seen from the pod."""
    parts = []
    for words, key in (("sent", sent), ("received", received)):
        packets, count = link.get(f"{key}_packets"), link.get(f"{key}_bytes")
        if packets is not None and count is not None:
            dropped = f", {link[f'{key}_dropped']} dropped" if link.get(f"{key}_dropped") else ""
            parts.append(f"{words} {_count(packets, 'packet')} ({size(count)}){dropped}")
    return ", ".join(parts)


def _out_of_pod(pod: Json, rules: _Rules) -> Iterator[_Line]:
    routes = "; ".join(
        f"{r['to']} via {r['via']}" if r["via"] else f"{r['to']} direct" for r in pod["routes"]
    )
    yield _hop("eth0 in the pod", routes or "its routes cannot be seen")
    if pod["eth0"]:
        yield _hop("", _traffic(pod["eth0"], "tx", "rx"))
    veth = pod["veth"]
    if "ifindex" not in veth:
        yield _hop(f"veth {veth['name']}", "is not there!")
        return
    master = f"port of {veth['master']}" if "master" in veth else "is no port of a bridge!"
    peer = f"peer of the pod's link {veth['iflink']}" if "iflink" in veth else ""
    yield _hop(f"veth {veth['name']}", f"{veth.get('operstate', '?')}, {master}, {peer}")
    yield _hop("", _traffic(veth, "rx", "tx"))
    known = "it is known" if rules.knows(veth["name"], pod) else "NOT KNOWN: all is dropped"
    dropped = rules.dropped("bridge", "guard")
    yield _hop(
        "guard (nft)",
        f"only with its own MAC and address: {known}; dropped so far, of all pods: {dropped}",
    )


def _forwarded(data: Json, rules: _Rules) -> Iterator[_Line]:
    pod = data["pod"]
    if not pod.get("forwarding", True):
        yield _hop("forwarding", "net.ipv4.ip_forward is off: nothing is forwarded!", "yellow")
    yield _hop(
        "forward (nft)",
        f"accepted by table inet {data['table']}; what is no pod's is dropped: {rules.dropped('inet', 'forward')}",
    )
    for words in foreign(data):
        yield _hop("another's filter", words, "yellow")


def foreign(data: Json) -> list[str]:
    """Return what other programs' filters do to forwarded packets, with what would let them through."""
    from minipod.cli.checks import admitting, dropping_chains

    chains = json.dumps(data["pod"]["chains"])
    bridge = data["bridge"]["name"]
    result = [
        f"{name} drops what it does not know! {admitting(chains, bridge)}"
        for name in dropping_chains(chains, data["table"])
    ]
    legacy = data["pod"]["legacyForward"]
    if "-P FORWARD DROP" in legacy.splitlines():
        result.append(
            f"iptables-legacy FORWARD drops what it does not know! {admitting(chains, bridge)}"
        )
    return result


def _in(pod: Json, rules: _Rules, data: Json) -> Iterator[_Line]:
    if not pod["ports"]:
        yield _hop("hostPort", "none")
        return
    for port in pod["ports"]:
        found = rules.port(port)
        to = f"{pod['address']}:{port['containerPort']}"
        where = f"{port['hostIP']}:{port['hostPort']}/{port['protocol']}"
        if found is None:
            yield _hop("hostports (nft)", f"{where} is another's, or not there!")
        else:
            yield _hop("hostports (nft)", f"{where} → {to}; {_connections(found)}")
    yield _hop(
        "forward (nft)",
        f"accepted; the client's address stays, but of 127.0.0.1 and of pods it becomes {data['bridge']['address']}",
    )
    yield _hop(f"bridge {data['bridge']['name']}", f"to veth {pod['veth']['name']} and eth0")


def _connections(counter: Json) -> str:
    return f"{_count(counter['packets'], 'connection')}"


class _Rules:
    """What ``nft -j list table`` says of our two tables."""

    def __init__(self, data: Json) -> None:
        self._tables = {
            family: [next(iter(item.items())) for item in listing.get("nftables", []) if item]
            for family, listing in data["pod"]["filter"].items()
        }

    def _rules(self, family: str, chain: str) -> Iterator[list[Json]]:
        for kind, body in self._tables.get(family, []):
            if kind == "rule" and body.get("chain") == chain:
                yield body.get("expr", [])

    def dropped(self, family: str, chain: str) -> str:
        """Return how many packets a chain has dropped."""
        return _count(self._counted(family, chain, "drop"), "packet")

    def masqueraded(self) -> str:
        """Return how many connections to the outside got the host's address."""
        return (
            _count(self._counted("inet", "postrouting", "masquerade"), "connection")
            + " of all pods so far"
        )

    def _counted(self, family: str, chain: str, verdict: str) -> int:
        total = 0
        for expressions in self._rules(family, chain):
            counters = [e["counter"] for e in expressions if isinstance(e.get("counter"), dict)]
            # The other rule that masquerades is for what came in through a port of the host.
            outward = "status" not in json.dumps(expressions)
            if counters and outward and any(verdict in e for e in expressions):
                total += int(counters[0]["packets"])
        return total

    def _elements(self, family: str, name: str) -> Iterator[Any]:
        for kind, body in self._tables.get(family, []):
            if kind in ("set", "map") and body.get("name") == name:
                yield from body.get("elem", [])

    def knows(self, veth: str, pod: Json) -> bool:
        """Whether the bridge's filter lets the pod's packets through."""
        wanted = {"concat": [veth, pod["mac"], pod["address"]]}
        return any(_plain(element)[0] == wanted for element in self._elements("bridge", "pods"))

    def port(self, port: Json) -> Json | None:
        """Return the counter of a port of the host; None when it is not forwarded."""
        key: list[Any] = [port["protocol"].lower(), port["hostPort"]]
        name = "hostports"
        if port["hostIP"] != "0.0.0.0":
            key, name = [port["hostIP"], *key], "hostports_of_address"
        for element in self._elements("inet", name):
            found, counter = _plain(element[0])
            if found == {"concat": key}:
                return counter
        return None


def _plain(element: Any) -> tuple[Any, Json]:
    """Return an element without, and with, its counter."""
    if isinstance(element, dict) and "elem" in element:
        inner = element["elem"]
        counter = inner.get("counter")
        return inner["val"], counter if isinstance(counter, dict) else {"packets": 0, "bytes": 0}
    return element, {"packets": 0, "bytes": 0}
