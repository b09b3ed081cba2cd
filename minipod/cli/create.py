# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod create`` and ``minipod apply``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Namespace, Session, complete_words, session, verb

app = typer.Typer(**SETTINGS)
apply_app = typer.Typer(**SETTINGS)

Files = Annotated[
    list[str],
    typer.Option("--filename", "-f", metavar="FILE", help="A manifest, or - for standard input."),
]


@verb(
    app,
    "minipod create -f pod.yaml",
    "minipod create configmap settings --from-literal=level=info --from-file=app.conf",
    "minipod create secret generic login --from-file=password=pw.txt",
)
def create(
    ctx: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[configmap NAME|secret generic|tls NAME]",
            help="An object to make from the options below, instead of -f.",
            autocompletion=complete_words("configmap", "secret", "generic", "tls"),
        ),
    ] = None,
    filename: Annotated[
        list[str] | None,
        typer.Option(
            "--filename", "-f", metavar="FILE", help="A manifest, or - for standard input."
        ),
    ] = None,
    literal: Annotated[
        list[str] | None,
        typer.Option("--from-literal", metavar="KEY=VALUE", help="A key with this value."),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--from-file", metavar="[KEY=]PATH", help="A key with what is in a file."),
    ] = None,
    env_file: Annotated[
        list[str] | None,
        typer.Option("--from-env-file", metavar="PATH", help="The NAME=VALUE lines of a file."),
    ] = None,
    cert: Annotated[str, typer.Option("--cert", metavar="PATH", help="Of a tls secret.")] = "",
    key: Annotated[str, typer.Option("--key", metavar="PATH", help="Of a tls secret.")] = "",
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="Of a secret.")] = "",
    namespace: Namespace = None,
) -> None:
    """Create the objects of a manifest and return at once."""
    from minipod.cli.makeconfig import Given, make
    from minipod.errors import UsageError

    if bool(what) == bool(filename):
        raise UsageError("create: what?", "minipod create -f FILE, or create configmap NAME")
    where = session(ctx)
    if filename:
        _create_all(where, filename, namespace, apply=False)
        return
    given = Given(literal or (), file or (), env_file or (), cert, key, type_)
    import json

    text = json.dumps(make(what or (), given))
    _show(send(where, text, "create", namespace, apply=False))


@verb(apply_app, "minipod apply -f pod.yaml")
def apply(ctx: typer.Context, filename: Files, namespace: Namespace = None) -> None:
    """Create the objects of a manifest, or change those there are."""
    _create_all(session(ctx), filename, namespace, apply=True)


def _create_all(where: Session, files: list[str], namespace: str | None, *, apply: bool) -> None:
    for file in files:
        _show(create_from(where, file, namespace, apply=apply))


def _show(objects: list[dict[str, Any]]) -> None:
    for item in objects:
        print(f"{item['kind'].lower()}/{item['name']} {item['change']}")


def create_from(
    where: Session, file: str, namespace: str | None, *, apply: bool, new_pods: bool = False
) -> list[dict[str, Any]]:
    """Create the objects of *file*, print the warnings, and return ``{kind, namespace, name, uid, change}`` of each.

    With *apply*, objects that are there are changed. With *new_pods*, a pod that lives is in the way all the same, and
    one that has ended is replaced.

    Raises:
        MinipodError: the manifest is refused, or an object of this name is there.
    """
    from minipod.cli.args import read_manifest

    text, source = read_manifest(file)
    return send(where, text, source, namespace, apply=apply, new_pods=new_pods)


def send(
    where: Session,
    text: str,
    source: str,
    namespace: str | None,
    *,
    apply: bool,
    new_pods: bool = False,
) -> list[dict[str, Any]]:
    """Create the objects of the manifest *text*, as :func:`create_from` does."""
    from minipod.cli.client import call
    from minipod.cli.output import warn

    request = {
        "verb": "create",
        "manifest": text,
        "source": source,
        "namespace": where.namespace(namespace),
        "apply": apply,
        "newPods": new_pods,
        "replaceFinished": apply,
    }
    with call(where.config, request) as answer:
        done = answer.finish()
    for warning in done.get("warnings", []):
        warn(warning)
    objects: list[dict[str, Any]] = done.get("objects", [])
    return objects
