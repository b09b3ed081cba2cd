# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod get``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from minipod.cli.options import (
    SETTINGS,
    AllNamespaces,
    Namespace,
    Selector,
    Session,
    Watch,
    complete_targets,
    complete_words,
    session,
    verb,
)

Json = dict[str, Any]

app = typer.Typer(**SETTINGS)


@verb(
    app,
    "minipod get pods",
    "minipod get pods -A -o wide",
    "minipod get pod web -o yaml",
    "minipod get pods,configmaps,pvc",
    "minipod get pods -l app=web -w",
    "minipod get pod web -o jsonpath='{.status.podIP}'",
    "minipod get pods -o custom-columns=NAME:.metadata.name,IP:.status.podIP",
)
def get(
    ctx: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="KIND [NAME]...",
            help="pods, events, configmaps, secrets, pvc or pv, several with commas, and names; or pod/NAME.",
            autocompletion=complete_targets,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="wide|json|yaml|name|jsonpath=…|custom-columns=…",
            help="How to print.",
            autocompletion=complete_words(
                "wide", "json", "yaml", "name", "jsonpath=", "custom-columns="
            ),
        ),
    ] = "",
    watch: Watch = False,
    selector: Selector = "",
    all_namespaces: AllNamespaces = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Print no titles.")] = False,
    namespace: Namespace = None,
) -> None:
    """List objects, or show them whole."""
    from minipod.cli.args import ALL_KINDS, parse_groups
    from minipod.cli.output import check_format
    from minipod.errors import UsageError

    groups = parse_groups(targets, ALL_KINDS)
    form = check_format(output)
    if any(names for _, names in groups) and (selector or all_namespaces):
        raise UsageError("names go with neither -l nor -A", "leave out one of them")
    where = session(ctx)
    within = None if all_namespaces else where.namespace(namespace)
    requests = [
        {
            "verb": "get",
            "kind": kind,
            "namespace": within,
            "names": names,
            "selector": selector,
            "watch": False,
        }
        for kind, names in groups
    ]

    def printer_of(request: Json) -> Callable[[Sequence[Json]], None]:
        several = len(groups) > 1
        return printer(
            request["kind"],
            form,
            everywhere=all_namespaces,
            headers=not no_headers,
            whole_names=several,
        )

    if watch:
        if len(groups) > 1:
            raise UsageError("one command watches one kind", "watch each by itself")
        show_changes(where, requests[0], form, printer_of(requests[0]))
        return
    missing: list[Json] = []
    found = [fetch(where, request, missing) for request in requests]
    if is_table(form):
        tables = [
            (printer_of(request), part)
            for request, part in zip(requests, found, strict=True)
            if part
        ]
        for i, (show, part) in enumerate(tables):
            print("\n" * bool(i), end="")
            show(part)
        if not tables and not missing:
            say_none(within)
    else:
        from minipod.cli.output import dump_objects

        items = [item for part in found for item in part]
        if items or not missing:
            dump_objects(items, form, single=sum(len(names) for _, names in groups) == 1)
    complain(missing)


def complain(missing: Sequence[Json]) -> None:
    """Fail if anything is *missing* (errors as the agent tells them); all but the last are said on stderr."""
    from minipod.cli.output import escape
    from minipod.errors import MinipodError

    errors = [MinipodError.from_status(status) for status in missing]
    for error in errors[:-1]:
        print(f"minipod: {escape(error.what)}", file=sys.stderr)
    if errors:
        sys.stdout.flush()
        raise errors[-1]


def is_table(form: str) -> bool:
    """Whether a format has rows and columns."""
    return form in ("", "wide") or form.startswith("custom-columns=")


def say_none(namespace: str | None) -> None:
    """Say on stderr that there is nothing."""
    place = f" in {namespace} namespace" if namespace else ""
    print(f"No resources found{place}.", file=sys.stderr)


def fetch(where: Session, request: Json, missing: list[Json] | None = None) -> list[Json]:
    """Return the objects that *request* means, in the order of kubectl: by namespace and name, events by time.

    *missing* gets an error for each name that is not there, as the agent tells it.

    Raises:
        MinipodError: a name is not there, and nobody wants to know what else is.
    """
    from minipod.cli.client import call
    from minipod.cli.podtable import event_time

    if missing is not None:
        request = {**request, "allowMissing": True}
    with call(where.config, request) as answer:
        done = answer.finish()
    items: list[Json] = done.get("items", [])
    if missing is not None:
        missing += done.get("missing", [])
    if request["kind"] == "events":
        return sorted(items, key=event_time)
    return sorted(
        items, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"])
    )


def printer(
    kind: str, form: str, *, everywhere: bool, headers: bool = True, whole_names: bool = False
) -> Callable[[Sequence[Json]], None]:
    """Return what prints objects as rows of one table, with *whole_names* as ``pod/web``."""
    from minipod.cli.output import Table, custom_columns, object_name

    if form.startswith("custom-columns="):
        own_titles, own_cells = custom_columns(form.partition("=")[2])
        own_table = Table(*own_titles, headers=headers)
        return lambda items: own_table.show(map(own_cells, items))
    from minipod.cli.columns import columns

    titles, cells = columns(kind, wide=form == "wide")
    table = Table(*(("NAMESPACE", *titles) if everywhere else titles), headers=headers)

    def row(item: Json) -> list[str]:
        own = cells(item, time.time())
        if whole_names and titles[0] == "NAME":
            own[0] = object_name(item)
        return [str(item["metadata"].get("namespace", "")), *own] if everywhere else own

    return lambda items: table.show([row(item) for item in items])


def show_changes(
    where: Session,
    request: Json,
    form: str,
    show_list: Callable[[Sequence[Json]], None],
    wanted: Callable[[Json], bool] = lambda item: True,
) -> None:
    """Print what there is and then every change, until interrupted."""
    from minipod.cli.client import call
    from minipod.cli.output import dump, object_name

    if request["names"]:
        fetch(where, request)  # a name that is not there is an error, not something to wait for
    with call(where.config, {**request, "watch": True}) as answer:
        for event in answer:
            item = event["object"]
            if not wanted(item):
                continue
            if is_table(form):
                show_list([item])
            elif form == "name":
                print(object_name(item))
            else:
                if form == "yaml":
                    print("---")
                dump(item, form)
                if form.startswith("jsonpath="):
                    print()
            sys.stdout.flush()
