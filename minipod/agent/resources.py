# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's verbs about resources: ``resize``, as the subresource of that name, and what containers use now."""

from __future__ import annotations

import time
from typing import Any

from minipod.agent import select
from minipod.agent.server import Call, Handler
from minipod.api import to_dict
from minipod.pods.manager import PodManager
from minipod.pods.worker import PodWorker

Json = dict[str, Any]


class Resources:
    """Answers requests about what pods ask for and use."""

    def __init__(self, manager: PodManager) -> None:
        self._manager = manager

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that this service answers."""
        return {"resize": self.resize, "usage": self.usage}

    async def resize(self, call: Call) -> Json:
        """Change the resources of a running pod's containers; the answer is the pod as it is then.

        ``patch`` is that of Kubernetes' ``resize`` subresource: see ``minipod/api/resize.py``.
        """
        worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
        worker.resize(call.request.get("patch"))
        return {"object": to_dict(worker.pod)}

    async def usage(self, call: Call) -> Json:
        """Return what each running container has used of the cpus since it was made, and of memory now.

        Asked twice, it tells the share of a cpu; nothing is sampled while nobody asks.
        """
        request = call.request
        names, namespace = request.get("names") or [], request.get("namespace")
        selector = select.label_selector(request.get("selector") or "")
        for name in names:
            self._manager.worker(
                namespace or "default", name
            )  # raises NotFound, with what is there
        result = []
        for worker in self._manager.workers():
            meta = worker.pod.metadata
            if namespace not in (None, meta.namespace) or (names and meta.name not in names):
                continue
            if selector(meta.labels):
                result.append(_used_by(worker))
        return {"pods": result}


def _used_by(worker: PodWorker) -> Json:
    meta, cgroups = worker.pod.metadata, worker.core.tools.runtime.cgroups
    containers = []
    for record in worker.record.containers:
        if record.state != "running":
            continue
        used = cgroups.usage(worker.core.cgroup_of(record))
        containers.append(
            {
                "name": record.name,
                "run": record.attempt,
                "cpuNanoseconds": used.cpu,
                "memoryBytes": used.memory,
                "time": time.monotonic(),
            }
        )
    return {"namespace": meta.namespace, "name": meta.name, "containers": containers}
