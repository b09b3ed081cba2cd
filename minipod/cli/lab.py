# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod lab``: exercises; their texts, checks and things are in ``minipod.lab``."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Session, examples, session, verb

if TYPE_CHECKING:
    from minipod.lab.look import Bench
    from minipod.lab.text import Lab

app = typer.Typer(
    help="Learn by hand what a pod is made of, and how it breaks.",
    epilog=examples("minipod lab", "minipod lab show 1", "sudo minipod lab check 1"),
    **SETTINGS,
)

_SCRIPT_TIMEOUT = 300.0  # seconds
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def _complete_labs(incomplete: str) -> list[tuple[str, str]]:
    from minipod.lab.text import all_labs

    return [
        (str(lab.number), lab.title) for lab in all_labs() if str(lab.number).startswith(incomplete)
    ]


Number = Annotated[
    int, typer.Argument(metavar="N", help="Which lab.", autocompletion=_complete_labs)
]


@app.callback(invoke_without_command=True)
def labs(ctx: typer.Context) -> None:
    """List the labs, each with how far it is on this machine."""
    if ctx.invoked_subcommand is not None:
        return
    from minipod.cli.output import painter
    from minipod.lab import things
    from minipod.lab.look import is_solved
    from minipod.lab.text import all_labs

    is_root = os.geteuid() == 0
    paint = painter(sys.stdout)
    there = things.everything(lambda request: _ask(session(ctx), request)) if is_root else {}
    part = ""
    for lab in all_labs():
        if lab.part != part:
            part = lab.part
            print(f"{'' if lab.number == 1 else chr(10)}{paint(part.upper(), 'cyan')}")
        state = "-" if is_root else "?"
        if lab.number in there:
            state = "solved" if is_solved(_bench(ctx, lab)) else "begun"
        shown = f"{state:<6}"
        colour = {"solved": "green", "begun": "yellow"}.get(state)
        print(f"  {lab.number:>2}  {paint(shown, colour) if colour else shown}  {lab.title}")
    hint = "minipod lab show 1" if is_root else "as root it says which are solved: sudo minipod lab"
    print(f"\n{hint}")


@verb(app, "minipod lab show 1")
def show(ctx: typer.Context, number: Number) -> None:
    """Show what a lab is about, and what to do."""
    from minipod.lab import text

    lab = text.find(number)
    start = "Set-up" in lab.sections
    parts = [f"# Lab {lab.number}: {lab.title}", lab.intro]
    if start:
        parts.append(f"Start with `sudo minipod lab start {number}`.")
    parts += [f"## {name}\n{lab.sections[name]}" for name in ("Do it", "What is checked")]
    parts.append(
        f"`sudo minipod lab check {number}` looks whether it is so, `minipod lab solve {number}` shows a solution, "
        f"`sudo minipod lab reset {number}` removes it all."
    )
    _print_markdown("\n\n".join(parts))


@verb(app, "sudo minipod lab start 15")
def start(ctx: typer.Context, number: Number) -> None:
    """Make what a lab starts from."""
    from minipod.lab import text

    lab = text.find(number)
    if not lab.setup:
        print(f"lab {number} starts from nothing: minipod lab show {number}")
        return
    _require(ctx, lab)
    _run_script(ctx, lab, lab.setup)
    print(f"\nready: minipod lab show {number}")


@verb(app, "sudo minipod lab check 1")
def check(ctx: typer.Context, number: Number) -> None:
    """Look on the system whether a lab is solved.

    What is right is listed; at the first thing that is not there is a hint, and the exit code is 1.
    """
    from minipod.cli.output import escape, painter
    from minipod.lab import text
    from minipod.lab.look import NotYet, check_of

    lab = text.find(number)
    _require(ctx, lab)
    paint = painter(sys.stdout)
    try:
        for fact in check_of(lab)(_bench(ctx, lab)):
            print(f"{paint('ok', 'green')}  {escape(fact)}")
            sys.stdout.flush()
    except NotYet as lacking:
        print(f"{paint('no', 'red')}  {escape(lacking.what)}")
        print(f"    {paint('hint:', 'cyan')} {escape(lacking.hint)}")
        raise typer.Exit(1) from None
    print(f"{paint('solved', 'green')}: {lab.title}")


