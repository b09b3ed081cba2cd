# SPDX-License-Identifier: GPL-3.0-or-later
"""The image verbs, and those that look at the store or tidy it up: list, inspect, history, tag, rm, prune."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from minipod.agent.imagefilter import age, image_filter
from minipod.agent.imagesizes import ImageSizes
from minipod.agent.imagetransfers import Transfers, find
from minipod.agent.imageuse import ImageUse
from minipod.agent.puller import Puller
from minipod.agent.server import Call, Handler
from minipod.errors import MinipodError, UsageError
from minipod.images import Image, ImageStore
from minipod.images.sizes import Share
from minipod.pods.manager import PodManager
from minipod.pods.times import timestamp


class ImageService:
    """Answers requests about images."""

    def __init__(
        self,
        images: ImageStore,
        manager: PodManager,
        puller: Puller,
        use: ImageUse,
        sizes: ImageSizes,
    ) -> None:
        self._images = images
        self._manager = manager
        self._use = use
        self._sizes = sizes
        self._transfers = Transfers(images, manager, puller)

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that this service answers."""
        return {"image": self.image}

    async def image(self, call: Call) -> dict[str, Any]:
        """Do what ``op`` says."""
        operations: dict[str, Handler] = {
            "list": self._list,
            **self._transfers.operations(),
            "tag": self._tag,
            "rm": self._remove,
            "prune": self._prune,
            "inspect": self._inspect,
            "history": self._history,
        }
        operation = operations.get(call.text("op"))
        if operation is None:
            raise UsageError(
                f"unknown image operation {call.request['op']!r}", f"use {', '.join(operations)}"
            )
        return await operation(call)

    async def _list(self, call: Call) -> dict[str, Any]:
        if call.request.get("brief"):  # for who completes names
            return {"images": [{"references": list(i.references)} for i in self._images.list()]}
        wanted = image_filter(texts(call, "filters"), self._images)
        shares, users = await self._sizes.shares(), self._use.users()
        return {
            "images": [
                self._summary(image, shares, users)
                for image in self._images.list()
                if wanted(image)
            ]
        }

    async def _inspect(self, call: Call) -> dict[str, Any]:
        reference = call.text("reference")
        image = find(self._images, reference)
        config = image.config
        sizes = await self._sizes.layers()
        layers = [
            {
                "digest": blob.digest,
                "mediaType": blob.media_type,
                "compressedSize": blob.size,
                "diffId": diff_id,
                "size": sizes.get(diff_id.removeprefix("sha256:"), 0),
            }
            for blob, diff_id in self._images.layers(image.digest)
        ]
        details = {
            "entrypoint": list(config.entrypoint),
            "cmd": list(config.cmd),
            "env": list(config.env),
            "user": config.user,
            "workingDir": config.working_dir,
            "stopSignal": config.stop_signal,
            "labels": dict(config.labels),
            "exposedPorts": list(config.exposed_ports),
            "volumes": list(config.volumes),
        }
        shares = await self._sizes.shares()
        return {
            "image": {
                **self._summary(image, shares, self._use.users()),
                "config": details,
                "layers": layers,
                "layerDirectories": list(image.layers),
                "history": await self._steps(image),
            }
        }

    async def _history(self, call: Call) -> dict[str, Any]:
        image = find(self._images, call.text("reference"))
        return {"id": image.id, "history": await self._steps(image)}

    async def _steps(self, image: Image) -> list[dict[str, Any]]:
        sizes = await self._sizes.layers()
        return [
            {
                "created": step.created,
                "createdBy": step.created_by,
                "comment": step.comment,
                "emptyLayer": not step.layer,
                "diffId": step.layer,
                "size": sizes.get(step.layer.removeprefix("sha256:"), 0),
            }
            for step in self._images.history(image.digest)
        ]

    async def _tag(self, call: Call) -> dict[str, Any]:
        reference, name = call.text("reference"), call.text("name")
        find(self._images, reference)
        done = await asyncio.to_thread(self._images.tag, reference, name)
        self._manager.image_came()
        return {"reference": done}

    async def _remove(self, call: Call) -> dict[str, Any]:
        """Remove what can be removed, and say what cannot, each in its turn."""
        references = texts(call, "references")
        if not references:
            raise UsageError("no image is named", "minipod image rm REFERENCE")
        removed: list[str] = []
        failed: list[dict[str, Any]] = []
        for reference in references:
            try:
                removed += await self._use.remove(reference, force=bool(call.request.get("force")))
            except MinipodError as error:
                if len(references) == 1:
                    raise
                failed.append(error.to_status())
        return {"removed": removed, "failed": failed}

    async def _prune(self, call: Call) -> dict[str, Any]:
        """Remove images that nobody uses: those without a name, all, or the least recently used ones."""
        request = call.request
        keep, older = request.get("keep"), call.text("unusedFor", "")
        if keep is not None and (not isinstance(keep, int) or keep < 0):
            raise UsageError("keep must be a number of bytes")
        wanted = image_filter(texts(call, "filters"), self._images)
        every = bool(request.get("all")) or keep is not None
        # What somebody was asked about before, where anybody was.
        agreed = texts(call, "only") if "only" in request else None
        unused_since = time.time() - age(older) if older else None
        await asyncio.to_thread(self._images.sweep)
        chosen = [
            image
            for image in self._unused()
            if (every or not image.references)
            and (agreed is None or image.digest in agreed)
            and wanted(image)
            and (unused_since is None or self._images.times(image).used < unused_since)
        ]
        before = await self._sizes.total()
        if keep is not None:
            chosen = await self._above(chosen, before - keep)
        if request.get("dryRun"):
            shares = await self._sizes.shares()
            left = await self._left_without(chosen)
            images = [self._summary(image, shares, {}) for image in chosen]
            return {"images": images, "removed": [], "reclaimed": before - left}
        removed = await self._use.remove_unused([image.digest for image in chosen])
        return {
            "images": [],
            "removed": removed,
            "reclaimed": max(0, before - await self._sizes.total()),
        }

    def _unused(self) -> list[Image]:
        """Return the images that no pod uses, the least recently used first."""
        users = self._use.users()
        unused = [image for image in self._images.list() if image.id not in users]
        return sorted(unused, key=lambda image: self._images.times(image).used)

    async def _above(self, images: Sequence[Image], excess: int) -> list[Image]:
        """Return as many of *images*, from the first, as have to go until *excess* bytes are free."""
        before = await self._sizes.total()
        chosen: list[Image] = []
        for image in images:
            if before - await self._left_without(chosen) >= excess:
                break
            chosen.append(image)
        return chosen

    async def _left_without(self, images: Sequence[Image]) -> int:
        return await self._sizes.total(frozenset(image.digest for image in images))

    def _summary(
        self, image: Image, shares: dict[str, Share], users: dict[str, list[str]]
    ) -> dict[str, Any]:
        share = shares.get(image.digest, Share(0, 0))
        pods = users.get(image.id, [])
        used = time.time() if pods else self._images.times(image).used
        return {
            "reference": image.reference,
            "references": list(image.references),
            "id": image.id,
            "digest": image.digest,
            "size": share.size,
            "sharedSize": share.shared,
            "uniqueSize": share.unique,
            "compressedSize": image.size,
            "created": image.created,
            "architecture": image.architecture,
            "os": image.os,
            "labels": dict(image.config.labels),
            "layerCount": len(image.layers),
            "lastUsed": timestamp(used),
            "pods": pods,
        }


def texts(call: Call, name: str) -> list[str]:
    """Return the list of strings *name* of a request; empty when it is not there.

    Raises:
        UsageError: it is something else.
    """
    value = call.request.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{name} must be a list of strings")
    return value
