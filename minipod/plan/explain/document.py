# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as a document of plain values, which is printed, compared and given to tools (docs/plan.md has its shape).

The steps are grouped by who does them: the ``host`` (the agent), ``pause`` (the process that becomes the pause
program) and each ``container/NAME``. They are numbered in each group. In the groups of pause and the containers these
are the numbers that a message about a failed step has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from minipod.plan import steps as s
from minipod.plan.explain.words import words_of

Json = dict[str, Any]

HOST, PAUSE = "host", "pause"
_APART = ("source", "steps")  # fields of a step that are shown in other ways


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """The plan of one run of a container; *image* is what it is called."""

    name: str
    image: str
    steps: tuple[s.Step, ...]


@dataclass(frozen=True, slots=True)
class PodPlan:
    """All plans of a pod.

    Attributes:
        name: ``namespace/name``.
        source: the manifest's file.
        lines: the line of every path that the manifest has.
        sandbox: the steps that make its sandbox.
        containers: in the order in which the manifest has them, init containers first.
        running: it is of a pod that exists; else uid, address and numbers of runs are examples.
    """

    name: str
    source: str
    lines: Mapping[str, int]
    sandbox: tuple[s.Step, ...]
    containers: tuple[ContainerPlan, ...]
    running: bool = False

    @property
    def parts(self) -> tuple[tuple[str, tuple[s.Step, ...]], ...]:
        """Return the plans, each under the actor that its launch becomes."""
        made = ((container_actor(each.name), each.steps) for each in self.containers)
        return ((PAUSE, self.sandbox), *made)


def container_actor(name: str) -> str:
    """Return what the process of a container is called among the actors."""
    return f"container/{name}"


def document(plan: PodPlan) -> Json:
    """Return *plan* with all its steps explained."""
    images = {container_actor(each.name): each.image for each in plan.containers}
    actors: list[Json] = [{"name": HOST}, {"name": PAUSE}]
    actors += [{"name": name, "image": image} for name, image in images.items()]
    steps: list[Json] = []
    for actor, made in plan.parts:
        for step in made:
            steps.append(_step(step, HOST, _next(steps), plan) | {"for": actor})
            if isinstance(step, s.Launch):
                steps[-1]["runs"] = actor
    for actor, made in plan.parts:
        steps += _inside(actor, made, plan)
    return {
        "kind": "Plan",
        "pod": plan.name,
        "source": plan.source,
        "running": plan.running,
        "actors": actors,
        "steps": steps,
    }


def _next(steps: list[Json]) -> int:
    return len(steps) + 1


def _inside(actor: str, made: Iterable[s.Step], plan: PodPlan) -> list[Json]:
    launch = next(step for step in made if isinstance(step, s.Launch))
    return [_step(step, actor, i, plan) for i, step in enumerate(launch.steps, 1)]


def _step(step: s.Step, actor: str, number: int, plan: PodPlan) -> Json:
    words = words_of(step)
    return {
        "actor": actor,
        "number": number,
        "kind": type(step).__name__,
        "step": s.one_line(step.describe()).removesuffix("; in it:"),
        "arguments": {
            field.name: _plain(getattr(step, field.name))
            for field in fields(step)
            if field.name not in _APART
        },
        "what": words.what,
        "why": words.why,
        "origin": _origin(step.source, words.rule, plan),
    }


def _origin(path: str, rule: str, plan: PodPlan) -> Json:
    """Return where a step comes from: a line of the manifest, or what decides it when the manifest does not say."""
    if path in plan.lines:
        return {"file": plan.source, "line": plan.lines[path], "field": path}
    return {"field": path, "default": rule} if path else {"default": rule}


def _plain(value: Any) -> Any:
    """Return an argument as JSON has it; of binary data its size and digest."""
    if isinstance(value, bytes):
        return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value
