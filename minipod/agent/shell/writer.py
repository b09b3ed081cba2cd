# SPDX-License-Identifier: GPL-3.0-or-later
"""What the renderers of steps write to: the functions of a script, and what cannot be said in one.

The steps of a process become one function, or several: bash cannot enter a namespace, only start a program that does.
So where a process changes its namespaces, it executes ``unshare`` or ``nsenter``, which execute this script again with
the name of the function that goes on. What is known by then travels as exported variables.

The fds of a plan are paths here: slot N is the variable ``sN``, the place where a mount is parked until it is put
where it belongs. ``$own`` stands before the paths that a process looks up in its own root: nothing, while that is the
host's, and the place of the pod's tree, once it has entered the sandbox (``$POD``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minipod.agent.shell.quoting import comment
from minipod.plan.context import Facts
from minipod.plan.steps import Step


@dataclass(slots=True)
class Function:
    """One function of the script."""

    name: str
    lines: list[str] = field(default_factory=list)


class Writer:
    """Takes the commands of one actor's steps.

    Attributes:
        actor: ``host``, ``pause`` or ``container/NAME``.
        short: the actor as it can stand in names of functions and files.
        facts: the machine that the plan was made on.
        functions: what was written.
        missing: what this script cannot do, each once, for its head.
    """

    def __init__(self, actor: str, short: str, facts: Facts, missing: dict[str, None]) -> None:
        self.actor = actor
        self.short = short
        self.facts = facts
        self.functions = [Function(f"{short}_0")]
        self.missing = missing

    @property
    def is_pause(self) -> bool:
        """Whether the steps are those of the pause process."""
        return self.actor == "pause"

    def begin(self, number: int, step: Step, why: str, origin: str) -> None:
        """Say which step comes, and why."""
        told = step.describe().removesuffix("; in it:")
        self.line("")
        self.line(f"# {number}. {comment(told)}")
        self.line(f"#    {comment(why)}")
        if origin:
            self.line(f"#    [{comment(origin)}]")

    def line(self, text: str) -> None:
        """Write a command or a comment."""
        self.functions[-1].lines.append(text)

    def lack(self, what: str) -> None:
        """Say that something cannot be done here, at this step and in the script's head."""
        self.missing[what] = None
        self.line(f"# NOT IN THIS SCRIPT: {comment(what)}")

    def go_on(self, command: str) -> None:
        """Execute *command* (unshare, nsenter, …), which goes on with the next function."""
        name = f"{self.short}_{len(self.functions)}"
        self.line(f'exec {command} -- "$BASH" "$SELF" {name}')
        self.functions.append(Function(name))


def slot(number: int) -> str:
    """Return the variable of an fd slot of the plan, to be read."""
    return f'"$s{number}"'


def below(number: int) -> str:
    """Return what stands before a path below a slot, -1 being the process's own root; inside double quotes."""
    return f"$s{number}" if number >= 0 else "$own"
