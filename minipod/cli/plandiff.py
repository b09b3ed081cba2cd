# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two plans: which steps came, went, or have other arguments, by who does them.

Pure: from two of the agent's documents (docs/plan.md) to a document of their differences, and from that to lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minipod.cli.output import Paint, escape
from minipod.cli.planview import plain, title

Json = dict[str, Any]

_SLOTS = frozenset(
    (
        "slot",
        "root",
        "proc",
        "pidfd",
        "slots",
        "join_slot",
        "pause_slot",
        "user_slot",
        "stdio_slots",
    )
)
"""Arguments that only number the fds of a plan: one more volume shifts them, and nothing differs by that."""
_NAMES = ("path", "name", "directory", "key", "what", "of", "type")
"""Arguments that tell steps of one kind apart, the first that a step has."""
_MAX_VALUE = 200  # characters of a value that is shown


def compare(old: list[Json], new: list[Json]) -> list[Json]:
    """Return what differs from *old* to *new* plans, one entry for each pod; pods are the same that have one name.

    When there is only one in each, these two are compared, whatever they are called.
    """
    if len(old) == len(new) == 1:
        return [_compare_pod(old[0], new[0])]
    before, after = {each["pod"]: each for each in old}, {each["pod"]: each for each in new}
    nothing: Json = {"pod": "", "source": "", "actors": [], "steps": []}
    return [
        _compare_pod(before.get(name, nothing), after.get(name, nothing))
        for name in dict.fromkeys([*before, *after])
    ]


def _compare_pod(old: Json, new: Json) -> Json:
    # The host and pause first, as in a plan; a container that went stands behind those that are there.
    actors = {actor["name"]: actor for actor in [*new["actors"], *old["actors"]]}
    changes = [
        change
        for actor in actors
        for change in _compare_steps(
            [step for step in old["steps"] if step["actor"] == actor],
            [step for step in new["steps"] if step["actor"] == actor],
        )
    ]
    changed = {change["actor"] for change in changes}
    return {
        "old": {"pod": old["pod"], "source": old["source"]},
        "new": {"pod": new["pod"], "source": new["source"]},
        "actors": [actor for name, actor in actors.items() if name in changed],
        "changes": changes,
    }


def _compare_steps(old: list[Json], new: list[Json]) -> Iterator[Json]:
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(None, [_key(s) for s in old], [_key(s) for s in new], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            for before, after in zip(old[i1:i2], new[j1:j2], strict=True):
                if arguments := _differing(before["arguments"], after["arguments"]):
                    yield _change("changed", before, after) | {"arguments": arguments}
            continue
        for before in old[i1:i2]:
            yield _change("removed", before, None)
        for after in new[j1:j2]:
            yield _change("added", None, after)


def _key(step: Json) -> tuple[str, str]:
    """Return what makes two steps the same one, with other arguments perhaps."""
    arguments = step["arguments"]
    name = next((str(arguments[each]) for each in _NAMES if each in arguments), "")
    return step["kind"], name


def _change(how: str, old: Json | None, new: Json | None) -> Json:
    step = new or old
    assert step is not None, "a change has one side at least"
    sides = (("old", old), ("new", new))
    return {"actor": step["actor"], "change": how} | {n: each for n, each in sides if each}


def _differing(old: Json, new: Json) -> Json:
    """Return the arguments that differ, with both values."""
    return {
        name: {"old": _value(name, old.get(name)), "new": _value(name, new.get(name))}
        for name in dict.fromkeys([*old, *new])
        if name not in _SLOTS and _value(name, old.get(name)) != _value(name, new.get(name))
    }


def _value(name: str, value: Any) -> Any:
    # The number of a slot says nothing, but whether there is one does: ids are mapped or not.
    return isinstance(value, int) and value >= 0 if name == "users" else value


# ---- on the terminal --------------------------------------------------------------------------------------------


def render(found: Json, paint: Paint = plain) -> Iterator[str]:
    """Yield the lines of one pod's differences; none when there are none."""
    if not found["changes"]:
        return
    yield paint(f"--- {_side(found['old'])}", "red")
    yield paint(f"+++ {_side(found['new'])}", "green")
    for actor in found["actors"]:
        yield ""
        yield title(actor).partition(":")[0] if "image" not in actor else title(actor)
        for change in found["changes"]:
            if change["actor"] == actor["name"]:
                yield from _lines(change, paint)


def _side(side: Json) -> str:
    return escape(f"{side['source']} (pod {side['pod']})") if side["pod"] else "nothing"


def _lines(change: Json, paint: Paint) -> Iterator[str]:
    how = change["change"]
    if how != "changed":
        sign, side, colour = ("+", "new", "green") if how == "added" else ("-", "old", "red")
        step = change[side]
        yield paint(f"{sign} {step['number']:3} {escape(step['step'])}", colour)
        return
    new = change["new"]
    yield paint(f"~ {new['number']:3} {escape(new['step'])}", "yellow")
    for name, values in change["arguments"].items():
        gone, came = _elements(values["old"]), _elements(values["new"])
        for sign, colour, own, other in (("-", "red", gone, came), ("+", "green", came, gone)):
            for each in own:
                if each not in other:
                    yield paint(f"      {sign} {name}: {_short(each)}", colour)


def _elements(value: Any) -> list[str]:
    """Return the parts of an argument that are compared one by one: elements of a list, lines of a text."""
    if value is None:
        return []
    if isinstance(value, list):
        return [_word(each) for each in value]
    if isinstance(value, str) and "\n" in value:
        return value.splitlines()
    return [_word(value)]


def _word(value: Any) -> str:
    if isinstance(value, dict):
        if {"controller", "file", "value"} <= value.keys():
            return f"{value['file']} = {value['value']}"
        return " ".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value) if value != "" else '""'


def _short(text: str) -> str:
    return escape(text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…")
