# SPDX-License-Identifier: GPL-3.0-or-later
"""ConfigMaps and Secrets in words, in kubectl's layout. Of a Secret only the sizes of its values are shown."""

from __future__ import annotations

from typing import Any

from minipod.cli.describe import mapping, pair

Json = dict[str, Any]
_WIDTH = 14


def config_map_lines(item: Json) -> list[str]:
    """Return the lines about a ConfigMap."""
    lines = [*_head(item), "", "Data", "===="]
    for key, text in sorted(item.get("data", {}).items()):
        lines += [f"{key}:", "----", *str(text).splitlines(), ""]
    lines += ["", "BinaryData", "===="]
    lines += [f"{k}: {_size(v)} bytes" for k, v in sorted(item.get("binaryData", {}).items())]
    return lines


def secret_lines(item: Json) -> list[str]:
    """Return the lines about a Secret."""
    lines = [*_head(item), "", f"Type:  {item.get('type', '')}", "", "Data", "===="]
    data = item.get("data", {})
    width = max(map(len, data), default=0) + 3
    return lines + [f"{key + ':':<{width}}{_size(data[key])} bytes" for key in sorted(data)]


def _head(item: Json) -> list[str]:
    meta = item["metadata"]
    lines = [pair("Name", meta["name"], _WIDTH), pair("Namespace", meta.get("namespace"), _WIDTH)]
    lines += mapping("Labels", meta.get("labels", {}), "=", _WIDTH)
    lines += mapping("Annotations", meta.get("annotations", {}), ": ", _WIDTH)
    if item.get("immutable"):
        lines.append(pair("Immutable", "true", _WIDTH))
    return lines


def _size(text: str) -> int:
    """Return how many bytes a base64 *text* stands for."""
    return len(text) * 3 // 4 - text.count("=", -2)
