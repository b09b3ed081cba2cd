# SPDX-License-Identifier: GPL-3.0-or-later
"""A test instance seen through its agent's socket: create, wait, delete without a command's start-up time.

And what a test of recovery needs besides: who is which process, killing it, and what is left where no pod is.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minipod.cli.client import Call, call
from minipod.errors import MinipodError
from tests.instance import Instance
from tests.leaks import HostSnapshot, Process
from tests.patience import patience

Json = dict[str, Any]

IMAGE = "localhost/busybox:1"
FOREVER = ["sh", "-c", 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done']
STUBBORN = ["sh", "-c", 'trap "" TERM; while :; do sleep 1000 & wait; done']


def manifest(
    name: str,
    command: list[str] | None = None,
    *,
    policy: str = "Always",
    containers: list[Json] | None = None,
    **spec: Any,
) -> Json:
    """Return a pod; *command* is what its one container ``c`` executes, unless *containers* are given."""
    if containers is None:
        containers = [{"name": "c", "command": command or FOREVER}]
    if init := spec.get("initContainers"):
        spec["initContainers"] = [{"image": IMAGE, **container} for container in init]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": policy,
            "containers": [{"image": IMAGE, **container} for container in containers],
            **spec,
        },
    }


def request(instance: Instance, verb: str, *, timeout: float = 30, **fields: Any) -> Call:
    """Send a request to the agent that runs; no wait for an answer takes longer than *timeout* usual seconds."""
    fields = {"verb": verb, **fields}
    return call(instance.config, fields, start=False, timeout=patience(timeout))


def ask(instance: Instance, verb: str, **fields: Any) -> Json:
    """Send a request and return the agent's last word."""
    with request(instance, verb, **fields) as answer:
        return answer.finish()


def create(instance: Instance, *pods: Json) -> None:
    """Create *pods*; returns when the agent has them, not when they run."""
    text = "\n---\n".join(json.dumps(pod) for pod in pods)
    ask(instance, "create", manifest=text, source="test", namespace="default")


def pods(instance: Instance) -> dict[str, Json]:
    """Return all pods by name."""
    items = ask(instance, "get", kind="pods")["items"]
    return {pod["metadata"]["name"]: pod for pod in items}


def events(instance: Instance, name: str) -> list[str]:
    """Return the events of pod *name*, each as ``reason: message``."""
    items = ask(instance, "get", kind="events", **{"for": name})["items"]
    return [f"{event['reason']}: {event['message']}" for event in items]


def wait_for(
    instance: Instance, name: str, holds: Callable[[Json], bool], timeout: float = 30
) -> Json:
    """Return the pod as soon as *holds* says yes to it.

    Raises:
        AssertionError: it did not within *timeout* usual seconds of the last change.
    """
    last: Json = {}
    try:
        with request(
            instance, "get", kind="pods", names=[name], watch=True, timeout=timeout
        ) as watch:
            for event in watch:
                last = event["object"]
                if event["type"] != "DELETED" and holds(last):
                    return last
    except TimeoutError:
        pass
    raise AssertionError(
        f"pod {name} did not become what was wanted: {json.dumps(last.get('status'))}\n{events(instance, name)}"
    )


def container(pod: Json, name: str = "c") -> Json:
    """Return the status of a container."""
    status = pod["status"]
    every = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    found: Json = next(each for each in every if each["name"] == name)
    return found


def ready(pod: Json) -> bool:
    """Whether every container of the pod runs."""
    return all("running" in status["state"] for status in pod["status"]["containerStatuses"])


def over(pod: Json) -> bool:
    """Whether the pod has ended for good."""
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def restarted(count: int = 1) -> Callable[[Json], bool]:
    """Return a condition: every container runs, and was restarted *count* times."""
    return lambda pod: (
        ready(pod) and all(s["restartCount"] == count for s in pod["status"]["containerStatuses"])
    )


def run(instance: Instance, pod: Json) -> Json:
    """Create a pod and return it as soon as all its containers run."""
    create(instance, pod)
    return wait_for(instance, pod["metadata"]["name"], ready)


def delete(
    instance: Instance,
    *names: str,
    grace: int | None = None,
    wait: bool = True,
    timeout: float = 30,
) -> None:
    """Delete pods; returns when they are gone, unless *wait* is false."""
    fields = {"namespace": "default", "names": list(names), "gracePeriodSeconds": grace}
    ask(instance, "delete", wait=wait, timeout=timeout, **fields)


def log(instance: Instance, name: str, **fields: Any) -> list[str]:
    """Return the log lines of a pod's first container."""
    with request(instance, "logs", namespace="default", pod=name, **fields) as answer:
        return [event["log"]["text"] for event in answer if "log" in event]


