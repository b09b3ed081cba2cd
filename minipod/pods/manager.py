# SPDX-License-Identifier: GPL-3.0-or-later
"""All pods of one agent: their workers, and what is found and cleaned up when an agent comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid

from minipod.api import Pod
from minipod.errors import AlreadyExists, NotFound
from minipod.network import PodLink, pod_link
from minipod.pods.ports import Tools
from minipod.pods.record import PodRecord
from minipod.pods.resolve import run_dir
from minipod.pods.status import TERMINAL, timestamp
from minipod.pods.worker import PodWorker
from minipod.runtime.runtime import remove_tree
from minipod.runtime.shim import Shim

log = logging.getLogger(__name__)


class PodManager:
    """Starts, finds and ends pod workers."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._workers: dict[tuple[str, str], PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- verbs ----

    def worker(self, namespace: str, name: str) -> PodWorker:
        """Return the worker of a pod.

        Raises:
            NotFound: there is no such pod.
        """
        try:
            return self._workers[namespace, name]
        except KeyError:
            there = sorted(n for s, n in self._workers if s == namespace)
            hint = (
                f"pods there: {', '.join(there[:10])}" if there else "minipod get pods -A shows all"
            )
            raise NotFound(f"pod {namespace}/{name} not found", hint) from None

    def workers(self) -> list[PodWorker]:
        """Return all workers."""
        return list(self._workers.values())

    async def check_free(self, pod: Pod, *, replace_finished: bool) -> PodWorker | None:
        """Return a finished pod that has to go first, or None.

        Raises:
            AlreadyExists: a pod of this name is there.
        """
        worker = self._workers.get((pod.metadata.namespace, pod.metadata.name))
        if worker is None:
            return None
        current = worker.pod.status.phase
        leaving = worker.record.delete_by is not None
        if replace_finished and (current in TERMINAL or leaving):
            return worker
        raise AlreadyExists(
            f"pod {worker.name} already exists ({'Terminating' if leaving else current})",
            f"delete it first: minipod delete pod {pod.metadata.name} -n {pod.metadata.namespace}",
        )

    def create(self, pod: Pod, source: str, lines: dict[str, int], asked: float) -> PodWorker:
        """Take on *pod* (checked, its name free); *asked* is ``time.monotonic()`` of the request."""
        pod.metadata.uid = str(uuid.uuid4())
        pod.metadata.creation_timestamp = timestamp(time.time())
        worker = PodWorker(pod, PodRecord(source=source, lines=lines), self.tools, asked=asked)
        worker.publish()
        self._add(worker)
        return worker

    def _add(self, worker: PodWorker) -> None:
        key = worker.pod.metadata.namespace, worker.pod.metadata.name
        self._workers[key] = worker
        task = asyncio.ensure_future(self._live(key, worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, key: tuple[str, str], worker: PodWorker) -> None:
        # A worker that breaks is restarted from its record, as after the agent's own death: one pod's trouble
        # is never another's.
        while not worker.gone.is_set():
            try:
                await worker.run()
            except Exception:
                log.exception("pod %s: its worker failed; once more in 10 s", worker.name)
                await asyncio.sleep(10)
        if self._workers.get(key) is worker:
            del self._workers[key]

    async def stop(self) -> None:
        """Let go of all pods, which go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers.values():
            worker.stop()

    # ---- coming back ----

    async def recover(self, pods: list[tuple[Pod, PodRecord]]) -> None:
        """Take up the pods of an earlier agent, then remove what belongs to none of them."""
        workers = [PodWorker(pod, record, self.tools) for pod, record in pods]
        live = [link for worker in workers if (link := self._link(worker))]
        await self.tools.runtime.network.ensure(live)
        for worker in workers:
            try:
                await worker.recover()
            except Exception:
                log.exception(
                    "pod %s: recovery failed; its worker goes on from its record", worker.name
                )
        await self._sweep({worker.pod.metadata.uid for worker in workers})
        for worker in workers:
            self._add(worker)

    def _link(self, worker: PodWorker) -> PodLink | None:
        record = worker.record
        if not record.address or not record.sandbox_up:
            return None
        return pod_link(self.tools.config, worker.pod.metadata.uid, record.address)

    async def _sweep(self, known: set[str]) -> None:
        """Remove shims, cgroups, directories and addresses of pods that are not ours any more."""
        tools, config = self.tools, self.tools.config
        for uid in _names(f"{config.run_dir}/pods") - known:
            for sandbox in _names(f"{config.run_dir}/pods/{uid}"):
                with contextlib.suppress(OSError, ValueError):
                    shim = Shim.connect(run_dir(config, uid, int(sandbox)))
                    await tools.runtime.cgroups.kill(f"{tools.cgroup_parent}/pod{uid}")
                    await shim.shutdown()
                    shim.close()
            await remove_tree(f"{config.run_dir}/pods/{uid}")
        for name in tools.runtime.cgroups.pods():
            if name.startswith("pod") and name[3:] not in known:
                await tools.runtime.cgroups.kill(f"{tools.cgroup_parent}/{name}")
                await tools.runtime.cgroups.remove(f"{tools.cgroup_parent}/{name}")
        for uid in _names(f"{config.root_dir}/pods") - known:
            await remove_tree(f"{config.root_dir}/pods/{uid}")
        for owner in tools.pool.all():
            if owner not in known:
                tools.pool.release(owner)


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()
