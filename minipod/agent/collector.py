# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes images when the disk runs full, as the kubelet's image garbage collection does.

Every ten seconds two ``statvfs(2)`` tell how full the disks are; only when a threshold is crossed is anything more
looked at. What a pod uses is never removed; pods are not evicted for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from minipod.agent.gcrules import Candidate, Disk, Rules
from minipod.agent.imagesizes import ImageSizes
from minipod.agent.imageuse import ImageUse
from minipod.api import ObjectMeta
from minipod.errors import MinipodError
from minipod.images import ImageStore
from minipod.pods.downward import node_name

log = logging.getLogger(__name__)

LOOK = 10.0  # seconds: the kubelet's evictionMonitoringPeriod
PERIOD = 300.0  # seconds between two collections: the kubelet's ImageGCPeriod


@dataclass(frozen=True)
class Node:
    """This machine, as what an event is about."""

    metadata: ObjectMeta
    kind: str = "Node"

    @classmethod
    def here(cls) -> Node:
        """Return this machine; its uid is its name, as the kubelet has it in its events."""
        return cls(ObjectMeta(name=node_name(), uid=node_name()))


Tell = Callable[[Node, str, str, str], None]


class Collector:
    """Collects images of one store.

    Args:
        rules: when, and which.
        images: the store.
        use: knows which images are used.
        sizes: knows what removing one gives back.
        root_dir: on the file system of the pods.
        tell: writes an event.
    """

    def __init__(
        self,
        rules: Rules,
        images: ImageStore,
        use: ImageUse,
        sizes: ImageSizes,
        root_dir: str,
        tell: Tell,
    ) -> None:
        self._rules = rules
        self._images = images
        self._use = use
        self._sizes = sizes
        self._root_dir = root_dir
        self._tell = tell
        self._next = 0.0  # when to collect again, by time.monotonic(), unless a signal says sooner
        self._pressed: list[str] = []

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            try:
                await self.look()
            except (MinipodError, OSError) as error:
                log.warning("collecting images: %s", error)
                self._event("Warning", "ImageGCFailed", str(error))
                self._next = time.monotonic() + PERIOD
            except Exception:  # it goes on, whatever is wrong with one look
                log.exception("collecting images")
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """See how full the disks are, and make room where that is due.

        Raises:
            MinipodError: an image cannot be removed.
            OSError: a file system cannot be asked.
        """
        imagefs, nodefs = self._disks()
        pressed = self._rules.pressing(imagefs, nodefs)
        news = [signal for signal in pressed if signal not in self._pressed]
        due = time.monotonic() >= self._next
        self._pressed = pressed
        if news or (pressed and due):
            self._next = time.monotonic() + PERIOD
            await self._relieve(pressed)
        elif due:
            self._next = time.monotonic() + PERIOD
            await self._collect(imagefs)

    def _disks(self) -> tuple[Disk, Disk]:
        images = self._images.root if os.path.isdir(self._images.root) else self._root_dir
        return _disk(images), _disk(self._root_dir)

    async def _relieve(self, pressed: list[str]) -> None:
        """Remove all images that nobody uses."""
        log.warning("little room: %s", ", ".join(pressed))
        self._event("Warning", "EvictionThresholdMet", "Attempting to reclaim ephemeral-storage")
        await asyncio.to_thread(self._images.sweep)
        chosen = self._rules.removable(await self._candidates(), time.time())
        await self._remove(chosen)
        if still := self._rules.pressing(*self._disks()):
            self._event(
                "Warning",
                "FreeDiskSpaceFailed",
                f"{len(chosen)} images were removed, and there is still too little: {', '.join(still)}",
            )

    async def _collect(self, imagefs: Disk) -> None:
        """Remove outdated images, and the least recently used ones down to the low mark."""
        excess = self._rules.excess(imagefs)
        if not excess and not self._rules.max_age:
            return
        now = time.time()
        candidates = await self._candidates()
        outdated = self._rules.outdated(candidates, now)
        await self._remove(outdated)
        excess = self._rules.excess(self._disks()[0]) if excess else 0
        if not excess:
            return
        freed, gone = 0, {image.digest for image in outdated}
        for image in self._rules.removable(candidates, now):
            if freed >= excess or image.digest in gone:
                continue
            before = self._disks()[0].available
            await self._remove([image])
            # As the kubelet counts, by the image; or by the disk, where that has got more.
            freed += max(image.unique, self._disks()[0].available - before)
        if freed < excess:
            words = (
                f"Failed to garbage collect required amount of images. Attempted to free {excess} bytes, "
                f"but only found {freed} bytes eligible to free."
            )
            log.warning("%s", words)
            self._event("Warning", "FreeDiskSpaceFailed", words)

    async def _candidates(self) -> list[Candidate]:
        used = self._use.users()
        shares = await self._sizes.shares()
        found = []
        for image in self._images.list():
            if image.id not in used:
                times = self._images.times(image)
                share = shares.get(image.digest)
                unique = share.unique if share else 0
                found.append(Candidate(image.digest, times.used, times.came, unique))
        return found

    async def _remove(self, images: list[Candidate]) -> None:
        for line in await self._use.remove_unused([image.digest for image in images]):
            log.info("collected image: %s", line)

    def _event(self, kind: str, reason: str, words: str) -> None:
        try:
            self._tell(Node.here(), kind, reason, words)
        except MinipodError as error:  # no room for that either
            log.warning("%s: %s (%s)", reason, words, error)


def _disk(path: str) -> Disk:
    found = os.statvfs(path)
    return Disk(
        found.f_blocks * found.f_frsize,
        found.f_bavail * found.f_frsize,
        found.f_files,
        found.f_favail,
    )
