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
    """Create the pods of a manifest and return at once."""
    _create_all(session(ctx), filename, namespace, replace_finished=False)


@verb(apply_app, "minipod apply -f pod.yaml")
def apply(ctx: typer.Context, filename: Files, namespace: Namespace = None) -> None:
    """Create the pods of a manifest, replacing those that ended."""
    _create_all(session(ctx), filename, namespace, replace_finished=True)


def _create_all(
    where: Session, files: list[str], namespace: str | None, *, replace_finished: bool
) -> None:
    for file in files:
        for item in create_from(where, file, namespace, replace_finished=replace_finished):
            print(f"{item['kind'].lower()}/{item['name']} created")


def create_from(
    where: Session, file: str, namespace: str | None, *, replace_finished: bool
) -> list[dict[str, Any]]:
    """Create the pods of *file*, print the warnings, and return ``{kind, namespace, name, uid}`` of each.

    Raises:
        MinipodError: the manifest is refused, or a pod of this name is there.
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
        "replaceFinished": replace_finished,
    }
    with call(where.config, request) as answer:
        done = answer.finish()
    for warning in done.get("warnings", []):
        warn(warning)
    objects: list[dict[str, Any]] = done.get("objects", [])
    return objects
