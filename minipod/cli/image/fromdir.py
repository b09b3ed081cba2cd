# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of root file systems: from-dir."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from minipod.cli.image.files import opened
from minipod.cli.image.group import Json, app
from minipod.cli.options import complete_images, complete_words, session, verb

_COMPRESSIONS = ("gzip", "zstd", "none")
_SIGNAL = re.compile(r"(SIG)?[A-Z][A-Z0-9+-]{1,15}|[1-9][0-9]?")
_PORT = re.compile(r"([0-9]{1,5})(/(tcp|udp|sctp))?")
_LATEST = 1 << 34  # seconds, which file systems can hold


def _option(name: str, *more: str, metavar: str, help: str, **others: Any) -> Any:
    return typer.Option(name, *more, metavar=metavar, help=help, **others)


@verb(
    app,
    "sudo minipod image from-dir rootfs localhost/debian:13 --cmd bash",
    "mmdebstrap trixie - | sudo minipod image from-dir - localhost/debian:13",
    name="from-dir",
)
def from_dir(
    ctx: typer.Context,
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="A root file system: a directory, a tar, or - for a tar on stdin."
        ),
    ],
    reference: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="What to call it.", autocompletion=complete_images),
    ],
    entrypoint: Annotated[
        str, _option("--entrypoint", metavar="COMMAND", help='Words, or a JSON list: ["/a", "b"].')
    ] = "",
    cmd: Annotated[
        str, _option("--cmd", metavar="COMMAND", help="The words after it, written as those.")
    ] = "",
    env: Annotated[
        list[str] | None, _option("--env", "-e", metavar="NAME=VALUE", help="A variable.")
    ] = None,
    user: Annotated[
        str, _option("--user", "-u", metavar="USER[:GROUP]", help="Who it runs as.")
    ] = "",
    workdir: Annotated[
        str, _option("--workdir", "-w", metavar="DIR", help="Where it starts.")
    ] = "",
    label: Annotated[
        list[str] | None, _option("--label", "-l", metavar="NAME=VALUE", help="A label.")
    ] = None,
    expose: Annotated[
        list[str] | None,
        _option("--expose", metavar="PORT[/PROTOCOL]", help="A port that it listens on."),
    ] = None,
    volume: Annotated[
        list[str] | None, _option("--volume", metavar="DIR", help="Where it wants a volume.")
    ] = None,
    stop_signal: Annotated[
        str, _option("--stop-signal", metavar="SIGNAL", help="What ends it (SIGTERM).")
    ] = "",
    platform: Annotated[
        str, _option("--platform", metavar="OS/ARCH", help="Instead of this machine's.")
    ] = "",
    compression: Annotated[
        str,
        _option(
            "--compression",
            metavar="|".join(_COMPRESSIONS),
            help="Of its layer.",
            autocompletion=complete_words(*_COMPRESSIONS),
        ),
    ] = "gzip",
    timestamp: Annotated[
        int | None,
        _option(
            "--timestamp",
            metavar="SECONDS",
            help="Since 1970: what is newer is said to be of then.",
            envvar="SOURCE_DATE_EPOCH",
        ),
    ] = None,
    comment: Annotated[
        str, _option("--comment", "-m", metavar="TEXT", help="For its history.")
    ] = "",
) -> None:
    """Make an image of a root file system.

    Equal trees with equal options give equal digests. Owners, modes, hard links, capabilities and user attributes are
    kept; device nodes, sockets and what is mounted below are left out.
    """
    from minipod.cli.client import call
    from minipod.cli.output import say, warn
    from minipod.cli.progress import Progress
    from minipod.cli.sizes import human_size
    from minipod.errors import UsageError

    if timestamp is not None and not 0 <= timestamp < _LATEST:
        raise UsageError(f"--timestamp {timestamp}: is out of range", "date +%s tells one")
    config = {
        "Entrypoint": _words(entrypoint, "--entrypoint"),
        "Cmd": _words(cmd, "--cmd"),
        "Env": [f"{name}={value}" for name, value in _pairs(env, "--env").items()],
        "User": user,
        "WorkingDir": _absolute(workdir, "--workdir"),
        "Labels": _pairs(label, "--label"),
        "ExposedPorts": {_port(text): {} for text in expose or ()},
        "Volumes": {_absolute(text, "--volume"): {} for text in volume or ()},
        "StopSignal": _signal(stop_signal),
    }
    request: Json = {
        "verb": "image",
        "op": "make",
        "reference": reference,
        "config": {name: value for name, value in config.items() if value},
        "platform": platform,
        "compression": compression,
        "newest": timestamp,
        "comment": comment,
        "source": directory if directory != "-" else "standard input",
    }
    progress = Progress()
    with opened(directory, "a tar") as fd, call(session(ctx).config, request, [fd]) as answer:
        try:
            for event in answer:
                step = event.get("progress", {})
                if sys.stderr.isatty():
                    size = human_size(step.get("done") or 0)
                    progress.update("make", f"{step.get('status')} {size}")
        finally:
            progress.clear()
        done = answer.finish()
    for note in done["notes"]:
        warn(note)
    for name in done["references"]:
        say(f"made {name} {done['digest']}")


def _words(text: str, option: str) -> list[str]:
    """Return the words of a command, as a Dockerfile has them."""
    import json
    import shlex

    from minipod.errors import UsageError

    try:
        if not text.lstrip().startswith("["):
            return shlex.split(text)
        words = json.loads(text)
    except ValueError as error:
        why = str(error)
        raise UsageError(
            f"{option}: {why[:1].lower()}{why[1:]}", """write it as words, or as '["/a", "b"]'"""
        ) from None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{option}: is not a list of strings", """'["/a", "b"]'""")
    return words


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    from minipod.errors import UsageError

    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {text!a}: has no name or no value", "write NAME=VALUE")
        pairs[name] = value
    return pairs


def _absolute(path: str, option: str) -> str:
    from minipod.errors import UsageError

    if path and not path.startswith("/"):
        raise UsageError(f"{option} {path!a}: is not an absolute path", f"/{path.lstrip('./')}")
    return path


def _port(text: str) -> str:
    from minipod.errors import UsageError

    match = _PORT.fullmatch(text)
    if not match or not 0 < int(match[1]) < 65536:
        raise UsageError(f"--expose {text!a}: is not a port", "write 80, 80/tcp or 53/udp")
    return f"{int(match[1])}/{match[3] or 'tcp'}"


def _signal(text: str) -> str:
    from minipod.errors import UsageError

    if text and not _SIGNAL.fullmatch(text):
        raise UsageError(f"--stop-signal {text!a}: is not a signal", "kill -l lists them")
    return text
