# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pods' network needs: nftables, bridge and veth, a free range, forwarding, and nobody in the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

from minipod.cli.checks.base import PATH, Check, Result, in_child, package, run
from minipod.config import Config
from minipod.errors import MinipodError


def _nft_program() -> str:
    program = shutil.which("nft", path=PATH)
    if not program:
        raise MinipodError(f"there is no nft in {PATH}", package("nftables"))
    return program


def _nft(config: Config) -> Result:
    from minipod.network import ruleset

    done = run(_nft_program(), "-c", "-f", "-", stdin=ruleset.full(config, []))
    if done.returncode != 0:
        first = next(iter(done.stderr.splitlines()), "no message")
        return Result(
            "fail",
            f"nft refuses our ruleset: {first}",
            "sudo modprobe nf_tables nft_masq nft_chain_nat",
        )
    return Result("ok", "takes our ruleset (tried, not applied)")


def _links(config: Config) -> Result:
    in_child(_make_links)
    return Result("ok", "made both, in a network namespace of their own")


def _make_links() -> None:
    from minipod import native
    from minipod.network import netlink

    native.unshare(native.CLONE_NEWNET)
    netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with netlink.RouteSocket() as route:
        route.run(netlink.add_bridge("mpdoctor", "02:00:00:00:00:01", 1500))
        index = route.index("mpdoctor")
        if index is None:
            raise OSError(errno.ENODEV, "the bridge is not there")
        route.run(netlink.add_veth("mpdoctor1", index, 1500, "02:00:00:00:00:02", netns))


def _range(config: Config) -> Result:
    from minipod.network.bridge import HostLinks

    host = HostLinks(config)
    try:
        host.check_range()
    finally:
        host.close()
    return Result("ok", f"{config.pod_cidr} overlaps nothing of the host's")


def _forwarding(config: Config) -> Result:
    path = "/proc/sys/net/ipv4/ip_forward"
    if Path(path).read_text().strip() == "1":
        return Result("ok", "on")
    if os.access(path, os.W_OK):
        return Result("ok", "off; the agent turns it on")
    return Result(
        "fail", "off, and it cannot be turned on here", "sudo sysctl -w net.ipv4.ip_forward=1"
    )


def _firewalls(config: Config) -> Result:
    done = run(_nft_program(), "-j", "list", "chains")
    if done.returncode != 0:
        raise OSError(errno.EPERM, done.stderr.strip())
    others = dropping_chains(done.stdout, config.nft_table)
    if others:
        return Result(
            "warn",
            f"{', '.join(others)} drops what it does not know: pods may not reach other machines",
            admitting(done.stdout, config.bridge),
        )
    return Result("ok", "no other table drops forwarded packets")


def _bridged(config: Config) -> Result:
    try:
        state = Path("/proc/sys/net/bridge/bridge-nf-call-iptables").read_text().strip()
    except OSError:
        state = ""
    done = run(_nft_program(), "-j", "list", "chains")
    others = dropping_chains(done.stdout, config.nft_table) if done.returncode == 0 else []
    return judge_bridged(state, others, config.bridge)


def judge_bridged(state: str, dropping: list[str], bridge: str) -> Result:
    """Say whether packets from pod to pod meet other programs' filters.

    Args:
        state: of the sysctl ``net.bridge.bridge-nf-call-iptables``; empty when br_netfilter is not loaded.
        dropping: chains of others that drop what is forwarded.
        bridge: the pods' bridge.
    """
    if state != "1":
        return Result("ok", "packets from pod to pod pass no other table")
    if not dropping:
        return Result(
            "ok", "br_netfilter is loaded: packets from pod to pod pass the other tables, too"
        )
    return Result(
        "warn",
        f"br_netfilter is loaded and {', '.join(dropping)} drops: pods may not reach each other",
        f"sudo iptables -I FORWARD -i {bridge} -o {bridge} -j ACCEPT",
    )


def admitting(chains: str, bridge: str) -> str:
    """Return what lets the packets of *bridge* through, in the words of whoever made the *chains* (as of nft -j).

    It is for the user to do: those chains are another program's, which would drop what we put there, or keep it
    for ever, when it starts anew.
    """
    names = {item.get("chain", {}).get("name", "") for item in json.loads(chains)["nftables"]}
    if "DOCKER-USER" in names:  # Docker keeps the rules of this one, and of no other
        chain = "DOCKER-USER"
    elif any(name.startswith("ufw-") for name in names):
        return f"ufw route allow in on {bridge}; ufw route allow out on {bridge}"
    else:
        chain = "FORWARD"
    return f"iptables -I {chain} -i {bridge} -j ACCEPT; iptables -I {chain} -o {bridge} -j ACCEPT"


def dropping_chains(chains: str, own_table: str) -> list[str]:
    """Return the chains in ``nft -j list chains`` that drop forwarded IPv4 by policy, but those of our table."""
    found = []
    for item in json.loads(chains)["nftables"]:
        chain = item.get("chain", {})
        if (
            chain.get("hook") == "forward"
            and chain.get("policy") == "drop"
            and chain.get("family") in ("ip", "inet")
            and chain.get("table") != own_table
        ):
            found.append(f"{chain['family']} {chain['table']} {chain['name']}")
    return found


CHECKS = (
    Check("nftables", _nft, "sudo modprobe nf_tables"),
    Check("bridge and veth", _links, "sudo modprobe bridge veth"),
    Check("pod range", _range, "set MINIPOD_POD_CIDR to a range that is free"),
    Check("forwarding", _forwarding, "sudo sysctl -w net.ipv4.ip_forward=1"),
    Check("other firewalls", _firewalls),
    Check("pod to pod", _bridged),
)
