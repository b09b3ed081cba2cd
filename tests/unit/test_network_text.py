# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts that the network layer writes: the nft ruleset, /etc/hosts, /etc/resolv.conf; and nft's errors."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.config import Config
from minipod.errors import MinipodError, UsageError
from minipod.network import pod_link, ruleset
from minipod.network.files import (
    Resolver,
    host_resolver,
    hosts_file,
    hosts_file_host_network,
)
from minipod.network.nft import NftError
from minipod.plan import HostPort

CONFIG = Config(bridge="br-x", link_prefix="xy", pod_cidr="10.7.0.0/24", nft_table="mytable")
ANY = "0.0.0.0"
ONE = pod_link(CONFIG, "one", "10.7.0.2", (HostPort("192.0.2.1", "SCTP", 8080, 80),))
TWO = pod_link(
    CONFIG, "two", "10.7.0.3", (HostPort(ANY, "TCP", 8080, 80), HostPort(ANY, "UDP", 53, 53))
)
FULL = """\
add table inet mytable
delete table inet mytable
add table bridge mytable
delete table bridge mytable
table inet mytable {
	map hostports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		counter
		elements = {
			tcp . 8080 : 10.7.0.3 . 80,
			udp . 53 : 10.7.0.3 . 53
		}
	}
	map hostports_of_address {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		counter
		elements = {
			192.0.2.1 . sctp . 8080 : 10.7.0.2 . 80
		}
	}
	chain prerouting {
		comment "link-local groups skip the bridge and its filter (br_handle_frame); the loopback is the host's alone"
		type filter hook prerouting priority raw; policy accept;
		iifname "xy0a0700*" iifname != "br-x" drop
		iifname "br-x" ip daddr 127.0.0.0/8 drop
	}
	chain hostports {
		dnat ip to ip daddr . meta l4proto . th dport map @hostports_of_address
		dnat ip to meta l4proto . th dport map @hostports
	}
	chain from_others {
		comment "not what claims to be for the loopback: the kernel drops that, but only after this"
		type nat hook prerouting priority dstnat; policy accept;
		meta l4proto { tcp, udp, sctp } ip daddr != 127.0.0.0/8 fib daddr type local jump hostports
	}
	chain from_here {
		type nat hook output priority -100; policy accept;
		meta l4proto { tcp, udp, sctp } fib daddr type local jump hostports
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "br-x" ip saddr 10.7.0.0/24 accept
		oifname "br-x" ip daddr 10.7.0.0/24 accept
		iifname "br-x" counter drop
		oifname "br-x" counter drop
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.7.0.0/24 ip daddr != 10.7.0.0/24 oifname != "br-x" counter masquerade
		ct status dnat ip saddr { 127.0.0.0/8, 10.7.0.0/24 } ip daddr 10.7.0.0/24 oifname "br-x" counter masquerade
	}
}
table bridge mytable {
	set pods {
		type ifname . ether_addr . ipv4_addr
		elements = {
			"xy0a070002" . 0a:58:0a:07:00:02 . 10.7.0.2,
			"xy0a070003" . 0a:58:0a:07:00:03 . 10.7.0.3
		}
	}
	chain guard {
		comment "only a pod's own MAC and address; never to the host's loopback (CVE-2020-8558)"
		ether type ip iifname . ether saddr . ip saddr @pods ip daddr != 127.0.0.0/8 accept
		ether type arp iifname . ether saddr . arp saddr ip @pods iifname . arp saddr ether . arp saddr ip @pods accept
		counter drop
	}
	chain prerouting {
		type filter hook prerouting priority filter; policy accept;
		iifname "xy0a0700*" jump guard
	}
}
"""
HOSTS = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def resolv_conf(host: str, upstream: str = "") -> str:
    """Return the file that a pod with dnsPolicy Default gets."""
    found, notes = host_resolver(host, upstream)
    text, cut = found.text()
    assert not notes
    assert bool(cut) == (len(found.servers) > 3)
    return text


CONTROLS = st.sampled_from([chr(n) for n in (*range(9), *range(11, 32), 127, 0x85, 0x2028)])


def test_the_whole_ruleset() -> None:
    assert ruleset.full(CONFIG, [ONE, TWO]) == FULL


