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
from dataclasses import dataclass, field

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
# What glibc's resolver and the kubelet take (MAXNS; validation.MaxDNSNameservers and its neighbours).
MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
_MAX_DOMAIN = 253  # some resolvers abort on a longer one
_NO_SERVER = (
    "the host's /etc/resolv.conf names only loopback nameservers, which no pod reaches: the pod has none; "
    "set dnsConfig.nameservers, or add a nameserver to the host"
)


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


@dataclass(slots=True)
class Resolver:
    """The settings of a resolver: what resolv.conf(5) says.

    Attributes:
        servers: addresses, in the order in which they are asked.
        searches: domains in which short names are looked up.
        options: ``name`` or ``name:value``.
    """

    servers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    def extended(self, other: Resolver) -> Resolver:
        """Return this with *other* behind it; an option of *other* replaces one of the same name."""
        options = {option.partition(":")[0]: option for option in self.options}
        options |= {option.partition(":")[0]: option for option in other.options}
        return Resolver(
            list(dict.fromkeys(self.servers + other.servers)),
            list(dict.fromkeys(self.searches + other.searches)),
            list(options.values()),
        )

    def text(self) -> tuple[str, list[str]]:
        """Return the file, and what was left out of it because a resolver takes no more (the kubelet's limits)."""
        notes = []
        servers = self.servers[:MAX_NAMESERVERS]
        if servers != self.servers:
            notes.append(
                "Nameserver limits were exceeded, some nameservers have been omitted, "
                f"the applied nameserver line is: {' '.join(servers)}"
            )
        searches = [name for name in self.searches if len(name) <= _MAX_DOMAIN][:MAX_SEARCHES]
        while len(" ".join(searches)) > MAX_SEARCH_CHARACTERS:
            searches.pop()
        if searches != self.searches:
            notes.append(
                "Search Line limits were exceeded, some search paths have been omitted, "
                f"the applied search line is: {' '.join(searches)}"
            )
        lines = [f"nameserver {server}" for server in servers]
        lines += [f"search {' '.join(searches)}"] if searches else []
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "".join(f"{line}\n" for line in lines), notes


def host_resolver(
    host_text: str, upstream_text: str = "", *, own_loopback: bool = True
) -> tuple[Resolver, list[str]]:
    """Return the host's settings as a pod can use them: dnsPolicy Default, and ClusterFirst without a cluster DNS.

    A nameserver on the loopback (the systemd-resolved stub 127.0.0.53) is the host's, and no pod with a loopback of
    its own reaches it: those are replaced by the ones of *upstream_text*. When that leaves none, the pod has none:
    the kubelet would hand it the useless address, and Docker would choose a public server on its own.

    Args:
        host_text: the host's /etc/resolv.conf.
        upstream_text: /run/systemd/resolve/resolv.conf, or empty when there is none.
        own_loopback: whether the pod's loopback is another than the host's.

    Returns:
        The settings, and a warning when no nameserver is left.

    Raises:
        MinipodError: a control byte in a text, or a nameserver that is no address.
    """
    found = Resolver()
    stub = False
    for keyword, rest in _lines("/etc/resolv.conf", host_text):
        if keyword == "nameserver":
            if _is_loopback(rest[0]) and own_loopback:
                stub = True
            else:
                found.servers.append(rest[0])
        elif keyword in ("search", "domain"):
            found.searches = rest  # the last one wins, resolv.conf(5)
        elif keyword == "options":
            found.options += rest
    if stub:
        upstream = _lines("/run/systemd/resolve/resolv.conf", upstream_text)
        found.servers += [
            rest[0]
            for keyword, rest in upstream
            if keyword == "nameserver" and not _is_loopback(rest[0])
        ]
    notes = [_NO_SERVER] if stub and not found.servers else []
    return Resolver().extended(found), notes


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
