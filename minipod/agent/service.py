# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's verbs about what runs: logs, exec. What should be is in ``changes``, what is there in ``reads``.

The API has the Kubernetes API's shape and knows no transport but the
:class:`~minipod.agent.server.Call` that it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from itertools import chain, islice
from typing import Any

from minipod.agent.server import Call, Handler
from minipod.api import default_container, defaulted, member, members
from minipod.errors import MinipodError, NotFound, UsageError
from minipod.plan import compile_exec
from minipod.pods import logs
from minipod.pods.manager import PodManager
from minipod.pods.order import TERMINAL
from minipod.pods.status import exit_of
from minipod.pods.worker import PodWorker
from minipod.runtime.runtime import Origin


class Service:
    """Answers requests about what runs."""

    def __init__(self, manager: PodManager) -> None:
        self._manager = manager
        self._tools = manager.tools

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that this service answers."""
        return {
            "logs": self.logs,
            "exec": self.exec,
        }

    # ---- logs ----

    async def logs(self, call: Call) -> dict[str, Any]:
        """Send the log lines of one container, or of all."""
        worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
        wanted = call.request.get("container")
        if call.request.get("allContainers"):
            chosen = [found.name for found in members(worker.pod)]
        else:
            chosen = [member(worker.pod, wanted).name if wanted else default_container(worker.pod)]
        sender = _LogSender(call, worker)
        if not (wanted or call.request.get("allContainers")):
            await call.note(defaulted(worker.pod))
        if call.request.get("follow") and not call.request.get("previous"):
            await asyncio.gather(*(sender.follow(name) for name in chosen))
        else:
            for name in chosen:
                await sender.send(name)
        return {}

    # ---- exec ----

    async def exec(self, call: Call) -> dict[str, Any]:
        """Execute a command in a running container; its streams are fds that the client sent, or a pty."""
        request = call.request
        worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
        command = request.get("command")
        if (
            not isinstance(command, list)
            or not command
            or not all(isinstance(w, str) for w in command)
        ):
            raise UsageError("no command is given", "minipod exec POD -- COMMAND")
        tty = bool(request.get("tty"))
        if not tty and len(call.fds) != 3:
            raise UsageError("an exec without a terminal needs three streams")
        record, run, context, shim = worker.running(request.get("container"))
        if not request.get("container"):
            await call.note(defaulted(worker.pod))
        container = member(worker.pod, record.name).container
        rows, columns = request.get("size") or (0, 0)
        number, ended = worker.next_exec()
        launch = compile_exec(
            worker.pod,
            container,
            context,
            run,
            self._tools.runtime.facts,
            tuple(command),
            number=number,
            tty=tty,
            size=(int(rows), int(columns)),
            term=str(request.get("term") or ""),
        )
        origin = Origin(f"pod {worker.name}, container {record.name}, exec", {}, "")
        process = await self._tools.runtime.execute(
            shim, launch, call.fds if not tty else (), origin
        )
        # The container's ends are the command's alone now: the client sees their end when it ends.
        for fd in call.fds:
            os.close(fd)
        call.fds.clear()
        try:
            await call.event({"started": True}, process.fds)
        finally:
            for fd in process.fds:
                os.close(fd)
        lost = asyncio.ensure_future(shim.closed.wait())
        try:
            await asyncio.wait((ended, lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if not ended.done():
            return {"exitCode": 137}
        return {"exitCode": exit_of(ended.result().status)[0]}


_TURN = 64  # lines that are sent before others have their turn


class _LogSender:
    """Sends one request's log lines."""

    def __init__(self, call: Call, worker: PodWorker) -> None:
        self._call = call
        self._worker = worker
        request = call.request
        tail = request.get("tail")
        self._sent = 0
        self._tail = None if tail is None or tail < 0 else int(tail)
        self._since = 0.0
        if request.get("sinceSeconds") is not None:
            self._since = time.time() - float(request["sinceSeconds"])
        elif request.get("sinceTime"):
            try:
                self._since = logs.epoch(str(request["sinceTime"]))
            except ValueError as error:
                raise UsageError(
                    f"since-time {request['sinceTime']!r} is no RFC 3339 time"
                ) from error

    def _select(self, lines: Iterator[logs.Line]) -> Iterator[logs.Line]:
        """Return what of a log is to be sent. Takes long, because much is read before the first line: for a thread."""
        recent = (line for line in lines if not self._since or logs.epoch(line.time) >= self._since)
        if self._tail is not None:
            return iter(logs.last(recent, self._tail))
        return chain(tuple(islice(recent, 1)), recent)

    def _path(self, name: str, attempt: int) -> str:
        return f"{self._worker.log_dir}/{name}/{attempt}.log"

    async def _line(self, name: str, line: logs.Line) -> None:
        data = {
            "pod": self._worker.pod.metadata.name,
            "container": name,
            "stream": line.stream,
            "time": line.time,
            "text": line.text,
            "partial": line.partial,
        }
        await self._call.event({"log": data})
        # A client that reads fast never makes us wait, and a log may have a million lines: let others do their work.
        self._sent += 1
        if not self._sent % _TURN:
            await asyncio.sleep(0)

    async def send(self, name: str) -> None:
        """Send what is there."""
        attempt = self._worker.record.container(name).attempt
        if self._call.request.get("previous"):
            attempt -= 1
            if attempt < 0:
                raise NotFound(
                    f"container {name} of pod {self._worker.name} was not restarted: there is no previous log"
                )
        if attempt < 0:
            raise MinipodError(
                f"container {name} of pod {self._worker.name} has not started yet",
                f"see minipod describe pod {self._worker.pod.metadata.name}",
            )
        lines = await asyncio.to_thread(self._select, logs.read(self._path(name, attempt)))
        for line in lines:
            await self._line(name, line)

    async def follow(self, name: str) -> None:
        """Send what is there and what comes, over restarts, until the container will not run again."""
        attempt = self._worker.record.container(name).attempt
        first = True
        while not self._worker.gone.is_set():
            record = self._worker.record.container(name)
            if record.attempt >= max(0, attempt) and os.path.exists(
                self._path(name, max(0, attempt))
            ):
                async for line in self._follow_run(name, max(0, attempt), first):
                    await self._line(name, line)
                attempt = max(0, attempt) + 1
                first = False
            elif self._is_over(name):
                return
            else:
                await self._worker.changed()

    def _is_over(self, name: str) -> bool:
        worker = self._worker
        return (
            worker.gone.is_set()
            or worker.record.container(name).is_over
            or worker.pod.status.phase in TERMINAL
        )

    async def _follow_run(self, name: str, attempt: int, first: bool) -> AsyncIterator[logs.Line]:
        ended = asyncio.Event()

        async def watch() -> None:
            while not self._worker.gone.is_set():
                record = self._worker.record.container(name)
                if record.attempt > attempt or record.state not in ("running", "starting"):
                    break
                await self._worker.changed()
            ended.set()

        watcher = asyncio.ensure_future(watch())
        try:
            skip = self._select if first else iter
            async with contextlib.aclosing(
                logs.follow(self._path(name, attempt), skip, ended)
            ) as lines:
                async for line in lines:
                    yield line
        finally:
            watcher.cancel()
