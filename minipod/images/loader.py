# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that loads or pulls an image, so that the agent's loop stays free: ``python -m minipod.images.loader``.

It reads one line of JSON from stdin, with ``root`` (of the store) and what is to be done:

* to load: ``path`` or ``fd`` (inherited), and optionally ``name``, ``platform`` and ``source``, for errors;
* to make an image of a root file system: ``fd`` and ``make``, optionally ``platform`` and ``source``;
* to pull: ``reference``, ``settings``, ``auths`` and ``proxies`` (see ``registry.source.Access``);
* to push: ``push``, ``destination``, ``settings``, ``auths`` and ``proxies``.

It writes lines of JSON to stdout: any number of ``{"progress": {"layer", "status", "done", "total"}}``, then either
``{"done": [references], "images": [manifest digests]}`` or ``{"error": {"what", "remedy", "reason", "exitCode"}}``, and
exits with 0 or 1. A killed loader leaves nothing that the next sweep does not find.

It parses hostile input as root; so it gives up what it does not need. At its start: the network (unless a registry is
asked), the System V objects, ever gaining privileges, and all capabilities but those that writing a layer takes. And
before it reads anything from outside, when it has opened what it is to read and knows the credentials (which helpers
may say): all that :mod:`minipod.images.seclusion` tells of.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from minipod.errors import MinipodError
from minipod.images.edge import Edge
from minipod.images.layout import Layout
from minipod.images.reference import normalize_reference
from minipod.images.store import ImageStore

if TYPE_CHECKING:
    from minipod.images.registry.source import Access

# DAC_OVERRIDE also to read the archive, SYS_ADMIN for opaque directories. Whiteouts need no MKNOD (Linux 5.8).
KEPT_CAPABILITIES = ("chown", "dac_override", "fowner", "fsetid", "setfcap", "sys_admin")
_MAX_REQUEST = 16 << 20  # pull secrets may be in it


def main() -> int:
    """Serve one request from stdin; return the exit code."""
    os.umask(0)
    line = sys.stdin.buffer.readline(_MAX_REQUEST)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whoever prints does not disturb the messages
    try:
        request = json.loads(line)
        confine(network="reference" in request or "push" in request)
        answer = _work(request)(request, output)
    except MinipodError as error:
        answer = _error(error)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        answer = _error(MinipodError(f"image loader: {error!r}", "load it again"))
    _write(output, answer)
    output.close()
    sys.stderr.flush()
    return 1 if "error" in answer else 0


def load(request: dict[str, Any], output: BinaryIO) -> dict[str, Any]:
    """Load what *request* says, with progress to *output*; return the last message.

    Raises:
        MinipodError: the image is refused or cannot be loaded.
        KeyError: the request lacks ``root``, or both ``path`` and ``fd``.
    """
    fd = _opened(request)
    _seclude(request)
    images = ImageStore(request["root"]).load(
        fd,
        progress=lambda progress: _write(output, {"progress": progress}),
        name=request.get("name"),
        platform=request.get("platform"),
        label=request.get("source") or request.get("path") or "archive",
    )
    references = [name for image in images for name in image.references or (image.digest,)]
    return {"done": references, "images": [image.digest for image in images]}


def pull(request: dict[str, Any], output: BinaryIO) -> dict[str, Any]:
    """Pull what *request* says, with progress to *output*; return the last message.

    Raises:
        MinipodError: the image cannot be had.
        KeyError: the request lacks something.
    """
    image = ImageStore(request["root"]).pull(
        request["reference"],
        _access(request),
        progress=lambda progress: _write(output, {"progress": progress}),
        platform=request.get("platform"),
    )
    return {"done": [normalize_reference(request["reference"])], "images": [image.digest]}


