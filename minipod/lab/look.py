# SPDX-License-Identifier: GPL-3.0-or-later
"""What checks are made of: what is so, one line each, until something is not so yet.

A check is a generator: it yields what it found to be right, and raises :class:`NotYet` with a hint at the first thing
that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from minipod.lab import kernel, things
from minipod.lab.text import Lab


class NotYet(Exception):
    """Something is not so yet.

    Attributes:
        what: what is missing, one line.
        hint: what to look at, or to try.
    """

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a check looks for the things of its lab.

    Attributes:
        lab: whose.
        ask: asks minipod's agent.
        cgroup_parent: below which the instance's pods are.
    """

    lab: Lab
    ask: things.Ask
    cgroup_parent: str

    def learners(self, start: str) -> list[kernel.Process]:
        """Return the learner's processes; *start* is how one is started, for the hint.

        Raises:
            NotYet: there is none.
        """
        found = kernel.learners().get(self.lab.number, [])
        if not found:
            raise NotYet(
                f"no process has {kernel.MARK}={self.lab.number} in its environment",
                f"start it as {start}",
            )
        return found

    def apart(self, start: str, *kinds: str) -> list[kernel.Process]:
        """Return the learner's processes whose namespaces of all *kinds* are not the host's.

        Raises:
            NotYet: there is none.
        """
        found = self.learners(start)
        for kind in kinds:
            own = kernel.namespace(kind)
            inside = [process for process in found if process.ns(kind) not in (own, "")]
            if not inside:
                raise NotYet(
                    f"{found[-1]} is in the host's {kind} namespace, {own}", f"start it as {start}"
                )
            found = inside
        return found

    def pod(self, name: str = "") -> dict[str, Any]:
        """Return a pod of the lab.

        Raises:
            NotYet: it is not there.
        """
        name = name or self.lab.name
        request = {"verb": "get", "kind": "pods", "namespace": things.POD_NAMESPACE}
        for pod in (self.ask(request) or {}).get("items", []):
            if pod["metadata"]["name"] == name:
                return dict(pod)
        how = f"minipod lab start {self.lab.number}" if self.lab.setup else "see Do it"
        raise NotYet(f"there is no pod {name} in the namespace {things.POD_NAMESPACE}", how)

    def inside(self, pod: dict[str, Any], container: str) -> list[kernel.Process]:
        """Return the processes of a pod's container, by its cgroup; the first one leads them."""
        return kernel.members(f"/pod{pod['metadata']['uid']}/{container}.")

    def sandbox(self, pod: dict[str, Any]) -> list[kernel.Process]:
        """Return a pod's pause process, in a list that is empty when it has none."""
        return kernel.members(f"/pod{pod['metadata']['uid']}/sandbox")


Check = Callable[[Bench], Iterator[str]]


def check_of(lab: Lab) -> Check:
    """Return the check that a lab's text names."""
    module, _, name = lab.check.partition(".")
    found: Check = getattr(import_module(f"minipod.lab.checks.{module}"), name)
    return found


def is_solved(bench: Bench) -> bool:
    """Whether a lab's check has nothing to say."""
    try:
        for _ in check_of(bench.lab)(bench):
            pass
    except NotYet:
        return False
    return True
