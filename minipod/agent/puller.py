# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls images, each in a loader of its own; who asks for what is already on its way waits for that."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minipod.agent.loading import Heard, run_loader
from minipod.config import Config
from minipod.errors import MinipodError
from minipod.images import Image, ImageStore, normalize_reference
from minipod.images.registry.proxies import from_environment

log = logging.getLogger(__name__)

_AT_ONCE = 4  # loaders; each has three connections


_Queue = asyncio.Queue[dict[str, Any] | None]  # None: that was all


@dataclass(eq=False)
class _Pull:
    """A pull that is under way, and who waits for it."""

    task: asyncio.Task[Image]
    waiters: int = 0
    listeners: list[_Queue] = field(default_factory=list)


class Puller:
    """Pulls for the pods and for the command line.

    Args:
        config: says where the files about registries are.
        images: where the images go.
    """

    def __init__(self, config: Config, images: ImageStore) -> None:
        self._config = config
        self._images = images
        self._pulls: dict[str, _Pull] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def pull(
        self,
        reference: str,
        auths: Sequence[Mapping[str, Any]] = (),
        *,
        heard: Heard | None = None,
        platform: str = "",
    ) -> Image:
        """Pull *reference* and return the image; at once when what is here is what the registry has.

        It is given up when nobody waits for it any more.

        Args:
            reference: the name of the image.
            auths: credentials, as in Docker's config file; this machine's are tried after them.
            heard: told each ``{"progress": …}``.
            platform: which one is wanted, instead of this machine's.

        Raises:
            UsageError: it is no reference, or the image is refused.
            MinipodError: it cannot be had.
        """
        reference = normalize_reference(reference)
        # Who may not have an image does not get it because somebody else just does.
        key = json.dumps([reference, platform, list(auths)], sort_keys=True)
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull(
                asyncio.ensure_future(self._run(key, reference, auths, platform))
            )
        pull.waiters += 1
        # What is told to one who does not listen holds up nobody else.
        queue: _Queue = asyncio.Queue()
        pull.listeners.append(queue)
        telling = asyncio.ensure_future(_tell(queue, heard)) if heard else None
        try:
            image = await asyncio.shield(pull.task)
            if telling:
                queue.put_nowait(None)
                await asyncio.wait((telling,))
            return image
        finally:
            if telling:
                telling.cancel()
            pull.waiters -= 1
            pull.listeners.remove(queue)
            if not pull.waiters and not pull.task.done():
                self._pulls.pop(key, None)
                pull.task.cancel()
                await asyncio.gather(pull.task, return_exceptions=True)

    async def _run(
        self, key: str, reference: str, auths: Sequence[Mapping[str, Any]], platform: str
    ) -> Image:
        async def heard(message: dict[str, Any]) -> None:
            pull = self._pulls.get(key)
            for queue in pull.listeners if pull else ():
                queue.put_nowait(message)

        request = {
            "root": self._images.root,
            "reference": reference,
            "platform": platform or None,
            "auths": list(auths),
            **self.access(),
        }
        whole = False
        try:
            async with self._slots:
                await run_loader(request, heard)
            whole = True
        finally:
            if (pull := self._pulls.get(key)) and pull.task is asyncio.current_task():
                del self._pulls[key]
            if not whole:
                await asyncio.shield(asyncio.ensure_future(self._sweep()))
        image = self._images.get(reference)
        if image is None:
            raise MinipodError(f"image {reference} was removed while it came", "pull it again")
        return image

    async def _sweep(self) -> None:
        """Remove what an unfinished loader has left."""
        try:
            await asyncio.to_thread(self._images.sweep)
        except MinipodError as error:
            log.warning("after a pull that was not finished: %s", error)

    def access(self) -> dict[str, Any]:
        """Return what a loader is told about how this machine gets at registries: ``settings`` and ``proxies``."""
        config = self._config
        settings = {
            "containers_dir": config.containers_dir,
            "docker_dir": config.docker_dir,
            "docker_config": os.path.expanduser(config.docker_config),
        }
        return {"settings": settings, "proxies": from_environment(os.environ)}


async def _tell(queue: _Queue, heard: Heard) -> None:
    while (message := await queue.get()) is not None:
        await heard(message)
