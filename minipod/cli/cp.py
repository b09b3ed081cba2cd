# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod cp``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from minipod.cli.options import SETTINGS, Container, Namespace, session, verb

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod cp page.html web:/srv/",
    "minipod cp web:/var/log/app logs -c server",
    "minipod cp ./config other/web:/etc/app",
)
def cp(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="[POD:]FROM", help="What is copied.")],
    target: Annotated[str, typer.Argument(metavar="[POD:]TO", help="Where to.")],
    container: Container = None,
    namespace: Namespace = None,
) -> None:
    """Copy files into a container or out of it.

    The image needs no tar. What is copied into a container comes under its own name into a directory that is there. A
    directory of a container becomes TO, or is added to what is in TO. Modes are kept; setuid bits, devices and, on the
    way out, symbolic links are not copied. NAMESPACE/POD:PATH is understood, too.
    """
    from minipod.cli.client import call
    from minipod.cli.output import warn
    from minipod.errors import UsageError

    come, go = _split(source), _split(target)
    pod = come[0] or go[0]
    if bool(come[0]) == bool(go[0]):
        raise UsageError(
            "cp: one of the two places is in a container, and one is not",
            "write POD:PATH for the one in a container, and ./PATH for a file with a colon",
        )
    if not come[1] or not go[1]:
        raise UsageError("cp: a path is empty", "write POD:PATH")
    own, _, name = pod.rpartition("/")
    where = session(ctx)
    request = {
        "verb": "files",
        "namespace": own or where.namespace(namespace),
        "pod": name,
        "container": container,
    }
    with call(where.config, request) as answer:
        (found,) = answer
        from minipod.runtime.copying import Inside, copy_in, copy_out

        os.setgroups(found["groups"])
        inside = Inside(f"{pod}:", answer.fds[0], found["cwd"], found["uid"], found["gid"])
        if come[0]:
            copy_out(inside, come[1], go[1], warn)
        else:
            copy_in(come[1], inside, go[1], warn)


def _split(place: str) -> tuple[str, str]:
    """Return pod and path of ``POD:PATH``; the pod is "" for a path of the host."""
    pod, colon, path = place.partition(":")
    if not colon or pod.startswith((".", "/")):
        return "", place
    return pod, path
