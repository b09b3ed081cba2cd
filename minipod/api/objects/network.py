# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's names and name resolution, and the ports of its containers."""

from __future__ import annotations

import msgspec

from minipod.api.field import Tables, yes
from minipod.api.objects.base import Object, spelled_out


class ContainerPort(Object):
    """A port that a container listens on: documentation, a name for it, and perhaps a port of the host."""

    name: str | None = None
    container_port: int = 0
    protocol: str = spelled_out("TCP")
    host_port: int | None = None
    host_ip: str = ""


class HostAlias(Object):
    """An address and the names that the pod's /etc/hosts gives it."""

    ip: str = ""
    hostnames: list[str] = msgspec.field(default_factory=list)


class PodDNSConfigOption(Object):
    """An option of the resolver, ``name`` or ``name:value``."""

    name: str = ""
    value: str | None = None


class PodDNSConfig(Object):
    """What is added to the resolver configuration that the DNS policy gives."""

    nameservers: list[str] = msgspec.field(default_factory=list)
    searches: list[str] = msgspec.field(default_factory=list)
    options: list[PodDNSConfigOption] = msgspec.field(default_factory=list)


FIELDS: Tables = {
    "ContainerPort": {
        "containerPort": yes("int", doc="The port that the container listens on, 1 to 65535."),
        "hostIP": yes(
            doc="The IPv4 address of the host that the host port is bound to. Default: all of its addresses."
        ),
        "hostPort": yes(
            "int",
            doc="The port of the host that is forwarded to the container, 1 to 65535: for other machines, with "
            "their own source address, for the host itself on 127.0.0.1 as well, and for pods. A port that another "
            "pod or a process of the host has is refused. With hostNetwork it must equal containerPort.",
        ),
        "name": yes(
            doc="A name for the port, unique in the container: up to 15 of a-z, 0-9 and -."
        ),
        "protocol": yes(doc="TCP, UDP or SCTP. Default: TCP."),
    },
    "PodDNSConfig": {
        "nameservers": yes(
            "[str]",
            doc="Addresses of name servers, at most 3, behind those that dnsPolicy gives. Needed with dnsPolicy None.",
        ),
        "options": yes(
            "[PodDNSConfigOption]",
            doc="Options of the resolver. One that dnsPolicy gives as well is replaced.",
        ),
        "searches": yes(
            "[str]",
            doc="Domains in which short names are looked up, behind those that dnsPolicy gives: at most 32, and 2048 "
            "characters in all.",
        ),
    },
    "PodDNSConfigOption": {
        "name": yes(doc="The option's name, such as ndots; required."),
        "value": yes(doc="The option's value, if it has one."),
    },
    "HostAlias": {
        "hostnames": yes("[str]", doc="The names of the address."),
        "ip": yes(doc="The address, IPv4 or IPv6; required."),
    },
}
