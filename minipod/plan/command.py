# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container executes: argv and environment, from manifest and image config."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from minipod.api import Container
from minipod.errors import MinipodError
from minipod.plan.context import ContainerContext
from minipod.plan.defaults import PATH

MAX_WORD = 128 * 1024
"""What one argument or variable can have (``MAX_ARG_STRLEN``, execve(2))."""
MAX_WORDS = 6 * 1024 * 1024
"""What all of them together can have, on any machine (three quarters of ``_STK_LIM``)."""

_SHOWN = 80  # characters of what is too long
_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))?")


class TooLong(MinipodError):
    """No program could be given this. Found out while it grows: references to references double without end."""


class Room:
    """How much more a program can be given."""

    def __init__(self) -> None:
        self._left = MAX_WORDS

    def take(self, text: str) -> str:
        """Return *text*, for which there is room.

        Raises:
            TooLong: there is not.
        """
        self._left -= len(text)
        if self._left < 0:
            what = f"arguments or variables have more than {MAX_WORDS} bytes together"
            raise TooLong(what, "use a configMap or secret volume for what is long")
        return text


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; unknown names stay as written and ``$$`` is a literal dollar.

    Source: Kubernetes, "Define dependent environment variables" and the ``command`` field's description.

    Raises:
        TooLong: what the values make of it could be no argument and no variable.
    """
    size = len(text)

    def value(match: re.Match[str]) -> str:
        nonlocal size
        if match[1] == "$":
            return "$"
        if match[2] is not None and match[2] in variables:
            found = variables[match[2]]
            size += len(found) - len(match[0])
            if size > MAX_WORD:
                what = f"with its variables replaced, {_start(text)} has more than {MAX_WORD} bytes"
                raise TooLong(what, "use a configMap or secret volume for what is long")
            return found
        return match[0]

    return _REFERENCE.sub(value, text)


def _start(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"


def argv(
    container: Container, entrypoint: Sequence[str], cmd: Sequence[str], env: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the command line: ``command`` replaces ENTRYPOINT and drops CMD, ``args`` replaces CMD.

    Raises:
        TooLong: no program could be given it.
    """
    room = Room()
    head = container.command or entrypoint
    tail = container.args or (() if container.command else cmd)
    words = (
        [room.take(expand(word, env)) for word in container.command]
        if container.command
        else list(head)
    )
    words += (
        [room.take(expand(word, env)) for word in container.args] if container.args else list(tail)
    )
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
