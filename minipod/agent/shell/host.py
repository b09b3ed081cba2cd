# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's steps as commands: directories, control groups, the processes, the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minipod.agent.shell.quoting import quote
from minipod.agent.shell.writer import Writer
from minipod.config import Config
from minipod.network import ruleset
from minipod.network.addresses import PodLink, bridge_address, mac_of, parse_range
from minipod.plan import steps as s
from minipod.plan.defaults import DEVICE_RULES
from minipod.runtime.atomic import File
from minipod.runtime.devices import v1_lines


def make_directory(step: s.MakeDirectory, to: Writer) -> None:
    path = quote(step.path)
    to.line(f"(umask 077 && mkdir -p {path})")
    if step.owner:
        to.line(f"chown {step.owner}:{step.owner} {path}")
    to.line(f"chmod {step.mode:04o} {path}")


def make_host_path(step: s.MakeHostPath, to: Writer) -> None:
    path = quote(step.path)
    make = f"mkdir -p {path}" if step.directory else f": >{path}"
    to.line(f"[ -e {path} ] || (umask 022 && {make})")


def give_to_group(step: s.GiveToGroup, to: Writer) -> None:
    path, gid = quote(step.path), step.gid
    indent = ""
    if step.on_root_mismatch:
        to.line(f'if [ "$(stat -c %g {path})" != {gid} ]; then')
        indent = "  "
    to.line(f"{indent}chgrp -hR {gid} {path}")
    to.line(f"{indent}find {path} -type d -exec chmod ug+rwx,g+s {{}} +")
    to.line(f"{indent}find {path} -type f -exec chmod ug+rw {{}} +")
    if step.on_root_mismatch:
        to.line("fi")


def make_cgroup(step: s.MakeCgroup, to: Writer) -> None:
    for hierarchy in to.facts.hierarchies:
        top = hierarchy.directory
        to.line(
            f"cgroup {quote(top)} {quote(step.path)} {' '.join(hierarchy.controllers)}".rstrip()
        )
    for write in step.writes:
        if home := to.facts.controls(write.controller):
            file = quote(f"{home.directory}/{step.path}/{write.file}")
            there = f"[ ! -e {file} ] || " if write.optional else ""
            to.line(f"{there}echo {quote(write.value)} >{file}")
    if not step.devices:
        return
    if home := to.facts.controls("devices"):
        directory = f"{home.directory}/{step.path}"
        to.line(f"echo a >{quote(f'{directory}/devices.deny')}")
        for line in v1_lines(DEVICE_RULES + step.more_devices):
            to.line(f"echo {quote(line)} >{quote(f'{directory}/devices.allow')}")
    else:
        to.lack("the list of devices that may be opened: on cgroup v2 it is a BPF program")


def start_shim(step: s.StartShim, to: Writer) -> None:
    to.lack("the shim: nothing restarts a container, probes it, runs its hooks or stops it in time")


def launch(step: s.Launch, to: Writer, short: str, *, waits: bool) -> None:
    """Start a process, and let it go on when it is about to become its program."""
    if step.kind == "SANDBOX":
        into = "unshare --pid --fork" if step.new_pid_namespace else "env"
        to.line(f'launch {short} "$RUN/pause.log" {into}')
        to.line(f"release {short}")
        to.line(f'PAUSE=$(<"$RUN/{short}.pid")')
        to.line("export PAUSE")
        return
    into = "unshare --mount --propagation slave"
    if step.new_pid_namespace:
        into += " --pid --fork"
    elif step.join_pid_namespace:
        into = f'nsenter --target "$PAUSE" --pid {into}'
    to.line(f"launch {short} {quote(step.log_path)} {into}")
    to.line(f"release {short}")
    if waits:
        to.line(f"finish {short}")


RENDERERS: dict[type[s.Step], Callable[[Any, Writer], None]] = {
    s.MakeDirectory: make_directory,
    s.MakeHostPath: make_host_path,
    s.GiveToGroup: give_to_group,
    s.MakeCgroup: make_cgroup,
    s.StartShim: start_shim,
}


def attach_network(step: s.AttachNetwork, to: Writer, config: Config) -> None:
    """Make the bridge with its filter, which is this pod's alone here, and the pod's link."""
    pods = parse_range(config.pod_cidr)
    gateway, bridge, veth = bridge_address(pods), quote(step.bridge), quote(step.host_ifname)
    link = PodLink(
        step.owner,
        step.address,
        step.prefix_len,
        step.gateway,
        step.host_ifname,
        step.mac,
        step.ports,
    )
    to.line("# the bridge, which all pods of a minipod share, and this script has for itself")
    to.line("mtu=$(uplink_mtu)")
    to.line(f'ip link add {bridge} address {mac_of(gateway)} mtu "$mtu" type bridge')
    to.line(f"no_ipv6 {bridge}")
    to.line(f'ip link set {bridge} up mtu "$mtu"')
    to.line(f"ip addr add {gateway}/{pods.prefixlen} dev {bridge}")
    to.line("echo 1 >/proc/sys/net/ipv4/ip_forward")
    to.line("# the packet filter: masquerading, forwarding, and no sender but the pod itself")
    to.line("nft -f - <<'END'")
    for line in ruleset.full(config, [link], replace=False).splitlines():
        to.line(line)
    to.line("END")
    to.line(
        f'ip link add {veth} mtu "$mtu" type veth peer name eth0 address {step.mac} mtu "$mtu" netns "$PAUSE"'
    )
    to.line(f"no_ipv6 {veth}")
    to.line(f"ip link set {veth} master {bridge} up")
    if step.ports:
        to.line(f"echo 1 >/sys/class/net/{step.host_ifname}/brport/hairpin_mode")
        to.line(f"echo 1 >/proc/sys/net/ipv4/conf/{step.bridge}/route_localnet")
    inside = 'nsenter --net="/proc/$PAUSE/ns/net" ip'
    to.line(f"{inside} link set eth0 up")
    to.line(f"{inside} addr add {step.address}/{step.prefix_len} dev eth0")
    to.line(f"{inside} route add default via {step.gateway}")


def write_files(volume: str, files: Mapping[str, File], group: int | None, to: Writer) -> None:
    """Write the files of a volume as the agent does beside the plan: all of them appear at once (``..data``)."""
    to.line("")
    to.line(
        f"# the files of volume {volume}; the agent writes them beside the plan, and keeps them as they should be"
    )
    to.line(f'directory="$POD"/volumes/{quote(volume)}')
    to.line('mkdir -m 0755 "$directory/..made"')
    for path, file in sorted(files.items()):
        at = f'"$directory/..made/"{quote(path)}'
        if "/" in path:
            parent = quote(path.rpartition("/")[0])
            to.line(f'(umask 022 && mkdir -p "$directory/..made/"{parent})')
        mode = file.mode if group is None else file.mode | 0o440
        to.line(f"printf '%s' {quote(file.data)} >{at}")
        to.line(f"chown {file.uid}:{group or 0} {at}")
        to.line(f"chmod {mode:04o} {at}")
    if group is not None:
        to.line(
            f'find "$directory/..made" -type d -exec chgrp {group} {{}} + -exec chmod 2755 {{}} +'
        )
    to.line('ln -s ..made "$directory/..data"')
    for name in dict.fromkeys(path.partition("/")[0] for path in sorted(files)):
        to.line(f'ln -s ..data/{quote(name)} "$directory"/{quote(name)}')
    to.lack(
        "changes of ConfigMaps, Secrets, labels and annotations: files of volumes stay as they are"
    )
