# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in files: load, save."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from minipod.cli.image.group import Json, References, app
from minipod.cli.options import Session, complete_words, session, verb

_SPOOL = "/var/tmp"  # /tmp is often memory, and images are big
_FORMATS = ("oci-archive", "oci-dir", "docker-archive")


@verb(app, "minipod image load busybox.tar", "docker save app:1 | sudo minipod image load -")
def load(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="An OCI or Docker archive, an OCI layout directory, or - for stdin.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="IMAGE", help="What to call it, instead of what it says."),
    ] = None,
) -> None:
    """Put the images of an archive into the store."""
    from minipod.cli.client import call
    from minipod.cli.output import say
    from minipod.cli.progress import Progress

    progress = Progress()
    source = file if file != "-" else "standard input"
    request = {"verb": "image", "op": "load", "name": name, "source": source}
    with (
        opened(file, "an archive", spooled=True) as fd,
        call(session(ctx).config, request, [fd]) as answer,
    ):
        try:
            for event in answer:
                step = event.get("progress", {})
                progress.update("load", _describe_progress(step))
        finally:
            progress.clear()
        for reference in answer.finish().get("references", []):
            say(f"loaded {reference}")


def _describe_progress(step: Json) -> str:
    layer = str(step.get("layer") or "").removeprefix("sha256:")[:12]
    words = " ".join(str(word) for word in (step.get("image"), layer, step.get("status")) if word)
    # Shares of a layer are for a terminal only; elsewhere each would be a line.
    if sys.stderr.isatty() and step.get("total"):
        words += f" {100 * step.get('done', 0) // step['total']} %"
    return words


@contextmanager
def opened(file: str, what: str, *, spooled: bool = False) -> Iterator[int]:
    """Give an fd of a file or directory, or of standard input for ``-``.

    Args:
        file: its name.
        what: what it is, in errors.
        spooled: standard input is copied to a file first, because it will be read at random.

    Raises:
        UsageError: it cannot be opened.
    """
    from minipod.errors import UsageError

    if file != "-":
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"{file}: {(error.strerror or str(error)).lower()}",
                f"name {what}, a directory, or -",
            ) from error
        try:
            yield fd
        finally:
            os.close(fd)
        return
    import shutil
    import tempfile

    if sys.stdin.isatty():
        raise UsageError(f"{what} is not typed in", "docker save IMAGE | sudo minipod image load -")
    if not spooled:
        yield 0
        return
    with tempfile.TemporaryFile(dir=_SPOOL) as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        spool.flush()
        spool.seek(0)
        yield spool.fileno()


@verb(
    app,
    "minipod image save localhost/app:1 -o app.tar",
    "minipod image save app:1 -o - | gzip > app.tar.gz",
    "minipod image save app:1 app:2 --format oci-dir -o layout",
)
def save(
    ctx: typer.Context,
    references: References,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to, or - for stdout.")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="|".join(_FORMATS),
            help="What to write.",
            autocompletion=complete_words(*_FORMATS),
        ),
    ] = "oci-archive",
) -> None:
    """Write images into an archive, or into a directory, as an OCI image layout.

    All of it appears at once, or nothing. Podman, Docker and skopeo read them, and `image load`.
    """
    from minipod.cli.output import check_format
    from minipod.errors import UsageError

    request = {
        "verb": "image",
        "op": "save",
        "references": references,
        "format": check_format(form, _FORMATS),
    }
    if form == "oci-dir":
        _save_to_directory(session(ctx), request, output)
    elif output == "-":
        if sys.stdout.isatty():
            raise UsageError("an archive is not for a terminal", "write it to a file: -o app.tar")
        _save_to_stdout(session(ctx), request)
    else:
        _save_to_file(session(ctx), request, output)


def _save_to_stdout(where: Session, request: Json) -> None:
    """Write to stdout when all is there; an archive is not written from front to back."""
    import tempfile

    from minipod.cli.client import call
    from minipod.cli.terminal import write_all

    with tempfile.TemporaryFile(dir=_SPOOL) as spool:
        with call(where.config, request, [spool.fileno()]) as answer:
            answer.finish()
        spool.seek(0)
        while data := spool.read(1 << 20):
            write_all(1, data)


def _save_to_directory(where: Session, request: Json, output: str) -> None:
    """Write into the directory *output*, which must be empty or not there, and gets its content at once.

    Raises:
        UsageError: there is something.
    """
    import shutil

    from minipod.cli.client import call
    from minipod.errors import UsageError

    if output == "-":
        raise UsageError("a directory cannot be written to stdout", "-o DIR, or another --format")
    output = output.rstrip("/") or output
    partial = f"{output}.{os.getpid()}.partial"
    os.mkdir(partial, 0o755)
    fd = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with call(where.config, request, [fd]) as answer:
            answer.finish()
        try:
            os.rename(partial, output)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(f"{output}: {why}", "name a new directory, or an empty one") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(fd)


def _save_to_file(where: Session, request: Json, output: str) -> None:
    """Write to *output*, which takes its name only when all is written."""
    from minipod.cli.client import call

    flags = os.O_WRONLY | os.O_CLOEXEC
    # A pipe or a device is written to; renaming a file over it would replace it.
    replaced = os.path.isfile(output) or not os.path.lexists(output)
    path = f"{output}.{os.getpid()}.partial" if replaced else output
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL if replaced else flags, 0o644)
    try:
        with call(where.config, request, [fd]) as answer:
            answer.finish()
        if replaced:
            os.rename(path, output)
    except BaseException:
        if replaced:
            os.unlink(path)
        raise
    finally:
        os.close(fd)
