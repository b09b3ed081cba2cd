# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's name resolution, and the ports of its containers."""

from __future__ import annotations

from minipod.api.field import Tables, all_refused, no, yes
from minipod.api.objects.base import Object, spelled_out


class ContainerPort(Object):
    """A port that a container says it listens on: documentation, and a name for it."""

    name: str | None = None
    container_port: int = 0
    protocol: str = spelled_out("TCP")
    host_port: int | None = None


FIELDS: Tables = {
    "ContainerPort": {
        "containerPort": yes("int"),
        "hostIP": no("str", "remove it, no port of the host is forwarded"),
        "hostPort": yes("int"),
        "name": yes(),
        "protocol": yes(),
    },
    "PodDNSConfig": all_refused("nameservers:[str] options:[PodDNSConfigOption] searches:[str]"),
    "PodDNSConfigOption": all_refused("name value"),
    "HostAlias": all_refused("hostnames:[str] ip"),
}
