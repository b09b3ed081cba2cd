# SPDX-License-Identifier: GPL-3.0-or-later
"""``attach``, as ``debug`` uses it for a container that has ended already."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.cli import attach, client
from minipod.config import Config


class FakeCall:
    """The agent's answers to the three questions."""

    def __init__(self, request: dict[str, Any]) -> None:
        ended = {"name": "d", "state": {"terminated": {"exitCode": 3}}}
        pod = {"status": {"ephemeralContainerStatuses": [ended]}}
        lines = [("stdout", "\udcff\udcfe", True), ("stdout", "end", False), ("stderr", "é", False)]
        logs = [{"stream": s, "text": text, "partial": p, "time": ""} for s, text, p in lines]
        self._events: list[dict[str, Any]] = [{"type": "ADDED", "object": pod}]
        if request["verb"] == "logs":
            self._events = [{"log": line} for line in logs]
        self._last = {"items": [pod]}

    def __enter__(self) -> FakeCall:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __iter__(self) -> Any:
        return iter(self._events)

    def finish(self) -> dict[str, Any]:
        return self._last


def test_what_it_wrote_may_be_any_bytes(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(client, "call", lambda config, request: FakeCall(request))
    code = attach.attach_when_running(Config(), "default", "p", "d", stdin=False)
    out, err = capfdbinary.readouterr()
    assert (code, out, err) == (3, b"\xff\xfeend\n", "é\n".encode())
