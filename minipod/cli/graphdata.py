# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``minipod graph`` draws: objects of the API, and beside them the kernel's word on what runs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minipod.config import Config
    from minipod.graph.model import Container, Mount, Picture, Pod, Process, Volume
    from minipod.lab.kernel import Process as Seen

Json = dict[str, Any]

_PLACE = re.compile(r"/pod([0-9a-f-]{36})/([^/]+)")
_HOST_KINDS = ("user", "net", "uts", "ipc", "time", "pid", "mnt", "cgroup")
_LISTS = (
    ("initContainers", "initContainerStatuses"),
    ("containers", "containerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
)


class Machine:
    """The processes of pods, as the kernel has them now, by the pod's uid and the container's name."""

    def __init__(self, processes: Iterable[Seen] | None = None) -> None:
        """Look at all processes, or only at *processes*."""
        from minipod.lab import kernel

        self._found: dict[tuple[str, str], list[Seen]] = defaultdict(list)
        for process in processes if processes is not None else kernel.processes():
            for path in process.cgroups().values():
                if place := _PLACE.search(path):
                    # A container's cgroup is NAME.RUN; a name has no dots.
                    self._found[place[1], place[2].partition(".")[0]].append(process)
                    break
        self._host = {kind: kernel.namespace(kind) for kind in _HOST_KINDS}

    def of(self, uid: str, name: str) -> list[Seen]:
        """Return the processes of a container, or of the ``sandbox``; the first is the one that leads."""
        return sorted(self._found.get((uid, name), []), key=lambda each: each.pid)

    def namespaces(self, process: Seen, without: Mapping[str, str]) -> dict[str, str]:
        """Return the namespaces of *process* that are neither the host's nor among *without*: kind → inode."""
        found = {}
        for kind in _HOST_KINDS:
            name = process.ns(kind)
            inode = name.partition("[")[2].rstrip("]")
            if inode and name != self._host[kind] and without.get(kind) != inode:
                found[kind] = inode
        return found


def picture(pods: Iterable[Json], config: Config, machine: Machine) -> Picture:
    """Return what is to be drawn of *pods*, as the API shows them."""
    import os

    from minipod.graph.model import Picture
    from minipod.network.addresses import bridge_address, parse_range

    network = parse_range(config.pod_cidr)
    return Picture(
        host=os.uname().nodename,
        bridge=config.bridge,
        bridge_address=f"{bridge_address(network)}/{network.prefixlen}",
        table=config.nft_table,
        pods=tuple(_pod(each, config, machine) for each in pods),
    )


def _pod(pod: Json, config: Config, machine: Machine) -> Pod:
    from minipod.graph.model import Pod
    from minipod.network.addresses import pod_link

    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    on_host = bool(spec.get("hostNetwork"))
    address = status.get("podIP", "")
    sandbox = machine.of(meta["uid"], "sandbox")
    shared = machine.namespaces(sandbox[0], {}) if sandbox else {}
    # Pause's own, which no container shares.
    shared.pop("mnt", None)
    shared.pop("cgroup", None)
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        phase="Terminating" if meta.get("deletionTimestamp") else status.get("phase", "Unknown"),
        quality=status.get("qosClass", ""),
        address=address,
        host_network=on_host,
        link=pod_link(config, meta["uid"], address).host_ifname
        if sandbox and address and not on_host
        else "",
        hostname="" if on_host else spec.get("hostname") or meta["name"][:63],
        pause=sandbox[0].pid if sandbox else 0,
        namespaces=shared,
        containers=tuple(
            _container(each, key, _status(status.get(said, []), each["name"]), pod, machine, shared)
            for key, said in _LISTS
            for each in spec.get(key, [])
        ),
        volumes=tuple(_volume(each) for each in spec.get("volumes", [])),
        ports=tuple(
            f"{port['hostPort']}/{port.get('protocol', 'TCP')} → {meta['name']} {port['containerPort']}"
            for key, _ in _LISTS
            for each in spec.get(key, [])
            for port in each.get("ports", [])
            if port.get("hostPort") and sandbox and not on_host
        ),
    )


def _status(statuses: list[Json], name: str) -> Json:
    return next((each for each in statuses if each.get("name") == name), {})


def _container(
    spec: Json, key: str, status: Json, pod: Json, machine: Machine, shared: Mapping[str, str]
) -> Container:
    from minipod.graph.model import Container

    role = {"initContainers": "init", "ephemeralContainers": "ephemeral"}.get(key, "")
    if role == "init" and spec.get("restartPolicy") == "Always":
        role = "sidecar"
    state, reason = _state(status.get("state", {}))
    seen = machine.of(pod["metadata"]["uid"], spec["name"])
    limits = spec.get("resources", {}).get("limits", {})
    return Container(
        name=spec["name"],
        image=spec.get("image", ""),
        role=role,
        state=state,
        reason=reason,
        namespaces=machine.namespaces(seen[0], shared) if seen else {},
        processes=processes(seen),
        limits=tuple(f"{name} {limits[name]}" for name in sorted(limits)),
        mounts=tuple(_mounts(spec)),
    )


def _state(state: Json) -> tuple[str, str]:
    if "running" in state:
        return "running", ""
    if ended := state.get("terminated"):
        return ("failed" if ended.get("exitCode") else "done"), ended.get("reason", "")
    return "waiting", state.get("waiting", {}).get("reason", "")


def _mounts(spec: Json) -> list[Mount]:
    from minipod.graph.model import Mount

    return [
        Mount(each["name"], each["mountPath"], bool(each.get("readOnly")))
        for each in spec.get("volumeMounts", [])
    ]


def _volume(volume: Json) -> Volume:
    from minipod.graph.model import Volume

    kind = next((key for key in volume if key != "name"), "emptyDir")
    source = volume.get(kind) or {}
    if kind == "emptyDir":
        words = [source.get("medium", "").lower(), str(source.get("sizeLimit", ""))]
    else:
        names = ("path", "name", "secretName", "claimName", "reference", "server")
        words = [str(source[name]) for name in names if name in source]
    return Volume(volume["name"], kind, " ".join(filter(None, words)))


def processes(seen: list[Seen]) -> tuple[Process, ...]:
    """Return processes as a tree from above: each with its number inside and out, children below their parents."""
    from minipod.graph.model import Process

    here = {each.pid for each in seen}
    found: list[Process] = []

    def add(each: Seen, depth: int) -> None:
        inside = (each.status("NSpid") or [str(each.pid)])[-1]
        command = " ".join(each.arguments()) or f"[{each.comm}]"
        found.append(Process(int(inside), each.pid, command, depth))
        for child in seen:
            if child.parent == each.pid:
                add(child, depth + 1)

    for each in seen:
        if each.parent not in here:
            add(each, 0)
    return tuple(found)