@pytest.mark.parametrize("cidr", ["10.99.0.0/16", "10.99.128.0/17", "10.99.3.0/28", "10.0.0.0/8"])
def test_the_pattern_of_ports_is_for_our_own_alone(cidr: str) -> None:
    """A prefix that another instance's begins with would take that one's links, and its bridge, for ours."""
    config = Config(link_prefix="mp", pod_cidr=cidr)
    pattern = ruleset.ports(config)
    network = ip_network(cidr)
    for address in (network[2], network[-2]):
        assert fnmatchcase(pod_link(config, "a", str(address)).host_ifname, pattern)
    other = Config(link_prefix="mpa", pod_cidr="172.16.0.0/16")
    for name in (pod_link(other, "b", "172.16.0.2").host_ifname, "mpa0", "mp0", "minipod0", "mpls"):
        assert not fnmatchcase(name, pattern)


def test_no_pods_is_an_empty_set() -> None:
    text = ruleset.full(CONFIG, [])
    assert "elements" not in text
    assert text.startswith("add table inet mytable\ndelete table inet mytable\n")


def test_a_port_that_two_pods_claim_is_the_firsts() -> None:
    """nft would refuse a map with two values for a key, and with it the whole transaction: all pods' network."""
    text = ruleset.full(CONFIG, [TWO, replace(ONE, ports=TWO.ports)])
    assert text.count("tcp . 8080 :") == 1 and "tcp . 8080 : 10.7.0.3 . 80" in text


def test_install_never_replaces() -> None:
    text = ruleset.full(CONFIG, [], replace=False)
    assert text.startswith("create table inet mytable\ncreate table bridge mytable\n")
    assert "delete" not in text


@pytest.mark.parametrize(
    "config",
    [
        Config(nft_table="x { }"),
        Config(nft_table=""),
        Config(nft_table="x\n"),
        Config(bridge='b"; drop'),
        Config(bridge="sixteen-bytes-xx"),
        Config(bridge="br/0"),
        Config(link_prefix="m*"),
        Config(pod_cidr="10.0.0.0/8; flush ruleset"),
    ],
)
def test_names_that_would_break_out_are_refused(config: Config) -> None:
    with pytest.raises(UsageError):
        ruleset.full(config, [])


def test_nft_errors_carry_message_line_and_text() -> None:
    output = (
        "/dev/stdin:2:20-25: Error: No such file or directory; did you mean table ‘t’ in family inet?\n"
        "add element bridge t pods { 1 }\n                   ^^^^^^\n"
    )
    error = NftError(output, "add table x\nadd element bridge t pods { 1 }\n")
    assert error.line == 2
    assert error.missing
    assert not error.exists
    assert error.text.startswith("add table x")
    assert error.what == (
        "nft: No such file or directory; did you mean table ‘t’ in family inet? "
        "in line 2: add element bridge t pods { 1 }"
    )


@pytest.mark.parametrize(
    "output", ["", "cannot open netlink socket\n", "/dev/stdin:99:1-2: Error: odd\n"]
)
def test_nft_errors_without_a_place(output: str) -> None:
    error = NftError(output, "add table x\n")
    assert error.what.startswith("nft: ")
    assert "in line" not in error.what


def test_hosts_as_the_kubelet_writes_it() -> None:
    assert hosts_file("10.7.0.2", "web") == HOSTS + "10.7.0.2\tweb\n"


def test_hosts_with_domain_and_aliases() -> None:
    text = hosts_file(
        "10.7.0.2",
        "web",
        "sub.default.svc.cluster.local",
        [("127.0.0.1", ["a.x", "b.x"]), ("::2", ["c"])],
    )
    assert text == (
        HOSTS
        + "10.7.0.2\tweb.sub.default.svc.cluster.local\tweb\n"
        + "\n# Entries added by HostAliases.\n127.0.0.1\ta.x\tb.x\n::2\tc\n"
    )


def test_hosts_of_a_pod_on_the_host_network() -> None:
    text = hosts_file_host_network("127.0.0.1 localhost\n", [("10.0.0.1", ["db"])])
    assert text == (
        "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
        "\n# Entries added by HostAliases.\n10.0.0.1\tdb\n"
    )


