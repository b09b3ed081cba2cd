# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod version``."""

from __future__ import annotations

import typer

from minipod import __version__
from minipod.cli.options import SETTINGS, Output, verb

app = typer.Typer(**SETTINGS)


@verb(app, "minipod version")
def version(
    output: Output = "",
) -> None:
    """Show the version of minipod."""
    show(output)


def show(output: str = "") -> None:
    """Print the version, as a line or as an object."""
    if not output:
        print(f"minipod {__version__}")
        return
    from minipod.cli.output import check_format, dump

    dump({"version": __version__}, check_format(output, ("json", "yaml")))
