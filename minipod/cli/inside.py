# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verbs share that show a pod from inside."""

from __future__ import annotations

from typing import Any

from minipod.cli.options import Session

Json = dict[str, Any]


def ask(where: Session, verb: str, pod: str, namespace: str | None, **more: Any) -> Json:
    """Return what the agent answers to *verb* about a pod."""
    from minipod.cli.args import pod_name
    from minipod.cli.client import call

    request = {"verb": verb, "namespace": where.namespace(namespace), "pod": pod_name(pod), **more}
    with call(where.config, request) as answer:
        return answer.finish()


def size(count: int) -> str:
    """Return bytes in a unit in which people read them: ``512 B``, ``1.5 MiB``."""
    number, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def cut(text: str, width: int) -> str:
    """Return *text* in at most *width* columns."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
