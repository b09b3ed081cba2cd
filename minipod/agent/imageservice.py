# SPDX-License-Identifier: GPL-3.0-or-later
"""The image verbs: list, load, pull, save, rm, inspect."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Literal

from minipod.agent.loading import run_loader
from minipod.agent.puller import Puller
from minipod.agent.server import Call, Handler
from minipod.api import Pod, members
from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images import Image, ImageStore, normalize_reference
from minipod.pods.manager import PodManager
from minipod.pods.record import PodRecord


class ImageService:
    """Answers requests about images."""

    def __init__(self, images: ImageStore, manager: PodManager, puller: Puller) -> None:
        self._images = images
        self._puller = puller
        self._manager = manager

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that this service answers."""
        return {"image": self.image}

    async def image(self, call: Call) -> dict[str, Any]:
        """Do what ``op`` says."""
        operations: dict[str, Handler] = {
            "list": self._list,
            "load": self._load,
            "make": self._make,
            "pull": self._pull,
            "save": self._save,
            "rm": self._remove,
            "inspect": self._inspect,
        }
        operation = operations.get(call.text("op"))
        if operation is None:
            raise UsageError(
                f"unknown image operation {call.request['op']!r}", f"use {', '.join(operations)}"
            )
        return await operation(call)

    async def _list(self, call: Call) -> dict[str, Any]:
        return {"images": [_summary(image) for image in self._images.list()]}

    async def _inspect(self, call: Call) -> dict[str, Any]:
        image = self._find(call.text("reference"))
        config = image.config
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
        platform = {"architecture": image.architecture, "os": image.os}
        return {
            "image": {
                **_summary(image),
                **platform,
                "config": details,
                "layerDirectories": list(image.layers),
            }
        }

    def _find(self, reference: str) -> Image:
        image = self._images.get(reference)
        if image is None:
            raise NotFound(
                f"image {reference} is not in the store", "minipod image ls shows what is there"
            )
        return image

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
        auths = call.request.get("auths") or []
        if not isinstance(auths, list) or not all(isinstance(each, dict) for each in auths):
            raise UsageError("auths must be a list of objects")
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

    async def _save(self, call: Call) -> dict[str, Any]:
        if len(call.fds) != 1:
            raise UsageError("an image save needs one file")
        references = call.request.get("references") or []
        for reference in references:
            self._find(reference)
        style: Literal["oci-archive", "docker-archive"] = "oci-archive"
        match call.request.get("format") or style:
            case "oci-archive":
                pass
            case "docker-archive":
                style = "docker-archive"
            case other:
                raise UsageError(f"unknown format {other!r}", "use oci-archive or docker-archive")
        target = os.fdopen(os.dup(call.fds[0]), "wb")

        def write() -> None:
            with target:
                self._images.save(references, target, format=style)

        await asyncio.to_thread(write)
        return {"references": references}

    async def _remove(self, call: Call) -> dict[str, Any]:
        references = call.request.get("references") or []
        if not references:
            raise UsageError("no image is named", "minipod image rm REFERENCE")
        removed: list[str] = []
        for reference in references:
            image = self._find(reference)
            users = self._users(image)
            if users and not call.request.get("force"):
                raise MinipodError(
                    f"image {reference} is used by {', '.join(users)}", "delete those pods first"
                )
            if self._runs(image):
                raise MinipodError(
                    f"image {reference} is what running containers stand on",
                    "delete those pods first",
                )
            removed += await asyncio.to_thread(self._images.remove, reference)
        return {"removed": removed}

    def _users(self, image: Image) -> list[str]:
        return sorted(
            {
                worker.name
                for worker in self._manager.workers()
                for reference in _references(worker.pod)
                if (used := self._images.get(reference)) and used.id == image.id
            }
        )

    def _runs(self, image: Image) -> bool:
        return any(image.id in _stands_on(worker.record) for worker in self._manager.workers())


def _references(pod: Pod) -> list[str]:
    """Return the references of all images that the pod names."""
    containers = [found.container.image for found in members(pod)]
    return containers + [v.image.reference for v in pod.spec.volumes if v.image]


def _stands_on(record: PodRecord) -> set[str]:
    """Return the ids of the images whose layers are mounted for the pod right now."""
    live = {c.image_id for c in record.containers if c.state in ("running", "starting")}
    return live | (set(record.volume_images.values()) if record.sandbox_up else set())


def _summary(image: Image) -> dict[str, Any]:
    return {
        "reference": image.reference,
        "references": list(image.references),
        "id": image.id,
        "digest": image.digest,
        "size": image.size,
        "created": image.created,
        "layers": len(image.layers),
    }
