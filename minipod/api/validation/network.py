# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for a pod's names, its name resolution, and the ports of its containers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from minipod.api import names
from minipod.api.objects import Container, ContainerPort, PodDNSConfig, PodSpec
from minipod.api.problems import NOT_HONOURED, Report
from minipod.api.validation.rules import one_of, say
from minipod.api.yaml import shown

MAX_PORT = 65535
MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
MAX_HOSTNAME = 64
"""What the kernel's host name has room for (``__NEW_UTS_LEN``)."""

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")


def check_network(spec: PodSpec, report: Report) -> None:
    """Check the pod's names, /etc/hosts and name resolution."""
    if spec.hostname:
        say(report, "spec.hostname", names.dns_label(spec.hostname))
    if spec.subdomain:
        say(report, "spec.subdomain", names.dns_label(spec.subdomain))
    if spec.hostname_override:
        _hostname_override(spec, report)
    for index, alias in enumerate(spec.host_aliases):
        path = f"spec.hostAliases[{index}]"
        _address(alias.ip, f"{path}.ip", report)
        for number, name in enumerate(alias.hostnames):
            say(report, f"{path}.hostnames[{number}]", names.dns_subdomain(name))
    one_of(report, "spec.dnsPolicy", spec.dns_policy, _DNS_POLICIES)
    if spec.dns_policy == "None":
        _own_dns(spec.dns_config, report)
    if spec.dns_config:
        _dns_config(spec.dns_config, "spec.dnsConfig", report)
    if spec.os is not None:
        _os(spec.os.name, report)


def _hostname_override(spec: PodSpec, report: Report) -> None:
    # KEP-4762, as it is in the API server.
    path, name = "spec.hostnameOverride", spec.hostname_override or ""
    say(report, path, names.dns_subdomain(name))
    if MAX_HOSTNAME < len(name) <= names.MAX_SUBDOMAIN:
        report.error(path, f"{shown(name)} has {len(name)} characters, the limit is {MAX_HOSTNAME}")
    if spec.set_hostname_as_fqdn:
        report.error(path, "excludes setHostnameAsFQDN: set one of them")
    if spec.host_network:
        report.error(path, "excludes hostNetwork, where the host name is the host's")


def _os(name: str, report: Report) -> None:
    if not name:
        report.error("spec.os.name", "missing, and required: linux")
    elif name == "windows":
        report.error("spec.os.name", f"windows is {NOT_HONOURED}: only linux runs here")
    else:
        one_of(report, "spec.os.name", name, ("linux",))


def _own_dns(config: PodDNSConfig | None, report: Report) -> None:
    if config is None:
        report.error("spec.dnsConfig", "missing, and required when spec.dnsPolicy is None")
    elif not config.nameservers:
        report.error(
            "spec.dnsConfig.nameservers",
            "missing, and required when spec.dnsPolicy is None: at least one address",
        )


def _dns_config(config: PodDNSConfig, path: str, report: Report) -> None:
    if len(config.nameservers) > MAX_NAMESERVERS:
        what = f"{len(config.nameservers)} name servers are more than {MAX_NAMESERVERS}"
        report.error(f"{path}.nameservers", what)
    for index, server in enumerate(config.nameservers):
        _address(server, f"{path}.nameservers[{index}]", report)
    if len(config.searches) > MAX_SEARCHES:
        what = f"{len(config.searches)} search domains are more than {MAX_SEARCHES}"
        report.error(f"{path}.searches", what)
    length = len(" ".join(config.searches))
    if length > MAX_SEARCH_CHARACTERS:
        what = (
            f"the search domains have {length} characters in all, more than {MAX_SEARCH_CHARACTERS}"
        )
        report.error(f"{path}.searches", what)
    for index, search in enumerate(config.searches):
        if search != ".":  # relaxed, as since Kubernetes 1.34: "." and _ are fine
            wrong = names.dns_subdomain(search.removesuffix(".").replace("_", "a"))
            say(report, f"{path}.searches[{index}]", wrong and _search(search))
    for index, option in enumerate(config.options):
        where = f"{path}.options[{index}]"
        if not option.name:
            report.error(f"{where}.name", "missing, and required")
        for key, text in (("name", option.name), ("value", option.value or "")):
            if any(c.isspace() or not c.isprintable() for c in text):
                what = f"{shown(text)} must not contain white space or control characters"
                report.error(f"{where}.{key}", what)


def _search(search: str) -> str:
    return (
        f"{shown(search)} is not a DNS name: use a-z, 0-9, -, _ and ., with a letter or digit "
        f"at the start and the end of each part, up to {names.MAX_SUBDOMAIN} characters"
    )


def _address(text: str, path: str, report: Report) -> None:
    if not text:
        report.error(path, "missing, and required")
    elif not _is_address(text):
        report.error(path, f"{shown(text)} is not an IPv4 or IPv6 address")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a scope, which means nothing in a pod


def check_port(port: ContainerPort, path: str, host_network: bool, report: Report) -> None:
    """Check one port of a container."""
    if port.name:
        say(report, f"{path}.name", names.port_name(port.name))
    if not port.container_port:
        report.error(f"{path}.containerPort", f"missing, and required: 1 to {MAX_PORT}")
    elif not 0 < port.container_port <= MAX_PORT:
        report.error(f"{path}.containerPort", f"must be 1 to {MAX_PORT}, not {port.container_port}")
    one_of(report, f"{path}.protocol", port.protocol, _PROTOCOLS)
    if port.host_port and host_network:
        if port.host_port != port.container_port:
            what = "must equal containerPort when spec.hostNetwork is true"
            report.error(f"{path}.hostPort", what)
    elif port.host_port and not 0 < port.host_port <= MAX_PORT:
        report.error(f"{path}.hostPort", f"must be 1 to {MAX_PORT}, not {port.host_port}")
    if port.host_ip:
        _host_ip(port.host_ip, f"{path}.hostIP", report)


def _host_ip(text: str, path: str, report: Report) -> None:
    if not _is_address(text):
        report.error(path, f"{shown(text)} is not an IPv4 address")
    elif ":" in text:
        what = "the pod network is IPv4 only, use an IPv4 address of the host"
        report.error(path, f"IPv6 is {NOT_HONOURED}: {what}")


def check_host_ports(
    containers: Iterable[tuple[str, Container]], host_network: bool, report: Report
) -> None:
    """Report host ports that are claimed twice by *containers*, each with its path."""
    first: dict[tuple[str, str, int], str] = {}
    for path, container in containers:
        for index, port in enumerate(container.ports):
            number = port.container_port if host_network else port.host_port
            if not number:
                continue
            address = "" if host_network else port.host_ip
            where = f"{path}.ports[{index}].{'containerPort' if host_network else 'hostPort'}"
            key = (port.protocol, address or "0.0.0.0", number)
            if key in first:
                name = f"{number}/{port.protocol}"
                what = f'port of the host "{name}" is given twice, first on line'
                report.error(where, f"{what} {report.line(first[key])}")
            first.setdefault(key, where)
