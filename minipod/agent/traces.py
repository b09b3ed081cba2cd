# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's verb ``trace``: how long the steps of a pod's starts took, afterwards or while they are taken."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from minipod.agent.server import Call, Handler
from minipod.api import members
from minipod.errors import UsageError
from minipod.pods.manager import PodManager
from minipod.pods.order import TERMINAL
from minipod.pods.timeline import Span, Start
from minipod.pods.worker import PodWorker

Json = dict[str, Any]

_GOALS = ("", "running", "ready")


class Traces:
    """Answers what took how long."""

    def __init__(self, manager: PodManager) -> None:
        self._manager = manager

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that are answered here."""
        return {"trace": self.trace}

    async def trace(self, call: Call) -> Json:
        """Return the starts of a pod that are remembered; see :class:`minipod.pods.timeline.Start`.

        With ``until`` (``running`` or ``ready``) each span comes as an event, those first that are known already, and
        the answer when the pod is so far, has ended, or is gone.
        """
        until = call.text("until", "")
        if until not in _GOALS:
            raise UsageError(f"trace: cannot wait for {until!r}", "use running or ready")
        worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
        if until:
            await _follow(call, worker, until)
        meta = worker.pod.metadata
        return {
            "namespace": meta.namespace,
            "name": meta.name,
            "source": worker.record.source,
            "lines": worker.record.lines,
            "recorded": worker.core.tools.traces > 0,
            "containers": [
                {"name": found.name, "kind": "sidecar" if found.is_sidecar else found.kind}
                for found in members(worker.pod)
            ],
            "starts": msgspec.to_builtins(worker.core.timeline.starts()),
        }


def _is_so_far(worker: PodWorker, until: str) -> bool:
    status = worker.pod.status
    if worker.gone.is_set() or status.phase in TERMINAL:
        return True
    if until == "running":
        return status.phase == "Running"
    return any(c.type == "Ready" and c.status == "True" for c in status.conditions)


async def _follow(call: Call, worker: PodWorker, until: str) -> None:
    queue: asyncio.Queue[tuple[Start, list[Span]]] = asyncio.Queue()
    timeline = worker.core.timeline
    # No await in between: nothing is told twice, nothing is missed.
    stop = timeline.listen(lambda start, spans: queue.put_nowait((start, spans)))
    for start in timeline.starts():
        queue.put_nowait((start, start.spans))
    try:
        while True:
            over = _is_so_far(worker, until)
            while not queue.empty():
                start, spans = queue.get_nowait()
                event = {"container": start.container, "number": start.number}
                await call.event({**event, "spans": msgspec.to_builtins(spans)})
            if over:
                return
            more = asyncio.ensure_future(queue.get())
            changed = asyncio.ensure_future(worker.changed())
            gone = asyncio.ensure_future(worker.gone.wait())
            try:
                await asyncio.wait((more, changed, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if more.done() and not more.cancelled():
                    queue.put_nowait(more.result())
                for task in (more, changed, gone):
                    task.cancel()
    finally:
        stop()
