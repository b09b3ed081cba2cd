# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's verb ``network``: what a packet of a pod meets on its way, as the kernel has it now.

All is read: links from sysfs, the pod's side from ``/proc/<pause>/net``, the packet filters from nft.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from typing import Any

from minipod.agent.inside import pid_of
from minipod.agent.server import Call, Handler
from minipod.errors import MinipodError
from minipod.network import PodLink, nft
from minipod.network.addresses import bridge_address, parse_range
from minipod.plan import SANDBOX_KEY
from minipod.pods import hostports
from minipod.pods.manager import PodManager
from minipod.pods.worker import PodWorker
from minipod.runtime.procfs import read_text

Json = dict[str, Any]

_MOST = 1 << 20
_COUNTS = ("rx_packets", "rx_bytes", "rx_dropped", "tx_packets", "tx_bytes", "tx_dropped")


class NetView:
    """Answers how pods are connected."""

    def __init__(self, manager: PodManager) -> None:
        self._manager = manager
        self._tools = manager.tools

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that are answered here."""
        return {"network": self.network}

    async def network(self, call: Call) -> Json:
        """Return the bridge, the range, and each pod's address and link; with ``pod``, of that one all it meets."""
        config, name = self._tools.config, call.request.get("pod")
        pods = parse_range(config.pod_cidr)
        result: Json = {
            "range": config.pod_cidr,
            "size": max(0, pods.num_addresses - 3),  # without the net, the bridge, the broadcast
            "used": len(self._tools.pool.all()),
            "bridge": {"address": str(bridge_address(pods)), **link(config.bridge)},
            "table": config.nft_table,
            "hostIP": self._tools.runtime.network.host_ip(),
            "pods": [self._pod(worker) for worker in self._manager.workers()],
        }
        if name is not None:
            worker = self._manager.worker(call.text("namespace", "default"), call.text("pod"))
            result["pod"] = {**self._pod(worker), **await self._way(worker)}
        return result

    def _link(self, worker: PodWorker) -> PodLink | None:
        return hostports.link_of(self._tools.config, worker.pod, worker.record.address)

    def _pod(self, worker: PodWorker) -> Json:
        meta, own = worker.pod.metadata, self._link(worker)
        result: Json = {
            "namespace": meta.namespace,
            "name": meta.name,
            "phase": worker.pod.status.phase,
            "hostNetwork": worker.pod.spec.host_network,
            "address": worker.record.address,
            "ports": [],
        }
        if own is not None:
            result |= {
                "prefixLength": own.prefix_len,
                "gateway": own.gateway,
                "mac": own.mac,
                "veth": link(own.host_ifname),
                "ports": [
                    {
                        "hostIP": port.address,
                        "hostPort": port.host_port,
                        "protocol": port.protocol,
                        "containerPort": port.port,
                    }
                    for port in own.ports
                ],
            }
        return result

    async def _way(self, worker: PodWorker) -> Json:
        shim, config = worker.core.shim, self._tools.config
        result: Json = {"eth0": None, "routes": []}
        if shim is not None and worker.record.sandbox_up and not worker.pod.spec.host_network:
            pid = await pid_of(shim, SANDBOX_KEY)
            with contextlib.suppress(OSError):
                result["eth0"] = devices(read_text(f"/proc/{pid}/net/dev", _MOST)).get("eth0")
                result["routes"] = routes(read_text(f"/proc/{pid}/net/route", _MOST))
            if await pid_of(shim, SANDBOX_KEY) != pid:
                raise MinipodError(f"pod {worker.name}: its sandbox has just ended")
        own, bridge, chains, legacy = await asyncio.gather(
            nft.listing("table", "inet", config.nft_table),
            nft.listing("table", "bridge", config.nft_table),
            nft.listing("chains"),
            nft.legacy_forward(),
        )
        with contextlib.suppress(OSError):
            result["forwarding"] = read_text("/proc/sys/net/ipv4/ip_forward", 16).strip() == "1"
            result["hostRoutes"] = routes(read_text("/proc/net/route", _MOST))
        return {
            **result,
            "filter": {"inet": json.loads(own), "bridge": json.loads(bridge)},
            "chains": json.loads(chains),
            "legacyForward": legacy,
        }


def link(name: str) -> Json:
    """Return what sysfs tells of a link: ``name`` alone when it is not there."""
    top = f"/sys/class/net/{name}"
    if not os.path.isdir(top):
        return {"name": name}
    result: Json = {"name": name}
    for key in ("operstate", "address", "mtu", "ifindex", "iflink"):
        with contextlib.suppress(OSError):
            text = read_text(f"{top}/{key}", 64).strip()
            result[key if key != "address" else "mac"] = int(text) if text.isdigit() else text
    with contextlib.suppress(OSError):
        result["master"] = os.path.basename(os.readlink(f"{top}/master"))
    for key in _COUNTS:
        with contextlib.suppress(OSError, ValueError):
            result[key] = int(read_text(f"{top}/statistics/{key}", 32))
    return result


def devices(text: str) -> dict[str, dict[str, int]]:
    """Return the counters of each link in ``/proc/PID/net/dev``, in sysfs's names."""
    result = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = [int(word) for word in rest.split()]
        if len(words) == 16:
            numbers = (words[1], words[0], words[3], words[9], words[8], words[11])
            result[name.strip()] = dict(zip(_COUNTS, numbers, strict=True))
    return result


def routes(text: str) -> list[Json]:
    """Return the routes of ``/proc/PID/net/route``: ``to``, ``via`` ("" when direct), ``dev``."""
    result = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 8:
            continue
        net, gateway, mask = (_address(words[i]) for i in (1, 2, 7))
        bits = bin(int(words[7], 16)).count("1")
        to = "default" if mask == net == "0.0.0.0" else f"{net}/{bits}"
        result.append({"to": to, "via": gateway if gateway != "0.0.0.0" else "", "dev": words[0]})
    return result


def _address(hexadecimal: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(hexadecimal, 16)))
