# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a pod's /etc/hosts and /etc/resolv.conf; pure, nothing is read or written here.

The hosts file is the kubelet's, byte for byte (pkg/kubelet/kubelet_pods.go: managedHostsFileContent,
hostsEntriesFromHostAliases, nodeHostsFileContent); resolv.conf follows pkg/kubelet/network/dns for a node
without a cluster DNS, where ClusterFirst falls back to Default.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from minipod.errors import MinipodError, UsageError

_HOSTS = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
_HOSTS_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"
# Anything below space but tab and newline, DEL, and the C1 controls and line separators some readers split at.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_ANY_CONTROL = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029]")
# What glibc's resolver and the kubelet take (MAXNS; validation.MaxDNSNameservers).
MAX_NAMESERVERS = 3


def hosts_file(
    address: str, hostname: str, domain: str = "", aliases: Iterable[tuple[str, Sequence[str]]] = ()
) -> str:
    """Return a pod's /etc/hosts.

    Args:
        address: the pod's address.
        hostname: the pod's host name.
        domain: ``<subdomain>.<namespace>.svc.<cluster domain>``; empty when the pod has no subdomain.
        aliases: ``spec.hostAliases``: an address and its names, each.

    Raises:
        UsageError: a value is empty or has white space or a control byte in it, or an address is none (CVE-2022-4318).
    """
    _address(address)
    names = [f"{_word(hostname)}.{_word(domain)}", hostname] if domain else [_word(hostname)]
    return _HOSTS + "\t".join([address, *names]) + "\n" + _aliases(aliases)


def hosts_file_host_network(
    host_text: str, aliases: Iterable[tuple[str, Sequence[str]]] = ()
) -> str:
    """Return the /etc/hosts of a pod with ``hostNetwork: true``: the host's own text and the aliases.

    Raises:
        UsageError: an alias is refused as in :func:`hosts_file`.
        MinipodError: the host's text has a control byte in it.
    """
    return _HOSTS_HOST_NETWORK + _clean("/etc/hosts", host_text) + _aliases(aliases)


def resolv_conf(host_text: str, upstream_text: str = "") -> str:
    """Return a pod's /etc/resolv.conf for dnsPolicy Default, and ClusterFirst without a cluster DNS.

    A nameserver on the loopback (the systemd-resolved stub 127.0.0.53) is the host's, and no pod reaches it:
    those are replaced by the ones of *upstream_text*.

    Args:
        host_text: the host's /etc/resolv.conf.
        upstream_text: /run/systemd/resolve/resolv.conf, or empty when there is none.

    Raises:
        MinipodError: a control byte in a text, a nameserver that is no address, or only loopback nameservers.
    """
    servers: list[str] = []
    search = ""
    options: list[str] = []
    stub = False
    for keyword, rest in _lines("/etc/resolv.conf", host_text):
        if keyword == "nameserver":
            if _is_loopback(rest[0]):
                stub = True
            else:
                servers.append(rest[0])
        elif keyword in ("search", "domain"):
            search = " ".join(rest)  # the last one wins, resolv.conf(5)
        elif keyword == "options":
            options += [option for option in rest if option not in options]
    if stub:
        upstream = _lines("/run/systemd/resolve/resolv.conf", upstream_text)
        servers += [
            rest[0]
            for keyword, rest in upstream
            if keyword == "nameserver" and not _is_loopback(rest[0])
        ]
    servers = list(dict.fromkeys(servers))[:MAX_NAMESERVERS]
    if stub and not servers:
        raise MinipodError(
            "the host's /etc/resolv.conf names only loopback nameservers, which no pod can reach",
            "set dnsPolicy: None with dnsConfig.nameservers, or add a nameserver to the host",
        )
    lines = [f"nameserver {server}" for server in servers]
    lines += [f"search {search}"] if search else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "".join(f"{line}\n" for line in lines)


def _lines(name: str, text: str) -> list[tuple[str, list[str]]]:
    """Return the keyword and the words of each line that has both; comments and the rest are dropped."""
    found = []
    for line in _clean(name, text).split("\n"):
        words = line.split()
        if len(words) > 1 and words[0][0] not in "#;":
            found.append((words[0], words[1:]))
    return found


def _clean(name: str, text: str) -> str:
    if bad := _CONTROL.search(text):
        raise MinipodError(
            f"the host's {name} has the control byte {bad[0]!r} in it", f"mend {name}"
        )
    return text


def _is_loopback(server: str) -> bool:
    try:
        # A scope (fe80::1%eth0) means nothing inside a pod, but it is the host's word.
        return ipaddress.ip_address(server.split("%", 1)[0]).is_loopback
    except ValueError as error:
        raise MinipodError(
            f"nameserver {server!r} in the host's resolv.conf is no address", "mend the file"
        ) from error


def _aliases(aliases: Iterable[tuple[str, Sequence[str]]]) -> str:
    lines = [
        "\t".join([_address(address), *map(_word, names)]) + "\n" for address, names in aliases
    ]
    return "".join(["\n# Entries added by HostAliases.\n", *lines]) if lines else ""


def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"hosts file: {error}", "use an IPv4 or IPv6 address") from error
    return _word(text)


def _word(text: str) -> str:
    if not text or _ANY_CONTROL.search(text) or "#" in text:
        raise UsageError(f"hosts file: {text!r} is not a host name", "use letters, digits, - and .")
    return text
