# SPDX-License-Identifier: GPL-3.0-or-later
"""``system``: what takes up how much of the disk, and how much of that nobody uses."""

from __future__ import annotations

import os
from typing import Any

from minipod.agent.imagesizes import ImageSizes
from minipod.agent.imageuse import ImageUse
from minipod.agent.server import Call, Handler
from minipod.config import Config
from minipod.images import ImageStore
from minipod.pods.manager import PodManager
from minipod.pods.order import TERMINAL
from minipod.pods.worker import PodWorker
from minipod.runtime.usage import disk_usage

Row = dict[str, Any]


class SystemService:
    """Answers requests about the whole instance."""

    def __init__(
        self,
        config: Config,
        manager: PodManager,
        images: ImageStore,
        use: ImageUse,
        sizes: ImageSizes,
    ) -> None:
        self._config = config
        self._manager = manager
        self._images = images
        self._use = use
        self._sizes = sizes

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that this service answers."""
        return {"system-df": self._df}

    async def _df(self, call: Call) -> dict[str, Any]:
        """Measure everything; each part has a sum and what it consists of."""
        workers = self._manager.workers()
        pods, volumes, logs = await self._pods(workers), await self._volumes(), await self._logs()
        images = await self._image_rows()
        total = await self._sizes.total()
        unused = frozenset(row["digest"] for row in images if not row["pods"])
        return {
            "images": {
                **_sum(images),
                "size": total,
                "reclaimable": total - await self._sizes.total(unused),
            },
            "pods": _sum(pods),
            "volumes": _sum(volumes),
            "logs": _sum(logs),
        }

    async def _image_rows(self) -> list[Row]:
        shares, users = await self._sizes.shares(), self._use.users()
        rows = []
        for image in self._images.list():
            share = shares.get(image.digest)
            pods = users.get(image.id, [])
            rows.append(
                {
                    "name": image.reference,
                    "id": image.id,
                    "digest": image.digest,
                    "created": image.created,
                    "size": share.size if share else 0,
                    "sharedSize": share.shared if share else 0,
                    "uniqueSize": share.unique if share else 0,
                    "pods": pods,
                    "active": bool(pods),
                    "reclaimable": 0 if pods or not share else share.unique,
                }
            )
        return rows

    async def _pods(self, workers: list[PodWorker]) -> list[Row]:
        """Return what pods have written: their writable layers and emptyDirs."""
        used = await disk_usage([worker.core.directory for worker in workers])
        rows = []
        for worker in workers:
            size, over = used[worker.core.directory], worker.pod.status.phase in TERMINAL
            row = {"name": worker.name, "phase": worker.pod.status.phase, "size": size}
            rows.append({**row, "active": not over, "reclaimable": size if over else 0})
        return rows

    async def _volumes(self) -> list[Row]:
        """Return the volumes that were made for claims; others' directories are not ours to measure."""
        volumes = self._manager.tools.storage.made()
        used = await disk_usage([volume.path for volume in volumes])
        return [
            {
                "name": volume.name,
                "claim": volume.claim,
                "size": used[volume.path],
                "active": volume.used,
                # Data that a claim stands for is nobody's to throw away, used or not.
                "reclaimable": 0 if volume.claim else used[volume.path],
            }
            for volume in volumes
        ]

    async def _logs(self) -> list[Row]:
        """Return the pods' logs; those of finished pods could go with them."""
        top = self._config.log_dir
        living = {
            worker.pod.metadata.uid: worker.pod.status.phase not in TERMINAL
            for worker in self._manager.workers()
        }
        # Others may write there, too: only what has the name of a pod of ours counts.
        paths = {f"{top}/{name}": name for name in _names(top) if name.rpartition("_")[2] in living}
        used = await disk_usage(list(paths))
        rows = []
        for path, name in paths.items():
            active = living[name.rpartition("_")[2]]
            size = used[path]
            words = "/".join(name.split("_")[:2])
            rows.append(
                {
                    "name": words,
                    "size": size,
                    "active": active,
                    "reclaimable": 0 if active else size,
                }
            )
        return rows


def _sum(rows: list[Row]) -> dict[str, Any]:
    return {
        "count": len(rows),
        "active": sum(row["active"] for row in rows),
        "size": sum(row["size"] for row in rows),
        "reclaimable": sum(row["reclaimable"] for row in rows),
        "items": rows,
    }


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
