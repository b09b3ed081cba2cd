# SPDX-License-Identifier: GPL-3.0-or-later
"""The image verbs that bring images in or out: load, make, pull, push, save."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Literal

from minipod.agent.loading import run_loader
from minipod.agent.puller import Puller
from minipod.agent.server import Call, Handler
from minipod.errors import NotFound, UsageError
from minipod.images import Image, ImageStore, normalize_reference
from minipod.pods.manager import PodManager


def find(images: ImageStore, reference: str) -> Image:
    """Return the image that *reference* means.

    Raises:
        NotFound: there is none.
        UsageError: it is no reference, digest or id, or several images have ids that begin so.
    """
    image = images.get(reference)
    if image is None:
        raise NotFound(
            f"image {reference} is not in the store", "minipod image ls shows what is there"
        )
    return image


class Transfers:
    """Brings images into the store, and out of it."""

    def __init__(self, images: ImageStore, manager: PodManager, puller: Puller) -> None:
        self._images = images
        self._manager = manager
        self._puller = puller

    def operations(self) -> dict[str, Handler]:
        """Return the operations that this answers."""
        return {
            "load": self._load,
            "make": self._make,
            "pull": self._pull,
            "push": self._push,
            "save": self._save,
        }

    async def _load(self, call: Call) -> dict[str, Any]:
        if len(call.fds) != 1:
            raise UsageError("an image load needs one file")
        fd = call.fds[0]
        request = {
            "root": self._images.root,
            "fd": fd,
            "name": call.request.get("name"),
            "source": call.text("source", "archive"),
        }
        done = await run_loader(request, call.event, fds=(fd,))
        self._manager.image_came()
        return {"references": done["done"]}

    async def _make(self, call: Call) -> dict[str, Any]:
        """Make an image of a root file system: a directory, or a tar."""
        if len(call.fds) != 1:
            raise UsageError("an image is made of one directory or file")
        fd, config, newest = call.fds[0], call.request.get("config"), call.request.get("newest")
        if not isinstance(config, dict) or not isinstance(newest, int | None):
            raise UsageError("config must be an object, and newest a number of seconds")
        request = {
            "root": self._images.root,
            "fd": fd,
            "make": {
                "name": normalize_reference(call.text("reference")),
                "config": config,
                "compression": call.text("compression", "gzip"),
                "newest": newest,
                "comment": call.text("comment", ""),
            },
            "platform": call.text("platform", "") or None,
            "source": call.text("source", "root file system"),
        }
        done = await run_loader(request, call.event, fds=(fd,))
        self._manager.image_came()
        return {"references": done["done"], "digest": done["images"][0], "notes": done["notes"]}

    async def _pull(self, call: Call) -> dict[str, Any]:
        """Pull one image, and tell how far it is."""
        reference = normalize_reference(call.text("reference"))
        auths = _auths(call)
        before = self._images.get(reference)
        image = await self._puller.pull(
            reference, auths, heard=call.event, platform=call.request.get("platform") or ""
        )
        self._manager.image_came()
        return {
            "reference": reference,
            "digest": image.digest,
            "changed": before is None or before.digest != image.digest,
        }

    async def _push(self, call: Call) -> dict[str, Any]:
        """Put one image into a registry, and tell how far it is."""
        reference = call.text("reference")
        image = find(self._images, reference)
        destination = call.text("destination", "") or _own_name(reference, image)
        request = {
            "root": self._images.root,
            "push": reference,
            "destination": normalize_reference(destination),
            "auths": _auths(call),
            **self._puller.access(),
        }
        done = await run_loader(request, call.event)
        return {"reference": done["done"][0], "digest": done["images"][0]}

    async def _save(self, call: Call) -> dict[str, Any]:
        if len(call.fds) != 1:
            raise UsageError("an image save needs one file")
        references = call.request.get("references") or []
        for reference in references:
            find(self._images, reference)
        style: Literal["oci-archive", "docker-archive"] = "oci-archive"
        match call.request.get("format") or style:
            case "oci-dir":
                await asyncio.to_thread(self._images.save_directory, references, call.fds[0])
                return {"references": references}
            case "oci-archive":
                pass
            case "docker-archive":
                style = "docker-archive"
            case other:
                raise UsageError(
                    f"unknown format {other!r}", "use oci-archive, oci-dir or docker-archive"
                )
        target = os.fdopen(os.dup(call.fds[0]), "wb")

        def write() -> None:
            with target:
                self._images.save(references, target, format=style)

        await asyncio.to_thread(write)
        return {"references": references}


def _auths(call: Call) -> list[dict[str, Any]]:
    auths = call.request.get("auths") or []
    if not isinstance(auths, list) or not all(isinstance(each, dict) for each in auths):
        raise UsageError("auths must be a list of objects")
    return auths


def _own_name(reference: str, image: Image) -> str:
    """Return the name under which *image*, which *reference* means, is pushed when none is given."""
    try:
        name = normalize_reference(reference)
    except UsageError:
        name = ""
    if name in image.references:
        return name
    if not image.references:
        raise UsageError(
            f"image {reference} has no name", "name where to push it: image push IMAGE DEST"
        )
    return image.references[0]
