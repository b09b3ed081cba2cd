# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent that comes back finds of a pod. Nothing that lives is disturbed."""

from __future__ import annotations

from minipod.plan import SANDBOX_KEY, process_key
from minipod.pods.containers import Containers
from minipod.pods.core import PodCore
from minipod.pods.sandbox import Sandbox
from minipod.runtime.shim import (
    ANSWER_TIMEOUT,
    Process,
    Shim,
    end_shims,
    in_time,
    read_exit_records,
)


async def recover(core: PodCore, sandbox: Sandbox, containers: Containers) -> None:
    """Find out what became of the pod while no agent ran, and put the record right."""
    record = core.record
    if record.sandbox < 0:
        return
    directory = core.run_dir
    if core.rebooted:
        await _recover_dead(core, sandbox, containers)
        return
    try:
        shim = Shim.connect(directory)
    except OSError:
        await _recover_dead(core, sandbox, containers)
        return
    sandbox.listen(shim)  # before the question: what ends right after its answer is told but once
    try:
        entries = {process.key: process for process in await in_time(shim.state, ANSWER_TIMEOUT)}
    except OSError:  # it was just ending, or it is held
        shim.close()
        await end_shims(directory)
        await _recover_dead(core, sandbox, containers)
        return
    pause = entries.get(SANDBOX_KEY)
    if pause is not None:
        containers.messages.attach(pause.pid)
    if pause is None or pause.state != "running":
        core.shim = shim
        _take_exits(core, containers, entries)
        await _recover_dead(core, sandbox, containers)
        return
    sandbox.adopt(shim)
    if not record.sandbox_up:
        # The agent died between making the sandbox and saying so; its network may be half made.
        await sandbox.remove()
        return
    for container in record.containers:
        if container.state not in ("running", "starting"):
            continue
        process = entries.get(process_key(container.name, container.attempt))
        if process is None and container.state == "starting":
            containers.start_over(container)
        elif process is None:
            containers.lost(container)
        elif process.state == "exited":
            container.state = "running"
            containers.on_exit(process)
        elif container.state == "running":
            containers.on_found(container)
        elif process.state == "running":
            containers.on_started(process)


def _take_exits(core: PodCore, containers: Containers, entries: dict[str, Process]) -> None:
    for container in core.record.containers:
        process = entries.get(process_key(container.name, container.attempt))
        if process and process.state == "exited" and container.state in ("running", "starting"):
            containers.on_exit(process)


async def _recover_dead(core: PodCore, sandbox: Sandbox, containers: Containers) -> None:
    """The sandbox is gone (a killed shim, a reboot): learn how containers ended, and clean up after it.

    As after a reboot of a node with a kubelet, the restart policy says what is started again.
    """
    _take_exits(core, containers, read_exit_records(core.run_dir))
    if core.record.sandbox_up:
        rebooted = "the machine was rebooted" if core.rebooted else ""
        sandbox.lose(rebooted or "it was gone when the agent came back")
        await sandbox.settle_loss()
    else:
        await sandbox.remove()
    for container in core.record.containers:
        if container.state in ("running", "starting"):
            containers.lost(container)
