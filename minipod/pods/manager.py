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
from minipod.errors import AlreadyExists, MinipodError, NotFound
from minipod.network import PodLink
from minipod.pods import hostports
from minipod.pods.downward import node_name
from minipod.pods.order import TERMINAL
from minipod.pods.ports import Tools
from minipod.pods.record import PodRecord
from minipod.pods.times import timestamp
from minipod.pods.worker import PodWorker
from minipod.runtime.runtime import remove_tree
from minipod.runtime.shim import end_shims, shim_pods

log = logging.getLogger(__name__)

_PATIENCE = (
    2.0  # seconds for which an agent that comes back waits for its pods before it answers requests
)


class PodManager:
    """Starts, finds and ends pod workers."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._workers: dict[tuple[str, str], PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe = tools.objects.subscribe(self._object_changed)

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

    def active(self) -> list[Pod]:
        """Return the pods that have not ended, those on their way out too: what they have is taken."""
        return [w.pod for w in self._workers.values() if w.pod.status.phase not in TERMINAL]

    def staying(self, pod: Pod) -> PodWorker | None:
        """Return the worker of the pod of this name, if there is one that is not being deleted."""
        worker = self._workers.get((pod.metadata.namespace, pod.metadata.name))
        return None if worker is None or worker.record.delete_by is not None else worker

    def create(self, pod: Pod, source: str, lines: dict[str, int], asked: float) -> PodWorker:
        """Take on *pod* (checked, its name free); *asked* is ``time.monotonic()`` of the request."""
        pod.metadata.uid = str(uuid.uuid4())
        pod.metadata.creation_timestamp = timestamp(time.time())
        pod.metadata.generation = 1
        pod.spec.node_name = node_name()
        worker = PodWorker(pod, PodRecord(source=source, lines=lines), self.tools, asked=asked)
        worker.publish()
        self._add(worker)
        return worker

    def _object_changed(self, kind: str, namespace: str, name: str) -> None:
        for worker in self._workers.values():
            if not namespace or worker.pod.metadata.namespace == namespace:
                worker.object_changed(kind, name)

    def _add(self, worker: PodWorker, after: asyncio.Future[None] | None = None) -> None:
        key = worker.pod.metadata.namespace, worker.pod.metadata.name
        self._workers[key] = worker
        task = asyncio.ensure_future(self._live(key, worker, after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(
        self, key: tuple[str, str], worker: PodWorker, after: asyncio.Future[None] | None
    ) -> None:
        if after:
            await after
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
        self._let_go_of_images(worker)
        self.tools.storage.look_again()

    def _let_go_of_images(self, worker: PodWorker) -> None:
        """Note that the pod's images were in use until now."""
        images, record = self.tools.images, worker.record
        ids = {container.image_id for container in record.containers} - {""}
        for image_id in ids | set(record.volume_images.values()):
            with contextlib.suppress(MinipodError):
                if image := images.get(image_id):
                    images.touch(image)

    def image_came(self) -> None:
        """Tell the pods that there is a new image: some may wait for it."""
        for worker in self._workers.values():
            worker.image_came()

    async def stop(self) -> None:
        """Let go of all pods, which go on."""
        self._unsubscribe()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers.values():
            worker.stop()

    # ---- coming back ----

    async def recover(self, pods: list[tuple[Pod, PodRecord]]) -> None:
        """Take up the pods of an earlier agent, then remove what belongs to none of them."""
        workers = [PodWorker(pod, record, self.tools) for pod, record in pods]
        for worker in workers:
            if worker.record.sandbox_up:
                self.tools.demands.enter(worker.pod)
        live = [link for worker in workers if (link := self._link(worker))]
        await self.tools.runtime.network.ensure(live)
        recoveries = [asyncio.ensure_future(self._recover(worker)) for worker in workers]
        for worker, recovery in zip(workers, recoveries, strict=True):
            self._add(worker, after=recovery)
        self.tools.storage.attend(lambda: [worker.core for worker in self._workers.values()])
        if recoveries:
            # A pod whose shim does not answer keeps nobody from the others.
            await asyncio.wait(recoveries, timeout=_PATIENCE)
        await self._sweep({worker.pod.metadata.uid for worker in workers})

    async def _recover(self, worker: PodWorker) -> None:
        try:
            await worker.recover()
            worker.publish()
        except Exception:
            log.exception(
                "pod %s: recovery failed; its worker goes on from its record", worker.name
            )

    def _link(self, worker: PodWorker) -> PodLink | None:
        record = worker.record
        up = record.sandbox_up and not worker.core.rebooted
        address = record.address if up else ""
        return hostports.link_of(self.tools.config, worker.pod, address)

    async def _sweep(self, known: set[str]) -> None:
        """Remove shims, cgroups, directories and addresses of pods that are not ours any more."""
        tools, config = self.tools, self.tools.config
        groups = tools.runtime.cgroups.pods()
        shims = shim_pods(f"{config.run_dir}/pods")
        directories = _names(f"{config.run_dir}/pods") | _names(f"{config.root_dir}/pods")
        for uid in (groups.keys() | shims | directories) - known:
            log.info("removing what is left of pod %s, which nobody knows", uid)
            directory = f"{config.run_dir}/pods/{uid}"
            for cgroup in groups.get(uid, ()):
                await tools.runtime.cgroups.kill(cgroup)
            await end_shims(directory)
            for cgroup in groups.get(uid, ()):
                await tools.runtime.cgroups.remove(cgroup)
            for path in (directory, f"{config.root_dir}/pods/{uid}", *self._logs_of(uid)):
                await remove_tree(path)
        tools.runtime.cgroups.remove_empty_classes()
        for owner in tools.pool.all():
            if owner not in known:
                tools.pool.release(owner)
        for owner in tools.user_ids.all():
            if owner not in known:
                tools.user_ids.release(owner)

    def _logs_of(self, uid: str) -> list[str]:
        place = self.tools.config.log_dir
        return [f"{place}/{name}" for name in _names(place) if name.endswith(f"_{uid}")]


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()
