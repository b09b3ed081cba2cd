# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod can learn of itself: the values of fieldRef and resourceFieldRef, for variables and for files.

Source: Kubernetes, "Downward API"; ``pkg/fieldpath`` and ``pkg/api/v1/resource`` (``ExtractContainerResourceValue``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from minipod.api import Container, Pod, member
from minipod.api.amounts import Amounts, effective_limits, millis, of_container, whole
from minipod.api.objects.env import ResourceFieldSelector
from minipod.api.quantity import parse_quantity
from minipod.api.validation.references import split_subscript

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}
DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs: its own addresses and its host's, the first one being the one that counts."""

    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()


def node_name() -> str:
    """Return what this machine is called as a node: its host name in lower case, as the kubelet has it."""
    return os.uname().nodename.strip().lower()


def field_value(pod: Pod, path: str, place: Place = Place()) -> str:
    """Return the text of a field of *pod* by its (valid) path; what is not there is empty.

    *place* matters for the addresses in ``status`` only, of which files know nothing.

    Raises:
        KeyError: there is no such field.
    """
    meta = pod.metadata
    name, key = split_subscript(path)
    if key is not None:
        return (meta.labels if name == "metadata.labels" else meta.annotations).get(key, "")
    if path in ("metadata.labels", "metadata.annotations"):
        return _lines(meta.labels if path == "metadata.labels" else meta.annotations)
    return {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": node_name(),
        "spec.serviceAccountName": pod.spec.service_account_name or DEFAULT_ACCOUNT,
        "status.hostIP": next(iter(place.host_ips), ""),
        "status.hostIPs": ",".join(place.host_ips),
        "status.podIP": next(iter(place.pod_ips), ""),
        "status.podIPs": ",".join(place.pod_ips),
    }[path]


def _lines(values: dict[str, str]) -> str:
    """Return ``key="value"`` lines, sorted, the values quoted as Go's ``%q`` does (``FormatMap``)."""
    return "\n".join(f"{key}={quote(values[key])}" for key in sorted(values))


def quote(text: str) -> str:
    """Return *text* in double quotes, with everything escaped that is not printable, as ``strconv.Quote``."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def resource_value(
    pod: Pod, own: Container | None, selector: ResourceFieldSelector, machine: Amounts
) -> str:
    """Return a request or a limit of a container, in units of the divisor, rounded up.

    Args:
        pod: the pod, with its defaults.
        own: the container that asks, which is meant when the selector names none.
        selector: what is asked for; valid.
        machine: what this machine has (``plan.resources.allocatable``); it stands in for a limit that nobody has set.

    Raises:
        NotFound: the pod has no such container.
    """
    container = own
    if selector.container_name or container is None:
        container = member(pod, selector.container_name).container
    kind, _, resource = selector.resource.partition(".")
    limits = kind == "limits"
    amounts = effective_limits(pod, container, machine) if limits else of_container(container, kind)
    amount = amounts.get(resource, parse_quantity("0"))
    divisor = parse_quantity(selector.divisor or "1") or parse_quantity("1")
    if resource == "cpu":
        return str(-(-millis(amount) // millis(divisor)))
    return str(-(-whole(amount) // whole(divisor)))
