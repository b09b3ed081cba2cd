# SPDX-License-Identifier: GPL-3.0-or-later
"""Accompanies the pods of ``run``: pods, events and logs, several calls to the agent at once, and the interrupts."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple

from minipod.cli.client import Call, Json, call
from minipod.cli.loglines import LogWriter
from minipod.cli.output import painter, say
from minipod.cli.podtable import exit_code, is_finished, is_true, summarize
from minipod.cli.progress import Progress
from minipod.config import Config
from minipod.errors import MinipodError

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 2  # interrupts: to delete, to delete at once; the next one leaves all as it is


class PodView:
    """A pod as last seen.

    Attributes:
        data: the object; empty before it was seen.
        deleted: it is gone.
    """

    __slots__ = ("data", "deleted", "name", "namespace", "uid")

    def __init__(self, namespace: str, name: str, uid: str) -> None:
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.data: Json = {}
        self.deleted = False

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs or will run."""
        return self.deleted or is_finished(self.data)

    @property
    def is_up(self) -> bool:
        """Whether it has come to run, or is over already."""
        return self.is_over or self.data.get("status", {}).get("phase") == "Running"


class _Reader(NamedTuple):
    """A call in progress, and what to do with its events."""

    call: Call
    on_event: Callable[[Json], None]
    required: bool  # its error is ours


