# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods use which images, and removing those that nobody does: the one place where the agent removes an image.

A pod uses what it names and what its containers and its image volumes were made of, from its creation until it is
deleted. The question is asked on the event loop, where pods are made, and from that instant on the store hands the
image to nobody: so none can go between a pod's look at it and its start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from minipod.agent.imagetransfers import find
from minipod.api import Pod, members
from minipod.errors import MinipodError
from minipod.images import Image, ImageStore
from minipod.pods.manager import PodManager
from minipod.pods.record import PodRecord
from minipod.pods.worker import PodWorker


class ImageUse:
    """Knows the users of images, and removes images without any."""

    def __init__(self, images: ImageStore, manager: PodManager) -> None:
        self._images = images
        self._manager = manager

    def users(self) -> dict[str, list[str]]:
        """Return the pods that use an image, by its id; images that nobody uses are left out."""
        found: dict[str, set[str]] = {}
        known: dict[str, str] = {}
        for worker in self._manager.workers():
            for image_id in self._used_by(worker, known):
                found.setdefault(image_id, set()).add(worker.name)
        return {image_id: sorted(names) for image_id, names in found.items()}

    async def remove(self, reference: str, *, force: bool = False) -> list[str]:
        """Remove what *reference* means, a name or a whole image; return lines as :meth:`ImageStore.remove`.

        Args:
            reference: what :meth:`ImageStore.get` takes.
            force: take away also what pods name, as long as nothing runs from it.

        Raises:
            NotFound: there is no such image.
            MinipodError: a pod uses it, or it cannot be removed.
        """
        image = find(self._images, reference)
        gone, names = self._images.meant(reference)
        # Where other names of it stay, so does the image.
        users = self.users().get(image.id, []) if gone else self._named_by(names)
        if users and not force:
            raise MinipodError(
                f"image {reference} is used by {', '.join(users)}", "delete those pods first"
            )
        if gone and self._runs(image):
            raise MinipodError(
                f"image {reference} is what running containers stand on", "delete those pods first"
            )
        return await self._removed(reference, gone)

    async def remove_unused(self, digests: Sequence[str]) -> list[str]:
        """Remove those of the images that still nobody uses; return lines as :meth:`ImageStore.remove`.

        Raises:
            MinipodError: one cannot be removed.
        """
        lines: list[str] = []
        for digest in digests:
            image = self._images.get(digest)
            # Each anew: while the one before was removed, a pod may have come that wants this one.
            if image is not None and image.id not in self.users():
                lines += await self._removed(digest, self._images.meant(digest)[0])
        return lines

    async def _removed(self, reference: str, gone: Sequence[str]) -> list[str]:
        work = asyncio.ensure_future(self._work(reference, gone))
        # Whoever asked may go away; what has begun is brought to its end.
        return await asyncio.shield(work)

    async def _work(self, reference: str, gone: Sequence[str]) -> list[str]:
        with self._images.going(gone):
            # By then a name may have gone or moved: what was not looked at does not go.
            return await asyncio.to_thread(self._images.remove, reference, gone)

    def _used_by(self, worker: PodWorker, known: dict[str, str]) -> set[str]:
        used = {record.image_id for record in worker.record.containers}
        used |= set(worker.record.volume_images.values())
        for reference in references(worker.pod):
            if reference not in known:
                image = None
                with contextlib.suppress(MinipodError):
                    image = self._images.get(reference)
                known[reference] = image.id if image else ""
            used.add(known[reference])
        return used - {""}

    def _named_by(self, names: Sequence[str]) -> list[str]:
        """Return the pods whose manifests mean one of the references *names*."""
        found = set()
        for worker in self._manager.workers():
            for reference in references(worker.pod):
                with contextlib.suppress(MinipodError):
                    if set(self._images.meant(reference)[1]) & set(names):
                        found.add(worker.name)
        return sorted(found)

    def _runs(self, image: Image) -> bool:
        return any(image.id in _stands_on(worker.record) for worker in self._manager.workers())


def references(pod: Pod) -> list[str]:
    """Return the references of all images that the pod names."""
    containers = [found.container.image for found in members(pod)]
    return containers + [v.image.reference for v in pod.spec.volumes if v.image]


def _stands_on(record: PodRecord) -> set[str]:
    """Return the ids of the images whose layers are mounted for the pod right now."""
    live = {c.image_id for c in record.containers if c.state in ("running", "starting")}
    return live | (set(record.volume_images.values()) if record.sandbox_up else set())
