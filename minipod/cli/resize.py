# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod resize``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Container, Namespace, Pod, session, verb

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod resize web --limits cpu=500m",
    "minipod resize web -c server --requests cpu=1,memory=256Mi --limits cpu=2,memory=512Mi",
)
def resize(
    ctx: typer.Context,
    pod: Pod,
    container: Container = None,
    requests: Annotated[
        str,
        typer.Option(
            "--requests", metavar="NAME=QUANTITY,...", help="What it asks for: cpu, memory."
        ),
    ] = "",
    limits: Annotated[
        str,
        typer.Option("--limits", metavar="NAME=QUANTITY,...", help="The most that it may use."),
    ] = "",
    namespace: Namespace = None,
) -> None:
    """Change the requests and limits of a running container."""
    from minipod.cli.args import pod_name
    from minipod.cli.client import call
    from minipod.cli.output import say, warn
    from minipod.errors import UsageError

    if not requests and not limits:
        raise UsageError("resize: what is to change?", "give --requests or --limits")
    where, name = session(ctx), pod_name(pod)
    within = where.namespace(namespace)
    target = {"namespace": within, "pod": name}
    with call(where.config, {"verb": "get", "kind": "pods", **target, "names": [name]}) as answer:
        spec = answer.finish()["items"][0]["spec"]
    field, named = _place(spec, container)
    resources = {
        kind: quantities(text)
        for kind, text in (("requests", requests), ("limits", limits))
        if text
    }
    patch = {"spec": {field: [{"name": named, "resources": resources}]}}
    with call(where.config, {"verb": "resize", **target, "patch": patch}) as answer:
        resized = answer.finish()["object"]
    for condition in resized.get("status", {}).get("conditions", []):
        if condition["type"] in ("PodResizePending", "PodResizeInProgress"):
            words = condition.get("message") or condition.get("reason") or "see describe"
            warn(f"{condition['type']}: {words}")
    say(f"pod/{name} resized")


def _place(spec: dict[str, Any], container: str | None) -> tuple[str, str]:
    """Return the list of the spec that *container* (None: the first) stands in, and its name."""
    if container is None:
        return "containers", spec["containers"][0]["name"]
    inits = [each["name"] for each in spec.get("initContainers", [])]
    return ("initContainers" if container in inits else "containers"), container


def quantities(text: str) -> dict[str, str]:
    """Return the quantities in ``cpu=1,memory=64Mi``.

    Raises:
        UsageError: it is not of that form.
    """
    from minipod.errors import UsageError

    result = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not (name and equals and value):
            raise UsageError(f"{part!r} is no NAME=QUANTITY", "write cpu=500m,memory=64Mi")
        result[name] = value
    return result
