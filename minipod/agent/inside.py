# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's verbs that look into a living pod from outside: its namespaces, processes, cgroups, and the way in.

The agent joins nothing: all is read from /proc and the cgroup hierarchies, of processes that the pod's shim vouches
for.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import msgspec

from minipod.agent.server import Call, Handler
from minipod.api import member, to_dict
from minipod.errors import MinipodError, UsageError
from minipod.images.documents import Descriptor
from minipod.plan import SANDBOX_KEY, compile_container, container_dir, process_key
from minipod.pods.manager import PodManager
from minipod.pods.origins import MountOrigin, mount_origins
from minipod.pods.worker import PodWorker
from minipod.runtime import cgroupfiles, mountinfo, procfs
from minipod.runtime.shim import Shim, in_time

Json = dict[str, Any]

_SYS_PTRACE = 19  # CAP_SYS_PTRACE, linux/capability.h
_MOUNTINFO = 4 << 20  # bytes; a container decides how many mounts it makes, up to fs.mount-max


class Inside:
    """Answers what a pod is made of, as the kernel sees it."""

    def __init__(self, manager: PodManager) -> None:
        self._manager = manager

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that are answered here."""
        return {
            "namespaces": self.namespaces,
            "processes": self.processes,
            "cgroup": self.cgroup,
            "filesystem": self.filesystem,
            "enter": self.enter,
        }

    def _worker(self, call: Call) -> PodWorker:
        return self._manager.worker(call.text("namespace", "default"), call.text("pod"))

    async def namespaces(self, call: Call) -> Json:
        """Return the inode number of each namespace of the pause process and of each running container.

        ``host`` has those of the host, ``processes`` one entry each: ``name`` ("" is the pause process), ``kind``
        (``pause``, ``init``, ``sidecar``, ``app``, ``ephemeral``), ``pid`` and ``namespaces``.
        """
        worker = self._worker(call)
        return {
            **_head(worker),
            "host": procfs.namespaces(),
            "processes": [
                {**who, "namespaces": procfs.namespaces(who["pid"])} for who in await roots(worker)
            ],
        }

    async def processes(self, call: Call) -> Json:
        """Return all processes of a pod, those first of which others come; see ``procfs.ProcessInfo``.

        ``container`` says whose each is, "" for the sandbox's; ``shim`` is their common parent.
        """
        worker = self._worker(call)
        shim = _shim(worker)
        pause = await pid_of(shim, SANDBOX_KEY)
        found = list(_infos(worker))
        parent = procfs.process_info(procfs.process_info(pause).parent)
        return {
            **_head(worker),
            "shim": asdict(parent),
            "pause": pause,
            "uptime": time.clock_gettime(time.CLOCK_BOOTTIME),
            "ticks": procfs.TICKS,
            "processes": [{**asdict(info), "container": name} for name, info in found],
        }

    async def cgroup(self, call: Call) -> Json:
        """Return what the cgroups of a pod and of its running containers are set to and have counted.

        With ``container``, of that one only. For each: ``name`` ("" is the pod), ``kind``, ``path``, ``manifest`` (its
        resources), and ``hierarchies``: see ``runtime/cgroupfiles.py``.
        """
        worker, wanted = self._worker(call), call.request.get("container")
        core = worker.core
        _shim(worker)
        facts = core.tools.runtime.facts
        found: list[Json] = []
        if wanted is None:
            resources = to_dict(core.with_resources("applied").spec).get("resources", {})
            found.append({"name": "", "kind": "pod", "path": core.cgroup, "manifest": resources})
        else:
            worker.running(wanted)  # raises, with what there is
        for record in worker.record.containers:
            if not record.is_up or wanted not in (None, record.name):
                continue
            place = member(core.with_resources("applied"), record.name)
            kind = (
                "sidecar"
                if place.is_sidecar
                else "container"
                if place.kind == "app"
                else place.kind
            )
            found.append(
                {
                    "name": record.name,
                    "kind": kind,
                    "path": core.cgroup_of(record),
                    "manifest": msgspec.to_builtins(place.container.resources),
                }
            )
        for each in found:
            each["hierarchies"] = cgroupfiles.read_all(facts, each["path"])
        return {**_head(worker), "time": time.monotonic(), "cgroups": found}

    async def filesystem(self, call: Call) -> Json:
        """Return what a running container's root is made of.

        ``layers`` (top first) and ``upper`` are directories of this host; ``mounts`` are the container's, each with its
        ``origin``: see ``pods/origins.py``.
        """
        worker = self._worker(call)
        record, run, context, shim = worker.running(call.request.get("container"))
        core, key = worker.core, process_key(record.name, record.attempt)
        container = member(worker.pod, record.name).container
        try:
            pid = await pid_of(shim, key)
            text = procfs.read_text(f"/proc/{pid}/mountinfo", _MOUNTINFO)
            if await pid_of(shim, key) != pid:
                raise ProcessLookupError(3, "has just ended", key)
        except OSError as error:
            raise MinipodError(f"pod {worker.name}: {error}") from error
        steps = compile_container(worker.pod, container, context, run, core.tools.runtime.facts)
        origins = mount_origins(worker.pod, container, steps)
        unknown = MountOrigin("unknown", "made by the container itself, or propagated to it")
        blobs: dict[str, Descriptor] = {}
        with contextlib.suppress(MinipodError):  # the image was removed since
            blobs = {diff: blob for blob, diff in core.tools.images.layers(record.image_id)}
        return {
            **_head(worker),
            "container": record.name,
            "run": record.attempt,
            "image": container.image,
            "imageID": record.image_id,
            "layers": [_layer(path, blobs) for path in reversed(run.layers)],
            "upper": f"{container_dir(context.pod_dir, record.name, record.attempt)}/upper",
            "mounts": [
                {**asdict(mount), "origin": asdict(origins.get(mount.point, unknown))}
                for mount in mountinfo.parse(text)
            ],
        }

    async def enter(self, call: Call) -> Json:
        """Send an fd of each namespace in ``kinds``: the pause process's, or ``container``'s.

        Those that only containers have (``mnt``, ``pid``, ``cgroup``) are the default container's, where none is named.
        Left out are those that are the host's own. The event that brings the fds has their ``kinds``, the ``bounding``
        set of capabilities of whose they are, and ``watchers``: containers that could reach the host through a process
        of the host's root in these namespaces (see ``runtime/entering.py``).
        """
        worker = self._worker(call)
        kinds = call.request.get("kinds")
        if not isinstance(kinds, list) or not kinds or not set(kinds) <= set(procfs.NAMESPACES):
            raise UsageError("enter: no namespaces are named", "minipod enter POD --net -- COMMAND")
        shim, name, key = _shim(worker), call.request.get("container"), SANDBOX_KEY
        if name is not None or {"mnt", "pid", "cgroup"} & set(kinds):
            record, _, _, shim = worker.running(name)
            key = process_key(record.name, record.attempt)
        fds: list[int] = []
        try:
            pid = await pid_of(shim, key)
            own, theirs = procfs.namespaces(), procfs.namespaces(pid)
            kinds = [kind for kind in kinds if theirs.get(kind) != own.get(kind)]
            for kind in kinds:
                fds.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
            found = {
                "kinds": kinds,
                "bounding": procfs.process_info(pid).bounding,
                "watchers": _watchers(worker, kinds, theirs, own),
            }
            # The shim, its parent, has not reaped it yet: so they were no other process's that we opened.
            if await pid_of(shim, key) != pid:
                raise MinipodError(f"pod {worker.name}: {key} has just ended")
            await call.event(found, fds)
        except OSError as error:
            raise MinipodError(f"pod {worker.name}: {error}") from error
        finally:
            for fd in fds:
                os.close(fd)
        return {}


def _watchers(
    worker: PodWorker, kinds: list[str], theirs: dict[str, int], own: dict[str, int]
) -> list[str]:
    """Return the containers whose processes may look into one that joins *kinds* and keeps the host's files.

    That is for CAP_SYS_PTRACE in the user namespace that it will be in, or in one above (ptrace(2), "Ptrace access mode
    checking"). What is not in a bounding set will not come back.
    """
    if "pid" not in kinds or "mnt" in kinds:
        return []
    powerful = {own["user"]} | ({theirs["user"]} if "user" in kinds else set())
    result = set()
    for name, info in _infos(worker):
        with contextlib.suppress(OSError):
            seen = procfs.namespaces(info.pid)
            may = int(info.bounding, 16) >> _SYS_PTRACE & 1
            if may and seen["pid"] == theirs["pid"] and seen["user"] in powerful:
                result.add(name or "pause")
    return sorted(result)


def _layer(path: str, blobs: dict[str, Descriptor]) -> Json:
    """Return a layer that is unpacked in *path*; *blobs* are by diff_id."""
    diff = f"sha256:{os.path.basename(path)}"
    blob = blobs.get(diff)
    return {
        "path": path,
        "diffID": diff,
        "digest": blob.digest if blob else "",
        "size": blob.size if blob else None,
    }


def _head(worker: PodWorker) -> Json:
    meta = worker.pod.metadata
    return {"namespace": meta.namespace, "name": meta.name}


def _shim(worker: PodWorker) -> Shim:
    shim = worker.core.shim
    if shim is None or not worker.record.sandbox_up:
        raise MinipodError(
            f"pod {worker.name} has no sandbox: it is {worker.pod.status.phase}",
            f"see minipod describe pod {worker.pod.metadata.name}",
        )
    return shim


async def pid_of(shim: Shim, key: str) -> int:
    """Return the pid of a running process, as the shim, its parent, knows it.

    Raises:
        MinipodError: it does not run.
    """
    try:
        for process in await in_time(shim.state):
            if process.key == key and process.state == "running":
                return process.pid
    except OSError as error:
        raise MinipodError(f"the pod's shim does not answer: {error}") from error
    raise MinipodError(f"{key} has ended")


async def roots(worker: PodWorker) -> list[Json]:
    """Return the first process of the sandbox and of each running container: ``name``, ``kind``, ``pid``."""
    shim = _shim(worker)
    result: list[Json] = [{"name": "", "kind": "pause", "pid": await pid_of(shim, SANDBOX_KEY)}]
    for record in worker.record.containers:
        if not record.is_up:
            continue
        found = member(worker.pod, record.name)
        with contextlib.suppress(MinipodError):
            pid = await pid_of(shim, process_key(record.name, record.attempt))
            kind = "sidecar" if found.is_sidecar else found.kind
            result.append({"name": record.name, "kind": kind, "pid": pid})
    return result


def _infos(worker: PodWorker) -> Iterator[tuple[str, procfs.ProcessInfo]]:
    """Yield (container, process) for all in the pod's cgroups, as the pids go."""
    core = worker.core
    cgroups = core.tools.runtime.cgroups
    homes = {f"{core.cgroup}/sandbox": ""}
    homes |= {core.cgroup_of(r): r.name for r in worker.record.containers if r.attempt >= 0}
    for home, name in homes.items():
        for pid in sorted(cgroups.processes(home)):
            with contextlib.suppress(OSError, ValueError):
                yield name, procfs.process_info(pid)
