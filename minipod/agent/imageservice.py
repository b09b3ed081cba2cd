# SPDX-License-Identifier: GPL-3.0-or-later
"""The image verbs, and those that look and remove: list, inspect, rm."""

from __future__ import annotations

import asyncio
from typing import Any

from minipod.agent.imagetransfers import Transfers, find
from minipod.agent.puller import Puller
from minipod.agent.server import Call, Handler
from minipod.api import Pod, members
from minipod.errors import MinipodError, UsageError
from minipod.images import Image, ImageStore
from minipod.pods.manager import PodManager
from minipod.pods.record import PodRecord


class ImageService:
    """Answers requests about images."""

    def __init__(self, images: ImageStore, manager: PodManager, puller: Puller) -> None:
        self._images = images
        self._manager = manager
        self._transfers = Transfers(images, manager, puller)

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that this service answers."""
        return {"image": self.image}

    async def image(self, call: Call) -> dict[str, Any]:
        """Do what ``op`` says."""
        operations: dict[str, Handler] = {
            "list": self._list,
            **self._transfers.operations(),
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
        image = find(self._images, call.text("reference"))
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

    async def _remove(self, call: Call) -> dict[str, Any]:
        references = call.request.get("references") or []
        if not references:
            raise UsageError("no image is named", "minipod image rm REFERENCE")
        removed: list[str] = []
        for reference in references:
            image = find(self._images, reference)
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
