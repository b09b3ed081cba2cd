# SPDX-License-Identifier: GPL-3.0-or-later
"""What verbs share: typer's settings, options, the session, and completion of names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from minipod.config import Config

F = TypeVar("F", bound=Callable[..., Any])

SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}


def examples(*commands: str) -> str:
    """Return an epilog for ``--help`` that shows *commands*."""
    # The backspace keeps click from filling the lines.
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


class Verb(TyperCommand):
    """A command whose usage line names what is required without typer's braces."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


def verb(app: typer.Typer, *commands: str, name: str | None = None) -> Callable[[F], F]:
    """Return the decorator that makes a function a command of *app*, with *commands* as its examples."""
    return app.command(name, cls=Verb, epilog=examples(*commands))


class Session:
    """What the options before the verb said.

    Attributes:
        config: where the instance lives; read when first asked for.
    """

    __slots__ = ("_config", "_flags", "_namespace")

    def __init__(self, flags: dict[str, str | None], namespace: str | None = None) -> None:
        self._flags = flags
        self._namespace = namespace
        self._config: Config | None = None

    @property
    def config(self) -> Config:
        """The instance's config.

        Raises:
            UsageError: the config file is wrong.
        """
        if self._config is None:
            from minipod.config import load

            self._config = load(None, **self._flags)
        return self._config

    def namespace(self, own: str | None) -> str:
        """Return the namespace meant: the verb's *own* option, the one before the verb, or ``default``."""
        return own or self._namespace or "default"


def session(ctx: typer.Context) -> Session:
    """Return the session of a command."""
    found = ctx.find_root().obj
    assert isinstance(found, Session)
    return found


def complete_pods(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a pod, ``pod/NAME`` too."""
    prefix, slash, _ = incomplete.rpartition("/")
    return [f"{prefix}{slash}{pod['metadata']['name']}" for pod in _pods(ctx)]


def complete_targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a kind, then names; or ``pod/NAME``."""
    from minipod.kinds import KINDS, find_kind

    given = ctx.params.get("targets") or []
    prefix, slash, _ = incomplete.rpartition("/")
    if given or slash:
        kind = find_kind(prefix or given[0])
        names = _names(ctx, kind.plural) if kind and kind.name != "Event" else []
        return [f"{prefix}{slash}{name}" for name in names]
    lasting = ctx.info_name in ("delete", "describe", "wait")
    words = [kind.plural for kind in KINDS.values() if kind.name != "Event" or not lasting]
    return [*words, *(f"pod/{name}" for name in _names(ctx, "pods"))]


def complete_containers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a container of the pod that the command line names."""
    # Behind an option without its value, arguments are not parsed yet.
    given = ctx.params.get("pod") or next(iter(ctx.args), "")
    wanted = str(given).rpartition("/")[2]
    names = [
        container["name"]
        for pod in _pods(ctx)
        if not wanted or pod["metadata"]["name"] == wanted
        for field in ("initContainers", "containers", "ephemeralContainers")
        for container in pod["spec"].get(field, [])
    ]
    return sorted(set(names))


def complete_namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a namespace that has pods."""
    return sorted(
        {pod["metadata"]["namespace"] for pod in _pods(ctx, everywhere=True)} | {"default"}
    )


def complete_images(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the reference of a stored image."""
    images = _ask(ctx, {"verb": "image", "op": "list", "brief": True}).get("images", [])
    return [name for image in images for name in image["references"]]


def _names(ctx: typer.Context, kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in _pods(ctx, kind=kind)]


def _pods(
    ctx: typer.Context, *, everywhere: bool = False, kind: str = "pods"
) -> list[dict[str, Any]]:
    before = ctx.find_root().params.get("namespace")
    namespace = None if everywhere else ctx.params.get("namespace") or before or "default"
    request: dict[str, Any] = {
        "verb": "get",
        "kind": kind,
        "namespace": namespace,
        "names": [],
        "selector": "",
        "watch": False,
    }
    items: list[dict[str, Any]] = _ask(ctx, request).get("items", [])
    return items


def _ask(ctx: typer.Context, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the agent if it runs; whatever goes wrong, there is nothing to complete."""
    from minipod.cli.client import call

    root = ctx.find_root().params
    try:
        from minipod.config import SETTING_NAMES, load

        config = load(None, **{name: root.get(name) for name in SETTING_NAMES})
        with call(config, request, start=False, timeout=2.0) as answer:
            return answer.finish()
    except Exception:
        return {}


def complete_words(*words: str) -> Any:
    """Return a completer for a fixed set of words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="The namespace (default).",
        autocompletion=complete_namespaces,
    ),
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")]
Selector = Annotated[
    str,
    typer.Option(
        "--selector",
        "-l",
        metavar="LABELS",
        help="Only those with these labels: a=b,c!=d,!e,f in (g,h).",
    ),
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="json|yaml",
        help="The data instead of text.",
        autocompletion=complete_words("json", "yaml"),
    ),
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on with what changes.")]
Container = Annotated[
    str | None,
    typer.Option(
        "--container",
        "-c",
        metavar="NAME",
        help="The container (the first).",
        autocompletion=complete_containers,
    ),
]
Pod = Annotated[
    str,
    typer.Argument(metavar="POD", help="The pod, NAME or pod/NAME.", autocompletion=complete_pods),
]