def make(request: dict[str, Any], output: BinaryIO) -> dict[str, Any]:
    """Make the image that *request* says; return the last message, with ``notes``.

    Raises:
        MinipodError: it cannot be made.
        KeyError: the request lacks something.
    """
    from minipod.images.making.pack import check_compression
    from minipod.images.making.source import Making

    said = request["make"]
    making = Making(
        said["name"],
        said["config"],
        check_compression(said["compression"]),
        said["newest"],
        said["comment"],
    )
    _seclude(request)
    image, notes = ImageStore(request["root"]).make(
        request["fd"],
        making,
        progress=lambda progress: _write(output, {"progress": progress}),
        platform=request.get("platform"),
        label=request.get("source") or "root file system",
    )
    return {"done": list(image.references), "images": [image.digest], "notes": notes}


def push(request: dict[str, Any], output: BinaryIO) -> dict[str, Any]:
    """Push what *request* says, with progress to *output*; return the last message.

    Raises:
        MinipodError: the registry does not take the image.
        KeyError: the request lacks something.
    """
    digest = ImageStore(request["root"]).push(
        request["push"],
        request["destination"],
        _access(request),
        progress=lambda progress: _write(output, {"progress": progress}),
    )
    return {"done": [normalize_reference(request["destination"])], "images": [digest]}


def _access(request: dict[str, Any]) -> Access:
    from minipod.images.registry.settings import Settings
    from minipod.images.registry.source import Access

    settings = Settings(**request["settings"])
    certificates = [f"{settings.docker_dir}/certs.d", f"{settings.containers_dir}/certs.d"]
    return Access(
        settings,
        request["auths"],
        request["proxies"],
        settled=lambda: _seclude(request, certificates, network=True),
    )


def _opened(request: dict[str, Any]) -> int:
    """Return an fd of the archive or directory.

    Raises:
        MinipodError: it cannot be opened.
    """
    if request.get("fd") is not None:
        return int(request["fd"])
    with Edge(request["path"]):
        return os.open(request["path"], os.O_RDONLY | os.O_CLOEXEC)


def _seclude(request: dict[str, Any], shown: Sequence[str] = (), *, network: bool = False) -> None:
    """Shut this process in with the store, before it reads anything from outside."""
    from minipod.images.seclusion import seclude

    with Edge(request["root"]):
        Layout(request["root"]).create()
        seclude(request["root"], shown, network=network)


def _work(request: dict[str, Any]) -> Callable[[dict[str, Any], BinaryIO], dict[str, Any]]:
    if "push" in request:
        return push
    if "make" in request:
        return make
    return pull if "reference" in request else load


def confine(*, network: bool = False) -> None:
    """Give up, in this process and for good, what loading does not need.

    Args:
        network: whether to keep the network; no capability over it is kept.

    Raises:
        OSError: the kernel refuses; then nothing may be loaded.
    """
    import prctl

    from minipod.native import CLONE_NEWIPC, CLONE_NEWNET, unshare

    prctl.set_name("minipod-loader")
    # We are root of the host with whatever capabilities the agent has; the new namespaces need CAP_SYS_ADMIN, so first.
    unshare(CLONE_NEWIPC | (0 if network else CLONE_NEWNET))
    prctl.set_no_new_privs(1)
    prctl.cap_inheritable.limit()
    prctl.capbset.limit(*(getattr(prctl, f"CAP_{name.upper()}") for name in KEPT_CAPABILITIES))
    prctl.cap_effective.limit(
        *(getattr(prctl, f"CAP_{name.upper()}") for name in KEPT_CAPABILITIES)
    )
    prctl.cap_permitted.limit(
        *(getattr(prctl, f"CAP_{name.upper()}") for name in KEPT_CAPABILITIES)
    )
    # What nobody waits for any more ends; the next agent sweeps it away.
    prctl.set_pdeathsig(signal.SIGKILL)


def _write(output: BinaryIO, message: dict[str, Any]) -> None:
    output.write(json.dumps(message).encode() + b"\n")
    output.flush()


def _error(error: MinipodError) -> dict[str, Any]:
    details = {
        "what": error.what,
        "remedy": error.remedy,
        "reason": error.reason,
        "exitCode": error.exit_code,
    }
    return {"error": details}


if __name__ == "__main__":
    sys.exit(main())
