# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod create`` and ``minipod apply``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Namespace, Session, session, verb

app = typer.Typer(**SETTINGS)
apply_app = typer.Typer(**SETTINGS)

Files = Annotated[
    list[str],
    typer.Option("--filename", "-f", metavar="FILE", help="A manifest, or - for standard input."),
]


@verb(app, "minipod create -f pod.yaml", "minipod create -f - < pod.yaml")
def create(ctx: typer.Context, filename: Files, namespace: Namespace = None) -> None:
    """Create the objects of a manifest and return at once."""
    _create_all(session(ctx), filename, namespace, apply=False)


@verb(apply_app, "minipod apply -f pod.yaml")
def apply(ctx: typer.Context, filename: Files, namespace: Namespace = None) -> None:
    """Create the objects of a manifest, or change those there are."""
    _create_all(session(ctx), filename, namespace, apply=True)


def _create_all(where: Session, files: list[str], namespace: str | None, *, apply: bool) -> None:
    for file in files:
        for item in create_from(where, file, namespace, apply=apply):
            print(f"{item['kind'].lower()}/{item['name']} {item['change']}")


def create_from(
    where: Session, file: str, namespace: str | None, *, apply: bool
) -> list[dict[str, Any]]:
    """Create the objects of *file*, print the warnings, and return ``{kind, namespace, name, uid, change}`` of each.

    With *apply*, objects that are there are changed, and pods that have ended are replaced.

    Raises:
        MinipodError: the manifest is refused, or an object of this name is there.
    """
    from minipod.cli.args import read_manifest
    from minipod.cli.client import call
    from minipod.cli.output import warn

    text, source = read_manifest(file)
    request = {
        "verb": "create",
        "manifest": text,
        "source": source,
        "namespace": where.namespace(namespace),
        "apply": apply,
        "replaceFinished": apply,
    }
    with call(where.config, request) as answer:
        done = answer.finish()
    for warning in done.get("warnings", []):
        warn(warning)
    objects: list[dict[str, Any]] = done.get("objects", [])
    return objects
