# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's process: one per root directory. Puts the layers together, recovers, listens, and lets go at the end.

Exit codes: 0 stopped, 1 could not start (the reason goes to the log and to ``--ready-fd``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import os
import signal
import time
from dataclasses import replace
from typing import Any

from minipod import __version__
from minipod.agent import systemd
from minipod.agent.changes import Changes
from minipod.agent.collector import Collector
from minipod.agent.conditions import ConditionService
from minipod.agent.debug import Debug
from minipod.agent.gcrules import Rules
from minipod.agent.imageservice import ImageService
from minipod.agent.imagesizes import ImageSizes
from minipod.agent.imageuse import ImageUse
from minipod.agent.inside import Inside
from minipod.agent.netview import NetView
from minipod.agent.objects import ObjectTable
from minipod.agent.planning import Planning
from minipod.agent.puller import Puller
from minipod.agent.reads import Reads
from minipod.agent.resources import Resources
from minipod.agent.server import Call, Server
from minipod.agent.service import Service
from minipod.agent.store import Store
from minipod.agent.systemservice import SystemService
from minipod.agent.traces import Traces
from minipod.api import SecurityContext
from minipod.config import Config, load
from minipod.errors import MinipodError, UsageError
from minipod.images import ImageStore
from minipod.network import AddressPool, Network
from minipod.pods.demands import Demands
from minipod.pods.manager import PodManager
from minipod.pods.order import TERMINAL
from minipod.pods.ports import Tools
from minipod.pods.storage import Storage
from minipod.runtime import facts as probe
from minipod.runtime import scope
from minipod.runtime.cgroups import Cgroups
from minipod.runtime.filters import Filters
from minipod.runtime.runtime import Runtime
from minipod.runtime.shim import Executables, reap_orphans
from minipod.runtime.userids import UserIds

log = logging.getLogger("minipod.agent")


class Agent:
    """The running agent."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._started = time.monotonic()
        self._stop = asyncio.Event()

    async def run(self, ready: Any) -> None:
        """Serve until told to stop; *ready* is called once requests are answered."""
        config = self._config
        rules = Rules.of(config)  # what is wrong with a setting is said before anything is begun
        with contextlib.ExitStack() as stack:
            # Before anything is started that would inherit it.
            listener = systemd.inherited_socket(config.socket)
            stack.enter_context(_only_one(config))
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap_orphans)
            store = Store(f"{config.root_dir}/state.db")
            stack.callback(store.close)
            objects = ObjectTable(store)
            manager, network, cgroups = await self._assemble(store, objects)
            reads = Reads(store, objects, manager)
            images = manager.tools.images
            use, sizes = ImageUse(images, manager), ImageSizes(images)
            handlers = {
                **reads.handlers(),
                **Changes(objects, manager, reads).handlers(),
                **Service(manager).handlers(),
                **Planning(manager).handlers(),
                **ConditionService(manager).handlers(),
                **Resources(manager).handlers(),
                **Traces(manager).handlers(),
                **Inside(manager).handlers(),
                **NetView(manager).handlers(),
                **Debug(manager).handlers(),
                **ImageService(images, manager, self._puller, use, sizes).handlers(),
                **SystemService(config, manager, images, use, sizes).handlers(),
                "agent-status": self._status_of(manager),
                "agent-stop": self._stop_with(manager),
            }
            server = Server(config.socket, handlers)
            await manager.recover(store.load())
            server.listen(listener)
            log.info(
                "minipod agent %s is ready, pid %d, %d pods",
                __version__,
                os.getpid(),
                len(manager.workers()),
            )
            # What was made so far stays: no search for garbage has to look at it, in the midst of a start.
            gc.collect()
            gc.freeze()
            collector = Collector(rules, images, use, sizes, config.root_dir, store.event)
            collecting = asyncio.ensure_future(collector.run())
            ready()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            await self._stop.wait()
            await server.close()
            collecting.cancel()
            empty = not manager.workers()
            await manager.stop()
            if empty:
                # Nothing needs them any more, and the next agent makes them again.
                await network.ensure([])
                await network.teardown()
                cgroups.remove_parent()
                scope.release(self._home)
            await network.close()
            log.info("stopped%s", "" if empty else "; the pods go on")

    async def _assemble(
        self, store: Store, objects: ObjectTable
    ) -> tuple[PodManager, Network, Cgroups]:
        config = self._config
        facts = probe.gather(config.root_dir)
        images = ImageStore(f"{config.root_dir}/images")
        images.sweep()
        self._puller = Puller(config, images)
        network = await Network.open(config)
        self._home = scope.find(facts, config.cgroup_parent)
        facts = replace(
            scope.delegated(facts, self._home),
            protects_memory=not self._home.unit,
            single_process_oom_kill=config.single_process_oom_kill == "true",
        )
        cgroups = Cgroups(
            facts,
            self._home.parent,
            self._home.shims,
            renew=lambda: scope.find(facts, config.cgroup_parent),
        )
        runtime = Runtime(facts, cgroups, network, Executables())
        filters = Filters(facts.machine, config.root_dir)
        filters.of(SecurityContext())  # what nearly every container gets
        tools = Tools(
            config=config,
            runtime=runtime,
            images=images,
            puller=self._puller,
            pool=AddressPool(store.db, config.pod_cidr),
            user_ids=UserIds(store.db, config.user_ids),
            store=store,
            objects=objects,
            storage=Storage(config, objects, store.event),
            cgroup_parent=cgroups.parent,
            demands=Demands(cgroups),
            notes=list(probe.shortcomings(facts).values()),
            filters=filters,
            traces=_number("traces", config.traces),
        )
        return PodManager(tools), network, cgroups

    def _status_of(self, manager: PodManager) -> Any:
        async def status(call: Call) -> dict[str, Any]:
            return {
                "pid": os.getpid(),
                "version": __version__,
                "uptimeSeconds": round(time.monotonic() - self._started, 1),
                "pods": len(manager.workers()),
                "notes": manager.tools.notes,
                **{
                    name.removeprefix("MINIPOD_").lower(): value
                    for name, value in self._config.to_env().items()
                },
            }

        return status

    def _stop_with(self, manager: PodManager) -> Any:
        async def stop(call: Call) -> dict[str, Any]:
            # The answer first: the socket goes away with us.
            asyncio.get_running_loop().call_later(0.01, self._stop.set)
            running = [w for w in manager.workers() if w.pod.status.phase not in TERMINAL]
            return {"pid": os.getpid(), "pods": len(running)}

        return stop


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise UsageError(f"the setting {name} is {text!r}", "write a number from 0 to 999")
    return int(text)


@contextlib.contextmanager
def _only_one(config: Config) -> Any:
    """Hold the root directory's lock: one agent per root directory, whatever its sockets are."""
    fd = os.open(f"{config.root_dir}/agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode().strip()
            raise MinipodError(
                f"another agent, pid {pid or 'unknown'}, works on {config.root_dir}",
                f"use its MINIPOD_RUN_DIR (here it is {config.run_dir}), or end it with kill: pods go on",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _prepare(config: Config) -> None:
    """Make our directories, with nothing of anyone else's reachable through them."""
    os.umask(0o077)
    for path in (config.root_dir, config.run_dir):
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.chmod(path, 0o700)
    os.makedirs(config.log_dir, mode=0o755, exist_ok=True)


def _name_process() -> None:
    import prctl

    prctl.set_name("minipod-agent")
    # Orphans of a shim that was killed come to us and are reaped, instead of to pid 1.
    prctl.set_child_subreaper(True)


def _announce(fd: int | None, line: str) -> None:
    """Tell whoever started us: through the pipe of the CLI, or to systemd."""
    if fd is not None:
        with contextlib.suppress(OSError):
            os.write(fd, line.encode() + b"\n")
            os.close(fd)
    if line == "ok":
        systemd.notify_ready()


def main(arguments: list[str] | None = None) -> int:
    """Run the agent in the foreground until SIGTERM, SIGINT or a stop request."""
    parser = argparse.ArgumentParser(prog="minipod agent run")
    parser.add_argument(
        "--ready-fd", type=int, help="write one line to this fd when ready, or why not"
    )
    parser.add_argument("--ready-fifo", help="the same, for this FIFO, when somebody reads it")
    options = parser.parse_args(arguments)
    systemd.set_up_log()
    ready_fd: int | None = options.ready_fd
    if options.ready_fifo:
        # A service that systemd starts once more finds no FIFO, and nobody who would read it.
        with contextlib.suppress(OSError):
            ready_fd = os.open(options.ready_fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.geteuid() != 0:
            raise MinipodError("the agent must run as root", "sudo minipod …")
        config = load()
        _prepare(config)
        _name_process()
        asyncio.run(Agent(config).run(lambda: _announce(ready_fd, "ok")))
    except (MinipodError, OSError) as error:
        words = error if isinstance(error, MinipodError) else MinipodError(str(error))
        log.error("%s", words)
        _announce(ready_fd, json.dumps(words.to_status()))
        return 1
    return 0
