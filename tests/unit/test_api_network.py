# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' rules for names, name resolution and ports (``ValidatePodSpec``, ``validatePodDNSConfig`` …)."""

from __future__ import annotations

import pytest

from minipod.api import Pod, PodSpec, load_manifests
from tests.unit.test_api_manifest import problems, spec


def load(text: str) -> PodSpec:
    (document,) = load_manifests(text, "pod.yaml")
    assert document.warnings == [] and isinstance(document.object, Pod)
    return document.object.spec


def test_all_of_it() -> None:
    made = load(
        spec(
            "hostname: h\nsubdomain: s\nsetHostnameAsFQDN: true\nos: {name: linux}\n"
            "hostAliases: [{ip: 10.0.0.1, hostnames: [a, b.c]}, {ip: 'fd00::1'}]\n"
            "dnsPolicy: None\ndnsConfig:\n  nameservers: [9.9.9.9, 'fd00::53']\n"
            "  searches: [a.b., _x._tcp.example, .]\n  options: [{name: ndots, value: '2'}, {name: edns0}]"
        )
    )
    assert (made.hostname, made.subdomain, made.set_hostname_as_fqdn) == ("h", "s", True)
    assert [(a.ip, a.hostnames) for a in made.host_aliases] == [
        ("10.0.0.1", ["a", "b.c"]),
        ("fd00::1", []),
    ]
    assert made.os and made.os.name == "linux"
    dns = made.dns_config
    assert made.dns_policy == "None" and dns
    assert dns.nameservers == ["9.9.9.9", "fd00::53"]
    assert dns.searches == ["a.b.", "_x._tcp.example", "."]
    assert [(o.name, o.value) for o in dns.options] == [("ndots", "2"), ("edns0", None)]


def test_names_of_the_longest() -> None:
    assert load(spec(f"hostnameOverride: {'a' * 64}")).hostname_override == "a" * 64
    assert load(spec("hostnameOverride: www.example.com")).hostname_override == "www.example.com"
    assert load(spec("hostnameOverride: ''\nhostNetwork: true")).hostname_override == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("subdomain: a.b", '5: spec.subdomain: "a.b" is not a DNS label'),
        ("hostnameOverride: A", '5: spec.hostnameOverride: "A" is not a DNS name'),
        (f"hostnameOverride: {'a' * 65}", "has 65 characters, the limit is 64"),
        (f"hostnameOverride: {'a' * 254}", "has 254 characters, the limit is 253"),
        ("hostnameOverride: a\nsetHostnameAsFQDN: true", "5: spec.hostnameOverride: excludes setH"),
        ("hostnameOverride: a\nhostNetwork: true", "5: spec.hostnameOverride: excludes hostNetwor"),
        ("hostAliases: [{hostnames: [a]}]", "5: spec.hostAliases[0].ip: missing, and required"),
        ("hostAliases: [{ip: a}]", '5: spec.hostAliases[0].ip: "a" is not an IPv4 or IPv6 address'),
        ("hostAliases: [{ip: 010.0.0.1}]", '"010.0.0.1" is not an IPv4 or IPv6 address'),
        ("hostAliases: [{ip: 'fe80::1%eth0'}]", "is not an IPv4 or IPv6 address"),
        (
            "hostAliases: [{ip: 10.0.0.1, hostnames: [a, b_]}]",
            '5: spec.hostAliases[0].hostnames[1]: "b_" is not a DNS name',
        ),
        ('hostAliases: [{ip: 10.0.0.1, hostnames: ["a\\n10.0.0.2 b"]}]', "is not a DNS name"),
        ("dnsPolicy: None", "spec.dnsConfig: missing, and required when spec.dnsPolicy is None"),
        (
            "dnsPolicy: None\ndnsConfig: {searches: [a]}",
            "6: spec.dnsConfig.nameservers: missing, and required when",
        ),
        (
            "dnsPolicy: default",
            '"default" is not one of ClusterFirst, ClusterFirstWithHostNet, Default, None',
        ),
        (
            "dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}",
            "5: spec.dnsConfig.nameservers: 4 name servers are more than 3",
        ),
        ("dnsConfig: {nameservers: [a]}", '5: spec.dnsConfig.nameservers[0]: "a" is not an IPv4'),
        (
            f"dnsConfig: {{searches: [{', '.join(f'd{n}' for n in range(33))}]}}",
            "5: spec.dnsConfig.searches: 33 search domains are more than 32",
        ),
        (
            f"dnsConfig: {{searches: [{', '.join(c * 63 + '.' + c * 200 for c in 'a')}]}}",
            "5: spec.dnsConfig.searches[0]:",
        ),
        (
            f"dnsConfig: {{searches: [{', '.join(f'{c * 60}.{c * 60}.{c * 60}.{c * 60}' for c in 'abcdefghi')}]}}",
            "the search domains have 2195 characters in all, more than 2048",
        ),
        ("dnsConfig: {searches: [A]}", '5: spec.dnsConfig.searches[0]: "A" is not a DNS name'),
        ('dnsConfig: {searches: ["a\\nnameserver 6.6.6.6"]}', "is not a DNS name"),
        ("dnsConfig: {options: [{value: x}]}", "5: spec.dnsConfig.options[0].name: missing"),
        ('dnsConfig: {options: [{name: "a b"}]}', "must not contain white space"),
        ('dnsConfig: {options: [{name: a, value: "1\\n2"}]}', "options[0].value: "),
        ("os: {}", "5: spec.os.name: missing, and required: linux"),
        ("os: {name: windows}", "5: spec.os.name: windows is known to Kubernetes but"),
        ("os: {name: Linux}", '"Linux" is not one of linux, did you mean "linux"?'),
    ],
)
def test_refused(text: str, expected: str) -> None:
    (found,) = [each for each in problems(spec(text)) if expected in each]
    if expected[0].isdigit() and ": spec." in expected:
        assert found.startswith(f"pod.yaml:{expected}")
