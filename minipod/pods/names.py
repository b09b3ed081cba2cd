# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod is called, and how it finds others by name: host name, /etc/hosts, /etc/resolv.conf; reads the host's."""

from __future__ import annotations

import os
from pathlib import Path

from minipod.api import Pod, Problem
from minipod.config import Config
from minipod.errors import MinipodError
from minipod.network.files import Resolver, host_resolver, hosts_file, hosts_file_host_network

MAX_HOSTNAME = 64  # __NEW_UTS_LEN


def hostname_and_domain(pod: Pod, cluster_domain: str) -> tuple[str, str]:
    """Return the pod's host name and the domain behind it, or "", as they stand in its /etc/hosts.

    The kubelet's rules (``GeneratePodHostNameAndDomain``): hostnameOverride, else hostname, else the pod's name cut
    to 63 bytes; a domain only with a subdomain, and never behind an override.
    """
    spec, meta = pod.spec, pod.metadata
    if spec.hostname_override:
        return spec.hostname_override, ""
    domain = f"{spec.subdomain}.{meta.namespace}.svc.{cluster_domain}" if spec.subdomain else ""
    return spec.hostname or meta.name[:63].rstrip("-."), domain


def hostname(pod: Pod, cluster_domain: str) -> str:
    """Return the host name that the kernel is told: the whole one with setHostnameAsFQDN (the kubelet's rule).

    Raises:
        MinipodError: the kernel has no room for it.
    """
    if pod.spec.host_network:
        return os.uname().nodename
    name, domain = hostname_and_domain(pod, cluster_domain)
    if not domain or not pod.spec.set_hostname_as_fqdn:
        return name
    whole = f"{name}.{domain}"
    if len(whole) > MAX_HOSTNAME:
        raise MinipodError(
            f"the host name {whole} has {len(whole)} characters, and the kernel has room for {MAX_HOSTNAME}",
            "do without setHostnameAsFQDN, or choose a shorter hostname, subdomain or namespace",
        )
    return whole


def preflight(pod: Pod, config: Config, source: str, lines: dict[str, int]) -> list[Problem]:
    """Return why *pod* cannot be called as it asks for."""
    try:
        hostname(pod, config.cluster_domain)
    except MinipodError as error:
        path = "spec.setHostnameAsFQDN"
        return [Problem(source, lines.get(path, 1), path, str(error))]
    return []


def hosts(pod: Pod, address: str, cluster_domain: str) -> str:
    """Return the text of the pod's /etc/hosts; *address* is the pod's, unless it is on the host's network."""
    aliases = [(alias.ip, alias.hostnames) for alias in pod.spec.host_aliases]
    if pod.spec.host_network:
        return hosts_file_host_network(_read("/etc/hosts"), aliases)
    return hosts_file(address, *hostname_and_domain(pod, cluster_domain), aliases)


def resolver(pod: Pod) -> tuple[str, list[str]]:
    """Return the text of the pod's /etc/resolv.conf, and what is to be said of it (the kubelet's ``GetPodDNS``).

    Raises:
        MinipodError: the host's resolv.conf cannot be used.
    """
    spec = pod.spec
    base = Resolver()
    notes: list[str] = []
    if spec.dns_policy != "None":
        host_text = _read("/etc/resolv.conf")
        if spec.host_network and spec.dns_config is None:
            return host_text, []
        upstream = _read("/run/systemd/resolve/resolv.conf")
        base, notes = host_resolver(host_text, upstream, own_loopback=not spec.host_network)
    if config := spec.dns_config:
        options = [f"{o.name}:{o.value}" if o.value else o.name for o in config.options]
        base = base.extended(Resolver(config.nameservers, config.searches, options))
        notes = notes if not config.nameservers else []
    text, cut = base.text()
    return text, notes + cut


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")[:1_000_000]
    except FileNotFoundError:
        return ""
