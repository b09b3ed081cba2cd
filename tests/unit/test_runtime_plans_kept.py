# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a command that a probe repeats is packed once, and never taken for another one's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from minipod.api import Container
from minipod.plan import compile_exec, process_key
from minipod.runtime.pack import pack
from minipod.runtime.shim import _KEPT_PLANS, Shim
from tests.unit.test_plan_checker import V2, context, pod, run

OF = pod(Container(name="app", image="img"))


def launch(command: str, attempt: int = 0) -> Any:
    run_of = run(attempt)
    container = OF.spec.containers[0]
    return compile_exec(OF, container, context(OF), run_of, V2, (command,), number=0, tty=False)


def packed(shim: Any, of: Any) -> bytes:
    return Shim._packed(cast(Shim, shim), of)


def test_it_is_packed_once_whatever_its_number() -> None:
    shim = SimpleNamespace(_plans={})
    first = launch("/bin/true")
    data = packed(shim, first)
    assert data == pack(first)
    assert packed(shim, replace(first, key="exec/2")) is data


def test_another_run_is_another_plan() -> None:
    shim = SimpleNamespace(_plans={})
    first = launch("/bin/true")
    packed(shim, first)
    other = replace(first, join=process_key("app", 1), key="exec/2")
    assert packed(shim, other) == pack(other) != pack(first)


def test_few_are_kept() -> None:
    shim = SimpleNamespace(_plans={})
    for i in range(3 * _KEPT_PLANS):
        of = launch(f"/bin/{i}")
        assert packed(shim, of) == pack(of)
    assert len(shim._plans) == _KEPT_PLANS
