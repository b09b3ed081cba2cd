# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod is called, and what stands in its /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import os
from typing import Any

import pytest

from minipod.api import HostAlias, PodDNSConfig, PodDNSConfigOption
from minipod.config import Config
from minipod.errors import MinipodError
from minipod.pods import names
from tests.unit.test_plan_checker import pod

HOST = {
    "/etc/resolv.conf": "nameserver 192.0.2.53\nsearch lan\noptions ndots:1\n",
    "/etc/hosts": "127.0.0.1\tlocalhost\n",
}
DOMAIN = "cluster.local"


@pytest.fixture(autouse=True)
def host_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's files are small ones."""
    monkeypatch.setattr(names, "_read", lambda path: HOST.get(path, ""))


# ---- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hostname", "expected"),
    [
        ("web", None, "web"),
        ("web", "www", "www"),
        ("a" * 70, None, "a" * 63),
        ("a" * 62 + ".b", None, "a" * 62),
        ("a" * 62 + "-b", None, "a" * 62),
        ("web.example", None, "web.example"),
    ],
)
def test_host_names(name: str, hostname: str | None, expected: str) -> None:
    one = pod(hostname=hostname)
    one.metadata.name = name
    assert names.hostname(one, DOMAIN) == expected


def test_on_the_hosts_network_the_name_is_the_hosts() -> None:
    one = pod(host_network=True, hostname="www", subdomain="sub", set_hostname_as_fqdn=True)
    assert names.hostname(one, DOMAIN) == os.uname().nodename


@pytest.mark.parametrize(
    ("spec", "kernel", "hosts"),
    [
        ({"subdomain": "sub"}, "web", "web.sub.default.svc.cluster.local\tweb"),
        ({"hostname": "h", "subdomain": "sub"}, "h", "h.sub.default.svc.cluster.local\th"),
        (
            {"subdomain": "sub", "set_hostname_as_fqdn": True},
            "web.sub.default.svc.cluster.local",
            "web.sub.default.svc.cluster.local\tweb",
        ),
        # Without a subdomain there is no longer name.
        ({"set_hostname_as_fqdn": True}, "web", "web"),
        # KEP-4762: the override is the whole name, and nothing is put behind it.
        (
            {"hostname": "h", "subdomain": "sub", "hostname_override": "www.example.com"},
            "www.example.com",
            "www.example.com",
        ),
        ({"hostname_override": "a" * 64}, "a" * 64, "a" * 64),
    ],
)
def test_the_kernels_name_and_the_line_in_hosts(
    spec: dict[str, Any], kernel: str, hosts: str
) -> None:
    one = pod(**spec)
    assert names.hostname(one, DOMAIN) == kernel
    assert names.hosts(one, "10.99.0.5", DOMAIN).splitlines()[-1] == f"10.99.0.5\t{hosts}"


def test_the_cluster_domain_is_a_setting() -> None:
    text = names.hosts(pod(subdomain="s"), "10.99.0.5", "example.org")
    assert text.endswith("10.99.0.5\tweb.s.default.svc.example.org\tweb\n")


def test_a_whole_name_for_which_the_kernel_has_no_room_is_refused() -> None:
    room = 64 - len("web..default.svc.cluster.local")
    fits = pod(subdomain="s" * room, set_hostname_as_fqdn=True)
    assert len(names.hostname(fits, DOMAIN)) == 64
    assert names.preflight(fits, Config(), "p.yaml", {}) == []
    long = pod(subdomain="s" * (room + 1), set_hostname_as_fqdn=True)
    with pytest.raises(MinipodError, match="65 characters, and the kernel has room for 64"):
        names.hostname(long, DOMAIN)
    (problem,) = names.preflight(long, Config(), "p.yaml", {"spec.setHostnameAsFQDN": 7})
    assert (problem.line, problem.path) == (7, "spec.setHostnameAsFQDN")


def test_host_aliases() -> None:
    aliases = [HostAlias("10.0.0.1", ["db", "db.lan"]), HostAlias("10.0.0.2", ["mail"])]
    expected = "\n# Entries added by HostAliases.\n10.0.0.1\tdb\tdb.lan\n10.0.0.2\tmail\n"
    assert names.hosts(pod(host_aliases=aliases), "10.99.0.5", DOMAIN).endswith(
        "10.99.0.5\tweb\n" + expected
    )
    shared = names.hosts(pod(host_aliases=aliases, host_network=True), "", DOMAIN)
    head = "# Kubernetes-managed hosts file (host network).\n"
    assert shared == head + HOST["/etc/hosts"] + expected


# ---- resolver ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["ClusterFirst", "ClusterFirstWithHostNet", "Default"])
@pytest.mark.parametrize("host_network", [False, True])
def test_without_a_cluster_dns_all_policies_are_default(policy: str, host_network: bool) -> None:
    one = pod(dns_policy=policy, host_network=host_network)
    text, notes = names.resolver(one)
    assert sorted(text.splitlines()) == sorted(HOST["/etc/resolv.conf"].splitlines())
    assert notes == []


def config(servers: list[str], searches: list[str], **options: str | None) -> PodDNSConfig:
    made = [PodDNSConfigOption(name, value) for name, value in options.items()]
    return PodDNSConfig(servers, searches, made)


def test_dns_config_alone() -> None:
    own = config(["9.9.9.9"], ["a.example", "b.example"], ndots="2", edns0=None)
    text, notes = names.resolver(pod(dns_policy="None", dns_config=own))
    assert text == "nameserver 9.9.9.9\nsearch a.example b.example\noptions ndots:2 edns0\n"
    assert notes == []


@pytest.mark.parametrize("host_network", [False, True])
def test_dns_config_behind_the_hosts(host_network: bool) -> None:
    own = config(["9.9.9.9", "192.0.2.53"], ["lan", "a"], ndots="5")
    text, notes = names.resolver(pod(dns_config=own, host_network=host_network))
    assert text == "nameserver 192.0.2.53\nnameserver 9.9.9.9\nsearch lan a\noptions ndots:5\n"
    assert notes == []


def test_too_many_nameservers_together() -> None:
    own = config(["9.9.9.1", "9.9.9.2", "9.9.9.3"], [])
    text, (note,) = names.resolver(pod(dns_config=own))
    assert "9.9.9.2" in text and "9.9.9.3" not in text
    assert "192.0.2.53 9.9.9.1 9.9.9.2" in note


def test_a_host_with_only_loopback_nameservers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_read", lambda path: "nameserver 127.0.0.53\n")
    text, (note,) = names.resolver(pod())
    assert text == "" and "dnsConfig" in note
    text, notes = names.resolver(pod(host_network=True))
    assert text == "nameserver 127.0.0.53\n" and notes == []
    # Who brings a nameserver needs no warning, and who adds a search domain on the host's network keeps the stub.
    text, notes = names.resolver(pod(dns_config=config(["9.9.9.9"], [])))
    assert text == "nameserver 9.9.9.9\n" and notes == []
    text, notes = names.resolver(pod(host_network=True, dns_config=config([], ["a"])))
    assert text == "nameserver 127.0.0.53\nsearch a\n" and notes == []