@given(CONTROLS, st.sampled_from([0, 1, 2, 3, 4]))
def test_control_bytes_are_refused(control: str, place: int) -> None:
    bad = f"a{control}b"
    with pytest.raises(MinipodError):
        if place == 0:
            hosts_file("10.7.0.2", bad)
        elif place == 1:
            hosts_file("10.7.0.2", "web", bad)
        elif place == 2:
            hosts_file("10.7.0.2", "web", "", [("10.0.0.1", [bad])])
        elif place == 3:
            hosts_file_host_network(f"127.0.0.1 {bad}\n")
        else:
            resolv_conf(f"nameserver 10.0.0.1\nsearch {bad}\n")


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "a\nb", "a#b", "a\n10.0.0.1 bank"])
def test_words_that_would_break_out_of_hosts_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        hosts_file("10.7.0.2", name)
    with pytest.raises(UsageError):
        hosts_file("10.7.0.2", "web", "", [("10.0.0.1", [name])])


@pytest.mark.parametrize("address", ["", "web", "10.0.0.1 x", "10.0.0.1\n", "10.0.0"])
def test_addresses_in_hosts_are_checked(address: str) -> None:
    with pytest.raises(UsageError):
        hosts_file(address, "web")
    with pytest.raises(UsageError):
        hosts_file("10.7.0.2", "web", "", [(address, ["x"])])


def test_resolv_conf_is_the_hosts() -> None:
    host = "# mine\nnameserver 10.0.0.1\nnameserver fd00::1\nsearch a.example b.example\noptions ndots:2 edns0\n"
    assert resolv_conf(host) == (
        "nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.example b.example\noptions ndots:2 edns0\n"
    )


def test_the_stub_is_replaced_by_its_upstreams() -> None:
    host = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"
    upstream = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch other\n"
    assert resolv_conf(host, upstream) == (
        "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch lan\noptions edns0 trust-ad\n"
    )


def test_upstreams_are_not_taken_without_a_stub() -> None:
    assert resolv_conf("nameserver 10.0.0.1\n", "nameserver 192.0.2.1\n") == "nameserver 10.0.0.1\n"


def test_without_any_nameserver_that_a_pod_reaches_it_has_none_and_is_told() -> None:
    for server in ("127.0.0.1", "127.0.0.53", "::1"):
        host = f"nameserver {server}\nsearch lan\n"
        found, notes = host_resolver(host, "nameserver 127.0.0.1\n")
        assert found.text() == ("search lan\n", [])
        assert len(notes) == 1 and "dnsConfig" in notes[0]
        # On the host's network its loopback is the pod's.
        found, notes = host_resolver(host, own_loopback=False)
        assert (found.servers, notes) == ([server], [])


def test_resolv_conf_takes_three_servers_once_each() -> None:
    host = "".join(f"nameserver 10.0.0.{n}\n" for n in (1, 1, 2, 3, 4))
    assert resolv_conf(host) == "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"


def test_resolv_conf_odds() -> None:
    assert resolv_conf("") == ""
    assert (
        resolv_conf(";x\n\nnameserver\ndomain one\nsearch two three\nsortlist 1.2.3.4\n")
        == "search two three\n"
    )
    with pytest.raises(MinipodError, match="no address"):
        resolv_conf("nameserver dns.example\n")


def test_what_a_pod_adds_comes_behind_once_and_its_options_win() -> None:
    base = Resolver(["10.0.0.1"], ["a", "b"], ["ndots:2", "edns0"])
    more = Resolver(["10.0.0.2", "10.0.0.1"], ["b", "c"], ["ndots:5", "rotate", "edns0:1"])
    assert base.extended(more).text() == (
        "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a b c\noptions ndots:5 edns0:1 rotate\n",
        [],
    )


def test_what_a_resolver_does_not_take_is_left_out_and_told() -> None:
    """The kubelet's limits (formDNSConfigFitsLimits)."""
    text, notes = Resolver(["10.0.0.1"] * 4).text()
    assert text.count("nameserver") == 3
    assert notes[0].startswith("Nameserver limits were exceeded")
    text, notes = Resolver(searches=[f"d{n}" for n in range(33)]).text()
    assert len(text.split()) == 33 and text.endswith(" d31\n")
    assert notes[0].startswith("Search Line limits were exceeded")
    text, notes = Resolver(searches=["a" * 254, "b"]).text()
    assert text == "search b\n" and notes
    text, notes = Resolver(searches=[c * 250 for c in "abcdefghi"]).text()
    assert len(text.split()) == 1 + 8 and notes
    exact = [*(c * 250 for c in "abcdefgh"), "x" * 40]
    assert Resolver(searches=exact).text() == (f"search {' '.join(exact)}\n", [])
