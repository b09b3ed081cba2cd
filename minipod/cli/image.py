# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod image``: what is in the image store."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from minipod.cli.options import (
    SETTINGS,
    Session,
    complete_images,
    complete_words,
    examples,
    session,
    verb,
)

Json = dict[str, Any]

app = typer.Typer(
    help="List, load, pull, save, remove and inspect images.",
    epilog=examples("minipod image ls", "minipod image pull nginx"),
    **SETTINGS,
)

_SPOOL = "/var/tmp"  # /tmp is often memory, and images are big
_FORMATS = ("oci-archive", "docker-archive")
References = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE...", help="References or ids.", autocompletion=complete_images),
]


@verb(app, "minipod image ls", "minipod image ls -o json", name="ls")
def list_images(
    ctx: typer.Context,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="json|yaml|name",
            help="How to print.",
            autocompletion=complete_words("json", "yaml", "name"),
        ),
    ] = "",
) -> None:
    """List the images."""
    from minipod.cli.client import call
    from minipod.cli.output import Table, check_format, dump, say

    form = check_format(output, ("json", "yaml", "name"))
    with call(session(ctx).config, {"verb": "image", "op": "list"}) as answer:
        images: list[Json] = answer.finish().get("images", [])
    if form in ("json", "yaml"):
        dump(images, form)
    elif form == "name":
        for image in images:
            for name in _names(image):
                say(name)
    elif images:
        rows = [_row(name, image) for image in images for name in _names(image)]
        Table("REFERENCE", "IMAGE ID", "SIZE", "CREATED").show(sorted(rows))
    else:
        print("No images.", file=sys.stderr)


def _names(image: Json) -> list[str]:
    return image.get("references") or [image.get("reference") or image["id"]]


def _row(name: str, image: Json) -> list[str]:
    import time

    from minipod.cli.podtable import UNKNOWN, age

    made = age(image.get("created"), time.time())
    short = str(image.get("id", "")).removeprefix("sha256:")[:12]
    return [
        name,
        short,
        human_size(image.get("size", 0)),
        made if made == UNKNOWN else f"{made} ago",
    ]


def human_size(size: float) -> str:
    """Return a number of bytes as ``12.3MB`` (powers of 1000, as registries count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.4g}TB"


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
        str | None, typer.Option("--name", metavar="IMAGE", help="A further name for the image.")
    ] = None,
) -> None:
    """Put the images of an archive into the store."""
    from minipod.cli.client import call
    from minipod.cli.output import say
    from minipod.cli.progress import Progress

    progress = Progress()
    source = file if file != "-" else "standard input"
    request = {"verb": "image", "op": "load", "name": name, "source": source}
    with _opened(file) as fd, call(session(ctx).config, request, [fd]) as answer:
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
def _opened(file: str) -> Iterator[int]:
    """Give an fd of the archive or directory; standard input is spooled, because an archive is read at random."""
    from minipod.errors import UsageError

    if file != "-":
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"{file}: {(error.strerror or str(error)).lower()}",
                "name an archive, a directory, or -",
            ) from error
        try:
            yield fd
        finally:
            os.close(fd)
        return
    import shutil
    import tempfile

    if sys.stdin.isatty():
        raise UsageError(
            "an archive is not typed in", "docker save IMAGE | sudo minipod image load -"
        )
    with tempfile.TemporaryFile(dir=_SPOOL) as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        spool.flush()
        spool.seek(0)
        yield spool.fileno()


@verb(
    app,
    "minipod image pull nginx",
    "minipod image pull localhost:5000/app:1 quay.io/fedora/fedora:42",
)
def pull(
    ctx: typer.Context,
    references: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="References, as docker pull takes them.")
    ],
    platform: Annotated[
        str, typer.Option("--platform", metavar="OS/ARCH", help="Instead of this machine's.")
    ] = "",
    authfile: Annotated[
        str,
        typer.Option(
            "--authfile",
            metavar="FILE",
            envvar="REGISTRY_AUTH_FILE",
            help="Credentials to try before this machine's, as docker login writes them.",
        ),
    ] = "",
) -> None:
    """Get images from registries.

    Nothing is transferred of an image that is here as the registry has it. Ctrl-C leaves all as it was.
    """
    from minipod.cli.client import call
    from minipod.cli.layers import Layers
    from minipod.cli.output import say

    auths = [_read_auths(authfile)] if authfile else []
    for reference in references:
        request = {
            "verb": "image",
            "op": "pull",
            "reference": reference,
            "platform": platform,
            "auths": auths,
        }
        layers = Layers()
        with call(session(ctx).config, request) as answer:
            try:
                for event in answer:
                    layers.update(event.get("progress", {}))
            finally:
                layers.clear()
            done = answer.finish()
        say(f"{'pulled' if done['changed'] else 'unchanged'} {done['reference']} {done['digest']}")


def _read_auths(file: str) -> Json:
    import json

    from minipod.errors import UsageError

    remedy = "docker login --config DIR, or podman login --authfile FILE, writes such a file"
    try:
        with open(file, encoding="utf-8") as opened:
            found = json.load(opened)
    except OSError as error:
        raise UsageError(f"{file}: {(error.strerror or str(error)).lower()}", remedy) from error
    except ValueError:
        raise UsageError(f"{file}: is not JSON", remedy) from None
    if not isinstance(found, dict):
        raise UsageError(f"{file}: is not an object", remedy)
    return found


@verb(
    app,
    "minipod image save localhost/app:1 -o app.tar",
    "minipod image save app:1 -o - | gzip > app.tar.gz",
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
    """Write images into an archive."""
    from minipod.cli.output import check_format
    from minipod.errors import UsageError

    request = {
        "verb": "image",
        "op": "save",
        "references": references,
        "format": check_format(form, _FORMATS),
    }
    if output == "-":
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


@verb(app, "minipod image rm localhost/app:1")
def rm(
    ctx: typer.Context,
    references: References,
    force: Annotated[bool, typer.Option("--force", "-f", help="Even when a pod uses it.")] = False,
) -> None:
    """Remove images from the store."""
    from minipod.cli.client import call
    from minipod.cli.output import say

    request = {"verb": "image", "op": "rm", "references": references, "force": force}
    with call(session(ctx).config, request) as answer:
        for line in answer.finish().get("removed", []):
            say(line)


@verb(app, "minipod image inspect localhost/app:1")
def inspect(
    ctx: typer.Context,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE", help="A reference or an id.", autocompletion=complete_images
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="json|yaml", help="How to print.")
    ] = "json",
) -> None:
    """Show what an image says of itself."""
    from minipod.cli.client import call
    from minipod.cli.output import check_format, dump

    form = check_format(output, ("json", "yaml"))
    with call(
        session(ctx).config, {"verb": "image", "op": "inspect", "reference": reference}
    ) as answer:
        dump(answer.finish().get("image", {}), form)