@verb(app, "minipod lab solve 1", "sudo minipod lab solve 1 --run")
def solve(
    ctx: typer.Context,
    number: Number,
    run: Annotated[bool, typer.Option("--run", help="Do it, too.")] = False,
) -> None:
    """Show a lab's solution, and why it is one."""
    from minipod.lab import text

    lab = text.find(number)
    if run:
        _require(ctx, lab)
        print(lab.solution)
        _run_script(ctx, lab, lab.solution)
        return
    names = ("Solution", "What happened")
    _print_markdown("\n\n".join(f"## {name}\n{lab.sections[name]}" for name in names))


@verb(app, "sudo minipod lab reset 1", "sudo minipod lab reset")
def reset(
    ctx: typer.Context,
    number: Annotated[
        int | None,
        typer.Argument(
            metavar="[N]", help="Which lab; all when none is named.", autocompletion=_complete_labs
        ),
    ] = None,
) -> None:
    """Remove all that a lab, or every lab, has made."""
    from minipod.cli.output import say
    from minipod.lab import text, things

    _must_be_root()
    found = text.all_labs() if number is None else (text.find(number),)
    wanted = {lab.number for lab in found}
    there = things.everything(lambda request: _ask(session(ctx), request))
    for thing in (each for of in sorted(wanted & there.keys()) for each in there[of]):
        thing.remove()
        say(f"removed: {thing}")


def _must_be_root() -> None:
    if os.geteuid() != 0:
        from minipod.cli.client import must_be_root

        raise must_be_root()


def _require(ctx: typer.Context, lab: Lab) -> None:
    """Check that this machine has what the lab takes.

    Raises:
        MinipodError: not root, or a tool or the image is missing.
    """
    import shutil

    from minipod.errors import MinipodError
    from minipod.lab.text import IMAGE

    _must_be_root()
    for tool in lab.tools:
        if tool == "image":
            found = _ask(session(ctx), {"verb": "image", "op": "list"}, start=True) or {}
            if not any(image.get("reference") == IMAGE for image in found.get("images", [])):
                raise MinipodError(
                    f"lab {lab.number} takes the image {IMAGE}, which is not in the store",
                    f"d=$(mktemp -d) && mkdir $d/bin $d/tmp && cp /bin/busybox $d/bin && "
                    f"chroot $d /bin/busybox --install -s /bin && minipod image from-dir $d {IMAGE}",
                )
        elif not shutil.which(tool, path=_PATH):
            raise MinipodError(
                f"lab {lab.number} takes the program {tool}, which is not on this machine",
                "apt install util-linux iproute2 nftables busybox-static",
            )


def _bench(ctx: typer.Context, lab: Lab) -> Bench:
    from minipod.lab.look import Bench

    where = session(ctx)
    return Bench(lab, lambda request: _ask(where, request), where.config.cgroup_parent)


def _ask(where: Session, request: dict[str, Any], *, start: bool = False) -> dict[str, Any] | None:
    """Ask the agent; None when none runs and nothing tells that there could be pods."""
    from minipod.cli.client import AgentDown, call

    there = start or os.path.exists(f"{where.config.root_dir}/state.db")
    try:
        with call(where.config, request, start=there) as answer:
            return answer.finish()
    except AgentDown:
        return None


def _run_script(ctx: typer.Context, lab: Lab, script: str) -> None:
    """Run a script of a lab with sh, and show what it prints.

    Raises:
        MinipodError: it failed.
    """
    import shlex
    import subprocess
    import tempfile

    from minipod.cli.output import escape
    from minipod.errors import MinipodError

    # This very minipod, wherever it is installed, and whatever else is called so.
    us = f'minipod() {{ {shlex.quote(sys.executable)} -P -m minipod "$@"; }}\n'
    env = {**os.environ, **session(ctx).config.to_env(), "PATH": _PATH}
    env.pop("MINIPOD_LAB", None)
    # A file, because what the script leaves running would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["sh", "-eu", "-c", us + script],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=env,
            start_new_session=True,
        )
        try:
            code = process.wait(_SCRIPT_TIMEOUT)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = 128 + signal.SIGKILL
        output.seek(0)
        print(escape(output.read().decode(errors="replace").rstrip("\n"), keep="\n\t"))
    if code != 0:
        raise MinipodError(
            f"the script of lab {lab.number} ended with exit code {code}",
            f"minipod lab reset {lab.number}, and again",
        )


def _print_markdown(text: str) -> None:
    import shutil

    from minipod.cli.markdown import render
    from minipod.cli.output import painter

    width = min(100, shutil.get_terminal_size().columns)
    print(render(text, width, painter(sys.stdout)))
