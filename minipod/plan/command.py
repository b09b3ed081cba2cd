# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container executes: argv and environment, from manifest and image config."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from minipod.api import Container
from minipod.plan.context import ContainerContext
from minipod.plan.defaults import PATH

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))?")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; unknown names stay as written and ``$$`` is a literal dollar.

    Source: Kubernetes, "Define dependent environment variables" and the ``command`` field's description.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        if match[2] is not None and match[2] in variables:
            return variables[match[2]]
        return match[0]

    return _REFERENCE.sub(value, text)


def argv(
    container: Container, entrypoint: Sequence[str], cmd: Sequence[str], env: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the command line: ``command`` replaces ENTRYPOINT and drops CMD, ``args`` replaces CMD."""
    head = container.command or entrypoint
    tail = container.args or (() if container.command else cmd)
    words = [expand(word, env) for word in container.command] if container.command else list(head)
    words += [expand(word, env) for word in container.args] if container.args else list(tail)
    return tuple(words)


def environment(container: Container, context: ContainerContext, hostname: str) -> dict[str, str]:
    """Return the whole environment: the runtime's defaults, then the image's, then the manifest's.

    PATH, HOSTNAME, HOME and TERM are what containerd and runc set when nobody else does.
    """
    result = {"PATH": PATH, "HOSTNAME": hostname}
    if container.tty:
        result["TERM"] = "xterm"
    for entry in context.image_env:
        name, _, value = entry.partition("=")
        result[name] = value
    result.update(context.env)
    result.setdefault("HOME", context.home)
    return result


def candidates(program: str, path: str) -> tuple[str, ...]:
    """Return the paths to try for *program*, in order, as ``execvp(3)`` does with the container's own PATH."""
    if "/" in program:
        return (program,)
    return tuple(
        f"{directory}/{program}" for directory in path.split(":") if directory.startswith("/")
    )