# ---- instances ---------------------------------------------------------------------------------------------------


@contextmanager
def instance_for_all(archive: Path) -> Iterator[Instance]:
    """An instance for all tests of a module, as conftest's ``instance`` is for one."""
    instance = Instance()
    complaints: list[str] = []
    try:
        instance.load(archive)
        yield instance
    finally:
        logs = instance.logs()
        if complaints := instance.stop():
            print(logs)
    assert not complaints


@contextmanager
def without_a_trace(instance: Instance) -> Iterator[None]:
    """See that a test deletes its pods and leaves nothing; delete what it left, for the sake of the next one."""
    up(instance)
    try:
        yield
        assert pods(instance) == {}
    finally:
        for name in list(pods(instance)):
            delete(instance, name, grace=0)
    assert left(instance) == []


# ---- the agent -------------------------------------------------------------------------------------------------


def up(instance: Instance) -> int:
    """Make sure that an agent runs, as any command does, and return its pid."""
    instance.cli("get", "pods")
    return agent(instance)


def agent(instance: Instance) -> int:
    """Return the pid of the agent that runs."""
    return int(ask(instance, "agent-status")["pid"])


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal; after SIGKILL, wait for the end."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, number)
        if number == signal.SIGKILL:
            await_end(pidfd)
    finally:
        os.close(pidfd)


def await_end(pidfd: int) -> None:
    """Wait until the process of *pidfd* has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(1000 * patience(20)), "the process does not end"


def kill_agent(instance: Instance) -> None:
    """Kill the agent as nothing can be defended against."""
    kill(agent(instance))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process by SIGSTOP; it goes on afterwards if it is still there."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        yield
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        except ProcessLookupError:
            return
    finally:
        os.close(pidfd)


# ---- processes ---------------------------------------------------------------------------------------------------


def shims(instance: Instance, name: str = "") -> list[int]:
    """Return the pids of the living shims, of pod *name* only if given."""
    words = f"minipod-shim\0default/{name}"
    return [
        p.pid
        for p in instance.processes()
        if p.comm == "minipod-shim" and p.words.startswith(words) and p.state != "Z"
    ]


def members(instance: Instance, pod: Json, part: str) -> list[Process]:
    """Return the processes in a pod's cgroup for *part*: ``sandbox``, or a container's name."""
    uid = pod["metadata"]["uid"]
    start = f"/pod{uid}/sandbox" if part == "sandbox" else f"/pod{uid}/{part}."
    return [p for p in instance.processes() if start in p.cgroup and p.state != "Z"]


def init(instance: Instance, pod: Json, name: str = "c") -> int:
    """Return the pid of a container's first process."""
    (shim,) = shims(instance, pod["metadata"]["name"])
    (pid,) = (p.pid for p in members(instance, pod, name) if p.parent == shim)
    return pid


def pause(instance: Instance, pod: Json) -> int:
    """Return the pid of a pod's pause process."""
    (process,) = members(instance, pod, "sandbox")
    return process.pid


def tree(instance: Instance) -> set[tuple[int, int]]:
    """Return pid and start time of shims, pause processes and containers: the same set means that none was touched."""
    own = [p for p in instance.processes() if p.state != "Z"]
    shims = {p.pid for p in own if p.comm == "minipod-shim"}
    return {(p.pid, p.start) for p in own if p.pid in shims or p.parent in shims}


def left(instance: Instance) -> list[str]:
    """Return what is there although the instance has no pod: all but the agent, its bridge, tables and cgroup."""
    host = HostSnapshot.take(instance.scope)
    bridge, parent = instance.config.bridge, instance.config.cgroup_parent
    lines = [f"process: {p}" for p in instance.processes() if p.comm != "minipod-agent"]
    lines += [f"mount: {item}" for item in host.mounts - instance.before.mounts]
    lines += [f"link: {item}" for item in host.links if item != bridge]
    lines += [f"cgroup: {item}" for item in host.cgroups if not item.endswith(f"/{parent}")]
    lines += [f"nftables: {item}" for item in host.nftables if item.startswith("element ")]
    lines += [f"directory: {item}" for item in host.directories]
    lines += [f"address of {owner}" for owner in addresses(instance)]
    return sorted(lines)


def addresses(instance: Instance) -> list[str]:
    """Return who has an address in the pool."""
    database = sqlite3.connect(f"file:{instance.config.root_dir}/state.db?mode=ro", uri=True)
    try:
        return [row[0] for row in database.execute("SELECT owner FROM pod_address")]
    finally:
        database.close()


def words(error: MinipodError) -> str:
    """Return all that an error says."""
    return f"{error.what} {error.remedy}"
