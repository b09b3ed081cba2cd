# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod may know about itself: the values of ``fieldRef`` and ``resourceFieldRef``, in variables and in files.

The formats are the kubelet's (``pkg/fieldpath``, ``pkg/api/v1/resource``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minipod.api import Container, Pod, ResourceFieldSelector, parse_bytes, parse_cpu_millis
from minipod.api.validation.references import split_subscript

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


@dataclass(frozen=True, slots=True)
class Allocatable:
    """What the machine has for pods: the limit of a container that has none. In thousandths of a cpu, and bytes."""

    cpu: int
    memory: int
    storage: int


def metadata_value(pod: Pod, path: str) -> str | None:
    """Return the value of a path of the pod's metadata; None when *path* is something else.

    A label or annotation that is not there is "".
    """
    meta = pod.metadata
    field, key = split_subscript(path)
    values = {"metadata.labels": meta.labels, "metadata.annotations": meta.annotations}.get(field)
    if values is not None:
        return _lines(values) if key is None else values.get(key, "")
    return {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
    }.get(path)


def _lines(values: Mapping[str, str]) -> str:
    """Return labels or annotations as the kubelet writes them: ``key="value"``, sorted, no newline at the end."""
    return "\n".join(sorted(f"{key}={quoted(value)}" for key, value in values.items()))


def quoted(text: str) -> str:
    """Return *text* in double quotes, with the escapes of Go (``strconv.Quote``)."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def resource_value(container: Container, ref: ResourceFieldSelector, machine: Allocatable) -> str:
    """Return a request or limit of *container* in multiples of the divisor, rounded up.

    A limit that is not there is what the machine has, a request that is not there is 0.
    """
    which, _, name = ref.resource.partition(".")
    given = container.resources.limits if which == "limits" else container.resources.requests
    parse = parse_cpu_millis if name == "cpu" else parse_bytes
    value = parse(given.get(name, "0"))
    if not value and which == "limits":
        limits = {
            "cpu": machine.cpu,
            "memory": machine.memory,
            "ephemeral-storage": machine.storage,
        }
        value = limits.get(name, 0)
    divisor = parse(ref.divisor or "1") or parse("1")
    return str(-(-value // divisor))
