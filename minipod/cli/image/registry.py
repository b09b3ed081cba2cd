# SPDX-License-Identifier: GPL-3.0-or-later
"""Images from and to registries: pull, push."""

from __future__ import annotations

from typing import Annotated

import typer

from minipod.cli.image.group import Json, Reference, app
from minipod.cli.options import session, verb

Authfile = Annotated[
    str,
    typer.Option(
        "--authfile",
        metavar="FILE",
        envvar="REGISTRY_AUTH_FILE",
        help="Credentials to try before this machine's, as docker login writes them.",
    ),
]


@verb(
    app,
    "minipod image pull nginx",
    "minipod image pull localhost:5000/app:1 quay.io/fedora/fedora:42",
)
def pull(
    ctx: typer.Context,
    references: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="References, as docker pull takes them.")
    ],
    platform: Annotated[
        str, typer.Option("--platform", metavar="OS/ARCH", help="Instead of this machine's.")
    ] = "",
    authfile: Authfile = "",
) -> None:
    """Get images from registries.

    Nothing is transferred of an image that is here as the registry has it. Ctrl-C leaves all as it was.
    """
    from minipod.cli.client import call
    from minipod.cli.layers import accompany
    from minipod.cli.output import say

    auths = [_read_auths(authfile)] if authfile else []
    for reference in references:
        request = {
            "verb": "image",
            "op": "pull",
            "reference": reference,
            "platform": platform,
            "auths": auths,
        }
        with call(session(ctx).config, request) as answer:
            done = accompany(answer)
        say(f"{'pulled' if done['changed'] else 'unchanged'} {done['reference']} {done['digest']}")


@verb(
    app,
    "minipod image push registry.example/team/app:1",
    "minipod image push localhost/app:1 localhost:5000/app:1",
)
def push(
    ctx: typer.Context,
    reference: Reference,
    destination: Annotated[
        str, typer.Argument(metavar="[DEST]", help="What to call it there, if not the same.")
    ] = "",
    authfile: Authfile = "",
) -> None:
    """Put an image into a registry.

    It goes as it is here, byte for byte, so that its digest stays. What the registry has of it already is not sent.
    """
    from minipod.cli.client import call
    from minipod.cli.layers import accompany
    from minipod.cli.output import say

    request = {
        "verb": "image",
        "op": "push",
        "reference": reference,
        "destination": destination,
        "auths": [_read_auths(authfile)] if authfile else [],
    }
    with call(session(ctx).config, request) as answer:
        done = accompany(answer)
    say(f"pushed {done['reference']} {done['digest']}")


def _read_auths(file: str) -> Json:
    import json

    from minipod.errors import UsageError

    remedy = "docker login --config DIR, or podman login --authfile FILE, writes such a file"
    try:
        with open(file, encoding="utf-8") as opened:
            found = json.load(opened)
    except OSError as error:
        raise UsageError(f"{file}: {(error.strerror or str(error)).lower()}", remedy) from error
    except ValueError:
        raise UsageError(f"{file}: is not JSON", remedy) from None
    if not isinstance(found, dict):
        raise UsageError(f"{file}: is not an object", remedy)
    return found