class Foreground:
    """Reads all calls at once until what is waited for has come. A context manager."""

    def __init__(self, config: Config, pods: Sequence[PodView]) -> None:
        self._config = config
        self._pods = {pod.uid: pod for pod in pods}
        self._progress = Progress()
        self._several = len(pods) > 1
        self._log = LogWriter(self._prefix, split=True)
        self._paint_out = painter(sys.stdout)
        self._colours: dict[tuple[Any, Any], str] = {}
        self._readers: dict[int, _Reader] = {}
        self._logs: dict[int, PodView] = {}
        self._deletions: set[int] = set()
        self._traces: set[int] = set()
        self._attached = False
        self._signal = 0
        self._interrupts = 0
        self._wake = (-1, -1)
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Foreground:
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, self._interrupted)
        for namespace in sorted({pod.namespace for pod in self._pods.values()}):
            names = [pod.name for pod in self._pods.values() if pod.namespace == namespace]
            request = {"verb": "get", "namespace": namespace, "selector": "", "watch": True}
            self._read({**request, "kind": "pods", "names": names}, self._on_pod)
            self._read({**request, "kind": "events", "names": []}, self._on_event, required=False)
        return self

    def __exit__(self, *exc: object) -> None:
        for reader in self._readers.values():
            reader.call.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for fd in self._wake:
            os.close(fd)
        self._progress.clear()

    # ---- what run waits for ----

    def show_steps(self, *, until: str) -> None:
        """Print each step of the pods' starts and what it took, *until* they are ``running`` or ``ready``."""
        from minipod.cli.steplines import StepLines

        for pod in self._pods.values():
            lines = StepLines(pod.name if self._several else "", self._progress)
            request = {"verb": "trace", "namespace": pod.namespace, "pod": pod.name, "until": until}
            self._traces.add(self._read(request, lines.show, required=False))

    def until_up(self, *, ready: bool = False) -> int:
        """Wait until all pods run (*ready*: are ready) or have ended, print a line for each; return the exit code."""

        def is_up(pod: PodView) -> bool:
            return pod.is_over or is_true(pod.data, "Ready") if ready else pod.is_up

        self._loop(
            lambda: (
                bool(self._interrupts)
                or (all(map(is_up, self._pods.values())) and not self._traces)
            )
        )
        self._progress.clear()
        if self._interrupts:
            self._progress.line("interrupted: the pods go on; minipod get pods shows them")
            return 128 + self._signal
        for pod in self._pods.values():
            address = pod.data.get("status", {}).get("podIP") or "-"
            say(f"{pod.name}  {address}" if not pod.deleted else f"{pod.name}  deleted")
        return self._exit_code()

    def until_finished(self, *, remove: bool) -> int:
        """Print the logs until all pods have ended or were interrupted; return the exit code."""
        self._attached = True
        for pod in self._pods.values():
            request = {
                "verb": "logs",
                "namespace": pod.namespace,
                "pod": pod.name,
                "container": None,
                "allContainers": True,
                "follow": True,
                "previous": False,
                "tail": None,
                "timestamps": False,
                "prefix": False,
            }
            self._logs[self._read(request, self._on_log, required=False)] = pod
        self._loop(self._finished)
        self._log.finish()
        self._progress.clear()
        if self._interrupts:
            return 128 + self._signal
        if remove:
            self._delete(None)
            self._loop(lambda: not self._deletions or self._interrupts > _PATIENCE)
        code = self._exit_code()
        self._say_why(code)
        return code

    def _finished(self) -> bool:
        # What a deleted pod wrote was sent before it was gone; nobody has to tell that no more comes.
        if any(not pod.deleted for pod in self._logs.values()):
            return self._interrupts > _PATIENCE
        if self._interrupts:
            return not self._deletions or self._interrupts > _PATIENCE
        return all(pod.is_over for pod in self._pods.values())

    def _exit_code(self) -> int:
        for pod in self._pods.values():
            if pod.is_over and (code := exit_code(pod.data)):
                return code
        return 0

    def _say_why(self, code: int) -> None:
        for pod in self._pods.values():
            if pod.deleted and not is_finished(pod.data):
                self._progress.line(f"pod {pod.name} was deleted", "red")
            elif code and exit_code(pod.data):
                status = pod.data.get("status", {})
                why = (
                    status.get("message")
                    or f"{summarize(pod.data).status}, exit code {exit_code(pod.data)}"
                )
                self._progress.line(f"pod {pod.name} failed: {why}", "red")

    # ---- reading ----

    def _read(
        self, request: Json, on_event: Callable[[Json], None], *, required: bool = True
    ) -> int:
        opened = call(self._config, request)
        fd = opened.fileno()
        self._readers[fd] = _Reader(opened, on_event, required)
        return fd

    def _loop(self, over: Callable[[], bool]) -> None:
        while not over():
            poll = select.poll()
            for fd in (self._wake[0], *self._readers):
                poll.register(fd, select.POLLIN)
            # All that is there is read before the end is looked at: a log's last lines come with its pod's end.
            for fd, _ in poll.poll():
                if fd == self._wake[0]:
                    self._on_interrupt()
                elif fd in self._readers:
                    self._receive(fd)
            self._log.flush()

    def _receive(self, fd: int) -> None:
        reader = self._readers[fd]
        try:
            for event in reader.call.receive():
                reader.on_event(event)
            ended = reader.call.done is not None
        except MinipodError as error:
            if reader.required or error.reason == MinipodError.reason:
                raise
            # A pod that is gone has no log any more: its own watch tells what became of it.
            ended = True
        if ended:
            reader.call.close()
            del self._readers[fd]
            self._logs.pop(fd, None)
            self._traces.discard(fd)
            self._deletions.discard(fd)

    # ---- what is read ----

    def _on_pod(self, event: Json) -> None:
        data = event["object"]
        pod = self._pods.get(data["metadata"].get("uid"))
        if pod is None:
            return
        pod.data = data
        pod.deleted = event["type"] == "DELETED"
        self._progress.update(pod.uid, "" if pod.deleted else self._state(pod))

    def _state(self, pod: PodView) -> str:
        """Return what is worth saying of a pod on its way; nothing of one that runs, on a terminal."""
        status = pod.data.get("status", {})
        if self._progress.on_terminal and (pod.is_over or is_true(pod.data, "Ready")):
            return ""
        summary = summarize(pod.data)
        words = f"{pod.name}: {summary.status}"
        if summary.status == "Running" and status.get("podIP"):
            words += f" {status['podIP']}"
        every = (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
        waiting = (c.get("state", {}).get("waiting") or {} for c in every)
        messages = [w["message"] for w in waiting if w.get("message")]
        return f"{words}: {messages[0]}" if messages else words

    def _on_event(self, event: Json) -> None:
        data = event["object"]
        pod = self._pods.get(data.get("involvedObject", {}).get("uid"))
        if pod is None or event["type"] != "ADDED":
            return
        words = f"{pod.name}: {data.get('reason')}: {data.get('message')}"
        if data.get("type") == "Warning":
            self._progress.line(words, "yellow")
        elif self._progress.on_terminal and not pod.is_up:
            self._progress.update(pod.uid, words)

    def _on_log(self, event: Json) -> None:
        self._progress.clear()
        self._log.write(event["log"])

    def _prefix(self, log: Json) -> str:
        whose = log.get("pod"), log.get("container")
        colour = self._colours.setdefault(whose, _COLOURS[len(self._colours) % len(_COLOURS)])
        name = f"{whose[0]}/{whose[1]}" if self._several else f"{whose[1]}"
        paint = self._progress.paint if log.get("stream") == "stderr" else self._paint_out
        return paint(f"[{name}]", colour) + " "

    # ---- interrupts ----

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        os.write(self._wake[1], b"!")

    def _on_interrupt(self) -> None:
        os.read(self._wake[0], 64)
        self._interrupts += 1
        if not self._attached or self._interrupts > _PATIENCE:
            return
        names = ", ".join(pod.name for pod in self._pods.values())
        if self._interrupts == 1:
            self._progress.line(f"deleting {names}; once more ends it at once")
            self._delete(None)
        else:
            self._progress.line(f"ending {names} at once")
            self._delete(0)

    def _delete(self, grace: int | None) -> None:
        # A call for each: one that is gone already is an error, and must not save the others.
        for pod in self._pods.values():
            request = {
                "verb": "delete",
                "kind": "pods",
                "namespace": pod.namespace,
                "names": [pod.name],
                "gracePeriodSeconds": grace,
                "all": False,
                "selector": "",
                "wait": True,
            }
            if not pod.deleted:
                self._deletions.add(self._read(request, lambda event: None, required=False))
