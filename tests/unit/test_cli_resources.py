# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod resize`` and ``minipod top`` against a small agent."""

from __future__ import annotations

import pytest

from minipod.cli import top as module
from tests.unit.test_cli_client import FakeAgent
from tests.unit.test_cli_verbs import Json, Run, agent, items, pod, run

__all__ = ["agent", "run"]


def answer(*conditions: Json) -> list[Json]:
    return [{"done": {"object": {**pod("web"), "status": {"conditions": list(conditions)}}}}]


def test_resize(agent: FakeAgent, run: Run) -> None:
    agent.answers["get"] = items(pod("web"))
    agent.answers["resize"] = answer()
    assert run("resize", "web", "--requests", "cpu=1,memory=64Mi", "-n", "demo") == (
        *(0, "pod/web resized\n"),
        "",
    )
    resources = {"requests": {"cpu": "1", "memory": "64Mi"}}
    assert agent.requests[-1] == {
        "verb": "resize",
        "namespace": "demo",
        "pod": "web",
        "patch": {"spec": {"containers": [{"name": "main", "resources": resources}]}},
    }


def test_resize_of_a_sidecar(agent: FakeAgent, run: Run) -> None:
    made = pod("web")
    made["spec"]["initContainers"] = [{"name": "side"}]
    agent.answers["get"] = items(made)
    agent.answers["resize"] = answer()
    assert run("resize", "pod/web", "-c", "side", "--limits", "cpu=1")[0] == 0
    assert list(agent.requests[-1]["patch"]["spec"]) == ["initContainers"]


def test_resize_says_what_is_not_done_yet(agent: FakeAgent, run: Run) -> None:
    agent.answers["get"] = items(pod("web"))
    pending = {"type": "PodResizePending", "reason": "Infeasible", "message": "too much\x1b"}
    agent.answers["resize"] = answer(pending, {"type": "Ready"})
    _, out, err = run("resize", "web", "--limits", "cpu=99")
    assert out == "pod/web resized\n"
    assert err == "warning: PodResizePending: too much\\x1b\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "what is to change"),
        (["--limits", "cpu"], "'cpu' is no NAME=QUANTITY"),
        (["--limits", "cpu=1,,memory=1"], "'' is no NAME=QUANTITY"),
    ],
)
def test_resize_of_nothing(agent: FakeAgent, run: Run, arguments: list[str], words: str) -> None:
    agent.answers["get"] = items(pod("web"))
    code, _, err = run("resize", "web", *arguments)
    assert code == 2 and words in err


def sample(name: str, time: float, *containers: tuple[str, int, int, int]) -> Json:
    return {
        "namespace": "default",
        "name": name,
        "containers": [
            {"name": c, "run": r, "cpuNanoseconds": cpu, "memoryBytes": memory, "time": time}
            for c, r, cpu, memory in containers
        ],
    }


MIB = 1 << 20
BEFORE = [
    sample("b", 10.0, ("x", 0, 0, MIB), ("y", 0, 5 * 10**8, MIB)),
    sample("a", 10.0, ("x", 3, 0, 0), ("gone", 0, 0, MIB)),
]
NOW = [
    sample("a", 12.0, ("x", 4, 10**9, 5 * MIB)),
    sample("b", 12.0, ("x", 0, 10**9, 9 * MIB), ("y", 0, 6 * 10**8, 3 * MIB), ("new", 0, 1, MIB)),
]


def test_top_counts_what_runs_in_both_samples() -> None:
    rows = module._rows(BEFORE, NOW, containers=True, namespaces=False)
    assert rows == [(["b", "x"], (500, 9 * MIB)), (["b", "y"], (50, 3 * MIB))]
    rows = module._rows(BEFORE, NOW, containers=False, namespaces=True)
    assert rows == [(["default", "b"], (550, 12 * MIB))]


def test_top_of_a_clock_that_stands_still() -> None:
    assert module._rows(BEFORE, BEFORE, containers=False, namespaces=False)[0][1] == (0, 2 * MIB)
