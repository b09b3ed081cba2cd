# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes commands in a pod's containers for the agent itself: for probes and hooks, whose callers limit the time.

A command runs as ``minipod exec`` runs one: as the container's user, in its cgroup, with its limits and its filter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from minipod.api import Pod
from minipod.errors import MinipodError
from minipod.plan import ContainerContext, PodContext, compile_exec
from minipod.plan.steps import Launch
from minipod.pods.core import PodCore
from minipod.pods.execs import Execs
from minipod.pods.record import ContainerRecord
from minipod.pods.status import exit_of
from minipod.runtime.shim import Shim, in_time

MAX_OUTPUT = 10 * 1024
"""Bytes of output that are kept, as the kubelet does."""

_READ = 64 * 1024
_PAUSE = 0.05  # seconds between two reads of what is thrown away: an endless output costs next to nothing
_KILL = 9

Running = Callable[[str | None], tuple[ContainerRecord, ContainerContext, PodContext, Shim]]


class Commands:
    """Executes commands in the containers of one pod; *running* is ``Containers.running``."""

    def __init__(self, core: PodCore, execs: Execs, running: Running) -> None:
        self._core = core
        self._execs = execs
        self._running = running
        self._compiled: dict[tuple[str, tuple[str, ...]], _Compiled] = {}

    async def run(self, name: str, command: tuple[str, ...], output: Output) -> int:
        """Execute *command* in container *name* and return its exit code; *output* takes what it writes.

        Whoever cancels this kills the command.

        Raises:
            MinipodError: it could not be executed, or the sandbox has gone.
        """
        core = self._core
        record, run, context, shim = self._running(name)
        number, ended = self._execs.next()
        key = f"exec/{number}"
        launch = replace(self._compile(record.name, context, run, command), key=key)
        lost = asyncio.ensure_future(shim.closed.wait())
        try:
            with output.fds() as fds:
                origin = core.origin(f"container {name}, exec")
                await core.tools.runtime.execute(shim, launch, fds, origin)
            await asyncio.wait((ended, lost), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                raise MinipodError("the sandbox has gone")
            return exit_of(ended.result().status)[0]
        except OSError as error:
            raise MinipodError(f"the shim did not answer: {error}") from error
        finally:
            lost.cancel()
            self._execs.forget(key)
            if not ended.done():
                # Also when it is still being launched: the shim does one thing after the other.
                core.spawn(_kill(shim, key))

    def _compile(
        self, name: str, context: PodContext, run: ContainerContext, command: tuple[str, ...]
    ) -> Launch:
        """Return the plan of *command*: that of last time, unless the run, the sandbox or the pod is another now."""
        core = self._core
        of = context, run, core.pod, core.pod.metadata.generation
        kept = self._compiled.get((name, command))
        if kept is None or any(a is not b for a, b in zip(kept.of, of, strict=True)):
            launch = compile_exec(
                core.pod,
                core.spec(name),
                context,
                run,
                core.tools.runtime.facts,
                command,
                number=0,
                tty=False,
            )
            kept = self._compiled[name, command] = _Compiled(of, launch)
        return kept.launch


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The plan of a command, and what it was made of."""

    of: tuple[PodContext, ContainerContext, Pod, int | None]
    launch: Launch


class Output:
    """A pipe that keeps the start of what comes, and throws the rest away at leisure."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        self._kept = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._read, self._readable)

    @contextlib.contextmanager
    def fds(self) -> Iterator[tuple[int, int, int]]:
        """Return stdin, stdout and stderr for the command; ours are closed at the end of the block."""
        # An empty pipe, not our /dev/null: the container's root could chmod the host's device that it has open.
        empty, nobody = os.pipe2(os.O_CLOEXEC)
        os.close(nobody)
        try:
            yield empty, self._write, self._write
        finally:
            os.close(empty)
            os.close(self._write)
            self._write = -1

    def text(self) -> str:
        """Return what has come."""
        if len(self._kept) < MAX_OUTPUT:
            self._take()
        return self._kept[:MAX_OUTPUT].decode(errors="replace")

    def close(self) -> None:
        """Listen no more; whoever still holds the other end writes to nobody."""
        self._stop_listening()
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)

    def _take(self) -> bool:
        """Read once; whether the end is not reached."""
        try:
            data = os.read(self._read, _READ)
        except BlockingIOError:
            return True
        if len(self._kept) < MAX_OUTPUT:
            self._kept += data
        return bool(data)

    def _readable(self) -> None:
        if not self._take():
            self._stop_listening()
        elif len(self._kept) >= MAX_OUTPUT:
            self._loop.remove_reader(self._read)
            self._timer = self._loop.call_later(_PAUSE, self._listen)

    def _listen(self) -> None:
        self._timer = None
        self._loop.add_reader(self._read, self._readable)

    def _stop_listening(self) -> None:
        self._loop.remove_reader(self._read)
        if self._timer:
            self._timer.cancel()


async def _kill(shim: Shim, key: str) -> None:
    # A shim that is held would let these pile up.
    with contextlib.suppress(OSError):
        await in_time(lambda: shim.signal(key, _KILL))
