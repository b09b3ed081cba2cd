# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs, found by name and loaded when they are called for, and the options that stand before them."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
import typer.main

# typer has no public name for the base of its usage errors; pyproject.toml bounds its version.
from typer._click.exceptions import ClickException
from typer.core import TyperGroup, TyperOption

from minipod.cli.options import SETTINGS, Namespace, Session, examples
from minipod.config import SETTING_NAMES
from minipod.errors import UsageError

# What is shown as help, in this order: where each verb's command is.
VERBS = {
    "run": ("run", "app"),
    "create": ("create", "app"),
    "apply": ("create", "apply_app"),
    "get": ("get", "app"),
    "describe": ("describe", "app"),
    "logs": ("logs", "app"),
    "exec": ("exec", "app"),
    "attach": ("attach", "app"),
    "cp": ("cp", "app"),
    "debug": ("debug", "app"),
    "delete": ("delete", "app"),
    "wait": ("wait", "app"),
    "condition": ("condition", "app"),
    "resize": ("resize", "app"),
    "top": ("top", "app"),
    "events": ("events", "app"),
    "image": ("image", "app"),
    "system": ("system", "app"),
    "plan": ("plan", "app"),
    "trace": ("trace", "app"),
    "graph": ("graph", "app"),
    "ns": ("ns", "app"),
    "ps": ("ps", "app"),
    "cgroup": ("cgroup", "app"),
    "fs": ("fs", "app"),
    "net": ("net", "app"),
    "enter": ("enter", "app"),
    "explain": ("explain", "app"),
    "lab": ("lab", "app"),
    "doctor": ("doctor", "app"),
    "agent": ("agent", "app"),
    "version": ("version", "app"),
}
NAME = "minipod"
COMPLETION = "_MINIPOD_COMPLETE"


# The settings whose options the help shows, with what it says.
_SHOWN = {
    "root_dir": "Persistent state.",
    "run_dir": "Volatile state, with the agent's socket.",
}


class Verbs(TyperGroup):
    """Loads a verb's module when it is asked for: building all commands would double the start-up time.

    Has an option for each setting of :class:`Config` besides those of its callback.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.params[:0] = [_option(name) for name in SETTING_NAMES]

    def invoke(self, ctx: Any) -> Any:
        """Keep what the options say for the verb, and run it."""
        flags = {name: ctx.params.pop(name) for name in SETTING_NAMES}
        ctx.obj = Session(flags, ctx.params["namespace"])
        return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return all verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a verb, or None."""
        if cmd_name not in VERBS:
            return None
        from importlib import import_module

        module, name = VERBS[cmd_name]
        return typer.main.get_command(getattr(import_module(f"minipod.cli.{module}"), name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb that *args* starts with, and say which one may have been meant."""
        if args[0] not in VERBS and not ctx.resilient_parsing:
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            ctx.fail(f"there is no verb {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)


def _option(setting: str) -> TyperOption:
    return TyperOption(
        param_decls=[setting, f"--{setting.replace('_', '-')}"],
        metavar="DIR" if setting.endswith("_dir") else "VALUE",
        help=_SHOWN.get(setting, ""),
        hidden=setting not in _SHOWN,
    )


app = typer.Typer(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    **{**SETTINGS, "add_completion": True},
)


def _version(value: bool) -> None:
    if value:
        from minipod.cli.version import show

        show()
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        "sudo minipod image load busybox.tar",
        "sudo minipod run pod.yaml",
        "sudo minipod get pods -A",
    )
    + "\n\nWhere an instance lives is told by the options before the verb, by MINIPOD_* variables "
    "(MINIPOD_ROOT_DIR and so on) or by /etc/minipod/config.toml. There are also "
    + ", ".join(f"--{name.replace('_', '-')}" for name in SETTING_NAMES if name not in _SHOWN)
    + ".",
)
def _before_the_verb(
    ctx: typer.Context,
    image_gc_high_threshold_percent: Annotated[
        str | None,
        typer.Option("--image-gc-high-threshold-percent", metavar="PERCENT", hidden=True),
    ] = None,
    image_gc_low_threshold_percent: Annotated[
        str | None, typer.Option("--image-gc-low-threshold-percent", metavar="PERCENT", hidden=True)
    ] = None,
    image_minimum_gc_age: Annotated[
        str | None, typer.Option("--image-minimum-gc-age", metavar="DURATION", hidden=True)
    ] = None,
    image_maximum_gc_age: Annotated[
        str | None, typer.Option("--image-maximum-gc-age", metavar="DURATION", hidden=True)
    ] = None,
    eviction_hard: Annotated[
        str | None, typer.Option("--eviction-hard", metavar="THRESHOLDS", hidden=True)
    ] = None,
    namespace: Namespace = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run Kubernetes Pods on this machine, straight on the kernel's namespaces."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run(args: list[str]) -> int:
    """Run the command line *args*; return the exit code.

    Raises:
        UsageError: typer refused the command line.
        MinipodError: what the verb said.
    """
    command: Any = typer.main.get_command(app)
    if COMPLETION in os.environ:
        return _complete(command)
    # Not through command.main(): it turns a closed pipe and an interrupt into exit codes of its own.
    try:
        with command.make_context(NAME, args) as ctx:
            command.invoke(ctx)
    except typer.Exit as end:
        return end.exit_code
    except ClickException as error:
        raise _refusal(error) from None
    return 0


def _refusal(error: ClickException) -> UsageError:
    """Return typer's *error* in our own form."""
    text = error.format_message().rstrip(".")
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx else NAME
    verb = path.removeprefix(NAME).strip()
    words = text[:1].lower() + text[1:]
    return UsageError(f"{verb}: {words}" if verb else words, f"{path} --help")


def _complete(command: Any) -> int:
    """Answer a shell that completes; whatever goes wrong, it is not for the user's prompt."""
    # typer would import rich, which takes longer than all the rest, only to find no markup in our texts.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    try:
        command.main(prog_name=NAME, standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception:
        return 1
    return 0
