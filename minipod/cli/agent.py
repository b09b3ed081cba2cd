# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod agent``: the process behind the socket. Other verbs start it when they need it; these do not."""

from __future__ import annotations

import os
import select
from typing import Any

import typer

from minipod.cli.options import SETTINGS, Output, examples, session, verb

app = typer.Typer(
    help="See, stop or run the agent that does the work.",
    epilog=examples("minipod agent status", "minipod agent stop"),
    **SETTINGS,
)

_STOP_TIMEOUT = 60.0  # seconds


@verb(app, "minipod agent status", "minipod agent status -o json")
def status(
    ctx: typer.Context,
    output: Output = "",
) -> None:
    """Show whether the agent runs, and where; if not, exit with 1."""
    from minipod.cli.client import AgentDown, call
    from minipod.cli.output import check_format, dump

    form = check_format(output, ("json", "yaml"))
    try:
        with call(session(ctx).config, {"verb": "agent-status"}, start=False) as answer:
            done = answer.finish()
    except AgentDown:
        print("the agent is not running")
        raise typer.Exit(1) from None
    if form:
        dump(done, form)
    else:
        _show(done)


def _show(done: dict[str, Any]) -> None:
    from minipod.cli.output import say
    from minipod.cli.podtable import human_duration

    width = max(map(len, done)) + 2
    for name, value in done.items():
        if name == "uptimeSeconds":
            say(f"{'uptime:':<{width}}{human_duration(float(value))}")
        elif isinstance(value, list):
            for item in value:
                say(f"{name + ':':<{width}}{item}")
        else:
            say(f"{name + ':':<{width}}{value}".rstrip())


@verb(app, "minipod agent stop")
def stop(ctx: typer.Context) -> None:
    """Stop the agent, which ends requests in progress; pods go on running."""
    from minipod.cli.client import AgentDown, call, peer_pid
    from minipod.cli.start import log_place
    from minipod.errors import MinipodError

    try:
        with call(session(ctx).config, {"verb": "agent-stop"}, start=False) as answer:
            pid, _ = peer_pid(answer)
            # Taken while it serves us: the number cannot be another process's yet.
            process = _pidfd(pid)
            try:
                done = answer.finish()
                pods = int(done.get("pods", 0))
                if (
                    pid == 1
                ):  # systemd, who has made the socket and started the agent for this connection
                    process = _pidfd(int(done.get("pid", 0)))
                if process >= 0 and not select.select([process], [], [], _STOP_TIMEOUT)[0]:
                    raise MinipodError(
                        f"the agent, pid {pid}, was told to stop but did not within {_STOP_TIMEOUT:.0f} s",
                        f"its log: {log_place(session(ctx).config)}",
                    )
            finally:
                if process >= 0:
                    os.close(process)
    except AgentDown:
        print("the agent is not running")
        return
    go_on = f"; {pods} pod{'s go' if pods > 1 else ' goes'} on running" if pods else ""
    print(f"the agent has stopped{go_on}")


def _pidfd(pid: int) -> int:
    """Return a pidfd to wait for the agent's end with, or -1 when it is out of sight."""
    if pid in (0, 1, os.getpid()):  # 0: in a pid namespace that we do not see into
        return -1
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


@verb(app, "minipod agent run")
def run(ctx: typer.Context) -> None:
    """Run the agent in the foreground."""
    from minipod.cli.client import must_be_root

    config = session(ctx).config
    if os.geteuid() != 0:
        raise must_be_root()
    # The agent reads its config as a process of its own does.
    os.environ.update(config.to_env())
    from minipod.agent.main import main

    raise typer.Exit(main([]))
